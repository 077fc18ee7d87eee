"""Content of responses: JSON, types that compression is worth it for, files, pieces."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    from .request import Request

#: Text, and what is text underneath: media types, ``kind/*`` or ``*+suffix``.
COMPRESSIBLE_TYPES = frozenset(
    [
        "text/*",
        "*+json",
        "*+xml",
        "*+yaml",
        "application/javascript",
        "application/json",
        "application/rtf",
        "application/toml",
        "application/wasm",
        "application/x-javascript",
        "application/x-ndjson",
        "application/x-serializable",
        "application/xml",
        "application/yaml",
        "font/otf",
        "font/ttf",
        "image/bmp",
        "image/vnd.microsoft.icon",
        "image/x-icon",
    ]
)
# Listed by its name only: its events are small, each would cost a flush, and what stands between
# server and browser holds back compressed streams more often than others.
_EVENT_STREAM = "text/event-stream"

_encode: Callable[[object, int], Iterable[str]] | None = None


def _make_encode() -> Callable[[object, int], Iterable[str]]:
    """Return what writes a value as compact JSON, in pieces.

    JSONEncoder.encode makes an encoder in C for every value; here one is made for all, which halves
    the time of small values. It takes no notes of what it is inside of, as threads could not share
    them: a cycle is found by its depth.
    """
    from json import encoder

    options = encoder.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:  # pragma: no cover - PyPy
        return lambda value, _: options.iterencode(value)
    # The arguments are those of JSONEncoder.iterencode.
    encode: Callable[[object, int], Iterable[str]] = make(
        None, options.default, encoder.encode_basestring, None, ":", ",", False, False, False
    )
    return encode


def json_bytes(value: object) -> bytes:
    """Return a value as compact JSON in UTF-8 (RFC 8259).

    Raises TypeError for a value that JSON cannot hold, ValueError for NaN, Infinity and cycles.
    """
    global _encode  # noqa: PLW0603 - made once, when JSON is first needed
    if _encode is None:
        _encode = _make_encode()
    try:
        text = "".join(_encode(value, 0))
    except RecursionError as error:
        raise ValueError("the value contains itself, or is nested too deeply") from error
    # A lone surrogate has no UTF-8. It can only stand inside a string, where the escape that
    # `backslashreplace` writes is exactly JSON's own.
    return text.encode("utf-8", "backslashreplace")


def compressible(content_type: str, types: frozenset[str] = COMPRESSIBLE_TYPES) -> bool:
    """Tell whether content of this type is worth compressing, by `types` in lower case."""
    media_type = content_type.partition(";")[0].strip(" \t").lower()
    if media_type in types:
        return True
    if media_type == _EVENT_STREAM:
        return False
    kind, _, name = media_type.partition("/")
    return f"{kind}/*" in types or ("+" in name and f"*+{name.rpartition('+')[2]}" in types)


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


class Source:
    """What the content of a response is pulled from: set as `response.source`, with no body.

    `open` is called once, by the thread that answers the request, and may take its time. From then
    on the server's own thread calls `take`, whenever the client has taken all before, and `idle`
    and `stop`; none of these may block, as everybody waits meanwhile. `close` comes once, whatever
    has happened, in any thread, and alone if nothing was opened. The server calls one of them at a
    time.

    One source can be made of another, to change its pieces: it passes everything on but `take` and
    `idle`. A coding that keeps bytes back, as gzip does, flushes behind each piece, since what has
    been taken shall reach the client now and the next may be hours away; what it has to say at the
    end is its piece before ``b""``.
    """

    __slots__ = ()

    #: Seconds after which `idle` is asked for a sign of life if nothing was sent; None for never.
    keep_alive: float | None = None
    #: Whether a piece that waits in the system's buffers grows old there: they are kept short then.
    hasty: bool = False

    def open(self, request: Request, wake: Callable[[], None]) -> None:
        """Begin to answer `request`; what this raises is answered in place of the response.

        `wake` has the server ask `take` again after that has returned None. Any thread may call it,
        at any time; it never blocks, and costs next to nothing when it has just been called.
        """

    def take(self) -> bytes | None:
        """Return the next piece, None for none now, or ``b""`` at the end."""
        return b""

    def idle(self) -> bytes:
        """Return what shows that the server is there, and means nothing."""
        return b""

    def stop(self) -> None:
        """Come to an end, as the server stops: `take` is asked for the rest, up to ``b""``."""

    def close(self) -> None:
        """Let go of everything: the client has all, or has left, or was never answered."""


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
