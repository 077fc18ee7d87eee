"""Resources: classes, or plain functions, whose decorators say which requests they answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..errors import RegistrationError
from .options import MAX_CONTENT_LENGTH, WEBSOCKET, Callback, RouteOptions

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import Any, ClassVar, Protocol, Self, TypeVar, Unpack

    from ..response import Middleware
    from .options import AllOptions, CallbackOptions, Options, SessionOptions

    Function = TypeVar("Function")

    class Decorator(Protocol):
        """Takes a function, a classmethod or a staticmethod, and returns the same."""

        def __call__(self, target: Function, /) -> Function:
            """Return `target`."""


# Attributes of a decorated function: tuples, which are replaced and never changed, because
# functools.wraps copies them to wrappers by reference.
_ROUTES = "__resource_server_routes__"
_EXPECTED = "__resource_server_expected__"


class Route(tuple[str, str, Callback]):
    """The 3-tuple (method, pattern, callback), and what rides along.

    `options` are the route's RouteOptions; `owner` names class and method in error messages.
    """

    options: RouteOptions
    owner: str

    def __new__(
        cls,
        method: str,
        pattern: str,
        callback: Callback,
        options: RouteOptions | None = None,
        owner: str = "",
    ) -> Self:
        """Return the tuple; `options` are the usual ones if None."""
        route = super().__new__(cls, (method, pattern, callback))
        route.options = options or RouteOptions()
        route.owner = owner
        return route


def _function_of(target: object) -> object:
    """Return the function inside a classmethod or staticmethod, or the target itself."""
    return target.__func__ if isinstance(target, classmethod | staticmethod) else target


def _declared(target: object) -> tuple[tuple[str, str, RouteOptions], ...]:
    """Return what the decorators of a function say, from top to bottom as read."""
    declared: tuple[tuple[str, str, RouteOptions], ...] = ()
    if not isinstance(target, type):
        declared = getattr(_function_of(target), _ROUTES, ())
    return declared


def _decorator(label: str, path: str, methods: Iterable[str], options: AllOptions) -> Decorator:
    def make() -> RouteOptions:
        try:
            return RouteOptions(**options)
        except TypeError as error:
            problem = str(error).replace("RouteOptions.__init__() ", "")
            known = ", ".join(name for name in RouteOptions.__slots__ if name != "socket")
            raise TypeError(f"{problem}; the options are {known}") from None

    return _declaring(label, path, methods, make)


def _socket_decorator(label: str, path: str, session: bool, options: Any) -> Decorator:
    def make() -> RouteOptions:
        from .websocket import socket_options

        return socket_options(session, options)

    return _declaring(label, path, [WEBSOCKET], make)


def _declaring(
    label: str, path: str, methods: Iterable[str], make: Callable[[], RouteOptions]
) -> Decorator:
    """Return the decorator of routes with the options that `make` checks and returns."""
    if not isinstance(path, str):
        raise TypeError(f'{label} takes a path, as in @{label}("/notes/:id"), not {path!r}')
    try:
        options = make()
    except ValueError as error:
        raise ValueError(f"{label}({path!r}): {error}") from None
    except TypeError as error:
        raise TypeError(f"{label}({path!r}): {error}") from None
    routes = tuple([(method, path, options) for method in methods])

    def decorate(target: Function) -> Function:
        function = _function_of(target)
        if not callable(function) or isinstance(function, type):
            raise TypeError(f"{label}({path!r}) decorates a function or method, not {target!r}")
        setattr(function, _ROUTES, routes + _declared(function))
        return target

    return decorate


def route(path: str, methods: Iterable[str] = ("GET",), **options: Unpack[AllOptions]) -> Decorator:
    """Register a function for several methods: ``@route("/notes", methods=["GET", "POST"])``.

    All decorators for methods take the options of RouteOptions, may be stacked in any number, and
    leave the function as it was. They raise TypeError for options that there are not.
    """
    names = [methods] if isinstance(methods, str) else list(methods)
    if isinstance(methods, str) or not names or not all(isinstance(name, str) for name in names):
        raise TypeError(f'route({path!r}): methods is a list, as ["GET", "POST"]; got {methods!r}')
    return _decorator("route", path, names, options)


def get(path: str, **options: Unpack[AllOptions]) -> Decorator:
    """Register a function for GET, and for HEAD where nothing else is; see `route`."""
    return _decorator("get", path, ["GET"], options)


def put(
    path: str, max_content_length: int = MAX_CONTENT_LENGTH, **options: Unpack[Options]
) -> Decorator:
    """Register a function for PUT; `max_content_length` is in bytes; see `route`."""
    return _decorator("put", path, ["PUT"], {"max_content_length": max_content_length, **options})


def post(
    path: str, max_content_length: int = MAX_CONTENT_LENGTH, **options: Unpack[Options]
) -> Decorator:
    """Register a function for POST; `max_content_length` is in bytes; see `route`."""
    return _decorator("post", path, ["POST"], {"max_content_length": max_content_length, **options})


def patch(
    path: str, max_content_length: int = MAX_CONTENT_LENGTH, **options: Unpack[Options]
) -> Decorator:
    """Register a function for PATCH; `max_content_length` is in bytes; see `route`."""
    given: AllOptions = {"max_content_length": max_content_length, **options}
    return _decorator("patch", path, ["PATCH"], given)


def delete(path: str, **options: Unpack[AllOptions]) -> Decorator:
    """Register a function for DELETE; see `route`."""
    return _decorator("delete", path, ["DELETE"], options)


def head(path: str, **options: Unpack[AllOptions]) -> Decorator:
    """Register a function for HEAD, in place of what GET does; see `route`."""
    return _decorator("head", path, ["HEAD"], options)


def options(path: str, **options: Unpack[AllOptions]) -> Decorator:
    """Register a function for OPTIONS, in place of the server's own answer; see `route`."""
    return _decorator("options", path, ["OPTIONS"], options)


def websocket(path: str, **options: Unpack[CallbackOptions]) -> Decorator:
    """Register a function (request, opcode, payload) for the events of WebSockets (RFC 6455).

    ::

        @websocket("/chat", subprotocols=["chat.v1"])
        def chat(self, request, opcode, payload):
            if opcode == WebSocketOpCode.Text:
                request.send(payload)

    `request` is a WebSocketRequest, the same for all events of a WebSocket, which come one at a
    time and in order. The opcode is a WebSocketOpCode: Open, before anything is sent to the
    client; Text (`payload` is a str) and Binary (bytes); at last and once, if there was an Open,
    Close, of which `request.close_code` and `request.close_reason` tell more. An HTTPError or
    Response that the handler raises or returns for Open refuses the WebSocket; whatever it raises
    for a message is logged, and closes with 1011.

    The options are `name`, `blocking` and `middlewares` as those of RouteOptions, `pings` and
    what else WebSocketOptions tells. Raises TypeError for options that there are not or of another
    type, ValueError for a value that cannot be.

    A path may have a route for GET besides, which is for all that do not ask for a WebSocket. In
    the 3-tuple of a route the method is "WEBSOCKET".
    """
    return _socket_decorator("websocket", path, False, options)


def websocket_session(path: str, **options: Unpack[SessionOptions]) -> Decorator:
    """Register a function (socket) that talks to a client over a WebSocket, in a thread of its own.

    ::

        @websocket_session("/echo")
        def echo(self, socket):
            for message in socket:
                socket.send(message)

    `socket` is a WebSocketSession; it is closed when the function returns, with 1011 if it raises,
    which is logged. The options are those of `websocket` without `blocking` and `pings`, but with
    `max_sessions` (int): how many may be open at once; others are answered 503. Raises as
    `websocket`.
    """
    return _socket_decorator("websocket_session", path, True, options)


def _expectation(kind: str, name: str, description: str) -> Decorator:
    if not isinstance(name, str):
        raise TypeError(f'{kind} takes a name, as in @{kind}("limit"), not {name!r}')

    def decorate(target: Function) -> Function:
        function = _function_of(target)
        entry = (kind, {"name": name, "description": description})
        setattr(function, _EXPECTED, (entry, *getattr(function, _EXPECTED, ())))
        return target

    return decorate


def header(header: str, description: str = "") -> Decorator:
    """Document a header field that a function expects, by name; Resource.describe tells it."""
    return _expectation("header", header, description)


def param(param: str, description: str = "") -> Decorator:
    """Document a query parameter that a function expects, by name; Resource.describe tells it."""
    return _expectation("param", param, description)


def function_routes(function: Callback) -> list[Route]:
    """Return the routes that decorators declare for a function, which is called as it is."""
    owner = getattr(function, "__qualname__", repr(function))
    return [
        Route(method, pattern, function, options, owner)
        for method, pattern, options in _declared(function)
    ]


class Resource:
    """A collection of related routes: subclass it and decorate its methods.

    ::

        class Notes(Resource):
            @get("/notes/:id(int)", name="note")
            def read(self, request): ...

            @put("/notes/:id(int)", max_content_length=1_000_000)
            def write(self, request): ...

    A subclass inherits routes. A method that it overrides without decorators keeps them, one with
    decorators replaces them, ``name = None`` removes them.
    """

    #: Middlewares around every route of the class, outermost first.
    middlewares: ClassVar[Sequence[Middleware]] = ()

    def routes(self) -> list[tuple[str, str, Callback]]:
        """Return a list of 3-tuples (method, pattern, bound method).

        Routes of the most derived class come first, within a class they are in order of definition.
        """
        return [
            Route(
                method,
                pattern,
                getattr(self, name),
                options.inside(self.middlewares),
                f"{type(self).__name__}.{name}",
            )
            for name, target in self._decorated()
            for method, pattern, options in _declared(target)
        ]

    def describe(self) -> list[dict[str, Any]]:
        """Return a dict for each route, in the order of `routes`.

        Its keys: "method", "pattern", "name", "doc" (str), and "headers" and "params", lists of
        dicts with "name" and "description", as `header` and `param` have them.
        """
        from inspect import cleandoc

        described = []
        for name, target in self._decorated():
            function = _function_of(target)
            doc = getattr(self, name).__doc__ or getattr(function, "__doc__", None) or ""
            expected = getattr(function, _EXPECTED, ())
            described += [
                {
                    "method": method,
                    "pattern": pattern,
                    "name": options.name,
                    "doc": cleandoc(doc),
                    "headers": [dict(entry) for kind, entry in expected if kind == "header"],
                    "params": [dict(entry) for kind, entry in expected if kind == "param"],
                }
                for method, pattern, options in _declared(target)
            ]
        return described

    def _decorated(self) -> list[tuple[str, object]]:
        """Return name and decorated object of each attribute that has routes."""
        found = []
        decided = set()
        for cls in type(self).__mro__:
            # An alias in one class body is the same function, and its routes are the same.
            known = set()
            for name, target in vars(cls).items():
                if name in decided:
                    continue
                if target is None:
                    decided.add(name)
                elif _declared(target):
                    decided.add(name)
                    function = id(_function_of(target))
                    if function not in known:
                        known.add(function)
                        if not callable(getattr(self, name)):
                            raise RegistrationError(
                                f"{type(self).__name__}.{name} replaces a method with routes by"
                                f" something that cannot be called; set it to None to remove them"
                            )
                        found.append((name, target))
        return found
