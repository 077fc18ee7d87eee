"""HTTP/1.0 and HTTP/1.1, server role, without I/O: bytes to requests, responses to bytes.

One :class:`HTTP1` speaks for one connection and is used by one thread at a time. How it moves from
state to state is drawn in ``states.py``.
"""

from __future__ import annotations

from ..errors import REASONS, BadRequest, HTTPError
from ..headers import Headers
from ..request import Request
from . import grammar
from .head import Framing, PartialHead, Section, head_section, parse_target, read_framing
from .states import Answering, Payload, Reading

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from ..response import Response
    from .limits import Limits

# Looking a member up on its class costs more than a global, and these are read for every request.
HEAD, BODY, DONE, CLOSED = Reading.HEAD, Reading.LENGTH, Reading.DONE, Reading.CLOSED
NOTHING, AWAITED, STARTED = Answering.NOTHING, Answering.AWAITED, Answering.STARTED
NO_PAYLOAD, LENGTH = Payload.NONE, Payload.LENGTH

#: Chunks decoded at a time, which takes about 1 ms. A client may send 10,000 in one packet.
CHUNKS_PER_TURN = 500

_METHODS = {
    name.encode(): name
    for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT")
}
_WITHOUT_CONTENT = frozenset([101, 204, 205, 304])
_STATUS_LINES = {code: f"HTTP/1.1 {code} {text}\r\n".encode() for code, text in REASONS.items()}
_OK = _STATUS_LINES[200]
_UPGRADES = frozenset([101, 426])

# Clients repeat their fields from request to request, so each connection remembers the last block
# that was found valid, and what it said: parsing takes 2 µs instead of 5 µs. Of a client that sends
# one request again and again it remembers the head as a whole: then it takes 1 µs. Longer ones are
# not remembered, for the sake of idle connections' memory.
_REMEMBERED_BYTES = 2048
_NO_BLOCK = b"\n"
_NO_FRAMING = Framing("", 0, keep_alive=False)
_match_request_line = grammar.REQUEST_LINE.match
_SLASH = 0x2F


class HTTP1:
    """The server's side of one HTTP/1.x connection.

    :param limits: the sizes that a client may not exceed.
    :param secure: whether the connection is one for ``https`` URLs.

    A method that finds a rule broken raises an :class:`~resource_server.errors.HTTPError`; its
    response may then be given to :meth:`start`, after which the connection has to be closed.
    """

    __slots__ = (
        "_answering",
        "_block",
        "_buffer",
        "_chunk_overhead",
        "_complete",
        "_head",
        "_left",
        "_limits",
        "_line",
        "_minor",
        "_partial",
        "_searched",
        "_section",
        "_secure",
        "_sends_left",
        "_tunnel",
        "expects_continue",
        "framing",
        "head_only",
        "keep_alive",
        "paused",
        "payload",
        "reading",
        "trailers",
        "version",
    )

    def __init__(self, limits: Limits, *, secure: bool = False) -> None:
        self._limits = limits
        self._secure = secure
        #: where the request side stands; written here alone
        self.reading = HEAD
        self._answering = NOTHING
        self._buffer = b""
        # The next head, if something before or of it has been looked at already.
        self._partial: PartialHead | None = None
        # Of the body's chunks: how far a size line has been searched, and the trailers.
        self._searched = 0
        self._section: Section | None = None
        self._left = 0
        self._chunk_overhead = 0
        self._block = _NO_BLOCK
        self._minor = b""
        # The last head, if it had these fields, too; and what its line said.
        self._head = b""
        self._line = ("", "", "")
        #: what the fields of the last head say about the connection and the body
        self.framing = _NO_FRAMING
        self._sends_left = 0
        self._complete = False
        # whether a 2xx response begins a tunnel (CONNECT)
        self._tunnel = False
        #: whether the connection outlives the response under way
        self.keep_alive = True
        #: whether the client waits for `100 Continue` before it sends the body
        self.expects_continue = False
        #: whether `read_body` could go on at once, but has done enough for a turn
        self.paused = False
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
        return self.reading is DONE

    def receive(self, data: bytes) -> None:
        """Take what the client sent. Once the connection is closed it is thrown away."""
        if self._buffer:
            self._buffer += data
        elif self.reading is not CLOSED:
            self._buffer = data

    def take_buffer(self) -> bytes:
        """Hand over what was received beyond the request, to another protocol (RFC 9110 §7.8)."""
        data, self._buffer = self._buffer, b""
        self.reading = CLOSED
        return data

    def next_request(self, client_address: tuple[str, int]) -> Request | None:
        """Return the next request whose head is complete, or None until more is received.

        :param client_address: host and port, for the request.
        :raises HTTPError: when the head, complete or not, breaks a rule; reading is then CLOSED.
        """
        if self.reading is not HEAD or self._answering is not NOTHING:
            return None
        buffer = self._buffer
        head = self._head
        if head and buffer.startswith(head) and self._partial is None:
            return self._repeat(client_address)
        try:
            # Nearly all heads come whole, and need no look at their single lines.
            end = -1 if self._partial is not None else buffer.find(b"\r\n\r\n")
            match = _match_request_line(buffer) if end > 0 else None
            if match is not None and (start := match.end(3)) <= self._limits.request_line:
                name, raw_target, minor = match.groups()
            else:
                if not buffer:
                    return None
                self._partial = self._partial or PartialHead(self._limits)
                self._buffer = buffer = self._partial.skip_empty_lines(buffer)
                found = self._partial.look(buffer)
                if found is None:
                    return None
                name, raw_target, minor, start, end = found
                self._partial = None

            block = buffer[start:end]
            known = block == self._block and minor == self._minor
            if not known:
                self._read_fields(block, minor)
            host = self.framing.host
            if raw_target[0] == _SLASH and name != b"CONNECT":
                target = raw_target.decode("ascii")
            else:
                target, authority = self._read_target(name, raw_target)
                # RFC 9112 §3.2.2: the target's authority takes the place of the Host field.
                host = authority or host
        except HTTPError:
            self.refuse()
            raise
        try:
            # Not `get`: without a GIL that takes CPython 3.13 37 µs for keys of another thread.
            method = _METHODS[name]
        except KeyError:
            method = name.decode("ascii")
        self.head_only = method == "HEAD"
        if known:
            self._head = buffer[: end + 4] if end < _REMEMBERED_BYTES else b""
            self._line = (method, target, host)
        self._begin_exchange(buffer[end + 4 :])
        return Request.received(client_address, method, target, block, self.version, host)

    def _repeat(self, client_address: tuple[str, int]) -> Request:
        """Take a head that is the last one again, byte for byte, as clients send that poll."""
        self._begin_exchange(self._buffer[len(self._head) :])
        method, target, host = self._line
        return Request.received(client_address, method, target, self._block, self.version, host)

    def _read_target(self, name: bytes, raw_target: bytes) -> tuple[str, str]:
        """Read a target that is no plain path: what is asked for, and its authority or ""."""
        if name == b"CONNECT":
            # What follows may be meant for the tunnel: it is never read as a request.
            self.keep_alive = False
            self._tunnel = True
        return parse_target(name, raw_target, secure=self._secure)

    def _begin_exchange(self, rest: bytes) -> None:
        """Go on behind a head, which has been understood."""
        self._buffer = rest
        self.trailers = None
        self._answering = AWAITED
        framing = self.framing
        if framing.length == 0:
            self.reading = DONE
        else:
            self._expect_body(framing)

    def _read_fields(self, block: bytes, minor: bytes) -> None:
        # One match tells that all fields are valid. If they are not, looking at the lines in their
        # order finds the same fault that it finds when they arrive bit by bit.
        limits = self._limits
        if (
            len(block) > limits.header_bytes
            or block.count(b"\n") > limits.header_fields
            or grammar.FIELD_BLOCK.fullmatch(block) is None
        ):
            head_section(limits).look(self._buffer)
        self.framing = framing = read_framing(block, minor)
        # As long as the fields stay the same these do, as a connection that is not to be kept gets
        # no further request.
        self.keep_alive = framing.keep_alive
        self.version = 11 if minor == b"1" else 10
        self._block = block if len(block) <= _REMEMBERED_BYTES else _NO_BLOCK
        self._minor = minor
        self._head = b""

    def _expect_body(self, framing: Framing) -> None:
        self.expects_continue = framing.expects_continue and not self._buffer
        if framing.length is None:
            self.reading = Reading.CHUNK_SIZE
            self._left = self._chunk_overhead = 0
        else:
            self.reading = BODY
            self._left = framing.length

    def whole_body(self) -> bytes | None:
        """What is left of a body that has a length, if all of it has been received; else None."""
        buffer, length = self._buffer, self._left
        if self.reading is not BODY or len(buffer) < length:
            return None
        self.expects_continue = False
        self._left = 0
        self.reading = DONE
        if len(buffer) == length:
            self._buffer = b""
            return buffer
        self._buffer = buffer[length:]
        return buffer[:length]

    def read_body(self) -> bytes:
        """The part of the body that has arrived since the last call, decoded; b"" for none.

        Of very many small chunks only some are read; ``paused`` then tells to call again.

        :raises HTTPError: 400 or 431 when the chunked coding breaks a rule (RFC 9112 §7.1).
        """
        if self.reading is BODY:
            data = self.whole_body()
            if data is None:
                data, self._buffer = self._buffer, b""
                self._left -= len(data)
                if data:
                    self.expects_continue = False
            return data
        if self.reading in (HEAD, DONE, CLOSED) or not self._buffer:
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
        self.paused = False
        while self.reading is not DONE:
            if len(pieces) == CHUNKS_PER_TURN:
                self.paused = True
                break
            if self.reading is Reading.CHUNK_DATA:
                piece = buffer[position : position + self._left]
                if not piece:
                    break
                pieces.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self.reading = Reading.CHUNK_END
                continue
            used = self._read_chunk_line(buffer, position)
            if not used:
                break
            position += used
        self._buffer = buffer[position:]
        return b"".join(pieces)

    def _read_chunk_line(self, buffer: bytes, position: int) -> int:
        """Read a size line, the CRLF behind a chunk, or the trailers.

        :returns: the bytes used, 0 if more are needed.
        """
        if self.reading is Reading.CHUNK_END:
            end = buffer[position : position + 2]
            if end == b"\r\n":
                self.reading = Reading.CHUNK_SIZE
                return 2
            if b"\r\n".startswith(end):
                return 0
            raise BadRequest("A chunk is not as long as it says.")
        if self.reading is Reading.TRAILERS:
            return self._read_trailers(buffer[position:])
        return self._read_size_line(buffer[position : position + self._limits.chunk_line + 2])

    def _read_size_line(self, line: bytes) -> int:
        newline = line.find(b"\n", self._searched)
        if newline < 0:
            if len(line) == self._limits.chunk_line + 2 or not _begins_chunk(line, self._searched):
                raise BadRequest("Malformed chunk size.")
            # Of a CR is not known yet whether its LF follows.
            self._searched = len(line) - line.endswith(b"\r")
            return 0
        self._searched = 0
        match = grammar.CHUNK_LINE.fullmatch(line, 0, max(0, newline - 1))
        if match is None or line[newline - 1] != 0x0D:
            raise BadRequest("Malformed chunk size.")
        self._left = int(match[1], 16)
        self.reading = Reading.CHUNK_DATA if self._left else Reading.TRAILERS
        # Legitimate small chunks need at most their size line; what is beyond is a way to make a
        # server work without sending content.
        self._chunk_overhead = max(0, self._chunk_overhead + newline - 17 - 2 * self._left)
        if self._chunk_overhead > self._limits.chunk_overhead:
            raise BadRequest("The chunked body has too much framing for its content.")
        return newline + 1

    def _read_trailers(self, data: bytes) -> int:
        # RFC 9112 §7.1.2: kept apart from the header fields, as a merge could smuggle framing or
        # authentication in (RFC 9110 §6.5.1).
        if self._section is None:
            limits = self._limits
            self._section = Section(
                request_line=0, fields=limits.trailer_fields, size=limits.trailer_bytes
            )
        end = self._section.look(data)
        if end:
            block = data[: end - 4]
            self.trailers = Headers.parse(b"\r\n" + block if end > 2 else b"")
            self._section = None
            self.reading = DONE
        return end

    def refuse(self) -> None:
        """Stop reading for good, for a rule broken here or above; an answer may still be given."""
        if self._answering is NOTHING:
            # The head could not be read to its end, but nothing answers HEAD with content.
            self.head_only = self._buffer.startswith(b"HEAD ")
            self._tunnel = False
            self._answering = AWAITED
        self.reading = CLOSED
        self._buffer = b""
        self._section = None
        self.keep_alive = False
        self.expects_continue = False

    # -- the response side -----------------------------------------------------------------

    @property
    def sends_payload(self) -> bool:
        """Whether the response under way has content on the wire; ``payload`` tells how it ends."""
        return self.payload is not NO_PAYLOAD

    @property
    def client_closes(self) -> bool:
        """Whether the client said with its request, now complete, that it will send no other."""
        return not self.framing.keep_alive and self._complete

    def continue_(self) -> bytes:
        """Ask for the body: ``100 Continue`` (RFC 9110 §15.2.1).

        b"" when the client does not wait for it, or the final response has begun already.
        """
        if not self.expects_continue or self._answering is not AWAITED:
            return b""
        self.expects_continue = False
        return b"HTTP/1.1 100 Continue\r\n\r\n"

    def interim(self, status_code: int, headers: Headers) -> bytes:
        """Return a 1xx response before the final one (RFC 9110 §15.2); HTTP/1.0 has none: b"".

        :raises ValueError: for a status that is not an interim one, and for framing fields, which
            such a response never has (RFC 9110 §8.6, RFC 9112 §6.1).
        :raises RuntimeError: when no final response is awaited.
        """
        if not 100 <= status_code <= 199 or status_code == 101:
            raise ValueError(f"{status_code} is not the status of an interim response")
        if "content-length" in headers or "transfer-encoding" in headers:
            raise ValueError("an interim response has no content, and no field that frames it")
        if self._answering is not AWAITED:
            raise RuntimeError("an interim response comes after the request, before the response")
        if self.version < 11:
            return b""
        if status_code == 100:
            self.expects_continue = False
        return _status_line(status_code) + headers.encode() + b"\r\n"

    def start(self, response: Response, date: bytes) -> bytes:
        """Return the head of the final response, with its framing decided (RFC 9112 §6.3).

        :param date: the whole Date line with its CRLF; left out when the response has its own.
        :raises ValueError: for a response that cannot be written down; another may be started.
        :raises RuntimeError: when no response is awaited.
        """
        if self._answering is not AWAITED:
            raise RuntimeError("a response was started that no request awaits")
        lines, wants_close, has_date = response.section()
        if wants_close or self.reading is not DONE:
            self.keep_alive = False
        if has_date:
            date = b""
        status_code = response.status_code
        body = response.body
        if body and status_code == 200 and not self.head_only and not self._tunnel:
            # The second rule of `_frame`, without the call: 0.2 µs.
            self.payload = LENGTH
            self._sends_left = length = len(body)
            if self.keep_alive and self.version == 11:
                self._answering = STARTED
                return _OK + date + lines + b"Content-Length: %d\r\n\r\n" % length
            framing = b"Content-Length: %d\r\n" % length
        else:
            framing = self._frame(response)
        if status_code in _UPGRADES:
            # RFC 9110 §7.8: who sends Upgrade lists it in Connection.
            framing += b"Connection: upgrade%b\r\n\r\n" % (b"" if self.keep_alive else b", close")
        elif not self.keep_alive:
            framing += b"Connection: close\r\n\r\n"
        elif self.version < 11:
            framing += b"Connection: keep-alive\r\n\r\n"
        else:
            framing += b"\r\n"
        status = _STATUS_LINES.get(status_code) or _status_line(status_code)
        self._answering = STARTED
        return status + date + lines + framing

    def _frame(self, response: Response) -> bytes:
        """Decide how the content is delimited; the framing field that says so.

        1. A response to HEAD, or with 101, 204, 205 or 304, has no content, nor has one that opens
           a tunnel (RFC 9110 §6.4.1, §9.3.6). HEAD tells the length that GET would have had, 205
           tells 0, the others none (RFC 9110 §8.6).
        2. Content whose length is known is counted.
        3. Other content is chunked for HTTP/1.1,
        4. and ends with the connection for HTTP/1.0.
        """
        status = response.status_code
        self.payload = NO_PAYLOAD
        if status < 200 and status != 101:
            raise ValueError(f"{status} is not the status of a final response")
        if not self._may_have_content(status):
            return b"Content-Length: 0\r\n" if status == 205 else b""
        length = self._content_length_of(response)
        if self.head_only:
            if length is not None:
                return b"Content-Length: %d\r\n" % length
            return _chunked(response) if self.version >= 11 else b""
        if length is not None:
            self.payload = LENGTH
            self._sends_left = length
            return b"Content-Length: %d\r\n" % length
        if self.version >= 11:
            self.payload = Payload.CHUNKED
            return _chunked(response)
        self.payload = Payload.UNTIL_CLOSE
        self.keep_alive = False
        return b""

    def _may_have_content(self, status_code: int) -> bool:
        return status_code not in _WITHOUT_CONTENT and not (self._tunnel and status_code < 300)

    def wants_content(self, status_code: int) -> bool:
        """Whether a response with this status would have content on the wire."""
        return not self.head_only and self._may_have_content(status_code)

    def _content_length_of(self, response: Response) -> int | None:
        """Return the bytes of a response's content, or of GET's when the request is HEAD."""
        body = response.body
        if body or (body is not None and not self.head_only):
            return len(body)
        length = response.content_length
        if length is None:
            return None if body is None else 0
        if length < 0:
            raise ValueError(f"{length} is not the length of a response's content")
        return length

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
            self.reading = HEAD
        else:
            self._complete = self.reading is DONE and not self._buffer
            self.reading = CLOSED
            self._buffer = b""


def _chunked(response: Response) -> bytes:
    """The fields of chunked content, with those announced that will follow it (RFC 9110 §6.6.2)."""
    trailers = response.trailers
    announced = b"" if trailers is None else b"Trailer: %b\r\n" % trailers.names.encode("ascii")
    return b"Transfer-Encoding: chunked\r\n" + announced


def _status_line(status_code: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status_code, REASONS.get(status_code, "").encode())


def _begins_chunk(line: bytes, start: int) -> bool:
    """Tell whether a line, looked at up to ``start``, may become the size line of a chunk."""
    return not line or (
        line[0] in grammar.HEX_DIGITS and grammar.PARTIAL_LINE.fullmatch(line, start) is not None
    )
