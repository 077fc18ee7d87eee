"""multipart/form-data (RFC 7578) as bytes come in: no file, no stream, no clock in here.

`receive` takes bytes in whatever pieces they come, `next_event` tells what they mean, in the same
way however they were cut. A body that breaks a rule is refused and never guessed at: two readers
that guess differently are how a filter is passed by.

What is kept is bounded: the header section of one part, and the few bytes that may become a
delimiter. Each byte is looked at a fixed number of times.
"""

from __future__ import annotations

import enum
import re

from ..charsets import CHARSETS
from ..errors import BadRequest, ContentTooLarge, FieldError, UnsupportedMediaType
from ..headers import Headers, parse_parameters

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import TypeAlias

# RFC 2046 §5.1.1: a space may stand within a boundary, not at its end.
_is_boundary = re.compile(r"[0-9A-Za-z'()+_,\-./:=? ]{0,69}[0-9A-Za-z'()+_,\-./:=?]").fullmatch
# Whitespace that a gateway may have added behind a delimiter (RFC 2046 §5.1.1).
MAX_PADDING = 64

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
# Lines without folding (obsolete) and without control characters; a tab is whitespace.
_is_section = re.compile(rf"(?:{_NAME}:[^\x00-\x08\x0a-\x1f\x7f]*+\r\n)++".encode()).fullmatch
_leading_token = re.compile(rf"[ \t]*+({_NAME})").match
# Browsers write a name between quotes and escape nothing but quotes and line ends, as %22, %0D and
# %0A (WHATWG HTML §4.10.22.8): a backslash is a character of the name. Older clients put one before
# a quote. So a quote behind a backslash ends the value only where a value can end.
_parameter = re.compile(
    rf"[ \t]*+;[ \t]*+(?:({_NAME})[ \t]*+=[ \t]*+"
    rf'(?:({_NAME})|"((?:[^"]|(?<=\\)"(?![ \t]*+(?:;|\Z)))*+)"))?[ \t]*+'
).match
_escaped_by_backslash = re.compile(r'\\(["\\])')
_escaped_by_percent = re.compile("%(22|0D|0A)")
# RFC 7578 §4.7 has senders use none; these change nothing.
_PLAIN_ENCODINGS = frozenset(["", "7bit", "8bit", "binary"])


class Mark(enum.Enum):
    """What happened, when it is not that bytes or the head of a part came."""

    PART_END = enum.auto()
    FORM_END = enum.auto()


class _State(enum.Enum):
    PREAMBLE = enum.auto()
    DELIMITED = enum.auto()  # behind a delimiter, before it is known whether it was the last
    HEAD = enum.auto()
    BEGUN = enum.auto()  # behind a header section, before the empty line
    CONTENT = enum.auto()
    ENDED = enum.auto()  # behind the delimiter that ended a part
    EPILOGUE = enum.auto()


class PartHead:
    """What stands before the content of a part.

    `name` of the field; `filename` or None where none was sent; `headers`; `content_type`, in lower
    case, without its parameters; `charset`, in lower case, or "".
    """

    __slots__ = ("charset", "content_type", "filename", "headers", "name")

    def __init__(
        self, name: str, filename: str | None, headers: Headers, content_type: str, charset: str
    ) -> None:
        self.name = name
        self.filename = filename
        self.headers = headers
        self.content_type = content_type
        self.charset = charset


if TYPE_CHECKING:
    Event: TypeAlias = PartHead | bytes | Mark


def boundary_of(content_type: str) -> str:
    """Return the boundary that a Content-Type names; raises BadRequest without a valid one."""
    try:
        boundary = parse_parameters(content_type)[1].get("boundary", "")
    except FieldError as error:
        raise BadRequest(f"malformed Content-Type: {error}") from error
    if not _is_boundary(boundary):
        raise BadRequest("the Content-Type of the form has no valid boundary")
    return boundary


class MultipartParser:
    """The events of one form: for each part its PartHead, bytes, PART_END; at last FORM_END.

    `boundary` as `boundary_of` returns it; `max_parts`, and `max_header_bytes` of one part.
    """

    __slots__ = (
        "_buffer",
        "_delimiter",
        "_max_header_bytes",
        "_max_parts",
        "_parts",
        "_position",
        "_searched",
        "_state",
        "offset",
    )

    def __init__(self, boundary: str, *, max_parts: int, max_header_bytes: int) -> None:
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        self._max_parts = max_parts
        self._max_header_bytes = max_header_bytes
        self._parts = 0
        # The first delimiter may stand at the very beginning, where no line has to end before it.
        self._buffer = bytearray(b"\r\n")
        self._position = -2
        self._searched = 0
        self._state = _State.PREAMBLE
        #: where in the form the bytes stood that were told last
        self.offset = 0

    def receive(self, data: bytes) -> None:
        """Take the next bytes of the form."""
        if self._state is not _State.EPILOGUE:
            self._buffer += data

    def end(self) -> None:
        """Learn that there is no more; raises BadRequest unless the last delimiter has come."""
        if self._state is not _State.EPILOGUE:
            raise BadRequest("the form ends before its last boundary")

    def next_event(self) -> Event | None:
        """Return what comes next, None if that takes more bytes.

        Raises BadRequest for what is malformed, ContentTooLarge beyond a bound,
        UnsupportedMediaType for a part in a transfer encoding.
        """
        if self._state is _State.BEGUN:
            self._begin_content()
        if self._state is _State.CONTENT:
            self.offset = self._position
            piece = self._to_delimiter(_State.ENDED)
            if piece:
                return piece
        if self._state is _State.ENDED:
            self._state = _State.DELIMITED
            return Mark.PART_END
        if self._state is _State.PREAMBLE:
            self._to_delimiter(_State.DELIMITED)
        if self._state is _State.DELIMITED and self._ends_form():
            return Mark.FORM_END
        return self._head() if self._state is _State.HEAD else None

    def _take(self, size: int) -> bytes:
        """Remove bytes from the front of the buffer, which moves nothing of what is behind."""
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._position += size
        return taken

    def _to_delimiter(self, state: _State) -> bytes:
        """Return the bytes that surely belong to no delimiter; take one behind them.

        `state` is what follows it then.
        """
        buffer, delimiter = self._buffer, self._delimiter
        at = buffer.find(delimiter)
        if at >= 0:
            before = self._take(at)
            self._take(len(delimiter))
            self._state = state
            return before
        # A delimiter has one CR, its first character: only the last one can have begun another.
        at = buffer.rfind(b"\r", max(0, len(buffer) - len(delimiter) + 1))
        if at < 0 or not delimiter.startswith(buffer[at:]):
            at = len(buffer)
        return self._take(at)

    def _ends_form(self) -> bool:
        """Tell whether the delimiter was the last; the state is HEAD if it was not."""
        # No slice of the buffer's own: that could not be changed while somebody holds one.
        line = bytes(self._buffer[: MAX_PADDING + 2])
        if line.startswith(b"--"):
            # RFC 2046 §5.1.1 has at least one part; browsers send none for an empty form. Behind a
            # preamble it is one whose first delimiter was not understood.
            if not self._parts and self._position != len(self._delimiter) - 2:
                raise BadRequest("the form has no part")
            self._state = _State.EPILOGUE
            self._buffer.clear()
            return True
        size = len(line) - len(line.lstrip(b" \t"))
        end = line[size : size + 2]
        if size > MAX_PADDING or not (b"\r\n".startswith(end) or line == b"-"):
            raise BadRequest("malformed boundary line in the form")
        if end == b"\r\n":
            self._take(size + 2)
            self._parts += 1
            if self._parts > self._max_parts:
                raise ContentTooLarge(f"The form has more than {self._max_parts} parts.")
            self._state = _State.HEAD
            self._searched = 0
        return False

    def _head(self) -> PartHead | None:
        buffer = self._buffer
        if buffer.startswith(b"\r\n"):
            raise BadRequest("a part of the form has no name")
        at = buffer.find(b"\r\n\r\n", self._searched)
        # Of its end, three characters may be there already.
        if (len(buffer) - 3 if at < 0 else at) > self._max_header_bytes:
            raise ContentTooLarge(
                f"The header section of a part is longer than {self._max_header_bytes} bytes."
            )
        if at < 0:
            self._searched = max(0, len(buffer) - 3)
            return None
        head = _parsed_head(self._take(at + 2))
        self._state = _State.BEGUN
        return head

    def _begin_content(self) -> None:
        """Take the empty line, unless it is the beginning of a delimiter (RFC 2046 §5.1.1)."""
        start = self._buffer[: len(self._delimiter)]
        if start == self._delimiter:
            self._take(len(start))
            self._state = _State.ENDED
        elif not self._delimiter.startswith(start):
            self._take(2)
            self._state = _State.CONTENT


def _parsed_head(section: bytes) -> PartHead:
    """Return the head that a header section, each line with its CRLF, means."""
    if not _is_section(section):
        raise BadRequest("malformed header section of a part of the form")
    headers = Headers.parse(b"\r\n" + section[:-2])
    disposition = _only(headers, "Content-Disposition")
    media_type = _only(headers, "Content-Type")
    encoding = _only(headers, "Content-Transfer-Encoding").strip().lower()
    if encoding not in _PLAIN_ENCODINGS:
        raise UnsupportedMediaType("a part of the form is in a transfer encoding")
    name, filename = _parsed_disposition(disposition)
    charset = ""
    try:
        charset = parse_parameters(media_type)[1].get("charset", "").lower()
    except FieldError:
        # What a browser writes here, it was told by the page or the system: anything.
        pass
    if charset and charset not in CHARSETS:
        raise BadRequest(f"unknown charset {charset[:40]!a} of a part of the form")
    kind = media_type.partition(";")[0].strip(" \t").lower()
    # RFC 7578 §4.4.
    kind = kind or ("text/plain" if filename is None else "application/octet-stream")
    return PartHead(name, filename, headers, kind, charset)


def _only(headers: Headers, name: str) -> str:
    values = headers.get_all(name)
    if len(values) > 1:
        raise BadRequest(f"a part of the form has two fields {name}")
    return values[0] if values else ""


def _parsed_disposition(value: str) -> tuple[str, str | None]:
    """Return name and filename (RFC 7578 §4.2).

    ``filename*``, which must not be used there, is left aside like all other parameters.
    """
    try:
        # Browsers send the letters as they are, in the form's encoding.
        value = value.encode("latin-1").decode()
    except UnicodeDecodeError as error:
        raise BadRequest("a name in the form is not UTF-8") from error
    match = _leading_token(value)
    if match is None or match[1].lower() != "form-data":
        raise BadRequest("a part of the form has no Content-Disposition of type form-data")
    parameters: dict[str, str] = {}
    position = match.end()
    while position < len(value):
        match = _parameter(value, position)
        if match is None:
            raise BadRequest("malformed Content-Disposition of a part of the form")
        position = match.end()
        name, token, quoted = match.groups()
        if name is None:
            continue
        name = name.lower()
        if name in parameters:
            raise BadRequest(f"the parameter {name[:40]} comes twice in a Content-Disposition")
        parameters[name] = token if quoted is None else _unescaped(quoted)
    if "name" not in parameters:
        raise BadRequest("a part of the form has no name")
    return parameters["name"], parameters.get("filename")


def _unescaped(text: str) -> str:
    if '\\"' in text:
        return _escaped_by_backslash.sub(r"\1", text)
    if "%" in text:
        return _escaped_by_percent.sub(lambda match: chr(int(match[1], 16)), text)
    return text
