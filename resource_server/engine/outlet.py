"""The writing half of a WebSocket's connection, where any thread may send.

Two locks, taken in this order:

- ``_encoding`` guards the compressor, and keeps compressed messages in its order. It is there only
  with compression. It may be held for as long as compressing takes; the leader never takes it.
- ``_io`` guards the socket, the outbox, the list of what to call at the end, and the protocol's
  writing half but for the compressor. It is held for moments only: nothing that blocks is done
  under it, but for waiting on ``_room``, which lets go of it.

A frame goes to the socket at once, in the thread that sends it. What the socket does not take waits
in the outbox, of which the leader is told through the loop's door.
"""

from __future__ import annotations

import os
import threading

from ..errors import WebSocketClosed
from ..protocol.frames import Violation, encode_frame
from ..protocol.websocket import WebSocket
from ..websockets import WebSocketOpCode, opcode_and_payload
from .defects import log_exception
from .feed import Feed
from .outbox import Outbox
from .wire import IMPATIENT

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ..request import Request
    from ..streams import Source
    from ..websockets import Outgoing, Route, Sendable
    from .loop import Loop
    from .tls import TLSSocket


#: Close codes (RFC 6455 §7.4.1 and the IANA registry).
GOING_AWAY, INTERNAL_ERROR, TRY_AGAIN_LATER = 1001, 1011, 1013


class Outlet:
    """The socket, the protocol and the output that waits."""

    __slots__ = (
        "_at_close",
        "_corked",
        "_encoding",
        "_farewell",
        "_feed",
        "_io",
        "_opener",
        "_outbox",
        "_room",
        "broken",
        "given_up",
        "headers",
        "loop",
        "protocol",
        "route",
        "sock",
        "subprotocol",
        "uid",
    )

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket | TLSSocket,
        protocol: WebSocket,
        route: Route,
    ) -> None:
        self.loop = loop
        self.sock = sock
        self.protocol = protocol
        self.route = route
        #: unique, also among those of other processes
        self.uid = os.urandom(16).hex()
        #: the fields of the response that opens it
        self.headers: list[tuple[str, str]] = []
        self.subprotocol: str | None = None
        #: the socket has failed; the leader closes it
        self.broken = False
        #: this side has closed: what the peer still says is not for the handler
        self.given_up = False
        self._io = threading.Lock()
        self._encoding = threading.Lock() if protocol.deflate is not None else None
        # Until the response that opens it is on its way; and the thread that runs the handler's
        # Open meanwhile.
        self._corked = True
        self._opener = 0
        self._outbox: Outbox | None = None
        self._room: threading.Condition | None = None
        # What this side has closed with.
        self._farewell = (1006, "")
        self._at_close: list[Callable[[], None]] | None = []
        # What messages are pulled from while nothing else waits.
        self._feed: Feed | None = None

    if TYPE_CHECKING:

        def on_event(self, mask: int) -> bool:
            """Go on in the loop, as `WebSocketConnection` does."""

        def drop(self) -> None:
            """End it now, as `WebSocketConnection` does."""

    # -- any thread ------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.protocol.close_sent or self.broken

    @property
    def buffered(self) -> int:
        """Bytes that wait for the socket to take them."""
        outbox = self._outbox
        return 0 if outbox is None else outbox.size

    @property
    def close_code(self) -> int | None:
        """Why it was closed (RFC 6455 §7.1.5), None while it is open."""
        return self.protocol.close_code

    @property
    def close_reason(self) -> str:
        """What was said about that."""
        return self.protocol.close_reason

    def send(self, message: Sendable) -> None:
        """Send a message.

        Beyond ``max_buffered`` bytes it waits, or as the route's ``overflow`` says.

        :raises WebSocketClosed: when it is closed.
        :raises TypeError: for what is neither text nor bytes.
        """
        opcode, payload = opcode_and_payload(message)
        size = len(payload)
        if self._encoding is None:
            with self._io:
                self._require_open()
                self._wait_for_room(size)
                self._put(self.protocol.encode(opcode, payload))
            return
        while not self._compress_and_put(size, lambda: self.protocol.encode(opcode, payload)):
            with self._io:
                self._wait_for_room(size)

    def post(self, message: Outgoing) -> bool:
        """Send a message of a group: without waiting, and without an exception.

        When the outbox is full the connection is closed, unless its route drops messages.

        :returns: whether it was sent, as far as that depends on this side.
        """
        size = len(message.payload)
        try:
            if self._encoding is None:
                with self._io:
                    self._require_open()
                    if not self._has_room(size):
                        self._overflow()
                    self._put(self.protocol.encode_shared(message))
            elif not self._compress_and_put(size, lambda: self.protocol.encode_shared(message)):
                with self._io:
                    self._overflow()
        except WebSocketClosed:
            # Out of its groups at once, not only when the leader comes to it.
            self._leave()
            return False
        return True

    def _compress_and_put(self, size: int, encode: Callable[[], bytes]) -> bool:
        """Send a message that may be compressed; False, and nothing done, if there is no room.

        What was compressed has to be sent, as the next message may refer to it. So there is room
        first, and nobody waits for it with the compressor in his hands.
        """
        assert self._encoding is not None
        with self._encoding:
            with self._io:
                self._require_open()
                if not self._has_room(size):
                    return False
            try:
                frame = encode()
                with self._io:
                    self._require_open()
                    self._put(frame)
            except BaseException as error:
                # Ctrl-C in the main thread, for instance: the peer will not know this message.
                assert self.protocol.deflate is not None
                self.protocol.deflate.forget()
                if isinstance(error, RuntimeError):
                    # Closed in this moment.
                    self._require_open()
                raise
        return True

    def ping(self, payload: bytes = b"") -> None:
        """Send a Ping, which the peer has to answer.

        :param payload: at most 125 bytes.
        :raises WebSocketClosed: when it is closed.
        :raises ValueError: for a longer payload.
        """
        payload = bytes(payload)
        if len(payload) > 125:
            raise ValueError("the payload of a Ping has at most 125 bytes (RFC 6455 §5.5)")
        with self._io:
            self._require_open()
            self._wait_for_room(len(payload))
            self._put(self.protocol.encode(WebSocketOpCode.Ping, payload))

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Begin to close, after what has been sent; once it is closed this does nothing.

        :raises ValueError: for a code or reason that may not be sent (RFC 6455 §7.4).
        """
        with self._io:
            frame = self.protocol.close(code, reason)
            if not frame or self.broken:
                return
            self._farewell = (1005 if code is None else code, reason)
            self._begin_close(frame)
        self._leave()
        self.loop.post(self)

    def on_close(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called once, when it is no longer open; at once if that is so."""
        with self._io:
            if self._at_close is not None:
                self._at_close.append(callback)
                return
        callback()

    def feed(self, source: Source, request: Request) -> None:
        """Send what a source gives, each piece a binary message, when nothing else waits.

        At its end the connection is closed.

        :raises WebSocketClosed: when it is closed.
        :raises RuntimeError: when there is a source already.
        :raises Exception: what opening the source raises.
        """
        with self._io:
            self._require_open()
            if self._feed is not None:
                raise RuntimeError("a WebSocket is attached to one source at most")
            self._feed = feed = Feed(self, source)
        try:
            feed.open(request)
        except BaseException:
            self._feed = None
            feed.close()
            raise
        # In the leader's hands, who may be looking at the source in this moment.
        self.on_close(feed.look)
        feed.look()

    # -- any thread, holding _io -----------------------------------------------------------

    def _require_open(self) -> None:
        if self.protocol.close_sent or self.broken:
            raise self._closed_error()

    def _closed_error(self) -> WebSocketClosed:
        code, reason = self.close_code, self.close_reason
        if code is None:
            # Closed by this side, and not answered yet.
            code, reason = self._farewell
        return WebSocketClosed(code, reason)

    def _begin_close(self, frame: bytes) -> None:
        self.given_up = True
        self._put_control(frame)
        self._wake_senders()

    def _has_room(self, size: int) -> bool:
        """Whether a message may be sent now; those that wait are dropped for it, if they may be.

        A message larger than all the room there is goes when nothing else waits.

        :raises WebSocketClosed: if the connection is closed for having no room.
        """
        outbox, limit = self._outbox, self.route.max_buffered
        if not outbox or outbox.size + size <= limit:
            return True
        if self.route.overflow == "close":
            self._overflow()
        if self.route.overflow == "drop":
            outbox.drop(limit - size)
            return True
        # Within Open nobody makes room, and what the handler says there is his own affair.
        return self._corked and threading.get_ident() == self._opener

    def _put(self, frame: bytes) -> None:
        """Send a frame of data, or keep it.

        :raises WebSocketClosed: if the socket has failed.
        """
        if self._outbox is None and not self._corked:
            self._try(frame)
            if self.broken:
                raise self._closed_error()
        else:
            self._waiting().put(frame)

    def _put_control(self, frame: bytes) -> None:
        if self._outbox is None and not self._corked:
            self._try(frame)
        else:
            self._waiting().put(frame, data=False)

    def _waiting(self) -> Outbox:
        if self._outbox is None:
            self._outbox = Outbox()
        return self._outbox

    def _try(self, frame: bytes) -> None:
        """Give a frame to the socket, and keep the rest; the leader is told of that."""
        try:
            taken = self.sock.send(frame)
        except BlockingIOError:
            taken = 0
        except OSError:
            self._broke()
            return
        if taken < len(frame):
            self._outbox = Outbox()
            self._outbox.put_rest(memoryview(frame)[taken:])
            self.loop.post(self)

    def _broke(self) -> None:
        if not self.broken:
            self.broken = True
            self._wake_senders()
            self.loop.post(self)

    def _overflow(self) -> None:
        """Close a connection whose peer does not read."""
        self._require_open()
        if self._outbox is not None:
            # What waits would be late; the end shall be told soon.
            self._outbox.drop(0)
        self._farewell = (TRY_AGAIN_LATER, "too slow")
        self._begin_close(self.protocol.close(*self._farewell))
        self.loop.post(self)
        self._require_open()

    def _wait_for_room(self, size: int) -> None:
        """Wait until the leader has sent enough of the outbox.

        :raises WebSocketClosed: if the connection ends before.
        """
        while not self._has_room(size):
            if self._room is None:
                self._room = threading.Condition(self._io)
            crew = self.loop.crew
            if not crew.includes_caller():
                self._room.wait()
            else:
                # So that peers that do not read do not use up the workers.
                patient = crew.begin_waiting()
                try:
                    woken = self._room.wait(None if patient else IMPATIENT)
                finally:
                    crew.end_waiting()
                if not woken and not self._has_room(size):
                    self._overflow()
            self._require_open()

    def _wake_senders(self) -> None:
        if self._room is not None:
            self._room.notify_all()

    # -- the leader ------------------------------------------------------------------------

    def on_wake(self, feed: Feed) -> bool:
        """Send the next of a source, unless something waits; whether the caller still leads."""
        for _ in range(2):
            with self._io:
                closed = self.closed
                if not closed and (self._corked or self._outbox is not None):
                    # It is looked at again when there is room.
                    return True
            piece: bytes | None = b""
            if not closed:
                try:
                    piece = feed.take()
                except BaseException:  # noqa: BLE001 - the application's source may raise anything
                    log_exception("The source of a WebSocket failed.")
                    self.close(INTERNAL_ERROR)
            if piece is None:
                return True
            if not piece:
                feed.close()
                self._feed = None
                self.close(1000)
                return True
            try:
                with self._io:
                    self._require_open()
                    # Uncompressed, as most of what is worth it is compressed already, and the
                    # leader has no time for it.
                    self._put(encode_frame(WebSocketOpCode.Binary, piece))
            except WebSocketClosed:
                pass
        feed.come_back()
        return True

    def _feed_on(self) -> None:
        """There is room: look at the source in its turn."""
        if self._feed is not None:
            self._feed.come_back()

    def _flush(self) -> bool:
        """Send what waits, as far as the socket takes it; whether it took anything."""
        progress = False
        with self._io:
            outbox = self._outbox
            if outbox is None or self._corked or self.broken:
                return False
            try:
                while outbox:
                    outbox.took(self.sock.send(outbox.next()))
                    progress = True
            except BlockingIOError:
                pass
            except OSError:
                self.broken = True
            if not outbox:
                self._outbox = None
                self._feed_on()
            if progress or self.broken:
                self._wake_senders()
        return progress

    def _uncork(self) -> None:
        """The response that opens it has been sent."""
        with self._io:
            self._corked = False
            self._wake_senders()
            self._feed_on()

    def _answer_pings(self, payloads: list[bytes]) -> None:
        with self._io:
            pongs = [pong for payload in payloads if (pong := self.protocol.pong(payload))]
            if pongs and self._outbox is None and not self._corked:
                self._try(b"".join(pongs))
            elif pongs:
                self._waiting().put_pong(pongs[-1])

    def _send_ping(self) -> None:
        with self._io:
            if not self.closed:
                self._put_control(self.protocol.encode(WebSocketOpCode.Ping, b""))

    def _answer_close(self) -> None:
        """Echo the peer's Close, behind what has been sent; any thread."""
        with self._io:
            if frame := self.protocol.answer_close():
                self._put_control(frame)
            self._wake_senders()
        self._leave()

    def _fail(self, violation: Violation) -> None:
        """Tell the peer which rule it broke, behind what has been sent; any thread."""
        with self._io:
            if frame := self.protocol.fail(violation):
                self._put_control(frame)
            self.given_up = True
            self._wake_senders()
        self._leave()

    def _lose(self, reason: str) -> None:
        """The transport is gone, or of no use any more; ``reason`` if there is no other."""
        with self._io:
            self.broken = True
            known = self.protocol.close_code is not None
            self.protocol.lost()
            if not known:
                self.protocol.close_reason = reason
            self._outbox = None
            self._wake_senders()
        self._leave()

    def _leave(self) -> None:
        """Tell groups and others that it is open no longer; any thread."""
        with self._io:
            callbacks, self._at_close = self._at_close, None
        for callback in callbacks or ():
            try:
                callback()
            except BaseException:  # noqa: BLE001 - the application's code may raise anything
                log_exception("What was to be called at a WebSocket's end failed.")
