"""Who says what in a WebSocket: messages on their way to the handler, one at a time and in order.

The leader puts events into the inbox. Whoever runs the handler takes them out: the leader itself if
the handler is quick, with the lead laid down, otherwise a worker. A session's thread takes them
from a queue instead.

=============  ====================================  =============================================
attribute      written by                            so that no lock is needed
=============  ====================================  =============================================
``_given``     the leader                            it only grows; ``_given - _taken`` is how many
                                                     bytes wait
``_taken``     who runs the handler                  the same; threads of a session hold ``_io``
``_running``   the leader                            it alone starts a runner
``_drained``   the runner sets it when the inbox is  whoever takes it back holds ``_io``
               empty; the leader, seeing it, takes
               it back and ends ``_running``
``_busy``      a session's thread, holding ``_io``   the leader looks at it after ``_taken``
``_finished``  the leader                            nothing is put into the inbox behind ``Close``
=============  ====================================  =============================================

A runner ends in three steps: it finds the inbox empty, says so by ``_drained``, and posts the
connection to the loop. So the leader looks at the inbox after that, and nothing stays in it.
"""

from __future__ import annotations

import collections
import logging
from queue import Empty, SimpleQueue
from time import perf_counter

from ..protocol.frames import Violation
from ..websockets import WebSocketOpCode, WebSocketRequest, WebSocketSession
from .endpoint import learn
from .outlet import INTERNAL_ERROR, Outlet
from .wire import LONGEST_WAIT

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ..protocol.websocket import WebSocket
    from ..websockets import Route
    from .loop import Loop
    from .tls import TLSSocket

    Event = tuple[WebSocketOpCode, str | bytes]

log = logging.getLogger("resource_server")

_CLOSE = WebSocketOpCode.Close
END: Event = (_CLOSE, "")

#: Bytes of messages in an inbox beyond which nothing more is read …
INBOX_SIZE = 262_144
#: … where each counts this much more than its payload.
MESSAGE_OVERHEAD = 100
#: Messages that are handled for one connection before others get their turn.
MESSAGES_PER_TURN = 16


class Conversation(Outlet):
    """A WebSocket as far as its handler is concerned."""

    __slots__ = (
        "_busy",
        "_drained",
        "_finished",
        "_given",
        "_inbox",
        "_queue",
        "_running",
        "_taken",
        "_violation",
        "handle",
        "on_end",
        "paused",
    )

    def __init__(
        self, loop: Loop, sock: socket.socket | TLSSocket, protocol: WebSocket, route: Route
    ) -> None:
        super().__init__(loop, sock, protocol, route)
        #: what the application holds, from Open to Close
        self.handle: WebSocketRequest | WebSocketSession | None = None
        #: called when nobody handles anything any more
        self.on_end: Callable[[], None] | None = None
        #: whether the inbox is so full that the socket is not read
        self.paused = False
        # Made when the first message has to wait.
        self._inbox: collections.deque[Event] | None = None
        self._queue: SimpleQueue[Event] | None = SimpleQueue() if route.session else None
        self._given = 0
        self._taken = 0
        self._running = False
        self._drained = False
        # Whether a session's thread has taken a message and not asked for the next.
        self._busy = False
        # Whether Close is in the inbox; and the rule that the peer broke, if that is why.
        self._finished = False
        self._violation: Violation | None = None

    # -- a session's threads ---------------------------------------------------------------

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
        with self._io:
            self._busy = False
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
        with self._io:
            self._busy = True
            self._taken += len(payload) + MESSAGE_OVERHEAD
        if self.paused and self._given - self._taken <= INBOX_SIZE // 2:
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
        # The two refer to each other.
        self.handle = None
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end()

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
        count = 0
        while True:
            while inbox:
                event = inbox.popleft()
                self._taken += len(event[1]) + MESSAGE_OVERHEAD
                started = perf_counter()
                self._call(event)
                learn(self.route, perf_counter() - started)
                count += 1
                if count >= MESSAGES_PER_TURN and inbox and self._let_others_work():
                    return
            self._drained = True
            # A loop that has ended gave its last before: it may be there by now.
            if self.loop.post(self) or not inbox or not self._take_back():
                return

    def _let_others_work(self) -> bool:
        """Go to the end of those who wait for a worker, if there are any."""
        crew = self.loop.crew
        try:
            return crew.has_backlog and crew.submit(self._work)
        except RuntimeError:
            return False

    def _take_back(self) -> bool:
        """Take ``_drained`` back, for whoever does it is the runner, or starts the next one."""
        with self._io:
            drained, self._drained = self._drained, False
        return drained

    def _conclude(self) -> None:
        """Say the last word, if it has not been said: who runs the handler, or the leader."""
        if self._violation is not None:
            self._fail(self._violation)
        else:
            self._answer_close()

    # -- the leader ------------------------------------------------------------------------

    @property
    def _waiting_bytes(self) -> int:
        return self._given - self._taken

    def _put_in(self, event: Event) -> None:
        self._given += len(event[1]) + MESSAGE_OVERHEAD
        if self._queue is not None:
            self._queue.put(event)
        elif self._inbox is None:
            self._inbox = collections.deque([event])
        else:
            self._inbox.append(event)

    def _finish(self) -> None:
        """Nothing more comes: the handler is told, behind all messages.

        Only then is a Close answered, or a broken rule told, as what the handler answers to
        messages shall go out before; but that does not wait for long.
        """
        self._finished = True
        if self._queue is not None:
            self._queue.put(END)
        elif self.handle is not None:
            # Not another one for an empty one, which a runner may be looking into.
            if self._inbox is None:
                self._inbox = collections.deque()
            self._inbox.append(END)
        if self._given == self._taken and not self._busy and not self._running:
            self._conclude()

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
