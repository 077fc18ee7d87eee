"""Messages: what handlers are called with, what they may send, and in which order it goes."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest
import websocket as independent

from resource_server import (
    HTTPServer,
    Request,
    Resource,
    WebSocketClosed,
    WebSocketOpCode,
    WebSocketRequest,
    get,
    websocket,
)
from tests.rawclient import PATIENCE, Client
from tests.wsclient import (
    BINARY,
    PING,
    PONG,
    TEXT,
    Frame,
    WSClient,
    eventually,
    fragments,
    frame,
)

if TYPE_CHECKING:
    from tests.conftest import Serve
    from tests.functional.conftest import Records

    Event = tuple[WebSocketOpCode, str | bytes]

Open, Text, Binary = WebSocketOpCode.Open, WebSocketOpCode.Text, WebSocketOpCode.Binary
Close, Ping, Pong = WebSocketOpCode.Close, WebSocketOpCode.Ping, WebSocketOpCode.Pong
STYLES = ["/inline", "/learned", "/worker"]


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.requests: queue.SimpleQueue[WebSocketRequest] = queue.SimpleQueue()
        self.gate = threading.Event()
        self.inside: dict[str, int] = {}
        self.overlaps: list[str] = []

    @websocket("/inline", blocking=False)
    @websocket("/learned")
    @websocket("/worker", blocking=True)
    def record(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        self.events.put((opcode, payload))
        if opcode is Open:
            self.requests.put(request)

    @websocket("/pings", pings=True)
    def pings(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        self.record(request, opcode, payload)

    @websocket("/waiting", blocking=True)
    @websocket("/waiting-learned")
    @websocket("/waiting-inline", blocking=False)
    def waiting(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        """Count who is in here, and stay as long as the test wants for a "wait"."""
        uid = request.uid
        self.inside[uid] = self.inside.get(uid, 0) + 1
        if self.inside[uid] > 1:
            self.overlaps.append(uid)
        self.events.put((opcode, payload))
        if payload == "wait":
            self.gate.wait(PATIENCE)
        if opcode is Text:
            request.send(payload)
        self.inside[uid] -= 1

    @websocket("/sizes/:size(int)", blocking=False)
    def sizes(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is Text:
            for _ in range(int(payload)):
                request.send(bytes(request.matches["size"]))

    @websocket("/limited", max_message_size=10)
    def limited(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        self.record(request, opcode, payload)

    @get("/page")
    def page(self, request: Request) -> str:
        return "a page"


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app)


def event(app: App) -> Event:
    return app.events.get(timeout=PATIENCE)


def request_of(app: App) -> WebSocketRequest:
    return app.requests.get(timeout=PATIENCE)


class TestReceiving:
    @pytest.mark.parametrize("path", STYLES)
    def test_events_come_in_order(self, server: HTTPServer, app: App, path: str) -> None:
        with WSClient(server.address, path) as client:
            client.send_text("grüße")
            client.send_binary(b"\x00\xff")
            client.send(frame(TEXT) + frame(BINARY))
            client.send(b"".join(fragments(TEXT, [b"in ", b"two ", b"", b"parts"])))
            client.leave()
        expected: list[Event] = [
            (Open, ""),
            (Text, "grüße"),
            (Binary, b"\x00\xff"),
            (Text, ""),
            (Binary, b""),
            (Text, "in two parts"),
            (Close, ""),
        ]
        received = [event(app) for _ in expected]
        assert received == expected
        assert [type(payload) for _, payload in received] == [str, str, bytes, str, bytes, str, str]
        assert all(type(opcode) is WebSocketOpCode for opcode, _ in received)
        assert app.events.empty()

    @pytest.mark.parametrize("path", STYLES)
    def test_a_thousand_in_one_packet(self, server: HTTPServer, app: App, path: str) -> None:
        with WSClient(server.address, path) as client:
            client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(1000)))
            assert event(app) == (Open, "")
            for number in range(1000):
                assert event(app) == (Text, str(number))

    @pytest.mark.parametrize("path", ["/waiting", "/waiting-learned", "/waiting-inline"])
    def test_one_at_a_time_for_a_connection(self, server: HTTPServer, app: App, path: str) -> None:
        with WSClient(server.address, path) as client:
            client.send_text("wait")
            assert [event(app), event(app)] == [(Open, ""), (Text, "wait")]
            client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(500)))
            # The server is not waiting: it has read what was sent.
            with WSClient(server.address, path) as other:
                assert other.echo("hello") == "hello"
                assert [event(app), event(app)] == [(Open, ""), (Text, "hello")]
            assert event(app) == (Close, "")
            assert app.events.empty()
            app.gate.set()
            assert client.read_text() == "wait"
            assert [client.read_text() for _ in range(500)] == [str(n) for n in range(500)]
            for number in range(500):
                assert event(app) == (Text, str(number))
            client.leave()
            assert event(app) == (Close, "")
        assert app.overlaps == []

    @pytest.mark.parametrize("path", ["/waiting", "/waiting-learned", "/waiting-inline"])
    def test_many_connections_at_once(self, server: HTTPServer, app: App, path: str) -> None:
        clients = [WSClient(server.address, path) for _ in range(20)]
        for client in clients:
            client.send_text("wait")
        # All of them are inside at the same time, and pages are still served.
        waiting = 0
        while waiting < 20:
            waiting += event(app)[1] == "wait"
        with Client(server.address) as browser:
            assert browser.get("/page").body == b"a page"
        app.gate.set()
        for client in clients:
            assert client.read_text() == "wait"
            client.leave()
            client.sock.close()
        assert app.overlaps == []

    def test_pings_are_told_only_to_those_who_ask(self, server: HTTPServer, app: App) -> None:
        for path, told in (("/inline", False), ("/pings", True)):
            with WSClient(server.address, path) as client:
                client.ping(b"\x00ping")
                client.send(frame(PONG, b"\xffpong"))
                client.send_text("end")
                assert event(app) == (Open, "")
                if told:
                    assert event(app) == (Ping, b"\x00ping")
                    assert event(app) == (Pong, b"\xffpong")
                assert event(app) == (Text, "end")
                client.leave()
                assert event(app) == (Close, "")

    @pytest.mark.parametrize("path", ["/waiting", "/waiting-learned", "/waiting-inline"])
    @pytest.mark.parametrize("together", [True, False], ids=["together", "apart"])
    def test_a_ping_is_answered_while_the_handler_is_busy(
        self, server: HTTPServer, app: App, path: str, together: bool
    ) -> None:
        ping = frame(PING, b"still there?")
        with WSClient(server.address, path) as client:
            client.send(frame(TEXT, b"wait") + ping * together)
            assert [event(app), event(app)] == [(Open, ""), (Text, "wait")]
            client.send(ping * (not together))
            assert client.read_frame() == Frame(PONG, b"still there?")
            app.gate.set()
            assert client.read_text() == "wait"
            client.leave()
            assert event(app) == (Close, "")

    def test_a_message_that_is_too_large_never_arrives(self, server: HTTPServer, app: App) -> None:
        with WSClient(server.address, "/limited") as client:
            client.send_text("x" * 10)
            client.send_text("x" * 11)
            assert client.read_close()[0] == 1009
        assert [event(app) for _ in range(3)] == [(Open, ""), (Text, "x" * 10), (Close, "")]

    def test_the_default_is_a_mebibyte(self, server: HTTPServer, app: App) -> None:
        with WSClient(server.address, "/inline") as client:
            client.send_binary(bytes(1_048_576))
            assert event(app) == (Open, "")
            assert event(app) == (Binary, bytes(1_048_576))
            client.send_binary(bytes(1_048_577))
            assert client.read_close()[0] == 1009

    def test_the_request_is_the_same_for_all_events(self, serve: Serve) -> None:
        seen: queue.SimpleQueue[WebSocketRequest] = queue.SimpleQueue()

        class Same(Resource):
            @websocket("/")
            def keep(
                self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
            ) -> None:
                seen.put(request)

        with WSClient(serve(Same()).address) as client:
            client.send_text("hello")
            client.leave()
        first, second, third = (seen.get(timeout=PATIENCE) for _ in range(3))
        assert first is second is third


class TestSending:
    @pytest.mark.parametrize(
        ("message", "received"),
        [
            ("grüße 😀", (TEXT, "grüße 😀".encode())),
            ("", (TEXT, b"")),
            (b"\x00\xff", (BINARY, b"\x00\xff")),
            (bytearray(b"abc"), (BINARY, b"abc")),
            (memoryview(b"abcdef")[::2], (BINARY, b"ace")),
            (b"", (BINARY, b"")),
            ("x" * 125, (TEXT, b"x" * 125)),
            ("x" * 126, (TEXT, b"x" * 126)),
            (bytes(65535), (BINARY, bytes(65535))),
            (bytes(65536), (BINARY, bytes(65536))),
            ("ß" * 3_000_000, (TEXT, "ß".encode() * 3_000_000)),
        ],
        ids=range(11),
    )
    @pytest.mark.parametrize("extensions", ["foo", "permessage-deflate"])
    def test_from_another_thread(
        self,
        server: HTTPServer,
        app: App,
        message: Any,
        received: tuple[int, bytes],
        extensions: str,
    ) -> None:
        offer = f"Sec-WebSocket-Extensions: {extensions}"
        with WSClient(server.address, "/inline", offer) as client:
            request = request_of(app)
            sender = threading.Thread(target=request.send, args=(message,))
            sender.start()
            assert client.read_message() == received
            sender.join()
            eventually(lambda: request.buffered == 0)

    @pytest.mark.parametrize("message", [None, 7, 1.5, ["a"], {"a": 1}, object()])
    def test_what_is_no_message_is_refused(
        self, server: HTTPServer, app: App, message: Any
    ) -> None:
        with WSClient(server.address, "/inline") as client:
            request = request_of(app)
            with pytest.raises(TypeError, match=type(message).__name__):
                request.send(message)
            with pytest.raises(ValueError, match="surrogate"):
                request.send("\ud800")
            # It is open as before.
            request.send("hello")
            assert client.read_text() == "hello"

    @pytest.mark.parametrize("path", ["/sizes/10", "/sizes/70000"])
    def test_many_from_a_handler(self, server: HTTPServer, path: str) -> None:
        with WSClient(server.address, path) as client:
            client.send_text("1000")
            size = int(path.rpartition("/")[2])
            for _ in range(1000):
                assert client.read_message() == (BINARY, bytes(size))

    def test_pings(self, server: HTTPServer, app: App) -> None:
        with WSClient(server.address, "/pings") as client:
            client.tells_keep_alive = True
            request = request_of(app)
            assert event(app) == (Open, "")
            for payload in (b"", b"hello", b"x" * 125):
                request.ping(payload)
                assert client.read_frame() == Frame(PING, payload)
                client.send(frame(PONG, payload))
                assert event(app) == (Pong, payload)
            with pytest.raises(ValueError, match="125"):
                request.ping(b"x" * 126)
            request.send("hello")
            assert client.read_text() == "hello"

    def test_what_is_known_of_it(self, server: HTTPServer, app: App) -> None:
        clients = [WSClient(server.address, "/inline") for _ in range(20)]
        requests = [request_of(app) for _ in clients]
        assert len({request.uid for request in requests}) == 20
        for request in requests:
            assert not request.closed
            assert request.subprotocol is None
            assert request.buffered == 0
            assert (request.close_code, request.close_reason) == (None, "")
            assert request.remote == "127.0.0.1"
        for client in clients:
            client.leave(1001, "bye")
            client.sock.close()
        for _ in range(20):
            while event(app)[0] is not Close:
                pass
        for request in requests:
            assert request.closed
            assert (request.close_code, request.close_reason) == (1001, "bye")
            with pytest.raises(WebSocketClosed) as caught:
                request.send("too late")
            assert (caught.value.code, caught.value.reason) == (1001, "bye")
            with pytest.raises(WebSocketClosed):
                request.ping()
            request.close()


class TestFailing:
    @pytest.mark.parametrize(
        "error", [ZeroDivisionError, SystemExit, KeyboardInterrupt, MemoryError, TypeError]
    )
    @pytest.mark.parametrize("blocking", [None, True, False])
    def test_a_handler_that_raises_closes_with_1011(
        self, serve: Serve, logged: Records, error: type[BaseException], blocking: bool | None
    ) -> None:
        events: queue.SimpleQueue[tuple[WebSocketOpCode, int | None]] = queue.SimpleQueue()

        class Failing(Resource):
            @websocket("/", blocking=blocking)
            def fail(
                self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
            ) -> None:
                events.put((opcode, request.close_code))
                if opcode is Text:
                    request.send("about to fail")
                    raise error

        server = serve(Failing())
        with WSClient(server.address) as client:
            client.send_text("fail")
            client.send_text("never seen")
            assert client.read_text() == "about to fail"
            assert client.is_left()[0] == 1011
        assert events.get(timeout=PATIENCE)[0] is Open
        assert events.get(timeout=PATIENCE)[0] is Text
        assert events.get(timeout=PATIENCE)[0] is Close
        assert events.empty()
        assert len(logged.at_least(logging.ERROR)) == 1
        with WSClient(server.address):
            pass

    def test_a_handler_that_fails_at_the_end_is_only_logged(
        self, serve: Serve, logged: Records
    ) -> None:
        ended = threading.Event()

        class Failing(Resource):
            @websocket("/")
            def fail(
                self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
            ) -> None:
                if opcode is Close:
                    ended.set()
                    raise ZeroDivisionError

        server = serve(Failing())
        with WSClient(server.address) as client:
            assert client.leave() == (1000, "")
            assert ended.wait(PATIENCE)
        server.stop()
        assert len(logged.at_least(logging.ERROR)) == 1

    @pytest.mark.usefixtures("quiet")
    def test_that_the_client_has_left_is_no_failure(self, serve: Serve) -> None:
        ended = threading.Event()

        class Late(Resource):
            @websocket("/")
            def late(
                self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
            ) -> None:
                if opcode is Close:
                    ended.set()
                    request.send("too late")

        with WSClient(serve(Late()).address) as client:
            client.leave()
            assert ended.wait(PATIENCE)


class TestTheIndependentClient:
    """websocket-client talks to each kind of handler."""

    @pytest.mark.parametrize("path", ["/waiting", "/waiting-learned", "/waiting-inline"])
    def test_it_talks(self, server: HTTPServer, path: str) -> None:
        url = server.url.replace("http", "ws")
        client = independent.create_connection(url + path, timeout=PATIENCE)
        for text in ("hello", "grüße 😀", "", "x" * 100_000):
            client.send(text)
            assert client.recv() == text
        client.ping("there?")
        opcode, received = client.recv_data_frame(control_frame=True)
        assert (opcode, received.data) == (PONG, b"there?")
        client.close()
        assert not client.connected

    def test_it_is_pinged(self, server: HTTPServer, app: App) -> None:
        url = server.url.replace("http", "ws") + "/pings"
        client = independent.create_connection(url, timeout=PATIENCE)
        request = request_of(app)
        assert event(app) == (Open, "")
        request.ping(b"there?")
        request.send("hello")
        assert client.recv() == "hello"
        assert event(app) == (Pong, b"there?")
        request.close(4000, "enough")
        opcode, received = client.recv_data_frame(control_frame=True)
        assert (opcode, received.data) == (8, b"\x0f\xa0enough")
        assert client.sock is not None
        client.sock.close()
