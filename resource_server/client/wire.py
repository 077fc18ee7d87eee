"""HTTP/1.1 on a connection, client role: a request goes out, an answer comes in.

Written for what servers get wrong or do wrong: every length is checked, every part bounded, and
what is not an answer by RFC 9112 is refused, for a connection that is read differently by two sides
gives one request the answer to another.
"""

from __future__ import annotations

import re

from ..headers import Headers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .connection import Connection

# Bytes of a status line and its fields: nginx and Apache limit what they pass on to less.
MAX_HEAD = 65536
# Interim answers (1xx) before the answer. Nobody sends more than one or two.
MAX_INTERIM = 16
# Bytes of a chunk's size line with its extensions, and of all trailer fields.
MAX_CHUNK_LINE = 4096
MAX_TRAILERS = 16384
# Bytes of chunk framing beyond what chunks of some size need: 16 per byte of content, and this.
CHUNK_OVERHEAD = 65536

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# RFC 9112 §4 status-line. The reason may be absent, and many leave out its space too.
_status_line = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?"
).fullmatch
# RFC 9112 §5: each line after a CRLF; nothing between a name and its colon.
_are_fields = re.compile(rb"(?:\r\n" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+)*+").fullmatch
# RFC 9112 §5.2; what stands before it stays, as looking for its beginning is quadratic work.
_folds = re.compile(rb"\r\n[ \t]++")
_framing = re.compile(
    rb"\r\n(?:content-length|transfer-encoding|connection):", re.IGNORECASE
).search
_chunk_size = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*+(?:;[\t\x20-\x7e\x80-\xff]*)?").fullmatch
_is_length = re.compile(r"[0-9]{1,18}").fullmatch


class Malformed(Exception):  # noqa: N818 - it is what came
    """What came is not an answer."""


class Lost(Exception):  # noqa: N818 - it is what happened
    """The connection ended; `begun` tells whether anything of the answer had come."""

    def __init__(self, message: str, *, begun: bool) -> None:
        super().__init__(message)
        self.begun = begun


class Answer:
    """An answer as it comes: its head has been read, its content is read piece by piece.

    `status` is an int, `block` the fields as `Headers.parse` takes them.
    """

    __slots__ = ("_connection", "_follows", "_headers", "_left", "_overhead", "_read", "block",
                 "done", "keep", "length", "reason", "status")  # fmt: skip

    def __init__(self, connection: Connection, method: str) -> None:
        self._connection = connection
        self._headers: Headers | None = None
        self._overhead = CHUNK_OVERHEAD
        # Bytes of a chunk that are still to come, and whether a line end follows them.
        self._left = 0
        self._follows = False
        #: bytes of the content as it comes, None when that is not known
        self.length: int | None = None
        #: whether all of the content has been read
        self.done = False
        for _ in range(MAX_INTERIM + 1):
            version = self._read_head()
            if self.status >= 200:
                break
            # RFC 9110 §15.2: an interim answer, and the answer follows. A 101 was never asked for.
            if self.status == 101:
                raise Malformed("the server switched to a protocol that was not asked for")
        else:
            raise Malformed(f"more than {MAX_INTERIM} interim answers")
        self.keep = version == b"1"
        self._read = self._frame(method, version)

    @property
    def headers(self) -> Headers:
        """The header fields."""
        if self._headers is None:
            self._headers = Headers.parse(self.block)
        return self._headers

    def read(self) -> bytes:
        """Return the next piece of the content, b"" at its end; raises Malformed and Lost."""
        return b"" if self.done else self._read()

    # The head.

    def _read_head(self) -> bytes:
        """Read a status line and fields; return the minor version."""
        connection = self._connection
        data = connection.buffer
        # RFC 9112 §2.2: an empty line before the start line is no harm; it has no place here, but
        # servers send one after a body whose length they have got wrong by it.
        end = data.find(b"\r\n\r\n")
        while end < 0:
            if len(data) > MAX_HEAD:
                raise Malformed(f"the head is longer than {MAX_HEAD} bytes")
            if data and not b"HTTP/1.".startswith(data[:7]):
                raise Malformed(f"no answer of HTTP/1.1: {data[:40]!r}")
            more = connection.receive()
            if not more:
                where = "in the answer's head" if data else "without an answer"
                raise Lost(f"the server closed the connection {where}", begun=bool(data))
            seen = max(0, len(data) - 3)
            data = data + more if data else more
            end = data.find(b"\r\n\r\n", seen)
        if end > MAX_HEAD:
            raise Malformed(f"the head is longer than {MAX_HEAD} bytes")
        connection.buffer = data[end + 4 :]
        first = data.find(b"\r\n")
        line = data[:first]
        match = _status_line(line)
        if match is None:
            raise Malformed(f"no status line of HTTP/1.1: {line[:80]!r}")
        block = data[first:end]
        if not _are_fields(block):
            # RFC 9112 §5.2: a line that goes on in the next is one.
            block = _folds.sub(b" ", block)
            if not _are_fields(block):
                raise Malformed("malformed header fields")
        self.status = int(match[2])
        self.reason = (match[3] or b"").decode("latin-1")
        self.block = block
        return match[1]

    def _frame(self, method: str, version: bytes) -> Callable[[], bytes]:
        """Return what reads the content, by the rules of RFC 9112 §6.3 in their order."""
        encoding = length = connection = None
        if _framing(self.block):
            headers = self.headers
            encoding = headers.get("transfer-encoding")
            length = headers.get("content-length")
            connection = headers.get("connection")
        if connection is not None:
            options = {option.strip() for option in connection.lower().split(",")}
            # Persistence of HTTP/1.0 (RFC 9112 §9.3, C.2.2).
            self.keep = "close" not in options and (self.keep or "keep-alive" in options)
        if method == "HEAD" or self.status in (204, 304):
            return self._nothing()
        if encoding is not None:
            if length is not None or version == b"0":
                raise Malformed("both Transfer-Encoding and another framing")
            if encoding.strip().lower() != "chunked":
                raise Malformed(f"unknown Transfer-Encoding {encoding[:40]!r}")
            return self._read_chunks
        if length is not None:
            values = {value.strip() for value in length.split(",")}
            value = values.pop()
            if values or not _is_length(value):
                raise Malformed(f"malformed Content-Length {length[:40]!r}")
            self.length = self._left = int(value)
            return self._read_counted if self._left else self._nothing()
        self.keep = False
        return self._read_rest

    def _nothing(self) -> Callable[[], bytes]:
        self.length = 0
        self._finish()
        return bytes

    def _finish(self) -> None:
        self.done = True
        if self._connection.buffer:
            # More than the answer: whatever it is, the next request must not get it.
            self.keep = False

    # The content.

    def _read_counted(self) -> bytes:
        connection = self._connection
        data = connection.buffer or connection.receive()
        if not data:
            raise Lost(f"the answer ended {self._left} bytes before its Content-Length", begun=True)
        if len(data) > self._left:
            connection.buffer = data[self._left :]
            data = data[: self._left]
        else:
            connection.buffer = b""
        self._left -= len(data)
        if not self._left:
            self._finish()
        return data

    def _read_rest(self) -> bytes:
        connection = self._connection
        data, connection.buffer = connection.buffer, b""
        if not data:
            data = connection.receive()
        if not data:
            if connection.ragged:
                # RFC 9112 §9.8: whoever is in between could have ended it.
                raise Lost("the answer ended, but not its TLS: a part may be missing", begun=True)
            self._finish()
        return data

    def _read_chunks(self) -> bytes:
        """Return the content of the chunks that have come, at least a part of one (§7.1)."""
        connection = self._connection
        pieces: list[bytes] = []
        # Small chunks are many: what is behind one is not moved for each.
        data, at = connection.buffer, 0
        while True:
            if self._left:
                piece = data[at : at + self._left]
                at += len(piece)
                self._left -= len(piece)
                if piece:
                    pieces.append(piece)
            end = -1 if self._left else data.find(b"\r\n", at)
            if end < 0:
                if pieces:
                    break
                if not self._left and len(data) - at > (1 if self._follows else MAX_CHUNK_LINE):
                    raise Malformed("a line of the chunks does not end where it must")
                data, at = data[at:] + self._received(), 0
                continue
            line, at = data[at:end], end + 2
            if not self._begin_chunk(line):
                connection.buffer = data[at:]
                self._read_trailers()
                self._finish()
                return b"".join(pieces)
        connection.buffer = data[at:]
        return b"".join(pieces)

    def _begin_chunk(self, line: bytes) -> bool:
        """Take the line between two chunks, or of a chunk's size; False for that of the last."""
        if self._follows:
            if line:
                raise Malformed("a chunk longer than its size")
            self._follows = False
            return True
        if len(line) > MAX_CHUNK_LINE:
            raise Malformed("a line of the chunks is too long")
        match = _chunk_size(line)
        if match is None:
            raise Malformed(f"malformed chunk size {line[:40]!r}")
        self._left = size = int(match[1], 16)
        self._overhead += 16 * min(size, CHUNK_OVERHEAD) - len(line)
        if self._overhead < 0:
            raise Malformed("chunks of next to nothing")
        self._overhead = min(self._overhead, CHUNK_OVERHEAD)
        self._follows = True
        return size > 0

    def _read_trailers(self) -> None:
        room = MAX_TRAILERS
        while line := self._line(room):
            room -= len(line) + 2
            if room < 0 or not _are_fields(b"\r\n" + line):
                raise Malformed("malformed trailer fields")

    def _line(self, most: int) -> bytes:
        """Return a line of the trailers without its CRLF."""
        connection = self._connection
        data = connection.buffer
        end = data.find(b"\r\n")
        while end < 0:
            if len(data) > most:
                raise Malformed("malformed trailer fields")
            data += self._received()
            end = data.find(b"\r\n")
        connection.buffer = data[end + 2 :]
        return data[:end]

    def _received(self) -> bytes:
        data = self._connection.receive()
        if not data:
            raise Lost("the answer ended in the middle of its chunks", begun=True)
        return data
