"""The reader of a session's connection: its thread, and all that is done in it.

It alone receives, keeps the connection alive, connects again, and closes sockets; the locks are
argued in `line`. The reading half of a connection's protocol is its own.
"""

from __future__ import annotations

import logging
import random
import socket
import threading
import weakref
from dataclasses import dataclass
from itertools import count
from math import isfinite
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from time import monotonic

from ..errors import WebSocketClosed
from ..protocol.frames import Violation
from ..websockets import WebSocketOpCode
from .errors import Cancelled, ClientError
from .line import CLOSE_TIMEOUT, INBOX_SIZE, LINGER, MESSAGE_OVERHEAD, Ended, Line
from .upgrade import WebSocketRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from selectors import BaseSelector

    from ..websockets import Message, WebSocketRequest, WebSocketSession
    from .answer import Outgoing
    from .upgrade import Opener, Wire
    from .websocket import ClientWebSocket

log = logging.getLogger("resource_server")

INTERNAL_ERROR = 1011
# Codes behind which no new connection would do better (RFC 6455 §7.4.1): all has been said, or one
# side does what the other does not take.
_FINAL = frozenset([1000, 1002, 1003, 1007, 1008, 1009, 1010])
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Reconnect:
    """How a session connects again when its connection is lost, or the server closes it.

    Each pause before a try is twice the last, from `first` to `most` seconds, and a random part of
    up to half of it shorter, so that the clients of a server do not all come back at once. A
    connection that lasted as long as the pause before it begins anew with `first`. After `tries`
    failures in a row it is given up (None: never). It also is when the server closes with 1000, or
    for a broken rule, and when it refuses the handshake with a status that means the request (4xx
    except 408, 425 and 429). Raises TypeError and ValueError for what are no such numbers.
    """

    first: float = 0.5
    most: float = 30.0
    tries: int | None = None

    def __post_init__(self) -> None:
        check_seconds("first", self.first)
        check_seconds("most", self.most)
        if self.tries is not None and (not isinstance(self.tries, int) or self.tries < 1):
            raise ValueError(f"tries is a number of at least 1 or None, not {self.tries!r}")

    def pause(self, failures: int) -> float:
        """Return the seconds before the next try."""
        longest: float = min(self.most, self.first * 2 ** min(failures, 32))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def check_seconds(name: str, value: object) -> None:
    """Raise TypeError or ValueError for what is no positive number of seconds."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number of seconds, not {value!r}")
    if not (isfinite(value) and value > 0):
        raise ValueError(f"{name} is a positive number of seconds, not {value!r}")


class Link(Line):
    """A session's connection, over all its reconnects."""

    def __init__(
        self,
        opener: Opener,
        opening: Callable[[], Outgoing],
        make: Callable[[Outgoing, Link], ClientWebSocket],
        *,
        ping_interval: float | None,
        ping_timeout: float | None,
        reconnect: Reconnect | None,
        on_open: Callable[[ClientWebSocket], object] | None,
        links: set[Link] | None,
    ) -> None:
        super().__init__(reconnects=reconnect is not None)
        self._opener = opener
        self._opening = opening
        self._make = make
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        self._reconnect = reconnect
        self._on_open = on_open
        self._links = set() if links is None else links
        # Failures in a row, and the last pause.
        self._failures = 0
        self._pause = 0.0

    # Opening, in the caller's thread.

    def begin(self, session: WebSocketRequest | WebSocketSession, /) -> None:
        """Take the session, without keeping it alive."""
        # The callback must not keep it alive either, nor the link beyond its reader.
        this = weakref.ref(self)

        def gone(_: object) -> None:
            link = this()
            if link is not None:
                link._orphaned = True
                link._cut()

        self._session = weakref.ref(session, gone)  # type: ignore[assignment]

    def open(self) -> ClientWebSocket:
        """Connect for the first time, and start the reader."""
        self._links.add(self)
        request = None
        try:
            request = self._opening()
            wire = self._opener.open(request, self._held)
            session = self._make(request, self)
            self.begin(session)
            try:
                self._start(wire)
            except BaseException:
                wire.stream.close()
                raise
        except BaseException as error:
            self._links.discard(self)
            if self._over and isinstance(error, Ended | ClientError):
                url = "" if request is None else request.url
                raise Cancelled("the client was stopped", method="GET", url=url) from None
            raise
        return session

    def _start(self, wire: Wire) -> None:
        self._door = door = socket.socketpair()
        try:
            for each in door:
                each.setblocking(False)
            name = f"resource_server-client-websocket-{next(_numbers)}"
            thread = threading.Thread(target=_run, args=(self,), name=name, daemon=True)
            with self._io:
                if self._over:
                    raise Ended
                self._wire = wire
                self._subprotocol = wire.subprotocol
            self._thread = thread
            thread.start()
        except BaseException:
            self._wire = self._thread = None
            for each in door:
                each.close()
            raise

    # The reader.

    def live(self) -> None:
        """Read from one connection after the other, until there is to be no other."""
        while True:
            wire = self._wire
            assert wire is not None
            try:
                self._serve(wire)
            finally:
                self._hang_up(wire)
            if not self._goes_on(self._last[0]) or not self._connect_again():
                return
            if self._on_open is not None:
                self._tell_open(self._on_open)

    def finish(self, cause: BaseException | None = None) -> None:
        """Let everybody know that it has come to its end."""
        with self._arrived:
            if cause is not None:
                self._cause = cause
            self._finished = True
            self._arrived.notify_all()
        session = self._session()
        callbacks = None
        if session is not None:
            with self._io:
                callbacks, session._at_close = session._at_close, None
        for callback in callbacks or ():
            try:
                callback()
            except BaseException:
                log.exception("What was to be called at a WebSocket's end failed.")

    def leave(self) -> None:
        """Give back what the reader has needed: its last step."""
        self._links.discard(self)
        assert self._door is not None
        for each in self._door:
            each.close()

    def _goes_on(self, code: int | None) -> bool:
        """Whether another connection follows one that was closed with this code."""
        if self._over or self._orphaned or self._finished:
            return False
        return self._reconnect is not None and code not in _FINAL

    def _serve(self, wire: Wire) -> None:
        """Do all there is to do on a connection, until it has ended."""
        assert self._door is not None
        with DefaultSelector() as selector:
            selector.register(self._door[0], EVENT_READ)
            watched = 0
            readable = True  # something may have come together with the handshake
            while self._turn(wire, readable):
                watched = self._watch(selector, wire, watched)
                readable = False
                for key, mask in selector.select(self._due_in(wire)):
                    if key.fileobj is self._door[0]:
                        self._heed()
                    elif mask & EVENT_READ:
                        readable = True
                with self._room:
                    if wire.waits:
                        wire.flush()
                        self._room.notify_all()

    def _watch(self, selector: BaseSelector, wire: Wire, watched: int) -> int:
        """Have the selector look out for what can be done with the socket."""
        with self._io:
            wanted = (0 if self._paused else EVENT_READ) | (EVENT_WRITE if wire.waits else 0)
        if wanted != watched:
            if watched:
                selector.unregister(wire.stream)
            if wanted:
                selector.register(wire.stream, wanted)
        return wanted

    def _heed(self) -> None:
        """Take all knocks."""
        assert self._door is not None
        try:
            while self._door[0].recv(4096):
                pass
        except BlockingIOError:
            pass

    def _turn(self, wire: Wire, readable: bool) -> bool:
        """Receive, and see what the time demands; whether the connection goes on."""
        if self._orphaned and not self._over:
            self.stop()
        if self._paused:
            with self._arrived:
                self._paused = self._inbox_size > INBOX_SIZE // 2 and not wire.protocol.close_sent
            if not self._paused:
                # Not the peer's silence, but ours.
                wire.heard = monotonic()
                readable = True
        if not self._paused and (readable or wire.broken) and not self._read(wire):
            return False
        if wire.closes_at is not None:
            return monotonic() < wire.closes_at
        return self._paused or self._keep_alive(wire)

    def _read(self, wire: Wire) -> bool:
        """Receive what has come; False if that was the end."""
        if not self._take(wire):
            return True
        with self._io:
            data = wire.receive()
        if data is None:
            return not wire.broken
        if not data:
            return False
        wire.heard = monotonic()
        wire.pinged = None
        wire.protocol.receive(data)
        self._take(wire)
        return True

    def _take(self, wire: Wire) -> bool:
        """Take what was received; False if the inbox is too full for all of it."""
        protocol = wire.protocol
        try:
            while True:
                event = protocol.next_event()
                if event is None:
                    if protocol.paused:
                        continue
                    return True
                opcode, payload = event
                if opcode is WebSocketOpCode.Ping:
                    assert isinstance(payload, bytes)
                    with self._io:
                        wire.put_pong(payload)
                elif opcode is WebSocketOpCode.Close:
                    with self._io:
                        wire.put(protocol.answer_close())
                    self._closing(wire)
                elif opcode is not WebSocketOpCode.Pong and not self._deliver(payload):
                    return False
        except Violation as violation:
            with self._io:
                wire.put(protocol.fail(violation))
            self._closing(wire)
            return True

    def _deliver(self, message: Message) -> bool:
        """Put a message into the inbox; False if no more should follow for now."""
        with self._arrived:
            self._inbox.append(message)
            self._inbox_size += len(message) + MESSAGE_OVERHEAD
            self._arrived.notify()
            self._paused = self._inbox_size > INBOX_SIZE
            return not self._paused

    def _closing(self, wire: Wire) -> None:
        """The closing handshake is done as far as the server is concerned."""
        protocol = wire.protocol
        with self._io:
            wire.close_within(CLOSE_TIMEOUT if wire.waits else LINGER)
            self._last = (protocol.close_code or 1006, protocol.close_reason)
            self._room.notify_all()
        if not self._goes_on(protocol.close_code):
            self.finish()

    def _due_in(self, wire: Wire) -> float | None:
        """Return the seconds until the time demands something."""
        when = wire.closes_at
        if when is None and not self._paused and self._ping_interval is not None:
            if wire.pinged is None:
                when = wire.heard + self._ping_interval
            elif self._ping_timeout is not None:
                when = wire.pinged + self._ping_timeout
        return None if when is None else max(0.0, when - monotonic())

    def _keep_alive(self, wire: Wire) -> bool:
        """Send a Ping if it is time; False if the last one was not answered."""
        now = monotonic()
        if self._ping_interval is None:
            return True
        if wire.pinged is None:
            if now >= wire.heard + self._ping_interval:
                wire.pinged = now
                with self._io:
                    if not wire.protocol.close_sent:
                        wire.put(wire.protocol.encode(WebSocketOpCode.Ping, b""))
        elif self._ping_timeout is not None and now >= wire.pinged + self._ping_timeout:
            wire.protocol.close_reason = "no answer to a ping"
            return False
        return True

    def _hang_up(self, wire: Wire) -> None:
        """Close the socket."""
        with self._room:
            protocol = wire.protocol
            protocol.lost()
            self._last = (protocol.close_code or 1006, protocol.close_reason)
            wire.drop()
            self._wire = None
            self._paused = False
            self._room.notify_all()
            wire.stream.close()
        if monotonic() - wire.opened >= self._pause:
            self._failures = 0

    # Connecting again.

    def _connect_again(self) -> bool:
        """Try to connect until that succeeds, or is to be given up."""
        reconnect = self._reconnect
        assert reconnect is not None
        while reconnect.tries is None or self._failures < reconnect.tries:
            self._pause = reconnect.pause(self._failures)
            self._failures += 1
            try:
                self._sleep(self._pause)
                wire = self._opener.open(self._opening(), self._held)
            except Ended:
                return False
            except ClientError as error:
                self._cause = error
                log.debug("A WebSocket could not connect again: %s", error)
                if isinstance(error, WebSocketRefused) and error.is_final:
                    return False
                continue
            with self._io:
                if self._over:
                    wire.stream.close()
                    return False
                self._wire = wire
                self._subprotocol = wire.subprotocol
                self._cause = None
            return True
        return False

    def _sleep(self, seconds: float) -> None:
        """Wait; raises Ended when there is nothing to wait for any more."""
        assert self._door is not None
        ends = monotonic() + seconds
        with DefaultSelector() as selector:
            selector.register(self._door[0], EVENT_READ)
            while True:
                self._held(None)
                left = ends - monotonic()
                if left <= 0:
                    return
                if selector.select(left):
                    self._heed()

    def _tell_open(self, on_open: Callable[[ClientWebSocket], object]) -> None:
        """Call on_open, in the reader's thread."""
        session = self._session()
        if session is None:
            return
        try:
            on_open(session)
        except WebSocketClosed:
            pass  # lost again, which the reader will see
        except Exception:
            log.exception("on_open of a WebSocket failed.")
            self._begin_close(INTERNAL_ERROR, "", CLOSE_TIMEOUT)


def _run(link: Link) -> None:
    """Be the reader of a link: whatever happens, it is finished at the end, and all is closed."""
    failure: BaseException | None = None
    try:
        link.live()
    except BaseException as error:
        failure = error
        log.exception("A WebSocket of the client failed.")
    finally:
        link.finish(failure)
        link.leave()
