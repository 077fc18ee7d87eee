"""Request bodies: collected by the loop before the handler runs, or read live by the handler."""

from __future__ import annotations

import io
import time

from ..errors import ContentTooLarge, Disconnected

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import IO

    from ..request import Request
    from .exchange import Exchange


class CollectedBody:
    """A body gathered by the loop: in memory while it is small, then in a temporary file.

    :param memory: bytes kept in memory.
    :param limit: bytes taken at all.
    :param started: when the body began, ``time.monotonic`` seconds.
    """

    __slots__ = ("_file", "_limit", "_memory", "size", "started")

    def __init__(self, memory: int, limit: int, started: float) -> None:
        self._memory = memory
        self._limit = limit
        self._file: IO[bytes] = io.BytesIO()
        #: bytes received
        self.size = 0
        self.started = started

    def write(self, piece: bytes) -> None:
        """Add a piece.

        :raises ContentTooLarge: beyond the limit.
        :raises OSError: when the disk does not take it.
        """
        before = self.size
        self.size += len(piece)
        if self.size > self._limit:
            raise ContentTooLarge(f"The body is longer than {self._limit} bytes.")
        if before <= self._memory < self.size:
            self._spill()
        self._file.write(piece)

    def _spill(self) -> None:
        # Imported here: it takes long, and most servers never need it.
        import tempfile

        memory = self._file
        assert isinstance(memory, io.BytesIO)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - see close
        self._file.write(memory.getbuffer())

    def open(self) -> IO[bytes]:
        """The whole body as a file at its beginning."""
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Remove the temporary file. A small body stays readable, for who keeps its request."""
        if self.size > self._memory:
            self._file.close()


class LiveBody(io.RawIOBase):
    """The request's body as a file that is read while it arrives.

    Reads block, in the handler's own thread.

    :param limit: bytes that may be read.

    Reading raises ContentTooLarge beyond the limit, RequestTimeout when nothing comes for
    ``limits.body_idle`` seconds or less than ``limits.body_rate`` bytes come per second of waiting,
    BadRequest for malformed chunks, and Disconnected when the client leaves before the end.
    """

    def __init__(self, exchange: Exchange, request: Request, limit: int) -> None:
        super().__init__()
        self._exchange = exchange
        self._request = request
        self._limit = limit
        self._received = 0
        # Seconds spent waiting: a client is not to blame for a handler that reads slowly.
        self._waited = 0.0
        self._piece = memoryview(b"")

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: object) -> int:
        """Fill ``buffer`` with what is there, at least a byte; 0 at the end of the body."""
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        if target and not self._piece:
            self._piece = memoryview(self._next_piece())
        size = min(len(target), len(self._piece))
        target[:size] = self._piece[:size]
        self._piece = self._piece[size:]
        return size

    def _next_piece(self) -> bytes:
        exchange = self._exchange
        http = exchange.http
        if self._request.exchange is not exchange:
            raise ValueError("the body can be read only while its request is handled")
        while True:
            piece = http.read_body()
            if http.body_complete and http.trailers is not None:
                self._request.trailers = http.trailers
            if piece:
                self._received += len(piece)
                if self._received > self._limit:
                    # Nothing behind a refused body is read, however the handler takes it.
                    http.refuse()
                    raise ContentTooLarge(f"The body is longer than {self._limit} bytes.")
                return piece
            if http.body_complete:
                return b""
            if http.expects_continue:
                exchange.send_all(http.continue_())
            http.receive(self._wait_for_more())

    def _wait_for_more(self) -> bytes:
        limits = self._exchange.limits
        patience = limits.body_idle + self._received / limits.body_rate - self._waited
        started = time.monotonic()
        data = self._exchange.receive_some(min(limits.body_idle, patience))
        self._waited += time.monotonic() - started
        if not data:
            self._exchange.broken = True
            raise Disconnected("The client left within the body.")
        return data
