"""One WebSocket, as the loop drives it.

It takes the place of an HTTP connection when the response with status 101 is on its way. From then
on the socket is read by the leader alone, which answers pings, checks what the protocol demands and
puts messages into the inbox (see ``conversation.py``). A full inbox is not read into, so that TCP
holds the peer back. The writing half, for any thread, is in ``outlet.py``.

What the leader waits for, in the order in which it comes to that, and what the deadline does:

==========  =====================================================  ===============================
waiting     for                                                    when the deadline passes
==========  =====================================================  ===============================
MESSAGES    messages                                               a ping is sent, or given up on
ROOM        the socket to take what is in the outbox               the socket is closed
HANDLER     the handler to answer what came before the peer's      the Close is answered all the
            Close, or before the rule that it broke                same
ANSWER      the answer to our Close                                the socket is closed
END         the peer to close its side, as all has been said       the socket is closed
NOTHING     the handler to take the rest of the inbox: the socket
            is closed
==========  =====================================================  ===============================

Only the leader calls the methods here, unless their group says otherwise.
"""

from __future__ import annotations

import enum
import logging
import math
import selectors
import socket
import threading

from ..errors import ServiceUnavailable
from ..protocol.deflate import Deflate
from ..protocol.frames import Violation
from ..protocol.opening import accept
from ..protocol.websocket import WebSocket
from ..websockets import WebSocketOpCode
from .conversation import INBOX_SIZE, MESSAGES_PER_TURN, Conversation
from .outlet import GOING_AWAY, INTERNAL_ERROR, TRY_AGAIN_LATER
from .tls import TLSSocket
from .wire import RECEIVE_SIZE

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from ..request import Request
    from ..websockets import Route, WebSocketRequest, WebSocketSession
    from .loop import Loop

log = logging.getLogger("resource_server")

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_TEXT, _BINARY, _CLOSE = WebSocketOpCode.Text, WebSocketOpCode.Binary, WebSocketOpCode.Close
_PING = WebSocketOpCode.Ping

#: Frames that the leader reads for one connection before others get their turn …
FRAMES_PER_TURN = 64
#: … and bytes of messages, as unmasking, inflating and decoding them takes the leader's time.
BYTES_PER_TURN = 262_144

# Guards `sessions` of every route.
_sessions_lock = threading.Lock()


class Waiting(enum.Enum):
    """What the leader waits for."""

    MESSAGES = enum.auto()
    ROOM = enum.auto()
    HANDLER = enum.auto()
    ANSWER = enum.auto()
    END = enum.auto()
    NOTHING = enum.auto()


def open_websocket(
    loop: Loop, sock: socket.socket | TLSSocket, request: Request, route: Route
) -> WebSocketConnection:
    """Accept the opening handshake of ``request``; in the thread that answers that.

    :raises HTTPError: for one that is not valid, and when there is no room for it.
    """
    if loop.stopping:
        raise ServiceUnavailable("The server is about to stop.")
    accepted = accept(
        request,
        subprotocols=route.subprotocols,
        compression=route.compression,
        # A message that is dropped would be missing in the other side's context.
        context_takeover=route.overflow != "drop",
    )
    if route.session:
        with _sessions_lock:
            if route.sessions >= route.max_sessions:
                raise ServiceUnavailable("There are too many sessions.", retry_after=1)
            route.sessions += 1
    parameters = accepted.deflate
    deflate = Deflate(parameters, client=False) if parameters is not None else None
    protocol = WebSocket(max_message_size=route.max_message_size, deflate=deflate)
    connection = WebSocketConnection(loop, sock, protocol, route)
    connection.headers = accepted.headers
    connection.subprotocol = accepted.subprotocol
    if route.session:
        connection.on_end = lambda: _end_session(route)
    return connection


def _end_session(route: Route) -> None:
    with _sessions_lock:
        route.sessions -= 1


class WebSocketConnection(Conversation):
    """A WebSocket in a loop."""

    __slots__ = (
        "_heard",
        "_in_turn",
        "_interest",
        "_pinged",
        "_plain",
        "_waiting_for",
        "deadline",
        "leftover",
    )

    def __init__(
        self, loop: Loop, sock: socket.socket | TLSSocket, protocol: WebSocket, route: Route
    ) -> None:
        super().__init__(loop, sock, protocol, route)
        #: when to call ``expire``, ``time.monotonic`` seconds
        self.deadline = math.inf
        #: what was received behind the request
        self.leftover = b""
        self._waiting_for = Waiting.MESSAGES
        self._plain = not isinstance(sock, TLSSocket)
        self._interest = 0
        # Whether the loop will come back to it, as there is more to handle than fits into a turn.
        self._in_turn = False
        # When something was received, and when a ping was sent.
        self._heard = loop.now
        self._pinged = 0.0

    # -- the thread that answers the opening request ---------------------------------------

    def begin(self, handle: WebSocketRequest | WebSocketSession) -> None:
        """The handler is about to be called with Open, or a session's thread to be started."""
        self.handle = handle
        self._opener = threading.get_ident()
        self.protocol.open()

    def refuse(self) -> None:
        """It is not opened after all, as something else was answered, or the client has gone.

        By whoever owns the HTTP connection, in place of `enter`.
        """
        self._waiting_for = Waiting.NOTHING
        self._lose("the WebSocket was not opened")
        self._finish()
        if self._inbox:
            self._running = True
            self._submit()
        else:
            self._release()

    # -- the leader: events ----------------------------------------------------------------

    def enter(self) -> bool:
        """Begin in the loop, as the response has been sent; whether the caller still leads."""
        loop = self.loop
        loop.connections.add(self)
        self._uncork()
        # Those that connect at once, after a restart for instance, are not pinged at once.
        spread = int(self.uid[:4], 16) / 0x20000
        self._heard = loop.now - spread * (self.route.ping_interval or 0.0)
        self._schedule_ping()
        if self._queue is not None:
            self._start_session()
        if loop.stopping:
            self.close(GOING_AWAY)
        self._flush()
        self._refresh()
        if self.leftover:
            self.protocol.receive(self.leftover)
            self.leftover = b""
        return self._read()

    def _start_session(self) -> None:
        try:
            self.loop.crew.host(self._converse)
        except RuntimeError as error:
            log.error("No thread could be started for a WebSocket's session: %s", error)
            self.close(TRY_AGAIN_LATER)
            self._release()

    def on_event(self, mask: int) -> bool:
        """Go on, as the socket is ready (``mask``), or something has been said to the loop (0).

        :returns: whether the calling thread still leads.
        """
        if mask == _READ and self._outbox is None:
            # The hot path. If a runner is done, a post of his follows.
            return self._receive()
        if self._corked:
            # Still in other hands: `enter` looks after everything.
            return True
        if not mask:
            self._in_turn = False
        if self._take_back():
            self._running = False
        if mask and self._flush() and self._waiting_for is Waiting.ROOM:
            self.deadline = self.loop.now + self.loop.limits.write
        self._refresh()
        if mask & _READ or (mask and not self._plain):
            return self._receive()
        return self._read()

    def _receive(self) -> bool:
        if self._waiting_for is Waiting.NOTHING:
            # It was found out in this event, and the handler has to be told.
            return self._read()
        if self._in_turn:
            # What has been received before comes first, also before the socket's end.
            return True
        if self.paused and not self.given_up and not self._finished:
            return True
        try:
            data = self.sock.recv(RECEIVE_SIZE) if self._plain else self._receive_tls()
        except BlockingIOError:
            if isinstance(self.sock, TLSSocket):
                self._watch(self._interest | self.sock.wants)
            return True
        except OSError:
            data = b""
        if not data:
            self._cut("the connection was lost")
            return self._read()
        self._heard = self.loop.now
        if self._finished:
            return True
        self.protocol.receive(data)
        return self._read()

    def _receive_tls(self) -> bytes:
        sock = self.sock
        assert isinstance(sock, TLSSocket)
        # OpenSSL cannot read and write at the same time.
        with self._io:
            if self._waiting_for is Waiting.END:
                return sock.discard(RECEIVE_SIZE)
            return sock.recv(RECEIVE_SIZE)

    # -- the leader: messages --------------------------------------------------------------

    def _read(self) -> bool:
        """Take messages out of what was received, and have them handled, in their order.

        A quick handler has answered a message before anything behind it is looked at; beside one
        that works elsewhere, what follows is read as far as there is room.

        :returns: whether the calling thread still leads.
        """
        most = self._given + BYTES_PER_TURN
        for _ in range(MESSAGES_PER_TURN):
            more = self._fill_inbox()
            if self._running or not self._inbox:
                if not more or self.paused:
                    return True
                # Control frames, or what does not count any more, and much of it.
                break
            if self.protocol.unread:
                # Another leader looks at it, if the handler is overtaken.
                self._come_back()
            if not self._handle():
                return False
            if self._finished and not self._inbox:
                self._refresh()
                return True
            if not more and not self._inbox:
                return True
            if self._given > most:
                break
        self._come_back()
        return True

    def _come_back(self) -> None:
        if not self._in_turn:
            self._in_turn = True
            self.loop.resume(self)

    def _fill_inbox(self) -> bool:
        """Read events as far as it is their turn; whether there may be more."""
        if self._finished:
            return False
        pings: list[bytes] = []
        more, ends = True, False
        try:
            for _ in range(FRAMES_PER_TURN):
                if self._inbox and not self._running:
                    break
                if self._waiting_bytes >= INBOX_SIZE and not self.given_up:
                    self._pause(True)
                    break
                event = self.protocol.next_event()
                if event is None:
                    more = self.protocol.paused
                    break
                opcode = event[0]
                if opcode is _CLOSE:
                    ends = True
                    break
                if opcode is _PING:
                    pings.append(event[1])  # type: ignore[arg-type]
                if not self.given_up and (opcode is _TEXT or opcode is _BINARY or self.route.pings):
                    if pings:
                        # Another thread may answer the message at once, and not before them.
                        self._answer_pings(pings)
                        pings = []
                    self._put_in(event)
        except Violation as violation:
            # A new one: this refers to its frames, and so to this connection.
            self._violation = Violation(violation.code, violation.reason)
            ends = True
        if pings:
            self._answer_pings(pings)
        if not more:
            self._pause(False)
            # All that came before the socket's end has been read.
            ends = self._waiting_for is Waiting.NOTHING
        if ends:
            self._finish()
            self._refresh()
        return more and not ends

    def _pause(self, full: bool) -> None:
        """Read the socket while the inbox has room, and no longer."""
        if full == self.paused:
            return
        self.paused = full
        self._refresh()
        if full and self._queue is not None and self._waiting_bytes <= INBOX_SIZE // 2:
            # The session's thread has taken all before it could see that it has to tell.
            self.loop.resume(self)

    # -- the leader: waiting ---------------------------------------------------------------

    def _refresh(self) -> None:
        """Find out what is waited for now; if that is something else, set its deadline."""
        if self._waiting_for is Waiting.NOTHING:
            return
        if self.broken:
            self._cut("the connection was lost")
            return
        if self.closed:
            self._leave()
        before = self._waiting_for
        waiting = self._waiting_for = self._next_wait()
        if waiting is Waiting.END:
            if before is not Waiting.END:
                self._shut_down()
            return
        if waiting is not before:
            limits = self.loop.limits
            if waiting is Waiting.MESSAGES:
                self._schedule_ping()
            else:
                patience = limits.write if waiting is Waiting.ROOM else limits.closing
                self.deadline = self.loop.now + patience
        events = 0 if self.paused and not self.given_up and not self._finished else _READ
        if waiting is Waiting.ROOM:
            events |= getattr(self.sock, "send_wants", _WRITE)
        self._watch(events)

    def _next_wait(self) -> Waiting:
        if self._waiting_for is Waiting.END:
            return Waiting.END
        if self._outbox is not None:
            return Waiting.ROOM
        if self._finished:
            return Waiting.END if self.closed else Waiting.HANDLER
        return Waiting.ANSWER if self.closed else Waiting.MESSAGES

    def _schedule_ping(self) -> None:
        interval = self.route.ping_interval
        self.deadline = math.inf if interval is None else self._heard + interval

    def expire(self) -> None:
        """The deadline has passed: see the table above."""
        self.deadline = math.inf
        waiting = self._waiting_for
        if waiting is not self._next_wait():
            # The leader is about to be told.
            self._refresh()
        elif waiting is Waiting.MESSAGES:
            self._look_after_peer()
        elif waiting is Waiting.HANDLER:
            self._conclude()
            self._refresh()
        elif waiting is Waiting.ROOM:
            self._cut("the peer takes nothing of what it is sent")
        else:
            self._cut("the peer did not answer the Close")
        if self._waiting_for is Waiting.NOTHING:
            # The handler is told in its turn.
            self.loop.resume(self)

    def _look_after_peer(self) -> None:
        """Send a ping, or close if one has not been followed by anything."""
        now, route = self.loop.now, self.route
        interval, timeout = route.ping_interval, route.ping_timeout
        if interval is None:
            return
        if self.paused:
            # What it may have sent is not read.
            self.deadline = now + interval
        elif self._heard < self._pinged and timeout is not None:
            self.deadline = self._pinged + timeout
            if self.deadline <= now:
                self.close(INTERNAL_ERROR, "no answer to a ping")
                self._cut("no answer to a ping")
        elif self._heard + interval > now:
            self.deadline = self._heard + interval
        else:
            self._pinged = now
            self._send_ping()
            self.deadline = now + (interval if timeout is None else min(interval, timeout))

    def _watch(self, events: int) -> None:
        if events != self._interest:
            self.loop.watch(self, self._interest, events)
            self._interest = events

    # -- the leader: ends ------------------------------------------------------------------

    def stop(self) -> None:
        """The server stops: say so to the peer."""
        self.close(GOING_AWAY)

    def cut_off(self) -> None:
        """End it now, as the server's stop has no more time."""
        self._cut("the server has stopped")
        # Nor for messages: the handler is told of the end next.
        self.given_up = True
        if not self._finished:
            self._finish()
        if self._inbox and not self._running:
            self._running = True
            self._submit()

    def drop(self) -> None:
        """End it, as the loop has failed in it."""
        self.cut_off()

    def _shut_down(self) -> None:
        """All is said: have the peer close its side first, so that it surely reads the last."""
        if self.loop.stopping and self.protocol.close_received:
            # Nothing unread can be there that would reset the connection, and there is no time.
            self._cut("")
            return
        try:
            with self._io:
                self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._cut("")
            return
        self.deadline = self.loop.now + self.loop.limits.closing
        self._watch(_READ)

    def _cut(self, reason: str) -> None:
        """Close the socket. What has been received is still handled.

        :param reason: for the handler, if the peer has given none.
        """
        if self._waiting_for is Waiting.NOTHING:
            return
        self._watch(0)
        self._waiting_for = Waiting.NOTHING
        self.deadline = math.inf
        self.loop.forget(self)
        self._lose(reason)
        with self._io:
            self.sock.close()
