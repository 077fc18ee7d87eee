"""The parts of a form, one after the other, as they are read from the request."""

from __future__ import annotations

from ..errors import ContentTooLarge
from .multipart import Mark, MultipartParser, PartHead, boundary_of

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO, Self

    from ..headers import Headers
    from .multipart import Event

#: Bytes read at once.
PIECE = 65536


class Part:
    """A part of a form that is being read: a field, or a file if `filename` is not None.

    `name` of the field; `filename` as sent, which is no path; `headers`; `content_type` in lower
    case, without parameters; `charset` in lower case, or "". Iterating yields the content in pieces
    as they come.
    """

    __slots__ = (
        "_ended",
        "_parts",
        "_rest",
        "charset",
        "content_type",
        "filename",
        "headers",
        "name",
    )

    def __init__(self, parts: Parts, head: PartHead) -> None:
        self.name: str = head.name
        self.filename: str | None = head.filename
        self.headers: Headers = head.headers
        self.content_type: str = head.content_type
        self.charset: str = head.charset
        self._parts = parts
        self._rest = b""
        self._ended = False

    def __repr__(self) -> str:
        return f"<Part {self.name[:80]!a}>"

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes of the content, at least one before its end; -1: all.

        Raises what reading the request raises, BadRequest for a malformed form, and ContentTooLarge
        beyond its bounds.
        """
        if size < 0:
            content = bytearray()
            for piece in self:
                content += piece
            return bytes(content)
        if not self._rest and size:
            self._rest = next(self, b"")
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._rest:
            piece, self._rest = self._rest, b""
            return piece
        if self._ended:
            raise StopIteration
        event = self._parts.next_event()
        if isinstance(event, bytes):
            return event
        self._ended = True
        raise StopIteration

    def skip(self) -> None:
        """Read the content to its end, and drop it."""
        self._rest = b""
        for _ in self:
            pass


class Parts:
    """The parts of a form in their order; asking for the next skips what is left of the one before.

    `stream` is read as far as it takes, and after the last part to its end. Raises what that
    raises, BadRequest for a malformed form, ContentTooLarge beyond a bound.
    """

    def __init__(
        self,
        stream: IO[bytes],
        content_type: str,
        *,
        max_parts: int,
        max_header_bytes: int,
        max_bytes: int | None,
    ) -> None:
        self.parser = MultipartParser(
            boundary_of(content_type), max_parts=max_parts, max_header_bytes=max_header_bytes
        )
        self.stream = stream
        self._max_bytes = max_bytes
        self._received = 0
        self._part: Part | None = None
        self._ended = False

    def __iter__(self) -> Iterator[Part]:
        return self

    def __next__(self) -> Part:
        if self._part is not None:
            self._part.skip()
        if self._ended:
            raise StopIteration
        event = self.next_event()
        if isinstance(event, PartHead):
            self._part = Part(self, event)
            return self._part
        self._ended = True
        self._part = None
        # What follows means nothing, but what is left unread costs the connection.
        while self._receive():
            pass
        raise StopIteration

    def next_event(self) -> Event:
        """Return what the form tells next, reading as far as it takes."""
        while True:
            event = self.parser.next_event()
            if event is not None:
                return event
            if not self._receive():
                self.parser.end()
                return Mark.FORM_END

    def _receive(self) -> bool:
        data = self.stream.read(PIECE)
        self._received += len(data)
        if self._max_bytes is not None and self._received > self._max_bytes:
            raise ContentTooLarge(f"The form is longer than {self._max_bytes} bytes.")
        self.parser.receive(data)
        return bool(data)
