"""Backpressure: clients that do not read what they are sent, or send more than can be handled."""

from __future__ import annotations

import queue
import random
import threading
import time
from typing import TYPE_CHECKING

import pytest

from resource_server import (
    HTTPServer,
    Limits,
    Request,
    Resource,
    WebSocketClosed,
    WebSocketOpCode,
    WebSocketRequest,
    get,
    websocket,
)
from tests.rawclient import PATIENCE, Client
from tests.wsclient import BINARY, CLOSE, PING, PONG, TEXT, WSClient, eventually, frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Serve

Open, Text, Binary = WebSocketOpCode.Open, WebSocketOpCode.Text, WebSocketOpCode.Binary
Close = WebSocketOpCode.Close
OFFER = "Sec-WebSocket-Extensions: permessage-deflate"

#: Bytes that may wait, on the routes here, and those of a message.
ROOM = 200_000
SIZE = 10_000
#: What frames have besides messages.
HEADS = 1000
#: More than the system's own buffers take, which are some megabytes.
MANY = 3000
#: What the buffers of the system take at most, in both directions.
SYSTEM = 16_000_000


def message(number: int) -> bytes:
    """A message that tells its number, and does not compress."""
    return number.to_bytes(4, "big") + random.Random(number).randbytes(SIZE - 4)


MESSAGES = [message(number) for number in range(MANY)]


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.opened: queue.SimpleQueue[WebSocketRequest] = queue.SimpleQueue()
        self.closed: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.handled = 0
        self.gate = threading.Event()
        self.failures: queue.SimpleQueue[BaseException] = queue.SimpleQueue()

    @websocket("/inline", blocking=False, max_buffered=ROOM, ping_interval=None)
    @websocket("/learned", max_buffered=ROOM, ping_interval=None)
    @websocket("/worker", blocking=True, max_buffered=ROOM, ping_interval=None)
    @websocket("/drop", max_buffered=ROOM, overflow="drop", ping_interval=None)
    @websocket("/close", max_buffered=ROOM, overflow="close", ping_interval=None)
    def handle(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is Open:
            self.opened.put(request)
        elif opcode is Close:
            self.closed.put(request.close_code)
        elif payload == "flood":
            try:
                for data in MESSAGES:
                    request.send(data)
            except WebSocketClosed as error:
                self.failures.put(error)
                raise
        else:
            self.handled += 1
            request.send(payload)

    @websocket("/count", blocking=False, ping_interval=None)
    def count(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is Text:
            # Others get the interpreter meanwhile, above all the one who sends.
            time.sleep(0.0003)
            self.handled += 1

    @websocket("/other", ping_interval=None)
    def other(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is Text:
            request.send(payload)

    @websocket("/waiting", blocking=True, ping_interval=None)
    def waiting(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is Text:
            self.gate.wait(PATIENCE)
        elif opcode is Binary:
            self.handled += 1

    @get("/")
    def index(self, request: Request) -> str:
        return "hello"

    def open(self) -> WebSocketRequest:
        return self.opened.get(timeout=PATIENCE)


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app, limits=Limits(write=10 * PATIENCE, closing=10 * PATIENCE))


def slow(server: HTTPServer, path: str, *fields: str) -> WSClient:
    """A client into whose buffers not much fits, and whom the server has begun to serve."""
    client = WSClient(server.address, path, *fields, receive_buffer=4096)
    client.ping()
    return client


def others_are_served(server: HTTPServer) -> None:
    with WSClient(server.address, "/other") as other, Client(server.address) as browser:
        assert other.echo("hello") == "hello"
        assert browser.get("/").body == b"hello"


def numbers(client: WSClient) -> Iterator[int]:
    """The messages that come until a Close, each in whole."""
    while True:
        received = client.read_frame()
        if received.opcode == CLOSE:
            return
        assert received.opcode == BINARY
        data = received.payload
        if received.rsv:
            assert client.deflate is not None
            data = client.deflate.decompress(data)
        number = int.from_bytes(data[:4], "big")
        assert data == MESSAGES[number]
        yield number


@pytest.mark.usefixtures("quiet")
class TestBlock:
    @pytest.mark.parametrize("path", ["/inline", "/learned", "/worker"])
    @pytest.mark.parametrize("fields", [(), (OFFER,)], ids=["plain", "deflate"])
    def test_a_handler_waits_for_a_slow_reader_and_nobody_else_does(
        self, server: HTTPServer, app: App, path: str, fields: tuple[str, ...]
    ) -> None:
        with slow(server, path, *fields) as client:
            request = app.open()
            client.send_text("flood")
            eventually(lambda: request.buffered > ROOM - 2 * SIZE)
            for _ in range(3):
                others_are_served(server)
                assert request.buffered <= ROOM + HEADS
            for number in range(MANY):
                assert next(numbers(client)) == number
            eventually(lambda: request.buffered == 0)
            assert client.echo("still there") == "still there"

    def test_so_do_threads(self, server: HTTPServer, app: App) -> None:
        with slow(server, "/inline") as client:
            request = app.open()

            def send(first: int) -> None:
                for number in range(first, MANY, 4):
                    request.send(MESSAGES[number])

            threads = [threading.Thread(target=send, args=(first,)) for first in range(4)]
            for thread in threads:
                thread.start()
            eventually(lambda: request.buffered > ROOM - 2 * SIZE)
            assert request.buffered <= ROOM + HEADS
            others_are_served(server)
            received = numbers(client)
            assert sorted(next(received) for _ in range(MANY)) == list(range(MANY))
            for thread in threads:
                thread.join()

    def test_a_message_larger_than_all_room_goes_alone(self, server: HTTPServer, app: App) -> None:
        with slow(server, "/inline") as client:
            request = app.open()
            large = bytes(5 * ROOM)

            def send() -> None:
                for _ in range(20):
                    request.send(large)

            thread = threading.Thread(target=send)
            thread.start()
            for _ in range(20):
                assert client.read_binary() == large
            thread.join()

    @pytest.mark.parametrize("fields", [(), (OFFER,)], ids=["plain", "deflate"])
    def test_close_does_not_wait_for_those_who_wait(
        self, server: HTTPServer, app: App, fields: tuple[str, ...]
    ) -> None:
        with slow(server, "/worker", *fields) as client:
            request = app.open()
            client.send_text("flood")
            eventually(lambda: request.buffered > ROOM - 2 * SIZE)
            request.close(4000)
            assert isinstance(app.failures.get(timeout=PATIENCE), WebSocketClosed)
            # What was accepted for sending is sent, and then the Close.
            received = list(numbers(client))
            assert received == list(range(len(received)))
            client.send_close(4000)
            assert client.is_ended()
            assert app.closed.get(timeout=PATIENCE) == 4000

    def test_many_slow_readers_leave_workers_for_others(self, app: App, serve: Serve) -> None:
        server = serve(app, threads=2, limits=Limits(write=10 * PATIENCE))
        clients = [slow(server, "/worker") for _ in range(10)]
        requests = [app.open() for _ in clients]
        for client in clients:
            client.send_text("flood")
        eventually(lambda: all(request.buffered > ROOM - 2 * SIZE for request in requests))
        others_are_served(server)
        for client in clients:
            client.reset()
        for _ in clients:
            app.failures.get(timeout=PATIENCE)

    def test_when_very_many_wait_no_worker_waits_for_long(
        self, server: HTTPServer, app: App, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("resource_server.engine.crew.MAX_WAITING", 0)
        with slow(server, "/worker") as client:
            client.send_text("flood")
            assert isinstance(app.failures.get(timeout=PATIENCE), WebSocketClosed)
            while (received := client.read_frame()).opcode == BINARY:
                pass
            assert received.payload[:2] == b"\x03\xf5"

    @pytest.mark.parametrize("path", ["/inline", "/worker"])
    def test_one_that_takes_nothing_is_cut_off_in_the_end(
        self, app: App, serve: Serve, path: str
    ) -> None:
        server = serve(app, limits=Limits(write=0.3))
        with slow(server, path) as client:
            client.send_text("flood")
            assert isinstance(app.failures.get(timeout=PATIENCE), WebSocketClosed)
            assert app.closed.get(timeout=PATIENCE) == 1006
            # What the system had taken arrives, and not all that was to be sent.
            with pytest.raises((ConnectionError, EOFError)):
                list(numbers(client))

    def test_one_that_takes_a_little_is_not(self, app: App, serve: Serve) -> None:
        """The deadline is for no progress at all: all together takes longer."""
        server = serve(app, limits=Limits(write=2.0))
        with slow(server, "/worker") as client:
            client.send_text("flood")
            began = time.monotonic()
            received = numbers(client)
            for number in range(MANY):
                if time.monotonic() - began < 3:
                    time.sleep(0.002)
                assert next(received) == number


@pytest.mark.usefixtures("quiet")
class TestDrop:
    @pytest.mark.parametrize("fields", [(), (OFFER,)], ids=["plain", "deflate"])
    def test_the_oldest_are_dropped(
        self, server: HTTPServer, app: App, fields: tuple[str, ...]
    ) -> None:
        with slow(server, "/drop", *fields) as client:
            request = app.open()
            for data in MESSAGES:
                # Never blocks.
                request.send(data)
                assert request.buffered <= ROOM + HEADS
            others_are_served(server)
            request.close(4000)
            received = list(numbers(client))
            assert received == sorted(set(received))
            assert len(received) < MANY
            # The last are there, as many as there is room for.
            assert received[-15:] == list(range(MANY - 15, MANY))
            client.send_close(4000)
            assert client.is_ended()

    def test_from_a_handler(self, server: HTTPServer, app: App) -> None:
        with slow(server, "/drop") as client:
            client.send(frame(TEXT, b"flood") + frame(BINARY, MESSAGES[-1]))
            received = numbers(client)
            last = -1
            # The echo of the last shows that the flood is over.
            while (number := next(received)) != MANY - 1 or last != MANY - 1:
                assert number > last
                last = number

    def test_a_message_larger_than_all_room_is_sent(self, server: HTTPServer, app: App) -> None:
        with slow(server, "/drop") as client:
            request = app.open()
            large = bytes(5 * ROOM)
            request.send(large)
            assert client.read_binary() == large


@pytest.mark.usefixtures("quiet")
class TestClose:
    def test_it_is_closed_with_1013(self, server: HTTPServer, app: App) -> None:
        with slow(server, "/close") as client:
            request = app.open()
            sent = 0
            while not request.closed:
                try:
                    request.send(MESSAGES[sent])
                except WebSocketClosed:
                    break
                sent += 1
            assert request.closed
            assert sent < MANY
            others_are_served(server)
            read = 0
            while (received := client.read_frame()).opcode == BINARY:
                assert received.payload == MESSAGES[read]
                read += 1
            assert received.opcode == CLOSE
            assert received.payload[:2] == b"\x03\xf5"
            assert read <= sent
            client.send_close(1013)
            assert client.is_ended()
            assert app.closed.get(timeout=PATIENCE) == 1013

    def test_from_a_handler(self, server: HTTPServer, app: App) -> None:
        with slow(server, "/close") as client:
            client.send_text("flood")
            assert isinstance(app.failures.get(timeout=PATIENCE), WebSocketClosed)
            while (received := client.read_frame()).opcode == BINARY:
                pass
            assert received.payload[:2] == b"\x03\xf5"

    def test_one_that_reads_is_not_closed(self, server: HTTPServer) -> None:
        with WSClient(server.address, "/close") as client:
            for number in range(300):
                client.send(frame(BINARY, MESSAGES[number]))
                assert client.read_binary() == MESSAGES[number]


class Sender:
    """Sends in a thread of its own, and tells how far it has come."""

    def __init__(self, client: WSClient, data: bytes, times: int, last: bytes = b"") -> None:
        self.sent = 0
        self._client, self._data, self._times, self._last = client, data, times, last
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            for _ in range(self._times):
                self._client.send(self._data)
                self.sent += len(self._data)
            self._client.send(self._last)
        except OSError:
            pass

    def join(self) -> None:
        self._thread.join()


@pytest.mark.usefixtures("quiet")
class TestFloods:
    """What the client sends is read only as fast as it is handled."""

    @pytest.mark.parametrize("path", ["/inline", "/learned", "/worker"])
    def test_of_one_that_does_not_read_the_answers(
        self, server: HTTPServer, app: App, path: str
    ) -> None:
        with slow(server, path) as client:
            request = app.open()
            sender = Sender(client, frame(BINARY, MESSAGES[0]), MANY)
            eventually(lambda: request.buffered > ROOM - 2 * SIZE)
            for _ in range(3):
                others_are_served(server)
                assert request.buffered <= ROOM + HEADS
            assert app.handled * SIZE < SYSTEM
            assert sender.sent < 2 * SYSTEM
            received = numbers(client)
            for _ in range(MANY):
                assert next(received) == 0
            sender.join()

    def test_of_small_messages(self, server: HTTPServer, app: App) -> None:
        with WSClient(server.address, "/count") as client:
            sender = Sender(client, frame(TEXT, b"ab") * 8000, 1000)
            try:
                eventually(lambda: app.handled > 1000)
                # The system keeps little of what is not read soon.
                assert sender.sent < 5_000_000
            finally:
                client.reset()
                sender.join()

    def test_of_pings_that_are_not_read(self, server: HTTPServer, app: App) -> None:
        """§5.5.3: the answer to the last of them may stand for all."""
        with slow(server, "/learned") as client:
            request = app.open()
            pings = b"".join(frame(PING, b"%d" % number) for number in range(1000))
            sender = Sender(client, pings, 200, last=frame(PING, b"the last"))
            eventually(lambda: sender.sent > 1_000_000)
            for _ in range(3):
                others_are_served(server)
                assert request.buffered <= ROOM + HEADS
            while (received := client.read_frame()).payload != b"the last":
                assert received.opcode == PONG
                assert request.buffered <= ROOM + HEADS
            sender.join()
            assert client.echo("hello") == "hello"

    def test_of_messages_that_nobody_gets_to(self, server: HTTPServer, app: App) -> None:
        """Behind a handler that waits."""
        with WSClient(server.address, "/waiting") as client:
            client.send_text("wait")
            sender = Sender(client, frame(BINARY, MESSAGES[0]), 2 * MANY)
            eventually(lambda: sender.sent > 300_000)
            for _ in range(3):
                others_are_served(server)
                with WSClient(server.address, "/waiting") as another:
                    another.ping()
            assert sender.sent < SYSTEM
            app.gate.set()
            sender.join()
            eventually(lambda: app.handled == 2 * MANY)
