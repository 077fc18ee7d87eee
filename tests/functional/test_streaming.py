"""Answers that come in pieces, from iterators in workers and from files pumped by the loop."""

from __future__ import annotations

import gc
import io
import logging
import os
import tempfile
import threading
from typing import TYPE_CHECKING

import pytest

from resource_server import (
    Headers,
    Limits,
    NotFound,
    Request,
    Resource,
    Response,
    StreamResponse,
    get,
    post,
)
from tests.conftest import server_threads
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resource_server import HTTPServer
    from tests.conftest import Serve
    from tests.functional.conftest import Records


class Source:
    """An iterator that tells what happens to it."""

    def __init__(self, pieces: list[object], *, fails_to_close: bool = False) -> None:
        self.pieces = iter(pieces)
        self.started = threading.Event()
        self.closed = threading.Event()
        self.fails_to_close = fails_to_close

    def __iter__(self) -> Source:
        return self

    def __next__(self) -> bytes:
        self.started.set()
        piece = next(self.pieces)
        if isinstance(piece, BaseException):
            raise piece
        if callable(piece):
            piece = piece()
        assert isinstance(piece, bytes)
        return piece

    def close(self) -> None:
        self.closed.set()
        if self.fails_to_close:
            raise RuntimeError("cannot close")


class App(Resource):
    """Answers with what a test puts in."""

    def __init__(self) -> None:
        super().__init__()
        self.response: Response | None = None
        self.workers: list[str] = []

    @get("/")
    def index(self, request: Request) -> str:
        return "hello"

    @get("/it")
    def it(self, request: Request) -> Response:
        assert self.response is not None
        return self.response

    @post("/it")
    def posted(self, request: Request) -> Response:
        assert self.response is not None
        return self.response


class Shrinking(io.BytesIO):
    """A file that has lost its end since it was measured."""

    def __init__(self, size: int) -> None:
        super().__init__(bytes(size))
        self.gone = threading.Event()

    def close(self) -> None:
        super().close()
        self.gone.set()


class Unreadable(Shrinking):
    def read(self, size: int | None = -1) -> bytes:
        raise RuntimeError("no disk")


def file_response(file: io.IOBase, length: int | None) -> Response:
    response = Response(None)
    response.body = None
    response.file = file  # type: ignore[assignment]
    response.content_length = length
    return response


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


class TestIterators:
    def test_each_piece_is_sent_when_it_is_made(self, client: Client, app: App) -> None:
        gate = threading.Semaphore(0)

        def pieces() -> Iterator[bytes]:
            for number in range(3):
                assert gate.acquire(timeout=PATIENCE)
                yield b"%d" % number

        app.response = StreamResponse(pieces())
        client.ask("/it")
        gate.release()
        client.head()
        assert client.some() == b"1\r\n0\r\n"
        gate.release()
        assert client.some() == b"1\r\n1\r\n"
        gate.release()
        assert client._exactly(11) == b"1\r\n2\r\n0\r\n\r\n"

    def test_an_empty_piece_sends_the_head(self, client: Client, app: App) -> None:
        gate = threading.Event()
        app.response = StreamResponse(Source([b"", lambda: bytes([gate.wait(PATIENCE)])]))
        client.ask("/it")
        assert b"200 OK" in client.head()
        gate.set()
        assert client._exactly(6) == b"1\r\n\x01\r\n"

    def test_a_stream_may_be_empty(self, client: Client, app: App) -> None:
        app.response = StreamResponse(iter(()))
        assert client.get("/it").body == b""
        assert client.get("/").body == b"hello"

    def test_others_are_served_while_streams_run(
        self, server: HTTPServer, app: App, client: Client
    ) -> None:
        gate = threading.Event()
        sources = [Source([b"a", lambda: bytes([gate.wait(PATIENCE)])]) for _ in range(8)]
        clients = []
        for source in sources:
            app.response = StreamResponse(source)
            clients.append(Client(server.address))
            clients[-1].ask("/it")
            clients[-1].head()
        assert client.get("/").body == b"hello"
        gate.set()
        for each in clients:
            assert each.some() == b"1\r\na\r\n"
            each.sock.close()

    def test_the_iterator_is_closed_when_it_is_done(self, client: Client, app: App) -> None:
        source = Source([b"a"])
        app.response = StreamResponse(source)
        assert client.get("/it").body == b"a"
        assert source.closed.wait(PATIENCE)

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
    def test_without_content_it_is_closed_unread(
        self, client: Client, app: App, method: str, status: int
    ) -> None:
        source = Source([b"a"])
        app.response = StreamResponse(source, status)
        answer = client.get("/it", method=method)
        assert (answer.status, answer.body) == (status, b"")
        assert source.closed.wait(PATIENCE)
        assert not source.started.is_set()
        assert client.get("/").body == b"hello"

    @pytest.mark.usefixtures("quiet")
    @pytest.mark.parametrize("vanish", ["close", "reset"])
    def test_the_iterator_is_closed_when_the_client_leaves(
        self, client: Client, app: App, vanish: str
    ) -> None:
        source = Source([bytes(1000)] * 10_000_000)
        app.response = StreamResponse(source)
        client.ask("/it")
        client.head()
        if vanish == "close":
            client.sock.close()
        else:
            client.reset()
        assert source.closed.wait(PATIENCE)

    def test_a_failure_before_the_first_piece_is_a_500(
        self, client: Client, app: App, logged: Records
    ) -> None:
        source = Source([ZeroDivisionError("oops")])
        app.response = StreamResponse(source)
        answer = client.get("/it")
        assert answer.status == 500
        assert b"oops" not in answer.body
        assert source.closed.is_set()
        assert len(logged.at_least(logging.ERROR)) == 1
        assert client.get("/").body == b"hello"

    def test_an_http_error_before_the_first_piece_is_its_answer(
        self, client: Client, app: App, logged: Records
    ) -> None:
        app.response = StreamResponse(Source([NotFound("no such stream")]))
        answer = client.get("/it", "Accept: application/json")
        assert (answer.status, answer.fields["content-type"]) == (404, "application/json")
        assert logged.at_least(logging.WARNING) == []

    @pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
    def test_a_later_failure_cuts_the_stream(
        self, client: Client, app: App, logged: Records, error: type[BaseException]
    ) -> None:
        source = Source([b"a", error()])
        app.response = StreamResponse(source)
        client.ask("/it")
        client.head()
        assert client.rest() == b"1\r\na\r\n"
        assert source.closed.is_set()
        assert len(logged.at_least(logging.ERROR)) == 1

    def test_for_http_1_0_the_cut_is_a_reset(self, client: Client, app: App) -> None:
        """A plain end would tell it that the content is complete."""
        read = threading.Event()

        def fail() -> bytes:
            read.wait(PATIENCE)
            raise ZeroDivisionError

        app.response = StreamResponse(Source([b"a", fail]))
        client.ask("/it", version="1.0")
        client.head()
        assert client.some() == b"a"
        read.set()
        with pytest.raises(ConnectionResetError):
            client.some()

    @pytest.mark.parametrize("length", [1, 3])
    def test_a_wrong_length_cuts_the_stream(self, client: Client, app: App, length: int) -> None:
        app.response = StreamResponse(Source([b"a", b"b"]), content_length=length)
        client.ask("/it")
        client.head()
        assert client.rest() == b"ab"[:length]

    def test_a_failure_to_close_is_logged(self, client: Client, app: App, logged: Records) -> None:
        for method in ("GET", "HEAD"):
            source = Source([b"a"], fails_to_close=True)
            app.response = StreamResponse(source)
            assert client.get("/it", method=method).status == 200
            assert source.closed.wait(PATIENCE)
        assert client.get("/").body == b"hello"
        assert logged.at_least(logging.ERROR) == ["A response could not be closed."] * 2

    def test_a_stream_sent_twice_is_an_error(
        self, client: Client, app: App, logged: Records
    ) -> None:
        app.response = StreamResponse(iter([b"a"]))
        assert client.get("/it").body == b"a"
        assert client.get("/it").status == 500
        assert "A response could not be sent." in logged.at_least(logging.ERROR)

    def test_a_stream_that_blocks_is_stopped_with_the_server(
        self, server: HTTPServer, client: Client, app: App
    ) -> None:
        source = Source([bytes(1000)] * 10_000_000)
        app.response = StreamResponse(source)
        client.ask("/it")
        client.head()
        assert server.stop(0.2)
        assert source.closed.is_set()


class TestFiles:
    @pytest.mark.parametrize("size", [0, 1, 262_144, 5_000_000])
    def test_a_file_is_sent_from_its_position(self, client: Client, app: App, size: int) -> None:
        content = os.urandom(size)
        with tempfile.TemporaryFile() as file:
            file.write(b"before" + content + b"after")
            file.seek(6)
            app.response = file_response(file, size)
            answer = client.get("/it")
            assert answer.body == content
            assert answer.fields["content-length"] == str(size)
            assert client.get("/").body == b"hello"
            assert file.closed

    def test_head_closes_the_file(self, client: Client, app: App) -> None:
        file = Shrinking(10)
        app.response = file_response(file, 10)
        assert client.get("/it", method="HEAD").fields["content-length"] == "10"
        assert file.gone.wait(PATIENCE)
        assert client.get("/").body == b"hello"

    def test_slow_readers_of_files_hold_no_thread(
        self, serve: Serve, app: App, client: Client
    ) -> None:
        server = serve(app, threads=1, loops=1)
        before = len(server_threads())
        slow = []
        for _ in range(10):
            app.response = file_response(io.BytesIO(bytes(20_000_000)), 20_000_000)
            slow.append(Client(server.address, receive_buffer=4096))
            slow[-1].ask("/it")
            slow[-1].head()
        assert client.get("/").body == b"hello"
        # Two servers, each with perhaps a worker.
        assert len(server_threads()) <= before + 2
        assert len(slow[3]._exactly(20_000_000)) == 20_000_000
        for each in slow:
            each.sock.close()

    @pytest.mark.usefixtures("quiet")
    def test_a_file_that_shrinks_cuts_the_connection(self, client: Client, app: App) -> None:
        file = Shrinking(1_000_000)
        app.response = file_response(file, 2_000_000)
        with pytest.raises(EOFError, match="1000000 bytes early"):
            client.get("/it")
        assert file.gone.wait(PATIENCE)

    @pytest.mark.usefixtures("quiet")
    def test_a_file_is_closed_when_the_client_leaves(self, client: Client, app: App) -> None:
        file = Shrinking(50_000_000)
        app.response = file_response(file, 50_000_000)
        client.ask("/it")
        client.head()
        client.reset()
        assert file.gone.wait(PATIENCE)

    def test_a_file_that_cannot_be_read_cuts_the_connection(
        self, client: Client, app: App, logged: Records
    ) -> None:
        file = Unreadable(10)
        app.response = file_response(file, 10)
        with pytest.raises(EOFError):
            client.get("/it")
        assert file.gone.wait(PATIENCE)
        assert logged.at_least(logging.ERROR) == ["The file of a response could not be read."]

    def test_a_file_without_length_is_an_error(
        self, client: Client, app: App, logged: Records
    ) -> None:
        file = Shrinking(10)
        app.response = file_response(file, None)
        assert client.get("/it").status == 500
        assert file.gone.wait(PATIENCE)
        assert logged.at_least(logging.ERROR) == ["A response could not be sent."]

    def test_stop_cuts_a_file_off_and_closes_it(
        self, server: HTTPServer, client: Client, app: App
    ) -> None:
        file = Shrinking(50_000_000)
        app.response = file_response(file, 50_000_000)
        client.ask("/it")
        client.head()
        assert server.stop(0.2)
        assert file.gone.is_set()


class TestLargeAnswers:
    def test_slow_readers_hold_no_thread(self, serve: Serve, app: App) -> None:
        app.response = Response(bytes(20_000_000))
        server = serve(app, threads=1)
        slow = [Client(server.address, receive_buffer=4096) for _ in range(10)]
        for each in slow:
            each.ask("/it")
            each.head()
        with Client(server.address) as client:
            assert client.get("/").body == b"hello"
        assert len(slow[0]._exactly(20_000_000)) == 20_000_000
        for each in slow:
            each.sock.close()

    def test_a_body_follows_a_head_that_did_not_fit(self, serve: Serve, app: App) -> None:
        app.response = Response(bytes(70_000), headers=Headers({"X": "x" * 30_000}))
        server = serve(app, limits=Limits())
        with Client(server.address, receive_buffer=4096) as client:
            for _ in range(200):
                client.ask("/it")
            for _ in range(200):
                assert client.read().body == bytes(70_000)

    def test_an_answer_that_cannot_be_written_down_is_a_500(
        self, client: Client, app: App, logged: Records
    ) -> None:
        app.response = Response("x")
        app.response.headers["Transfer-Encoding"] = "gzip"
        assert client.get("/it").status == 500
        app.response = Response("x", 101)
        assert client.get("/it").status == 500
        assert logged.at_least(logging.ERROR) == ["A response could not be sent."] * 2
        assert client.get("/").body == b"hello"


@pytest.fixture(autouse=True)
def nothing_unclosed() -> Iterator[None]:
    """A file or socket that is only collected would warn here."""
    yield
    gc.collect()
