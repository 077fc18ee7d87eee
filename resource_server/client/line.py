"""A session's connection as far as any thread may use it: receiving, sending, closing.

Three locks, taken in this order, and never while foreign code is called:

- ``_sending`` guards the compressor, and keeps messages in its order. It may be held for as long as
  compressing takes. The reader takes it only within `on_open`, when it sends; nobody waits for room
  while he holds it.
- ``_io`` guards ``_wire``, its socket and outbox, the writing half of its protocol, and the list of
  what to call at the end. OpenSSL allows one thread at a time, so reading takes it too. It is held
  for moments: the socket never blocks, and waiting on ``_room`` lets go of it.
- ``_arrived`` guards the inbox and what tells that nothing more will come. Never with ``_io``.

The reading half of the protocol is the reader's alone; the protocol's two halves share only facts
that never go back.

No lock guards ``_over``, ``_orphaned`` and ``_free``, as a session may become garbage anywhere,
also in a thread that holds all locks. The first two are only ever set. Who sets one then calls what
``_free`` has; who sets ``_free`` then looks at the first two: one of both sees the other.
"""

from __future__ import annotations

import os
import threading
from collections import deque

from ..errors import WebSocketClosed
from ..protocol.websocket import WebSocket
from ..websockets import WebSocketOpCode, opcode_and_payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ..websockets import Message, Sendable
    from ..websockets import Outgoing as Shared
    from .upgrade import Wire
    from .websocket import ClientWebSocket

#: Bytes of messages that nobody has received yet, beyond which nothing more is read …
INBOX_SIZE = 262_144
#: … where each counts this much more than its content.
MESSAGE_OVERHEAD = 100
#: Bytes that wait for the socket, beyond which `send` waits too.
MAX_BUFFERED = 1_048_576
#: Seconds that the closing handshake may take, and when the client is stopped or the session gone.
CLOSE_TIMEOUT = 5.0
STOP_TIMEOUT = 1.0
#: Seconds that a server has for closing its side behind the closing handshake (RFC 6455 §7.1.1).
LINGER = 1.0

_GOING_AWAY, _TRY_AGAIN_LATER = 1001, 1013


class Ended(Exception):  # noqa: N818 - it is what happened
    """No connection is wanted any more."""


class Line:
    """What a session, its groups and its client ask of a connection."""

    def __init__(self, *, reconnects: bool) -> None:
        self._reconnects = reconnects
        #: a text that no other connection has
        self.uid = os.urandom(16).hex()
        #: the fields of a response, of which a client makes none
        self.headers: list[tuple[str, str]] = []
        self._session: Callable[[], ClientWebSocket | None] = lambda: None
        self._sending = threading.Lock()
        self._io = threading.Lock()
        self._room = threading.Condition(self._io)
        self._wire: Wire | None = None
        self._subprotocol: str | None = None
        # What the last connection was closed with.
        self._last = (1006, "")
        self._arrived = threading.Condition(threading.Lock())
        self._inbox: deque[Message] = deque()
        self._inbox_size = 0
        self._paused = False
        self._finished = False
        self._cause: BaseException | None = None
        # See the module's docstring.
        self._over = False
        self._orphaned = False
        self._free: Callable[[], object] | None = None
        # What wakes the reader: a byte from one to the other.
        self._door: tuple[socket.socket, socket.socket] | None = None
        self._thread: threading.Thread | None = None

    # What a session asks.

    @property
    def connected(self) -> bool:
        """Whether something can be sent."""
        wire = self._wire
        return wire is not None and not wire.broken and not wire.protocol.close_sent

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more, nor will be."""
        if self._over or self._finished:
            return True
        return not self._reconnects and not self.connected

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol of the present connection, or the last one."""
        return self._subprotocol

    @property
    def buffered(self) -> int:
        """Bytes that wait for the socket to take them."""
        wire = self._wire
        return 0 if wire is None else wire.size

    @property
    def close_code(self) -> int | None:
        """Why it was closed (RFC 6455 §7.1.5), None until it is."""
        return self._last[0] if self._finished else None

    @property
    def close_reason(self) -> str:
        """What was said about that."""
        return self._last[1] if self._finished else ""

    def receive(self, timeout: float | None = None) -> Message:
        """Wait for a message; raises TimeoutError and WebSocketClosed."""
        limit = None if timeout is None else min(max(0.0, timeout), threading.TIMEOUT_MAX)
        with self._arrived:
            if not self._inbox and threading.current_thread() is self._thread:
                raise RuntimeError("on_open cannot receive: it would wait for its own thread")
            self._arrived.wait_for(lambda: self._inbox or self._finished, limit)
            if not self._inbox:
                if not self._finished:
                    raise TimeoutError(f"no message came within {timeout} seconds")
                raise WebSocketClosed(*self._last) from self._cause
            message = self._inbox.popleft()
            self._inbox_size -= len(message) + MESSAGE_OVERHEAD
            resume = self._paused and self._inbox_size <= INBOX_SIZE // 2
        if resume:
            self._knock()
        return message

    def send(self, message: Sendable) -> None:
        """Send a message; raises WebSocketClosed."""
        opcode, payload = opcode_and_payload(message)
        while not self._put(opcode, payload):
            self._wait_for_room(len(payload))

    def post(self, message: Shared) -> bool:
        """Send one of many; never blocks or raises, and tells whether it was sent."""
        try:
            if self._put(message.opcode, message.payload):
                return True
        except WebSocketClosed:
            return False
        # As groups do with what is too slow.
        self._begin_close(_TRY_AGAIN_LATER, "too slow", CLOSE_TIMEOUT)
        return False

    def ping(self, payload: bytes = b"") -> None:
        """Send a ping; raises WebSocketClosed, ValueError for more than 125 bytes."""
        payload = bytes(payload)
        if len(payload) > 125:
            raise ValueError("the payload of a Ping has at most 125 bytes (RFC 6455 §5.5)")
        while not self._put(WebSocketOpCode.Ping, payload):
            self._wait_for_room(len(payload))

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Close, and wait for the end; raises ValueError for what may not be sent."""
        self._begin_close(code, reason, CLOSE_TIMEOUT)
        self.join(CLOSE_TIMEOUT + LINGER)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call it once, when the session has come to its end, or now if that is so already."""
        session = self._session()
        with self._io:
            if session is not None and session._at_close is not None:
                session._at_close.append(callback)
                return
        callback()

    def stop(self) -> None:
        """Begin to close for good, within a second; does not wait for that."""
        self._begin_close(_GOING_AWAY, "", STOP_TIMEOUT)

    def join(self, timeout: float | None) -> None:
        """Wait for the reader's end, up to so many seconds; the reader itself does not."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    # Sending.

    def _open_wire(self) -> Wire:
        """Return the connection if it is open, else raise WebSocketClosed; needs ``_io``."""
        wire = self._wire
        if wire is None or wire.broken or wire.protocol.close_sent:
            raise WebSocketClosed(*self._last) from self._cause
        return wire

    def _has_room(self, wire: Wire, size: int) -> bool:
        """Whether a message may be sent now; needs ``_io``. Who makes room does not wait for it."""
        if not wire.outbox or wire.size + size <= MAX_BUFFERED:
            return True
        return threading.current_thread() is self._thread

    def _put(self, opcode: int, payload: bytes) -> bool:
        """Send a message or Ping; False, and nothing done, if there is no room."""
        with self._sending:
            with self._io:
                wire = self._open_wire()
                if not self._has_room(wire, len(payload)):
                    return False
            try:
                frame = wire.protocol.encode(opcode, payload)
                with self._io:
                    if self._open_wire() is not wire:
                        raise WebSocketClosed(*self._last)
                    waits = wire.put(frame)
                    if wire.broken:
                        self._knock()
                        raise WebSocketClosed(*self._last)
            except BaseException as error:
                # The server will not know this message, which the next may not refer to.
                if wire.protocol.deflate is not None:
                    wire.protocol.deflate.forget()
                if isinstance(error, RuntimeError):
                    raise WebSocketClosed(*self._last) from None  # in this moment
                raise
        if waits:
            self._knock()
        return True

    def _wait_for_room(self, size: int) -> None:
        with self._room:
            while not self._has_room(self._open_wire(), size):
                self._room.wait()

    def _begin_close(self, code: int | None, reason: str, within: float) -> None:
        """Send a Close if none was sent, and let the reader end in so many seconds at most."""
        with self._io:
            wire = self._wire
            protocol = WebSocket(client=True, max_message_size=1) if wire is None else wire.protocol
            frame = protocol.close(code, reason)
            self._over = True
            if wire is not None:
                if frame:
                    self._last = (1005 if code is None else code, reason)
                wire.put(frame)
                wire.close_within(within)
            self._room.notify_all()
        self._cut()

    # Waking the reader; without locks.

    def _knock(self) -> None:
        if self._door is not None:
            try:
                self._door[1].send(b"\0")
            except OSError:
                pass  # it is full of knocks, or the reader has ended

    def _cut(self) -> None:
        """Wake the reader, also from connecting."""
        free = self._free
        if free is not None:
            free()
        self._knock()

    def _held(self, free: Callable[[], object] | None) -> None:
        """Take what frees who is connecting; raises Ended if nobody wants that any more."""
        self._free = free
        if self._over or self._orphaned:
            raise Ended
