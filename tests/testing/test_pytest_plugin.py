"""The fixtures for pytest, as an installed package offers them."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A project beside an installed package, of which there is only what pytest looks for."""
    setup = configparser.ConfigParser()
    setup.read(PROJECT / "setup.cfg", encoding="utf-8")
    section = setup["options.entry_points"]["pytest11"].strip()
    site = pytester.mkdir("site")
    installed = site / "resource_server-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: resource_server\nVersion: 0\n"
    )
    (installed / "entry_points.txt").write_text(f"[pytest11]\n{section}\n")
    monkeypatch.setenv("PYTHONPATH", f"{site}:{PROJECT}")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("[pytest]\n")
    pytester.makepyfile(
        app="""
        import threading
        from resource_server import Resource, get

        class App(Resource):
            go_on = threading.Event()

            @get("/")
            def home(self, request):
                return "home"

            @get("/stuck")
            def stuck(self, request):
                self.go_on.wait(30)
        """
    )
    return pytester


def test_a_server_runs_while_a_test_does(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        from urllib.request import urlopen
        from app import App

        servers = []

        def test_two(http_server):
            for _ in range(2):
                server = http_server(App, threads=2)
                servers.append(server)
                with urlopen(server.url) as answer:
                    assert answer.read() == b"home"

        def test_after():
            assert [server.running for server in servers] == [False, False]
        """
    )
    project.runpytest_subprocess("-W", "error").assert_outcomes(passed=2)


def test_a_server_that_leaves_threads_fails_the_test(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import socket
        from app import App

        def test_stuck(http_server):
            server = http_server(App, timeout=0.01)
            with socket.create_connection(server.address) as client:
                client.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                assert client.recv(100)
                client.sendall(b"GET /stuck HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
                while not App.go_on._cond._waiters:
                    pass
        """
    )
    result = project.runpytest_subprocess()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*ThreadsLeft: *a handler still runs*", "*self.go_on.wait*"])


def test_a_client_asks_a_server(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        from app import App

        clients = []

        def test_two(http_client, http_server):
            for client in (http_client(App), http_client(http_server(App), timeout=30)):
                clients.append(client)
                assert client.get("/").result(30).text == "home"

        def test_after():
            import threading
            assert not [each for each in threading.enumerate() if "resource_server" in each.name]
        """
    )
    project.runpytest_subprocess("-W", "error").assert_outcomes(passed=2)


def test_it_costs_nothing_where_it_is_not_used(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import sys

        AT_START = set(sys.modules)

        def test_nothing():
            import resource_server
            ours = {name for name in AT_START if name.startswith("resource_server.")}
            assert "resource_server.pytest_plugin" in ours
            assert not [name for name in ours if ".testing" in name or ".client" in name]
            assert "urllib3" not in AT_START
        """
    )
    project.runpytest_subprocess("-W", "error").assert_outcomes(passed=1)
