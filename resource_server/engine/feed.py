"""Responses whose content comes from a source: pulled by the leader, and idle without a thread.

A `Source` (see ``streams.py``) is opened by the thread that answers the request. From then on the
leader asks it for the next piece whenever the socket has taken all before, so a slow client slows
nobody and holds one piece at most. A source that has nothing says so, and the connection is parked
in the selector until somebody calls ``wake``.

**Waking.** ``Feed.wake`` is the one thing here that any thread calls, at any time, also long after
the response has ended; it posts the feed, not its connection, which may do something else by then.
``_woken`` keeps many wakes before one look from posting more than once: the leader lays it down
before it looks at the source, and a publisher adds before it calls, so that either the look finds
what was added, or the call finds it laid down. It is up while the feed will be looked at anyway.

**Listening.** While it is fed, the client's socket is read all the same, as its end tells that the
client has left; one that only half-closed is taken for gone, too, as there may be no end that it
could wait for. What it sends is kept for the next request; beyond `PIPELINED` bytes it is not read
any more, so that TCP holds it back, and its end shows in the next piece that cannot be sent.
"""

from __future__ import annotations

import itertools
import logging
import math
import selectors

from .defects import log_exception
from .exchange import Exchange
from .tls import TLSSocket
from .wire import RECEIVE_SIZE, keep_little_waiting

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    import socket
    from typing import Protocol

    from ..request import Request
    from ..response import Response
    from ..streams import Source
    from .loop import Loop

    class Fed(Protocol):
        """A connection that has a feed, of HTTP or a WebSocket's."""

        loop: Loop
        sock: socket.socket | TLSSocket

        def on_wake(self, feed: Feed, /) -> bool:
            """Look at the feed; tell whether the caller still leads. By the leader."""

        def drop(self) -> None:
            """End now, after a defect."""


log = logging.getLogger("resource_server")

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

#: Pieces that one client is sent before others get their turn.
PIECES_PER_TURN = 4
#: Bytes received behind the request beyond which nothing more is read.
PIPELINED = 16_384
#: How much of its interval a keep-alive may come early, so that those of many are not sent at once.
_SPREAD = 0.25

_numbers = itertools.count()


class Feed:
    """A source on its way to one client. It is closed once, however often it is told to."""

    __slots__ = ("_connection", "_interval", "_woken", "attentive", "source")

    def __init__(self, connection: Fed, source: Source) -> None:
        self._connection = connection
        self.source: Source | None = source
        # Until the leader looks for the first time, which it does unasked.
        self._woken = True
        #: whether the client is listened to
        self.attentive = True
        early = next(_numbers) * 0.618 % 1 * _SPREAD
        interval = source.keep_alive
        self._interval = math.inf if interval is None else interval * (1 - early)

    # -- the thread that answers -----------------------------------------------------------

    def open(self, request: Request) -> None:
        """Open the source; raises what that raises."""
        source = self.source
        assert source is not None
        source.open(request, self.wake)
        if source.hasty:
            keep_little_waiting(self._connection.sock)

    # -- any thread ------------------------------------------------------------------------

    def wake(self) -> None:
        """Have the leader look at the source soon."""
        if not self._woken:
            self._woken = True
            self._connection.loop.post(self)

    def look(self) -> None:
        """Have the leader look, be it woken or not; one that cannot any more closes the source."""
        if not self._connection.loop.post(self):
            self.close()

    # -- the leader ------------------------------------------------------------------------

    def on_event(self, _mask: int) -> bool:
        """It was woken, or it is its turn again; whether the caller still leads."""
        return self._connection.on_wake(self)

    def drop(self) -> None:
        """End the connection, after a defect in `on_event`."""
        self._connection.drop()

    def take(self) -> bytes | None:
        """The next piece, None for none now, b"" at the end.

        :raises Exception: what the source raises, and TypeError for a piece that is none.
        """
        self._woken = False
        assert self.source is not None
        piece = self.source.take()
        if piece is not None and piece.__class__ is not bytes:
            raise TypeError(f"a source gives bytes or None, not {type(piece).__name__}")
        return piece

    def come_back(self) -> None:
        """Look again when others had their turn."""
        self._woken = True
        self._connection.loop.resume(self)

    def next_keep_alive(self, now: float) -> float:
        """When to send a sign of life if nothing else is sent, ``time.monotonic`` seconds."""
        return now + self._interval

    # -- the last owner --------------------------------------------------------------------

    def close(self) -> None:
        """Close the source, which is the application's code."""
        source, self.source = self.source, None
        if source is None:
            return
        try:
            source.close()
        except BaseException:  # noqa: BLE001 - one request never ends the server
            log_exception("The source of a response could not be closed.")


class Feeding(Exchange):
    """A connection as far as its response comes from a source.

    Called by the leader, but for `_open_source`.
    """

    __slots__ = ("deadline",)

    #: when to call ``expire``, ``time.monotonic`` seconds
    deadline: float

    if TYPE_CHECKING:

        def on_wake(self, feed: Feed) -> bool:
            """Go on with a feed, as `Connection` does."""

        def close(self) -> None:
            """End it now."""

        def drop(self) -> None:
            """End it now, in whatever state it is."""

        def _watch(self, events: int) -> None: ...

        def _settle(self) -> bool: ...

    # -- the thread that answers -----------------------------------------------------------

    def _open_source(self, request: Request, response: Response) -> None:
        """Open a response's source, which is closed with the connection's feed from now on.

        Raises what the source raises.
        """
        source, response.source = response.source, None
        assert source is not None
        self._feed = feed = Feed(self, source)
        try:
            feed.open(request)
        except BaseException:
            self._close_feed()
            raise

    # -- the leader ------------------------------------------------------------------------

    def _begin_feeding(self) -> bool:
        """The head is on its way; whether the caller still leads."""
        feed = self._feed
        assert feed is not None
        feed.attentive = self.http.buffered < PIPELINED
        if self.loop.stopping:
            return self._end_source()
        return self._feed_on(0)

    def _feed_on(self, mask: int) -> bool:
        """Send what there is, as far as the socket takes it; whether the caller still leads.

        :param mask: what the socket is ready for.
        """
        feed = self._feed
        assert feed is not None
        if mask and not self._listen(feed, mask):
            self.close()
            return True
        if self._output is not None:
            if mask:
                self._send(self._output)
            else:
                self._await(feed)
        pieces = 0
        while self._output is None and not self.broken:
            if pieces == PIECES_PER_TURN:
                self._await(feed)
                feed.come_back()
                return True
            pieces += 1
            data = self._take(feed)
            if self._feed is None:
                self._send(data or b"")
                return self._settle()
            if data is None:
                break
            self._send(data)
        if self.broken:
            self.drop()
        elif self._output is None:
            self._await(feed)
        return True

    def _take(self, feed: Feed) -> bytes | None:
        """What to send next, None for nothing now; the last has the feed closed.

        Failing, the connection is marked broken.
        """
        http = self.http
        try:
            piece = feed.take()
            if piece is None:
                return None
            if piece:
                return http.encode(piece)
            data = http.end()
        except BaseException:  # noqa: BLE001 - the application's source may raise anything
            log_exception("The source of a response failed.")
            self._fail()
            return None
        self._close_feed()
        http.finish()
        return data

    def _fail(self) -> None:
        """What has been sent cannot be taken back: the cut tells that it is incomplete."""
        self._cut_stream()
        self.broken = True

    def _listen(self, feed: Feed, mask: int) -> bool:
        """Read what the client sends meanwhile; False if it has left."""
        if not feed.attentive or not (mask & _READ or isinstance(self.sock, TLSSocket)):
            return True
        try:
            data = self.sock.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            return False
        self.http.receive(data)
        if self.http.buffered >= PIPELINED:
            feed.attentive = False
            self._await(feed)
        return True

    def _send(self, data: bytes | memoryview) -> None:
        """Send what the socket takes, keep the rest, and wait for whatever is next."""
        try:
            self._output = rest = self._try_send(data)
        except OSError as error:
            self._lose(error)
            return
        feed = self._feed
        if rest is not None and feed is not None:
            if len(rest) < len(data) or data.__class__ is bytes:
                self.deadline = self.loop.now + self.limits.write
            self._await(feed)

    def _await(self, feed: Feed) -> None:
        """Have the selector tell of the client's leaving, and of room if that is needed."""
        events = _READ if feed.attentive else 0
        if self._output is not None:
            events |= getattr(self.sock, "send_wants", _WRITE)
        else:
            self.deadline = feed.next_keep_alive(self.loop.now)
            if isinstance(self.sock, TLSSocket) and feed.attentive:
                # TLS may have to write before it can read.
                events |= self.sock.wants
        self._watch(events)

    def _keep_alive(self) -> None:
        """The deadline has passed: show that the server is there, or give up a client."""
        feed = self._feed
        assert feed is not None
        if self._output is not None:
            log.debug("%s takes nothing of its response.", self.client_address[0])
            self.close()
            return
        try:
            assert feed.source is not None
            data = self.http.encode(feed.source.idle())
        except BaseException:  # noqa: BLE001 - as in _take
            log_exception("The source of a response failed.")
            self._fail()
            data = b""
        if data:
            self._send(data)
        if self.broken:
            self.drop()
        elif self._output is None:
            self._await(feed)

    def _end_source(self) -> bool:
        """The server stops: have the source come to its end; whether the caller still leads."""
        feed = self._feed
        assert feed is not None
        assert feed.source is not None
        try:
            feed.source.stop()
        except BaseException:  # noqa: BLE001 - as in _take
            log_exception("The source of a response could not be stopped.")
            self._fail()
        return self._feed_on(0)
