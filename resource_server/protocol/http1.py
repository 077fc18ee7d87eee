"""HTTP/1.0 and HTTP/1.1, server role, without I/O: feed bytes, get requests; give a response, get bytes.

One :class:`HTTP1` speaks for one connection and is used by one thread at a time. Its life is two small
state machines that run beside each other, once per request:

====================  =====================================================  =========================
reading (§ RFC 9112)  moves on by                                            to
====================  =====================================================  =========================
HEAD (§2–§5)          a complete head: no body / counted / chunked           DONE / LENGTH / CHUNK_SIZE
LENGTH (§6.2)         the last byte                                          DONE
CHUNK_SIZE (§7.1)     a size line: not zero / zero                           CHUNK_DATA / TRAILERS
CHUNK_DATA (§7.1)     the chunk's last byte                                  CHUNK_END
CHUNK_END (§7.1)      CRLF                                                   CHUNK_SIZE
TRAILERS (§7.1.2)     the empty line                                         DONE
any of these          a rule broken, or ``finish`` without keep-alive        CLOSED
DONE                  ``finish`` with keep-alive                             HEAD
====================  =====================================================  =========================

==========  =================================================================  ==========
answering   moves on by                                                        to
==========  =================================================================  ==========
NOTHING     a complete head, or a rule broken                                  AWAITED
AWAITED     ``start``                                                          STARTED
STARTED     ``finish``                                                         NOTHING
==========  =================================================================  ==========

Once CLOSED, no byte is looked at any more: nothing pipelined behind an error is ever executed.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from ..errors import (
    REASONS,
    BadRequest,
    ContentTooLarge,
    ExpectationFailed,
    HTTPError,
    HTTPNotImplemented,
    HTTPVersionNotSupported,
    RequestHeaderFieldsTooLarge,
    URITooLong,
)
from ..headers import Headers
from ..request import Request
from . import grammar

if TYPE_CHECKING:
    from ..response import Response
    from .limits import Limits


class Reading(enum.Enum):
    """Where the request side of a connection stands."""

    HEAD = enum.auto()
    LENGTH = enum.auto()
    CHUNK_SIZE = enum.auto()
    CHUNK_DATA = enum.auto()
    CHUNK_END = enum.auto()
    TRAILERS = enum.auto()
    DONE = enum.auto()
    CLOSED = enum.auto()


class Answering(enum.Enum):
    """Where the response side of a connection stands."""

    NOTHING = enum.auto()
    AWAITED = enum.auto()
    STARTED = enum.auto()


class Payload(enum.Enum):
    """How the content of the response under way is delimited (RFC 9112 §6.3)."""

    NONE = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    UNTIL_CLOSE = enum.auto()


# Looking a member up on its class costs more than a global, and these are read for every request.
HEAD, DONE, CLOSED = Reading.HEAD, Reading.DONE, Reading.CLOSED
NOTHING, AWAITED, STARTED = Answering.NOTHING, Answering.AWAITED, Answering.STARTED
NO_PAYLOAD, LENGTH = Payload.NONE, Payload.LENGTH

_METHODS = {
    name.encode(): name
    for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT")
}
_STATUS_LINES = {code: f"HTTP/1.1 {code} {text}\r\n".encode() for code, text in REASONS.items()}
_CONTROLS = frozenset(range(0x20)) - {0x09, 0x0A, 0x0D} | {0x7F}


class Framing:
    """What the fields of one head say about the connection and the body."""

    __slots__ = ("chunked", "expects_continue", "host", "keep_alive", "length")

    def __init__(
        self, host: bytes | None, length: int, chunked: bool, keep_alive: bool, expects_continue: bool
    ) -> None:
        self.host = host
        self.length = length
        self.chunked = chunked
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue


class HTTP1:
    """The server's side of one HTTP/1.x connection.

    :param limits: the sizes that a client may not exceed.

    A method that finds a rule broken raises an :class:`~resource_server.errors.HTTPError`; its response
    may then be given to :meth:`start`, after which the connection has to be closed.
    """

    __slots__ = (
        "_answering",
        "_block",
        "_buffer",
        "_chunk_overhead",
        "_complete",
        "_empty_lines",
        "_framing",
        "_left",
        "_limits",
        "_minor",
        "_reading",
        "_sends_left",
        "_walked",
        "_walked_fields",
        "expects_continue",
        "head_only",
        "keep_alive",
        "payload",
        "trailers",
        "version",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._reading = HEAD
        self._answering = NOTHING
        self._buffer = b""
        self._empty_lines = 0
        self._walked = 0
        self._walked_fields = 0
        self._left = 0
        self._chunk_overhead = 0
        # Clients repeat their fields from request to request: the last validated block, byte for byte,
        # and what it said. One block is kept per connection, no longer than `header_bytes`.
        self._block = b"\n"
        self._minor = b""
        self._framing = Framing(None, 0, False, False, False)
        self._sends_left = 0
        self._complete = False
        #: whether the connection outlives the response under way
        self.keep_alive = True
        #: whether the client waits for `100 Continue` before it sends the body
        self.expects_continue = False
        #: whether the request is HEAD
        self.head_only = False
        #: how the response under way is delimited
        self.payload = NO_PAYLOAD
        #: 10 or 11, as the client's last request line said
        self.version = 11
        #: what followed a chunked body
        self.trailers: Headers | None = None

    # -- the request side ------------------------------------------------------------------

    @property
    def reading(self) -> Reading:
        """Where the request side stands."""
        return self._reading

    @property
    def answering(self) -> Answering:
        """Where the response side stands."""
        return self._answering

    @property
    def buffered(self) -> int:
        """Bytes received and not yet used."""
        return len(self._buffer)

    @property
    def body_complete(self) -> bool:
        """Whether the request has been received to its last byte."""
        return self._reading is DONE

    @property
    def content_length(self) -> int | None:
        """The body's length in bytes as declared, or None when it is chunked."""
        return None if self._framing.chunked else self._framing.length

    def receive(self, data: bytes) -> None:
        """Take what the client sent. Once the connection is closed it is thrown away."""
        if self._buffer:
            self._buffer += data
        elif self._reading is not CLOSED:
            self._buffer = data

    def take_buffer(self) -> bytes:
        """Hand over what was received beyond the request, when another protocol takes over (RFC 9110 §7.8)."""
        data, self._buffer = self._buffer, b""
        self._reading = CLOSED
        return data

    def next_request(self, client_address: tuple[str, int]) -> Request | None:
        """The next request whose head is complete, or None until more is received.

        :param client_address: host and port, for the request.
        :raises HTTPError: when the head breaks a rule; the connection is then CLOSED for reading.
        """
        if self._reading is not HEAD or self._answering is not NOTHING:
            return None
        buffer = self._buffer
        if buffer[:1] in b"\r\n":
            buffer = self._skip_empty_lines()
        end = buffer.find(b"\r\n\r\n")
        if end < 0:
            if buffer:
                self._walk(buffer)
            return None
        try:
            return self._read_head(client_address, buffer, end)
        except HTTPError:
            self.refuse()
            raise

    def _skip_empty_lines(self) -> bytes:
        # RFC 9112 §2.2: some clients send an extra CRLF after a body.
        buffer = self._buffer
        while buffer.startswith(b"\r\n"):
            buffer = buffer[2:]
            self._empty_lines += 1
        self._buffer = buffer
        if self._empty_lines > self._limits.empty_lines:
            self.refuse()
            raise BadRequest("Too many empty lines before the request.")
        return buffer

    def _read_head(self, client_address: tuple[str, int], buffer: bytes, end: int) -> Request:
        line_end = buffer.find(b"\r\n", 0, end + 2)
        match = grammar.REQUEST_LINE.fullmatch(buffer, 0, line_end)
        block = buffer[line_end:end]
        limits = self._limits
        if line_end > limits.request_line:
            self._walk(buffer)
        if match is not None:
            name, raw_target, minor = match.groups()
        else:
            name, raw_target, minor = _parse_request_line(buffer[:line_end])
        if block == self._block and minor == self._minor:
            framing = self._framing
        else:
            # The limits come first, so that what is remembered is bounded.
            if (
                len(block) > limits.header_bytes
                or block.count(b"\n") > limits.header_fields
                or grammar.FIELD_BLOCK.fullmatch(block) is None
            ):
                self._walk(buffer)
                raise BadRequest("Malformed header fields.")
            framing = _read_framing(block, minor)
            self._block, self._minor, self._framing = block, minor, framing

        host = framing.host
        if raw_target[:1] == b"/" and name != b"CONNECT":
            target = raw_target.decode("ascii")
        else:
            target, authority = _parse_target(name, raw_target)
            if authority is not None:
                host = authority
        method = _METHODS.get(name) or name.decode("ascii")

        self._buffer = buffer[end + 4 :]
        self._empty_lines = self._walked = self._walked_fields = 0
        self._answering = AWAITED
        self.head_only = method == "HEAD"
        self.keep_alive = framing.keep_alive
        self.version = 11 if minor == b"1" else 10
        self.trailers = None
        if framing.chunked:
            self._reading = Reading.CHUNK_SIZE
            self._left = self._chunk_overhead = 0
            self.expects_continue = framing.expects_continue and not self._buffer
        elif framing.length:
            self._reading = Reading.LENGTH
            self._left = framing.length
            self.expects_continue = framing.expects_continue and not self._buffer
        else:
            self._reading = DONE
            self.expects_continue = False
        return Request.received(
            client_address, method, target, block, self.version, host.decode("ascii") if host else ""
        )

    def _walk(self, buffer: bytes) -> None:
        """Look at the lines of a head one by one, as far as they have arrived.

        :raises HTTPError: for the first line, complete or not, that cannot belong to a valid head.
        """
        try:
            self._walk_lines(buffer)
        except HTTPError:
            self.refuse()
            raise

    def _walk_lines(self, buffer: bytes) -> None:
        limits = self._limits
        start = self._walked
        while True:
            newline = buffer.find(b"\n", start)
            stop = newline + 1 if newline >= 0 else len(buffer)
            if start == 0:
                if stop - 2 > limits.request_line:
                    raise URITooLong(f"A request line is at most {limits.request_line} bytes long.")
            elif stop - buffer.find(b"\n") - 3 > limits.header_bytes:
                raise RequestHeaderFieldsTooLarge(
                    f"The header fields are together at most {limits.header_bytes} bytes long."
                )
            line = buffer[start:stop]
            if newline < 0:
                _check_partial_line(line)
                break
            if not line.endswith(b"\r\n"):
                raise BadRequest("A line ends with CRLF, not with a bare LF.")
            line = line[:-2]
            if start == 0:
                _parse_request_line(line)
            elif line:
                self._walked_fields += 1
                if self._walked_fields > limits.header_fields:
                    raise RequestHeaderFieldsTooLarge(
                        f"A request has at most {limits.header_fields} header fields."
                    )
                _check_field_line(line)
            else:
                break
            start = stop
        self._walked = start

    def read_body(self) -> bytes:
        """The part of the body that has arrived since the last call, decoded; b"" for none.

        :raises HTTPError: 400 or 431 when the chunked coding breaks a rule (RFC 9112 §7.1).
        """
        if self._reading is Reading.LENGTH:
            data = self._buffer
            if not data:
                return b""
            self.expects_continue = False
            if len(data) <= self._left:
                self._buffer = b""
            else:
                data, self._buffer = data[: self._left], data[self._left :]
            self._left -= len(data)
            if not self._left:
                self._reading = DONE
            return data
        if self._reading in (HEAD, DONE, CLOSED) or not self._buffer:
            return b""
        self.expects_continue = False
        try:
            return self._read_chunks()
        except HTTPError:
            self.refuse()
            raise

    def _read_chunks(self) -> bytes:
        # RFC 9112 §7.1. One pass over the buffer, which is cut once at the end: many small chunks
        # cost time linear in their bytes.
        buffer = self._buffer
        position = 0
        pieces: list[bytes] = []
        while self._reading is not DONE:
            if self._reading is Reading.CHUNK_DATA:
                piece = buffer[position : position + self._left]
                if not piece:
                    break
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._reading = Reading.CHUNK_END
                continue
            used = self._read_chunk_line(buffer, position)
            if not used:
                break
            position += used
        self._buffer = buffer[position:]
        return b"".join(pieces)

    def _read_chunk_line(self, buffer: bytes, position: int) -> int:
        """Read a size line, the CRLF behind a chunk, or the trailers; return the bytes used, 0 if more are needed."""
        if self._reading is Reading.CHUNK_END:
            end = buffer[position : position + 2]
            if end == b"\r\n":
                self._reading = Reading.CHUNK_SIZE
                return 2
            if b"\r\n".startswith(end):
                return 0
            raise BadRequest("A chunk is not as long as it says.")
        if self._reading is Reading.TRAILERS:
            return self._read_trailers(buffer, position)
        limit = self._limits.chunk_line
        newline = buffer.find(b"\n", position, position + limit + 2)
        if newline < 0:
            line = buffer[position : position + limit + 2]
            if len(line) == limit + 2 or (line and line[0] not in grammar.HEX_DIGITS):
                raise BadRequest("Malformed chunk size.")
            _check_partial_line(line)
            return 0
        line = buffer[position : newline - 1]
        match = grammar.CHUNK_LINE.fullmatch(line)
        if match is None or buffer[newline - 1] != 0x0D:
            raise BadRequest("Malformed chunk size.")
        self._left = int(match[1], 16)
        self._reading = Reading.CHUNK_DATA if self._left else Reading.TRAILERS
        # Legitimate small chunks need at most their size line; what is beyond is a way to make a
        # server work without sending content.
        self._chunk_overhead = max(0, self._chunk_overhead + len(line) - 16 - 2 * self._left)
        if self._chunk_overhead > self._limits.chunk_overhead:
            raise BadRequest("The chunked body has too much framing for its content.")
        return newline + 1 - position

    def _read_trailers(self, buffer: bytes, position: int) -> int:
        # RFC 9112 §7.1.2: kept apart from the header fields, as a merge could smuggle framing or
        # authentication in (RFC 9110 §6.5.1).
        limits = self._limits
        if buffer.startswith(b"\r\n", position):
            block, used = b"", 2
        else:
            end = buffer.find(b"\r\n\r\n", position)
            block = b"\r\n" + (buffer[position:end] if end >= 0 else buffer[position:])
            used = end + 4 - position if end >= 0 else 0
        if len(block) > limits.trailer_bytes or block.count(b"\n") > limits.trailer_fields + 1:
            raise RequestHeaderFieldsTooLarge("The trailer fields are too large.")
        if not used:
            lines = block[2:].split(b"\n")
            for line in lines[:-1]:
                if not line.endswith(b"\r"):
                    raise BadRequest("A line ends with CRLF, not with a bare LF.")
                _check_field_line(line[:-1])
            _check_partial_line(lines[-1])
            return 0
        if block.count(b"\n") > limits.trailer_fields:
            raise RequestHeaderFieldsTooLarge(
                f"A request has at most {limits.trailer_fields} trailer fields."
            )
        if grammar.FIELD_BLOCK.fullmatch(block) is None:
            raise BadRequest("Malformed trailer fields.")
        self.trailers = Headers.parse(block)
        self._reading = DONE
        return used

    def refuse(self) -> None:
        """Stop reading for good, for a rule broken here or above; an error may still be answered."""
        self._reading = CLOSED
        self._buffer = b""
        self.keep_alive = False
        self.expects_continue = False
        if self._answering is NOTHING:
            self._answering = AWAITED
            self.head_only = False

    # -- the response side -----------------------------------------------------------------

    @property
    def sends_payload(self) -> bool:
        """Whether the response under way has content on the wire; of its end, ``payload`` tells more."""
        return self.payload is not NO_PAYLOAD

    @property
    def client_closes(self) -> bool:
        """Whether the client said with its request, now complete, that it will send no other."""
        return not self._framing.keep_alive and self._complete

    def continue_(self) -> bytes:
        """Ask for the body: ``100 Continue`` (RFC 9110 §15.2.1), or b"" when the client does not wait for it."""
        if not self.expects_continue:
            return b""
        self.expects_continue = False
        return b"HTTP/1.1 100 Continue\r\n\r\n"

    def interim(self, status_code: int, headers: Headers) -> bytes:
        """A 1xx response before the final one (RFC 9110 §15.2); b"" for HTTP/1.0, which has none.

        :raises ValueError: for a status that is not an interim one.
        :raises RuntimeError: when no final response is awaited.
        """
        if not 100 <= status_code <= 199 or status_code == 101:
            raise ValueError(f"{status_code} is not the status of an interim response")
        if self._answering is not AWAITED:
            raise RuntimeError("an interim response comes after the request and before the response")
        if self.version < 11:
            return b""
        return _status_line(status_code) + headers.encode() + b"\r\n"

    def start(self, response: Response, date: bytes) -> bytes:
        """The head of the final response, with its framing decided (RFC 9112 §6.3).

        :param date: the whole Date line with its CRLF; left out when the response has its own.
        :raises RuntimeError: when no response is awaited.
        """
        if self._answering is not AWAITED:
            raise RuntimeError("a response was started that no request awaits")
        lines = response.header_lines()
        if self._reading is not DONE or response.wants_close:
            self.keep_alive = False
        framing = self._frame(response)
        if not self.keep_alive:
            framing += b"Connection: close\r\n\r\n"
        elif self.version < 11:
            framing += b"Connection: keep-alive\r\n\r\n"
        else:
            framing += b"\r\n"
        status = _STATUS_LINES.get(response.status_code) or _status_line(response.status_code)
        self._answering = STARTED
        if response.has_date:
            return status + lines + framing
        return status + date + lines + framing

    def _frame(self, response: Response) -> bytes:
        """Decide how the content is delimited; the framing field that says so.

        1. A response to HEAD, or with 1xx, 204, 205 or 304, has no content (RFC 9110 §6.4.1);
           HEAD tells the length that GET would have had, 205 tells 0.
        2. Content whose length is known is counted.
        3. Other content is chunked for HTTP/1.1,
        4. and ends with the connection for HTTP/1.0.
        """
        status = response.status_code
        body = response.body
        length = len(body) if body else response.content_length
        if length is None and body is not None:
            length = 0
        self.payload = NO_PAYLOAD
        if status < 200 or status == 204 or status == 304:
            return b""
        if status == 205:
            return b"Content-Length: 0\r\n"
        if body is not None and not self.head_only:
            length = len(body)
        if length is not None:
            if not self.head_only:
                self.payload = LENGTH
                self._sends_left = length
            return b"Content-Length: %d\r\n" % length
        if self.version >= 11:
            if not self.head_only:
                self.payload = Payload.CHUNKED
            return b"Transfer-Encoding: chunked\r\n"
        if not self.head_only:
            self.payload = Payload.UNTIL_CLOSE
            self.keep_alive = False
        return b""

    def encode(self, data: bytes) -> bytes:
        """One piece of streamed content as it goes over the wire.

        :raises RuntimeError: for more content than the response's Content-Length announced, or for
            content of a response that has none.
        """
        if self._answering is not STARTED or self.payload is NO_PAYLOAD:
            raise RuntimeError("content was sent outside a response that has content")
        if self.payload is Payload.CHUNKED:
            # An empty chunk would end the body.
            return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        if self.payload is LENGTH:
            self._sends_left -= len(data)
            if self._sends_left < 0:
                raise RuntimeError("the response has more content than its Content-Length says")
        return data

    def end(self, trailers: Headers | None = None) -> bytes:
        """What ends streamed content.

        :raises RuntimeError: when less content was sent than announced; the connection must be cut.
        """
        if self.payload is LENGTH and self._sends_left:
            raise RuntimeError("the response has less content than its Content-Length says")
        if self.payload is Payload.CHUNKED:
            return b"0\r\n" + (trailers.encode() if trailers else b"") + b"\r\n"
        return b""

    def finish(self) -> None:
        """The response is complete: be ready for the next request, or closed.

        :raises RuntimeError: when no response was started.
        """
        if self._answering is not STARTED:
            raise RuntimeError("a response was finished that was not started")
        self._answering = NOTHING
        if self.keep_alive:
            self._reading = HEAD
        else:
            self._complete = self._reading is DONE and not self._buffer
            self._reading = CLOSED
            self._buffer = b""


def _status_line(status_code: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status_code, REASONS.get(status_code, "").encode())


def _check_partial_line(line: bytes) -> None:
    """Refuse a line, still without its end, that holds what no line may."""
    if b"\r" in line[:-1]:
        raise BadRequest("A line holds a bare CR.")
    if not _CONTROLS.isdisjoint(line):
        raise BadRequest("A line holds a control character.")


def _parse_request_line(line: bytes) -> tuple[bytes, bytes, bytes]:
    """Method, target and minor version of a request line (RFC 9112 §3).

    :raises HTTPError: 400, or 505 for a major version that is not 1.
    """
    match = grammar.ANY_REQUEST_LINE.fullmatch(line)
    if match is None:
        raise BadRequest("The request line is not 'method target version'.")
    method, target, version = match.groups()
    if grammar.TOKEN.fullmatch(method) is None:
        raise BadRequest("The method is not a token.")
    numbers = grammar.HTTP_VERSION.fullmatch(version)
    if numbers is None:
        raise BadRequest("The version is not of the form HTTP/1.1.")
    if numbers[1] != b"1":
        raise HTTPVersionNotSupported("This server speaks HTTP/1.0 and HTTP/1.1.")
    # RFC 9110 §2.5: a higher minor version is handled as the highest that this server knows.
    minor = b"0" if numbers[2] == b"0" else b"1"
    if grammar.REQUEST_LINE.fullmatch(method + b" " + target + b" HTTP/1." + minor) is None:
        raise BadRequest("The request target holds a character that a URL may not hold.")
    return method, target, minor


def _check_field_line(line: bytes) -> None:
    """Tell which rule of RFC 9112 §5 a field line breaks.

    :raises BadRequest: if it breaks one.
    """
    if grammar.FIELD_LINE.fullmatch(line) is not None:
        return
    if line[:1] in b" \t":
        raise BadRequest("A field is folded over several lines.")
    name, colon, value = line.partition(b":")
    if not colon:
        raise BadRequest("A header field has no colon.")
    if name.endswith((b" ", b"\t")):
        raise BadRequest("There is white space between a field's name and its colon.")
    if grammar.TOKEN.fullmatch(name) is None:
        raise BadRequest("A field's name is not a token.")
    raise BadRequest("A field's value holds a control character.")


def _parse_target(method: bytes, target: bytes) -> tuple[str, bytes | None]:
    """The target forms of RFC 9112 §3.2 but origin-form: what to route by, and the authority if it has one.

    :raises BadRequest: for a form that does not go with the method, or is none.
    """
    if method == b"CONNECT":
        match = grammar.HOST.fullmatch(target)
        if match is None or not match["name"] or not match["port"]:
            raise BadRequest("CONNECT takes a host and a port.")
        check_host(target)
        return target.decode("ascii"), target
    if target == b"*":
        if method != b"OPTIONS":
            raise BadRequest("Only OPTIONS takes the target '*'.")
        return "*", None
    match = grammar.ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        raise BadRequest("The request target is neither a path nor a URL.")
    authority, rest = match.groups()
    check_host(authority)
    if not authority or authority.startswith(b":"):
        raise BadRequest("The URL in the request line has no host.")
    if not rest.startswith(b"/"):
        # RFC 9112 §3.2.4: OPTIONS for a URL without a path means the server as a whole.
        rest = b"*" if method == b"OPTIONS" and not rest else b"/" + rest
    return rest.decode("ascii"), authority


def check_host(value: bytes) -> None:
    """Check the syntax of a Host value: ``uri-host [":" port]`` (RFC 9110 §7.2).

    :raises BadRequest: if it is malformed.
    """
    match = grammar.HOST.fullmatch(value)
    if match is None:
        raise BadRequest("The Host field is malformed.")
    name, port = match.groups()
    if port and (len(port) > 5 or int(port) > 65535):
        raise BadRequest("The Host field has an impossible port.")
    if name.startswith(b"[") and grammar.IPV_FUTURE.fullmatch(name[1:-1]) is None:
        import ipaddress

        try:
            ipaddress.IPv6Address(name[1:-1].decode("ascii"))
        except ValueError:
            raise BadRequest("The Host field holds no valid IPv6 address.") from None


def _read_framing(block: bytes, minor: bytes) -> Framing:
    """What a validated block of fields says about the connection and the body.

    The length of the body is decided by RFC 9112 §6.3, whose numbered rules apply to a request as:

    3. Transfer-Encoding together with Content-Length is an attempt at smuggling: refused.
    4. Transfer-Encoding must be ``chunked``, alone; any other coding is one this server lacks (§6.1: 501).
       In HTTP/1.0 it is faulty framing (§6.1): refused.
    5. An invalid Content-Length is refused; so is a repeated or listed one.
    6. A valid one counts the body.
    7. Without either there is no body.
    """
    host: bytes | None = None
    length: bytes | None = None
    coding: bytes | None = None
    options: list[bytes] = []
    expectations: list[bytes] = []
    for name, value in grammar.FRAMING_FIELDS.findall(block):
        name = name.lower()
        value = value.strip(b" \t")
        if name == b"host":
            if host is not None:
                raise BadRequest("There is more than one Host field.")
            check_host(value)
            host = value
        elif name == b"connection":
            options += _list_members(value)
        elif name == b"content-length":
            if length is not None:
                raise BadRequest("There is more than one Content-Length field.")
            length = value
        elif name == b"transfer-encoding":
            coding = value if coding is None else coding + b", " + value
        else:
            expectations += _list_members(value)
    if host is None and minor == b"1":
        raise BadRequest("There is no Host field.")
    if coding is not None:
        if length is not None:
            raise BadRequest("Transfer-Encoding and Content-Length exclude each other.")
        if minor == b"0":
            raise BadRequest("HTTP/1.0 has no Transfer-Encoding.")
        if coding.lower() != b"chunked":
            raise HTTPNotImplemented("The only transfer coding of this server is 'chunked'.")
    # RFC 9110 §10.1.1: an expectation in HTTP/1.0 is ignored.
    expects_continue = minor == b"1" and bool(expectations)
    if expects_continue and any(member != b"100-continue" for member in expectations):
        raise ExpectationFailed("The only expectation this server meets is '100-continue'.")
    keep_alive = b"close" not in options and (minor == b"1" or b"keep-alive" in options)
    return Framing(host, _read_length(length), coding is not None, keep_alive, expects_continue)


def _read_length(value: bytes | None) -> int:
    # RFC 9110 §8.6: 1*DIGIT. int() alone would take "+1", "1_0" and other scripts' digits.
    if value is None:
        return 0
    if not value.isdigit():
        raise BadRequest("Content-Length is not a number of bytes.")
    if len(value) > 18:
        raise ContentTooLarge("Content-Length is beyond any limit.")
    return int(value)


def _list_members(value: bytes) -> list[bytes]:
    # RFC 9110 §5.6.1; the members of these lists are tokens.
    return [member.strip(b" \t") for member in value.lower().split(b",")]
