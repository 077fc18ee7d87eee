"""One WebSocket, as the loop drives it.

It takes the place of an HTTP connection when the response with status 101 is on its way. From then
on the socket is read by the leader alone, which answers pings, checks what the protocol demands and
puts messages into the inbox. Whoever runs the handler takes them out, one at a time and in order:
the leader itself if the handler is quick, with the lead laid down, otherwise a worker; a session's
thread, if the route has sessions. A full inbox is not read into, so that TCP holds the peer back.

How it ends::

    open ── Close received, or a rule broken ──→ answered ── all sent ──→ drained ── end ──→ ended
      │                                              ↑                        └─ deadline ─────↑
      ├── close(), stop: Close sent ── Close received┘                                         │
      ├─────────────────────────────── deadline ───────────────────────────────────────────────┤
      └── the socket ends or fails, no answer to a ping ───────────────────────────────────────┘

The handler is told of the end by ``Close``, behind all messages. What it answers to those still
goes out before the Close frame is answered, if that does not take it too long.

Only the leader changes ``deadline``, ``_running``, ``_paused`` and what it watches; only who runs
the handler sets ``_drained`` and ``_answering``. The writing half, for any thread, is in
``outlet.py``.
"""

from __future__ import annotations

import collections
import logging
import math
import selectors
import socket
import threading
from queue import Empty, SimpleQueue
from time import perf_counter

from ..errors import ServiceUnavailable
from ..protocol.deflate import Deflate
from ..protocol.frames import Violation
from ..protocol.opening import accept
from ..protocol.websocket import WebSocket
from ..websockets import WebSocketOpCode, WebSocketRequest, WebSocketSession
from .exchange import learn
from .outlet import GOING_AWAY, INTERNAL_ERROR, TRY_AGAIN_LATER, Outlet
from .tls import TLSSocket
from .wire import LONGEST_WAIT, RECEIVE_SIZE

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from ..request import Request
    from ..websockets import Route
    from .loop import Loop

    Event = tuple[WebSocketOpCode, str | bytes]

log = logging.getLogger("resource_server")

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_TEXT, _BINARY, _CLOSE = WebSocketOpCode.Text, WebSocketOpCode.Binary, WebSocketOpCode.Close
_PING, _PONG = WebSocketOpCode.Ping, WebSocketOpCode.Pong
_END: Event = (_CLOSE, "")

#: Bytes of messages in an inbox beyond which nothing more is read …
INBOX_SIZE = 262_144
#: … where each counts this much more than its payload.
MESSAGE_OVERHEAD = 100
#: Messages that the leader has handled for one connection before others get their turn.
MESSAGES_PER_TURN = 16

# Guards `sessions` of every route.
_sessions_lock = threading.Lock()


def open_websocket(
    loop: Loop, sock: socket.socket | TLSSocket, request: Request, route: Route
) -> WebSocketConnection:
    """Accept the opening handshake of ``request``.

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
    return connection


class WebSocketConnection(Outlet):
    """A WebSocket in a loop."""

    __slots__ = (
        "_answering",
        "_closing",
        "_concluding",
        "_drained",
        "_draining",
        "_given",
        "_heard",
        "_in_turn",
        "_inbox",
        "_interest",
        "_is_session",
        "_over",
        "_paused",
        "_pinged",
        "_plain",
        "_queue",
        "_running",
        "_taken",
        "_violation",
        "_writing",
        "deadline",
        "handle",
        "leftover",
    )

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket | TLSSocket,
        protocol: WebSocket,
        route: Route,
    ) -> None:
        super().__init__(loop, sock, protocol, route)
        #: when to call ``expire``, ``time.monotonic`` seconds
        self.deadline = math.inf
        #: what the application holds, from Open to Close
        self.handle: WebSocketRequest | WebSocketSession | None = None
        #: what was received behind the request
        self.leftover = b""
        self._is_session = route.session
        self._plain = not isinstance(sock, TLSSocket)
        self._interest = 0
        # Messages for the handler; made when the first one has to wait.
        self._inbox: collections.deque[Event] | None = None
        self._queue: SimpleQueue[Event] | None = SimpleQueue() if route.session else None
        # Bytes that went into the inbox, and that came out: each is counted by one thread.
        self._given = 0
        self._taken = 0
        # Whether Close is in the inbox, and nothing may follow; and the rule that the peer broke.
        self._over = False
        self._violation: Violation | None = None
        # Whether somebody runs the handler, and whether he has said that he is done.
        self._running = False
        self._drained = False
        # Whether the loop will come back to it, as there is more to handle than fits into a turn.
        self._in_turn = False
        # Whether a session's thread has taken a message and not asked for the next.
        self._answering = False
        # Whether a full inbox keeps the socket from being read.
        self._paused = False
        # What is waited for: that the outbox becomes empty; that the handler has no more to say;
        # the answer to a Close; when all has been said, the end of the peer's side.
        self._writing = False
        self._concluding = False
        self._closing = False
        self._draining = False
        # When something was received, and when a ping was sent that nothing has followed yet.
        self._heard = loop.now
        self._pinged = 0.0

    # -- the thread that answers the opening request ---------------------------------------

    def begin(self, handle: WebSocketRequest | WebSocketSession) -> None:
        """The handler is about to be called with Open, or a session's thread to be started."""
        self.handle = handle
        self.protocol.open()

    def refuse(self) -> None:
        """It is not opened after all, as something else was answered, or the client has gone.

        By whoever owned the HTTP connection, before `enter`.
        """
        self.ended = True
        self._lose("the WebSocket was not opened")
        self._end()
        if self._inbox:
            self._running = True
            self._submit()
        else:
            self._release()

    # -- the session's thread --------------------------------------------------------------

    def receive(self, timeout: float | None = None) -> str | bytes:
        """Return the next message.

        :param timeout: seconds; None waits without end.
        :raises TimeoutError: when none comes in time.
        :raises WebSocketClosed: when there are no more.
        """
        if timeout is not None:
            timeout = min(max(0.0, timeout), LONGEST_WAIT)
        queue = self._queue
        assert queue is not None
        self._answering = False
        try:
            event = queue.get(timeout=timeout)
        except Empty:
            raise TimeoutError(f"no message came within {timeout} seconds") from None
        opcode, payload = event
        if opcode is _CLOSE:
            # For whoever asks again.
            queue.put(event)
            self._conclude()
            self.loop.post(self)
            raise self._closed_error()
        self._answering = True
        self._taken += len(payload) + MESSAGE_OVERHEAD
        if self._paused and self._given - self._taken <= INBOX_SIZE // 2:
            self.loop.post(self)
        return payload

    def _converse(self) -> None:
        """The job of a session's thread."""
        session = self.handle
        assert isinstance(session, WebSocketSession)
        succeeded = self.route.converse(session)
        self.close(1000 if succeeded else INTERNAL_ERROR)
        self._release()

    def _release(self) -> None:
        """Nobody handles anything any more."""
        if self._is_session:
            self._is_session = False
            with _sessions_lock:
                self.route.sessions -= 1
        # The two refer to each other.
        self.handle = None

    # -- who runs the handler --------------------------------------------------------------

    def _call(self, event: Event) -> None:
        opcode, payload = event
        if opcode is _CLOSE:
            self._conclude()
            self.route(self._request(), opcode, payload)
            self._release()
        elif not self.given_up and not self.route(self._request(), opcode, payload):
            self.close(INTERNAL_ERROR)

    def _request(self) -> WebSocketRequest:
        assert isinstance(self.handle, WebSocketRequest)
        return self.handle

    def _work(self) -> None:
        """A worker's job: handle what is in the inbox."""
        inbox = self._inbox
        assert inbox is not None
        while True:
            while True:
                try:
                    event = inbox.popleft()
                except IndexError:
                    break
                self._taken += len(event[1]) + MESSAGE_OVERHEAD
                started = perf_counter()
                self._call(event)
                learn(self.route, perf_counter() - started)
            self._drained = True
            # A loop that has ended gave its last before.
            if self.loop.post(self) or not inbox:
                return

    def _conclude(self) -> None:
        """Say the last word, if it has not been said: who runs the handler, or the leader."""
        if self._violation is not None:
            self._fail(self._violation)
        else:
            self._answer_close()

    # -- the leader: events ----------------------------------------------------------------

    def enter(self) -> bool:
        """Begin in the loop, as the response has been sent; whether the caller still leads."""
        loop = self.loop
        loop.connections.add(self)
        with self._io:
            self._corked = False
        # Those that connect at once, after a restart for instance, are not pinged at once.
        self._heard = loop.now
        self._schedule_ping(0.5 + int(self.uid[:4], 16) / 0x20000)
        if self._is_session:
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
            return self._receive()
        if self._corked:
            # Still in other hands: `enter` looks after everything.
            return True
        if not mask:
            self._in_turn = False
        if self._drained:
            self._drained = self._running = False
        if mask and self._flush() and self._writing:
            self.deadline = self.loop.now + self.loop.limits.write
        self._refresh()
        if mask & _READ or (mask and not self._plain):
            return self._receive()
        return self._read()

    def _receive(self) -> bool:
        if self.ended or self._in_turn:
            # What has been received before comes first, also before the socket's end.
            return True
        try:
            data = self.sock.recv(RECEIVE_SIZE) if self._plain else self._recv_tls()
        except BlockingIOError:
            if isinstance(self.sock, TLSSocket):
                self._watch(_READ | self.sock.wants)
            return True
        except OSError:
            data = b""
        if not data:
            self._cut("the connection was lost")
            return self._read()
        self._heard = self.loop.now
        if self._over:
            return True
        self.protocol.receive(data)
        return self._read()

    def _recv_tls(self) -> bytes:
        sock = self.sock
        assert isinstance(sock, TLSSocket)
        # OpenSSL cannot read and write at the same time.
        with self._io:
            return sock.discard(RECEIVE_SIZE) if self._draining else sock.recv(RECEIVE_SIZE)

    # -- the leader: messages --------------------------------------------------------------

    def _read(self) -> bool:
        """Take messages out of what was received, and have them handled, in their order.

        A quick handler has answered a message before anything behind it is looked at; beside one
        that works elsewhere, what follows is read as far as there is room.

        :returns: whether the calling thread still leads.
        """
        for _ in range(MESSAGES_PER_TURN):
            more = self._fill_inbox()
            if self._running or not self._inbox:
                return True
            if not self._handle():
                return False
            if not more and not self._inbox:
                return True
        self._in_turn = True
        self.loop.resume(self)
        return True

    def _fill_inbox(self) -> bool:
        """Read events as far as it is their turn; whether there may be more."""
        if self._over:
            return False
        try:
            while self.given_up or self._given - self._taken < INBOX_SIZE:
                if self._inbox and not self._running:
                    return True
                event = self.protocol.next_event()
                if event is None:
                    self._pause(False)
                    return False
                opcode = event[0]
                if opcode is _CLOSE:
                    self._end()
                    return False
                if opcode is _PING:
                    self._answer_ping(event[1])
                if opcode is _TEXT or opcode is _BINARY or self.route.pings:
                    self._put_in(event)
        except Violation as violation:
            # Without its traceback, which refers to this connection.
            self._violation = violation.with_traceback(None)
            self._end()
            return False
        self._pause(True)
        return True

    def _put_in(self, event: Event) -> None:
        self._given += len(event[1]) + MESSAGE_OVERHEAD
        if self._queue is not None:
            self._queue.put(event)
        elif self._inbox is None:
            self._inbox = collections.deque([event])
        else:
            self._inbox.append(event)

    def _pause(self, full: bool) -> None:
        """Read the socket while the inbox has room, and no longer."""
        if full == self._paused:
            return
        self._paused = full
        self._refresh()
        if full and self._queue is not None and self._given - self._taken <= INBOX_SIZE // 2:
            # The session's thread has taken all before it could see that it has to tell.
            self.loop.resume(self)

    def _end(self) -> None:
        """Nothing more comes: the handler is told, behind all messages.

        Only then is a Close answered, or a broken rule told, as what the handler answers to
        messages shall go out before; but that does not wait for long.
        """
        self._over = True
        if self._queue is not None:
            self._queue.put(_END)
        elif self.handle is not None:
            self._inbox = self._inbox or collections.deque()
            self._inbox.append(_END)
        if not self._answering and not self._running and self._given == self._taken:
            self._conclude()
        self._refresh()

    def _handle(self) -> bool:
        """Run the handler for the next of the inbox: here if it is quick, else in a worker.

        :returns: whether the calling thread still leads.
        """
        loop, route, inbox = self.loop, self.route, self._inbox
        assert inbox is not None
        self._running = True
        if not loop.inline or (route.slow if route.blocking is None else route.blocking):
            self._submit()
            return True
        event = inbox.popleft()
        self._taken += len(event[1]) + MESSAGE_OVERHEAD
        # Foreign code: if it takes long, the standby takes the lead up.
        started = loop.lay_down(route)
        self._call(event)
        leads = loop.take_up()
        learn(route, perf_counter() - started)
        if not leads:
            self._work()
            return False
        self._running = False
        if event is _END:
            self._refresh()
        return True

    def _submit(self) -> None:
        """Have a worker run the handler."""
        crew = self.loop.crew
        try:
            if not crew.submit(self._work):
                self._work()
        except RuntimeError as error:
            log.error("No thread could be started for a WebSocket: %s", error)
            crew.queue(self._work)

    # -- the leader: waiting ---------------------------------------------------------------

    def _refresh(self) -> None:
        """Watch for what is waited for now, each with its deadline."""
        if self.ended:
            return
        if self.broken:
            self._cut("the connection was lost")
            return
        if self.closed:
            self._leave()
        now, limits = self.loop.now, self.loop.limits
        events = 0 if self._paused and not self.given_up and not self._over else _READ
        if self._outbox is not None:
            if not self._writing:
                self._writing = True
                self.deadline = now + limits.write
            events |= getattr(self.sock, "wants", _WRITE)
        elif self._over and self.closed:
            self._writing = False
            self._shut_down()
            return
        elif self.protocol.close_sent:
            self._writing = False
            if not self._closing:
                self._closing = True
                self.deadline = now + limits.closing
        elif self._over:
            self._writing = False
            if not self._concluding:
                self._concluding = True
                self.deadline = now + limits.closing
        elif self._writing:
            self._writing = False
            self._schedule_ping()
        self._watch(events)

    def _schedule_ping(self, fraction: float = 1.0) -> None:
        interval = self.route.ping_interval
        self.deadline = math.inf if interval is None else self._heard + interval * fraction

    def expire(self) -> None:
        """The deadline has passed: give up, or look after a peer that has been silent."""
        self.deadline = math.inf
        if self._draining:
            self._cut("")
        elif self._writing:
            self._cut("the peer takes nothing of what it is sent")
        elif self._closing:
            self._cut("the peer did not answer the Close")
        elif self._over:
            # The handler has had time enough for what it has to say.
            self._conclude()
            self._refresh()
        elif self.closed or self._outbox is not None:
            # The leader is about to be told.
            self._refresh()
        else:
            self._look_after_peer()
        if self.ended:
            # The handler is told in its turn.
            self.loop.resume(self)

    def _look_after_peer(self) -> None:
        """Send a ping, or close if one has not been followed by anything."""
        now, route = self.loop.now, self.route
        interval, timeout = route.ping_interval, route.ping_timeout
        if interval is None:
            return
        if self._paused:
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

    def _send_ping(self) -> None:
        with self._io:
            if not self.closed:
                self._put_control(self.protocol.encode(_PING, b""))

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
        if self._inbox and not self._running:
            self._running = True
            self._submit()

    def drop(self) -> None:
        """End it, as the loop has failed in it."""
        self.cut_off()

    def _shut_down(self) -> None:
        """All is said: have the peer close its side first, so that it surely reads the last."""
        if self._draining:
            return
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
        self._draining = True
        self.deadline = self.loop.now + self.loop.limits.closing
        self._watch(_READ)

    def _cut(self, reason: str) -> None:
        """Close the socket.

        :param reason: for the handler, if the peer has given none.
        """
        if self.ended:
            return
        self._watch(0)
        self.ended = True
        self.deadline = math.inf
        self.loop.forget(self)
        self._lose(reason)
        with self._io:
            self.sock.close()
        if not self._over:
            self._end()
