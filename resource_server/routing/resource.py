"""Resources: classes, or plain functions, whose decorators say which requests they answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..errors import RegistrationError
from .websocket import WEBSOCKET

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import Any, ClassVar, Protocol, Self, TypeAlias, TypedDict, TypeVar, Unpack

    from ..request import Request
    from ..response import Middleware

    Function = TypeVar("Function")

    class Decorator(Protocol):
        """Takes a function, a classmethod or a staticmethod, and returns the same."""

        def __call__(self, target: Function, /) -> Function:
            """Return `target`."""

    class Options(TypedDict, total=False):
        """The options that each decorator takes; RouteOptions tells what they mean."""

        name: str | None
        stream: bool
        blocking: bool | None
        expect: Callable[[Request], object] | None
        middlewares: Iterable[Middleware]

    class AllOptions(Options, total=False):
        """The options of decorators that do not name the limit themselves."""

        max_content_length: int


Callback: TypeAlias = Callable[..., object]

#: Bytes of a request's body that a route takes if it does not say otherwise: 5 MiB.
MAX_CONTENT_LENGTH = 5_242_880

# CO_COROUTINE and CO_ASYNC_GENERATOR of the module inspect, which takes long to import.
_ASYNC = 0x80 | 0x200

# Attributes of a decorated function: tuples, which are replaced and never changed, because
# functools.wraps copies them to wrappers by reference.
_ROUTES = "__resource_server_routes__"
_EXPECTED = "__resource_server_expected__"


class RouteOptions:
    """What the server must know of a route before it calls it.

    `name` (str) is for url_for. `max_content_length` (bytes): a longer body is answered 413.
    `stream` (bool): the handler reads the body while it arrives. `blocking`: True runs it in a
    worker always; False never hands it to one for being slow (but for `stream`, for an iterator
    that it returns and with ``HTTPServer(..., inline=False)`` it still is); None lets the server
    learn. `middlewares`: outermost first.

    `expect(request)` is called in a worker before the body is asked for, of those clients only that
    send ``Expect: 100-continue`` and wait (RFC 9110 §10.1.1). So it can spare them a body that
    would be refused, but is no place for authentication. None or True lets the body come, False
    refuses it with 417; an HTTPError or any Response, returned (also as a class) or raised, is the
    answer.

    Raises TypeError for anything else.
    """

    __slots__ = ("blocking", "expect", "max_content_length", "middlewares", "name", "stream")

    def __init__(
        self,
        *,
        name: str | None = None,
        max_content_length: int = MAX_CONTENT_LENGTH,
        stream: bool = False,
        blocking: bool | None = None,
        expect: Callable[[Request], object] | None = None,
        middlewares: Iterable[Middleware] = (),
    ) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise TypeError(f"name is a str that is not empty, not {name!r}")
        if type(max_content_length) is not int or max_content_length < 0:
            raise TypeError(f"max_content_length is a number of bytes, not {max_content_length!r}")
        if not isinstance(stream, bool):
            raise TypeError(f"stream is True or False, not {stream!r}")
        if blocking is not None and not isinstance(blocking, bool):
            raise TypeError(f"blocking is True, False or None, not {blocking!r}")
        if expect is not None and not callable(expect):
            raise TypeError(f"expect is a function that takes the request, not {expect!r}")
        refuse_async(expect, "expect")
        self.name = name
        self.max_content_length = max_content_length
        self.stream = stream
        self.blocking = blocking
        self.expect = expect
        self.middlewares = checked_middlewares(middlewares)

    def inside(self, middlewares: Iterable[Middleware]) -> RouteOptions:
        """Return these options with `middlewares` around those of the route."""
        return RouteOptions(
            name=self.name,
            max_content_length=self.max_content_length,
            stream=self.stream,
            blocking=self.blocking,
            expect=self.expect,
            middlewares=(*checked_middlewares(middlewares), *self.middlewares),
        )


def checked_middlewares(middlewares: Iterable[Middleware]) -> tuple[Middleware, ...]:
    """Return the middlewares as a tuple; raises TypeError for what is not a list of callables."""
    given: object = middlewares
    if callable(given) or isinstance(given, str) or not isinstance(given, Iterable):
        raise TypeError(f"middlewares is a list of functions, not {middlewares!r}")
    checked = tuple(middlewares)
    for middleware in checked:
        if not callable(middleware):
            raise TypeError(f"a middleware takes a handler and returns one; {middleware!r} cannot")
        refuse_async(middleware, "the middleware")
    return checked


def refuse_async(function: object, what: str) -> None:
    """Raise RegistrationError for a function, bound or not, whose calls only make coroutines."""
    # A bound method tells the attributes of its function.
    code = getattr(function, "__code__", None)
    if code is not None and code.co_flags & _ASYNC:
        name = getattr(function, "__qualname__", repr(function))
        raise RegistrationError(
            f"{what} {name} is written with async: handlers are plain functions here, which run in"
            " threads and may block; write def, without await"
        )


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
    if not isinstance(path, str):
        raise TypeError(f'{label} takes a path, as in @{label}("/notes/:id"), not {path!r}')
    try:
        checked = RouteOptions(**options)
    except TypeError as error:
        problem = str(error).replace("RouteOptions.__init__() ", "")
        known = ", ".join(RouteOptions.__slots__)
        raise TypeError(f"{label}({path!r}): {problem}; the options are {known}") from None
    routes = tuple([(method, path, checked) for method in methods])

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


def websocket(path: str, **options: Unpack[AllOptions]) -> Decorator:
    """Register a function (request, opcode, payload) for the events of a WebSocket; see `route`.

    In the 3-tuple of its route the method is "WEBSOCKET". No WebSocket is opened yet: a GET for
    which there is no other route is answered with 426, or 501 if it asks for one.
    """
    return _decorator("websocket", path, [WEBSOCKET], options)


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
