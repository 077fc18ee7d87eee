"""TestClient answers as a server does: the same requests, over a socket and without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests

from resource_server import (
    ContentTooLarge,
    HTTPError,
    JsonResponse,
    Redirect,
    Request,
    Resource,
    Response,
    Router,
    Unauthorized,
    get,
    post,
    route,
)
from resource_server.testing import TestClient, running

if TYPE_CHECKING:
    from collections.abc import Iterator


class Everything(Resource):
    @get("/text")
    def text(self, request: Request) -> str:
        return "text"

    @get("/empty")
    def empty(self, request: Request) -> Response:
        return Response("")

    @get("/none")
    def none(self, request: Request) -> None:
        return None

    @get("/status/:code(int)")
    def status(self, request: Request) -> Response:
        return Response("content", request.matches["code"])

    @get("/stream/:n(int)")
    def stream(self, request: Request) -> Any:
        return iter([b"piece"] * request.matches["n"])

    @get("/sized")
    def sized(self, request: Request) -> Response:
        return Response(iter([b"123"]), headers={"Content-Length": "3"})

    @get("/gzip")
    def gzip(self, request: Request) -> Response:
        return Response("x" * 1000, compress=True)

    @get("/redirect")
    def redirect(self, request: Request) -> Response:
        return Redirect("/text")

    @get("/cookie")
    def cookie(self, request: Request) -> Response:
        response = JsonResponse(request.cookies)
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
        return response

    @get("/bug")
    def bug(self, request: Request) -> None:
        raise KeyError

    @get("/bug/stream")
    def bug_stream(self, request: Request) -> Any:
        yield from ()
        raise KeyError

    @get("/login")
    def login(self, request: Request) -> None:
        raise Unauthorized('Basic realm="x"')

    @get("/teapot")
    def teapot(self, request: Request) -> None:
        raise HTTPError("short", status_code=418)

    @get("/leave")
    def leave(self, request: Request) -> Response:
        return Response("bye", headers={"Connection": "close"})

    @get("/dated")
    def dated(self, request: Request) -> Response:
        return Response("old", headers={"Date": "Thu, 01 Jan 1970 00:00:00 GMT"})

    @route("/echo", methods=["POST", "PUT"], max_content_length=1000)
    def echo(self, request: Request) -> Response:
        return Response(request.body(), headers={"X-Type": request.content_type or "none"})

    @post("/live", max_content_length=1000, stream=True)
    def live(self, request: Request) -> bytes:
        return request.body()

    @post("/unread", stream=True)
    def unread(self, request: Request) -> str:
        return "unread"

    @post("/expect", expect=lambda _: ContentTooLarge("no"))
    def expect(self, request: Request) -> str:
        return "expected"


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[TestClient, str]]:
    """A client without a socket, and the URL of a server of the same routes."""
    router = Router()
    router.register_routes(Everything)
    with running(router) as server:
        yield TestClient(router, base_url=server.url, raise_errors=False), server.url


CASES: list[tuple[str, str, dict[str, Any]]] = [
    *[("GET", path, {}) for path in ("/text", "/empty", "/none", "/sized", "/redirect", "/cookie")],
    *[("GET", path, {}) for path in ("/bug", "/bug/stream", "/login", "/teapot", "/leave")],
    *[("GET", f"/status/{code}", {}) for code in (200, 204, 205, 299, 304, 404, 999)],
    *[("GET", f"/stream/{n}", {}) for n in (0, 1, 3)],
    *[("HEAD", path, {}) for path in ("/text", "/none", "/stream/2", "/sized", "/bug", "/gone")],
    ("GET", "/dated", {}),
    ("GET", "/gzip", {"headers": {"Accept-Encoding": "gzip"}}),
    ("GET", "/gzip", {}),
    ("GET", "/gone", {"headers": {"Accept": "text/html"}}),
    ("GET", "/status/100", {}),
    ("GET", "/%ff", {}),
    ("BREW", "/text", {}),
    ("DELETE", "/text", {}),
    ("OPTIONS", "/echo", {}),
    ("POST", "/echo", {"body": b"x" * 1000}),
    ("POST", "/echo", {"body": b"x" * 1001}),
    ("POST", "/echo", {"json": [1]}),
    ("PUT", "/echo", {}),
    ("POST", "/echo", {"pieces": [b"x"] * 10}),
    ("POST", "/echo", {"pieces": [b"x" * 600] * 2}),
    ("POST", "/live", {"body": b"live"}),
    ("POST", "/live", {"pieces": [b"x" * 600] * 2}),
    ("POST", "/unread", {"body": b"x"}),
    ("POST", "/expect", {"body": b"x"}),
    ("POST", "/gone", {"body": b"x"}),
    ("POST", "/gone", {"body": b"x" * 70_000}),
]


@pytest.mark.parametrize(("method", "path", "options"), CASES)
def test_the_answer_is_that_of_a_server(
    pair: tuple[TestClient, str], method: str, path: str, options: dict[str, Any]
) -> None:
    client, url = pair
    client.cookies.clear()
    # What a client takes content for, if nobody tells, is its own affair.
    headers = {"Content-Type": "application/json", **options.get("headers", {})}
    given = {name: value for name, value in options.items() if name in ("body", "json")}
    if "pieces" in options:
        given["body"] = iter(options["pieces"])
    here = client.request(method, path, headers=headers, **given)
    if "pieces" in options:
        given["body"] = iter(options["pieces"])
    there = requests.request(
        method,
        url + path,
        headers={"Accept": None, "Accept-Encoding": None, "User-Agent": None, **headers},
        data=given.get("body"),
        json=given.get("json"),
        allow_redirects=False,
        timeout=30,
    )
    assert (here.status_code, here.body) == (there.status_code, there.content)
    mine, theirs = dict(here.headers), dict(there.headers)
    if path != "/dated":
        assert len(mine.pop("Date")) == len(theirs.pop("Date"))
    # requests joins the lines of a field in a way of its own.
    mine.pop("Set-Cookie", None)
    theirs.pop("Set-Cookie", None)
    assert mine == theirs
    assert here.cookies == there.cookies.get_dict()
