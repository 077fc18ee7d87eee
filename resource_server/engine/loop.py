"""One selector and everything that hangs on it: accept, read, write, deadlines, wake-up.

**Leading is a role.** Exactly one thread leads at any time: the one that holds ``lead_lock``. The
leader waits on the selector, reads, parses and writes, and runs quick handlers itself. While it
runs one it lays the lead down (releases the lock) and takes it up again afterwards, without
waiting. The standby looks every few milliseconds; if the lead has been lying there for
``TAKE_OVER``, it takes it up and goes on with whatever was still to be served. The old leader finds
the lock taken when its handler returns: it finishes that request as a worker would, and joins the
crew.

**Who may touch what.**

- ``lead_lock`` guards the selector, ``connections``, ``_ready``, ``_outgoing``, deadlines and every
  connection that is not WORKING. The methods of the group "leader" are called holding it.
- ``_door_lock`` guards ``_door``, the one way in for other threads: ``post``.
- ``tls``, ``stopping``, ``idle_until``, ``standby_asleep``, ``running``, ``started`` and
  ``access_logged`` are single references or flags, harmless when read a moment late.

**A round is served in stages.** What the selector reports is read first, all of it; then come the
handlers; the responses of those that are quick are gathered and sent at the end, or when the first
has waited for ``GATHER``, or before code that may take longer. Nothing of this is about fewer
calls: each stage runs the same few kilobytes of code again and again, while the system's networking
and Python's interpreter, taking turns for every request, would push each other out of the
processor's caches. With 32 busy connections that takes a third off the time of a request. A
response that waits is the loop's like its connection, which stays WORKING until then; whoever takes
the lead over begins with sending.

A server may have several loops, one for each core where the interpreter has no GIL. They share the
crew and the storage of bodies, which look after themselves: the first one accepts, and gives each
connection to one of them for good, through its door. Of the others a loop reads no more than how
many connections they have.

Deadlines are attributes of connections; a sweep, at most every ``_tick`` seconds and not at all
while nothing can expire, finds those that have passed. An idle server waits in the selector without
end.
"""

from __future__ import annotations

import collections
import logging
import math
import os
import selectors
import socket
import threading
import time
from functools import partial
from time import perf_counter
from time import time as clock

from ..headers import format_date
from .access import is_logged
from .connection import Connection
from .defects import log_exception
from .door import Arrival, Door, Stop
from .listener import MAX_REFUSALS, descriptors_for_connections
from .selector import open_selector
from .storage import Storage
from .tls import TLSSocket
from .wire import LONGEST_WAIT

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from ..protocol.limits import Limits
    from ..request import Request
    from .crew import Crew
    from .endpoint import Endpoint, Timed
    from .exchange import Exchange
    from .listener import Listener
    from .peer import Peer, Source

log = logging.getLogger("resource_server")

#: Seconds a handler may keep the lead.
TAKE_OVER = 0.005
#: Connections that are read ahead of their turn, …
READ_AHEAD = 64
#: … seconds that a response waits for others, to be sent with them, …
GATHER = 0.0003
#: … and seconds that a handler takes, on average, for which it waits at all.
QUICK = 0.0002
#: Rounds of ``TAKE_OVER`` seconds without a handler after which the standby sleeps until it is
#: woken.
QUIET_ROUNDS = 20
#: Connections that are accepted at most when the loop stops, as they have waited for it already.
MAX_BACKLOG = 4096
#: Connections that may expire before those that are alive get their turn.
SWEEP_BATCH = 50
#: Seconds between log lines about the same trouble.
LOG_EVERY = 60.0
#: A selector of the `select` kind takes no descriptor beyond this; on Windows, no more than half as
#: many.
SELECT_SIZE = 1024

_READ = selectors.EVENT_READ
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 29\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    b"The server is fully occupied."
)


class Loop:
    """The connections of one server.

    :param resolve: gives the endpoint that answers a request.
    :param crew: runs what may take long.
    :param max_connections: beyond it clients get 503.
    :param inline: whether the leader runs handlers; otherwise each is handed to a worker.
    :param storage: where bodies are kept while they come; by default one of its own.
    """

    def __init__(
        self,
        resolve: Callable[[Request], Endpoint],
        limits: Limits,
        crew: Crew,
        *,
        max_connections: int,
        inline: bool = True,
        storage: Storage | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.resolve = resolve
        self.limits = limits
        self.crew = crew
        self.inline = inline
        self.storage = storage or Storage(limits)
        #: the context for connections that come from now on
        self.tls = tls
        #: whether each response is its connection's last, as the wish to stop is on its way
        self.stopping = False
        #: until when (``time.monotonic``) idle connections may send one more request in that case
        self.idle_until = math.inf
        #: set when the last connection is gone and everything is closed
        self.ended = threading.Event()
        #: called behind that
        self.on_end: Callable[[], object] = bool
        self.lead_lock = threading.Lock()
        self.lead_lock.acquire()
        #: Take the lead up again, after `lay_down`; False if somebody else has it.
        self.take_up = partial(self.lead_lock.acquire, False)
        #: the endpoint that runs while the lead lies there, and since when (``time.perf_counter``)
        self.running: Timed | None = None
        self.started = 0.0
        self.standby_asleep = False
        self._alarm = threading.Lock()
        self._alarm.acquire()
        #: ``time.monotonic``, read once per round of events
        self.now = time.monotonic()
        self.connections: set[Peer] = set()
        self._listeners: list[Listener] = []
        self._ending = False
        self._deadline = math.inf
        self._next_sweep = math.inf
        shortest = min(limits.head, limits.body_idle, limits.closing, limits.write)
        self._tick = min(1.0, min(shortest, limits.keep_alive, limits.handshake) / 4)
        self._paused = False
        self._logged: dict[str, float] = {}
        # Responses to be sent together, and when that is due at the latest (``time.perf_counter``).
        self._outgoing: list[tuple[Exchange, bytes]] = []
        self._send_at = 0.0
        #: what `date_line` gave last, which is at the beginning of this round or later
        self.date = b""
        self._second = 0
        #: whether a line is logged for each response, as it was at the beginning of this round
        self.access_logged = False
        # All loops of the server, and which of them gets the next connection.
        self._loops: list[Loop] = [self]
        self._turn = 0
        self._open(max_connections)

    def _open(self, max_connections: int) -> None:
        """Open the selector and the door, for as many connections as the system lets it have."""
        # What is to be served before the selector is looked at again, and after that.
        self._ready: collections.deque[tuple[Source, int]] = collections.deque()
        self._resumed: list[Source] = []
        self._door_lock = threading.Lock()
        self._door: list[Source] = []
        self._door_closed = False
        self._signalled = False
        self._max_connections = min(max_connections, descriptors_for_connections())
        self._max_descriptor = math.inf
        self._selector = open_selector()
        if self._selector.is_limited:
            if os.name == "nt":
                most = SELECT_SIZE // 2 - 2 * MAX_REFUSALS
                self._max_connections = min(self._max_connections, most)
            else:
                self._max_descriptor = SELECT_SIZE
        try:
            self._waker, self._wake_end = socket.socketpair()
        except BaseException:
            self._selector.close()
            raise
        self._waker.setblocking(False)
        self._wake_end.setblocking(False)
        self._selector.register(self._wake_end, _READ, Door(self))

    # -- any thread ------------------------------------------------------------------------

    def post(self, source: Source) -> bool:
        """Have the leader serve ``source`` soon; this is how a connection comes back to the loop.

        :returns: False when the loop has ended, and the source is still the caller's.
        """
        with self._door_lock:
            if self._door_closed:
                return False
            self._door.append(source)
            if not self._signalled:
                self._signalled = True
                # Within the lock, so that the descriptor cannot have become another file's.
                self._waker.send(b"\0")
        return True

    def date_line(self) -> bytes:
        """The Date field of a response sent now (RFC 9110 §6.6.1), with its CRLF."""
        now = int(clock())
        if now != self._second:
            # In this order for other threads, which may ask meanwhile.
            self.date = f"Date: {format_date(now)}\r\n".encode()
            self._second = now
        return self.date

    def wake_standby(self) -> None:
        """Have the standby watch, as a handler has begun."""
        self.standby_asleep = False
        try:
            self._alarm.release()
        except RuntimeError:
            # Another thread has woken it already.
            pass

    def stop(self, deadline: float, idle_grace: float = 0.0) -> None:
        """Accept nothing more, close what is idle, and end when the rest is done.

        :param deadline: ``time.monotonic`` seconds, when to cut off what is still under way.
        :param idle_grace: seconds in which a connection that is idle may send one more request.
        """
        # Before `stopping`, which has it looked at.
        self.idle_until = min(self.idle_until, time.monotonic() + idle_grace)
        self.stopping = True
        self.post(Stop(self, deadline))

    # -- the standby -----------------------------------------------------------------------

    def stand_by(self) -> None:
        """A job of the crew: watch the leader, and lead when a handler keeps the lead too long."""
        quiet = 0
        while not self.ended.is_set():
            if quiet < QUIET_ROUNDS:
                self._alarm.acquire(timeout=TAKE_OVER)
            else:
                self._sleep()
                quiet = 0
                continue
            if self.lead_lock.locked():
                quiet += 1
                continue
            quiet = 0
            if time.perf_counter() - self.started < TAKE_OVER:
                continue
            if self.lead_lock.acquire(False):
                self._take_over()
                return

    def _sleep(self) -> None:
        """Wait until a handler has begun.

        The leader lays the lead down before it looks at ``standby_asleep``; the standby sets that
        before it looks for the lead. So one of the two sees the other, whichever comes first.
        """
        self.standby_asleep = True
        if self.lead_lock.locked():
            self._alarm.acquire()
        self.standby_asleep = False

    def _take_over(self) -> None:
        """Lead in the place of a thread that is still inside a handler."""
        endpoint = self.running
        # Between the look and the grasp another, quick one may have begun.
        if endpoint is not None and time.perf_counter() - self.started >= TAKE_OVER:
            # Others may be waiting for the same route already.
            endpoint.slow = True
            endpoint.mean = max(endpoint.mean, TAKE_OVER)
        try:
            self.crew.submit(self.stand_by, role=True)
        except (RuntimeError, MemoryError):
            # There are no more threads; the one inside the handler stands by when it is done.
            self.crew.queue(self.stand_by)
        self.lead()

    # -- the leader ------------------------------------------------------------------------

    def lay_down(self, endpoint: Timed | None) -> float:
        """Lay the lead down, as code follows that may take long; the time (``perf_counter``)."""
        started = perf_counter()
        if self._outgoing and (
            started >= self._send_at or endpoint is None or not 0.0 < endpoint.mean < QUICK
        ):
            self._send_gathered()
            started = perf_counter()
        self.running = endpoint
        self.started = started
        self.lead_lock.release()
        if self.standby_asleep:
            self.wake_standby()
        return started

    def lead(self) -> None:
        """A job of the crew, holding ``lead_lock``: serve until the lead is lost, or the end."""
        ready = self._ready
        source: Source | None = None
        # Of who led before, and is inside a handler that takes longer than was known.
        self._send_gathered()
        while True:
            try:
                # Another thread may have led, and served all, while this one was inside a handler
                # and then got the lead back.
                while ready:
                    source, mask = ready.popleft()
                    if not source.on_event(mask):
                        return
                source = None
                if self._outgoing:
                    self._send_gathered()
                if self._ending and self._may_end():
                    break
                self._wait()
            except BaseException:  # noqa: BLE001 - without a leader nothing is served any more
                log_exception("The loop failed; this is a defect of resource_server.")
                self._recover(source)
                source = None
        self._end()

    def _recover(self, source: Source | None) -> None:
        """After an exception: drop the connection that it came from, and do not spin."""
        try:
            drop = getattr(source, "drop", None)
            if drop is not None:
                drop()
            else:
                time.sleep(TAKE_OVER)
        except BaseException:  # noqa: BLE001 - as above
            log_exception("A connection could not be dropped.")

    def _wait(self) -> None:
        """Wait for events or the next deadline, and put what is to be served into ``_ready``."""
        timeout: float | None
        if self._resumed:
            timeout = 0.0
        elif self._next_sweep == math.inf:
            timeout = None
        else:
            timeout = min(max(0.0, self._next_sweep - time.monotonic()), LONGEST_WAIT)
        events = self._selector.select(timeout)
        self.now = now = time.monotonic()
        self.date_line()
        self.access_logged = is_logged()
        if now >= self._next_sweep:
            self._sweep()
        # First, so that what has been read is served although reading another one fails.
        ready = self._ready
        ready.extend(events)
        for peer, _ in events[:READ_AHEAD]:
            if peer.__class__ is Connection:
                peer.receive()
        if self._resumed:
            ready.extend([(source, 0) for source in self._resumed])
            self._resumed.clear()
        if ready and self._next_sweep > now + self._tick:
            # Whatever is served now may set a deadline.
            self._next_sweep = now + self._tick

    def send_later(self, connection: Exchange, data: bytes, started: float) -> None:
        """Send a response, whose handler began at ``started``, with others of this round."""
        if not self._outgoing:
            self._send_at = started + GATHER
        self._outgoing.append((connection, data))

    def _send_gathered(self) -> None:
        """Send the responses that have been gathered."""
        outgoing, self._outgoing = self._outgoing, []
        for connection, data in outgoing:
            try:
                connection.send_response(data)
            except BaseException:  # noqa: BLE001 - the others are sent all the same
                log_exception("A response could not be sent; this is a defect of resource_server.")
                connection.drop()

    def _sweep(self) -> None:
        """Expire the connections whose deadline has passed; find out when to look again."""
        now = self.now
        # First, lest a failure below has the sweep repeated without a pause.
        self._next_sweep = now + self._tick
        if self._paused:
            self._paused = False
            self._attend()
        earliest = math.inf
        expired = 0
        for connection in list(self.connections):
            if connection.deadline <= now:
                connection.expire()
                expired += 1
                if expired == SWEEP_BATCH:
                    # The others get their turn first.
                    self._next_sweep = now
                    return
            earliest = min(earliest, connection.deadline)
        if not self._paused:
            self._next_sweep = max(self._next_sweep, earliest)
        # A stop is punctual. At its deadline there is nothing left to be swept.
        self._next_sweep = min(self._next_sweep, self._deadline)

    def resume(self, source: Source) -> None:
        """Serve one that can go on by itself, after what the selector has to report."""
        self._resumed.append(source)

    def watch(self, connection: Peer, before: int, events: int) -> None:
        """Have the selector report ``events`` of a connection; 0 for none."""
        descriptor = connection.sock.fileno()
        if not before:
            self._selector.register(descriptor, events, connection)
        elif events:
            self._selector.modify(descriptor, events, connection)
        else:
            self._selector.unregister(descriptor)

    def forget(self, connection: Peer) -> None:
        """A connection is being closed."""
        self.connections.discard(connection)

    # -- the leader: accepting -------------------------------------------------------------

    def listen(self, listeners: list[Listener], loops: list[Loop] | None = None) -> None:
        """Accept connections from these, for `loops` in turn. Before any of them is led.

        :param loops: this one among them; None for this one alone.
        """
        for loop in loops or ():
            loop._loops = loops or []
        self._listeners = listeners
        for listener in listeners:
            self._selector.register(listener.sock, _READ, listener)

    def _attend(self) -> None:
        """Accept again, as far as the system lets the selector watch."""
        for listener in self._listeners:
            try:
                if listener.sock not in self._selector:
                    self._selector.register(listener.sock, _READ, listener)
            except (OSError, ValueError) as error:
                self.pause_accepting(error)

    def _ignore_listeners(self) -> None:
        for listener in self._listeners:
            if listener.sock in self._selector:
                self._selector.unregister(listener.sock)

    def admit(self, sock: socket.socket, peer: tuple[str, int], listener: Listener) -> None:
        """Take in a connection that was just accepted, or refuse it; here or in another loop."""
        self._turn = (self._turn + 1) % len(self._loops)
        loop = self._loops[self._turn]
        if loop is self or not loop.post(Arrival(loop, sock, peer, listener)):
            # One that has ended already leaves this one, which still accepts, to look after it.
            self.take_in(sock, peer, listener)

    def take_in(self, sock: socket.socket, peer: tuple[str, int], listener: Listener) -> None:
        """Take in a connection that is this loop's, or refuse it."""
        try:
            sock.setblocking(False)
            if listener.is_tcp:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if sock.fileno() >= self._max_descriptor:
                self.log_seldom("The selector takes no more connections; they are cut.")
                sock.close()
                return
            if self._crowd() >= self._max_connections:
                self._refuse(sock, peer, listener)
                return
            context = self.tls
            wrapped = sock if context is None else TLSSocket(context, sock)
        except (OSError, ValueError) as error:
            # It has gone already.
            log.debug("A connection from %s was lost: %s", peer[0], error)
            sock.close()
            return
        connection = Connection(self, wrapped, peer, listener.address)
        self.connections.add(connection)
        try:
            connection.open()
        except (OSError, KeyError, ValueError) as error:
            self.log_seldom("The selector takes no more connections: %s.", error)
            connection.close()
            return
        if self._ending:
            connection.stop()

    def _crowd(self) -> int:
        """How many connections there are in all loops; a moment late for those of others."""
        return sum([len(loop.connections) for loop in self._loops])

    def _refuse(self, sock: socket.socket, peer: tuple[str, int], listener: Listener) -> None:
        """Tell a client that there is no room; over TLS, where that takes a handshake, close."""
        self.log_seldom("There are %d connections; more are refused.", self._max_connections)
        if self.tls is not None or self._crowd() >= self._max_connections + MAX_REFUSALS:
            sock.close()
            return
        connection = Connection(self, sock, peer, listener.address)
        self.connections.add(connection)
        connection.turn_away(_REFUSAL)

    def pause_accepting(self, error: Exception) -> None:
        """Let connections wait in the backlog for a moment: the system is out of something."""
        self.log_seldom("Accepting pauses: %s.", error)
        self._paused = True
        self._ignore_listeners()
        self._next_sweep = min(self._next_sweep, self.now + self._tick)

    def log_seldom(self, message: str, *arguments: object) -> None:
        """Log a warning, but not again within a minute."""
        if self.now - self._logged.get(message, -math.inf) >= LOG_EVERY:
            self._logged[message] = self.now
            log.warning(message, *arguments)

    # -- the leader: stopping --------------------------------------------------------------

    def begin_stop(self, deadline: float) -> None:
        """Stop accepting and close what is idle; a second call may only hasten the end."""
        self._deadline = min(self._deadline, deadline)
        self.now = self._next_sweep = time.monotonic()
        self._ending = self.stopping = True
        self._ignore_listeners()
        for listener in self._listeners:
            if self.now < min(deadline, self.idle_until):
                # Closing would reset those that have connected, and may still ask.
                listener.accept(MAX_BACKLOG)
            listener.close()
        self._listeners = []
        self._paused = False
        for connection in list(self.connections):
            connection.stop()

    def _may_end(self) -> bool:
        if self.connections and time.monotonic() >= self._deadline:
            for connection in list(self.connections):
                connection.cut_off()
        # One that is cut off may still have messages to be handled in its turn.
        return not self.connections and not self._resumed and self._close_door()

    def _close_door(self) -> bool:
        """Let nothing more in; not while something stands there, which may be a connection."""
        with self._door_lock:
            self._door_closed = not self._door
            return self._door_closed

    def give_up(self) -> None:
        """End a loop that nobody could be found to lead."""
        self.begin_stop(self.now)
        self._end()

    def _end(self) -> None:
        """Close everything that is the loop's; the leader's last deed."""
        # What follows runs no handler, which would lay the lead down.
        self.inline = False
        with self._door_lock:
            self._door_closed = True
            left, self._door = self._door, []
            self._waker.close()
            self._wake_end.close()
        self._selector.close()
        for source in left:
            # Connections that have been closed already, and wishes to stop.
            source.on_event(0)
        self.crew.close()
        self.ended.set()
        self.wake_standby()
        self.on_end()

    def enter(self) -> None:
        """The door was signalled: serve what was posted."""
        with self._door_lock:
            try:
                self._wake_end.recv(16)
            except BlockingIOError:
                # It was answered already, by who led before.
                pass
            posted, self._door = self._door, []
            self._signalled = False
        for source in posted:
            self._ready.append((source, 0))
