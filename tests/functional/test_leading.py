"""Leading the loop is a role: quick handlers run in it, slow ones lose it, and cost nobody else."""

from __future__ import annotations

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from resource_server import Request, Resource, get, post
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from resource_server import HTTPServer
    from tests.conftest import Serve


def role() -> str:
    """Whether this is the thread that leads (or led when it began), or a worker."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name in ("lead", "work"):
            return frame.f_code.co_name
        frame = frame.f_back
    return "?"


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.roles: list[str] = []
        self.running = 0
        self.most = 0
        self.lock = threading.Lock()

    def block(self) -> str:
        self.roles.append(role())
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.entered.release()
        assert self.gate.wait(PATIENCE)
        with self.lock:
            self.running -= 1
        return "unblocked"

    @get("/")
    def index(self, request: Request) -> str:
        return role()

    @get("/learned")
    def learned(self, request: Request) -> str:
        return self.block()

    @post("/learned-post")
    def learned_post(self, request: Request) -> str:
        return self.block() + request.text()

    @get("/never", blocking=False)
    def never(self, request: Request) -> str:
        return self.block()

    @get("/always", blocking=True)
    def always(self, request: Request) -> str:
        return self.block()

    @get("/burn")
    def burn(self, request: Request) -> str:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            pass
        return "burnt"


@pytest.fixture
def app() -> Iterator[App]:
    app = App()
    yield app
    app.gate.set()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app)


def endpoint(server: HTTPServer, path: str):  # type: ignore[no-untyped-def]
    return server.router.resolve(Request(("", 0), "GET", path))


def test_quick_handlers_run_in_the_loop(server: HTTPServer) -> None:
    with Client(server.address) as client:
        assert client.get("/").body == b"lead"


def test_others_are_answered_while_a_handler_blocks_the_leader(
    server: HTTPServer, app: App
) -> None:
    with Client(server.address) as blocked, Client(server.address) as client:
        assert client.get("/").status == 200
        blocked.ask("/learned")
        assert app.entered.acquire(timeout=PATIENCE)
        assert app.roles == ["lead"]
        for _ in range(10):
            assert client.get("/").status == 200
        with Client(server.address) as newcomer:
            assert newcomer.get("/").status == 200
        app.gate.set()
        assert blocked.read().body == b"unblocked"
        assert blocked.get("/").status == 200


def test_a_body_handler_may_block_too(server: HTTPServer, app: App) -> None:
    with Client(server.address) as blocked, Client(server.address) as client:
        blocked.send(b"POST /learned-post HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n!")
        assert app.entered.acquire(timeout=PATIENCE)
        assert client.get("/").status == 200
        app.gate.set()
        assert blocked.read().body == b"unblocked!"


def test_a_slow_route_is_handed_over_from_then_on_and_comes_back(
    server: HTTPServer, app: App
) -> None:
    with Client(server.address) as client:
        client.ask("/learned")
        assert app.entered.acquire(timeout=PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while not endpoint(server, "/learned").slow:
            assert time.monotonic() < deadline
        # Even before the first run has ended, as others may be waiting for the same.
        with Client(server.address) as second:
            second.ask("/learned")
            assert app.entered.acquire(timeout=PATIENCE)
            assert app.roles == ["lead", "work"]
            app.gate.set()
            assert second.read().status == client.read().status == 200
        while app.roles[-1] == "work":
            assert client.get("/learned").status == 200
            assert time.monotonic() < deadline
        assert app.roles[-1] == "lead"
        assert not endpoint(server, "/learned").slow


def test_declared_routes_go_where_they_belong(server: HTTPServer, app: App) -> None:
    app.gate.set()
    with Client(server.address) as client:
        for _ in range(5):
            client.get("/never")
            client.get("/always")
    assert app.roles == ["lead", "work"] * 5


def test_a_route_declared_quick_that_blocks_harms_nobody(server: HTTPServer, app: App) -> None:
    blocked = [Client(server.address) for _ in range(5)]
    with Client(server.address) as client:
        for each in blocked:
            each.ask("/never")
            assert app.entered.acquire(timeout=PATIENCE)
            assert client.get("/").status == 200
    app.gate.set()
    for each in blocked:
        assert each.read().status == 200
        each.sock.close()
    assert app.roles == ["lead"] * 5


def test_without_inline_every_request_is_handed_over(serve: Serve, app: App) -> None:
    server = serve(app, inline=False)
    with Client(server.address) as client:
        for _ in range(3):
            assert client.get("/").body == b"work"


def test_a_handler_that_burns_the_processor_does_not_stop_the_others(
    server: HTTPServer,
) -> None:
    with Client(server.address) as burner, Client(server.address) as client:
        for _ in range(3):
            burner.ask("/burn")
            assert client.get("/").status == 200
            assert burner.read().body == b"burnt"


@pytest.mark.parametrize("path", ["/always", "/learned"])
def test_with_one_worker_slow_requests_wait_their_turn(serve: Serve, app: App, path: str) -> None:
    server = serve(app, threads=1)
    waiting = [Client(server.address) for _ in range(20)]
    with Client(server.address) as client:
        for each in waiting:
            each.ask(path)
        assert app.entered.acquire(timeout=PATIENCE)
        for _ in range(20):
            assert client.get("/").status == 200
        app.gate.set()
        for each in waiting:
            assert each.read().body == b"unblocked"
            each.sock.close()
    # The leader that lost the lead is the second.
    assert app.most <= (1 if path == "/always" else 2)


def test_threads_are_added_up_to_the_limit(serve: Serve, app: App) -> None:
    server = serve(app, threads=5)
    waiting = [Client(server.address) for _ in range(8)]
    for each in waiting:
        each.ask("/always")
    for _ in range(5):
        assert app.entered.acquire(timeout=PATIENCE)
    with Client(server.address) as client:
        assert client.get("/").status == 200
    assert app.most == 5
    app.gate.set()
    for each in waiting:
        assert each.read().status == 200
        each.sock.close()
    assert app.most == 5


@pytest.mark.usefixtures("quiet")
def test_mixed_load_is_answered_completely(serve: Serve) -> None:
    class Mixed(Resource):
        @get("/inline/:n", blocking=False)
        def inline(self, request: Request) -> str:
            time.sleep(0.0055)  # just long enough to lose the lead, and to get it back at times
            return str(request.matches["n"])

        @get("/quick/:n")
        def quick(self, request: Request) -> str:
            return str(request.matches["n"])

        @get("/slow/:n")
        def slow(self, request: Request) -> str:
            time.sleep(0.006)  # the work itself
            return str(request.matches["n"])

    server = serve(Mixed(), threads=4)

    def ask(worker: int) -> bool:
        with Client(server.address) as client:
            for number in range(0, 60, 3):
                paths = ["quick", "slow" if (number + worker) % 2 else "inline", "quick"]
                for ahead, path in enumerate(paths):
                    client.ask(f"/{path}/{worker}-{number + ahead}")
                for ahead in range(3):
                    if client.read().body != f"{worker}-{number + ahead}".encode():
                        return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(16)))
