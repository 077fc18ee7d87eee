"""Content of responses: JSON, files, and the pieces of a stream."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

_encode: Callable[[object], str] | None = None


def _make_encode() -> Callable[[object], str]:
    """Return what writes a value as compact JSON.

    JSONEncoder.encode makes an encoder in C for every value; here one is made for all, which halves
    the time of small values. It takes no notes of what it is inside of, as threads could not share
    them: a cycle is found by its depth.
    """
    from json import encoder

    options = encoder.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:  # pragma: no cover - PyPy
        return options.encode
    # The arguments are those of JSONEncoder.iterencode.
    pieces = make(
        None, options.default, encoder.encode_basestring, None, ":", ",", False, False, False
    )

    def encode(value: object) -> str:
        try:
            return "".join(pieces(value, 0))
        except RecursionError as error:
            raise ValueError("the value contains itself, or is nested too deeply") from error

    return encode


def json_bytes(value: object) -> bytes:
    """Return a value as compact JSON in UTF-8 (RFC 8259).

    Raises TypeError for a value that JSON cannot hold, ValueError for NaN, Infinity and cycles.
    """
    global _encode  # noqa: PLW0603 - made once, when JSON is first needed
    if _encode is None:
        _encode = _make_encode()
    # A lone surrogate has no UTF-8. It can only stand inside a string, where the escape that
    # `backslashreplace` writes is exactly JSON's own.
    return _encode(value).encode("utf-8", "backslashreplace")


class Pieces:
    """The pieces of an iterable of bytes or str, as bytes; text is UTF-8.

    Raises TypeError when the iterable yields anything else. `close` closes the iterable, also when
    nothing was taken from it.
    """

    __slots__ = ("_next", "_source")

    def __init__(self, source: Iterable[bytes | str]) -> None:
        self._source = source
        self._next = iter(source).__next__

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        piece: object = self._next()
        if isinstance(piece, bytes):
            return piece
        if isinstance(piece, str):
            return piece.encode()
        if isinstance(piece, (bytearray, memoryview)):
            return bytes(piece)
        raise TypeError(f"a streamed response yields bytes or str, not {type(piece).__name__}")

    def close(self) -> None:
        """Close the source, if it can be closed."""
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


def unchanged(before: os.stat_result, now: os.stat_result) -> bool:
    """Tell whether what a file had before is still as it was.

    One that has grown counts as such, as a log grows: what was there is taken to be there still.
    """
    return now.st_size > before.st_size or (
        now.st_mtime_ns == before.st_mtime_ns and now.st_size == before.st_size
    )


if hasattr(os, "pread"):

    def read_at(descriptor: int, offset: int, length: int) -> bytes:
        """Return up to `length` bytes of a file, from `offset` on; b"" only at its end."""
        return os.pread(descriptor, length, offset)

else:

    def read_at(descriptor: int, offset: int, length: int) -> bytes:
        """Return up to `length` bytes of a file, from `offset` on; b"" only at its end."""
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, length)
