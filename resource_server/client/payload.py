"""What a request carries: content of a known length, or pieces of which the last is not known."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from stat import S_ISREG

from ..content import json_bytes
from ..response import BINARY, JSON, SERIALIZABLE, TEXT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, TypeAlias

    #: What can be sent: text, bytes, JSON, a Serializable, a file, or pieces of text or bytes.
    Sendable: TypeAlias = Any

# Bytes sent at once, each within the read timeout.
PIECE = 65536


class Payload:
    """Content to send: `content_type` (str), and `length` in bytes, None if it is not known."""

    __slots__ = ("_position", "_source", "body", "content_type", "length")

    def __init__(self, value: Sendable) -> None:
        self.body: bytes | None = None
        self.length: int | None = None
        self._source: Any = None
        self._position: int | None = None
        self.content_type = BINARY
        if isinstance(value, bytes | bytearray | memoryview):
            self.body = bytes(value)
        elif isinstance(value, str):
            self.body, self.content_type = value.encode(), TEXT
        elif isinstance(value, dict | list):
            self.body, self.content_type = json_bytes(value), JSON
        elif hasattr(value, "dumpb"):
            self.body, self.content_type = bytes(value.dumpb()), SERIALIZABLE
        elif hasattr(value, "read"):
            self._take_file(value)
        elif isinstance(value, Iterable) and not isinstance(value, tuple):
            self._source = value
        else:
            raise TypeError(
                f"a {type(value).__name__} cannot be sent: give bytes, str, dict, list, a"
                " Serializable, a file, or an iterator of bytes or str"
            )
        if self.body is not None:
            self.length = len(self.body)

    def _take_file(self, file: Any) -> None:
        self._source = file
        try:
            self._position = file.tell()
        except (AttributeError, OSError):
            return
        if isinstance(file, io.TextIOBase):
            self.content_type = TEXT
            return
        self.length = _length(file, self._position or 0)

    @property
    def repeatable(self) -> bool:
        """Whether it can be sent a second time."""
        return self.body is not None or self._position is not None

    def pieces(self) -> Iterator[bytes]:
        """Yield all of the content, in pieces of some size; from its beginning each time.

        Raises what the file or iterator raises, TypeError for a piece that is neither bytes nor
        text, and ValueError for a file that has become shorter.
        """
        if self.body is not None:
            view = memoryview(self.body)
            for start in range(0, len(view), PIECE):
                yield view[start : start + PIECE]  # type: ignore[misc]
        elif hasattr(self._source, "read"):
            yield from self._of_file()
        else:
            for piece in self._source:
                data = _encoded(piece)
                for start in range(0, len(data), PIECE):
                    yield data[start : start + PIECE]

    def _of_file(self) -> Iterator[bytes]:
        file = self._source
        if self._position is not None and file.tell() != self._position:
            file.seek(self._position)
        left = self.length
        while left is None or left > 0:
            piece = _encoded(file.read(PIECE if left is None else min(PIECE, left)))
            if not piece:
                if left:
                    raise ValueError(f"the file ended {left} bytes before its length")
                return
            if left is not None:
                left -= len(piece)
            yield piece


def _length(file: Any, position: int) -> int | None:
    """Return the bytes of a file from a position, None if it does not tell."""
    if isinstance(getattr(file, "raw", file), io.FileIO):
        # Not any that has a descriptor: that of a gzip is its compressed file's.
        found = os.fstat(file.fileno())
        return max(0, found.st_size - position) if S_ISREG(found.st_mode) else None
    try:
        size: int = file.seek(0, os.SEEK_END)
        file.seek(position)
    except (AttributeError, OSError, ValueError):
        return None
    return max(0, size - position)


def _encoded(piece: object) -> bytes:
    if isinstance(piece, bytes):
        return piece
    if isinstance(piece, str):
        return piece.encode()
    if isinstance(piece, bytearray | memoryview):
        return bytes(piece)
    raise TypeError(f"a piece of a payload is bytes or str, not {type(piece).__name__}")
