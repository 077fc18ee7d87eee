"""Where a server can listen, and what it says when it cannot."""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from resource_server import HTTPServer, Request, Resource, get
from tests.rawclient import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Serve


class App(Resource):
    @get("/")
    def index(self, request: Request) -> dict[str, object]:
        return {"remote": request.remote, "server": request.server_address[0], "url": request.url}


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A short path: that of a UNIX socket may have about a hundred bytes."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_port_0_becomes_a_real_port(serve: Serve) -> None:
    server = serve(App())
    assert server.address[0] == "127.0.0.1"
    assert server.address[1] > 0
    assert server.url == f"http://127.0.0.1:{server.address[1]}"


@needs_ipv6
def test_ipv6(serve: Serve) -> None:
    server = serve(App(), address=("::1", 0))
    assert server.url == f"http://[::1]:{server.address[1]}"
    with Client(server.address) as client:
        assert b'"remote":"::1"' in client.get("/").body
    with pytest.raises(ConnectionRefusedError):
        Client(("127.0.0.1", server.address[1]))


@needs_ipv6
@pytest.mark.parametrize("host", ["", "::"])
def test_every_interface_is_both_protocols(serve: Serve, host: str) -> None:
    server = serve(App(), address=(host, 0))
    port = server.address[1]
    assert server.url == f"http://127.0.0.1:{port}"
    with Client(("127.0.0.1", port)) as client:
        assert b'"remote":"127.0.0.1"' in client.get("/").body
    with Client(("::1", port)) as client:
        assert b'"remote":"::1"' in client.get("/").body


def test_every_interface_without_dual_stack(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    server = serve(App(), address=("", 0))
    assert server.url == f"http://127.0.0.1:{server.address[1]}"
    with Client(("127.0.0.1", server.address[1])) as client:
        assert client.get("/").status == 200


def test_localhost_is_all_that_it_names(serve: Serve) -> None:
    server = serve(App(), address=("localhost", 0))
    hosts = {
        str(info[4][0]) for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
    }
    if not has_ipv6():
        hosts.discard("::1")
    for host in hosts:
        with Client((host, server.address[1])) as client:
            assert client.get("/").status == 200


def resolving_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    def getaddrinfo(host: str, port: int, **options: object) -> list[tuple[object, ...]]:
        kinds = [socket.AF_INET6 if ":" in each else socket.AF_INET for each in hosts]
        return [
            (kind, socket.SOCK_STREAM, 6, "", (each, port, 0, 0)[: 2 if ":" not in each else 4])
            for kind, each in zip(kinds, hosts, strict=True)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize("hosts", [("203.0.113.71", "127.0.0.1"), ("127.0.0.1", "203.0.113.71")])
def test_a_name_may_have_an_address_that_is_not_here(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, hosts: tuple[str, ...]
) -> None:
    resolving_to(monkeypatch, *hosts)
    server = serve(App(), address=("somewhere", 0))
    with Client(("127.0.0.1", server.address[1])) as client:
        assert client.get("/").status == 200


def test_a_name_with_no_address_that_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving_to(monkeypatch, "203.0.113.71", "203.0.113.72")
    with pytest.raises(OSError, match=r"cannot listen on 203\.0\.113\.72:0"):
        HTTPServer(("somewhere", 0)).start()


def test_a_free_port_is_free_on_all_addresses(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's choice for the first address may be in use on the second."""
    resolving_to(monkeypatch, "127.0.0.1", "127.0.0.2")
    bind = socket.socket.bind
    refused: list[object] = []

    class Choosy(socket.socket):
        def bind(self, address: tuple[str, int]) -> None:  # type: ignore[override]
            if address[0] == "127.0.0.2" and len(refused) < 3:
                refused.append(address)
                raise OSError(errno.EADDRINUSE, "Address already in use")
            bind(self, address)

    monkeypatch.setattr(socket, "socket", Choosy)
    server = serve(App(), address=("somewhere", 0))
    monkeypatch.undo()
    assert len(refused) == 3
    for host in ("127.0.0.1", "127.0.0.2"):
        with Client((host, server.address[1])) as client:
            assert client.get("/").status == 200


def test_a_link_local_address_keeps_its_scope(serve: Serve) -> None:
    found = None
    try:
        with open("/proc/net/if_inet6") as table:
            for line in table:
                digits, _, _, scope, _, name = line.split()
                if scope == "20":
                    words = ":".join(digits[i : i + 4] for i in range(0, 32, 4))
                    found = f"{words}%{name}"
    except OSError:
        pass
    if found is None:
        pytest.skip("this machine has no link-local address")
    server = serve(App(), address=(found, 0))
    target = socket.getaddrinfo(found, server.address[1], type=socket.SOCK_STREAM)[0][4]
    with socket.socket(socket.AF_INET6) as sock:
        sock.settimeout(20)
        sock.connect(target)
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"200 OK" in sock.recv(1000)


class TestUnixSockets:
    @pytest.mark.parametrize("prefix", ["unix:", ""])
    def test_a_path_is_an_address(self, serve: Serve, folder: Path, prefix: str) -> None:
        path = folder / "socket"
        server = serve(App(), address=f"{prefix}{path}")
        assert server.address == (str(path), 0)
        assert server.url == "http+unix://" + str(path).replace("/", "%2F")
        with Client(server.address) as client:
            answer = client.get("/")
            assert b'"remote":""' in answer.body
        server.stop()
        assert not path.exists()

    def test_a_socket_left_behind_is_replaced(self, serve: Serve, folder: Path) -> None:
        path = folder / "socket"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        server = serve(App(), address=f"unix:{path}")
        with Client(server.address) as client:
            assert client.get("/").status == 200

    @pytest.mark.parametrize("backlog", [0, 5])
    def test_a_socket_in_use_is_not(self, folder: Path, backlog: int) -> None:
        path = folder / "socket"
        clients = []
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))
            other.listen(backlog)
            if backlog == 0:
                # A full backlog: whether anybody is there cannot be told at once.
                for _ in range(3):
                    clients.append(socket.socket(socket.AF_UNIX))
                    clients[-1].setblocking(False)
                    clients[-1].connect_ex(str(path))
            with pytest.raises(OSError, match="Address already in use") as caught:
                HTTPServer(f"unix:{path}").start()
            assert str(path) in str(caught.value)
            assert caught.value.errno == errno.EADDRINUSE
            assert stat.S_ISSOCK(path.stat().st_mode)
        for client in clients:
            client.close()

    def test_another_kind_of_file_stays(self, folder: Path) -> None:
        path = folder / "file"
        path.write_text("precious")
        with pytest.raises(OSError, match="Address already in use"):
            HTTPServer(f"unix:{path}").start()
        assert path.read_text() == "precious"

    def test_a_path_taken_over_by_another_stays(self, serve: Serve, folder: Path) -> None:
        path = folder / "socket"
        server = serve(App(), address=f"unix:{path}")
        path.rename(folder / "kept")
        path.write_text("precious")
        server.stop()
        assert path.read_text() == "precious"

    def test_a_path_that_is_gone_is_no_matter(self, serve: Serve, folder: Path) -> None:
        server = serve(App(), address=f"unix:{folder / 'socket'}")
        os.unlink(folder / "socket")
        assert server.stop()

    @pytest.mark.parametrize("name", ["missing/socket", "x" * 200])
    def test_an_impossible_path_is_named(self, folder: Path, name: str) -> None:
        with pytest.raises(OSError, match="cannot listen on") as caught:
            HTTPServer(f"unix:{folder / name}").start()
        assert name in str(caught.value)

    def test_systems_without_them_say_so(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("resource_server.engine.listener._FAMILY_UNIX", None)
        with pytest.raises(OSError, match="no UNIX sockets here"):
            HTTPServer(f"unix:{folder / 'socket'}").start()


class TestReadyMadeSockets:
    def test_a_bound_socket_is_an_address(self, serve: Serve) -> None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        server = serve(App(), address=sock)
        assert server.address == sock.getsockname()
        with Client(server.address) as client:
            assert client.get("/").status == 200

    def test_it_belongs_to_the_server_and_serves_once(self, serve: Serve) -> None:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        server = serve(App(), address=sock)
        server.stop()
        assert sock.fileno() == -1
        with pytest.raises(OSError, match="cannot listen on"):
            server.start()

    @pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no UNIX sockets here")
    def test_an_abstract_unix_socket_works(self, serve: Serve) -> None:
        sock = socket.socket(socket.AF_UNIX)
        name = f"\0resource_server {os.getpid()}"
        try:
            sock.bind(name)
        except OSError:
            sock.close()
            pytest.skip("this system has no abstract sockets")
        server = serve(App(), address=sock)
        assert server.address == ("", 0)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(name)
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b"200 OK" in client.recv(1000)


class TestStartErrors:
    def test_a_port_in_use_is_named(self, serve: Serve) -> None:
        server = serve(App())
        before = len(os.listdir("/proc/self/fd"))
        other = HTTPServer(server.address)
        with pytest.raises(OSError, match=f"127.0.0.1:{server.address[1]}") as caught:
            other.start()
        assert caught.value.errno == errno.EADDRINUSE
        assert not other.running
        assert len(os.listdir("/proc/self/fd")) == before
        server.stop()
        other.start()
        assert other.stop()

    @pytest.mark.parametrize(
        ("address", "text"),
        [
            (("203.0.113.71", 0), r"203\.0\.113\.71:0"),
            (("host.invalid", 80), "host.invalid:80"),
            (("127.0.0.1", 70000), "127.0.0.1:70000"),
            (("a" * 70, 80), "aaa:80"),
        ],
    )
    def test_an_impossible_address_is_named(self, address: tuple[str, int], text: str) -> None:
        with pytest.raises(OSError, match=text):
            HTTPServer(address).start()

    @pytest.mark.parametrize("address", ["localhost", 80, ("localhost",), None])
    def test_what_is_no_address_is_a_type_error(self, address: object) -> None:
        with pytest.raises(TypeError, match="an address is"):
            HTTPServer(address).start()  # type: ignore[arg-type]

    def test_no_threads_means_no_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import threading

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        before = len(os.listdir("/proc/self/fd"))
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match=r"127\.0\.0\.1:0: can't start new thread"):
            HTTPServer(("127.0.0.1", 0)).start()
        assert len(os.listdir("/proc/self/fd")) == before

    def test_one_thread_is_not_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import threading

        start = threading.Thread.start
        started: list[threading.Thread] = []

        def refuse_second(thread: threading.Thread) -> None:
            if started:
                raise RuntimeError("can't start new thread")
            started.append(thread)
            start(thread)

        before = len(os.listdir("/proc/self/fd"))
        monkeypatch.setattr(threading.Thread, "start", refuse_second)
        with pytest.raises(OSError, match="can't start new thread"):
            HTTPServer(("127.0.0.1", 0)).start()
        started[0].join(20)
        assert not started[0].is_alive()
        assert len(os.listdir("/proc/self/fd")) == before
