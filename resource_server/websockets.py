"""What applications hold of WebSockets (RFC 6455): messages, one WebSocket, and groups of them.

A WebSocket reaches its handler as a `WebSocketRequest`, or as a `WebSocketSession` if the handler
is one conversation from its beginning to its end. Both speak to their connection, which belongs to
the engine, and all they offer may be called from any thread at any time.
"""

from __future__ import annotations

import threading
from enum import IntEnum
from weakref import ref

from .errors import WebSocketClosed
from .headers import Headers
from .request import Request

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Protocol, Self, TypeAlias

    #: A message, or what can be sent as one.
    Message: TypeAlias = str | bytes
    Sendable: TypeAlias = str | bytes | bytearray | memoryview

    class Connection(Protocol):
        """A WebSocket's connection; any thread may call it, but for `begin`."""

        headers: list[tuple[str, str]]  # of the response that opens it

        @property
        def uid(self) -> str:
            """What no other connection of the process has."""

        @property
        def closed(self) -> bool:
            """Whether it is no longer open; true before the callbacks of on_close are called."""

        @property
        def subprotocol(self) -> str | None:
            """The subprotocol that was agreed upon."""

        @property
        def buffered(self) -> int:
            """Bytes that the socket has not taken yet."""

        @property
        def close_code(self) -> int | None:
            """Why it was closed."""

        @property
        def close_reason(self) -> str:
            """Why it was closed, in words."""

        def begin(self, socket: WebSocketRequest | WebSocketSession, /) -> None:
            """Take what the events are told to; called once, before it is open."""

        def send(self, message: Sendable, /) -> None:
            """Send a message; raises WebSocketClosed."""

        def post(self, message: Outgoing, /) -> bool:
            """Send one of many; never blocks or raises, and tells whether it was sent."""

        def ping(self, payload: bytes = b"", /) -> None:
            """Send a ping; raises WebSocketClosed."""

        def close(self, code: int | None = 1000, reason: str = "", /) -> None:
            """Begin the closing handshake; nothing the second time."""

        def receive(self, timeout: float | None = None, /) -> Message:
            """Wait for a message; raises TimeoutError and WebSocketClosed."""

        def on_close(self, callback: Callable[[], None], /) -> None:
            """Call it once, when the connection is no longer open, or now if that is so already."""

    class Route(Protocol):
        """What the engine must know of a WebSocket, and what it calls; it keeps the last three."""

        subprotocols: tuple[str, ...]
        compression: bool
        max_message_size: int
        ping_interval: float | None
        ping_timeout: float | None
        pings: bool
        max_buffered: int
        overflow: str
        blocking: bool | None
        session: bool
        max_sessions: int
        mean: float
        slow: bool
        sessions: int

        def __call__(
            self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: Message, /
        ) -> bool:
            """Run the handler for an event; never raises, and tells whether it succeeded."""

        def converse(self, session: WebSocketSession, /) -> bool:
            """Run the handler of a session; never raises, and tells whether it succeeded."""


class WebSocketOpCode(IntEnum):
    """What a message on a WebSocket is: the opcodes of RFC 6455 §11.8.

    `Open` is the library's own, and no frame has it: it tells a handler that the WebSocket is open.
    """

    Text = 1
    Binary = 2
    Close = 8
    Ping = 9
    Pong = 10
    Open = 255


class Outgoing:
    """A message on its way, to any number of connections: a str is Text, bytes are Binary.

    `payload` is what the frames carry, `encoded` the frames that were made of it, by what they
    depend on. Raises TypeError for a message of another type, ValueError for text that is not
    Unicode: with half of a surrogate pair.
    """

    __slots__ = ("encoded", "opcode", "payload")

    def __init__(self, message: Sendable) -> None:
        self.opcode: WebSocketOpCode
        self.payload: bytes
        self.opcode, self.payload = opcode_and_payload(message)
        self.encoded: dict[object, bytes] = {}


def opcode_and_payload(message: Sendable) -> tuple[WebSocketOpCode, bytes]:
    """Return what the frame of a message holds; raises as Outgoing."""
    if isinstance(message, str):
        try:
            return WebSocketOpCode.Text, message.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"the text has half of a surrogate pair at index {error.start}, which cannot be"
                ' sent as UTF-8: send bytes, or replace it with .encode("utf-8", "replace")'
            ) from None
    if isinstance(message, bytes | bytearray | memoryview):
        return WebSocketOpCode.Binary, bytes(message)
    raise TypeError(
        f"a message is str (text) or bytes (binary), not {type(message).__name__}:"
        " make it text with json.dumps, for instance"
    )


class _Socket:
    """What every holder of a WebSocket may do with it, in any thread, at any time."""

    __slots__ = ()

    if TYPE_CHECKING:
        connection: Connection

    @property
    def uid(self) -> str:
        """A text that no other WebSocket of the process has."""
        return self.connection.uid

    @property
    def closed(self) -> bool:
        """Whether it is no longer open, or about to be closed: nothing can be sent."""
        return self.connection.closed

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that both sides have agreed upon, None for none."""
        return self.connection.subprotocol

    @property
    def buffered(self) -> int:
        """Bytes sent that the client has not taken yet."""
        return self.connection.buffered

    @property
    def close_code(self) -> int | None:
        """The code that the client closed with, or answered (RFC 6455 §7.1.5); None while open.

        1005 if it gave none, 1006 if the connection was lost, and if it broke a rule the code that
        told it so.
        """
        return self.connection.close_code

    @property
    def close_reason(self) -> str:
        """The reason that came with `close_code`, in words for people, or ""."""
        return self.connection.close_reason

    def send(self, message: Sendable) -> None:
        """Send a message: a str as text, bytes as binary.

        Returns when the message is on its way or waits to be; if more than the route's
        `max_buffered` bytes wait, its `overflow` tells what happens. Raises WebSocketClosed when
        the WebSocket is closed, TypeError for a message of another type, ValueError for text that
        is not Unicode.
        """
        self.connection.send(message)

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping, which the client answers with a pong of the same payload (bytes, up to 125).

        Raises WebSocketClosed when the WebSocket is closed, ValueError for a longer payload.
        """
        self.connection.ping(payload)

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Close with a code (RFC 6455 §7.4) and a reason in words; it does nothing a second time.

        What was sent before still arrives. `code` is 1000 to 1003, 1007 to 1014 but for 1010, or
        3000 to 4999, or None for none; `reason` takes at most 123 bytes as UTF-8. Raises ValueError
        for others.
        """
        self.connection.close(code, reason)


class WebSocketRequest(_Socket, Request):
    """The request that opened a WebSocket, and the WebSocket: what a handler of events is given.

    It is the same object for all events of one WebSocket. What belongs to the request was told with
    it and does not change.
    """

    __slots__ = {
        "__weakref__": "",
        "_groups": "those it has joined; None until it joins one",
        "connection": "the WebSocket's side of the connection, of the engine",
    }

    connection: Connection
    _groups: tuple[ref[WebSocketGroup], ...] | None

    @classmethod
    def of(cls, request: Request, connection: Connection) -> Self:
        """Return the request with all that is known of it, as that of a WebSocket."""
        self = cls.__new__(cls)
        for name in _CARRIED:
            try:
                # Past Request.__getattr__, which would fill the slot.
                setattr(self, name, object.__getattribute__(request, name))
            except AttributeError:
                pass
        if hasattr(self, "_fields") and Headers.parse(self._fields) == self.headers:
            # Those of a browser take 4 KB; here they are parsed again if anybody asks.
            del self.headers
        # The exchange ends with the response that opens the WebSocket.
        self.exchange = None
        self.connection = connection
        self._groups = None
        return self

    @property
    def disconnected(self) -> bool:
        """Whether the WebSocket is closed."""
        return self.connection.closed

    def __repr__(self) -> str:
        return f"<WebSocketRequest {ascii(self.target)[1:-1]} {self.uid}>"


_CARRIED = tuple(Request.__slots__)


class WebSocketSession(_Socket):
    """A WebSocket that one thread reads: what a handler of sessions is given.

    Iterating over it gives the messages until it is closed, whatever the code. As a context manager
    it is closed at the end of the block, with 1011 if an exception leaves it, else with 1000.
    """

    __slots__ = {
        "__weakref__": "",
        "_groups": "those it has joined; None until it joins one",
        "connection": "the WebSocket's side of the connection, of the engine",
        "request": "the request that opened it",
    }

    connection: Connection
    request: Request
    _groups: tuple[ref[WebSocketGroup], ...] | None

    def __init__(self, request: Request, connection: Connection) -> None:
        self.request = request
        self.connection = connection
        self._groups = None

    def receive(self, timeout: float | None = None) -> Message:
        """Return the next message: text as str, binary as bytes.

        Waits for it up to `timeout` seconds (None for ever), and raises TimeoutError then;
        WebSocketClosed when the WebSocket is closed and all that came before has been received.
        """
        return self.connection.receive(timeout)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        try:
            return self.receive()
        except WebSocketClosed:
            raise StopIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(1000 if kind is None else 1011)

    def __repr__(self) -> str:
        return f"<WebSocketSession {ascii(self.request.target)[1:-1]} {self.uid}>"


# Guards who is in which group, on both sides: one lock for all, as it is held for a few steps only,
# and never while something is sent or called.
_membership = threading.Lock()


def _leave_groups(socket: WebSocketRequest | WebSocketSession | None) -> None:
    if socket is None:
        # Nothing refers to it any more, so no group does.
        return
    with _membership:
        groups, socket._groups = socket._groups or (), ()
    for known in groups:
        group = known()
        if group is not None:
            group.discard(socket)


class WebSocketGroup:
    """WebSockets that are sent the same messages; any thread may use it.

    What has joined leaves by itself when it closes. A group keeps no order.
    """

    __slots__ = ("__weakref__", "_members", "_reference", "_snapshot")

    def __init__(self) -> None:
        self._members: dict[Connection, WebSocketRequest | WebSocketSession] = {}
        # The members for all who ask, until they change.
        self._snapshot: tuple[WebSocketRequest | WebSocketSession, ...] | None = None
        # What a member knows of the group: it does not keep it alive.
        self._reference = ref(self)

    def add(self, socket: WebSocketRequest | WebSocketSession) -> None:
        """Let a WebSocket join; one that is closed does not. Raises TypeError for anything else."""
        if not isinstance(socket, WebSocketRequest | WebSocketSession):
            raise TypeError(
                "a group takes the WebSocketRequest or WebSocketSession that a handler is given,"
                f" not {type(socket).__name__}"
            )
        with _membership:
            self._members[socket.connection] = socket
            self._snapshot = None
            first = socket._groups is None
            known = [each for each in socket._groups or () if each() is not None]
            if self._reference not in known:
                known.append(self._reference)
            socket._groups = tuple(known)
        if first:
            # The connection's list may belong to the socket, which shall be no garbage in a cycle.
            member = ref(socket)
            socket.connection.on_close(lambda: _leave_groups(member()))
        if socket.closed:
            # It may have left its groups before this one was among them.
            self.discard(socket)

    def discard(self, socket: WebSocketRequest | WebSocketSession) -> None:
        """Let a WebSocket leave, if it is there."""
        with _membership:
            if self._members.pop(socket.connection, None) is None:
                return
            self._snapshot = None
            socket._groups = tuple(
                [each for each in socket._groups or () if each is not self._reference]
            )

    def send(self, message: Sendable) -> int:
        """Send a message to all, and return the number of those to which it is on its way.

        It never waits: a member that has more than its route's `max_buffered` bytes to take yet is
        closed with 1013, or loses its oldest messages if the route's `overflow` is "drop". The
        message is encoded once, not once for each. Raises TypeError for what is no message,
        ValueError for text that is not Unicode.
        """
        outgoing = Outgoing(message)
        sent = 0
        for member in self._current():
            if member.connection.post(outgoing):
                sent += 1
        return sent

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Close all of them, as each can be closed; they leave the group. Raises ValueError."""
        for member in self._current():
            member.close(code, reason)

    def _current(self) -> tuple[WebSocketRequest | WebSocketSession, ...]:
        snapshot = self._snapshot
        if snapshot is None:
            with _membership:
                snapshot = self._snapshot = tuple(self._members.values())
        return snapshot

    def __iter__(self) -> Iterator[WebSocketRequest | WebSocketSession]:
        """Return the members of this moment."""
        return iter(self._current())

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, socket: object) -> bool:
        return (
            isinstance(socket, WebSocketRequest | WebSocketSession)
            and socket.connection in self._members
        )
