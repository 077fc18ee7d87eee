"""``python -m resource_server --processes N``."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol

import pytest

from tests.command import PROJECT, Command
from tests.processes.conftest import address_of, ask, wait_for_answer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Run(Protocol):
    """The type of the ``run`` fixture."""

    def __call__(self, *arguments: object, port: int = 0) -> Command: ...


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with ExitStack() as commands:

        def start(*arguments: object, port: int = 0) -> Command:
            words = [*map(str, arguments), "--processes", "2", "--port", str(port)]
            command = Command(
                [sys.executable, "-W", "error", "-m", "resource_server", *words],
                tmp_path,
                {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"},
            )
            commands.callback(command.close)
            return command

        yield start


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "app.py"


def write(file: Path, text: str, beginning: str = "") -> None:
    file.write_text(
        f"{beginning}\n"
        "from resource_server import Resource, get\n"
        "class App(Resource):\n"
        "    @get('/')\n"
        "    def index(self, request):\n"
        f"        return {text!r}\n"
    )


def test_a_directory_is_served(run: Run, tmp_path: Path) -> None:
    (tmp_path / "hello.txt").write_text("hello")
    command = run()
    address = address_of(command.url())
    assert {ask(address, "/hello.txt") for _ in range(10)} == {"hello"}
    code, out, err = command.end()
    assert (code, out) == (0, ["Stopped."])
    assert sum("/hello.txt" in line for line in err) == len(err) == 10


def test_new_code_is_served_and_broken_code_is_not(run: Run, file: Path) -> None:
    write(file, "one")
    command = run("app.py:App")
    address = address_of(command.url())
    assert {ask(address, "/") for _ in range(10)} == {"one"}
    file.write_text("this is no code")
    command.process.send_signal(signal.SIGHUP)
    line = command.line_with("ERROR", command.err)
    assert "cannot serve, so the old ones go on: cannot import app.py: " in line
    assert {ask(address, "/") for _ in range(10)} == {"one"}
    write(file, "three")
    command.process.send_signal(signal.SIGHUP)
    assert "INFO" in command.line_with("All processes have been replaced.", command.err)
    wait_for_answer(address, "/", "three")
    assert command.end(signal.SIGTERM)[:2] == (0, ["Stopped."])


def test_an_app_that_sets_up_logging_is_left_alone(run: Run, file: Path) -> None:
    write(file, "one", "import logging\nlogging.basicConfig(format='mine %(message)s')")
    command = run("app.py")
    assert ask(address_of(command.url()), "/") == "one"
    _, _, (line,) = command.end()
    assert line.startswith('mine 127.0.0.1 "GET / ')


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["app.py:App"], "a process cannot serve: there is no file app.py"),
        (["-d", "nowhere"], "a process cannot serve: there is no directory nowhere"),
        (["--tls-cert", "cert.pem"], "there is no file cert.pem"),
        (["--bind", "192.0.2.1"], "192.0.2.1 is no address of this machine"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(
    run: Run, arguments: list[str], text: str
) -> None:
    code, out, err = run(*arguments).ended()
    assert (code, out) == (1, [])
    assert err[0].startswith(f"resource_server: {text}")
    assert len(err) == 1


def test_a_port_in_use_is_told(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, _, err = run(port=port).ended()
    assert code == 1
    assert len(err) == 1
    assert err[0].startswith(f"resource_server: port {port} of 127.0.0.1 is in use; choose another")


def test_reloading_by_itself_is_for_one_process(run: Run) -> None:
    code, _, err = run("--reload").ended()
    assert code == 2
    assert err[-1].endswith("--reload goes with one process; several load new code at SIGHUP")


def test_a_system_without_fork_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from resource_server import cli

    monkeypatch.delattr("os.fork")
    monkeypatch.setattr(cli, "_interrupt_on_signals", lambda: None)
    assert cli.main(["--processes", "2", "--port", "0"]) == 1
    assert "cannot serve with --processes: several processes need fork" in capsys.readouterr().err
