"""The newest of something that changes all the time: a camera's picture, an instrument's reading.

Nobody is sent every frame; each viewer gets the newest one whenever its client has taken what it
was sent before. So the producer never waits, and a slow viewer sees fewer frames, not old ones.
"""

from __future__ import annotations

import os
import threading
import time

from .errors import Gone, checked_field
from .headers import Headers
from .response import Response
from .streams import Source
from .websockets import WebSocketRequest, WebSocketSession

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .headers import HeadersLike
    from .request import Request

#: Seconds after which a frame that is still the newest is sent again, as pictures need it.
REPEAT = 0.5


class _Frame:
    """A frame, and as the part of a multipart that it is for all who are sent it so."""

    __slots__ = ("_part", "content_type", "data", "number")

    def __init__(self, number: int, data: bytes, content_type: str) -> None:
        self.number = number
        self.data = data
        self.content_type = content_type
        self._part: bytes | None = None

    def part(self, boundary: bytes) -> bytes:
        """Return the part, with the delimiter that ends it. Two threads may both make it."""
        part = self._part
        if part is None:
            head = f"Content-Type: {self.content_type}\r\nContent-Length: {len(self.data)}\r\n\r\n"
            # Some clients show a part only when they see that it has ended.
            part = b"".join((head.encode("latin-1"), self.data, b"\r\n--", boundary, b"\r\n"))
            self._part = part
        return part


class LatestFrame:
    """The newest frame of a producer, for any number of viewers; any thread may use it.

    `content_type` is that of the frames. A handler answers with `stream()`, which an ``<img>``
    shows, or hands a WebSocket to `attach`; other threads iterate over it, or `wait`. A producer
    that should work only while somebody looks asks `wait_for_viewers`:

    >>> def produce(frames, camera):
    ...     while frames.wait_for_viewers():
    ...         frames.publish(camera.read())

    Raises FieldError for a content type that may not be sent.
    """

    __slots__ = (
        "_boundary",
        "_changed",
        "_closed",
        "_content_type",
        "_latest",
        "_viewers",
        "_waiting",
    )

    def __init__(self, content_type: str = "image/jpeg") -> None:
        self._content_type = checked_field("Content-Type", content_type)[1]
        # No frame happens to have it, and none can be made to.
        self._boundary = os.urandom(16).hex().encode()
        # Guards all that follows, and is told of every change. Nothing is called under it.
        self._changed = threading.Condition(threading.Lock())
        self._latest: _Frame | None = None
        self._closed = False
        self._viewers = 0
        # Those who have been sent the newest; each is out of it as soon as it closes.
        self._waiting: dict[_Viewer, None] = {}

    # The producer, any thread.

    def publish(
        self, frame: bytes | bytearray | memoryview, content_type: str | None = None
    ) -> bool:
        """Put a frame in the place of the one before; `content_type` if it is of another type.

        It never waits. Returns False, and does nothing, when this is closed. Raises TypeError for
        what is not bytes, ValueError for an empty frame, FieldError for a content type that may not
        be sent.
        """
        if not isinstance(frame, bytes | bytearray | memoryview):
            raise TypeError(f"a frame is bytes, not {type(frame).__name__}")
        data = bytes(frame)
        if not data:
            raise ValueError("an empty frame shows nothing: publish none")
        if content_type is None:
            content_type = self._content_type
        else:
            content_type = checked_field("Content-Type", content_type)[1]
        with self._changed:
            if self._closed:
                return False
            number = 0 if self._latest is None else self._latest.number + 1
            self._latest = _Frame(number, data, content_type)
            waiting, self._waiting = self._waiting, {}
            self._changed.notify_all()
        for viewer in waiting:
            viewer.wake()
        return True

    def wait_for_viewers(self, timeout: float | None = None) -> bool:
        """Wait until somebody looks, and return True; False when this is closed.

        Also False after `timeout` seconds without anybody (None waits for ever).
        """
        with self._changed:
            self._changed.wait_for(lambda: self._viewers or self._closed, timeout)
            return bool(self._viewers) and not self._closed

    def close(self) -> None:
        """End all streams, behind the newest frame, and close the WebSockets; once."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = self._waiting, {}
            self._changed.notify_all()
        for viewer in waiting:
            viewer.wake()

    # The viewers.

    @property
    def latest(self) -> bytes | None:
        """The newest frame, None before the first."""
        frame = self._latest
        return None if frame is None else frame.data

    def __len__(self) -> int:
        """Return how many look."""
        return self._viewers

    def __bool__(self) -> bool:
        """It is true, also without viewers."""
        return True

    def __repr__(self) -> str:
        return f"<LatestFrame {self._viewers} viewers>"

    def stream(self, headers: HeadersLike | None = None) -> Response:
        """Return a response that shows the frames: ``multipart/x-mixed-replace``, as of a camera.

        The client gets the newest frame at once, and then whichever is the newest when it has taken
        that. Raises FieldError for headers that may not be sent.
        """
        fields = Headers(headers)
        fields["Content-Type"] = f"multipart/x-mixed-replace; boundary={self._boundary.decode()}"
        fields.setdefault("Cache-Control", "no-store")
        fields.setdefault("X-Accel-Buffering", "no")
        response = Response(None, 200, fields)
        response.payload = self
        response.body = None
        response.source = _Parts(self)
        return response

    def attach(self, socket: WebSocketRequest | WebSocketSession) -> None:
        """Send the frames through a WebSocket, as binary messages, from now on.

        There is one on its way at a time; the WebSocket can be used for anything else beside. When
        this is closed, the WebSocket is closed with 1000. Raises TypeError for anything else,
        WebSocketClosed for one that is closed, RuntimeError for one that is attached already.
        """
        request = socket.request if isinstance(socket, WebSocketSession) else socket
        # Not one of a client, which has nobody to look after it when its outbox is empty.
        feed: Callable[[Source, Request], None] | None = None
        if isinstance(socket, WebSocketSession | WebSocketRequest):
            feed = getattr(socket.connection, "feed", None)
        if feed is None:
            raise TypeError(
                "attach takes the WebSocketRequest or WebSocketSession that a handler is given,"
                f" not {type(socket).__name__}"
            )
        feed(_Viewer(self), request)

    def wait(self, timeout: float | None = None) -> bytes | None:
        """Wait for the next frame that is published, and return it; None when this is closed.

        Raises TimeoutError when none comes within `timeout` seconds (None waits for ever).
        """
        self._count(1)
        try:
            with self._changed:
                return self._wait(self._latest, timeout)
        finally:
            self._count(-1)

    def __iter__(self) -> Iterator[bytes]:
        """Yield the newest frame, each once, until this is closed; it counts as a viewer."""
        seen: _Frame | None = None
        self._count(1)
        try:
            while True:
                with self._changed:
                    frame = self._wait(seen, None)
                    seen = self._latest
                if frame is None:
                    return
                yield frame
        finally:
            self._count(-1)

    def _wait(self, seen: _Frame | None, timeout: float | None) -> bytes | None:
        # Holding the lock.
        end = None if timeout is None else time.monotonic() + timeout
        while self._latest is seen:
            if self._closed:
                return None
            if not self._changed.wait(None if end is None else end - time.monotonic()):
                raise TimeoutError(f"no frame came within {timeout} seconds")
        return self.latest

    def _count(self, change: int) -> None:
        with self._changed:
            self._viewers += change
            self._changed.notify_all()


class _Viewer(Source):
    """One client's look at the frames: each as a message."""

    __slots__ = ("_frames", "_opened", "_seen", "_stopped", "wake")

    # What waits in the system's buffers would be shown seconds late.
    hasty = True

    def __init__(self, frames: LatestFrame) -> None:
        self._frames = frames
        self._seen = -1
        self._opened = self._stopped = False
        self.wake: Callable[[], None] = _nothing

    def open(self, request: Request, wake: Callable[[], None]) -> None:
        """Begin to look; raises Gone."""
        frames = self._frames
        with frames._changed:
            if frames._closed:
                raise Gone("There will be no more frames.")
            self.wake = wake
            self._opened = True
            frames._viewers += 1
            frames._changed.notify_all()

    def take(self) -> bytes | None:
        """Return the newest frame, if it has not been sent yet."""
        frames = self._frames
        with frames._changed:
            frame = frames._latest
            seen = frame is None or frame.number == self._seen
            if self._stopped or (seen and frames._closed):
                return b""
            if frame is None or seen:
                frames._waiting[self] = None
                return None
            self._seen = frame.number
        return self.encode(frame)

    def encode(self, frame: _Frame) -> bytes:
        """Return a frame as it is sent."""
        return frame.data

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True

    def close(self) -> None:
        """Leave."""
        frames = self._frames
        with frames._changed:
            frames._waiting.pop(self, None)
            if self._opened:
                self._opened = False
                frames._viewers -= 1


class _Parts(_Viewer):
    """One client's look at the frames: each as the part of a multipart (RFC 2046 §5.1.1).

    There is always another part to come, so the last one is not told: the content just ends.
    Chromium shows a part when it has the head of the next one. So a frame that stays the newest for
    a moment is sent once more.
    """

    __slots__ = ("_begun", "_repeated")

    keep_alive = REPEAT

    def __init__(self, frames: LatestFrame) -> None:
        super().__init__(frames)
        self._begun = False
        self._repeated = True

    def take(self) -> bytes | None:
        """Return the newest frame; what opens the first part comes first."""
        if not self._begun:
            self._begun = True
            return b"--%b\r\n" % self._frames._boundary
        return super().take()

    def encode(self, frame: _Frame) -> bytes:
        """Return a frame as a part."""
        self._repeated = False
        return frame.part(self._frames._boundary)

    def idle(self) -> bytes:
        """Return the newest frame once more."""
        frame = self._frames._latest
        if self._repeated or frame is None or frame.number != self._seen:
            return b""
        piece = self.encode(frame)
        self._repeated = True
        return piece


def _nothing() -> None:
    """Nobody waits."""
