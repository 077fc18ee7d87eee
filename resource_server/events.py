"""Server-Sent Events: a stream that browsers read by `EventSource` (WHATWG HTML §9.2).

An `EventChannel` keeps its newest events as the bytes that are sent, once for all subscribers. A
subscriber is no more than a place among them: it is sent what lies ahead of it when its client has
taken what lay behind, so that a slow one costs no memory, and an idle one no thread.
"""

from __future__ import annotations

import os
import threading

from .content import json_bytes
from .errors import Gone
from .headers import Headers
from .response import Response
from .streams import Source

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from .headers import HeadersLike
    from .request import Request

#: Seconds of silence after which a comment is sent: proxies cut what is silent for a minute or
#: less, and a client that has vanished is found in this way.
KEEP_ALIVE = 15.0
#: Events are sent together up to this many bytes; a larger one goes alone.
JOIN_SIZE = 32_768

_COMMENT = b":\n\n"


class Event:
    """An event, as `EventSource` dispatches it.

    `data` is text, or any other value as JSON; with None nothing is dispatched, and `id` and
    `retry` alone are taken. `event` is its type, which is "message" for None; `id` is what the
    client tells in Last-Event-ID when it comes back; `retry` is after how many milliseconds it does
    that. Raises ValueError for an `event` or `id` with NUL, CR or LF, for a `retry` that is no such
    number and for text that is not Unicode, TypeError for data that JSON does not have.
    """

    __slots__ = ("data", "event", "id", "retry")

    def __init__(
        self,
        data: object = None,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 - the name that it has in the stream
        retry: int | None = None,
    ) -> None:
        self.data = data
        self.event = event
        self.id = id
        self.retry = retry
        # Whatever cannot be sent is found where it is made.
        self.encode()

    def __repr__(self) -> str:
        return f"<Event {self.event or 'message'} {self.id or ''}>"

    def encode(self) -> bytes:
        """Return its lines, with the empty one that dispatches it; raises as the class."""
        text = ""
        if self.id is not None:
            text = f"id: {_one_line('id', self.id)}\n"
        if self.event is not None:
            text += f"event: {_one_line('event', self.event)}\n"
        if self.retry is not None:
            if isinstance(self.retry, bool) or not isinstance(self.retry, int) or self.retry < 0:
                raise ValueError(f"retry is a number of milliseconds, an int, not {self.retry!r}")
            text += f"retry: {self.retry}\n"
        data = self.data
        if data is not None:
            if not isinstance(data, str):
                data = json_bytes(data).decode()
            # These three end a line, and nothing else does that `str.splitlines` knows.
            for line in data.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
                text += f"data: {line}\n"
        try:
            return text.encode() + b"\n"
        except UnicodeEncodeError:
            raise ValueError(
                "the text of an event has half of a surrogate pair, which cannot be sent as UTF-8:"
                ' replace it with .encode("utf-8", "replace").decode()'
            ) from None


def _one_line(name: str, value: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"the {name} of an event is a str, not {type(value).__name__}")
    if "\0" in value or "\r" in value or "\n" in value:
        raise ValueError(f"the {name} of an event has no NUL, CR or LF: {value[:80]!a}")
    return value


class EventStream(Response):
    """A stream of events for a client.

    `source` is an `EventChannel`, which costs no thread, or an iterable, which a worker runs, of
    Events, of what is their `data`, and of None for a comment that shows that the server is there.
    A client that comes back tells its last event's id in Last-Event-ID: a channel goes on behind
    that by itself, for an iterable the handler looks into ``request.headers``.

    `keep_alive` is after how many seconds of silence a channel's clients are sent a comment, None
    for never. `retry` tells the client after how many milliseconds to come back when the stream has
    ended. Raises TypeError for another source, ValueError for other numbers.
    """

    def __init__(
        self,
        source: EventChannel | Iterable[object],
        headers: HeadersLike | None = None,
        *,
        keep_alive: float | None = KEEP_ALIVE,
        retry: int | None = None,
    ) -> None:
        fields = Headers(headers)
        fields.setdefault("Cache-Control", "no-store")
        # nginx would collect what is to be there at once.
        fields.setdefault("X-Accel-Buffering", "no")
        super().__init__(None, 200, fields, content_type="text/event-stream")
        self.headers.setdefault("Content-Type", "text/event-stream")
        if keep_alive is not None and not keep_alive > 0:
            raise ValueError(f"keep_alive is a number of seconds or None, not {keep_alive!r}")
        self.payload = source
        self.body = None
        opening = b"" if retry is None else Event(retry=retry).encode()
        if isinstance(source, EventChannel):
            self.source = _Subscription(source, keep_alive, opening)
        elif isinstance(source, str | bytes | dict):
            raise TypeError(
                "an EventStream takes an EventChannel or an iterable of events,"
                f" not a {type(source).__name__}"
            )
        else:
            self.iterator = _Encoded(source, opening)


class _Encoded:
    """The events of an iterable as they are sent, behind an opening that sends the head at once."""

    __slots__ = ("_events", "_opening", "_source")

    def __init__(self, source: Iterable[object], opening: bytes) -> None:
        self._source = source
        self._events = iter(source)
        self._opening: bytes | None = opening

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        opening, self._opening = self._opening, None
        if opening is not None:
            return opening
        event = next(self._events)
        if event is None:
            return _COMMENT
        return event.encode() if isinstance(event, Event) else Event(event).encode()

    def close(self) -> None:
        """Close the source, if it can be closed."""
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


class EventChannel:
    """Events for everybody who is subscribed; any thread may publish.

    The newest events are kept for those who come back, and for those who are slow: `replay` is how
    many, `replay_bytes` how many bytes of them (the newest is kept however large it is). Who is so
    slow that its next event is no longer there goes on with the oldest that is (``slow="skip"``),
    and a comment in its stream tells how many it missed; or its stream ends (``slow="close"``), and
    it comes back. Raises ValueError for others.

    >>> channel = EventChannel()
    >>> _ = channel.publish({"temperature": 21}, event="reading")
    >>> len(channel)
    0
    """

    __slots__ = (
        "_bytes",
        "_closed",
        "_end",
        "_first",
        "_ids",
        "_lock",
        "_prefix",
        "_replay_bytes",
        "_ring",
        "_slow",
        "_subscribers",
        "_waiting",
    )

    def __init__(
        self, *, replay: int = 256, replay_bytes: int = 1_048_576, slow: str = "skip"
    ) -> None:
        if replay < 1 or replay_bytes < 1:
            raise ValueError("a channel keeps at least one event, and one byte")
        if slow not in ("skip", "close"):
            raise ValueError(f'slow is "skip" or "close", not {slow!r}')
        self._replay_bytes = replay_bytes
        self._slow = slow
        # What a channel of an earlier life has not had: its ids mean nothing to this one.
        self._prefix = os.urandom(4).hex()
        # Guards all that follows. Nothing is called under it.
        self._lock = threading.Lock()
        self._closed = False
        self._subscribers = 0
        # Those who have been sent everything; in order, and each is out of it as soon as it closes.
        self._waiting: dict[_Subscription, None] = {}
        # The events from `_first` up to `_end`, each in the place of its number.
        self._ring: list[tuple[str, bytes] | None] = [None] * replay
        self._first = self._end = 0
        self._bytes = 0
        self._ids: dict[str, int] = {}

    # The publishers, any thread.

    def publish(
        self,
        data: object,
        *,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 - as in Event
        retry: int | None = None,
    ) -> str:
        """Send an event to all subscribers, and return its id, which the channel gives if need be.

        It never waits for any of them. Raises as Event, and RuntimeError when the channel is
        closed.
        """
        lines = Event(data, event=event, retry=retry).encode()
        head = None if id is None else Event(id=id).encode()[:-1]
        with self._lock:
            if self._closed:
                raise RuntimeError("the channel is closed: nobody is subscribed any more")
            if id is None or head is None:
                id = f"{self._prefix}-{self._end}"  # noqa: A001 - as above
                head = b"id: %b\n" % id.encode()
            self._keep(id, head + lines)
            waiting, self._waiting = self._waiting, {}
        for subscription in waiting:
            subscription.wake()
        return id

    def _keep(self, event_id: str, encoded: bytes) -> None:
        # With the lock held.
        ring, room = self._ring, self._replay_bytes - len(encoded)
        while self._end > self._first and (
            self._end - self._first == len(ring) or self._bytes > room
        ):
            place = self._first % len(ring)
            oldest = ring[place]
            assert oldest is not None
            ring[place] = None
            self._bytes -= len(oldest[1])
            if self._ids.get(oldest[0]) == self._first:
                del self._ids[oldest[0]]
            self._first += 1
        ring[self._end % len(ring)] = (event_id, encoded)
        self._bytes += len(encoded)
        self._ids[event_id] = self._end
        self._end += 1

    def close(self) -> None:
        """End all streams, behind what has been published; more than once does nothing more.

        Who comes back is answered 410, which tells a browser to stop trying.
        """
        with self._lock:
            self._closed = True
            waiting, self._waiting = self._waiting, {}
        for subscription in waiting:
            subscription.wake()

    def __len__(self) -> int:
        """Return how many are subscribed."""
        return self._subscribers

    def __bool__(self) -> bool:
        """A channel is true, also without subscribers."""
        return True

    def __repr__(self) -> str:
        return f"<EventChannel {self._subscribers} subscribed, {self._end - self._first} kept>"


class _Subscription(Source):
    """One client's place in a channel."""

    __slots__ = (
        "_asked",
        "_channel",
        "_cursor",
        "_last",
        "_opened",
        "_opening",
        "keep_alive",
        "wake",
    )

    def __init__(self, channel: EventChannel, keep_alive: float | None, opening: bytes) -> None:
        self._channel = channel
        self._opening = opening
        self.keep_alive = keep_alive
        self.wake: Callable[[], None] = _nothing
        # The number of the next event; and of that before which it ends, None for no end.
        self._cursor = 0
        self._last: int | None = None
        self._opened = self._asked = False

    def open(self, request: Request, wake: Callable[[], None]) -> None:
        """Begin behind the event that the client had last; raises Gone."""
        channel = self._channel
        last = _last_event_id(request)
        with channel._lock:
            if channel._closed:
                raise Gone("There will be no more events.")
            if not last:
                self._cursor = channel._end
            else:
                # One that is not there is too old, or of another life: all is new to the client.
                self._cursor = channel._ids.get(last, channel._first - 1) + 1
            self.wake = wake
            self._opened = True
            channel._subscribers += 1

    def take(self) -> bytes | None:
        """Return the next events, up to a bound."""
        opening, self._opening = self._opening, b""
        pieces = [opening] if opening else []
        channel = self._channel
        with channel._lock:
            cursor, first = self._cursor, channel._first
            end = channel._end if self._last is None else self._last
            if cursor < first:
                # Who has not been sent anything has not been slow.
                if channel._slow == "close" and self._asked:
                    self._last = cursor
                    return b"".join(pieces)
                if cursor < end:
                    pieces.append(b": %d events were missed\n\n" % (min(first, end) - cursor))
                cursor = first
            self._asked = True
            self._cursor = self._gather(pieces, cursor, end)
            if not pieces:
                if channel._closed or self._last is not None:
                    return b""
                channel._waiting[self] = None
                return None
        # The bytes of one event are the same for all, until they are framed.
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _gather(self, pieces: list[bytes], cursor: int, end: int) -> int:
        """Add events to pieces; the number of the next. With the lock held."""
        ring = self._channel._ring
        size = 0
        while cursor < end:
            kept = ring[cursor % len(ring)]
            assert kept is not None
            size += len(kept[1])
            if size > JOIN_SIZE and size > len(kept[1]):
                break
            pieces.append(kept[1])
            cursor += 1
        return cursor

    def idle(self) -> bytes:
        """Return a comment."""
        return _COMMENT

    def stop(self) -> None:
        """End behind what has been published."""
        with self._channel._lock:
            if self._last is None:
                self._last = self._channel._end

    def close(self) -> None:
        """Leave the channel."""
        channel = self._channel
        with channel._lock:
            channel._waiting.pop(self, None)
            if self._opened:
                self._opened = False
                channel._subscribers -= 1


def _nothing() -> None:
    """Nobody waits."""


def _last_event_id(request: Request) -> str:
    """Return what the client had last; it is sent as UTF-8, which no other field is."""
    value = request.headers.get("last-event-id", "")
    return value if value.isascii() else value.encode("latin-1").decode("utf-8", "replace")
