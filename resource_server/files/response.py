"""A file as a response: whole, in ranges, or not at all if the client has it already."""

from __future__ import annotations

import os

from ..content import read_at, unchanged
from ..errors import PreconditionFailed, ServiceUnavailable, checked_field
from ..headers import Headers, parse_date
from ..media_types import content_type_of
from ..preconditions import failed_condition, kept_fields, range_applies
from ..response import Response
from .disposition import content_disposition
from .opening import RegularFile, open_trusted
from .ranges import content_range, multipart, parse_range
from .representation import Representation, represent

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from ..request import Request
    from .ranges import Part, Range

#: Files up to this size, in bytes, are read at once, so that one send answers the request.
SMALL_FILE = 64 * 1024
#: How often a small file is read that changes meanwhile, before the client is asked to come later.
ATTEMPTS = 3
# If-Range means nothing without Range (RFC 9110 §13.1.5).
_CONDITIONS = frozenset(
    ["if-none-match", "if-modified-since", "range", "if-match", "if-unmodified-since"]
)


class FileResponse(Response):
    """The content of a regular file, opened when the response is made.

    ``path``: the file; links are followed, so it must come from a trusted place, or from
    ``path_join_safe``. ``content_type``: by default from the name, with ``charset=utf-8`` for text.
    ``filename``: the browser saves the file under this name (``Content-Disposition``). ``cache``:
    what Cache-Control says, as text, or as a number of seconds (``max-age``); None for nothing. By
    default a cache asks each time whether the file is still the same.

    Conditional requests are answered by its ETag and Last-Modified, or what the application puts in
    their place (RFC 9110 §13), and those for ranges with 206 (§14): when the handler and its
    middlewares are done, if the status is still 200.

    What is small is read at once into ``body``; the rest is ``file``, of which the server sends
    ``content_length`` bytes. A response that nobody sends is given back with ``close()``.

    Raises ``NotFound`` for what is missing, not a regular file, or not permitted to be read;
    ``ServiceUnavailable`` for a small file that changes each time it is read; ``OSError`` when the
    system is in trouble (descriptors used up, a failing disk); ``FieldError`` and ``ValueError``
    for a ``content_type`` or ``cache`` that may not be sent.
    """

    # Middlewares leave files alone: most are compressed in themselves, or worth it only once. The
    # endpoint calls `negotiate`.
    compress = False
    _representation: Representation
    _lines: bytes = b""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        filename: str | None = None,
        content_type: str | None = None,
        cache: str | int | None = "no-cache",
    ) -> None:
        name = os.fspath(path)
        policy = cache_policy(cache)
        content_type = content_type or content_type_of(filename or name)
        description: tuple[str, ...] = ()
        if filename is not None:
            description = (f"Content-Disposition: {content_disposition(filename)}",)
        super().__init__(content_type=content_type)

        def tell(status: os.stat_result) -> list[Part]:
            self._describe(represent(status, content_type, description, policy))
            return [(0, status.st_size)]

        self._read(open_trusted(name), tell)

    def _describe(self, representation: Representation) -> None:
        """Tell of the whole content."""
        self._representation = told = representation
        self._lines = told.lines

    # What the application and the server read.

    @property
    def headers(self) -> Headers:
        """The header fields, to be changed freely until it is sent."""
        if self._headers is None:
            self._headers = Headers.parse(b"\r\n" + self._lines[:-2])
        return self._headers

    @property
    def content_type(self) -> str:
        """The value of Content-Type, "" for none."""
        return self.headers.get("content-type", "")

    @content_type.setter
    def content_type(self, value: str) -> None:
        if value:
            self.headers["Content-Type"] = value
        else:
            self.headers.pop("Content-Type", None)

    def section(self) -> tuple[bytes, bool, bool]:
        """Return what the header section has, as `Response` does."""
        return (self._lines, False, False) if self._headers is None else super().section()

    # Answering.

    def negotiate(self, request: Request) -> Response:
        """Return the response to send: this one, or one with ranges or without content.

        That is a copy, as an application may answer any number of requests with one response; a
        ``file`` goes over to it. What is sent whole, and is small, is compressed if ``compress``
        has been set to True. Raises PreconditionFailed and RangeNotSatisfiable.
        """
        return Response.negotiate(self._chosen(request), request)

    def _chosen(self, request: Request) -> FileResponse:
        if self.status_code != 200 or not _is_conditional(request.headers):
            return self
        response = self.hand_over()
        try:
            parts = response._choose(request)
            if response.body is not None:
                response.body = b"".join(_slice(response.body, part) for part in parts)
            elif response.status_code != 200:
                response.parts = parts
                response.content_length = _length_of(parts)
        except BaseException:
            response.close()
            raise
        return response

    def hand_over(self) -> Self:
        """Return a copy, as `Response` does; the file goes over to it."""
        copy = super().hand_over()
        self.file = None
        return copy

    def _choose(self, request: Request) -> list[Part]:
        """Set status and fields as the request's conditions and ranges have it; return the parts.

        Raises PreconditionFailed and RangeNotSatisfiable.
        """
        fields = request.headers
        size = self._representation.size
        if not _is_conditional(fields):
            return [(0, size)]
        etag, modified = self._validators()
        status = failed_condition(request.method, fields, etag, modified)
        if status == 412:
            raise PreconditionFailed
        if status is not None:
            self._leave_out()
            return []
        value = fields.get("range")
        # RFC 9110 §14.2: ranges are defined for GET alone.
        if value is not None and request.method == "GET" and range_applies(fields, etag, modified):
            ranges = parse_range(value, size)
            if ranges is not None:
                return self._divide(ranges, "if-range" in fields)
        return [(0, size)]

    def _validators(self) -> tuple[str | None, float | None]:
        headers = self._headers
        if headers is None:
            told = self._representation
            return told.etag, told.modified
        date = headers.get("last-modified")
        return headers.get("etag"), None if date is None else parse_date(date)

    def _leave_out(self) -> None:
        self.status_code = 304
        if self._headers is None:
            self._lines = self._representation.validators
        else:
            self._headers = Headers(kept_fields(self._headers))

    def _divide(self, ranges: list[Range], continues: bool) -> list[Part]:
        """Answer with ranges; who continues has been told of the content before (§15.3.7)."""
        self.status_code = 206
        told = self._representation
        parts: list[Part] = [*ranges]
        headers = self._headers
        content_type = told.content_type if headers is None else headers.get("content-type", "")
        place = ""
        if len(ranges) == 1:
            place = f"Content-Range: {content_range(ranges[0], told.size)}\r\n"
        else:
            content_type, parts = multipart(ranges, told.size, content_type)
        if headers is None:
            self._lines = _type_line(content_type) + told.about + told.validators
            self._lines += (b"" if continues else told.dates) + place.encode()
            return parts
        headers["Content-Type"] = content_type
        if place:
            headers["Content-Range"] = content_range(ranges[0], told.size)
        return parts

    # Reading.

    def _read(
        self, opened: tuple[int, os.stat_result], tell: Callable[[os.stat_result], list[Part]]
    ) -> None:
        """Take the parts that ``tell`` chooses, knowing the file's state; takes the descriptor.

        What is small is read now, and again if the file is being changed, so that no body is half
        of one state and half of another.
        """
        descriptor, status = opened
        try:
            for attempt in range(1, ATTEMPTS + 1):
                parts = tell(status)
                length = _length_of(parts)
                if length > SMALL_FILE:
                    self._stream(descriptor, status, parts, length)
                    descriptor = -1
                    return
                body = b"".join([_read_part(descriptor, part) for part in parts])
                now = os.fstat(descriptor)
                if len(body) == length and (
                    (now.st_mtime_ns == status.st_mtime_ns and now.st_size == status.st_size)
                    # A log that grows all the time, it seems.
                    or (attempt == ATTEMPTS and unchanged(status, now))
                ):
                    self.body = body
                    return
                status = now
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        raise ServiceUnavailable("The file is being written.", retry_after=1)

    def _stream(
        self, descriptor: int, status: os.stat_result, parts: list[Part], length: int
    ) -> None:
        self.file = file = RegularFile(descriptor)
        file.status = status
        self.body = None
        self.content_length = length
        if self.status_code != 200:
            self.parts = parts


class ServedFile(FileResponse):
    """What a request gets of an open file: nothing is read that is not sent."""

    def __init__(
        self,
        request: Request,
        opened: tuple[int, os.stat_result],
        content_type: str,
        description: tuple[str, ...],
        policy: tuple[str, ...],
    ) -> None:
        head = request.method == "HEAD"
        self.payload = None

        def tell(status: os.stat_result) -> list[Part]:
            self.status_code = 200
            self._describe(represent(status, content_type, description, policy))
            parts = self._choose(request)
            if head:
                self.content_length = _length_of(parts)
                return []
            return parts

        self._read(opened, tell)

    def negotiate(self, request: Request) -> Response:
        """Return this response: all has been decided."""
        return self


def cache_policy(cache: str | int | None) -> tuple[str, ...]:
    """Return the field lines that say how to keep a file: text, seconds, or None for none.

    Raises FieldError for text that may not be sent, ValueError for seconds below 0, and TypeError.
    """
    if cache is None:
        return ()
    if isinstance(cache, int) and not isinstance(cache, bool):
        if cache < 0:
            raise ValueError(f"a cache keeps a file for 0 seconds or more, not {cache}")
        cache = f"max-age={cache}"
    if not isinstance(cache, str):
        raise TypeError(f"cache is text, a number of seconds or None, not {cache!r}")
    name, value = checked_field("Cache-Control", cache)
    return (f"{name}: {value}",)


def _is_conditional(fields: Headers) -> bool:
    return not _CONDITIONS.isdisjoint(fields.names())


def _length_of(parts: list[Part]) -> int:
    return sum([len(part) if isinstance(part, bytes) else part[1] for part in parts])


def _slice(body: bytes, part: Part) -> bytes:
    if isinstance(part, bytes):
        return part
    offset, length = part
    return body[offset : offset + length]


def _read_part(descriptor: int, part: Part) -> bytes:
    """Return the bytes of a part; less only when the file has become shorter."""
    if isinstance(part, bytes):
        return part
    offset, length = part
    piece = read_at(descriptor, offset, length)
    if len(piece) == length:
        return piece
    pieces = [piece]
    while piece and (length := length - len(piece)):
        offset += len(piece)
        piece = read_at(descriptor, offset, length)
        pieces.append(piece)
    return b"".join(pieces)


def _type_line(content_type: str) -> bytes:
    return f"Content-Type: {content_type}\r\n".encode("latin-1")
