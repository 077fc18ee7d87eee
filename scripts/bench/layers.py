"""The layers that a request passes, each alone: what `micro.py` measures.

A case prepares as many operations as it is told, and gives what runs them; only the run is
measured. `ALONE` are layers without threads, whose instructions can be counted too; in `SERVED` a
client in the same thread asks a running server over one connection.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from resource_server import HTTPServer, JsonResponse, Request, Resource, Response, Router, get
from resource_server.protocol.http1 import HTTP1
from resource_server.protocol.limits import Limits
from scripts.bench.workloads import BROWSER

if TYPE_CHECKING:
    from collections.abc import Iterator

    Run = Callable[[], None]

LIMITS = Limits()
ADDRESS = ("127.0.0.1", 50000)
DATE = b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
#: Seconds that a handler sleeps so that the lead is taken over from it.
OVERSLEEP = 0.012


class Case(NamedTuple):
    """A layer, and how to have it work a number of times."""

    name: str
    prepare: Callable[[int], Run]


# -- the head of a request -----------------------------------------------------------------------


def head(fields: int, path: str = "/user/ann/item/1234", number: int = 0) -> bytes:
    """A request with as many fields; those of a browser first, the last one by its number."""
    lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1:8000"]
    lines += BROWSER[: max(0, fields - 2)]
    missing = fields + 1 - len(lines)
    lines += [f"X-Field-{index}: value {number + index:010}" for index in range(missing)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def answer(connection: HTTP1) -> None:
    connection.start(Response("Hello, World!"), DATE)
    connection.finish()


def parse(fields: int, *, repeated: bool) -> Callable[[int], Run]:
    """Parse a head; `repeated`, as the second one of the same connection."""

    def prepare(count: int) -> Run:
        connections = [HTTP1(LIMITS) for _ in range(count)]
        for number, connection in enumerate(connections):
            text = head(fields, number=number)
            if repeated:
                connection.receive(text)
                connection.next_request(ADDRESS)
                answer(connection)
            connection.receive(text)

        def run() -> None:
            for connection in connections:
                connection.next_request(ADDRESS)

        return run

    return prepare


def received(path: str, fields: int = 14) -> Request:
    connection = HTTP1(LIMITS)
    connection.receive(head(fields, path))
    request = connection.next_request(ADDRESS)
    assert request is not None
    return request


def look_at_fields(count: int) -> Run:
    """Ask for a field, which has all of them parsed."""
    requests = [received("/") for _ in range(count)]

    def run() -> None:
        for request in requests:
            request.headers["user-agent"]

    return run


# -- routes --------------------------------------------------------------------------------------


def _hello(request: Request) -> Response:
    return Response("Hello, World!")


@cache
def router_with(routes: int, pattern: str) -> Router:
    router = Router()
    router.register_routes([("GET", pattern.format(number), _hello) for number in range(routes)])
    router.resolve(received("/"))  # which compiles the table
    return router


def route(routes: int, pattern: str, path: str) -> Callable[[int], Run]:
    """Find the endpoints of requests for all of the routes in turn; {} stands for their number."""

    def prepare(count: int) -> Run:
        router = router_with(routes, pattern)
        # So many that each stands for a part of the routes of its own.
        chosen = [number * routes // min(count, routes) for number in range(min(count, routes))]
        requests = [received(path.format(chosen[n % len(chosen)])) for n in range(count)]

        def run() -> None:
            for request in requests:
                router.resolve(request)

        return run

    return prepare


class _Users(Resource):
    @get("/user/:name/item/:item")
    def user(self, request: Request) -> dict[str, str]:
        return {"name": request.matches["name"], "item": request.matches["item"]}


def dispatch(count: int) -> Run:
    """From a request to its response: route, Resource method, JSON."""
    router = Router()
    router.register_routes(_Users())
    requests = [received("/user/ann/item/1234") for _ in range(count)]

    def run() -> None:
        for request in requests:
            router.dispatch(request)

    return run


# -- responses -----------------------------------------------------------------------------------


def respond(make: Callable[[], Response]) -> Callable[[int], Run]:
    """Build a response and write its head."""

    def prepare(count: int) -> Run:
        connections = [HTTP1(LIMITS) for _ in range(count)]
        for connection in connections:
            connection.receive(head(14))
            connection.next_request(ADDRESS)

        def run() -> None:
            for connection in connections:
                connection.start(make(), DATE)
                connection.finish()

        return run

    return prepare


def _text() -> Response:
    return Response("Hello, World!")


def _json() -> Response:
    return JsonResponse({"name": "ann", "item": "1234"})


def _with_fields() -> Response:
    fields = {"Cache-Control": "no-store", "X-Frame-Options": "DENY"}
    return Response("Hello, World!", headers=fields)


ALONE = (
    *(
        Case(
            f"parse a head of {fields}, {'as before' if repeated else 'new'}",
            parse(fields, repeated=repeated),
        )
        for fields in (1, 14, 60)
        for repeated in (False, True)
    ),
    Case("look at a field of 14", look_at_fields),
    *(
        Case(f"route among {routes}, literal", route(routes, "/route-{}/list", "/route-{}/list"))
        for routes in (10, 100, 1000)
    ),
    *(
        Case(
            f"route among {routes}, wildcards",
            route(routes, "/group-{}/:name/:item", "/group-{}/ann/1234"),
        )
        for routes in (10, 100, 1000)
    ),
    *(
        Case(
            f"route among {routes}, a wildcard first",
            route(routes, "/:name/thing-{}", "/ann/thing-{}"),
        )
        for routes in (10, 100, 1000)
    ),
    Case("dispatch: route, method, JSON", dispatch),
    Case("respond with text", respond(_text)),
    Case("respond with JSON", respond(_json)),
    Case("respond with text and 2 fields", respond(_with_fields)),
)


# -- threads -------------------------------------------------------------------------------------


class _Paths(Resource):
    @get("/inline", blocking=False)
    def inline(self, request: Request) -> Response:
        return Response("Hello, World!")

    @get("/handed", blocking=True)
    def handed(self, request: Request) -> Response:
        return Response("Hello, World!")


def _overslept(request: Request) -> Response:
    time.sleep(OVERSLEEP)
    return Response("Hello, World!")


@contextmanager
def served(count: int) -> Iterator[Callable[[str, int], None]]:
    """A running server with that many routes to be taken over from; gives what asks it."""
    router = Router()
    router.register_routes(_Paths())
    # A route that was slow once is handed over from then on: each take-over needs a new one.
    router.register_routes([("GET", f"/slow-{number}", _overslept) for number in range(count)])
    with (
        HTTPServer(("127.0.0.1", 0), router=router) as server,
        socket.create_connection(server.address, 30) as sock,
    ):

        def ask(path: str, times: int) -> None:
            for number in range(times):
                sock.sendall(head(1, path.format(number)))
                data = sock.recv(65536)
                while not data.endswith(b"Hello, World!"):
                    piece = sock.recv(65536)
                    if not piece:
                        raise RuntimeError(f"the server closed after {data!r}")
                    data += piece

        ask("/inline", 20)
        ask("/handed", 20)
        yield ask


#: By name, the path that is asked for, and whether it is asked few times, as each takes long.
SERVED = (
    ("exchange, answered in the loop", "/inline", False),
    ("exchange, handed over to a worker", "/handed", False),
    ("exchange, the lead taken over", "/slow-{}", True),
)
