"""stream=True: the handler reads the body while it arrives."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from resource_server import (
    ContentTooLarge,
    Disconnected,
    Limits,
    Request,
    RequestTimeout,
    Resource,
    Response,
    StreamResponse,
    post,
)
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resource_server import HTTPServer
    from tests.conftest import Serve

CHUNKED = b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
COUNTED = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[bytes] = []
        self.arrived = threading.Semaphore(0)
        self.failure: BaseException | None = None
        self.failed = threading.Event()
        self.kept: list[Request] = []

    @post("/read", stream=True, max_content_length=100_000)
    def read(self, request: Request) -> Response:
        try:
            while piece := request.stream.read(1000):
                self.pieces.append(piece)
                self.arrived.release()
        except Exception as error:
            self.failure = error
            self.failed.set()
            raise
        return Response(
            b"|".join(self.pieces), headers=[("X-Sum", request.trailers.get("sum", ""))]
        )

    @post("/lines", stream=True)
    def lines(self, request: Request) -> dict[str, object]:
        return {"lines": [line.decode() for line in request.stream]}

    @post("/early", stream=True)
    def early(self, request: Request) -> Response:
        return Response("I have seen enough", 403)

    @post("/swallow", stream=True)
    def swallow(self, request: Request) -> str:
        try:
            request.stream.read()
        except (RequestTimeout, ContentTooLarge, Disconnected) as error:
            return type(error).__name__
        return "all"

    @post("/mirror", stream=True)
    def mirror(self, request: Request) -> Response:
        def upper() -> Iterator[bytes]:
            yield b"begin "
            while piece := request.stream.read(1000):
                yield piece.upper()

        return StreamResponse(upper())

    @post("/mirror-late", stream=True)
    def mirror_late(self, request: Request) -> Response:
        return StreamResponse(iter(lambda: request.stream.read(1000).upper(), b""))

    @post("/keep", stream=True)
    def keep(self, request: Request) -> str:
        self.kept.append(request)
        return "kept"

    @post("/empty", stream=True)
    def empty(self, request: Request) -> dict[str, object]:
        stream = request.stream
        return {
            "read": stream.read().decode(),
            "readable": stream.readable(),
            "writable": stream.writable(),
            "nothing": stream.read(0).decode(),
        }


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app, limits=Limits(body_idle=PATIENCE))


@pytest.fixture
def client(server: HTTPServer) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


def test_each_piece_is_read_when_it_comes(client: Client, app: App) -> None:
    client.send(CHUNKED % b"/read")
    for number in range(5):
        client.send(b"2\r\n%d.\r\n" % number)
        assert app.arrived.acquire(timeout=PATIENCE)
        assert app.pieces == [b"%d." % n for n in range(number + 1)]
    client.send(b"0\r\nSum: 10\r\n\r\n")
    answer = client.read()
    assert (answer.body, answer.fields["x-sum"]) == (b"0.|1.|2.|3.|4.", "10")
    assert client.post("/empty", b"").status == 200


def test_a_counted_body_ends_with_its_last_byte(client: Client) -> None:
    client.send(COUNTED % (b"/lines", 6) + b"a\nb\nc\nPOST /empty HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.read().body == b'{"lines":["a\\n","b\\n","c\\n"]}'
    assert client.read().body == b'{"read":"","readable":true,"writable":false,"nothing":""}'


def test_an_early_answer_is_read_by_a_client_that_goes_on_sending(client: Client) -> None:
    client.send(COUNTED % (b"/early", 1048576))
    client.send(b"x" * 1048576)
    answer = client.read()
    assert (answer.status, answer.fields["connection"]) == (403, "close")


def test_what_is_not_read_is_not_taken_for_a_request(client: Client, app: App) -> None:
    behind = b"POST /keep HTTP/1.1\r\nHost: a\r\n\r\n"
    client.send(COUNTED % (b"/early", len(behind)) + behind)
    assert client.read().status == 403
    assert client.is_closed()
    assert app.kept == []


def test_beyond_the_limit_reading_fails(client: Client, app: App) -> None:
    client.send(CHUNKED % b"/read")
    for _ in range(101):
        client.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
    assert client.read().status == 413
    assert isinstance(app.failure, ContentTooLarge)


def test_a_declared_body_beyond_the_limit_never_reaches_the_handler(
    client: Client, app: App
) -> None:
    client.send(COUNTED % (b"/read", 100_001))
    assert client.read().status == 413
    assert app.failure is None


def test_malformed_chunks_are_a_400(client: Client) -> None:
    client.send(CHUNKED % b"/read" + b"3\r\nabcdef\r\n")
    assert client.read().status == 400
    assert client.is_closed()


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("vanish", ["close", "reset", "half_close"])
def test_a_client_that_leaves_within_the_body_is_disconnected(
    client: Client, app: App, vanish: str
) -> None:
    client.send(CHUNKED % b"/read" + b"2\r\nab\r\n")
    assert app.arrived.acquire(timeout=PATIENCE)
    if vanish == "close":
        client.sock.close()
    else:
        getattr(client, vanish)()
    assert app.failed.wait(PATIENCE)
    assert isinstance(app.failure, Disconnected)


def test_a_silent_client_gets_408(serve: Serve, app: App) -> None:
    server = serve(app, limits=Limits(body_idle=0.2))
    with Client(server.address) as client:
        client.send(CHUNKED % b"/read" + b"2\r\nab\r\n")
        answer = client.read()
        assert (answer.status, answer.fields["connection"]) == (408, "close")
        assert isinstance(app.failure, RequestTimeout)


def test_a_dripping_client_gets_408(serve: Serve, app: App) -> None:
    server = serve(app, limits=Limits(body_idle=0.5, body_rate=1000))
    with Client(server.address) as client:
        client.send(CHUNKED % b"/read")
        pace = threading.Event()
        try:
            while not app.failed.is_set():
                client.send(b"1\r\nx\r\n")
                pace.wait(0.05)
        except ConnectionError:
            pass
        assert isinstance(app.failure, RequestTimeout)
        assert 1 < len(app.pieces) < 100


def test_a_handler_may_answer_its_failures_itself(serve: Serve, app: App) -> None:
    server = serve(app, limits=Limits(body_idle=0.1))
    with Client(server.address) as client:
        client.send(CHUNKED % b"/swallow")
        assert client.read().body == b"RequestTimeout"


def test_the_answer_may_be_streamed_while_the_body_is_read(client: Client) -> None:
    client.send(CHUNKED % b"/mirror")
    assert b"Transfer-Encoding: chunked" in client.head()
    assert client.some() == b"6\r\nbegin \r\n"
    client.send(b"3\r\nabc\r\n")
    assert client.some() == b"3\r\nABC\r\n"
    client.send(b"0\r\n\r\n")
    assert client.some() == b"0\r\n\r\n"


@pytest.mark.usefixtures("quiet")
def test_a_stream_that_reads_a_body_ends_when_the_client_leaves(client: Client) -> None:
    client.send(CHUNKED % b"/mirror-late")
    client.half_close()
    assert client.is_closed()


EXPECTING = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"


def test_continue_is_never_sent_within_an_answer(client: Client) -> None:
    client.send(EXPECTING % b"/mirror")
    client.head()
    client.send(b"abc")
    assert client.rest() == b"6\r\nbegin \r\n3\r\nABC\r\n0\r\n\r\n"


def test_continue_is_sent_ahead_of_an_answer_that_needs_the_body(client: Client) -> None:
    client.send(EXPECTING % b"/mirror-late")
    assert client.read().status == 100
    client.send(b"abc")
    assert client.read().body == b"ABC"


def test_an_answer_that_needs_no_body_asks_for_none(client: Client) -> None:
    client.send(EXPECTING % b"/early")
    assert client.read().status == 403
    assert client.is_closed()


def test_afterwards_the_body_cannot_be_read(client: Client, app: App) -> None:
    client.send(COUNTED % (b"/keep", 3) + b"abc")
    assert client.read().body == b"kept"
    assert client.is_closed()
    with pytest.raises(ValueError, match="while its request is handled"):
        app.kept[0].stream.read()
    assert app.kept[0].disconnected is False
