"""Endpoints: middlewares, results and errors of handlers, error handlers, the log."""

from __future__ import annotations

import gzip
import json
import logging
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from resource_server.errors import (
    ContentTooLarge,
    Disconnected,
    Forbidden,
    HTTPError,
    InternalServerError,
    NotFound,
    PatternError,
    RegistrationError,
    ServiceUnavailable,
    Unauthorized,
)
from resource_server.request import Request
from resource_server.response import ErrorResponse, JsonResponse, Redirect, Response
from resource_server.routing.resource import Resource, get
from resource_server.routing.router import Router

if TYPE_CHECKING:
    from collections.abc import Callable

    from resource_server.response import Handler, Middleware


def request(path: str, method: str = "GET", **headers: str) -> Request:
    return Request(("127.0.0.1", 1), method, path, headers=headers)


def serving(handler: Callable[[Request], object], **options: Any) -> Router:
    router = Router(**options)
    router.register_routes([("GET", "/", handler)])
    return router


def raising(error: BaseException) -> Callable[[Request], object]:
    def handler(request: Request) -> object:
        raise error

    return handler


class Trace:
    """Makes middlewares that write down what goes in, and what status comes out."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.composed: list[str] = []

    def __call__(self, name: str) -> Middleware:
        def middleware(handler: Handler) -> Handler:
            self.composed.append(name)

            def traced(request: Request) -> Response:
                self.lines.append(f"> {name}")
                try:
                    response = handler(request)
                except BaseException as error:
                    self.lines.append(f"! {name} {type(error).__name__}")
                    raise
                self.lines.append(f"< {name} {response.status_code}")
                return response

            return traced

        return middleware


@pytest.fixture
def trace() -> Trace:
    return Trace()


@pytest.mark.parametrize(
    ("result", "status", "body"),
    [
        (Response("x", 201), 201, b"x"),
        ("text", 200, b"text"),
        (b"bytes", 200, b"bytes"),
        ({"a": 1}, 200, b'{"a":1}'),
        (None, 204, b""),
        (NotFound("no such note"), 404, b"404 Not Found\nno such note\n"),
        (ServiceUnavailable(), 503, b"503 Service Unavailable\n"),
    ],
)
def test_what_a_handler_returns(result: object, status: int, body: bytes) -> None:
    response = serving(lambda request: result).dispatch(request("/"))
    assert response.status_code == status
    assert response.body is not None
    assert response.body.replace(b" ", b"") == body.replace(b" ", b"")


def test_a_handler_may_raise_errors_and_redirects() -> None:
    assert serving(raising(Forbidden())).dispatch(request("/")).status_code == 403
    redirect = Redirect("/elsewhere", 303)
    router = serving(raising(redirect))
    for _ in range(3):
        response = router.dispatch(request("/"))
        assert (response.status_code, response.headers["Location"]) == (303, "/elsewhere")
    assert redirect.__traceback__ is None


def test_errors_are_rendered_by_accept() -> None:
    response = serving(raising(Forbidden("no"))).dispatch(request("/", Accept="application/json"))
    assert response.body is not None
    assert json.loads(response.body)["message"] == "no"


def test_responses_and_errors_are_negotiated() -> None:
    router = serving(lambda request: Response("x" * 5000, compress=True))
    response = router.dispatch(request("/", **{"Accept-Encoding": "gzip"}))
    assert response.body is not None
    assert gzip.decompress(response.body) == b"x" * 5000


def test_one_response_may_answer_many_requests_at_a_time() -> None:
    page = Response("x" * 5000, headers={"Vary": "Cookie"}, compress=True)
    router = serving(lambda request: page)
    wrong = []

    def ask(accepted: str) -> None:
        for _ in range(50):
            response = router.dispatch(request("/", **{"Accept-Encoding": accepted}))
            assert response.body is not None
            packed = response.headers.get("Content-Encoding") == "gzip"
            content = gzip.decompress(response.body) if packed else response.body
            if packed != (accepted == "gzip") or content != b"x" * 5000:
                wrong.append(accepted)
            if response.headers.get_all("Vary") != ["Cookie, Accept-Encoding"]:
                wrong.append("Vary")

    threads = [threading.Thread(target=ask, args=(each,)) for each in ["gzip", "identity"] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert (page.body, page.headers["Vary"]) == (b"x" * 5000, "Cookie")


def test_the_answer_to_an_error_is_negotiated_and_shared_as_well() -> None:
    page = Response("x" * 5000, 403, compress=True)
    router = serving(raising(Forbidden()))
    router.error_handler(403, lambda request, error: page)
    packed = router.dispatch(request("/", **{"Accept-Encoding": "gzip"}))
    assert packed.headers["Content-Encoding"] == "gzip"
    endpoint = router.resolve(request("/"))
    packed = endpoint.fail(request("/", **{"Accept-Encoding": "gzip"}), Forbidden())
    assert packed.headers["Content-Encoding"] == "gzip"
    assert router.dispatch(request("/")).body == b"x" * 5000


@pytest.mark.parametrize("cls", [NotFound, ServiceUnavailable])
def test_an_error_class_stands_for_an_instance(cls: type[HTTPError]) -> None:
    for handler in (lambda request: cls, raising(cls())):
        router = serving(handler)
        assert router.dispatch(request("/")).status_code == cls.status_code
        router.error_handler(cls, lambda request, error: "mine")
        response = router.dispatch(request("/"))
        assert (response.status_code, response.body) == (cls.status_code, b"mine")
    router = serving(raising(KeyError()))
    router.error_handler(KeyError, lambda request, error: cls)
    assert router.dispatch(request("/")).status_code == cls.status_code
    assert serving(lambda request: Response).dispatch(request("/")).status_code == 200


@pytest.mark.parametrize(
    ("cls", "advice"),
    [
        (Unauthorized, "returned the class Unauthorized, which needs arguments"),
        (Redirect, "returned the class Redirect, which needs arguments"),
        (dict, "a handler returned a type"),
    ],
)
def test_other_classes_are_the_servers_fault(
    cls: type, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert serving(lambda request: cls).dispatch(request("/")).status_code == 500
    assert advice in caplog.text


def test_an_error_response_may_be_raised(trace: Trace) -> None:
    error = ErrorResponse(["a", "b"], 422)
    router = serving(raising(error), middlewares=[trace("one")])
    for _ in range(2):
        response = router.dispatch(request("/"))
        assert (response.status_code, response.body) == (422, b'["a","b"]')
    assert trace.lines == ["> one", "< one 422"] * 2
    assert error.__traceback__ is None


class TestErrorsThatAreShared:
    """One instance that is raised again and again must not gather what each time leaves on it."""

    @staticmethod
    def bare(error: BaseException) -> bool:
        return (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)

    @pytest.mark.parametrize("error", [NotFound("x"), Redirect("/x"), ErrorResponse("x", 404)])
    @pytest.mark.parametrize("middlewares", [0, 2])
    def test_raised_by_handlers(self, error: BaseException, middlewares: int) -> None:
        def handler(request: Request) -> object:
            try:
                raise KeyError("k")
            except KeyError as cause:
                raise error from cause

        router = serving(handler, middlewares=[Trace()("one")] * middlewares)
        for _ in range(2):
            assert router.dispatch(request("/")).status_code in (404, 302)
            assert self.bare(error)

    def test_raised_again_by_error_handlers(self) -> None:
        router = Router()
        seen = []

        @router.error_handler(404)
        def again(request: Request, error: NotFound) -> object:
            seen.append(error)
            raise error

        for _ in range(2):
            assert router.dispatch(request("/nowhere")).status_code == 404
        assert seen[0] is seen[1]
        assert self.bare(seen[0])

    @pytest.mark.parametrize("other", [Forbidden(), Redirect("/login"), ErrorResponse("no", 403)])
    def test_raised_by_error_handlers_in_place_of_others(self, other: Any) -> None:
        error = NotFound()
        router = serving(raising(error))
        router.error_handler(NotFound, raising_handler(other))
        assert router.dispatch(request("/")).status_code == other.status_code
        assert self.bare(error)
        assert self.bare(other)

    def test_an_error_handler_still_sees_where_it_came_from(self) -> None:
        error = NotFound()
        router = serving(raising(error))
        names = []

        @router.error_handler(404)
        def look(request: Request, error: NotFound) -> object:
            assert error.__traceback__ is not None
            names.append(traceback.extract_tb(error.__traceback__)[-1].name)
            return "seen"

        assert router.dispatch(request("/")).body == b"seen"
        assert names == ["handler"]
        assert self.bare(error)


class NoEnd(BaseException):
    """What is not even an Exception."""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret"),
        KeyboardInterrupt(),
        SystemExit(3),
        MemoryError(),
        NoEnd(),
        GeneratorExit(),
    ],
)
def test_any_other_exception_is_logged_and_answered_with_500(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "resource_server"):
        response = serving(raising(error)).dispatch(request("/"))
    assert response.status_code == 500
    assert response.body == b"500 Internal Server Error\n"
    (record,) = caplog.records
    assert record.name == "resource_server"
    assert record.getMessage() == "GET /: the handler failed"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_result_that_is_no_response_is_the_servers_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    assert serving(lambda request: 5).dispatch(request("/")).status_code == 500
    assert "a handler returned a int" in caplog.text


def test_control_characters_are_escaped_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    router = Router()
    router.register_routes([("GET", "/:any*", raising(ValueError()))])
    asked = request("/")
    asked.raw_path = "/\x1b[31m\r\n\x9b"
    endpoint = router.resolve(request("/x"))
    assert endpoint(asked).status_code == 500
    assert caplog.records[0].getMessage() == r"GET /\x1b[31m\r\n\x9b: the handler failed"


def test_middlewares_run_outermost_first_and_are_composed_once(trace: Trace) -> None:
    class Traced(Resource):
        middlewares = (trace("resource"),)

        @get("/", middlewares=[trace("outer"), trace("inner")])
        def read(self, request: Request) -> str:
            trace.lines.append("handler")
            return "x"

    router = Router(middlewares=[trace("first"), trace("second")])
    router.register_routes(Traced)
    composed = list(trace.composed)
    for _ in range(2):
        assert router.dispatch(request("/")).body == b"x"
    router.register_routes([("GET", "/other", lambda request: "y")])
    assert router.dispatch(request("/")).body == b"x"
    names = ["first", "second", "resource", "outer", "inner"]
    expected = [f"> {name}" for name in names] + ["handler"]
    expected += [f"< {name} 200" for name in reversed(names)]
    assert trace.lines == expected * 3
    assert composed.count("inner") == trace.composed.count("inner") == 1


@pytest.mark.parametrize("error", [Forbidden(), Redirect("/x", 307)])
@pytest.mark.parametrize("how", [raising, lambda error: lambda request: error])
def test_middlewares_see_a_response_for_errors_and_redirects(
    trace: Trace, error: Any, how: Any
) -> None:
    router = serving(how(error), middlewares=[trace("outer"), trace("inner")])
    status = error.status_code
    assert router.dispatch(request("/")).status_code == status
    assert trace.lines[2:] == [f"< inner {status}", f"< outer {status}"]


def test_a_middleware_may_answer_or_fail_itself(trace: Trace) -> None:
    def guard(handler: Handler) -> Handler:
        def guarded(request: Request) -> Response:
            if "authorization" not in request.headers:
                raise Unauthorized("Basic")
            return handler(request)

        return guarded

    router = serving(lambda request: "in", middlewares=[trace("outer"), guard])
    assert router.dispatch(request("/")).status_code == 401
    assert trace.lines == ["> outer", "< outer 401"]
    assert router.dispatch(request("/", Authorization="x")).body == b"in"
    assert router.dispatch(request("/nowhere")).status_code == 401


def test_unexpected_exceptions_pass_through_middlewares(trace: Trace) -> None:
    router = serving(raising(KeyError("x")), middlewares=[trace("outer"), trace("inner")])
    assert router.dispatch(request("/")).status_code == 500
    assert trace.lines[2:] == ["! inner KeyError", "! outer KeyError"]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nowhere", "GET", 404),
        ("/", "PUT", 405),
        ("/", "OPTIONS", 204),
        ("*", "OPTIONS", 204),
        ("/", "FOO", 501),
        ("/%ff", "GET", 400),
    ],
)
def test_router_middlewares_surround_answers_without_route(
    trace: Trace, path: str, method: str, status: int
) -> None:
    router = serving(lambda request: "x", middlewares=[trace("one")])
    for _ in range(2):
        assert router.dispatch(request(path, method)).status_code == status
    assert trace.lines == ["> one", f"< one {status}"] * 2
    # Once for the route, once for all that belongs to none.
    assert trace.composed == ["one"] * 2


def test_a_middleware_may_dispatch_another_request() -> None:
    def fallback(handler: Handler) -> Handler:
        def answer(request: Request) -> Response:
            if request.raw_path == "/missing":
                inner = router.dispatch(Request(("h", 1), "GET", "/also-missing"))
                assert inner.status_code == 404
                assert router.dispatch(Request(("h", 1), "PUT", "/")).status_code == 405
            return handler(request)

        return answer

    router = serving(lambda request: "x", middlewares=[fallback])
    assert router.dispatch(request("/missing")).status_code == 404


def test_what_is_no_middleware_is_refused_at_registration() -> None:
    def forgets(handler: Handler) -> Handler:
        return None  # type: ignore[return-value]

    with pytest.raises(RegistrationError, match=r"forgets returned None"):
        Router(middlewares=[forgets])
    with pytest.raises(TypeError, match="list of functions"):
        Router(middlewares=forgets)  # type: ignore[arg-type]

    async def later(request: Request) -> Response:
        return Response()

    async def never(handler: Handler) -> Handler:
        return handler

    with pytest.raises(RegistrationError, match="later is written with async"):
        Router(middlewares=[lambda handler: later])  # type: ignore[list-item,return-value]
    with pytest.raises(RegistrationError, match=r"the middleware .*never is written with async"):
        Router(middlewares=[never])  # type: ignore[list-item]
    router = Router()
    with pytest.raises(RegistrationError, match="forgets"):
        router.register_routes(get("/x", middlewares=[forgets])(lambda request: None))
    assert router.routes() == []


def test_error_handlers_by_class_then_status() -> None:
    router = Router()

    @router.error_handler(LookupError)
    def lookup(request: Request, error: LookupError) -> object:
        return {"lookup": str(error)}

    @router.error_handler(KeyError)
    def key(request: Request, error: KeyError) -> object:
        return Response(f"key {error}", 418)

    @router.error_handler(404)
    def missing(request: Request, error: HTTPError) -> object:
        return f"nothing at {request.path}"

    router.error_handler(Exception, lambda request, error: "anything")
    router.error_handler(Forbidden, lambda request, error: Redirect("/login"))
    router.error_handler(403, lambda request, error: "never")
    router.register_routes(
        [
            ("GET", "/key", raising(KeyError("k"))),
            ("GET", "/index", raising(IndexError("i"))),
            ("GET", "/value", raising(ValueError())),
            ("GET", "/gone", lambda request: NotFound()),
            ("GET", "/forbidden", raising(Forbidden())),
        ]
    )

    def ask(path: str) -> tuple[int, bytes | None]:
        response = router.dispatch(request(path))
        return response.status_code, response.body

    assert ask("/key") == (418, b"key 'k'")
    assert ask("/index")[0] == 500
    assert json.loads(ask("/index")[1] or b"") == {"lookup": "i"}
    assert ask("/value") == (500, b"anything")
    assert ask("/gone") == (404, b"nothing at /gone")
    assert ask("/nowhere") == (404, b"nothing at /nowhere")
    assert ask("/forbidden")[0] == 302


def test_an_exception_that_an_error_handler_takes_is_a_response_to_middlewares(
    trace: Trace, caplog: pytest.LogCaptureFixture
) -> None:
    router = serving(raising(KeyError()), middlewares=[trace("one")])
    router.error_handler(KeyError, lambda request, error: Response("k", 422))
    assert router.dispatch(request("/")).status_code == 422
    assert trace.lines == ["> one", "< one 422"]
    assert caplog.records == []


def test_the_handler_for_500_answers_unexpected_exceptions(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = serving(raising(KeyError("k")))
    router.error_handler(500, lambda request, error: f"sorry: {type(error).__name__}")
    response = router.dispatch(request("/"))
    assert (response.status_code, response.body) == (500, b"sorry: KeyError")
    assert "the handler failed" in caplog.text
    router = serving(raising(InternalServerError()))
    router.error_handler(500, lambda request, error: "sorry")
    assert router.dispatch(request("/")).body == b"sorry"


def test_an_error_handler_that_fails_is_logged_and_answered_with_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = serving(raising(Forbidden()))
    router.error_handler(403, raising_handler(ValueError("inner")))
    response = router.dispatch(request("/"))
    assert (response.status_code, response.body) == (500, b"500 Internal Server Error\n")
    assert "the error handler failed" in caplog.text
    assert "inner" in caplog.text


def raising_handler(error: BaseException) -> Callable[[Request, Any], object]:
    def handler(request: Request, raised: BaseException) -> object:
        raise error

    return handler


@pytest.mark.parametrize(
    ("error", "status"), [(NotFound(), 404), (Redirect("/x"), 302), (Forbidden(), 403)]
)
def test_an_error_handler_may_answer_with_another_error(error: Any, status: int) -> None:
    router = serving(raising(KeyError()))
    router.error_handler(KeyError, raising_handler(error))
    assert router.dispatch(request("/")).status_code == status
    router.error_handler(KeyError, lambda request, raised: error)
    assert router.dispatch(request("/")).status_code == status


@pytest.mark.parametrize("key", [200, 600, True, "404", int, None])
def test_error_handlers_are_for_statuses_and_exceptions(key: Any) -> None:
    with pytest.raises(RegistrationError, match="status from 400 to 599"):
        Router().error_handler(key, lambda request, error: None)


def test_an_error_handler_is_a_function() -> None:
    with pytest.raises(RegistrationError, match="is a function"):
        Router().error_handler(404)("page")  # type: ignore[type-var]

    async def later(request: Request, error: HTTPError) -> str:
        return "later"

    with pytest.raises(RegistrationError, match=r"the error handler .*later is written with async"):
        Router().error_handler(404, later)


def test_errors_found_before_the_handler_are_answered_as_its_router_does(trace: Trace) -> None:
    router = serving(lambda request: "x", middlewares=[trace("one")])
    router.error_handler(413, lambda request, error: "too much")
    endpoint = router.resolve(request("/"))
    response = endpoint.fail(request("/"), ContentTooLarge())
    assert (response.status_code, response.body) == (413, b"too much")
    assert endpoint.fail(request("/"), ValueError()).status_code == 500
    assert trace.lines == ["> one", "< one 413", "> one", "! one ValueError"]


class TestFail:
    """What the engine calls when a stream fails before its first piece."""

    @pytest.fixture(params=[0, 2], ids=["alone", "inside"])
    def router(self, request: pytest.FixtureRequest) -> Router:
        """Return a Router without and with middlewares."""
        return serving(lambda request: iter(()), middlewares=[Trace()("one")] * request.param)

    @staticmethod
    def fail(router: Router, error: BaseException) -> Response:
        return router.resolve(request("/")).fail(request("/"), error)

    def test_redirects_and_error_responses(self, router: Router) -> None:
        for answer in (Redirect("/login", 303), ErrorResponse("no", 409)):
            assert self.fail(router, answer) is answer
            assert answer.__traceback__ is None

    def test_errors(self, router: Router) -> None:
        error = NotFound("no such stream")
        response = self.fail(router, error)
        assert (response.status_code, response.body) == (404, b"404 Not Found\nno such stream\n")
        assert error.__traceback__ is None
        router.error_handler(404, lambda request, error: "none")
        assert self.fail(router, error).body == b"none"
        router.error_handler(NotFound, lambda request, error: Response("gone", 410))
        assert self.fail(router, error).status_code == 410

    @pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(), GeneratorExit()])
    def test_unexpected_ones_are_logged_once(
        self, router: Router, error: BaseException, caplog: pytest.LogCaptureFixture
    ) -> None:
        response = self.fail(router, error)
        assert (response.status_code, response.body) == (500, b"500 Internal Server Error\n")
        (record,) = caplog.records
        assert (record.levelno, record.getMessage()) == (logging.ERROR, "GET /: the handler failed")
        assert record.exc_info is not None
        assert record.exc_info[1] is error
        router.error_handler(500, lambda request, error: "sorry")
        response = self.fail(router, error)
        assert (response.status_code, response.body) == (500, b"sorry")
        assert len(caplog.records) == 2

    def test_of_a_client_that_has_left_only_debugging_tells(
        self, router: Router, caplog: pytest.LogCaptureFixture
    ) -> None:
        router.error_handler(500, lambda request, error: "sorry")
        with caplog.at_level(logging.DEBUG, "resource_server"):
            assert self.fail(router, Disconnected("left")).status_code == 500
        (record,) = caplog.records
        assert record.levelno == logging.DEBUG


def test_even_an_answer_that_cannot_be_made_is_an_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Unfinished(Response):
        def negotiate(self, request: Request) -> Response:
            raise PatternError("never finished")

    router = serving(raising(Forbidden()))
    router.error_handler(403, lambda request, error: Unfinished())
    assert router.dispatch(request("/")).status_code == 500
    assert "the answer to an error failed" in caplog.text


def test_json_response_is_left_as_it_is() -> None:
    response = JsonResponse([1])
    assert serving(lambda request: response).dispatch(request("/")) is response
