"""WebSockets over TLS, where records are larger or smaller than frames and can hide some."""

from __future__ import annotations

import queue
import random
import select
import ssl
import threading
from typing import TYPE_CHECKING

import pytest
import trustme
import websocket as independent

from resource_server import (
    HTTPServer,
    Limits,
    Request,
    Resource,
    WebSocketClosed,
    WebSocketGroup,
    WebSocketOpCode,
    WebSocketRequest,
    WebSocketSession,
    get,
    websocket,
    websocket_session,
)
from tests.rawclient import PATIENCE, Client
from tests.wsclient import (
    BINARY,
    PING,
    PONG,
    TEXT,
    Frame,
    WSClient,
    close_frame,
    eventually,
    fragments,
    frame,
    opening,
    split,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Serve

Open, Text, Close = WebSocketOpCode.Open, WebSocketOpCode.Text, WebSocketOpCode.Close
STYLES = ["/inline", "/learned", "/worker", "/session"]
ROOM = 200_000
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.group = WebSocketGroup()
        self.opened: queue.SimpleQueue[WebSocketRequest] = queue.SimpleQueue()
        self.closed: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.handled = 0

    @websocket(
        "/inline",
        blocking=False,
        max_buffered=ROOM,
        max_message_size=20_000_000,
        ping_interval=None,
    )
    @websocket("/learned", max_buffered=ROOM, max_message_size=20_000_000, ping_interval=None)
    @websocket(
        "/worker", blocking=True, max_buffered=ROOM, max_message_size=20_000_000, ping_interval=None
    )
    @websocket("/drop", max_buffered=ROOM, overflow="drop", ping_interval=None)
    def handle(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is Open:
            assert request.scheme == "https"
            self.group.add(request)
            self.opened.put(request)
        elif opcode is Close:
            self.closed.put(request.close_code)
        else:
            self.handled += 1
            request.send(payload)

    @websocket_session(
        "/session", max_buffered=ROOM, max_message_size=20_000_000, ping_interval=None
    )
    def converse(self, socket: WebSocketSession) -> None:
        self.group.add(socket)
        for message in socket:
            socket.send(message)
        self.closed.put(socket.close_code)

    @websocket("/greeting", ping_interval=None)
    def greet(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is Open:
            request.send("welcome")
            request.send(bytes(300_000))

    @get("/page")
    def page(self, request: Request) -> str:
        return "a page"


class Keys:
    """An authority, and the files of a certificate that it issued."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost", "127.0.0.1")
        self.key, self.chain, self.trust = (folder / name for name in ("key", "chain", "trust"))
        certificate.private_key_pem.write_to_path(str(self.key))
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(str(self.chain), append=True)
        authority.cert_pem.write_to_path(str(self.trust))

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.trust))


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return Keys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, serve: Serve, keys: Keys) -> HTTPServer:
    limits = Limits(closing=10 * PATIENCE, write=10 * PATIENCE)
    return serve(app, privkey=keys.key, cert=keys.chain, limits=limits)


@pytest.fixture
def connect(server: HTTPServer, keys: Keys) -> Callable[..., WSClient]:
    def connect(path: str | None, *fields: str, receive_buffer: int | None = None) -> WSClient:
        return WSClient(
            server.address, path, *fields, tls=keys.context(), receive_buffer=receive_buffer
        )

    return connect


@pytest.mark.usefixtures("quiet")
class TestMessages:
    @pytest.mark.parametrize("path", STYLES)
    @pytest.mark.parametrize("fields", [(), (DEFLATE,)], ids=["plain", "deflate"])
    def test_of_many_sizes(
        self, connect: Callable[..., WSClient], path: str, fields: tuple[str, ...]
    ) -> None:
        with connect(path, *fields) as client:
            for size in (0, 1, 125, 126, 16_383, 16_384, 16_385, 65_536, 1_000_000):
                payload = random.Random(size).randbytes(size)
                client.send_binary(payload)
                assert client.read_binary() == payload
            assert client.leave() == (1000, "")

    @pytest.mark.parametrize("path", STYLES)
    def test_many_in_a_record(self, connect: Callable[..., WSClient], path: str) -> None:
        """No socket becomes readable for those that OpenSSL holds."""
        with connect(path) as client:
            texts = [str(number) for number in range(1000)]
            client.send(b"".join(frame(TEXT, text.encode()) for text in texts))
            assert [client.read_text() for _ in texts] == texts
            client.send(b"".join(frame(PING, b"%d" % n) for n in range(3)) + frame(TEXT, b"x"))
            while (received := client.read_frame()).opcode == PONG:
                pass
            assert received == Frame(TEXT, b"x")

    @pytest.mark.parametrize("path", STYLES)
    def test_a_record_for_each_byte(self, connect: Callable[..., WSClient], path: str) -> None:
        with connect(path) as client:
            sent = b"".join(fragments(TEXT, split("grüße 😀".encode(), 1))) + close_frame(1000)
            for byte in sent:
                client.send(bytes([byte]))
            assert client.read_text() == "grüße 😀"
            assert client.read_close() == (1000, "")
            assert client.is_ended()

    @pytest.mark.parametrize("path", STYLES)
    def test_all_in_the_record_of_the_opening(
        self, connect: Callable[..., WSClient], path: str
    ) -> None:
        with connect(None) as client:
            client.send(opening(path) + frame(TEXT, b"hello") * 3 + close_frame(1000))
            client.opened()
            assert [client.read_text() for _ in range(3)] == ["hello"] * 3
            assert client.read_close() == (1000, "")
            assert client.is_ended()

    def test_what_open_sends(self, connect: Callable[..., WSClient]) -> None:
        with connect("/greeting") as client:
            assert client.read_text() == "welcome"
            assert client.read_binary() == bytes(300_000)

    def test_from_many_threads_both_ways(self, connect: Callable[..., WSClient], app: App) -> None:
        with connect("/inline") as client:
            request = app.opened.get(timeout=PATIENCE)
            payload = bytes(3000)

            def send() -> None:
                for _ in range(100):
                    request.send(payload)

            threads = [threading.Thread(target=send) for _ in range(8)]
            for thread in threads:
                thread.start()
            for _ in range(100):
                client.send_text("echo")
            texts = 0
            for _ in range(900):
                opcode, received = client.read_message()
                assert received == (payload if opcode == BINARY else b"echo")
                texts += opcode == TEXT
            assert texts == 100
            for thread in threads:
                thread.join()

    def test_both_versions(self, server: HTTPServer, keys: Keys) -> None:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = keys.context()
            context.minimum_version = context.maximum_version = version
            with WSClient(server.address, "/learned", tls=context) as client:
                assert client.echo("x" * 100_000) == "x" * 100_000
                assert client.leave() == (1000, "")

    def test_the_independent_client(self, server: HTTPServer, keys: Keys) -> None:
        for path in STYLES:
            client = independent.create_connection(
                server.url.replace("http", "ws") + path,
                timeout=PATIENCE,
                sslopt={"ca_certs": str(keys.trust)},
            )
            for text in ("hello", "grüße 😀", "x" * 100_000):
                client.send(text)
                assert client.recv() == text
            client.close()

    def test_an_origin_has_to_be_secure_too(
        self, connect: Callable[..., WSClient], server: HTTPServer, keys: Keys
    ) -> None:
        with connect("/learned", "Origin: https://test") as client:
            assert client.echo("hello") == "hello"
        for origin in ("http://test", "http://test:443", "https://test:80", "null"):
            with Client(server.address, tls=keys.context()) as refused:
                refused.send(opening("/learned", f"Origin: {origin}"))
                assert refused.read().status == 403
                assert refused.get("/page").status == 200

    def test_groups(self, connect: Callable[..., WSClient], app: App) -> None:
        clients = [connect(path, *[DEFLATE] * (n % 2)) for n, path in enumerate(STYLES * 3)]
        eventually(lambda: len(app.group) == 12)
        assert app.group.send("hello " * 1000) == 12
        for client in clients:
            assert client.read_text() == "hello " * 1000
            client.sock.close()


@pytest.mark.usefixtures("quiet")
class TestEnds:
    @pytest.mark.parametrize("path", STYLES)
    def test_from_the_client(self, connect: Callable[..., WSClient], app: App, path: str) -> None:
        for code in (1000, 4000):
            with connect(path) as client:
                assert client.leave(code) == (code, "")
                assert app.closed.get(timeout=PATIENCE) == code
        for leave in (WSClient.vanish, WSClient.reset):
            with connect(path) as client:
                assert client.echo("hello") == "hello"
                leave(client)
                assert app.closed.get(timeout=PATIENCE) == 1006

    @pytest.mark.parametrize("path", STYLES)
    def test_from_the_server(self, connect: Callable[..., WSClient], app: App, path: str) -> None:
        with connect(path) as client:
            assert client.echo("hello") == "hello"
            app.group.close(4000, "enough")
            assert client.is_left() == (4000, "enough")
            assert app.closed.get(timeout=PATIENCE) == 4000

    def test_by_a_broken_rule(self, connect: Callable[..., WSClient], app: App) -> None:
        with connect("/learned") as client:
            client.send(frame(3))
            for _ in range(16):
                client.send(bytes(65_536))
            assert client.read_close()[0] == 1002
            assert client.is_ended()
            assert app.closed.get(timeout=PATIENCE) == 1002

    def test_by_a_truncated_connection(self, connect: Callable[..., WSClient], app: App) -> None:
        """TCP ends, and TLS has said nothing of it."""
        with connect("/learned") as client:
            assert client.echo("hello") == "hello"
            client.half_close()
            assert app.closed.get(timeout=PATIENCE) == 1006

    def test_by_the_deadline(self, app: App, serve: Serve, keys: Keys) -> None:
        server = serve(app, privkey=keys.key, cert=keys.chain, limits=Limits(closing=0.2))
        with WSClient(server.address, "/learned", tls=keys.context()) as client:
            app.opened.get(timeout=PATIENCE).close(4000)
            assert client.read_close() == (4000, "")
            assert client.is_closed()
            assert app.closed.get(timeout=PATIENCE) == 1006

    def test_by_a_stop(
        self, connect: Callable[..., WSClient], server: HTTPServer, app: App
    ) -> None:
        clients = [connect(path) for path in STYLES * 2]
        eventually(lambda: len(app.group) == 8)
        thread = threading.Thread(target=server.stop, args=(PATIENCE,))
        thread.start()
        for client in clients:
            assert client.is_left()[0] == 1001
            client.sock.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def send_until_blocked(client: WSClient, data: bytes) -> bytes:
    """Send what the server takes; what is left."""
    client.sock.setblocking(False)
    try:
        while data:
            data = data[client.sock.send(data[:16_384]) :]
    except ssl.SSLWantWriteError:
        pass
    return data


def send_and_read(client: WSClient, data: bytes, size: int) -> bytes:
    """Send all, and read so much meanwhile: in one thread, as OpenSSL demands."""
    received = bytearray()
    while data or len(received) < size:
        left = send_until_blocked(client, data)
        progress = len(left) < len(data)
        data = left
        try:
            while len(received) < size:
                received += client.sock.recv(65_536)
                progress = True
        except ssl.SSLWantReadError:
            pass
        if not progress:
            writers = [client.sock] if data else []
            assert any(select.select([client.sock], writers, [], PATIENCE))
    client.sock.settimeout(PATIENCE)
    return bytes(received)


@pytest.mark.usefixtures("quiet")
class TestBackpressure:
    @pytest.mark.parametrize("path", STYLES)
    def test_echoes_that_are_not_read(
        self, connect: Callable[..., WSClient], app: App, path: str
    ) -> None:
        with connect(path, receive_buffer=4096) as client:
            eventually(lambda: len(app.group) == 1)
            (member,) = app.group
            payloads = [random.Random(number).randbytes(10_000) for number in range(1500)]
            data = b"".join(frame(BINARY, payload) for payload in payloads)
            while member.buffered < ROOM - 20_000:
                data = send_until_blocked(client, data)
                assert data
            with connect("/learned") as other:
                assert other.echo("hello") == "hello"
            assert member.buffered <= ROOM + 1000
            # The server masks nothing, and 10,000 bytes have a head of four.
            received = send_and_read(client, data, 1500 * 10_004)
            assert received == b"".join(b"\x82\x7e\x27\x10" + payload for payload in payloads)
            assert client.leave() == (1000, "")

    def test_a_large_message_to_a_slow_reader(
        self, connect: Callable[..., WSClient], app: App
    ) -> None:
        with connect("/inline", receive_buffer=4096) as client:
            request = app.opened.get(timeout=PATIENCE)
            large = random.Random(1).randbytes(10_000_000)
            request.send(large)
            # While it is on its way, the other direction works.
            client.send_text("meanwhile")
            eventually(lambda: app.handled == 1)
            assert client.read_binary() == large
            assert client.read_text() == "meanwhile"

    def test_dropping(self, connect: Callable[..., WSClient], app: App) -> None:
        with connect("/drop", receive_buffer=4096) as client:
            request = app.opened.get(timeout=PATIENCE)
            for number in range(2000):
                request.send(number.to_bytes(4, "big") + bytes(9996))
            request.close(4000)
            last = -1
            while (received := client.read_frame()).opcode == BINARY:
                number = int.from_bytes(received.payload[:4], "big")
                assert number > last
                last = number
            assert last == 1999

    def test_one_that_takes_nothing(self, app: App, serve: Serve, keys: Keys) -> None:
        server = serve(app, privkey=keys.key, cert=keys.chain, limits=Limits(write=0.3))
        with WSClient(server.address, "/inline", tls=keys.context(), receive_buffer=4096):
            request = app.opened.get(timeout=PATIENCE)
            try:
                while True:
                    request.send(bytes(100_000))
            except WebSocketClosed as closed:
                code = closed.code
            assert code == 1006
            assert app.closed.get(timeout=PATIENCE) == 1006
