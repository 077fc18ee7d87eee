"""The content of a response that comes out of a file, piece by piece as the socket takes it.

A regular file goes from the disk's cache into the socket without passing through Python
(``os.sendfile``), where the system can do that and the socket is no TLS; everything else is read.

The head has promised a length and told a validator, so a file that is changed meanwhile has to end
in a cut connection. It is looked at before each piece that the system sends, and after each that is
read; the last bytes are always read, so that nothing is complete that was not looked at afterwards.
(What sendfile has given to the socket are the pages of the file themselves: whoever writes over
them before they have left the machine changes them still. To replace a file, rename another.)
"""

from __future__ import annotations

import errno
import io
import os
import stat
import time

from ..content import read_at, unchanged

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

#: Bytes read from a file at once.
FILE_PIECE = 262144
#: Bytes that the system sends at once: some 100 µs of work.
SENDFILE_PIECE = 1048576
#: Bytes at the end of each range that are read.
TAIL = 16384
# Seconds that a write may take from its time to its size, before a file is given up as changed.
_WRITE_PAUSES = (0.0005, 0.002, 0.008)

# What the system says when it cannot send from this file, or to this socket.
_UNABLE = frozenset(
    getattr(errno, name)
    for name in ("EINVAL", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "ENOTSOCK", "EAFNOSUPPORT")
    if hasattr(errno, name)
)


class FileChangedError(OSError):
    """The file is no longer what the head has told of."""


class UnreadableError(Exception):
    """The file cannot be read: a failing disk, or an object of the application that raised."""


class FileContent:
    """What is left of a response's content: bytes, and ranges of a file.

    It belongs to the thread that owns the connection.

    :param length: bytes in all.
    :param parts: bytes, and (offset, length) in the file; None for what follows from its position.
    """

    __slots__ = ("_descriptor", "_file", "_parts", "_place", "_sends", "_status", "left")

    def __init__(
        self, file: BinaryIO, length: int, parts: Sequence[bytes | tuple[int, int]] | None
    ) -> None:
        self._file = file
        self.left = length
        # The next last, to be taken off.
        self._parts = [] if parts is None else [*reversed(parts)]
        # Where the range goes on that is under way, and how much is left of it.
        self._place = (-1, length if parts is None else 0)
        self._descriptor, self._status = _regular(file)
        self._sends = self._descriptor >= 0 and hasattr(os, "sendfile")
        if self._descriptor >= 0 and parts is None:
            self._place = (file.tell(), length)

    def send(self, descriptor: int) -> int | None:
        """Have the system send the next bytes to a socket; their number, 0 if it takes none now.

        None when they have to be read instead.

        :raises FileChangedError: when the file is not what it was.
        :raises OSError: when the client has gone.
        """
        if not self._sends:
            return None
        self._begin_part()
        offset, length = self._place
        if length <= TAIL:
            return None
        self._verify()
        try:
            taken = os.sendfile(
                descriptor, self._descriptor, offset, min(length - TAIL, SENDFILE_PIECE)
            )
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
            self._sends = False
            return None
        if not taken:
            raise FileChangedError("the file has shrunk")
        self._advance(taken)
        return taken

    def read(self) -> bytes:
        """Return the next bytes.

        :raises FileChangedError: when the file is not what it was, or ends too early.
        :raises UnreadableError: when reading fails.
        """
        if self._place[1] == 0 and self._parts and isinstance(self._parts[-1], bytes):
            piece = self._parts.pop()
            assert isinstance(piece, bytes)
            self.left -= len(piece)
            return piece
        self._begin_part()
        offset, length = self._place
        length = min(length, FILE_PIECE)
        try:
            if self._descriptor >= 0:
                piece = read_at(self._descriptor, offset, length)
            else:
                piece = self._file.read(length)
        except BaseException as error:
            raise UnreadableError from error
        if not piece and length:
            raise FileChangedError("the file has shrunk")
        self._verify()
        self._advance(len(piece))
        return piece

    def _begin_part(self) -> None:
        """Come to the next range, if the one before is done and no bytes are in between."""
        if self._place[1] == 0 and self._parts and not isinstance(self._parts[-1], bytes):
            place = self._parts.pop()
            assert not isinstance(place, bytes)
            self._place = place
            if self._descriptor < 0:
                try:
                    self._file.seek(place[0])
                except BaseException as error:
                    raise UnreadableError from error

    def _advance(self, count: int) -> None:
        offset, length = self._place
        self._place = (offset + count, length - count)
        self.left -= count

    def _verify(self) -> None:
        if self._status is None or unchanged(self._status, os.fstat(self._descriptor)):
            return
        # The system notes the time of a write before the size: what looks changed may be growing.
        for pause in _WRITE_PAUSES:
            time.sleep(pause)
            if unchanged(self._status, os.fstat(self._descriptor)):
                return
        raise FileChangedError("the file has been changed")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _regular(file: BinaryIO) -> tuple[int, os.stat_result | None]:
    """Return the descriptor of a regular file and what it was when it was chosen, or -1.

    An object that reads something else than its descriptor does, as a GzipFile, is none.
    """
    raw = file.raw if isinstance(file, io.BufferedReader) else file
    if not isinstance(raw, io.FileIO):
        return -1, None
    try:
        descriptor = raw.fileno()
        status = getattr(raw, "status", None) or os.fstat(descriptor)
    except (OSError, ValueError):
        return -1, None
    return (descriptor, status) if stat.S_ISREG(status.st_mode) else (-1, None)
