"""WebSockets of the client, against our server and against scripts that do as they like."""

from __future__ import annotations

import base64
import hashlib
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from resource_server import (
    HTTPClient,
    Resource,
    Timeout,
    WebSocketClosed,
    WebSocketGroup,
    WebSocketSession,
    websocket_session,
)
from resource_server.client import (
    Cancelled,
    ClientError,
    ConnectError,
    ProtocolError,
    TimeoutError,  # noqa: A004
    TLSError,
    line,
    reader,
)
from resource_server.client.websocket import ClientWebSocket, Reconnect, WebSocketRefused
from tests.client import misbehaving
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer, free_address
from tests.wsclient import frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Serve

LONG = Timeout(PATIENCE, PATIENCE)
AT_ONCE = Reconnect(first=0.001, most=0.002)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def answer(head: bytes, *fields: str, key: str | None = None) -> bytes:
    if key is None:
        key = head.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0].decode()
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
        *fields,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def accept(peer: Peer, data: bytes = b"") -> None:
    """Open the WebSocket, and send `data` in the same packet."""
    head, _ = peer.read_request()
    peer.send(answer(head) + data)


def read_frame(peer: Peer) -> tuple[int, bytes]:
    """The next frame of the client: opcode and payload; masked, as it must be (RFC 6455 §5.1)."""
    first, second = peer.read_exactly(2)
    assert second & 0x80
    size = second & 0x7F
    if size > 125:
        size = int.from_bytes(peer.read_exactly(2 if size == 126 else 8), "big")
    key = peer.read_exactly(4)
    data = peer.read_exactly(size)
    return first & 15, bytes(byte ^ key[at & 3] for at, byte in enumerate(data))


def plain(opcode: int, payload: bytes = b"") -> bytes:
    return frame(opcode, payload, mask=None)


def closing(code: int, reason: bytes = b"") -> bytes:
    return plain(CLOSE, code.to_bytes(2, "big") + reason)


def accepts_and_sends(*frames: bytes) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        accept(peer, b"".join(frames))
        peer.hang()

    return script


def wait_until(condition: Callable[[], object]) -> None:
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


def readers() -> list[threading.Thread]:
    name = "resource_server-client-websocket-"
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


def read_frame_quickly(peer: Peer) -> tuple[int, int]:
    first, _ = peer.read_exactly(2)
    size = int.from_bytes(peer.read_exactly(8), "big")
    peer.read_exactly(4)
    left = size
    left -= len(peer.buffer[:left])
    if len(peer.buffer) > size:
        peer.buffer = peer.buffer[size:]
    else:
        peer.buffer = b""
    while left:
        data = peer.sock.recv(min(left, 1 << 20))
        assert data
        left -= len(data)
    return first & 15, size


@contextmanager
def opened(server: Misbehaving, **options: Any) -> Iterator[ClientWebSocket]:
    with HTTPClient(server.address, timeout=LONG) as client:
        with client.websocket("/ws", **options) as session:
            yield session
        assert readers() == []


class Talk(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.group = WebSocketGroup()

    @websocket_session("/echo", subprotocols=["b", "a"])
    def echo(self, session: WebSocketSession) -> None:
        for message in session:
            session.send(message)

    @websocket_session("/bye")
    def bye(self, session: WebSocketSession) -> None:
        session.send("one")
        session.send(b"two")
        session.close(4001, "enough")

    @websocket_session("/plain", compression=False)
    def plain(self, session: WebSocketSession) -> None:
        self.echo(session)


class TestOurServer:
    def test_messages_go_both_ways(self, serve: Serve) -> None:
        server = serve(Talk())
        with HTTPClient(server.address) as client, client.websocket("/echo?x=ä") as session:
            assert isinstance(session, WebSocketSession)
            assert (session.connected, session.closed, session.close_code) == (True, False, None)
            assert session.buffered == 0
            for message in ("text \u20ac", b"\x00\xff", "", b"", "x" * 300_000, bytes(100_000)):
                session.send(message)
                assert session.receive(PATIENCE) == message
            session.send(bytearray(b"ab"))
            assert session.receive(PATIENCE) == b"ab"
            assert repr(session).startswith("<ClientWebSocket /echo?x=%C3%A4 ")
            assert session.request.target == "/echo?x=%C3%A4"
            assert session.request.method == "GET"
            assert session.request.headers["upgrade"] == "websocket"
            assert "accept-encoding" not in session.request.headers
            assert session.request.url == f"http://127.0.0.1:{server.address[1]}/echo?x=%C3%A4"
        assert session.closed
        assert not session.connected
        assert (session.close_code, session.close_reason) == (1000, "")
        with pytest.raises(WebSocketClosed):
            session.send("more")
        with pytest.raises(WebSocketClosed):
            session.ping()

    @pytest.mark.parametrize("path", ["/echo", "/plain"])
    @pytest.mark.parametrize("compression", [True, False])
    def test_with_compression_and_without(self, serve: Serve, path: str, compression: bool) -> None:
        server = serve(Talk())
        with (
            HTTPClient(server.address) as client,
            client.websocket(path, compression=compression) as session,
        ):
            for _ in range(3):
                session.send("to be or not to be " * 100)
                assert session.receive(PATIENCE) == "to be or not to be " * 100

    def test_the_server_chooses_a_subprotocol(self, serve: Serve) -> None:
        server = serve(Talk())
        with HTTPClient(server.address) as client:
            with client.websocket("/echo", subprotocols=["a", "b"]) as session:
                assert session.subprotocol == "b"
            with client.websocket("/echo", subprotocols=["c"]) as session:
                assert session.subprotocol is None
            for wrong in ("a", ["a b"], ["a", "a"]):
                with pytest.raises(ValueError, match="subprotocol"):
                    client.websocket("/echo", subprotocols=wrong)

    def test_iteration_ends_when_the_server_closes(self, serve: Serve) -> None:
        server = serve(Talk())
        with HTTPClient(server.address) as client:
            with client.websocket("/bye") as session:
                assert list(session) == ["one", b"two"]
                with pytest.raises(WebSocketClosed, match="4001: enough"):
                    session.receive()
                assert (session.close_code, session.close_reason) == (4001, "enough")
                assert session.closed
            assert session.close_code == 4001

    def test_many_threads_send(self, serve: Serve) -> None:
        server = serve(Talk())
        with HTTPClient(server.address) as client, client.websocket("/echo") as session:

            def send(number: int) -> None:
                for at in range(50):
                    session.send(f"{number} {at} " * 200)

            threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            got: dict[str, list[str]] = {}
            for _ in range(400):
                message = session.receive(PATIENCE)
                assert isinstance(message, str)
                number, at, *_ = message.split(" ")
                assert message == f"{number} {at} " * 200
                got.setdefault(number, []).append(at)
            for thread in threads:
                thread.join()
            assert all(each == [str(at) for at in range(50)] for each in got.values())

    def test_a_session_may_join_a_group(self, serve: Serve) -> None:
        server = serve(Talk())
        group = WebSocketGroup()
        with HTTPClient(server.address) as client:
            session = client.websocket("/echo")
            group.add(session)
            assert group.send("hello") == 1
            assert session.receive(PATIENCE) == "hello"
            session.close()
            assert len(group) == 0
            assert not session.connection.post(_shared("late"))
            called: list[int] = []
            session.connection.on_close(lambda: called.append(1))
            assert called == [1]

    def test_refusals_name_the_status(self, serve: Serve) -> None:
        server = serve(Talk())
        with HTTPClient(server.address) as client:
            with pytest.raises(WebSocketRefused, match="404") as caught:
                client.websocket("/nothing?token=1")
            assert isinstance(caught.value, ClientError)
            assert caught.value.status_code == 404
            assert "content-length" in caught.value.headers
            assert caught.value.method == "GET"
            assert caught.value.url.endswith("/nothing?token=***")
            assert readers() == []


def _shared(message: str) -> Any:
    from resource_server.websockets import Outgoing

    return Outgoing(message)


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


builtin_timeout = socket.timeout


class TestHandshake:
    @pytest.mark.parametrize(
        ("script", "error", "text"),
        [
            (lambda p: p.send(answer(p.read_request()[0], key="x")), ProtocolError, "Accept"),
            (lambda p: (p.read_request(), p.send(b"\x00garbage\r\n\r\n")), ProtocolError, "HTTP"),
            (lambda p: p.read_request(), ConnectError, "without an answer"),
            (misbehaving.reset_after_request, ConnectError, "lost"),
            (
                lambda p: (p.read_request(), p.send(b"HTTP/1.1 101 Sw")),
                ProtocolError,
                "in the answer's head",
            ),
            (
                lambda p: p.send(answer(p.read_request()[0], "Sec-WebSocket-Extensions: x")),
                ProtocolError,
                "extension",
            ),
            (
                lambda p: p.send(answer(p.read_request()[0], "Sec-WebSocket-Protocol: x")),
                ProtocolError,
                "Protocol",
            ),
            (
                lambda p: (p.read_request(), p.send(b"HTTP/1.1 102 P\r\n\r\n" * 50)),
                ProtocolError,
                "interim",
            ),
            (
                lambda p: (p.read_request(), p.send(b"HTTP/1.1 200 OK\r\n\r\nno")),
                WebSocketRefused,
                "200 OK",
            ),
            (
                lambda p: (p.read_request(), p.send(b"HTTP/1.1 503\r\n\r\n")),
                WebSocketRefused,
                "503",
            ),
        ],
    )
    def test_what_is_no_handshake(self, script: Any, error: type[ClientError], text: str) -> None:
        with Misbehaving(script) as server, HTTPClient(server.address, timeout=LONG) as client:
            with pytest.raises(error, match=text) as caught:
                client.websocket("/ws")
            assert caught.value.url == f"{server.url}/ws"
            assert readers() == []

    @pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 101 Switching"])
    @pytest.mark.parametrize("timeout", [Timeout(read=0.1), Timeout(read=None, total=0.1)])
    def test_a_server_that_hangs(self, begun: bytes, timeout: Timeout) -> None:
        def script(peer: Peer) -> None:
            peer.read_request()
            peer.send(begun)
            peer.hang()

        with Misbehaving(script) as server, HTTPClient(server.address) as client:
            with pytest.raises(TimeoutError, match="handshake"):
                client.websocket("/ws", timeout=timeout)
            assert server.wait_gone()

    def test_a_server_that_drips(self) -> None:
        def script(peer: Peer) -> None:
            peer.drip(b"HTTP/1.1 " + b"1" * 5000, 0.02)

        with (
            Misbehaving(script) as server,
            HTTPClient(server.address, timeout=Timeout(read=0.2)) as client,
            pytest.raises(TimeoutError),
        ):
            client.websocket("/ws")

    def test_interim_answers_are_passed_over(self) -> None:
        def script(peer: Peer) -> None:
            head, _ = peer.read_request()
            peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer(head) + plain(TEXT, b"x"))
            peer.hang()

        with Misbehaving(script) as server, opened(server) as session:
            assert session.receive(PATIENCE) == "x"
            session.connection.stop()

    def test_fields_and_timeouts_are_checked(self) -> None:
        with HTTPClient(free_address()) as client:
            options: dict[str, Any]
            for options in (
                {"max_message_size": 0},
                {"ping_interval": 0},
                {"ping_timeout": float("nan")},
            ):
                with pytest.raises(ValueError, match=next(iter(options))):
                    client.websocket("/ws", **options)
            for options in ({"reconnect": 5}, {"ping_interval": "x"}, {"ping_timeout": True}):
                with pytest.raises(TypeError, match=next(iter(options))):
                    client.websocket("/ws", **options)
        with pytest.raises(ValueError, match="tries"):
            Reconnect(tries=0)
        with pytest.raises(ValueError, match="most"):
            Reconnect(most=-1)


class TestEnds:
    @pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 3000, 4999])
    def test_codes_come_through(self, code: int) -> None:
        script = accepts_and_sends(plain(TEXT, b"last"), closing(code, b"why"))
        with Misbehaving(script) as server, opened(server) as session:
            assert list(session) == ["last"]
            with pytest.raises(WebSocketClosed) as caught:
                session.receive()
            assert (caught.value.code, caught.value.reason) == (code, "why")
            with pytest.raises(WebSocketClosed):
                session.send("x")

    def test_a_close_is_answered(self) -> None:
        answered: list[Any] = []

        def script(peer: Peer) -> None:
            accept(peer, closing(4005))
            answered.append(read_frame(peer))

        with Misbehaving(script) as server, opened(server) as session:
            assert list(session) == []
            assert server.wait_gone()
        assert answered == [(CLOSE, (4005).to_bytes(2, "big"))]

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (b"\xff\xff\xff\xff", 1002),
            (frame(TEXT, b"masked"), 1002),
            (plain(TEXT, b"\xff\xfe"), 1007),
            (plain(BINARY, bytes(2000)), 1009),
            (plain(CLOSE, b"\x00\x01"), 1002),
        ],
    )
    def test_a_broken_rule_is_told(self, data: bytes, code: int) -> None:
        told: list[Any] = []

        def script(peer: Peer) -> None:
            accept(peer, plain(TEXT, b"good") + data)
            told.append(read_frame(peer))

        with (
            Misbehaving(script) as server,
            opened(server, max_message_size=1000, reconnect=AT_ONCE) as session,
        ):
            assert list(session) == ["good"]
            assert session.close_code == code
            assert server.wait_gone()
            assert server.connections == 1
        assert told[0][1][:2] == code.to_bytes(2, "big")

    @pytest.mark.parametrize("end", [lambda p: None, lambda p: p.reset()])
    def test_a_cut_is_1006(self, end: Callable[[Peer], None]) -> None:
        def script(peer: Peer) -> None:
            accept(peer, plain(TEXT, b"x"))
            read_frame(peer)
            end(peer)

        with Misbehaving(script) as server, opened(server) as session:
            assert session.receive(PATIENCE) == "x"
            session.send("go")
            assert list(session) == []
            assert session.close_code == 1006
            assert session.closed

    def test_close_waits_for_the_answer_and_not_for_ever(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(line, "CLOSE_TIMEOUT", 0.2)
        with Misbehaving(accepts_and_sends()) as server, opened(server) as session:
            started = time.monotonic()
            session.close(4000, "done")
            assert 0.15 < time.monotonic() - started < PATIENCE
            assert readers() == []
            assert session.close_code == 1006
            session.close()

    def test_a_server_that_does_not_close_its_side(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader, "LINGER", 0.1)

        def script(peer: Peer) -> None:
            accept(peer)
            assert read_frame(peer) == (CLOSE, (4000).to_bytes(2, "big") + b"done")
            peer.send(plain(TEXT, b"late") + closing(4000))
            peer.hang()

        with Misbehaving(script) as server, opened(server) as session:
            session.close(4000, "done")
            assert session.close_code == 4000
            assert list(session) == []

    def test_a_wrong_code_closes_nothing(self) -> None:
        with Misbehaving(accepts_and_sends(plain(TEXT, b"x"))) as server, opened(server) as session:
            for code in (1005, 999, 5000):
                with pytest.raises(ValueError, match="code"):
                    session.close(code)
            assert not session.closed
            with pytest.raises(ValueError, match="125"):
                session.ping(bytes(126))
            session.connection.stop()
            session.close(None)

    def test_messages_before_the_end_are_still_received(self) -> None:
        with Misbehaving(accepts_and_sends(plain(TEXT, b"x"))) as server, opened(server) as session:
            wait_until(lambda: session.connection._inbox)
            session.connection.stop()
            session.close()
            assert list(session) == ["x"]

    def test_receive_takes_a_timeout(self) -> None:
        with Misbehaving(accepts_and_sends()) as server, opened(server) as session:
            for timeout in (0, 0.01, -5):
                with pytest.raises(builtin_timeout, match="no message"):
                    session.receive(timeout)
            session.connection.stop()

    def test_a_session_that_is_garbage_is_closed(self) -> None:
        with Misbehaving(accepts_and_sends()) as server, HTTPClient(server.address) as client:
            session = client.websocket("/ws")
            assert len(readers()) == 1
            del session
            for thread in readers():
                thread.join(PATIENCE)
            assert readers() == []
            assert server.wait_gone()

    def test_garbage_in_a_group_too(self) -> None:
        with Misbehaving(accepts_and_sends()) as server, HTTPClient(server.address) as client:
            session = client.websocket("/ws")
            group = WebSocketGroup()
            group.add(session)
            del session, group
            assert server.wait_gone()

    def test_garbage_that_waits_to_connect_again(self) -> None:
        def script(peer: Peer) -> None:
            accept(peer)

        with Misbehaving(script) as server, HTTPClient(server.address) as client:
            session = client.websocket("/ws", reconnect=Reconnect(first=1000, most=1000))
            link = session.connection
            wait_until(lambda: not link.connected)
            del session
            for thread in readers():
                thread.join(PATIENCE)
            assert readers() == []

    def test_the_client_is_stopped(self) -> None:
        with Misbehaving(accepts_and_sends()) as server:
            client = HTTPClient(server.address)
            sessions = [client.websocket("/ws") for _ in range(3)]
            client.stop()
            assert readers() == []
            assert all(session.closed for session in sessions)
            assert [list(session) for session in sessions] == [[], [], []]

    def test_the_client_is_stopped_while_it_connects(self) -> None:
        begun = threading.Event()

        def script(peer: Peer) -> None:
            peer.read_request()
            begun.set()
            peer.hang()

        with Misbehaving(script) as server:
            client = HTTPClient(server.address, timeout=LONG)

            def stop() -> None:
                assert begun.wait(PATIENCE)
                client.stop()

            thread = threading.Thread(target=stop)
            thread.start()
            with pytest.raises(Cancelled):
                client.websocket("/ws")
            thread.join()

    def test_on_close_is_called_once_and_its_errors_are_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        called: list[bool] = []
        with Misbehaving(accepts_and_sends()) as server, opened(server) as session:

            def callback() -> None:
                called.append(session.closed)
                raise ValueError("mine")

            session.connection.on_close(callback)
            session.connection.stop()
        assert called == [True]
        assert "at a WebSocket's end failed" in caplog.text


class TestKeepAlive:
    def test_pings_are_answered(self) -> None:
        got: list[Any] = []

        def script(peer: Peer) -> None:
            accept(peer, plain(PING, b"a") + plain(PONG, b"unasked"))
            got.append(read_frame(peer))
            peer.send(plain(TEXT, b"done"))
            got.append(read_frame(peer))
            peer.hang()

        with Misbehaving(script) as server, opened(server) as session:
            assert session.receive(PATIENCE) == "done"
            session.ping(b"mine")
            wait_until(lambda: len(got) == 2)
            session.connection.stop()
        assert got == [(PONG, b"a"), (PING, b"mine")]

    def test_a_silent_server_is_asked_and_given_up(self) -> None:
        got: list[Any] = []

        def script(peer: Peer) -> None:
            accept(peer)
            for _ in range(2):
                got.append(read_frame(peer))
                peer.send(plain(PONG))
            got.append(read_frame(peer))
            peer.hang()

        with (
            Misbehaving(script) as server,
            opened(server, ping_interval=0.02, ping_timeout=0.3) as session,
        ):
            with pytest.raises(WebSocketClosed, match="1006: no answer to a ping"):
                session.receive(PATIENCE)
            assert server.wait_gone()
        assert got == [(PING, b"")] * 3

    def test_without_a_timeout_it_is_only_asked(self) -> None:
        def script(peer: Peer) -> None:
            accept(peer)
            assert read_frame(peer) == (PING, b"")
            peer.send(plain(TEXT, b"x"))
            assert read_frame(peer) == (PING, b"")
            peer.send(plain(TEXT, b"y"))
            peer.hang()

        with (
            Misbehaving(script) as server,
            opened(server, ping_interval=0.02, ping_timeout=None) as session,
        ):
            assert [session.receive(PATIENCE), session.receive(PATIENCE)] == ["x", "y"]
            session.connection.stop()

    def test_no_pings_at_all(self) -> None:
        with (
            Misbehaving(accepts_and_sends()) as server,
            opened(server, ping_interval=None) as session,
        ):
            assert session.connection._due_in(session.connection._wire) is None  # type: ignore[arg-type]
            session.connection.stop()


class TestFlow:
    def test_what_nobody_receives_is_not_read(self) -> None:
        sent = 0

        def script(peer: Peer) -> None:
            nonlocal sent
            accept(peer)
            for at in range(2000):
                peer.send(plain(BINARY, at.to_bytes(2, "big") * 10_000))
                sent += 1
            peer.hang()

        with (
            Misbehaving(script) as server,
            opened(server, ping_interval=0.02, ping_timeout=0.05) as session,
        ):
            link = session.connection
            wait_until(lambda: link._paused)
            # It is not the server that is silent.
            time.sleep(0.2)
            assert link._inbox_size <= line.INBOX_SIZE + 65536 + 20_100
            assert sent < 2000
            for at in range(2000):
                assert session.receive(PATIENCE) == at.to_bytes(2, "big") * 10_000
            link.stop()

    def test_close_works_while_the_inbox_is_full(self) -> None:
        def script(peer: Peer) -> None:
            accept(peer)
            for _ in range(100):
                peer.send(plain(BINARY, bytes(20_000)))
            assert read_frame(peer)[0] == CLOSE
            peer.send(closing(1000))

        with Misbehaving(script) as server, opened(server) as session:
            wait_until(lambda: session.connection._paused)
            session.close()
            assert session.close_code == 1000

    def test_senders_wait_for_a_server_that_does_not_read(self) -> None:
        may_read = threading.Event()
        size = 3_000_000

        def script(peer: Peer) -> None:
            accept(peer)
            assert may_read.wait(PATIENCE)
            for _ in range(10):
                opcode, payload = read_frame_quickly(peer)
                assert (opcode, payload) == (BINARY, size)
            peer.send(plain(TEXT, b"all"))
            peer.hang()

        with Misbehaving(script) as server, opened(server, compression=False) as session:
            sent: list[int] = []

            def send() -> None:
                for at in range(10):
                    session.send(bytes(size))
                    sent.append(at)

            thread = threading.Thread(target=send)
            thread.start()
            wait_until(lambda: session.buffered > line.MAX_BUFFERED)
            with pytest.raises(builtin_timeout):
                session.receive(0.1)
            assert len(sent) < 10
            may_read.set()
            assert session.receive(PATIENCE) == "all"
            thread.join()
            session.connection.stop()

    @pytest.mark.parametrize("grouped", [True, False])
    def test_a_sender_that_waits_is_woken_by_the_end(self, grouped: bool) -> None:
        ended = threading.Event()

        def script(peer: Peer) -> None:
            accept(peer)
            assert ended.wait(PATIENCE)

        with Misbehaving(script) as server, opened(server, compression=False) as session:
            errors: list[BaseException] = []

            def send() -> None:
                try:
                    session.send(bytes(30_000_000))
                    session.ping(b"x")
                except WebSocketClosed as error:
                    errors.append(error)

            thread = threading.Thread(target=send)
            thread.start()
            wait_until(lambda: session.buffered > line.MAX_BUFFERED)
            if grouped:
                assert not session.connection.post(_shared("x" * 10))
            session.connection.stop()
            thread.join(PATIENCE)
            assert len(errors) == 1
            ended.set()

    def test_a_message_that_cannot_go_out_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        server_of = accepts_and_sends()

        def fails(data: object) -> int:
            raise BrokenPipeError

        def script(peer: Peer) -> None:
            head, _ = peer.read_request()
            peer.send(answer(head, "Sec-WebSocket-Extensions: permessage-deflate"))
            peer.hang()

        for each in (server_of, script):
            for lost in (True, False):
                with Misbehaving(each) as server, opened(server) as session:
                    wire = session.connection._wire
                    assert wire is not None
                    if lost:
                        wire.protocol.lost()
                    else:
                        monkeypatch.setattr(wire.stream, "send", fails)
                    with pytest.raises(WebSocketClosed, match="1006"):
                        session.send("x" * 1000)


class TestReconnect:
    def test_iteration_goes_on(self) -> None:
        def says(text: bytes, *end: bytes) -> Callable[[Peer], None]:
            def script(peer: Peer) -> None:
                accept(peer)
                assert read_frame(peer) == (TEXT, b"subscribe")
                peer.send(plain(TEXT, text) + b"".join(end))

            return script

        def refuses(peer: Peer) -> None:
            peer.read_request()
            peer.answer(status="503 Service Unavailable")

        scripts = [
            says(b"one"),
            refuses,
            lambda peer: peer.reset(),
            says(b"two", closing(1012)),
            says(b"three", closing(1000)),
        ]
        where: list[str] = []

        def subscribe(session: ClientWebSocket) -> None:
            where.append(threading.current_thread().name)
            session.send("subscribe")

        with (
            Misbehaving(*scripts) as server,
            opened(server, reconnect=AT_ONCE, on_open=subscribe) as session,
        ):
            assert list(session) == ["one", "two", "three"]
            assert session.close_code == 1000
            assert session.closed
            assert len({request.split(b"Key: ")[1][:24] for request in server.requests}) == 4
        assert where[0] == threading.current_thread().name
        assert all(name.startswith("resource_server-client-websocket-") for name in where[1:])
        assert len(where) == 3

    def test_nothing_can_be_sent_meanwhile(self) -> None:
        def script(peer: Peer) -> None:
            accept(peer, closing(1001, b"restart"))

        with (
            Misbehaving(script) as server,
            opened(server, reconnect=Reconnect(1000, 1000)) as session,
        ):
            wait_until(lambda: not session.connected)
            assert server.wait_gone()
            wait_until(lambda: session.connection._wire is None)
            assert not session.closed
            assert session.close_code is None
            assert session.close_reason == ""
            assert session.buffered == 0
            with pytest.raises(WebSocketClosed, match="1001: restart"):
                session.send("x")
            with pytest.raises(WebSocketClosed, match="1001: restart"):
                session.ping()
            with pytest.raises(ValueError, match="code"):
                session.close(1)
            started = time.monotonic()
            session.close()
            assert time.monotonic() - started < 5
            assert (bool(session.closed), session.connection.close_code) == (True, 1001)

    def test_it_is_given_up_after_some_tries(self) -> None:
        accepts = iter([True])

        def script(peer: Peer) -> None:
            if next(accepts, False):
                accept(peer)
            else:
                peer.reset()

        with (
            Misbehaving(script) as server,
            opened(server, reconnect=Reconnect(0.001, 0.001, tries=3)) as session,
        ):
            with pytest.raises(WebSocketClosed) as caught:
                session.receive(PATIENCE)
            assert isinstance(caught.value.__cause__, ConnectError)
            assert server.connections == 4
            assert session.close_code == 1006

    def test_a_refusal_that_means_the_request_is_the_end(self) -> None:
        def refuses(peer: Peer) -> None:
            peer.read_request()
            peer.answer(status="403 Forbidden")

        with (
            Misbehaving(accept, refuses) as server,
            opened(server, reconnect=AT_ONCE) as session,
        ):
            with pytest.raises(WebSocketClosed) as caught:
                session.receive(PATIENCE)
            assert isinstance(caught.value.__cause__, WebSocketRefused)
            assert server.connections == 2

    def test_close_frees_it_from_connecting(self) -> None:
        begun = threading.Event()

        def hangs(peer: Peer) -> None:
            peer.read_request()
            begun.set()
            peer.hang()

        with (
            Misbehaving(accept, hangs) as server,
            opened(server, reconnect=AT_ONCE) as session,
        ):
            assert begun.wait(PATIENCE)
            session.close()
            assert readers() == []

    def test_pauses_grow_and_differ(self) -> None:
        reconnect = Reconnect(1, 8)
        for failures, longest in ((0, 1), (1, 2), (2, 4), (3, 8), (50, 8), (100_000, 8)):
            pauses = {reconnect.pause(failures) for _ in range(20)}
            assert len(pauses) > 10
            assert all(longest / 2 <= pause <= longest for pause in pauses)

    def test_on_open_that_fails_the_first_time_is_told(self) -> None:
        def fails(session: ClientWebSocket) -> None:
            raise ValueError("mine")

        with (
            Misbehaving(accept) as server,
            HTTPClient(server.address) as client,
        ):
            with pytest.raises(ValueError, match="mine"):
                client.websocket("/ws", on_open=fails)
            assert readers() == []

    @pytest.mark.parametrize("fails", [False, True])
    def test_on_open_that_fails_later_is_logged(
        self, fails: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        calls: list[BaseException | None] = []

        def on_open(session: ClientWebSocket) -> None:
            if not calls:
                calls.append(None)
                return
            try:
                session.receive()
            except RuntimeError as error:
                calls.append(error)
                if fails:
                    raise
                raise WebSocketClosed from error

        def second(peer: Peer) -> None:
            accept(peer)
            peer.send(closing(1000))
            peer.hang()

        with (
            Misbehaving(accept, second) as server,
            opened(server, reconnect=AT_ONCE, on_open=on_open) as session,
        ):
            assert list(session) == []
        assert len(calls) == 2
        assert ("on_open of a WebSocket failed" in caplog.text) is fails

    def test_what_cannot_be_asked_again_is_the_end(self, caplog: pytest.LogCaptureFixture) -> None:
        def auth(request: Any) -> None:
            if server.requests:
                raise LookupError("no token")

        with (
            Misbehaving(accept) as server,
            opened(server, reconnect=AT_ONCE, auth=auth) as session,
        ):
            with pytest.raises(WebSocketClosed) as caught:
                session.receive(PATIENCE)
            assert isinstance(caught.value.__cause__, LookupError)
        assert "A WebSocket of the client failed" in caplog.text
