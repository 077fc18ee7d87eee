"""Threads: many that send into one connection, many connections on few, and none for idle ones."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

import pytest

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
from tests.conftest import server_threads
from tests.rawclient import PATIENCE, Client
from tests.wsclient import BINARY, CLOSE, PING, TEXT, WSClient, eventually, frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Serve

Open, Text, Close = WebSocketOpCode.Open, WebSocketOpCode.Text, WebSocketOpCode.Close
OFFER = "Sec-WebSocket-Extensions: permessage-deflate"


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.opened: queue.SimpleQueue[WebSocketRequest] = queue.SimpleQueue()
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.calls: list[tuple[str, int]] = []

    @websocket("/inline", blocking=False)
    @websocket("/learned")
    @websocket("/worker", blocking=True)
    def handle(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        self.calls.append((request.uid, threading.get_ident()))
        if opcode is Open:
            self.opened.put(request)
        elif payload == "wait":
            self.entered.release()
            self.gate.wait(PATIENCE)
            request.send("waited")
        elif payload == "slow":
            time.sleep(0.02)
            request.send("slow")
        elif opcode is Text:
            request.send(payload)

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
    return serve(app)


def together(*functions: Callable[[], object]) -> list[threading.Thread]:
    """Start a thread for each; they begin at once."""
    barrier = threading.Barrier(len(functions))

    def run(function: Callable[[], object]) -> None:
        barrier.wait()
        function()

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.mark.usefixtures("quiet")
class TestManySenders:
    @pytest.mark.parametrize("fields", [(), (OFFER,)], ids=["plain", "deflate"])
    @pytest.mark.parametrize("size", [10, 1000, 30_000])
    def test_messages_arrive_whole_and_in_the_order_of_each_thread(
        self, server: HTTPServer, app: App, fields: tuple[str, ...], size: int
    ) -> None:
        with WSClient(server.address, "/inline", *fields) as client:
            request = app.open()

            def sender(number: int) -> Callable[[], None]:
                def send() -> None:
                    for turn in range(20):
                        request.send(f"{number} {turn} ".ljust(size, "x"))

                return send

            threads = together(*[sender(number) for number in range(40)])
            turns = dict.fromkeys(range(40), 0)
            for _ in range(40 * 20):
                text = client.read_text()
                number, turn, rest = text.split(" ", 2)
                assert len(text) == size
                assert rest.strip("x") == ""
                assert turns[int(number)] == int(turn)
                turns[int(number)] += 1
            join(threads)
            assert client.leave() == (1000, "")

    def test_two_hundred_threads(self, server: HTTPServer, app: App) -> None:
        with WSClient(server.address, "/worker") as client:
            request = app.open()
            threads = together(*[lambda n=n: request.send(f"{n}") for n in range(200)])
            assert sorted(int(client.read_text()) for _ in range(200)) == list(range(200))
            join(threads)

    def test_control_frames_go_between_messages(self, server: HTTPServer, app: App) -> None:
        with WSClient(server.address, "/inline", OFFER) as client:
            request = app.open()

            def messages() -> None:
                for _ in range(200):
                    request.send("m" * 3000)

            def pings() -> None:
                for _ in range(200):
                    request.ping(b"p" * 100)

            threads = together(messages, messages, pings, pings)
            seen = {TEXT: 0, PING: 0}
            for _ in range(800):
                received = client.read_frame()
                seen[received.opcode] += 1
                if received.opcode == PING:
                    assert received.payload == b"p" * 100
                else:
                    assert client.deflate is not None
                    data = received.payload
                    if received.rsv:
                        data = client.deflate.decompress(data)
                    assert data == b"m" * 3000
            assert seen == {TEXT: 400, PING: 400}
            join(threads)

    def test_handlers_and_threads_at_once(self, server: HTTPServer, app: App) -> None:
        with WSClient(server.address, "/worker", OFFER) as client:
            request = app.open()

            def messages() -> None:
                for turn in range(100):
                    request.send(b"%d" % turn * 300)

            threads = together(messages, messages)
            for turn in range(100):
                client.send_compressed(TEXT, b"%d" % turn * 300)
            texts = 0
            for _ in range(300):
                opcode, payload = client.read_message()
                if opcode == TEXT:
                    assert payload == b"%d" % texts * 300
                    texts += 1
            assert texts == 100
            join(threads)

    @pytest.mark.parametrize("end", ["close", "client", "reset"])
    def test_all_of_them_hear_that_it_is_closed(
        self, server: HTTPServer, app: App, end: str
    ) -> None:
        with WSClient(server.address, "/inline") as client:
            request = app.open()
            ended: queue.SimpleQueue[int] = queue.SimpleQueue()

            def flood() -> None:
                try:
                    while True:
                        request.send("x" * 10_000)
                except WebSocketClosed as closed:
                    ended.put(closed.code)

            threads = together(*[flood] * 20)
            # Let them block.
            eventually(lambda: request.buffered > 500_000)
            if end == "close":
                request.close(4000)
            elif end == "client":
                client.send_close(4000)
            else:
                client.reset()
            codes = {ended.get(timeout=PATIENCE) for _ in threads}
            assert codes <= {1006} if end == "reset" else {1006, 4000}
            join(threads)


@pytest.mark.usefixtures("quiet")
class TestManyConnections:
    @pytest.mark.parametrize("path", ["/inline", "/learned", "/worker"])
    @pytest.mark.parametrize("inline", [True, False])
    def test_more_than_there_are_workers(
        self, app: App, serve: Serve, path: str, inline: bool
    ) -> None:
        server = serve(app, threads=2, inline=inline)
        clients = [WSClient(server.address, path) for _ in range(30)]
        for turn in range(5):
            for number, client in enumerate(clients):
                client.send_text(f"{number} {turn}")
            for number, client in enumerate(clients):
                assert client.read_text() == f"{number} {turn}"
        for client in clients:
            assert client.leave() == (1000, "")
            client.sock.close()

    def test_a_handler_that_waits_holds_nobody_else(self, server: HTTPServer, app: App) -> None:
        for path in ("/inline", "/learned", "/worker"):
            app.gate.clear()
            with WSClient(server.address, path) as client, WSClient(server.address, path) as other:
                client.send_text("wait")
                assert app.entered.acquire(timeout=PATIENCE)
                assert other.echo("hello") == "hello"
                with Client(server.address) as browser:
                    assert browser.get("/").body == b"hello"
                app.gate.set()
                assert client.read_text() == "waited"

    def test_slow_handlers_are_handed_over(self, server: HTTPServer, app: App) -> None:
        """A route that is found to be slow runs in workers, several connections at a time."""
        clients = [WSClient(server.address, "/learned") for _ in range(8)]
        for client in clients:
            client.send(frame(TEXT, b"slow") * 10)
        for client in clients:
            for _ in range(10):
                assert client.read_text() == "slow"
            client.sock.close()
        assert len({thread for _, thread in app.calls}) > 2

    def test_idle_ones_need_no_thread(self, app: App, serve: Serve) -> None:
        server = serve(app)
        clients = [
            WSClient(server.address, path)
            for path in ("/inline", "/learned", "/worker")
            for _ in range(50)
        ]
        for client in clients:
            assert client.echo("hello") == "hello"
        # The loop's own two, and one or two that were workers a moment ago.
        eventually(lambda: len(server_threads()) <= 12)
        assert len(server_threads()) < len(clients) // 10
        for client in clients:
            assert client.echo("still here") == "still here"
            client.sock.close()

    def test_an_idle_one_is_not_cut_off_as_http_would_be(self, app: App, serve: Serve) -> None:
        from resource_server import Limits

        server = serve(
            app, limits=Limits(keep_alive=0.2, head=0.2, body_idle=0.2, write=0.2, closing=0.2)
        )
        with WSClient(server.address, "/inline") as client, Client(server.address) as browser:
            assert client.echo("hello") == "hello"
            half = frame(BINARY, b"half a frame, and more later")
            client.send(half[:10])
            for _ in range(2):
                with Client(server.address) as idle:
                    assert idle.get("/").status == 200
                    assert idle.is_closed()
            assert browser.is_closed()
            client.send(half[10:])
            assert client.echo("hello again") == "hello again"
            assert client.leave() == (1000, "")

    def test_connections_come_and_go_in_many_threads(self, server: HTTPServer) -> None:
        def visit() -> None:
            for turn in range(10):
                path = ("/inline", "/learned", "/worker")[turn % 3]
                with WSClient(server.address, path, *[OFFER] * (turn % 2)) as client:
                    for size in (1, 300, 3000):
                        assert client.echo("x" * size) == "x" * size
                    if turn % 4:
                        assert client.leave() == (1000, "")

        join(together(*[visit] * 12))


def test_a_handler_may_talk_to_another_connection(serve: Serve) -> None:
    """And those two to each other, at the same time, without a deadlock."""
    members: list[WebSocketRequest] = []

    class Pair(Resource):
        @websocket("/", blocking=False)
        def relay(
            self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
        ) -> None:
            if opcode is Open:
                members.append(request)
            elif opcode is Text:
                for member in members:
                    if member is not request:
                        member.send(payload)

    server = serve(Pair())
    with WSClient(server.address) as one, WSClient(server.address) as two:
        eventually(lambda: len(members) == 2)

        def talk(client: WSClient) -> Callable[[], None]:
            def run() -> None:
                for turn in range(200):
                    client.send_text(f"{turn} " + "x" * 500)

            return run

        threads = together(talk(one), talk(two))
        for client in (one, two):
            for turn in range(200):
                assert client.read_text().startswith(f"{turn} ")
        join(threads)


def test_closing_from_a_callback_of_another(serve: Serve) -> None:
    """The Close of one closes the others: each is told once."""
    members: list[WebSocketRequest] = []
    closes: queue.SimpleQueue[str] = queue.SimpleQueue()

    class Chain(Resource):
        @websocket("/")
        def chain(
            self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
        ) -> None:
            if opcode is Open:
                members.append(request)
            elif opcode is Close:
                closes.put(request.uid)
                for member in members:
                    member.close(4000)

    server = serve(Chain())
    clients = [WSClient(server.address) for _ in range(10)]
    eventually(lambda: len(members) == 10)
    clients[0].send_close(1000)
    assert clients[0].read_close() == (1000, "")
    for client in clients[1:]:
        assert client.read_frame().opcode == CLOSE
        client.send_close(4000)
    for client in clients:
        assert client.is_ended()
        client.sock.close()
    assert len({closes.get(timeout=PATIENCE) for _ in clients}) == 10
    assert closes.empty()
