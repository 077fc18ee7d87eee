"""Opening a WebSocket: the handshake of RFC 6455 §4.2, and what is none."""

from __future__ import annotations

import queue
import socket
from typing import TYPE_CHECKING

import pytest
import websocket as independent

from resource_server import (
    HTTPServer,
    Request,
    Resource,
    WebSocketOpCode,
    WebSocketRequest,
    get,
    websocket,
)
from tests.rawclient import PATIENCE, Answer, Client
from tests.wsclient import CLOSE, KEY, TEXT, WSClient, accept_of, frame, opening

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Serve


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        #: what handlers were called with
        self.events: queue.SimpleQueue[tuple[str, int | str]] = queue.SimpleQueue()

    @websocket("/")
    def echo(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        self.events.put((opcode.name, payload if isinstance(payload, str) else payload.hex()))
        if opcode is WebSocketOpCode.Text:
            request.send(payload)

    @websocket("/subprotocols", subprotocols=["chat.v2", "chat.v1"])
    def subprotocols(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is WebSocketOpCode.Text:
            request.send(repr(request.subprotocol))

    @websocket("/uncompressed", compression=False)
    def uncompressed(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        self.echo(request, opcode, payload)

    @websocket("/rooms/:room/:number(int)")
    def room(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is WebSocketOpCode.Text:
            told = (request.matches, request.query, request.cookies, request.path, request.headers)
            room, number = told[0]["room"], told[0]["number"]
            assert request.host == "test"
            assert request.method == "GET"
            request.send(f"{room} {number!r} {told[1]['q']} {told[2]['c']} {told[4]['x-mine']}")

    @get("/both")
    def page(self, request: Request) -> str:
        return "a page"

    @websocket("/both")
    def both(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        self.echo(request, opcode, payload)

    @get("/page")
    def only_page(self, request: Request) -> str:
        return "only a page"


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app)


def ask(server: HTTPServer, request: bytes) -> Answer:
    with Client(server.address) as client:
        client.send(request)
        return client.read()


def without(name: str, path: str = "/") -> bytes:
    lines = opening(path).split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(name.encode()))


class TestHandshake:
    def test_the_example_of_the_rfc(self, server: HTTPServer) -> None:
        """RFC 6455 §1.3 and §4.2.2."""
        with Client(server.address) as client:
            client.send(opening("/"))
            head = client.head()
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        fields = head.lower().split(b"\r\n")
        assert b"upgrade: websocket" in fields
        assert b"connection: upgrade" in fields
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head.split(b"\r\n")
        for absent in (b"sec-websocket-protocol", b"sec-websocket-extensions", b"content-"):
            assert absent not in head.lower()

    @pytest.mark.parametrize("key", ["AAAAAAAAAAAAAAAAAAAAAA==", "+/+/+/+/+/+/+/+/+/+/+w=="])
    def test_the_key_decides(self, server: HTTPServer, key: str) -> None:
        answer = ask(server, opening("/", key=key))
        assert answer.fields["sec-websocket-accept"] == accept_of(key)

    @pytest.mark.parametrize(
        "change",
        [
            (b"Upgrade: websocket", b"Upgrade: WebSocket"),
            (b"Upgrade: websocket", b"UPGRADE:websocket"),
            (b"Upgrade: websocket", b"Upgrade: h2c, websocket"),
            (b"Upgrade: websocket", b"Upgrade: h2c\r\nUpgrade: WEBSOCKET"),
            (b"Connection: Upgrade", b"Connection: keep-alive, Upgrade"),
            (b"Connection: Upgrade", b"connection:upgrade"),
            (b"Connection: Upgrade", b"Connection: keep-alive\r\nConnection: UPGRADE"),
            (b"Key: ", b"Key:     "),
            (b"Sec-WebSocket-Version", b"sec-websocket-version"),
        ],
    )
    def test_names_and_tokens_have_no_case(
        self, server: HTTPServer, change: tuple[bytes, bytes]
    ) -> None:
        with Client(server.address) as client:
            client.send(opening("/").replace(*change))
            assert client.read().status == 101

    def test_byte_by_byte(self, server: HTTPServer) -> None:
        with WSClient(server.address, None) as client:
            for byte in opening("/"):
                client.send(bytes([byte]))
            client.opened()
            assert client.echo("hello") == "hello"

    def test_behind_other_requests(self, server: HTTPServer) -> None:
        with WSClient(server.address, None) as client:
            client.ask("/page")
            client.ask("/both")
            # All in one, together with the first frame.
            client.send(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n" + opening("/both") + hello())
            for body in (b"only a page", b"a page", b"only a page"):
                assert client.read().body == body
            client.opened()
            assert client.read_text() == "hello"

    def test_frames_in_the_same_packet(self, server: HTTPServer, app: App) -> None:
        with WSClient(server.address, None) as client:
            client.send(opening("/") + hello() * 3 + frame(CLOSE, b"\x03\xe8"))
            client.opened()
            for _ in range(3):
                assert client.read_text() == "hello"
            assert client.read_close() == (1000, "")
            assert client.is_ended()
        events = [app.events.get(timeout=PATIENCE) for _ in range(5)]
        assert events == [("Open", ""), *[("Text", "hello")] * 3, ("Close", "")]

    def test_a_body_is_not_taken_for_frames(self, server: HTTPServer, app: App) -> None:
        smuggled = frame(TEXT, b"smuggled")
        with Client(server.address) as client:
            client.send(opening("/", f"Content-Length: {len(smuggled)}") + smuggled + hello())
            client.read()
            client.half_close()
            client.rest()
        while not app.events.empty():
            assert "smuggled" not in app.events.get()

    def test_what_was_asked_stays_known(self, server: HTTPServer) -> None:
        with WSClient(
            server.address, "/rooms/caf%C3%A9/42?q=a+b", "Cookie: c=crumb", "X-Mine: yes"
        ) as client:
            assert client.echo("") == "café 42 a b crumb yes"

    def test_the_independent_client(self, server: HTTPServer) -> None:
        client = independent.create_connection(
            server.url.replace("http", "ws") + "/subprotocols",
            timeout=PATIENCE,
            subprotocols=["chat.v1", "chat.v2", "chat.v3"],
        )
        assert client.getsubprotocol() == "chat.v2"
        client.send("?")
        assert client.recv() == "'chat.v2'"
        client.close()

    @pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no UNIX sockets here")
    def test_over_a_unix_socket(self, app: App, serve: Serve, tmp_path: Path) -> None:
        server = serve(app, address=f"unix:{tmp_path}/socket")
        with WSClient(server.address, "/", "Origin: http://test") as client:
            assert client.echo("hello") == "hello"
            assert client.leave() == (1000, "")

    def test_a_triple_is_a_route_too(self, serve: Serve) -> None:
        def answer(
            request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
        ) -> None:
            if opcode is WebSocketOpCode.Text:
                request.send(payload)

        server = serve([("WEBSOCKET", "/", answer)])
        with WSClient(server.address) as client:
            assert client.echo("hello") == "hello"


def hello() -> bytes:
    return frame(TEXT, b"hello")


class TestBadHandshakes:
    """§4.2.1: what is not right is answered by HTTP, and the connection stays one of HTTP."""

    @pytest.mark.parametrize(
        "version", ["0", "8", "12", "14", "113", "013", "13.0", "+13", "thirteen", "13, 8", "8, 7"]
    )
    def test_another_version(self, server: HTTPServer, app: App, version: str) -> None:
        """§4.4."""
        request = opening("/").replace(b"Version: 13", b"Version: " + version.encode())
        answer = ask(server, request)
        assert answer.status == 426
        assert answer.fields["sec-websocket-version"] == "13"
        assert answer.fields["upgrade"].lower() == "websocket"
        assert "upgrade" in answer.fields["connection"].lower()
        assert app.events.empty()

    def test_no_version_or_two(self, server: HTTPServer) -> None:
        for request in (
            without("sec-websocket-version"),
            opening("/", "Sec-WebSocket-Version: 13"),
            opening("/", "Sec-WebSocket-Version: 8"),
        ):
            answer = ask(server, request)
            assert answer.status == 426
            assert answer.fields["sec-websocket-version"] == "13"

    def test_the_client_may_try_again_on_the_same_connection(self, server: HTTPServer) -> None:
        with WSClient(server.address, None) as client:
            client.send(opening("/").replace(b"Version: 13", b"Version: 14"))
            assert client.read().status == 426
            client.open("/")
            assert client.echo("hello") == "hello"

    @pytest.mark.parametrize(
        "key",
        [
            "",
            "AAAA",
            KEY[:-1],
            KEY + "=",
            KEY.replace("=", ""),
            "A" * 24,
            "A" * 22 + "==AAAA",
            "AAAAAAAAAAAAAAAAAAAA====",
            "AAAAAAAAAAA AAAAAAAAAA==",
            "AAAAAAAAAAA-_AAAAAAAAA==",
            f"{KEY}, {KEY}",
            '"' + KEY + '"',
        ],
    )
    def test_a_key_that_is_none(self, server: HTTPServer, app: App, key: str) -> None:
        assert ask(server, opening("/", key=key)).status == 400
        assert app.events.empty()

    def test_no_key_or_two(self, server: HTTPServer) -> None:
        assert ask(server, without("sec-websocket-key")).status == 400
        assert ask(server, opening("/", f"Sec-WebSocket-Key: {KEY}")).status == 400

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "HEAD", "WEBSOCKET"])
    def test_another_method(self, server: HTTPServer, app: App, method: str) -> None:
        for path in ("/", "/both"):
            request = opening(path).replace(b"GET", method.encode(), 1)
            with Client(server.address) as client:
                client.send(request)
                assert client.read(head_only=method == "HEAD").status != 101
        assert app.events.empty()

    def test_http_1_0(self, server: HTTPServer) -> None:
        """§4.1: HTTP/1.1 or higher."""
        for path in ("/", "/both"):
            assert ask(server, opening(path).replace(b"HTTP/1.1", b"HTTP/1.0")).status in (426, 200)

    def test_no_upgrade(self, server: HTTPServer) -> None:
        """RFC 9110 §15.5.22."""
        for request in (
            without("upgrade"),
            without("connection"),
            opening("/").replace(b"Upgrade: websocket", b"Upgrade: websockets"),
            opening("/").replace(b"Upgrade: websocket", b"Upgrade: h2c"),
            opening("/").replace(b"Connection: Upgrade", b"Connection: keep-alive"),
        ):
            answer = ask(server, request)
            assert answer.status == 426
            assert answer.fields["upgrade"].lower() == "websocket"

    def test_no_host(self, server: HTTPServer) -> None:
        assert ask(server, without("host")).status == 400

    def test_no_such_path(self, server: HTTPServer) -> None:
        assert ask(server, opening("/nowhere")).status == 404
        # A page is not a WebSocket; who asks may change the protocol, and the server need not.
        assert ask(server, opening("/page")).body == b"only a page"

    def test_a_path_with_a_page_and_a_websocket(self, server: HTTPServer) -> None:
        with WSClient(server.address, "/both") as client:
            assert client.echo("hello") == "hello"
        for request in (without("upgrade", "/both"), without("connection", "/both")):
            assert ask(server, request).body == b"a page"

    @pytest.mark.parametrize(
        "value",
        ["", "permessage-deflate;", "a b", ";x", "a; b=", 'a; b="', "a;=1", "a; b c", "(", "a/b"],
    )
    def test_malformed_extensions(self, server: HTTPServer, value: str) -> None:
        """§9.1."""
        assert ask(server, opening("/", f"Sec-WebSocket-Extensions: {value}")).status == 400

    def test_a_malformed_opening_ends_nothing(self, server: HTTPServer) -> None:
        for line in ("Sec-WebSocket-Extensions: ;", "Sec-WebSocket-Protocol: (", "Origin: ;"):
            with WSClient(server.address, None) as client:
                client.send(opening("/", line))
                assert client.read().status >= 400
                client.open("/")
                assert client.echo("hello") == "hello"

    def test_many_extensions_are_read_in_no_time(self, server: HTTPServer) -> None:
        """Linear: what fits into the head takes no second."""
        value = "a; b=c, " * 3000
        with WSClient(server.address, "/", f"Sec-WebSocket-Extensions: {value}") as client:
            assert client.echo("hello") == "hello"


class TestSubprotocols:
    @pytest.mark.parametrize(
        ("offered", "chosen"),
        [
            ("chat.v1", "chat.v1"),
            ("chat.v1, chat.v2", "chat.v2"),
            ("chat.v2,chat.v1", "chat.v2"),
            ("soap\r\nSec-WebSocket-Protocol: chat.v1", "chat.v1"),
            ("soap , , chat.v1", "chat.v1"),
            ("soap", None),
            ("CHAT.V1", None),
            ("chat", None),
        ],
    )
    def test_the_server_prefers(self, server: HTTPServer, offered: str, chosen: str | None) -> None:
        line = f"Sec-WebSocket-Protocol: {offered}"
        with WSClient(server.address, "/subprotocols", line) as client:
            assert client.answer.fields.get("sec-websocket-protocol") == chosen
            assert client.echo("?") == repr(chosen)

    def test_only_what_was_offered(self, server: HTTPServer) -> None:
        with WSClient(server.address, "/subprotocols") as client:
            assert "sec-websocket-protocol" not in client.answer.fields
        with WSClient(server.address, "/", "Sec-WebSocket-Protocol: chat.v1") as client:
            assert "sec-websocket-protocol" not in client.answer.fields

    @pytest.mark.parametrize(
        "offered",
        ["", ",", "a b", "a, a", '"chat.v1"', "chat.v1;q=1", "chat.v1, a/b", "cha\u00efn"],
    )
    def test_what_is_no_list_of_tokens_is_refused(self, server: HTTPServer, offered: str) -> None:
        """§4.1, 10."""
        request = opening("/subprotocols", f"Sec-WebSocket-Protocol: {offered}")
        assert ask(server, request).status == 400


def test_compression_may_be_off(server: HTTPServer) -> None:
    with WSClient(
        server.address, "/uncompressed", "Sec-WebSocket-Extensions: permessage-deflate"
    ) as client:
        assert client.deflate is None
        assert client.echo("a" * 5000) == "a" * 5000
