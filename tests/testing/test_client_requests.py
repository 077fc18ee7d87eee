"""TestClient: requests by path, and what comes back."""

from __future__ import annotations

import gzip
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resource_server import (
    ErrorResponse,
    FileResource,
    Headers,
    HTTPServer,
    JsonResponse,
    NotFound,
    Redirect,
    RegistrationError,
    Request,
    Resource,
    Response,
    Router,
    get,
    post,
    register_message_codec,
    route,
)
from resource_server.testing import RedirectLoop, TestClient

PROJECT = Path(__file__).parents[2]


class Echo(Resource):
    @route("/echo/:rest*", methods=["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def echo(self, request: Request) -> dict[str, Any]:
        return {
            "method": request.method,
            "target": request.target,
            "rest": request.matches["rest"],
            "params": request.params,
            "fragment": request.fragment,
            "headers": dict(request.headers),
            "url": request.url,
            "client": request.client_address,
            "server": request.server_address,
        }

    @get("/text")
    def text(self, request: Request) -> str:
        return "grün"

    @get("/latin")
    def latin(self, request: Request) -> Response:
        return Response("grün".encode("latin-1"), content_type="text/plain; charset=latin1")

    @get("/nothing")
    def nothing(self, request: Request) -> None:
        return None

    @get("/large")
    def large(self, request: Request) -> Response:
        return Response("a" * 5000, compress=True)

    @get("/typed")
    def typed(self, request: Request) -> Response:
        return Response(b"41", content_type="application/x-test-number")

    @get("/early")
    def early(self, request: Request) -> str:
        request.send_interim(103, {"Link": "</style.css>; rel=preload"})
        return "later"


@pytest.fixture
def client() -> TestClient:
    return TestClient(Echo)


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options"])
def test_each_method_is_sent(client: TestClient, method: str) -> None:
    response = getattr(client, method)("/echo/a/b")
    assert response.status_code == 200
    assert response.json()["method"] == method.upper()
    assert response.json()["rest"] == "a/b"
    assert repr(response) == "<TestResponse 200 OK>"


def test_a_path_has_query_fragment_and_any_characters(client: TestClient) -> None:
    response = client.get("/echo/ä b/../%2F?q=ü&r#top", params={"n": [1, 2], "m": "x y"})
    told = response.json()
    assert told["target"] == "/echo/%C3%A4%20b/../%2F?q=%C3%BC&r&n=1&n=2&m=x+y"
    assert told["rest"] == "ä b/..//"
    assert told["params"] == {"q": ["ü"], "r": [""], "n": ["1", "2"], "m": ["x y"]}
    assert told["fragment"] == "top"
    assert response.url == "http://localhost" + told["target"] == told["url"]


def test_params_may_be_pairs_and_the_fragment_an_argument(client: TestClient) -> None:
    told = client.get("/echo", params=[("a", 1), ("a", 2)], fragment="part").json()
    assert told["params"] == {"a": ["1", "2"]}
    assert told["fragment"] == "part"


def test_the_request_is_the_one_that_the_handler_saw(client: TestClient) -> None:
    response = client.post("/echo/x", body=b"some")
    assert response.request.matches == {"rest": "x"}
    assert response.request.body() == b"some"
    assert response.request.exchange is None


def test_headers_of_the_client_are_replaced_by_those_of_a_request() -> None:
    client = TestClient(Echo, headers={"X-One": "1", "X-Two": "2"})
    headers = Headers([("x-two", "b"), ("X-Three", "3"), ("X-Three", "4")])
    told = Headers(client.get("/echo", headers=headers).json()["headers"])
    assert (told["x-one"], told["x-two"], told["x-three"]) == ("1", "b", "3, 4")
    assert told["host"] == "localhost"


def test_the_base_url_tells_how_the_application_is_asked() -> None:
    client = TestClient(Echo, base_url="https://api.example:8443", client_address=("10.0.0.9", 7))
    told = client.get("/echo").json()
    assert told["url"] == "https://api.example:8443/echo"
    assert told["headers"]["Host"] == "api.example:8443"
    assert told["client"] == ["10.0.0.9", 7]
    assert told["server"] == ["api.example", 8443]
    assert client.get("https://api.example:8443/echo?a=1").json()["params"] == {"a": ["1"]}
    assert client.get("https://api.example:8443").status_code == 404
    assert repr(client) == "<TestClient of https://api.example:8443>"


@pytest.mark.parametrize("url", ["localhost", "ftp://host", "http://host/path", "http://"])
def test_a_base_url_is_a_scheme_and_a_host(url: str) -> None:
    with pytest.raises(ValueError, match="base_url"):
        TestClient(Echo, base_url=url)


def test_requests_that_cannot_be_are_refused(client: TestClient) -> None:
    with pytest.raises(ValueError, match="begins with a slash"):
        client.get("echo")
    with pytest.raises(ValueError, match="begins with a slash"):
        client.get("http://elsewhere.example/echo")
    with pytest.raises(ValueError, match="not a method"):
        client.request("GET ", "/echo")
    with pytest.raises(ValueError, match="belongs to the client"):
        client.post("/echo", headers={"Content-Length": "3"}, body=b"abc")


def test_content_means_what_its_type_says(client: TestClient) -> None:
    register_message_codec("application/x-test-number", lambda data: int(data) + 1)
    assert client.get("/text").payload == client.get("/text").text == "grün"
    assert client.get("/latin").text == "grün"
    assert client.get("/echo").payload["method"] == "GET"
    assert client.get("/typed").payload == 42
    assert client.get("/nothing").payload is None
    assert TestClient([("GET", "/", lambda _: Response(b"\0"))]).get("/").payload == b"\0"
    assert TestClient([("GET", "/", lambda _: Response(b"\0", headers={}))]).get("/").is_text is (
        False
    )


def test_compressed_content_is_read_and_can_be_seen(client: TestClient) -> None:
    plain = client.get("/large")
    assert "content-encoding" not in plain.headers
    packed = client.get("/large", headers={"Accept-Encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.raw) == packed.body == plain.body
    assert packed.text == "a" * 5000
    best = client.get("/large", headers={"Accept-Encoding": "gzip;q=0.1, br, zstd"})
    assert len(best.raw) < 100
    assert best.body == plain.body


def test_a_coding_that_is_not_known_stays_and_a_wrong_one_is_an_error() -> None:
    def answer(request: Request) -> Response:
        return Response(b"plain", headers={"Content-Encoding": request.params["is"][0]})

    client = TestClient([("GET", "/", answer)])
    assert client.get("/?is=rot13").body == b"plain"
    with pytest.raises(ValueError, match="header"):
        _ = client.get("/?is=gzip").body


def test_interim_responses_are_told(client: TestClient) -> None:
    response = client.get("/early")
    assert response.interim == [(103, Headers({"Link": "</style.css>; rel=preload"}))]
    assert response.text == "later"


def test_answers_without_content_have_none(client: TestClient) -> None:
    head = client.head("/text")
    assert head.body == b""
    assert head.headers["Content-Length"] == "5"
    assert "date" in head.headers
    nothing = client.get("/nothing")
    assert nothing.status_code == 204
    assert "content-length" not in nothing.headers
    assert TestClient([("GET", "/", lambda _: Response("x", 304))]).get("/").body == b""


def test_the_answers_of_the_router_are_those_of_the_server(client: TestClient) -> None:
    assert client.get("/lost").status_code == 404
    assert client.post("/text").headers["Allow"] == "GET, HEAD, OPTIONS"
    assert client.options("/text").status_code == 204
    assert client.options("*").status_code == 204
    assert client.request("BREW", "/text").status_code == 501
    malformed = client.get("/echo/%zz")
    assert malformed.status_code == 400
    assert malformed.closes
    assert not client.get("/text").closes


def test_a_head_that_the_protocol_refuses_is_answered_as_by_the_server(client: TestClient) -> None:
    response = client.get("/text", headers=[(f"X-{n}", "") for n in range(200)])
    assert response.status_code == 431
    assert response.request.method == "GET"
    assert response.request.path == "/text"
    assert client.get("/text", params={"long": "x" * 10_000}).status_code == 414


def test_anything_that_can_be_registered_can_be_asked(tmp_path: Path) -> None:
    @get("/function")
    def function(request: Request) -> str:
        return "function"

    (tmp_path / "page.txt").write_text("page " * 100)
    router = Router()
    router.mount("/in", Echo)
    for app, path in [
        (Echo, "/text"),
        (Echo(), "/text"),
        (router, "/in/text"),
        (function, "/function"),
        ([function, Echo], "/text"),
        (HTTPServer(("127.0.0.1", 0), router=router), "/in/text"),
        (FileResource(tmp_path), "/page.txt"),
    ]:
        assert TestClient(app).get(path).status_code == 200
    page = TestClient(FileResource(tmp_path)).get("/page.txt")
    assert page.body == b"page " * 100
    with pytest.raises(RegistrationError):
        TestClient(object())


class Hops(Resource):
    @get("/start")
    def start(self, request: Request) -> Response:
        response = Redirect("/middle?a=1#part")
        response.set_cookie("seen", "start")
        return response

    @get("/middle")
    def middle(self, request: Request) -> Response:
        return Redirect("end", 307)

    @route("/end", methods=["GET", "POST"])
    def end(self, request: Request) -> dict[str, Any]:
        return {
            "method": request.method,
            "body": request.text(),
            "type": request.content_type,
            "cookies": request.cookies,
            "fragment": request.fragment,
        }

    @route("/moved/:status(int)", methods=["GET", "POST", "HEAD"])
    def moved(self, request: Request) -> Response:
        return Redirect("/end", request.matches["status"])

    @get("/loop")
    def loop(self, request: Request) -> Response:
        return Redirect("/loop")

    @get("/away")
    def away(self, request: Request) -> Response:
        return Redirect("http://elsewhere.example/")


def test_redirects_are_followed_if_asked_for() -> None:
    client = TestClient(Hops)
    assert client.get("/start").status_code == 302
    response = client.get("/start", follow_redirects=True)
    assert [hop.status_code for hop in response.history] == [302, 307]
    assert response.json()["cookies"] == {"seen": "start"}
    assert response.json()["fragment"] == "part"
    assert response.url == "http://localhost/end"
    assert TestClient(Hops, follow_redirects=True).get("/middle").status_code == 200


@pytest.mark.parametrize(
    ("status", "method"), [(301, "GET"), (302, "GET"), (303, "GET"), (307, "POST"), (308, "POST")]
)
def test_a_redirect_keeps_or_drops_the_content(status: int, method: str) -> None:
    client = TestClient(Hops, follow_redirects=True)
    told = client.post(f"/moved/{status}", json=[1]).json()
    sent = method == "POST"
    assert told["method"] == method
    assert told["body"] == ("[1]" if sent else "")
    assert told["type"] == ("application/json" if sent else "")
    assert client.head(f"/moved/{status}").status_code == 200


def test_redirects_have_an_end() -> None:
    client = TestClient(Hops, follow_redirects=True)
    with pytest.raises(RedirectLoop, match="20 redirects lead from http://localhost/loop") as told:
        client.get("/loop")
    assert told.value.response.status_code == 302
    assert client.get("/away").status_code == 302
    with pytest.raises(ValueError, match="cannot be sent a second time"):
        client.post("/moved/307", body=iter([b"x"]))


class Faults(Resource):
    @get("/bug")
    def bug(self, request: Request) -> None:
        raise LookupError("in the handler")

    @get("/missing")
    def missing(self, request: Request) -> None:
        raise NotFound("no such note")

    @get("/error")
    def error(self, request: Request) -> Response:
        return ErrorResponse("no", 409)

    @get("/odd")
    def odd(self, request: Request) -> Any:
        return JsonResponse({}, 199)


def test_what_the_application_raises_is_raised_in_the_test() -> None:
    with pytest.raises(LookupError, match="in the handler") as raised:
        TestClient(Faults).get("/bug")
    assert raised.traceback[-1].name == "bug"


def test_the_client_may_see_the_500_instead() -> None:
    client = TestClient(Faults, raise_errors=False)
    response = client.get("/bug")
    assert response.status_code == 500
    assert "in the handler" not in response.text
    assert client.get("/odd").status_code == 500


def test_errors_that_are_answers_are_answered() -> None:
    client = TestClient(Faults)
    assert client.get("/missing").text == "404 Not Found\nno such note\n"
    assert client.get("/missing", headers={"Accept": "application/json"}).json()["status"] == 404
    assert client.get("/error").payload == {"error": "no"}
    with pytest.raises(ValueError, match="no status of a final response"):
        client.get("/odd")


def test_an_error_handler_that_takes_an_exception_answers_it() -> None:
    router = Router()
    router.register_routes(Faults)
    router.error_handler(LookupError, lambda _request, error: f"taken: {error}")
    assert TestClient(router).get("/bug").text == "taken: in the handler"


def test_a_failing_error_handler_is_raised() -> None:
    router = Router()

    @router.error_handler(404)
    def fail(request: Request, error: Exception) -> str:
        raise ZeroDivisionError("in the error handler")

    with pytest.raises(ZeroDivisionError):
        TestClient(router).get("/")


def test_a_client_within_a_handler_keeps_its_failures_to_itself() -> None:
    inner = TestClient(Faults, raise_errors=False)

    @post("/")
    def outer(request: Request) -> str:
        return str(inner.get("/bug").status_code)

    assert TestClient(outer).post("/").text == "500"


def test_importing_the_package_does_not_import_this() -> None:
    code = "import sys, resource_server; print([n for n in sys.modules if 'testing' in n])"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert told.stdout == "[]\n"


def test_what_fails_is_raised_although_nothing_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Resource):
        @get("/")
        def fail(self, request: Request) -> None:
            raise KeyError("mine")

    monkeypatch.setattr(logging.getLogger("resource_server"), "disabled", True)
    with pytest.raises(KeyError, match="mine"):
        TestClient(Failing()).get("/")


def test_what_is_only_logged_is_not_raised() -> None:
    class Logging(Resource):
        @get("/")
        def log(self, request: Request) -> str:
            try:
                raise KeyError("handled")
            except KeyError:
                logging.getLogger("resource_server").exception("it was")
            return "well"

    assert TestClient(Logging()).get("/").text == "well"


def test_a_message_is_an_answer() -> None:
    serializable = pytest.importorskip("resource_server.serializable", exc_type=ImportError)

    class Point(serializable.Serializable, type_id=4712):  # type: ignore[misc,name-defined,call-arg]
        x: int

    class Points(Resource):
        @get("/")
        def point(self, request: Request) -> object:
            return Point(3)

    response = TestClient(Points()).get("/")
    assert response.content_type == "application/x-serializable"
    assert response.payload == Point(3)
