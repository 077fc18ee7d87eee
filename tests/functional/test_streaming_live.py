"""Streams that go on: flushed piece by piece, both ways at once, left early, with trailers."""

from __future__ import annotations

import hashlib
import logging
import threading
import zlib
from typing import TYPE_CHECKING

import pytest

from resource_server import (
    HTTPServer,
    Limits,
    Request,
    Resource,
    Response,
    StreamResponse,
    get,
    post,
)
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Serve
    from tests.functional.conftest import Records


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Semaphore(0)
        self.waiting = threading.Semaphore(0)
        self.closed = threading.Event()
        self.trailers: dict[str, object] = {}

    def pieces(self) -> Iterator[bytes]:
        try:
            for number in range(1000):
                self.waiting.release()
                assert self.gate.acquire(timeout=PATIENCE)
                yield b"%d" % number
        finally:
            self.closed.set()

    @get("/")
    def index(self, request: Request) -> str:
        return "hello"

    @get("/pieces")
    def stream(self, request: Request) -> Response:
        return StreamResponse(self.pieces(), compress=True, content_type="text/plain")

    @post("/echo", stream=True, max_content_length=1_000_000_000)
    def echo(self, request: Request) -> Response:
        def answers() -> Iterator[bytes]:
            while piece := request.stream.read(65536):
                yield b"<" + piece + b">"

        return StreamResponse(answers())

    @get("/trailers")
    def with_trailers(self, request: Request) -> Response:
        digest = hashlib.sha256()

        def pieces() -> Iterator[bytes]:
            for number in range(3):
                digest.update(b"%d" % number)
                yield b"%d" % number

        return StreamResponse(
            pieces(),
            compress=True,
            content_type="text/plain",
            trailers={"X-Digest": digest.hexdigest, "X-Error": lambda: None, **self.trailers},  # type: ignore[dict-item]
        )


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


@pytest.fixture(autouse=True)
def no_stream_waits(app: App, serve: Serve) -> Iterator[None]:
    """Before the server is stopped, let streams come to their end."""
    yield
    app.gate.release(2000)


class TestFlushing:
    def test_each_piece_can_be_unpacked_when_it_comes(self, client: Client, app: App) -> None:
        decompressor = zlib.decompressobj(31)
        client.ask("/pieces", "Accept-Encoding: gzip")
        app.gate.release()
        assert b"Content-Encoding: gzip" in client.head()
        for number in range(3):
            size = int(client._until(b"\r\n"), 16)
            piece = client._exactly(size + 2)[:-2]
            assert decompressor.decompress(piece) == b"%d" % number
            app.gate.release()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class TestBothWays:
    def test_each_answer_comes_before_the_next_is_asked(self, client: Client) -> None:
        """One request, one response, and a conversation in them."""
        client.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(chunk(b"0"))
        assert b"200 OK" in client.head()
        assert client.some() == chunk(b"<0>")
        for number in range(1, 50):
            said = b"%d" % number * number
            client.send(chunk(said))
            assert client._exactly(len(chunk(b"<%b>" % said))) == chunk(b"<%b>" % said)
        client.send(b"0\r\n\r\n")
        assert client.rest() == b"0\r\n\r\n"

    def test_the_client_may_end_first(self, client: Client) -> None:
        client.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\na")
        client.head()
        assert client.some() == chunk(b"<a>")
        client.send(b"b")
        client.half_close()
        assert client.rest() == chunk(b"<b>") + b"0\r\n\r\n"

    def test_who_waits_for_leave_gets_it(self, client: Client) -> None:
        client.send(
            b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        assert client.read().status == 100
        client.send(b"a")
        assert client.read().body == b"<a>"

    def test_a_client_that_only_sends_is_cut_off(self, serve: Serve, app: App) -> None:
        """Both would wait for each other for ever."""
        server = serve(app, limits=Limits(write=0.3))
        with Client(server.address, receive_buffer=4096) as client:
            client.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 99999999\r\n\r\n")
            try:
                for _ in range(900):
                    client.send(bytes(100_000))
            except ConnectionError:
                return
            pytest.fail("it took all")


class TestLeaving:
    @pytest.mark.usefixtures("quiet")
    @pytest.mark.parametrize("vanish", ["close", "reset"])
    def test_what_waits_is_closed_behind_the_next_piece(
        self, client: Client, app: App, vanish: str
    ) -> None:
        client.ask("/pieces")
        app.gate.release(2)
        client.head()
        client._exactly(12)
        for _ in range(3):
            assert app.waiting.acquire(timeout=PATIENCE)
        client.sock.close() if vanish == "close" else client.reset()
        # A stream that waits cannot be told, but it is told then.
        assert not app.closed.wait(0.05)
        app.gate.release()
        assert app.closed.wait(PATIENCE)

    @pytest.mark.usefixtures("quiet")
    def test_who_only_ends_its_side_still_gets_all(self, client: Client, app: App) -> None:
        client.ask("/pieces")
        client.half_close()
        app.gate.release()
        client.head()
        for number in range(20):
            assert client._exactly(len(chunk(b"%d" % number))) == chunk(b"%d" % number)
            assert not app.closed.wait(0.015)
            app.gate.release()

    def test_what_waits_is_closed_when_the_server_has_stopped(
        self, server: HTTPServer, client: Client, app: App
    ) -> None:
        client.ask("/pieces")
        app.gate.release()
        client.head()
        assert client.some() == chunk(b"0")
        for _ in range(2):
            assert app.waiting.acquire(timeout=PATIENCE)
        assert not server.stop(0.1)
        app.gate.release()
        assert app.closed.wait(PATIENCE)


class TestTrailers:
    DIGEST = hashlib.sha256(b"012").hexdigest()

    def test_follow_chunked_content(self, client: Client) -> None:
        answer = client.get("/trailers")
        assert answer.body == b"012"
        assert answer.fields["trailer"] == "X-Digest, X-Error"
        assert answer.trailers == f"X-Digest: {self.DIGEST}\r\n".encode()
        assert client.get("/").body == b"hello"

    def test_follow_packed_content_too(self, client: Client) -> None:
        answer = client.get("/trailers", "Accept-Encoding: gzip")
        assert zlib.decompress(answer.body, 31) == b"012"
        assert answer.trailers == f"X-Digest: {self.DIGEST}\r\n".encode()

    def test_are_announced_to_head(self, client: Client) -> None:
        answer = client.get("/trailers", method="HEAD")
        assert answer.fields["trailer"] == "X-Digest, X-Error"
        assert client.get("/").body == b"hello"

    def test_are_not_for_http_1_0(self, client: Client) -> None:
        answer = client.get("/trailers", version="1.0")
        assert (answer.body, "trailer" in answer.fields) == (b"012", False)

    @pytest.mark.parametrize("value", ["a\r\nX-Forged: b", "\ud800", 1.5])
    def test_that_cannot_be_sent_cut_the_content(
        self, client: Client, app: App, logged: Records, value: object
    ) -> None:
        app.trailers["X-Late"] = lambda: value
        client.ask("/trailers")
        client.head()
        assert client.rest() == chunk(b"0") + chunk(b"1") + chunk(b"2")
        assert logged.at_least(logging.ERROR) == ["A streamed response failed after 3 bytes."]
