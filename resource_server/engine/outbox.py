"""What a WebSocket's connection has still to send, as the socket does not take it yet."""

from __future__ import annotations

from collections import deque

#: Small frames are sent together up to this many bytes. What was joined is not dropped any more:
#: TLS demands that what it could not send is tried again unchanged.
JOIN_SIZE = 16384


class Outbox:
    """Frames in the order in which they go out; `size` counts their bytes. Not thread-safe.

    Data frames may be dropped while nothing of them has been tried. Of pongs only the last one is
    kept (RFC 6455 §5.5.3), so that nobody fills the memory by pings, and it goes before data.
    """

    __slots__ = ("_frames", "_pong", "_trying", "size")

    def __init__(self) -> None:
        self._frames: deque[tuple[bytes, bool]] = deque()
        self._pong = b""
        self._trying: memoryview | None = None
        self.size = 0

    def __bool__(self) -> bool:
        return self.size > 0

    def put(self, frame: bytes, *, data: bool = True) -> None:
        """Add a frame at the end; one that is no data is never dropped."""
        self._frames.append((frame, data))
        self.size += len(frame)

    def put_pong(self, frame: bytes) -> None:
        """Add a pong, in the place of one that waits."""
        self.size += len(frame) - len(self._pong)
        self._pong = frame

    def put_rest(self, rest: memoryview) -> None:
        """Begin with what is left of a frame that has been tried."""
        self._trying = rest
        self.size += len(rest)

    def drop(self, target: int) -> None:
        """Drop the oldest data frames until `size` is no more than `target`, or none is left."""
        kept = []
        while self._frames and self.size > target:
            frame, data = self._frames.popleft()
            if data:
                self.size -= len(frame)
            else:
                kept.append((frame, data))
        self._frames.extendleft(reversed(kept))

    def next(self) -> memoryview:
        """What to try now: the same again until some of it was taken. Only if there is any."""
        if self._trying is None:
            pieces, size = [], 0
            if self._pong:
                pieces.append(self._pong)
                size = len(self._pong)
                self._pong = b""
            while self._frames and (not size or size + len(self._frames[0][0]) <= JOIN_SIZE):
                frame, _ = self._frames.popleft()
                pieces.append(frame)
                size += len(frame)
            self._trying = memoryview(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        return self._trying

    def took(self, size: int) -> None:
        """The socket has taken so many bytes of what was tried."""
        assert self._trying is not None
        self.size -= size
        self._trying = self._trying[size:] if size < len(self._trying) else None
