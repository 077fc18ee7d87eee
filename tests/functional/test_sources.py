"""Responses that are pulled from a source: what the engine promises to it."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import pytest

from resource_server import (
    HTTPServer,
    Limits,
    NotFound,
    Request,
    Resource,
    Response,
    StreamResponse,
    get,
)
from resource_server.engine.crew import Crew
from tests.rawclient import PATIENCE, Client
from tests.sources import App, Told, chunk
from tests.wsclient import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Serve
    from tests.functional.conftest import Records


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app)


@pytest.fixture
def client(server: HTTPServer) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


@pytest.mark.usefixtures("quiet")
class TestPieces:
    @pytest.mark.parametrize("path", ["/it", "/worker"])
    def test_are_sent_as_they_come(self, client: Client, app: App, path: str) -> None:
        client.ask(path)
        assert b"Transfer-Encoding: chunked" in client.head()
        for piece in (b"a", b"bc"):
            app.source.give(piece)
            assert client.some() == chunk(piece)
        app.source.give(b"d", b"")
        assert client._exactly(len(chunk(b"d")) + 5) == chunk(b"d") + b"0\r\n\r\n"
        assert app.source.closed.wait(PATIENCE)
        # The connection goes on.
        assert client.get("/").body == b"hello"
        assert app.source.closings == 1
        assert len(app.source.requests) == 1

    def test_that_are_there_already_are_sent_at_once(self, client: Client, app: App) -> None:
        app.source = Told(*[b"%d" % number for number in range(20)], b"")
        answer = client.get("/it")
        assert answer.chunks == [b"%d" % number for number in range(20)]
        assert client.get("/").body == b"hello"

    def test_larger_than_the_socket_takes_arrive(self, client: Client, app: App) -> None:
        app.source = Told(bytes(5_000_000), b"x" * 3_000_000, b"")
        assert client.get("/it").body == bytes(5_000_000) + b"x" * 3_000_000

    def test_are_not_taken_before_the_client_has_those_before(
        self, server: HTTPServer, app: App
    ) -> None:
        app.source = Told(*[bytes(1_000_000)] * 100, b"")
        with Client(server.address, receive_buffer=4096) as slow, Client(server.address) as other:
            slow.ask("/it")
            slow.head()
            eventually(lambda: app.source.taken)
            # Nor does waking it have them taken.
            for _ in range(20):
                app.source.wake()
                assert other.get("/").body == b"hello"
            assert app.source.taken < 20
        assert app.source.closed.wait(PATIENCE)

    def test_of_others_come_in_between(self, server: HTTPServer, app: App) -> None:
        class Endless(Told):
            def take(self) -> bytes | None:
                super().take()
                return b"x"

        app.source = Endless()
        with Client(server.address) as greedy, Client(server.address) as other:
            greedy.ask("/it")
            greedy.head()
            assert other.get("/").body == b"hello"
            assert greedy.some()
        assert app.source.closed.wait(PATIENCE)

    def test_for_http_1_0_end_with_the_connection(self, client: Client, app: App) -> None:
        app.source = Told(b"a", b"b")
        client.ask("/it", version="1.0")
        head = client.head()
        assert b"Transfer-Encoding" not in head
        assert b"Connection: close" in head
        assert client._exactly(2) == b"ab"
        app.source.give(b"c", b"")
        assert client.rest() == b"c"

    def test_may_have_a_length(self, client: Client, app: App) -> None:
        app.headers = {"Content-Length": "3"}
        app.source = Told(b"ab", b"c", b"")
        answer = client.get("/it")
        assert (answer.body, answer.fields["content-length"]) == (b"abc", "3")

    def test_follow_a_body_that_was_not_read(self, client: Client, app: App) -> None:
        app.source = Told(b"a")
        client.send(b"POST /live HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nabc")
        assert b"Connection: close" in client.head()
        assert client.some() == chunk(b"a")
        client.send(b"def")
        app.source.give(b"")
        assert client.rest() == b"0\r\n\r\n"

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    def test_are_not_asked_for_without_content(
        self, client: Client, app: App, method: str, status: int
    ) -> None:
        app.status = status
        assert client.get("/it", method=method).status == status
        assert app.source.closed.wait(PATIENCE)
        assert not app.source.opened.is_set()
        assert app.source.closings == 1
        assert client.get("/").body == b"hello"


class TestClients:
    @pytest.mark.usefixtures("quiet")
    @pytest.mark.parametrize("vanish", ["close", "reset"])
    def test_that_leave_are_missed_at_once(self, client: Client, app: App, vanish: str) -> None:
        """Nothing has to be sent to find out."""
        client.ask("/it")
        client.head()
        assert app.source.opened.is_set()
        client.sock.close() if vanish == "close" else client.reset()
        assert app.source.closed.wait(PATIENCE)
        assert app.source.closings == 1
        app.source.wake()

    @pytest.mark.usefixtures("quiet")
    def test_that_ask_meanwhile_are_answered_later(self, client: Client, app: App) -> None:
        client.ask("/it")
        client.head()
        for _ in range(3):
            client.ask("/")
        app.source.give(b"a", b"")
        assert client._exactly(11) == chunk(b"a") + b"0\r\n\r\n"
        for _ in range(3):
            assert client.read().body == b"hello"

    @pytest.mark.usefixtures("quiet")
    def test_that_send_too_much_meanwhile_are_held_back(
        self, server: HTTPServer, client: Client, app: App
    ) -> None:
        app.source = Told(b"begin")
        client.ask("/it")
        client.head()
        assert client.some() == chunk(b"begin")
        pipelined = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
        client.sock.setblocking(False)
        sent = 0
        try:
            while True:
                sent += client.sock.send(pipelined * 100)
        except BlockingIOError:
            pass
        client.sock.settimeout(PATIENCE)
        with Client(server.address) as other:
            taken = app.source.taken
            for _ in range(20):
                assert other.get("/").body == b"hello"
        # It was looked at no more often for that.
        assert app.source.taken - taken <= 1
        app.source.give(b"end")
        assert client.some() == chunk(b"end")
        client.sock.close()
        # Nobody listens, so the end shows when something is sent.
        while not app.source.closed.wait(0.01):
            app.source.give(b"anybody?")

    def test_that_take_nothing_are_cut_off(self, serve: Serve, app: App) -> None:
        server = serve(app, limits=Limits(write=0.2))
        app.source = Told(bytes(20_000_000))
        with Client(server.address, receive_buffer=4096) as client:
            client.ask("/it")
            client.head()
            assert app.source.closed.wait(PATIENCE)

    def test_that_take_their_time_are_not(self, serve: Serve, app: App) -> None:
        server = serve(app, limits=Limits(write=1.5))
        app.source = Told(bytes(20_000_000), b"")
        with Client(server.address, receive_buffer=4096) as client:
            client.ask("/it")
            client.head()
            pace = threading.Event()
            size = int(client._until(b"\r\n"), 16)
            for _ in range(20):
                size -= len(client._exactly(1_000_000))
                pace.wait(0.1)
            assert size == 0
            assert client._exactly(7) == b"\r\n0\r\n\r\n"

    @pytest.mark.usefixtures("quiet")
    def test_hear_that_the_server_is_there(self, serve: Serve, app: App) -> None:
        server = serve(app, limits=Limits(write=0.2))
        app.source = Told(keep_alive=0.05)
        with Client(server.address) as client:
            client.ask("/it")
            client.head()
            for _ in range(3):
                assert client.some() == chunk(b".")
            app.source.give(b"a")
            while (data := client.some()) == chunk(b"."):
                pass
            assert data.endswith(chunk(b"a"))

    @pytest.mark.usefixtures("quiet")
    def test_that_vanished_are_found_by_it(self, serve: Serve, app: App) -> None:
        """The first sign of life that the client does not take, after what it did not read."""
        server = serve(app, limits=Limits(write=0.3))
        app.source = Told(keep_alive=0.1)
        app.source.idle_piece = bytes(10_000_000)
        with Client(server.address, receive_buffer=4096) as client:
            client.ask("/it")
            client.head()
            assert app.source.closed.wait(PATIENCE)

    def test_hear_nothing_if_there_is_nothing_to_say(self, serve: Serve, app: App) -> None:
        server = serve(app, limits=Limits(write=0.2))
        app.source = Told(keep_alive=0.02)
        asked = threading.Semaphore(0)

        class Silent(Told):
            def idle(self) -> bytes:
                asked.release()
                return b""

        app.source = Silent(keep_alive=0.02)
        with Client(server.address) as client:
            client.ask("/it")
            client.head()
            for _ in range(3):
                assert asked.acquire(timeout=PATIENCE)
            app.source.give(b"a")
            assert client.some() == chunk(b"a")


class TestFailures:
    def test_to_open_are_answered(self, client: Client, app: App, logged: Records) -> None:
        app.source.on_open = NotFound("no such source")
        answer = client.get("/it")
        assert answer.status == 404
        assert b"no such source" in answer.body
        assert app.source.closings == 1
        assert logged.at_least(logging.WARNING) == []
        app.source = Told()
        app.source.on_open = ZeroDivisionError()
        assert client.get("/it").status == 500
        assert app.source.closings == 1
        assert len(logged.at_least(logging.ERROR)) == 1
        app.source.wake()
        assert client.get("/").body == b"hello"

    def test_to_write_the_head_close_the_source(
        self, client: Client, app: App, logged: Records
    ) -> None:
        app.headers = {"Content-Length": "x"}
        assert client.get("/it").status == 500
        assert app.source.opened.is_set()
        assert app.source.closings == 1
        assert logged.at_least(logging.ERROR) == ["A response could not be sent."]
        assert client.get("/").body == b"hello"

    @pytest.mark.parametrize("piece", [ZeroDivisionError(), SystemExit(), "text", bytearray(b"x")])
    def test_cut_the_content(
        self, client: Client, app: App, logged: Records, piece: object
    ) -> None:
        app.source = Told(b"a", piece)
        client.ask("/it")
        client.head()
        assert client.rest() == chunk(b"a")
        assert app.source.closed.wait(PATIENCE)
        assert logged.at_least(logging.ERROR) == ["The source of a response failed."]

    def test_for_http_1_0_are_a_reset(self, client: Client, app: App) -> None:
        app.source = Told(b"a")
        client.ask("/it", version="1.0")
        client.head()
        assert client.some() == b"a"
        app.source.give(ZeroDivisionError())
        with pytest.raises(ConnectionResetError):
            client.some()

    @pytest.mark.parametrize("length", [1, 3])
    def test_to_be_as_long_as_announced_cut_it(self, client: Client, app: App, length: int) -> None:
        app.headers = {"Content-Length": str(length)}
        app.source = Told(b"a", b"b", b"")
        client.ask("/it")
        client.head()
        assert client.rest() == b"ab"[:length]
        assert app.source.closed.wait(PATIENCE)

    @pytest.mark.parametrize("piece", [ZeroDivisionError(), "text"])
    def test_to_show_a_sign_of_life_cut_it(
        self, client: Client, app: App, logged: Records, piece: object
    ) -> None:
        app.source = Told(keep_alive=0.01)
        app.source.idle_piece = piece
        client.ask("/it")
        client.head()
        assert client.rest() == b""
        assert app.source.closed.wait(PATIENCE)
        assert logged.at_least(logging.ERROR) == ["The source of a response failed."]

    def test_to_close_are_logged(self, client: Client, app: App, logged: Records) -> None:
        class Stuck(Told):
            def close(self) -> None:
                super().close()
                raise RuntimeError

        app.source = Stuck(b"a", b"")
        assert client.get("/it").body == b"a"
        assert client.get("/").body == b"hello"
        assert logged.at_least(logging.ERROR) == ["The source of a response could not be closed."]

    def test_for_want_of_a_thread_close_it_as_well(
        self, client: Client, app: App, logged: Records, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert client.get("/").body == b"hello"

        def submit(*_: object, **__: object) -> bool:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(Crew, "submit", submit)
        assert client.get("/it").status == 500
        assert app.source.closings == 1
        assert not app.source.opened.is_set()
        assert any("thread" in message for message in logged.at_least(logging.ERROR))

    def test_of_a_response_that_was_sent_before_are_a_500(
        self, serve: Serve, logged: Records
    ) -> None:
        response = Response(None)
        response.body = None
        response.source = source = Told(b"a", b"")

        class Same(Resource):
            @get("/")
            def same(self, request: Request) -> Response:
                return response

        with Client(serve(Same()).address) as client:
            assert client.get("/").body == b"a"
            assert client.get("/").status == 500
        assert source.closings == 1
        assert logged.at_least(logging.ERROR) == ["A response could not be sent."]

    def test_that_lead_to_another_stream_are_that(self, serve: Serve, app: App) -> None:
        server = serve(app)
        server.router.error_handler(KeyError, lambda request, error: StreamResponse([b"instead"]))
        app.source.on_open = KeyError()
        with Client(server.address) as client:
            assert client.get("/it").body == b"instead"
