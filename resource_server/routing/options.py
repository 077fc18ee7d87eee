"""What the decorators of a route say of it, checked where they stand."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..errors import RegistrationError

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import TypeAlias, TypedDict

    from ..progress import UploadProgress
    from ..request import Request
    from ..response import Middleware
    from .websocket import WebSocketOptions

    class Options(TypedDict, total=False):
        """The options that each decorator takes; RouteOptions tells what they mean."""

        name: str | None
        stream: bool
        decode: bool | None
        progress: UploadProgress | None
        blocking: bool | None
        expect: Callable[[Request], object] | None
        middlewares: Iterable[Middleware]

    class AllOptions(Options, total=False):
        """The options of decorators that do not name the limit themselves."""

        max_content_length: int

    class SocketOptions(TypedDict, total=False):
        """The options of both styles of WebSockets; WebSocketOptions tells what they mean."""

        subprotocols: Iterable[str]
        origins: str | Iterable[str]
        max_message_size: int
        compression: bool
        ping_interval: float | None
        ping_timeout: float | None
        check: Callable[[Request], object] | None
        max_buffered: int
        overflow: str
        name: str | None
        middlewares: Iterable[Middleware]

    class CallbackOptions(SocketOptions, total=False):
        """The options of WebSockets whose messages are each given to a handler."""

        pings: bool
        blocking: bool | None

    class SessionOptions(SocketOptions, total=False):
        """The options of WebSockets that have a thread of their own."""

        max_sessions: int


Callback: TypeAlias = Callable[..., object]

#: Bytes of a request's body that a route takes if it does not say otherwise: 5 MiB.
MAX_CONTENT_LENGTH = 5_242_880
#: What the route of a WebSocket has in place of a method.
WEBSOCKET = "WEBSOCKET"
#: Of the pages in browsers, those only that have come from the same host and port.
SAME_ORIGIN = "same-origin"

# CO_COROUTINE and CO_ASYNC_GENERATOR of the module inspect, which takes long to import.
_ASYNC = 0x80 | 0x200


class RouteOptions:
    """What the server must know of a route before it calls it.

    `name` (str) is for url_for. `max_content_length` (bytes): a longer body is answered 413.
    `stream` (bool): the handler reads the body while it arrives. `blocking`: True runs it in a
    worker always; False never hands it to one for being slow (but for `stream`, for an iterator
    that it returns and with ``HTTPServer(..., inline=False)`` it still is); None lets the server
    learn. `middlewares`: outermost first.

    `decode`: True takes bodies in the content codings gzip and deflate, and undoes them while the
    handler reads; `max_content_length` then holds for what is sent and for what it becomes, while
    `request.content_length` tells the bytes sent. False answers such bodies 415, None gives them to
    the handler as they are. `progress`: an UploadProgress that follows the bodies as they arrive.

    `expect(request)` is called in a worker before the body is asked for, of those clients only that
    send ``Expect: 100-continue`` and wait (RFC 9110 §10.1.1). So it can spare them a body that
    would be refused, but is no place for authentication. None or True lets the body come, False
    refuses it with 417; an HTTPError or any Response, returned (also as a class) or raised, is the
    answer.

    Raises TypeError for anything else.
    """

    __slots__ = (
        "blocking",
        "decode",
        "expect",
        "max_content_length",
        "middlewares",
        "name",
        "progress",
        "socket",
        "stream",
    )

    def __init__(
        self,
        *,
        name: str | None = None,
        max_content_length: int = MAX_CONTENT_LENGTH,
        stream: bool = False,
        decode: bool | None = False,
        progress: UploadProgress | None = None,
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
        if decode is not None and not isinstance(decode, bool):
            raise TypeError(f"decode is True, False or None, not {decode!r}")
        if progress is not None and not callable(getattr(progress, "begin", None)):
            raise TypeError(f"progress is an UploadProgress, not {progress!r}")
        if blocking is not None and not isinstance(blocking, bool):
            raise TypeError(f"blocking is True, False or None, not {blocking!r}")
        if expect is not None and not callable(expect):
            raise TypeError(f"expect is a function that takes the request, not {expect!r}")
        refuse_async(expect, "expect")
        self.name = name
        self.max_content_length = max_content_length
        self.stream = stream
        self.decode = decode
        self.progress = progress
        self.blocking = blocking
        self.expect = expect
        self.middlewares = checked_middlewares(middlewares)
        #: What a WebSocket has besides; None also stands for the defaults of one.
        self.socket: WebSocketOptions | None = None

    def inside(self, middlewares: Iterable[Middleware]) -> RouteOptions:
        """Return these options with `middlewares` around those of the route."""
        options = RouteOptions(
            name=self.name,
            max_content_length=self.max_content_length,
            stream=self.stream,
            decode=self.decode,
            progress=self.progress,
            blocking=self.blocking,
            expect=self.expect,
            middlewares=(*checked_middlewares(middlewares), *self.middlewares),
        )
        options.socket = self.socket
        return options


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
