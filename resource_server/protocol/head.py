"""The rules for a request's head, and for trailers: lines, target, host and framing."""

from __future__ import annotations

from ..errors import (
    BadRequest,
    ContentTooLarge,
    ExpectationFailed,
    HTTPNotImplemented,
    HTTPVersionNotSupported,
    MisdirectedRequest,
    RequestHeaderFieldsTooLarge,
    URITooLong,
)
from . import grammar

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from .limits import Limits

# More digits than any length has; int() of a very long text would take time.
_LENGTH_DIGITS = 18


class Section:
    """Looks at lines as they arrive, and finds the first that cannot belong to a valid message.

    A section is header or trailer fields up to their empty line; before header fields comes a
    request line. What is found depends on the bytes alone, not on how they were cut. Each byte is
    looked at once, and a line that is too long is refused before its end arrives.

    :param request_line: bytes that the request line may have; 0 for a section without one.
    :param fields: how many fields there may be.
    :param size: bytes that they may have together, each line with its CRLF.
    """

    __slots__ = ("_begin", "_count", "_fields", "_request_line", "_seen", "_size", "_start")

    def __init__(self, *, request_line: int, fields: int, size: int) -> None:
        self._request_line = request_line
        self._fields = fields
        self._size = size
        self._count = 0
        # where the fields begin, where the current line begins, and what has been looked at
        self._begin = self._start = self._seen = 0

    def look(self, data: bytes) -> int:
        """Look at what is new of ``data``, which begins with the section and is longer each time.

        :returns: where the section ends, behind its empty line; 0 while that is missing.
        :raises HTTPError: 400, 414, 431 or 505 for the first line at fault.
        """
        while True:
            newline = data.find(b"\n", self._seen)
            stop = newline + 1 if newline >= 0 else len(data)
            self._check_bytes(data, stop)
            if newline < 0:
                return 0
            line = data[self._start : newline - 1]
            self._start = self._seen = stop
            if self._request_line:
                parse_request_line(line)
                self._request_line = 0
                self._begin = stop
            elif line:
                self._count += 1
                if stop > self._begin + self._size:
                    raise self._too_long()
                if self._count > self._fields:
                    raise RequestHeaderFieldsTooLarge(f"More than {self._fields} fields.")
                check_field_line(line)
            else:
                return stop

    def _check_bytes(self, data: bytes, stop: int) -> None:
        """Check the current line's new bytes up to ``stop``, first what they are, then how many."""
        if self._request_line:
            allowed = self._request_line + 2
            pattern = grammar.PARTIAL_REQUEST_LINE
        else:
            allowed = self._begin + self._size + 2
            pattern = grammar.PARTIAL_LINE
        inside = min(stop, allowed)
        if pattern.fullmatch(data, self._seen, inside) is None:
            raise BadRequest("A line holds a control character, or CR or LF without the other.")
        if stop > allowed:
            raise self._too_long()
        # Of a CR is not known yet whether its LF follows.
        self._seen = inside - data.endswith(b"\r", self._seen, inside)

    def _too_long(self) -> URITooLong | RequestHeaderFieldsTooLarge:
        if self._request_line:
            return URITooLong(f"The request line is longer than {self._request_line} bytes.")
        return RequestHeaderFieldsTooLarge(
            f"The fields are together longer than {self._size} bytes."
        )


def head_section(limits: Limits) -> Section:
    """Return what looks at the lines of a request's head."""
    return Section(
        request_line=limits.request_line, fields=limits.header_fields, size=limits.header_bytes
    )


class PartialHead:
    """A head that comes in pieces, or behind empty lines, or that breaks a rule.

    :param limits: the sizes that a client may not exceed.
    """

    __slots__ = ("_empty_lines", "_limits", "_searched", "_section")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._empty_lines = 0
        self._searched = 0
        self._section = head_section(limits)

    def skip_empty_lines(self, buffer: bytes) -> bytes:
        """Return what is behind them: some clients send an extra CRLF after a body.

        :raises BadRequest: when there are too many (RFC 9112 §2.2).
        """
        start = 0
        while buffer.startswith(b"\r\n", start):
            start += 2
            self._empty_lines += 1
            if self._empty_lines > self._limits.empty_lines:
                raise BadRequest("Too many empty lines before the request.")
        return buffer[start:]

    def look(self, buffer: bytes) -> tuple[bytes, bytes, bytes, int, int] | None:
        """Look at the lines that have come, one by one.

        :returns: method, target and minor version, and between where the fields are; None until the
            head is complete.
        :raises HTTPError: for the first line, complete or not, that cannot belong to a valid head.
        """
        self._section.look(buffer)
        end = buffer.find(b"\r\n\r\n", self._searched)
        if end < 0:
            # What was searched once is not searched again, however slowly the head arrives.
            self._searched = max(0, len(buffer) - 3)
            return None
        start = buffer.find(b"\r\n", 0, end + 2)
        return *parse_request_line(buffer[:start]), start, end


def parse_request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Return method, target and minor version ("0" or "1") of a request line (RFC 9112 §3).

    :raises HTTPError: 400, or 505 for a major version that is not 1.
    """
    match = grammar.ANY_REQUEST_LINE.fullmatch(line)
    if match is None:
        raise BadRequest("The request line is not 'method target version'.")
    method, target, version = match.groups()
    if grammar.TOKEN.fullmatch(method) is None:
        raise BadRequest("The method is not a token.")
    if grammar.TARGET.fullmatch(target) is None:
        raise BadRequest("The request target is empty or holds what a URL may not hold.")
    numbers = grammar.HTTP_VERSION.fullmatch(version)
    if numbers is None:
        raise BadRequest("The version is not of the form HTTP/1.1.")
    if numbers[1] != b"1":
        raise HTTPVersionNotSupported("This server speaks HTTP/1.0 and HTTP/1.1.")
    # RFC 9110 §2.5: a higher minor version is handled as the highest that this server knows.
    return method, target, b"0" if numbers[2] == b"0" else b"1"


def check_field_line(line: bytes) -> None:
    """Tell which rule of RFC 9112 §5 a field line breaks.

    :raises BadRequest: if it breaks one.
    """
    if grammar.FIELD_LINE.fullmatch(line) is not None:
        return
    if line[:1] in b" \t":
        raise BadRequest("A field is folded over several lines.")
    name, colon, _ = line.partition(b":")
    if not colon:
        raise BadRequest("A field has no colon.")
    if name.endswith((b" ", b"\t")):
        raise BadRequest("There is white space between a field's name and its colon.")
    raise BadRequest("A field's name is not a token.")


def parse_target(method: bytes, target: bytes, *, secure: bool) -> tuple[str, str]:
    """Read a target in any form of RFC 9112 §3.2 but origin-form.

    :param secure: whether the connection is one for ``https`` URLs.
    :returns: what to route by, and the authority or "" if the target has none.
    :raises BadRequest: for a form that does not go with the method, or is none.
    :raises MisdirectedRequest: for an ``https`` URL over another connection (RFC 9110 §7.4).
    """
    if method == b"CONNECT":
        # RFC 9110 §9.3.6: an empty or invalid port is refused.
        if not check_host(target):
            raise BadRequest("CONNECT takes a host and a port.")
        return target.decode("ascii"), target.decode("ascii")
    if target == b"*":
        if method != b"OPTIONS":
            raise BadRequest("Only OPTIONS takes the target '*'.")
        return "*", ""
    match = grammar.ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        raise BadRequest("The request target is neither a path nor a URL.")
    scheme, authority, rest = match.groups()
    # RFC 9110 §4.2.1: a URL without a host is invalid.
    if not authority:
        raise BadRequest("The URL in the request line has no host.")
    check_host(authority)
    if scheme.lower() == b"https" and not secure:
        raise MisdirectedRequest("An https URL is asked for over TLS only.")
    if not rest.startswith(b"/"):
        # RFC 9112 §3.2.4: OPTIONS for a URL without a path means the server as a whole.
        rest = b"*" if method == b"OPTIONS" and not rest else b"/" + rest
    return rest.decode("ascii"), authority.decode("ascii")


def check_host(value: bytes) -> int:
    """Check an authority, ``uri-host [":" port]`` (RFC 9110 §7.2), and return its port, 0 for none.

    :raises BadRequest: if it is malformed, or has a port but no host (RFC 9110 §4.2.1).
    """
    match = grammar.HOST.fullmatch(value)
    if match is None or value.startswith(b":"):
        raise BadRequest("The host is malformed.")
    name, digits = match.groups()
    port = (digits or b"").lstrip(b"0") or b"0"
    if len(port) > 5 or int(port) > 65535:
        raise BadRequest("The host has an impossible port.")
    if name.startswith(b"[") and grammar.IPV_FUTURE.fullmatch(name[1:-1]) is None:
        import ipaddress

        try:
            ipaddress.IPv6Address(name[1:-1].decode("ascii"))
        except ValueError:
            raise BadRequest("The host is no valid IPv6 address.") from None
    return int(port)


class Framing:
    """What the fields of one head say about the connection and the body."""

    __slots__ = ("encoded", "expects_continue", "host", "keep_alive", "length")

    def __init__(
        self,
        host: str,
        length: int | None,
        *,
        keep_alive: bool,
        expects_continue: bool = False,
        encoded: bool = False,
    ) -> None:
        #: the Host field; "" if there is none, as HTTP/1.0 allows
        self.host = host
        #: bytes of the body, or None when it is chunked
        self.length = length
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        #: whether there is a Content-Encoding
        self.encoded = encoded


# What the fields that framing needs have said before, by these fields alone: clients send few
# different ones, also where other fields differ each time, and reading them again takes 2 µs more.
# Whoever sends ever new ones cannot fill more memory than these bounds. A dict's single operations
# are atomic, so that any thread may use it, and a Framing never changes.
_known_framings: dict[tuple[object, ...], Framing] = {}
_MAX_KNOWN_FRAMINGS = 128
_MAX_KNOWN_BLOCK = 2048


def read_framing(block: bytes, minor: bytes) -> Framing:
    """Return what a validated block of fields says about the connection and the body.

    :raises HTTPError: 400, 413, 417 or 501.
    """
    found = grammar.FRAMING_FIELDS.findall(block)
    key = (minor, *found)
    try:
        # Not `get`: without a GIL that takes CPython 3.13 37 µs for keys of another thread.
        return _known_framings[key]
    except KeyError:
        framing = _read_framing(found, minor)
    if len(block) <= _MAX_KNOWN_BLOCK:
        if len(_known_framings) >= _MAX_KNOWN_FRAMINGS:
            _known_framings.clear()
        _known_framings[key] = framing
    return framing


def _read_framing(found: list[tuple[bytes, bytes]], minor: bytes) -> Framing:
    fields: dict[bytes, list[bytes]] = {}
    for name, value in found:
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    host = _read_host(fields.get(b"host", []), minor)
    length = _read_length(
        fields.get(b"transfer-encoding", []), fields.get(b"content-length", []), minor
    )
    expectations = _list_members(fields.get(b"expect", []))
    # RFC 9110 §10.1.1: an expectation in HTTP/1.0 is ignored.
    expects_continue = minor == b"1" and bool(expectations)
    if expects_continue and any(member != b"100-continue" for member in expectations):
        raise ExpectationFailed("The only expectation this server meets is '100-continue'.")
    options = _list_members(fields.get(b"connection", []))
    keep_alive = b"close" not in options and (minor == b"1" or b"keep-alive" in options)
    return Framing(
        host,
        length,
        keep_alive=keep_alive,
        expects_continue=expects_continue,
        encoded=b"content-encoding" in fields,
    )


def _read_host(values: list[bytes], minor: bytes) -> str:
    # RFC 9112 §3.2. More than one is wrong in HTTP/1.0, too.
    if len(values) > 1:
        raise BadRequest("There is more than one Host field.")
    if values:
        check_host(values[0])
        return values[0].decode("ascii")
    if minor == b"1":
        raise BadRequest("There is no Host field.")
    return ""


def _read_length(codings: list[bytes], lengths: list[bytes], minor: bytes) -> int | None:
    """Decide the length of the body; None for a chunked one.

    The numbered rules of RFC 9112 §6.3 apply to a request as:

    3. Transfer-Encoding together with Content-Length is an attempt at smuggling: refused.
    4. Transfer-Encoding must be ``chunked``, alone; any other coding is one this server lacks
       (§6.1: 501). In HTTP/1.0 it is faulty framing (§6.1): refused.
    5. An invalid Content-Length is refused; so is a repeated or listed one.
    6. A valid one counts the body.
    7. Without either there is no body.
    """
    if codings:
        if lengths:
            raise BadRequest("Transfer-Encoding and Content-Length exclude each other.")
        if minor == b"0":
            raise BadRequest("HTTP/1.0 has no Transfer-Encoding.")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise HTTPNotImplemented("The only transfer coding of this server is 'chunked'.")
        return None
    if not lengths:
        return 0
    # RFC 9110 §8.6: 1*DIGIT. int() alone would take "+1", "1_0" and other scripts' digits.
    if len(lengths) > 1 or not lengths[0].isdigit():
        raise BadRequest("Content-Length is not one number of bytes.")
    digits = lengths[0].lstrip(b"0") or b"0"
    if len(digits) > _LENGTH_DIGITS:
        raise ContentTooLarge("Content-Length is beyond any limit.")
    return int(digits)


def _list_members(values: list[bytes]) -> list[bytes]:
    # RFC 9110 §5.6.1, where empty members do not count. The members of these lists are tokens.
    if not values:
        return []
    members = [member.strip(b" \t") for member in b",".join(values).lower().split(b",")]
    return [member for member in members if member]
