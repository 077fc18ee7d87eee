"""Several loops in one server: each connection belongs to one of them, and all end together."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import requests

from resource_server import (
    HTTPServer,
    Limits,
    Request,
    Resource,
    WebSocketGroup,
    WebSocketOpCode,
    WebSocketRequest,
    get,
    post,
    websocket,
)
from resource_server.engine.loop import Loop
from tests.conftest import server_threads
from tests.rawclient import PATIENCE, Client
from tests.wsclient import WSClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Serve
    from tests.functional.conftest import Records

LOOPS = 3


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.group = WebSocketGroup()
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)

    @get("/")
    def index(self, request: Request) -> str:
        return "hello"

    @get("/thread", blocking=False)
    def thread(self, request: Request) -> str:
        return threading.current_thread().name

    @get("/wait", blocking=False)
    def wait(self, request: Request) -> str:
        self.entered.release()
        assert self.gate.wait(PATIENCE)
        return "waited"

    @post("/echo")
    def echo(self, request: Request) -> bytes:
        return request.body()

    @get("/numbers")
    def numbers(self, request: Request) -> Iterator[str]:
        for number in range(100):
            yield f"{number}\n"

    @websocket("/live")
    def live(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is WebSocketOpCode.Open:
            self.group.add(request)
        elif opcode is WebSocketOpCode.Text:
            self.group.send(payload)


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app, loops=LOOPS)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.usefixtures("quiet")
class TestServing:
    def test_each_loop_has_its_share_and_keeps_it(
        self, server: HTTPServer, stack: ExitStack
    ) -> None:
        clients = [stack.enter_context(Client(server.address)) for _ in range(4 * LOOPS)]
        first = [client.get("/thread").body for client in clients]
        assert len(set(first)) == LOOPS
        assert {first.count(name) for name in first} == {4}
        assert [client.get("/thread").body for client in clients] == first

    def test_an_idle_server_has_two_threads_for_each(self, server: HTTPServer) -> None:
        assert len(server_threads()) == 2 * LOOPS

    def test_many_clients_at_once(self, server: HTTPServer) -> None:
        def ask(number: int) -> bool:
            with requests.Session() as session:
                for turn in range(20):
                    body = f"{number} {turn}".encode() * 100
                    if session.post(f"{server.url}/echo", body, timeout=PATIENCE).content != body:
                        return False
            return session.get(f"{server.url}/numbers", timeout=PATIENCE).text.count("\n") == 100

        with ThreadPoolExecutor(12) as pool:
            assert all(pool.map(ask, range(24)))

    def test_a_handler_that_holds_one_loop_holds_no_connection_up(
        self, server: HTTPServer, app: App, stack: ExitStack
    ) -> None:
        blocked = [stack.enter_context(Client(server.address)) for _ in range(2 * LOOPS)]
        for client in blocked:
            client.ask("/wait")
        for _ in blocked:
            assert app.entered.acquire(timeout=PATIENCE)
        for _ in range(2 * LOOPS):
            with Client(server.address) as client:
                assert client.get("/").status == 200
        app.gate.set()
        assert [client.read().body for client in blocked] == [b"waited"] * len(blocked)

    def test_a_group_reaches_the_websockets_of_all(
        self, server: HTTPServer, app: App, stack: ExitStack
    ) -> None:
        clients = [stack.enter_context(WSClient(server.address, "/live")) for _ in range(2 * LOOPS)]
        deadline = time.monotonic() + PATIENCE
        while len(app.group) < len(clients):
            assert time.monotonic() < deadline
        for number, client in enumerate(clients):
            client.send_text(f"from {number}")
            assert [each.read_text() for each in clients] == [f"from {number}"] * len(clients)


class TestBounds:
    @pytest.mark.usefixtures("logged")
    def test_the_maximum_is_for_all_together(
        self, app: App, serve: Serve, stack: ExitStack
    ) -> None:
        server = serve(app, loops=LOOPS, max_connections=4, limits=Limits(closing=0.2))
        clients = [stack.enter_context(Client(server.address)) for _ in range(4)]
        for client in clients:
            assert client.get("/").status == 200
        for _ in range(LOOPS):
            with Client(server.address) as client:
                assert client.read().status == 503
        for client in clients:
            assert client.get("/").status == 200

    @pytest.mark.parametrize("loops", [0, -1])
    def test_there_is_at_least_one(self, loops: int) -> None:
        with pytest.raises(ValueError, match="loops must be at least 1"):
            HTTPServer(("127.0.0.1", 0), loops=loops)

    def test_by_default_there_is_one_unless_threads_run_at_once(self, serve: Serve) -> None:
        serve()
        parallel = not getattr(sys, "_is_gil_enabled", lambda: True)()
        cores: Any = getattr(os, "process_cpu_count", os.cpu_count)()
        assert len(server_threads()) == (2 * cores if parallel else 2)


class TestEnds:
    def test_a_stop_ends_all_of_them(self, app: App, serve: Serve, stack: ExitStack) -> None:
        server = serve(app, loops=LOOPS)
        idle = [stack.enter_context(Client(server.address)) for _ in range(2 * LOOPS)]
        for client in idle:
            assert client.get("/").status == 200
        busy = [stack.enter_context(Client(server.address)) for _ in range(LOOPS)]
        for client in busy:
            client.ask("/wait")
        for _ in busy:
            assert app.entered.acquire(timeout=PATIENCE)
        with ThreadPoolExecutor(1) as pool:
            stopped = pool.submit(server.stop, PATIENCE)
            for client in idle:
                assert client.is_closed()
            assert server.running
            app.gate.set()
            assert [client.read().status for client in busy] == [200] * LOOPS
            assert stopped.result()
        assert server.wait(0)
        assert server_threads() == []

    def test_it_starts_again(self, server: HTTPServer) -> None:
        for _ in range(3):
            for _ in range(LOOPS):
                with Client(server.address) as client:
                    assert client.get("/").status == 200
            assert server.stop()
            server.start()

    def test_connections_that_come_while_it_stops_are_closed(self, app: App, serve: Serve) -> None:
        server = serve(app, loops=LOOPS)
        done = threading.Event()

        def connect() -> None:
            while not done.is_set():
                try:
                    with Client(server.address) as client:
                        client.get("/")
                except (OSError, EOFError):
                    pass

        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(connect) for _ in range(4)]
            for _ in range(5):
                assert server.stop()
                server.start()
            done.set()
            for each in running:
                each.result()

    def test_an_address_that_is_taken_leaves_nothing_behind(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            server = HTTPServer(taken.getsockname(), loops=LOOPS)
            with pytest.raises(OSError, match="cannot listen"):
                server.start()
        assert server_threads() == []

    @pytest.mark.parametrize("failing", range(2 * LOOPS))
    def test_threads_that_cannot_be_had_leave_nothing_behind(
        self, app: App, monkeypatch: pytest.MonkeyPatch, failing: int
    ) -> None:
        started: list[threading.Thread] = []
        start = threading.Thread.start

        def start_some(thread: threading.Thread) -> None:
            if thread.name.startswith("resource_server"):
                if len(started) == failing:
                    raise RuntimeError("can't start new thread")
                started.append(thread)
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", start_some)
        server = HTTPServer(("127.0.0.1", 0), loops=LOOPS)
        with pytest.raises(OSError, match="can't start new thread"):
            server.start()
        assert not server.running

    def test_a_loop_that_cannot_be_made_leaves_nothing_behind(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made = 0
        opens = Loop._open

        def open_some(loop: Loop, max_connections: int) -> None:
            nonlocal made
            made += 1
            if made == LOOPS:
                raise OSError(24, "Too many open files")
            opens(loop, max_connections)

        monkeypatch.setattr(Loop, "_open", open_some)
        with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1:0: Too many open files"):
            HTTPServer(("127.0.0.1", 0), loops=LOOPS).start()


def test_one_loop_more_or_less_makes_no_difference_to_the_log(
    app: App, serve: Serve, logged: Records
) -> None:
    server = serve(app, loops=LOOPS)
    assert [text for text in logged.at_least(logging.INFO) if "Serving" in text] == [
        f"Serving on {server.url}"
    ]
