"""running: a server for as long as a block lasts."""

from __future__ import annotations

import threading

import pytest
import requests

from resource_server import HTTPServer, Request, Resource, Router, get
from resource_server.testing import ThreadsLeft, running


class Hello(Resource):
    @get("/")
    def hello(self, request: Request) -> str:
        return "hello"


def test_a_server_runs_while_the_block_lasts() -> None:
    with running(Hello, threads=2) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert requests.get(server.url, timeout=30).text == "hello"
    assert not server.running


def test_routers_and_servers_of_ones_own_run_too() -> None:
    router = Router()
    router.register_routes(Hello)
    with running(router) as server:
        assert server.router is router
        assert requests.get(server.url, timeout=30).text == "hello"
    mine = HTTPServer(("127.0.0.1", 0), router=router)
    with running(mine) as server:
        assert server is mine
        assert requests.get(server.url, timeout=30).text == "hello"
        with pytest.raises(RuntimeError, match="running already"), running(mine):
            pass
    with (
        pytest.raises(TypeError, match="give it threads when you make it"),
        running(mine, threads=1),
    ):
        pass


class Stuck(Resource):
    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.thread: threading.Thread | None = None

    @get("/")
    def stuck(self, request: Request) -> None:
        self.thread = threading.current_thread()
        self.entered.set()
        self.go_on.wait(30)


def ask(url: str) -> threading.Thread:
    def run() -> None:
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=30)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.parametrize("also", [False, True])
def test_a_handler_that_does_not_end_is_told_with_its_place(also: bool) -> None:
    stuck = Stuck()
    asking: list[threading.Thread] = []

    def block() -> None:
        with running(stuck, timeout=0.01) as server:
            asking.append(ask(server.url))
            assert stuck.entered.wait(30)
            if also:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError if also else ThreadsLeft) as raised:
        block()
    told = raised.value.__notes__[0] if also else str(raised.value)
    assert "a handler still runs" in told
    assert "self.go_on.wait" in told
    stuck.go_on.set()
    asking[0].join()
    assert stuck.thread is not None
    stuck.thread.join()


def test_what_the_block_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError) as raised, running(Hello) as server:
        raise ZeroDivisionError
    assert not hasattr(raised.value, "__notes__")
    assert not server.running
