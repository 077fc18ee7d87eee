"""Stopping with WebSockets open: all are told 1001, and it takes no longer than it may."""

from __future__ import annotations

import gc
import os
import queue
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from resource_server import (
    HTTPServer,
    Limits,
    Resource,
    WebSocketClosed,
    WebSocketGroup,
    WebSocketOpCode,
    WebSocketRequest,
    WebSocketSession,
    websocket,
    websocket_session,
)
from tests.rawclient import PATIENCE, Client
from tests.wsclient import CLOSE, TEXT, WSClient, eventually, frame, opening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Serve

Open, Text, Close = WebSocketOpCode.Open, WebSocketOpCode.Text, WebSocketOpCode.Close
STYLES = ["/inline", "/learned", "/worker", "/session"]


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.server: HTTPServer | None = None
        self.group = WebSocketGroup()
        self.opened = threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.closed: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self.stopped: queue.SimpleQueue[bool] = queue.SimpleQueue()

    @websocket("/inline", blocking=False)
    @websocket("/learned")
    @websocket("/worker", blocking=True)
    def handle(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is Open:
            self.group.add(request)
            self.opened.release()
        elif opcode is Close:
            self.closed.put(request.close_code)
        else:
            self.act(request, payload)

    @websocket_session("/session")
    def converse(self, socket: WebSocketSession) -> None:
        self.group.add(socket)
        self.opened.release()
        try:
            for message in socket:
                self.act(socket, message)
        finally:
            self.closed.put(socket.close_code)

    def act(self, socket: WebSocketRequest | WebSocketSession, message: str | bytes) -> None:
        if message == "wait":
            self.entered.release()
            self.gate.wait(PATIENCE)
        elif message == "flood":
            self.entered.release()
            for _ in range(10_000):
                socket.send(bytes(10_000))
        elif message == "stop":
            assert self.server is not None
            self.stopped.put(self.server.stop())
        else:
            socket.send(message)


@pytest.fixture
def app() -> Iterator[App]:
    app = App()
    yield app
    app.gate.set()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    app.server = serve(app, limits=Limits(closing=10 * PATIENCE))
    return app.server


def stop_within(server: HTTPServer, timeout: float, *, at_most: float) -> bool:
    started = time.monotonic()
    stopped = server.stop(timeout)
    assert time.monotonic() - started < at_most
    return stopped


def stopping(server: HTTPServer, timeout: float = PATIENCE) -> threading.Thread:
    thread = threading.Thread(target=server.stop, args=(timeout,))
    thread.start()
    return thread


def is_told(client: WSClient) -> None:
    assert client.is_left()[0] == 1001


@pytest.mark.usefixtures("quiet")
class TestIdle:
    @pytest.mark.parametrize("path", STYLES)
    def test_all_are_told_and_answer(self, server: HTTPServer, app: App, path: str) -> None:
        with ExitStack() as stack:
            clients = [stack.enter_context(WSClient(server.address, path)) for _ in range(20)]
            for client in clients:
                assert client.echo("hello") == "hello"
            thread = stopping(server)
            for client in clients:
                is_told(client)
                client.sock.close()
            # It need not wait for anything else.
            thread.join(PATIENCE / 2)
            assert not thread.is_alive()
        assert {app.closed.get(timeout=PATIENCE) for _ in clients} == {1001}
        assert app.closed.empty()
        assert len(app.group) == 0

    @pytest.mark.parametrize("path", STYLES)
    @pytest.mark.parametrize("timeout", [0.0, 0.5])
    def test_those_who_do_not_answer_are_cut_off_in_time(
        self, server: HTTPServer, app: App, path: str, timeout: float
    ) -> None:
        with ExitStack() as stack:
            clients = [stack.enter_context(WSClient(server.address, path)) for _ in range(10)]
            for client in clients:
                client.ping()
            assert stop_within(server, timeout, at_most=timeout + 10)
            for client in clients:
                code, _ = client.read_close()
                assert code == 1001
                assert client.is_closed()
            for _ in clients:
                assert app.closed.get(timeout=PATIENCE) == 1006
            assert app.closed.empty()

    def test_beside_http(self, server: HTTPServer, app: App) -> None:
        with (
            WSClient(server.address, "/learned") as client,
            Client(server.address) as idle,
            Client(server.address) as half,
        ):
            half.send(opening("/learned")[:50])
            assert idle.get("/nowhere").status == 404
            assert client.echo("hello") == "hello"
            thread = stopping(server)
            assert idle.is_closed()
            is_told(client)
            client.sock.close()
            half.sock.close()
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def test_a_few_hundred(self, server: HTTPServer, app: App) -> None:
        with ExitStack() as stack:
            clients = [
                stack.enter_context(WSClient(server.address, "/learned")) for _ in range(300)
            ]
            for _ in clients:
                assert app.opened.acquire(timeout=PATIENCE)
            # Half of them answer.
            thread = stopping(server, 3.0)
            for client in clients[::2]:
                assert client.read_close()[0] == 1001
                client.send_close(1001)
            thread.join(PATIENCE)
            assert not server.running
            codes = [app.closed.get(timeout=PATIENCE) for _ in clients]
            assert codes.count(1001) <= 150
            assert set(codes) <= {1001, 1006}
            assert app.closed.empty()


class TestBusy:
    @pytest.mark.usefixtures("quiet")
    @pytest.mark.parametrize("path", STYLES)
    def test_a_handler_may_finish(self, server: HTTPServer, app: App, path: str) -> None:
        with WSClient(server.address, path) as client:
            client.send_text("wait")
            assert app.entered.acquire(timeout=PATIENCE)
            thread = stopping(server)
            # It is told at once.
            assert client.read_close()[0] == 1001
            client.send_close(1001)
            app.gate.set()
            assert client.is_ended()
            client.sock.close()
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert app.closed.get(timeout=PATIENCE) == 1001

    @pytest.mark.parametrize("path", STYLES)
    @pytest.mark.parametrize("timeout", [0.0, 0.3])
    @pytest.mark.usefixtures("logged")
    def test_one_that_does_not_is_left_behind(
        self, server: HTTPServer, app: App, path: str, timeout: float
    ) -> None:
        with WSClient(server.address, path) as client:
            client.send_text("wait")
            assert app.entered.acquire(timeout=PATIENCE)
            assert not stop_within(server, timeout, at_most=timeout + 10)
            assert not server.running
            assert client.read_close()[0] == 1001
            assert client.is_closed()
            # Close is told all the same when it comes back.
            app.gate.set()
            app.closed.get(timeout=PATIENCE)
            assert app.closed.empty()

    @pytest.mark.parametrize("path", STYLES)
    @pytest.mark.usefixtures("quiet")
    def test_a_slow_reader_does_not_hold_it_up(
        self, server: HTTPServer, app: App, path: str
    ) -> None:
        with WSClient(server.address, path, receive_buffer=4096) as client:
            client.send_text("flood")
            assert app.entered.acquire(timeout=PATIENCE)
            eventually(lambda: all(member.buffered > 900_000 for member in app.group))
            stop_within(server, 0.5, at_most=10)
            app.closed.get(timeout=PATIENCE)
            assert app.closed.empty()

    @pytest.mark.parametrize("path", STYLES)
    @pytest.mark.usefixtures("quiet")
    def test_what_was_sent_before_still_arrives(
        self, server: HTTPServer, app: App, path: str
    ) -> None:
        with WSClient(server.address, path, receive_buffer=4096) as client:
            assert app.opened.acquire(timeout=PATIENCE)
            app.group.send(bytes(8_000_000))
            thread = stopping(server)
            assert client.read_binary() == bytes(8_000_000)
            is_told(client)
            client.sock.close()
            thread.join(PATIENCE)
            assert not thread.is_alive()

    @pytest.mark.parametrize("path", STYLES)
    @pytest.mark.usefixtures("quiet")
    def test_from_a_handler(self, server: HTTPServer, app: App, path: str) -> None:
        with WSClient(server.address, path) as client, WSClient(server.address, path) as other:
            client.send_text("stop")
            is_told(client)
            is_told(other)
            # A handler cannot wait for its own end.
            assert app.stopped.get(timeout=PATIENCE) is False
        assert server.wait(PATIENCE)
        assert [app.closed.get(timeout=PATIENCE) for _ in range(2)] == [1001, 1001]

    @pytest.mark.usefixtures("quiet")
    def test_nothing_can_be_sent_afterwards(self, server: HTTPServer, app: App) -> None:
        with WSClient(server.address, "/learned"):
            assert app.opened.acquire(timeout=PATIENCE)
            (member,) = app.group
            stop_within(server, 0.0, at_most=10)
            with pytest.raises(WebSocketClosed):
                member.send("too late")
            member.close()
            assert app.group.send("nobody") == 0
            assert member.closed

    @pytest.mark.usefixtures("logged")
    def test_what_is_opened_meanwhile(self, server: HTTPServer, app: App) -> None:
        """It is refused, told to go away, or cut off; but it is not kept."""
        with Client(server.address) as late, WSClient(server.address, "/worker") as client:
            client.send_text("wait")
            assert app.entered.acquire(timeout=PATIENCE)
            # The head is complete only when the server is stopping.
            request = opening("/learned")
            late.send(request[:-2])
            with Client(server.address) as idle:
                assert idle.get("/nowhere").status == 404
                thread = stopping(server, 5.0)
                assert idle.is_closed()
            try:
                late.send(request[-2:])
                late.rest()
            except ConnectionError:
                pass
            app.gate.set()
            client.sock.close()
            thread.join(PATIENCE)
            assert not thread.is_alive()
            assert not server.running

    @pytest.mark.usefixtures("logged")
    def test_under_load(self, app: App, serve: Serve) -> None:
        for _ in range(5):
            server = serve(app)
            halt = threading.Event()

            def load(address: tuple[str, int], halt: threading.Event) -> None:
                turn = 0
                while not halt.is_set():
                    turn += 1
                    try:
                        with WSClient(address, STYLES[turn % 4]) as client:
                            for size in range(20):
                                client.send(frame(TEXT, b"x" * size))
                                if client.read_frame().opcode == CLOSE:
                                    client.send_close(1001)
                                    break
                    except (OSError, EOFError, AssertionError):
                        pass

            threads = [threading.Thread(target=load, args=(server.address, halt)) for _ in range(4)]
            for thread in threads:
                thread.start()
            with WSClient(server.address, "/inline") as client:
                assert client.echo("hello") == "hello"
            try:
                assert stop_within(server, 10, at_most=20)
            finally:
                halt.set()
                for thread in threads:
                    thread.join()


class TestAgain:
    def test_a_server_starts_again_and_again(self, server: HTTPServer, app: App) -> None:
        def use() -> None:
            for path in STYLES:
                with WSClient(server.address, path) as client:
                    assert client.echo("hello") == "hello"
                    client.leave()
            with WSClient(server.address, "/session"):
                pass

        use()
        assert server.stop()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            server.start()
            use()
            assert server.stop()
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == before

    def test_a_program_ends_with_websockets_open(self) -> None:
        code = """
            import logging, sys, threading, time
            logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
            from resource_server import *
            from tests.wsclient import WSClient

            class App(Resource):
                @websocket("/")
                def echo(self, request, opcode, payload):
                    if opcode is WebSocketOpCode.Close:
                        sys.stdout.write("Close\\n")
                    elif opcode is WebSocketOpCode.Text:
                        request.send(payload)

                @websocket_session("/session")
                def converse(self, socket):
                    for message in socket:
                        socket.send(message)
                    sys.stdout.write("end\\n")

            server = HTTPServer(("127.0.0.1", 0))
            server.register_routes(App())
            server.start()
            clients = [WSClient(server.address, path) for path in ("/", "/session")]
            for client in clients:
                assert client.echo("hello") == "hello"

            def leave(client):
                assert client.is_left() == (1001, "")
                client.sock.close()

            for client in clients:
                threading.Thread(target=leave, args=(client,), daemon=True).start()
        """
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(code)],
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
            check=False,
        )
        assert done.stderr == ""
        assert sorted(done.stdout.split()) == ["Close", "end"]
        assert done.returncode == 0
