"""What WebSockets of the client go over: TLS, proxies, tunnels, UNIX sockets."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from resource_server import (
    HTTPClient,
    Timeout,
)
from resource_server.client import (
    ConnectError,
    TimeoutError,  # noqa: A004
    TLSError,
)
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer, free_address
from tests.client.wsserver import (
    CLOSE,
    TEXT,
    Talk,
    accept,
    accepts_and_sends,
    builtin_timeout,
    closing,
    plain,
    read_frame,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Serve


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class TestTransport:
    @pytest.fixture
    def secure(self, serve: Serve, authority: trustme.CA, tmp_path: Path) -> Any:
        issued = authority.issue_cert("localhost", "127.0.0.1")
        key, chain = tmp_path / "key", tmp_path / "chain"
        issued.private_key_pem.write_to_path(str(key))
        chain.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        server = serve(Talk(), privkey=str(key), cert=str(chain))
        der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
        return server, hashlib.sha256(der).hexdigest()

    def test_wss(self, secure: Any, authority: trustme.CA) -> None:
        server, fingerprint = secure
        trust: list[dict[str, Any]] = [
            {"ca": authority.cert_pem.bytes()},
            {"fingerprint": fingerprint},
        ]
        for options in trust:
            with (
                HTTPClient(server.address, "https", **options) as client,
                client.websocket("/echo", compression=False) as session,
            ):
                assert session.request.scheme == "https"
                for message in ("hello", bytes(range(256)) * 2000, "x" * 900_000):
                    session.send(message)
                    assert session.receive(PATIENCE) == message

    def test_wss_in_both_directions_at_once(self, secure: Any, authority: trustme.CA) -> None:
        server, _ = secure
        ca = authority.cert_pem.bytes()
        with (
            HTTPClient(server.address, "https", ca=ca) as client,
            client.websocket("/echo", compression=False) as session,
        ):
            block = bytes(50_000)

            def send() -> None:
                for _ in range(200):
                    session.send(block)

            thread = threading.Thread(target=send)
            thread.start()
            for _ in range(200):
                assert session.receive(PATIENCE) == block
            thread.join()

    def test_who_is_not_trusted_is_refused(self, secure: Any) -> None:
        server, _ = secure
        refusing: list[dict[str, Any]] = [{}, {"fingerprint": "0" * 64}]
        for options in refusing:
            with (
                HTTPClient(server.address, "https", **options) as client,
                pytest.raises(TLSError, match="GET https://127"),
            ):
                client.websocket("/echo")

    def test_a_unix_socket(self, serve: Serve, tmp_path: Path) -> None:
        path = str(tmp_path / "s")
        listener = socket.socket(socket.AF_UNIX)
        with listener:
            listener.bind(path)
            listener.listen()

            def run() -> None:
                sock, _ = listener.accept()
                with sock:
                    sock.settimeout(PATIENCE)
                    peer = Peer(sock, _Listener())  # type: ignore[arg-type]
                    accept(peer, plain(TEXT, b"hello"))
                    assert read_frame(peer)[0] == CLOSE
                    peer.send(closing(1000))

            thread = threading.Thread(target=run)
            thread.start()
            with HTTPClient(f"unix:{path}") as client, client.websocket("/ws") as session:
                assert session.receive(PATIENCE) == "hello"
            thread.join()

    def test_a_proxy_makes_a_tunnel(self, serve: Serve) -> None:
        server = serve(Talk())
        with Misbehaving(_forward) as proxy:
            client = HTTPClient(server.address, proxies=proxy.url)
            with client, client.websocket("/echo") as session:
                session.send("through")
                assert session.receive(PATIENCE) == "through"
            head = f"CONNECT 127.0.0.1:{server.address[1]} HTTP/1."
            assert proxy.requests[0].decode().startswith(head)

    @pytest.mark.parametrize("size", [10, 500_000])
    def test_a_proxy_of_https_for_wss(self, secure: Any, authority: trustme.CA, size: int) -> None:
        server, _ = secure
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        with Misbehaving(_forward, tls=context) as proxy:
            ca = authority.cert_pem.bytes()
            client = HTTPClient(server.address, "https", proxies=proxy.url, ca=ca)
            with client, client.websocket("/echo", compression=False) as session:
                for _ in range(5):
                    session.send(bytes(size))
                for _ in range(5):
                    assert session.receive(PATIENCE) == bytes(size)

    def test_the_end_comes_through_a_proxy_of_https(
        self, secure: Any, authority: trustme.CA
    ) -> None:
        server, _ = secure
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        with Misbehaving(_forward, tls=context) as proxy:
            ca = authority.cert_pem.bytes()
            client = HTTPClient(server.address, "https", proxies=proxy.url, ca=ca)
            with client, client.websocket("/bye") as session:
                assert list(session) == ["one", b"two"]
                assert session.close_code == 4001

    def test_a_proxy_that_drips(self) -> None:
        def script(peer: Peer) -> None:
            peer.read_request()
            peer.drip(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 5000, 0.02)

        with (
            Misbehaving(script) as proxy,
            HTTPClient(free_address(), proxies=proxy.url) as client,
            pytest.raises(TimeoutError, match=r"no connection in 0\.3 seconds"),
        ):
            client.websocket("/ws", timeout=Timeout(connect=0.3, total=20))

    def test_no_thread_can_be_started(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with Misbehaving(accepts_and_sends()) as server:
            client = HTTPClient(server.address, timeout=Timeout(None, None))

            def fails(self: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            with monkeypatch.context() as patched:
                script = threading.Thread.start
                patched.setattr(
                    threading.Thread,
                    "start",
                    lambda self: (
                        fails(self) if self.name.startswith("resource_server") else script(self)
                    ),
                )
                with pytest.raises(RuntimeError, match="start new thread"):
                    client.websocket("/ws")
            assert server.wait_gone()

    def test_nobody_listens(self) -> None:
        with (
            HTTPClient(free_address()) as client,
            pytest.raises(ConnectError, match="GET http://127"),
        ):
            client.websocket("/ws")


class _Listener:
    """What a Peer wants of its server."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.bodies: list[bytes] = []


def _forward(peer: Peer) -> None:
    """Be a proxy that does CONNECT."""
    head, _ = peer.read_request()
    host, port = head.split(b" ")[1].decode().rsplit(":", 1)
    peer.sock.settimeout(0)
    with socket.create_connection((host, int(port))) as target:
        peer.sock.settimeout(PATIENCE)
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        peer.sock.settimeout(0.01)
        target.settimeout(0.01)
        while not peer.server.closing.is_set():
            for source, sink in ((peer.sock, target), (target, peer.sock)):
                try:
                    data = source.recv(65536)
                except (ssl.SSLWantReadError, builtin_timeout):
                    continue
                if not data:
                    return
                sink.settimeout(PATIENCE)
                sink.sendall(data)
                sink.settimeout(0.01)
