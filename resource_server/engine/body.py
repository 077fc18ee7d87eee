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
    from .storage import Storage


class CollectedBody:
    """A body gathered by the loop: in memory while it is small, then in a temporary file.

    It belongs to the owner of its connection; only ``size`` and ``complete`` may be read by others.

    :param storage: where it is kept.
    :param limit: bytes taken at all.
    :param started: when the body began, ``time.monotonic`` seconds.
    """

    __slots__ = ("_file", "_limit", "_spilled", "_storage", "_taken", "complete", "size", "started")

    def __init__(self, storage: Storage, limit: int, started: float) -> None:
        self._storage = storage
        self._limit = limit
        self._file: IO[bytes] = io.BytesIO()
        self._spilled = False
        # Of the storage's memory.
        self._taken = 0
        #: bytes received
        self.size = 0
        #: whether all of it has been received
        self.complete = False
        self.started = started

    def write(self, piece: bytes) -> None:
        """Add a piece.

        :raises ContentTooLarge: beyond the limit.
        :raises ServiceUnavailable: when there is no room for it.
        :raises OSError: when the disk does not take it.
        """
        size = len(piece)
        self.size += size
        if self.size > self._limit:
            raise ContentTooLarge(f"The body is longer than {self._limit} bytes.")
        if size and not self._spilled:
            if self.size <= self._storage.each and self._storage.take_memory(size):
                self._taken += size
            else:
                self._spill()
        self._file.write(piece)

    def _spill(self) -> None:
        memory = self._file
        assert isinstance(memory, io.BytesIO)
        self._file = self._storage.take_file()
        self._spilled = True
        self._file.write(memory.getbuffer())
        self._give_memory()

    def _give_memory(self) -> None:
        taken, self._taken = self._taken, 0
        if taken:
            self._storage.give_memory(taken)

    def open(self) -> IO[bytes]:
        """The whole body, with nothing more to come, as a file at its beginning."""
        self.complete = True
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Remove the temporary file. A small body stays readable, for who keeps its request."""
        self._give_memory()
        if self._spilled:
            self._spilled = False
            self._file.close()
            self._storage.give_file()


class PieceReader(io.RawIOBase):
    """A file of pieces that come from elsewhere: `_next_piece` gives the next, b"" at the end."""

    _piece = memoryview(b"")

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

    if TYPE_CHECKING:

        def _next_piece(self) -> bytes:
            """Return what comes next."""


class LiveBody(PieceReader):
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
        #: bytes received, for any thread to read
        self.size = 0
        #: whether all of it has been received
        self.complete = False
        # Seconds spent waiting: a client is not to blame for a handler that reads slowly.
        self._waited = 0.0

    def _next_piece(self) -> bytes:
        exchange = self._exchange
        http = exchange.http
        if self._request.exchange is not exchange:
            raise ValueError("the body can be read only while its request is handled")
        while True:
            piece = http.read_body()
            if http.body_complete:
                self.complete = True
                if http.trailers is not None:
                    self._request.trailers = http.trailers
            if piece:
                self.size += len(piece)
                if self.size > self._limit:
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
        patience = limits.body_idle + self.size / limits.body_rate - self._waited
        started = time.monotonic()
        data = self._exchange.receive_some(min(limits.body_idle, patience))
        self._waited += time.monotonic() - started
        if not data:
            self._exchange.broken = True
            raise Disconnected("The client left within the body.")
        return data
