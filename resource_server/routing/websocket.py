"""Routes of WebSockets: their options, who may open one, and what becomes of its messages.

They have a method of their own, which no client may send: a WebSocket is opened by a GET that asks
for the upgrade (RFC 6455 §4.1), so a path may have a route for that and one for other GETs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf

from ..errors import (
    Disconnected,
    Forbidden,
    HTTPError,
    HTTPNotImplemented,
    UpgradeRequired,
    is_token,
)
from ..response import Response, instance_of
from ..websockets import WebSocketOpCode, WebSocketRequest, WebSocketSession
from .endpoint import log_failure, logger, printable
from .options import SAME_ORIGIN, RouteOptions, refuse_async
from .origins import Origins

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import Any

    from ..request import Request
    from ..websockets import Connection
    from .options import Callback

_FAILED = "the WebSocket's handler failed"
_OVERFLOWS = ("block", "drop", "close")
_SHARED = (
    "subprotocols",
    "origins",
    "max_message_size",
    "compression",
    "ping_interval",
    "ping_timeout",
    "check",
    "max_buffered",
    "overflow",
    "name",
    "middlewares",
)
# What each style takes: the one with a handler for every message, and that with a thread.
_CALLBACK_OPTIONS = (*_SHARED, "blocking", "pings")
_SESSION_OPTIONS = (*_SHARED, "max_sessions")
_OF_ANY_ROUTE = frozenset(["blocking", "middlewares", "name"])


class WebSocketOptions:
    """What the server must know of a WebSocket before it opens it.

    `subprotocols`, the preferred first: the first that the client offers is taken, none is not an
    error. `origins`: which pages may open it, as Origins tells. `max_message_size` (bytes, after
    decompression): a longer message closes with 1009. `compression` (bool): offers of
    permessage-deflate are accepted. A ping is sent after `ping_interval` seconds without a message;
    the connection is lost if nothing has come `ping_timeout` seconds later; None is never. `pings`
    (bool): the handler is given Ping and Pong too, which the library deals with all the same.

    `check(request)` is asked before the WebSocket is opened: None or True goes on, False refuses it
    with 403; an HTTPError or any Response, returned (also as a class) or raised, is the answer.

    `max_buffered`: bytes that wait for a slow client. Beyond them, by `overflow`, send waits
    ("block"), the oldest messages are dropped ("drop") or the WebSocket is closed with 1013
    ("close"). `max_sessions` (int): how many sessions of the route may be open at once.

    Raises TypeError or ValueError for anything else.
    """

    __slots__ = (
        "check",
        "compression",
        "max_buffered",
        "max_message_size",
        "max_sessions",
        "origins",
        "overflow",
        "ping_interval",
        "ping_timeout",
        "pings",
        "session",
        "subprotocols",
    )

    def __init__(
        self,
        session: bool = False,
        /,
        *,
        subprotocols: Iterable[str] = (),
        origins: str | Iterable[str] = SAME_ORIGIN,
        max_message_size: int = 1_048_576,
        compression: bool = True,
        ping_interval: float | None = 20.0,
        ping_timeout: float | None = 20.0,
        pings: bool = False,
        check: Callable[[Request], object] | None = None,
        max_buffered: int = 1_048_576,
        overflow: str = "block",
        max_sessions: int = 256,
    ) -> None:
        if check is not None and not callable(check):
            raise TypeError(f"check is a function that takes the request, not {check!r}")
        refuse_async(check, "check")
        if overflow not in _OVERFLOWS:
            raise ValueError(f'overflow is "block", "drop" or "close", not {overflow!r}')
        self.session = session
        self.subprotocols = _checked_subprotocols(subprotocols)
        self.origins = Origins(origins)
        self.max_message_size = _checked_count("max_message_size", max_message_size, "bytes")
        self.compression = _checked_bool("compression", compression)
        self.ping_interval = _checked_seconds("ping_interval", ping_interval)
        self.ping_timeout = _checked_seconds("ping_timeout", ping_timeout)
        self.pings = _checked_bool("pings", pings)
        self.check = check
        self.max_buffered = _checked_count("max_buffered", max_buffered, "bytes")
        self.overflow = overflow
        self.max_sessions = _checked_count("max_sessions", max_sessions, "sessions")


def socket_options(session: bool, given: Mapping[str, Any]) -> RouteOptions:
    """Return the options that a decorator was given; raises TypeError or ValueError."""
    known = _SESSION_OPTIONS if session else _CALLBACK_OPTIONS
    for name in given:
        if name not in known:
            raise TypeError(f"there is no option {name!r}; the options are {', '.join(known)}")
    options = RouteOptions(**{name: given[name] for name in given if name in _OF_ANY_ROUTE})
    options.socket = WebSocketOptions(
        session, **{name: given[name] for name in given if name not in _OF_ANY_ROUTE}
    )
    return options


def _checked_subprotocols(given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise TypeError(f'subprotocols is a list, as ["chat.v2", "chat.v1"]; got {given!r}')
    subprotocols = tuple(given)
    for name in subprotocols:
        if not isinstance(name, str):
            raise TypeError(f"a subprotocol is a str, not {name!r}")
        if not is_token(name):
            raise ValueError(
                f"{name!r} cannot name a subprotocol: use letters, digits, - and . (RFC 6455 §4.1)"
            )
    if len(set(subprotocols)) < len(subprotocols):
        raise ValueError(f"subprotocols has one of them twice: {subprotocols!r}")
    return subprotocols


def _checked_count(name: str, value: int, unit: str) -> int:
    if type(value) is not int:
        raise TypeError(f"{name} is a number of {unit}, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} is at least 1, not {value!r}")
    return value


def _checked_bool(name: str, value: bool) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} is True or False, not {value!r}")
    return value


def _checked_seconds(name: str, value: float | None) -> float | None:
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} is a number of seconds, or None for never, not {value!r}")
    if not 0 < value < inf:
        raise ValueError(f"{name} is a number of seconds above 0, or None for never, not {value!r}")
    return float(value)


class SocketRoute:
    """A route of WebSockets as requests can reach it, inside the Routers it is mounted in.

    The engine reads the options, which are those of WebSocketOptions and RouteOptions. It alone
    writes `mean`, seconds that calls have taken, `slow`, what it makes of them, and `sessions`, how
    many are open.
    """

    __slots__ = (
        "_callback",
        "_check",
        "_origins",
        "blocking",
        "compression",
        "max_buffered",
        "max_message_size",
        "max_sessions",
        "mean",
        "overflow",
        "ping_interval",
        "ping_timeout",
        "pings",
        "session",
        "sessions",
        "slow",
        "subprotocols",
    )

    def __init__(self, callback: Callback, options: RouteOptions) -> None:
        socket = options.socket or WebSocketOptions()
        self._callback = callback
        self._check = socket.check
        self._origins = socket.origins
        self.blocking: bool | None = options.blocking
        self.compression: bool = socket.compression
        self.max_buffered: int = socket.max_buffered
        self.max_message_size: int = socket.max_message_size
        self.max_sessions: int = socket.max_sessions
        self.overflow: str = socket.overflow
        self.ping_interval: float | None = socket.ping_interval
        self.ping_timeout: float | None = socket.ping_timeout
        self.pings: bool = socket.pings
        self.session: bool = socket.session
        self.subprotocols: tuple[str, ...] = socket.subprotocols
        self.mean: float = 0.0
        self.slow: bool = False
        self.sessions: int = 0

    # Opening, in the thread that handles the request.

    def open(self, request: Request) -> Response | HTTPError:
        """Return the response that opens the WebSocket, or that refuses it.

        That is what the route's endpoint calls, inside the middlewares. Raises any HTTPError as
        well, and what the application's code raises.
        """
        if request.method != "GET" or "websocket" not in request.upgrade:
            raise UpgradeRequired("websocket")
        if not self._origins.allow(request):
            raise Forbidden("This page may not open the WebSocket: its origin is another one.")
        if request.exchange is None:
            raise HTTPNotImplemented("WebSocket needs a server, which this request has not come by")
        connection = request.exchange.open_websocket(request, self)
        refusal = self._refusal(request) or self._begin(request, connection)
        if refusal is not None:
            return refusal
        response = Response(None, 101, connection.headers)
        response.socket = connection
        return response

    def _refusal(self, request: Request) -> Response | HTTPError | None:
        """Return what `check` answers in place of the WebSocket, if it does."""
        if self._check is None:
            return None
        result = self._check(request)
        if result is None or result is True:
            return None
        if result is False:
            return Forbidden()
        answer = _answer(result)
        if answer is None:
            kind = type(result).__name__
            raise TypeError(f"check returns a bool, a response or an error, not {kind}")
        return answer

    def _begin(self, request: Request, connection: Connection) -> Response | HTTPError | None:
        """Give the connection what its events are told to; return what Open answers instead."""
        if self.session:
            connection.begin(WebSocketSession(request, connection))
            return None
        socket = WebSocketRequest.of(request, connection)
        connection.begin(socket)
        return _answer(self._callback(socket, WebSocketOpCode.Open, ""))

    # Running the application's code, one call at a time for each WebSocket.

    def __call__(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> bool:
        """Give the handler an event; False if it failed, which has been logged. Never raises."""
        try:
            self._callback(request, opcode, payload)
        except BaseException as error:  # noqa: BLE001 - one WebSocket never ends the server
            return _forgiven(request, error)
        return True

    def converse(self, session: WebSocketSession) -> bool:
        """Run the function of a session to its end; returns and logs as a call does."""
        try:
            self._callback(session)
        except BaseException as error:  # noqa: BLE001 - as in __call__
            return _forgiven(session.request, error)
        return True


def _answer(result: object) -> Response | HTTPError | None:
    """Return the answer that a result is, or is the class of; None for any other."""
    if isinstance(result, type) and issubclass(result, HTTPError | Response):
        result = instance_of(result)
    return result if isinstance(result, HTTPError | Response) else None


def _forgiven(request: Request, error: BaseException) -> bool:
    """Log an exception that left a handler; tell whether it only means that a client has left."""
    if isinstance(error, Disconnected):
        logger.debug("%s %s: %s", request.method, printable(request.raw_path), error)
        return True
    log_failure(request, _FAILED, error)
    return False
