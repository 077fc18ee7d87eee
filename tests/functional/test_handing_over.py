"""Stopping while another server takes the address over: no client shall notice."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from resource_server import HTTPServer, Limits, Request, Resource, get
from resource_server.engine.loop import Loop
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Serve


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()

    @get("/")
    def index(self, request: Request) -> str:
        return "hello"

    @get("/wait", blocking=True)
    def wait(self, request: Request) -> str:
        self.entered.release()
        self.gate.wait(PATIENCE)
        return "waited"


@pytest.fixture
def app() -> Iterator[App]:
    app = App()
    yield app
    app.gate.set()


def begin_stop(server: HTTPServer, grace: float) -> threading.Thread:
    """Begin to stop; returns when nobody is accepted any more."""
    stopping = threading.Thread(target=server.stop, args=(PATIENCE,), kwargs={"idle_grace": grace})
    stopping.start()
    while True:
        try:
            Client(server.address).sock.close()
        except ConnectionError:
            return stopping


class TestIdleGrace:
    """Connections that are idle when the server stops may send one more request."""

    @pytest.fixture(params=[1, 3])
    def server(self, app: App, serve: Serve, request: pytest.FixtureRequest) -> HTTPServer:
        return serve(app, loops=request.param)

    def test_one_more_request_is_answered(self, server: HTTPServer) -> None:
        with Client(server.address) as idle, Client(server.address) as fresh:
            assert "connection" not in idle.get("/").fields
            stopping = begin_stop(server, PATIENCE)
            for client in (idle, fresh):
                answer = client.get("/")
                assert (answer.body, answer.fields["connection"]) == (b"hello", "close")
                assert client.is_closed()
        # Clients that end of their own accord are not waited for.
        stopping.join(PATIENCE)
        assert not server.running

    def test_a_request_that_has_begun_is_answered(self, app: App, serve: Serve) -> None:
        server = serve(app)
        with Client(server.address) as client, Client(server.address) as idle:
            client.send(b"GET / HTTP/1.1\r\n")
            for _ in range(2):
                # After the second one the beginning has been read.
                assert idle.get("/").status == 200
            stopping = begin_stop(server, 0.01)
            # The grace is over.
            assert idle.is_closed()
            client.send(b"Host: a\r\n\r\n")
            assert client.read().fields["connection"] == "close"
        stopping.join(PATIENCE)

    def test_a_later_stop_without_it_ends_it(self, server: HTTPServer) -> None:
        with Client(server.address) as idle:
            assert idle.get("/").status == 200
            stopping = begin_stop(server, PATIENCE)
            assert server.stop(PATIENCE)
            assert idle.is_closed()
        stopping.join(PATIENCE)

    def test_what_is_answered_meanwhile_is_the_last(self, app: App, server: HTTPServer) -> None:
        with Client(server.address) as client:
            client.ask("/wait")
            assert app.entered.acquire(timeout=PATIENCE)
            stopping = begin_stop(server, PATIENCE)
            app.gate.set()
            assert client.read().fields["connection"] == "close"
        stopping.join(PATIENCE)
        assert not server.running


def test_a_request_that_comes_as_its_connection_expires_is_answered(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has arrived, so its client could not know of a close."""
    server = serve(App(), limits=Limits(keep_alive=0.2))
    swept = Loop._sweep
    with Client(server.address) as client:
        assert client.get("/").status == 200
        asked = threading.Event()

        def sweep_late(loop: Loop) -> None:
            if not asked.is_set():
                # What this loop has been told of is older than the request.
                client.ask("/")
                asked.set()
            swept(loop)

        monkeypatch.setattr(Loop, "_sweep", sweep_late)
        assert client.read().body == b"hello"
        assert client.is_closed()
