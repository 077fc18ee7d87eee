"""What is answered in place of the handler's answer, and what then becomes of the connection."""

from __future__ import annotations

import time
from threading import Event
from typing import TYPE_CHECKING

import pytest

from resource_server import (
    BadRequest,
    NotFound,
    Redirect,
    Request,
    Resource,
    Response,
    Router,
    get,
    post,
    put,
)
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Serve

CHUNKS = b"b\r\n01234567890\r\n0\r\n\r\n"
BEHIND = b"GET /behind HTTP/1.1\r\nHost: a\r\n\r\n"


class App(Resource):
    def __init__(self) -> None:
        self.behind = Event()

    @get("/behind")
    def answer_behind(self, _request: Request) -> str:
        self.behind.set()
        return "behind"

    @get("/generator/:how")
    def generate(self, request: Request) -> Iterator[str]:
        if request.matches["how"] == "redirect":
            raise Redirect("/elsewhere")
        if request.matches["how"] == "missing":
            raise NotFound("No such thing.")
        if request.matches["how"] == "defect":
            raise ZeroDivisionError
        yield "fine"

    @post("/small", max_content_length=10)
    def small(self, request: Request) -> bytes:
        return request.body()

    @post("/live", max_content_length=10, stream=True)
    def live(self, request: Request) -> bytes:
        return request.body()

    @put("/no", expect=lambda _request: False)
    @put("/yes", expect=lambda _request: True)
    @put("/moved", expect=lambda _request: Redirect("/elsewhere"))
    @put("/class", expect=lambda _request: NotFound)
    @put("/odd", expect=lambda _request: 7)
    @put("/bad", expect=lambda _request: BadRequest("Not like this."))
    def take(self, request: Request) -> bytes:
        return request.body()


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b"FOO / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        (b"GET /%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n01234567890", 413),
        (
            b"POST /small HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
            413,
        ),
        (
            b"POST /live HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKS,
            413,
        ),
    ],
)
def test_nothing_behind_a_refused_request_is_executed(
    serve: Serve, first: bytes, status: int
) -> None:
    app = App()
    with Client(serve(app).address) as client:
        client.send(first + BEHIND)
        answer = client.read()
        assert answer.status == status
        assert answer.fields["connection"] == "close"
        assert client.rest() == b""
    assert not app.behind.is_set()


def test_a_path_without_route_does_not_cost_the_connection(serve: Serve) -> None:
    app = App()
    with Client(serve(app).address) as client:
        client.send(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n" + BEHIND)
        assert client.read().status == 404
        assert client.read().body == b"behind"


class TestGenerators:
    """A handler that is a generator fails when its first piece is taken: as any other handler."""

    def test_they_redirect(self, serve: Serve) -> None:
        with Client(serve(App()).address) as client:
            answer = client.get("/generator/redirect")
        assert (answer.status, answer.fields["location"]) == (302, "/elsewhere")

    def test_their_errors_go_to_the_error_handlers(self, serve: Serve) -> None:
        router = Router()
        router.register_routes(App())
        router.error_handler(404, lambda _request, error: f"handled: {error}")
        router.error_handler(ZeroDivisionError, lambda _request, _error: Response("zero", 418))
        with Client(serve(router).address) as client:
            answer = client.get("/generator/missing")
            assert (answer.status, answer.body) == (404, b"handled: No such thing.")
            answer = client.get("/generator/defect")
            assert (answer.status, answer.body) == (418, b"zero")

    def test_an_error_handler_may_stream_too_unless_that_fails_as_well(self, serve: Serve) -> None:
        def stream(pieces: list[str]) -> Iterator[str]:
            yield from pieces
            if not pieces:
                raise ValueError

        router = Router()
        router.register_routes(App())
        router.error_handler(404, lambda _request, _error: Response(stream(["a", "b"]), 404))
        router.error_handler(ZeroDivisionError, lambda _request, _error: Response(stream([])))
        with Client(serve(router).address) as client:
            answer = client.get("/generator/missing")
            assert (answer.status, answer.body) == (404, b"ab")
            assert client.get("/generator/defect").status == 500


class TestExpect:
    """What the expect callable of a route returns decides (RFC 9110 §10.1.1)."""

    @pytest.mark.parametrize(
        ("path", "status"),
        [("/no", 417), ("/moved", 302), ("/odd", 500), ("/bad", 400), ("/class", 404)],
    )
    def test_the_body_is_not_wanted(self, serve: Serve, path: str, status: int) -> None:
        with Client(serve(App()).address) as client:
            client.send(
                b"PUT %b HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
                % path.encode()
            )
            answer = client.read()
            assert answer.status == status
            assert answer.fields["connection"] == "close"

    def test_the_body_is_wanted(self, serve: Serve) -> None:
        with Client(serve(App()).address) as client:
            client.send(
                b"PUT /yes HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
            )
            assert client.read().status == 100
            client.send(b"x")
            assert client.read().body == b"x"


@pytest.mark.parametrize("timeout", [1.0, 1.5])
def test_a_stop_returns_by_its_deadline(serve: Serve, timeout: float) -> None:
    entered, leave = Event(), Event()

    def block(_request: Request) -> str:
        entered.set()
        leave.wait(PATIENCE)
        return ""

    server = serve([("GET", "/", block)])
    with Client(server.address) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert entered.wait(PATIENCE)
        started = time.monotonic()
        assert not server.stop(timeout)
        took = time.monotonic() - started
    leave.set()
    # Not a measure of speed: what it may not do is to wait for the handler.
    assert took < PATIENCE / 3
