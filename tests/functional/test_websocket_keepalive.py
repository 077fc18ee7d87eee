"""Keep-alive: pings to clients that are silent, and the end of those that do not answer."""

from __future__ import annotations

import queue
import selectors
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import websocket as independent

from resource_server import (
    HTTPServer,
    Limits,
    Resource,
    WebSocketClosed,
    WebSocketOpCode,
    WebSocketRequest,
    WebSocketSession,
    websocket,
    websocket_session,
)
from tests.rawclient import PATIENCE
from tests.wsclient import BINARY, CLOSE, PING, PONG, TEXT, WSClient, frame

if TYPE_CHECKING:
    from tests.conftest import Serve

Open, Close, Pong = WebSocketOpCode.Open, WebSocketOpCode.Close, WebSocketOpCode.Pong


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.opened: queue.SimpleQueue[WebSocketRequest] = queue.SimpleQueue()
        self.closed: queue.SimpleQueue[tuple[str, int | None]] = queue.SimpleQueue()
        self.pongs = threading.Semaphore(0)
        self.gate = threading.Event()

    @websocket("/quick", ping_interval=0.2, ping_timeout=0.4)
    @websocket("/busy", ping_interval=0.5, ping_timeout=2.5)
    @websocket("/late", ping_interval=0.2, ping_timeout=10 * PATIENCE)
    @websocket("/patient", ping_interval=0.2, ping_timeout=None)
    @websocket("/silent", ping_interval=None, ping_timeout=0.2)
    @websocket("/usual")
    @websocket("/pings", ping_interval=0.2, ping_timeout=10 * PATIENCE, pings=True)
    def handle(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is Open:
            self.opened.put(request)
        elif opcode is Close:
            self.closed.put((request.path, request.close_code))
        elif opcode is Pong:
            self.pongs.release()
        elif payload == "wait":
            self.gate.wait(PATIENCE)
        elif opcode is WebSocketOpCode.Text:
            request.send(payload)

    @websocket_session("/session", ping_interval=0.2, ping_timeout=0.4)
    @websocket_session("/late-session", ping_interval=0.2, ping_timeout=10 * PATIENCE)
    def converse(self, socket: WebSocketSession) -> None:
        try:
            while True:
                socket.send(socket.receive())
        except WebSocketClosed as closed:
            self.closed.put((socket.request.path, closed.code))


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app)


class Pinged(WSClient):
    """A client to whom pings are what it is about."""

    tells_keep_alive = True


def pinged(client: WSClient) -> bytes:
    """Wait for the next ping: what it says."""
    received = client.read_frame()
    assert received.opcode == PING
    return received.payload


@pytest.mark.usefixtures("quiet")
class TestThoseWhoAnswer:
    @pytest.mark.parametrize("path", ["/late", "/patient", "/pings", "/late-session"])
    def test_they_are_pinged_again_and_again(self, server: HTTPServer, path: str) -> None:
        """However long the server would wait for an answer."""
        with Pinged(server.address, path) as client:
            for _ in range(6):
                client.send(frame(PONG, pinged(client)))
            assert client.leave() == (1000, "")

    def test_pongs_are_told_to_those_who_ask(self, server: HTTPServer, app: App) -> None:
        with Pinged(server.address, "/pings") as client:
            for _ in range(3):
                client.send(frame(PONG, pinged(client)))
                assert app.pongs.acquire(timeout=PATIENCE)

    def test_the_independent_client_answers_by_itself(self, server: HTTPServer, app: App) -> None:
        client = independent.create_connection(
            server.url.replace("http", "ws") + "/pings", timeout=PATIENCE
        )
        reader = threading.Thread(target=client.recv)
        reader.start()
        try:
            for _ in range(4):
                assert app.pongs.acquire(timeout=PATIENCE)
        finally:
            app.opened.get(timeout=PATIENCE).send("done")
            reader.join()
            client.close()

    def test_anything_is_an_answer(self, server: HTTPServer) -> None:
        with Pinged(server.address, "/busy") as client:
            for answer in (frame(PONG, b"another"), frame(PONG), frame(TEXT, b"alive")) * 2:
                pinged(client)
                client.send(answer)
                if answer[0] == 0x81:
                    assert client.read_text() == "alive"

    def test_those_who_talk_need_not_be_asked(self, server: HTTPServer) -> None:
        with Pinged(server.address, "/busy") as client:
            began = time.monotonic()
            while time.monotonic() - began < 4:
                client.send_text("alive")
                while (received := client.read_frame()).opcode == PING:
                    pass
                assert received.payload == b"alive"
                time.sleep(0.05)

    def test_those_whom_nobody_listens_to_may_have_answered(
        self, server: HTTPServer, app: App
    ) -> None:
        """Behind a handler that waits, their messages are not read, so neither are their pongs."""
        with Pinged(server.address, "/quick") as client:
            client.send_text("wait")
            client.sock.settimeout(0.1)
            with pytest.raises(TimeoutError):
                client.send(frame(BINARY, bytes(60_000)) * 1000)
            for _ in range(3):
                with Pinged(server.address, "/quick") as other:
                    pinged(other)
                    assert app.closed.get(timeout=PATIENCE) == ("/quick", 1006)
            app.gate.set()
            client.sock.settimeout(PATIENCE)
            client.reset()
            assert app.closed.get(timeout=PATIENCE) == ("/quick", 1006)


class TestThoseWhoDoNot:
    @pytest.mark.parametrize("path", ["/quick", "/session"])
    @pytest.mark.parametrize("half", [b"", frame(TEXT, b"half")[:7], frame(TEXT, final=False)])
    def test_they_are_given_up(self, server: HTTPServer, app: App, path: str, half: bytes) -> None:
        with Pinged(server.address, path) as client:
            client.send(half)
            pinged(client)
            # A Close may tell why before the connection ends.
            while not client.is_closed():
                pass
            assert app.closed.get(timeout=PATIENCE) == (path, 1006)
        assert app.closed.empty()

    def test_others_stay(self, server: HTTPServer, app: App) -> None:
        with (
            Pinged(server.address, "/silent") as silent,
            Pinged(server.address, "/patient") as patient,
            Pinged(server.address, "/usual") as usual,
        ):
            for _ in range(2):
                with Pinged(server.address, "/quick") as client:
                    pinged(client)
                    assert app.closed.get(timeout=PATIENCE) == ("/quick", 1006)
            # Never pinged; pinged, and not answered; not pinged yet.
            assert silent.echo("hello") == "hello"
            usual.ping()
            for _ in range(5):
                pinged(patient)
            patient.send_text("hello")
            while (received := patient.read_frame()).opcode == PING:
                pass
            assert received.payload == b"hello"

    def test_a_client_that_does_not_answer_the_close_is_given_up_as_well(
        self, app: App, serve: Serve
    ) -> None:
        server = serve(app, limits=Limits(closing=0.2))
        with Pinged(server.address, "/quick") as client:
            app.opened.get(timeout=PATIENCE).close(4000)
            while client.read_frame().opcode != CLOSE:
                pass
            assert client.is_closed()
            assert app.closed.get(timeout=PATIENCE) == ("/quick", 1006)


def test_pings_are_spread_over_time(serve: Serve) -> None:
    """Clients that connect at the same moment are not all pinged at the same moment."""

    class Many(Resource):
        @websocket("/", ping_interval=4.0, ping_timeout=None)
        def handle(
            self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
        ) -> None:
            pass

    server = serve(Many())
    rounds = []
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(40):
            client = stack.enter_context(Pinged(server.address))
            selector.register(client.sock, selectors.EVENT_READ, client)
        while selector.get_map():
            ready = selector.select(PATIENCE)
            assert ready
            rounds.append(len(ready))
            for key, _ in ready:
                pinged(key.data)
                selector.unregister(key.fileobj)
    assert max(rounds) < 32
