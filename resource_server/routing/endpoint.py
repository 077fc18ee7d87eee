"""An endpoint: a handler inside its middlewares, which gives a response whatever happens.

Scopes are nested as Routers are mounted. Around a route lie, from the inside: its own middlewares,
those of its resource, then those of each scope outwards. Every layer sees a Response from the one
inside it when that returned or raised an HTTPError or Redirect, or an exception that an error
handler takes; any other exception passes through all layers, is logged and answered with 500.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence

from ..errors import (
    BadRequest,
    Disconnected,
    HTTPError,
    HTTPNotImplemented,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
    RegistrationError,
)
from ..response import PAYLOADS, Response, error_response, instance_of, to_response
from .options import RouteOptions, refuse_async

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from ..progress import UploadProgress
    from ..request import Request
    from ..response import Handler, Middleware
    from .options import Callback

ErrorHandler: TypeAlias = Callable[["Request", "Any"], object]

logger = logging.getLogger("resource_server")


def printable(text: str) -> str:
    """Return `text` with whatever a terminal might act upon, or not show, as escapes."""
    return text if text.isprintable() else ascii(text)[1:-1]


#: Who is told, besides the log, of what fails in a thread: `errors`, if set, is a list for it.
witness = threading.local()


def log_failure(request: Request, what: str, error: BaseException) -> None:
    """Log an exception that nobody took, with its traceback."""
    method, path = printable(request.method), printable(request.raw_path)
    logger.error("%s %s: %s", method, path, what, exc_info=error)
    errors: list[BaseException] | None = getattr(witness, "errors", None)
    if errors is not None:
        errors.append(error)


# What the innermost handler of a scope's chain calls: set by the thread that enters the chain.
_delivery = threading.local()


def _deliver(request: Request) -> object:
    return _delivery.make(request)


def _respond(request: Request, error: HTTPError) -> Response:
    """Return the answer that an error has without any error handler; it is done with then."""
    _forget_origin(error)
    return error_response(error, request.headers.get("accept"))


def _forget_origin(error: BaseException) -> None:
    """Let go of the frames and exceptions that an error has come from, now that it is answered.

    An instance that is raised for one request after the other would gather them all.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None
    error.__suppress_context__ = False


class ErrorHandlers:
    """The error handlers of one Router. `add` replaces the tables, so any thread may `find`."""

    __slots__ = ("_by_class", "_by_status")

    def __init__(self) -> None:
        self._by_class: dict[type, ErrorHandler] = {}
        self._by_status: dict[int, ErrorHandler] = {}

    def add(self, key: int | type[BaseException], handler: ErrorHandler) -> None:
        """Keep the handler of a status or exception class; raises RegistrationError."""
        if not callable(handler):
            raise RegistrationError(
                f"an error handler is a function (request, error), not {handler!r}"
            )
        refuse_async(handler, "the error handler")
        if isinstance(key, type) and issubclass(key, BaseException):
            self._by_class = {**self._by_class, key: handler}
        elif isinstance(key, int) and not isinstance(key, bool) and 400 <= key <= 599:
            self._by_status = {**self._by_status, int(key): handler}
        else:
            raise RegistrationError(
                "an error handler is for a status from 400 to 599 or an exception class,"
                f" not {key!r}"
            )

    def find(self, error: BaseException) -> ErrorHandler | None:
        """Return the handler of the most specific class, else of the status, or None.

        A status is more specific than what HTTPError derives from, so that a handler for Exception
        leaves 404 to the handler for 404.
        """
        by_class, by_status = self._by_class, self._by_status
        if not by_class and not by_status:
            return None
        for cls in type(error).__mro__:
            handler = by_class.get(cls)
            if handler is None and cls is HTTPError and isinstance(error, HTTPError):
                handler = by_status.get(error.status_code)
            if handler is not None:
                return handler
        return None

    def find_status(self, status_code: int) -> ErrorHandler | None:
        """Return the handler of a status, or None."""
        return self._by_status.get(status_code)


class Scope:
    """The middlewares and error handlers of a Router, inside those of the one it is mounted in.

    Raises what a middleware raises when it is given a handler, and RegistrationError for one that
    does not return a handler.
    """

    __slots__ = (
        "_allowing",
        "_chain",
        "_error_handlers",
        "_middlewares",
        "_parent",
        "_refusing",
        "not_found",
        "not_implemented",
    )

    def __init__(
        self,
        middlewares: Sequence[Middleware],
        error_handlers: ErrorHandlers,
        parent: Scope | None = None,
    ) -> None:
        self._middlewares = middlewares
        self._error_handlers = error_handlers
        self._parent = parent
        # Made once, and at registration, so that a middleware that is none is found there. One
        # chain serves all answers of the scope that belong to no route.
        self._chain = self.compose(_deliver, ())
        # Two threads may both make an endpoint; either will do.
        self._refusing: dict[tuple[str, ...] | str, Endpoint] = {}
        self._allowing: dict[tuple[str, ...], Endpoint] = {}
        self.not_found: Endpoint = self.refuse(NotFound())
        self.not_implemented: Endpoint = self.refuse(HTTPNotImplemented())

    def outwards(self) -> Iterator[Scope]:
        """Return this scope and those around it, innermost first."""
        scope: Scope | None = self
        while scope is not None:
            yield scope
            scope = scope._parent

    # Composing, at registration.

    def endpoint(self, callback: Callback, options: RouteOptions) -> Endpoint:
        """Return the endpoint of a route."""
        return Endpoint(self.compose(callback, options.middlewares), self, options)

    def refuse(self, error: HTTPError) -> Endpoint:
        """Return an endpoint that only answers an error."""
        endpoint = self.answer_with(lambda _: error)
        endpoint.error = error
        return endpoint

    def refuse_path(self, error: BadRequest) -> Endpoint:
        """Return the endpoint that answers a malformed path, one for each thing to say about it."""
        endpoint = self._refusing.get(error.message)
        if endpoint is None:
            endpoint = self._refusing[error.message] = self.refuse(error.with_traceback(None))
        return endpoint

    def refuse_method(self, allow: tuple[str, ...]) -> Endpoint:
        """Return the endpoint that answers 405, naming the methods that are allowed."""
        endpoint = self._refusing.get(allow)
        if endpoint is None:
            endpoint = self._refusing[allow] = self.refuse(MethodNotAllowed(allow))
        return endpoint

    def tell_methods(self, allow: tuple[str, ...]) -> Endpoint:
        """Return the endpoint that answers OPTIONS (RFC 9110 §9.3.7)."""
        endpoint = self._allowing.get(allow)
        if endpoint is None:
            headers = {"Allow": ", ".join(allow)}
            endpoint = self.answer_with(lambda _: Response(None, 204, headers))
            self._allowing[allow] = endpoint
        return endpoint

    def answer_with(self, make: Callback) -> Endpoint:
        """Return an endpoint that is no route's: `make(request)` inside the scopes' middlewares."""
        chain = self._chain
        if chain is _deliver:
            return Endpoint(make, self, RouteOptions())

        def handler(request: Request) -> object:
            outer = getattr(_delivery, "make", None)  # of a middleware that dispatches itself
            _delivery.make = make
            try:
                return chain(request)
            finally:
                _delivery.make = outer

        return Endpoint(handler, self, RouteOptions())

    def compose(self, callback: Callback, inner: Sequence[Middleware]) -> Callback:
        """Return `callback` inside the middlewares `inner` and of all scopes."""
        layers = [(self, middleware) for middleware in reversed(inner)]
        for scope in self.outwards():
            layers += [(scope, middleware) for middleware in reversed(scope._middlewares)]
        if not layers:
            return callback
        handler = self._answering(callback)
        for scope, middleware in layers:
            outer: object = middleware(handler)
            if not callable(outer):
                name = getattr(middleware, "__qualname__", repr(middleware))
                raise RegistrationError(
                    f"the middleware {name} returned {outer!r}; it takes a handler and has to"
                    " return one: a function of the request that gives a response"
                )
            refuse_async(outer, "the middleware's handler")
            handler = scope._answering(outer)
        return handler

    def _answering(self, callback: Callback) -> Handler:
        """Return a handler that returns a Response for whatever error this scope can answer."""

        def handler(request: Request) -> Response:
            try:
                result = callback(request)
                return result if isinstance(result, Response) else self.convert(request, result)
            except BaseException as error:
                response = self.answer(request, error)
                if response is None:
                    raise
                return response

        return handler

    # Answering, in the thread that handles the request.

    def convert(self, request: Request, result: object) -> Response:
        """Return the response that a result means; raises TypeError if it means none."""
        if isinstance(result, type):
            result = instance_of(result)
        if isinstance(result, HTTPError):
            response = self.answer(request, result)
            assert response is not None
            return response
        return to_response(result)

    def answer(self, request: Request, error: BaseException) -> Response | None:
        """Return the response to an exception; None if it is unexpected."""
        if isinstance(error, Response):  # Redirect, ErrorResponse
            _forget_origin(error)
            return error
        handler = None
        for scope in self.outwards():
            handler = scope._error_handlers.find(error)
            if handler is not None:
                break
        if handler is None:
            return _respond(request, error) if isinstance(error, HTTPError) else None
        response = _call_error_handler(handler, request, error)
        if isinstance(error, HTTPError):
            _forget_origin(error)
        return response

    def answer_unexpected(self, request: Request, error: BaseException) -> Response:
        """Log an exception and return the response with status 500."""
        if isinstance(error, Disconnected):
            # The client has left while its handler read or wrote: daily life, and nobody to tell.
            logger.debug("%s %s: %s", request.method, printable(request.raw_path), error)
            return _respond(request, InternalServerError())
        log_failure(request, "the handler failed", error)
        for scope in self.outwards():
            handler = scope._error_handlers.find_status(500)
            if handler is not None:
                return _call_error_handler(handler, request, error)
        return _respond(request, InternalServerError())


def _call_error_handler(handler: ErrorHandler, request: Request, error: BaseException) -> Response:
    """Return what an error handler answers; what is no Response gets the status of the error."""
    try:
        result = handler(request, error)
        if isinstance(result, Response):
            return result
        if isinstance(result, type):
            result = instance_of(result)
        if isinstance(result, HTTPError):
            return _respond(request, result)
        response = to_response(result)
        response.status_code = error.status_code if isinstance(error, HTTPError) else 500
        return response
    except BaseException as failure:  # noqa: BLE001 - a handler may raise anything
        if isinstance(failure, Response):
            _forget_origin(failure)
            return failure
        if isinstance(failure, HTTPError):
            return _respond(request, failure)
        log_failure(request, "the error handler failed", failure)
        return _respond(request, InternalServerError())


class Endpoint:
    """What answers a request: call it with the request, in any thread; it never raises.

    What the engine reads beforehand: `max_content_length` (bytes), `stream`, `decode`, `progress`,
    `blocking`, `expect` as RouteOptions has them, and `error`: the HTTPError if that is all it
    answers, so that the body need not be read. The engine alone writes `mean`, seconds that calls
    have taken, and `slow`, what it makes of them.
    """

    __slots__ = (
        "_handler",
        "_scope",
        "blocking",
        "decode",
        "error",
        "expect",
        "max_content_length",
        "mean",
        "progress",
        "slow",
        "stream",
    )

    def __init__(self, handler: Callback, scope: Scope, options: RouteOptions) -> None:
        self._handler = handler
        self._scope = scope
        self.max_content_length: int = options.max_content_length
        self.stream: bool = options.stream
        self.decode: bool | None = options.decode
        self.progress: UploadProgress | None = options.progress
        self.blocking: bool | None = options.blocking
        self.expect: Callable[[Request], object] | None = options.expect
        self.error: HTTPError | None = None
        self.mean: float = 0.0
        self.slow: bool = False

    def __call__(self, request: Request) -> Response:
        """Return the response."""
        try:
            response = self._handler(request)
            if not isinstance(response, Response):
                if response.__class__ in PAYLOADS:
                    # As `convert` would do, without asking what else it might be: 0.5 µs.
                    return Response(response)
                response = self._scope.convert(request, response)
            # Most do not speak of it: there is nothing to decide.
            return response if response.compress is None else response.negotiate(request)
        except BaseException as error:  # noqa: BLE001 - one request never ends the server
            return self._fail(request, error)

    def fail(self, request: Request, error: BaseException) -> Response:
        """Return the response to an error found outside the handler; never raises.

        That is one found before the handler ran, or one that the stream it returned raises before
        its first piece. The error is answered as if the handler had raised it, within the
        middlewares of its Routers.
        """

        def handler(_: Request) -> object:
            raise error

        return self._scope.answer_with(handler)(request)

    def _fail(self, request: Request, error: BaseException) -> Response:
        """Return the response to an exception of the handler; never raises."""
        try:
            response = self._scope.answer(request, error)
            if response is None:
                response = self._scope.answer_unexpected(request, error)
            return response.negotiate(request)
        except BaseException as failure:  # noqa: BLE001 - as in __call__
            log_failure(request, "the answer to an error failed", failure)
            return Response("500 Internal Server Error\n", 500)
