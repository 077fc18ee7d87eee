"""A WebSocket client that is nothing but a socket: a test decides on each bit of each frame.

It is written from RFC 6455 and RFC 7692 alone and shares no code with the package, so that both
cannot make the same mistake. What it reads it judges by the rules for servers: no frame is masked,
no length is longer than it has to be, and no bit is set that was not agreed on.
"""

from __future__ import annotations

import base64
import hashlib
import socket
import time
import zlib
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.rawclient import PATIENCE, Answer, Client

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

#: RSV1, which tells a compressed message (RFC 7692 §6).
COMPRESSED = 4

#: The key of the examples in RFC 6455 §5.7; no two bytes of it are the same.
MASK = b"\x37\xfa\x21\x3d"

#: The opening's key in the example of RFC 6455 §1.3.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Frame(NamedTuple):
    """A frame as received."""

    opcode: int
    payload: bytes = b""
    final: bool = True
    rsv: int = 0


def masked(payload: bytes, key: bytes) -> bytes:
    """RFC 6455 §5.3."""
    size = len(payload)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    rsv: int = 0,
    mask: bytes | None = MASK,
    declared: int | None = None,
    form: int | None = None,
) -> bytes:
    """A frame as a client sends it, legal or not (RFC 6455 §5.2).

    ``mask`` None leaves it unmasked; ``declared`` is a length to tell in place of the true one;
    ``form`` is how many bits the length takes (7, 16 or 64) in place of how many it should.
    """
    size = len(payload) if declared is None else declared
    if form is None:
        form = 7 if size < 126 else 16 if size < 65536 else 64
    head = bytes([final << 7 | rsv << 4 | opcode])
    bit = 0 if mask is None else 0x80
    if form == 7:
        head += bytes([bit | size])
    elif form == 16:
        head += bytes([bit | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([bit | 127]) + size.to_bytes(8, "big")
    return head + payload if mask is None else head + mask + masked(payload, mask)


def close_frame(code: int | None = 1000, reason: str | bytes = b"") -> bytes:
    return frame(CLOSE, close_payload(code, reason))


def close_payload(code: int | None = 1000, reason: str | bytes = b"") -> bytes:
    told = b"" if code is None else code.to_bytes(2, "big")
    return told + (reason.encode() if isinstance(reason, str) else reason)


def fragments(opcode: int, pieces: list[bytes], *, rsv: int = 0) -> list[bytes]:
    """The frames of one message in pieces (RFC 6455 §5.4)."""
    last = len(pieces) - 1
    return [
        frame(
            CONTINUATION if number else opcode,
            piece,
            final=number == last,
            rsv=0 if number else rsv,
        )
        for number, piece in enumerate(pieces)
    ]


def split(payload: bytes, size: int) -> list[bytes]:
    """The payload in pieces of that size; all in one for 0."""
    if not size:
        return [payload]
    return [payload[start : start + size] for start in range(0, len(payload), size)] or [b""]


def accept_of(key: str) -> str:
    """RFC 6455 §4.2.2, 5.4."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()


def opening(path: str = "/", *fields: str, host: str = "test", key: str = KEY) -> bytes:
    """The request that opens a WebSocket (RFC 6455 §4.1)."""
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {key}",
        "Sec-WebSocket-Version: 13",
        *fields,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def eventually(condition: Callable[[], object]) -> None:
    """Wait for what the server does in its own time, after what the test can see of it."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Deflate:
    """permessage-deflate (RFC 7692) in the client's role, as a server's response tells it."""

    def __init__(self, response: str) -> None:
        name, *parameters = [part.strip() for part in response.split(";")]
        assert name == "permessage-deflate"
        agreed: dict[str, str | None] = {}
        for parameter in parameters:
            key, equals, value = parameter.partition("=")
            assert key not in agreed, f"{key} comes twice"
            agreed[key] = value if equals else None
        self.agreed = dict(agreed)
        self.server_forgets = agreed.pop("server_no_context_takeover", "") is None
        self.client_forgets = agreed.pop("client_no_context_takeover", "") is None
        self.server_bits = int(agreed.pop("server_max_window_bits", None) or 15)
        self.client_bits = int(agreed.pop("client_max_window_bits", None) or 15)
        assert agreed == {}
        assert 8 <= self.server_bits <= 15
        assert 8 <= self.client_bits <= 15
        self._compressor = self._new_compressor()
        self._decompressor = zlib.decompressobj(-self.server_bits)

    def _new_compressor(self, level: int = -1) -> zlib._Compress:
        # zlib makes no windows of 8 bits for raw deflate, but without matches none is needed.
        if self.client_bits == 8:
            return zlib.compressobj(level, zlib.DEFLATED, -9, strategy=zlib.Z_HUFFMAN_ONLY)
        return zlib.compressobj(level, zlib.DEFLATED, -self.client_bits)

    def compress(self, payload: bytes) -> bytes:
        """RFC 7692 §7.2.1."""
        compressor = self._compressor
        data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
        if self.client_forgets:
            self._compressor = self._new_compressor()
        assert data.endswith(b"\x00\x00\xff\xff")
        return data[:-4]

    def decompress(self, data: bytes) -> bytes:
        """RFC 7692 §7.2.2."""
        payload = self._decompressor.decompress(data + b"\x00\x00\xff\xff")
        assert self._decompressor.unconsumed_tail == b""
        assert self._decompressor.unused_data == b""
        if self.server_forgets:
            self._decompressor = zlib.decompressobj(-self.server_bits)
        return payload

    def decompress_strictly(self, data: bytes) -> bytes:
        """The same, refusing what refers back farther than the window.

        zlib looks into what it gives out in the same call, too, so it may give but a byte.
        """
        data += b"\x00\x00\xff\xff"
        payload = bytearray()
        while piece := self._decompressor.decompress(data, 1):
            payload += piece
            data = self._decompressor.unconsumed_tail
        if self.server_forgets:
            self._decompressor = zlib.decompressobj(-self.server_bits)
        return bytes(payload)


class WSClient(Client):
    """A connection on which a WebSocket is open; with None for the path it has yet to be opened."""

    #: Whether `read_frame` tells of the pings by which a server finds out who is still there. They
    #: come whenever there was nothing to be heard for 10 seconds or more, as on a busy machine.
    tells_keep_alive = False

    def __init__(
        self,
        address: tuple[str, int],
        path: str | None = "/",
        *fields: str,
        receive_buffer: int | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(address, receive_buffer=receive_buffer, tls=tls)
        if not address[0].startswith("/"):
            # Each byte that is sent alone goes alone.
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.deflate: Deflate | None = None
        self.answer = Answer(0, {})
        try:
            if path is not None:
                self.open(path, *fields)
        except BaseException:
            self.sock.close()
            raise

    def open(self, path: str, *fields: str) -> None:
        """Send the opening and read the answer, which has to be the right one."""
        self.send(opening(path, *fields))
        self.opened()

    def opened(self) -> None:
        """Read the answer to an opening."""
        answer = self.answer = self.read()
        assert answer.status == 101, (answer.status, answer.body)
        assert answer.fields["upgrade"].lower() == "websocket"
        assert answer.fields["connection"].lower() == "upgrade"
        assert answer.fields["sec-websocket-accept"] == accept_of(KEY)
        # RFC 9110 §8.6, RFC 9112 §6.1.
        assert "content-length" not in answer.fields
        assert "transfer-encoding" not in answer.fields
        if extension := answer.fields.get("sec-websocket-extensions"):
            self.deflate = Deflate(extension)

    def __enter__(self) -> Self:
        return self

    # -- sending ---------------------------------------------------------------------------

    def send_text(self, text: str) -> None:
        self.send(frame(TEXT, text.encode()))

    def send_binary(self, payload: bytes) -> None:
        self.send(frame(BINARY, payload))

    def send_close(self, code: int | None = 1000, reason: str | bytes = b"") -> None:
        self.send(close_frame(code, reason))

    def send_compressed(self, opcode: int, payload: bytes, size: int = 0) -> None:
        """Send a compressed message, in fragments of ``size`` bytes."""
        assert self.deflate is not None
        pieces = split(self.deflate.compress(payload), size)
        self.send(b"".join(fragments(opcode, pieces, rsv=COMPRESSED)))

    # -- reading ---------------------------------------------------------------------------

    def read_frame(self) -> Frame:
        """The next frame, which has to be one that a server may send (RFC 6455 §5.1, §5.2)."""
        received = self._read_frame()
        while received == Frame(PING) and not self.tells_keep_alive:
            received = self._read_frame()
        return received

    def _read_frame(self) -> Frame:
        first, second = self._exactly(2)
        opcode, rsv, final = first & 0x0F, first >> 4 & 7, first >= 0x80
        assert second < 0x80, "a server masks nothing"
        size = second
        if size == 126:
            size = int.from_bytes(self._exactly(2), "big")
            assert size > 125, "the length is longer than it has to be"
        elif size == 127:
            size = int.from_bytes(self._exactly(8), "big")
            assert 65535 < size < 2**63, "the length is longer than it has to be"
        assert opcode in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG)
        if opcode >= CLOSE:
            assert final
            assert size <= 125
            assert rsv == 0
        assert rsv == 0 or (rsv == COMPRESSED and self.deflate is not None and opcode), rsv
        return Frame(opcode, self._exactly(size), final, rsv)

    def read_message(self, *, strictly: bool = False) -> tuple[int, bytes]:
        """The next message, whose frames nothing comes between: the opcode and the payload."""
        first = self.read_frame()
        assert first.opcode in (TEXT, BINARY), first
        data, final = first.payload, first.final
        while not final:
            following = self.read_frame()
            assert following.opcode == CONTINUATION, following
            data, final = data + following.payload, following.final
        if first.rsv:
            assert self.deflate is not None
            inflate = self.deflate.decompress_strictly if strictly else self.deflate.decompress
            data = inflate(data)
        return first.opcode, data

    def read_text(self) -> str:
        opcode, payload = self.read_message()
        assert opcode == TEXT
        return payload.decode()

    def read_binary(self) -> bytes:
        opcode, payload = self.read_message()
        assert opcode == BINARY
        return payload

    def read_close(self) -> tuple[int | None, str]:
        """Read a Close frame: its code, if it has one, and its reason (RFC 6455 §5.5.1)."""
        received = self.read_frame()
        assert received.opcode == CLOSE, received
        payload = received.payload
        assert len(payload) != 1
        if not payload:
            return None, ""
        code = int.from_bytes(payload[:2], "big")
        assert 1000 <= code < 5000
        assert code not in (1004, 1005, 1006, 1015), "never on the wire"
        return code, payload[2:].decode()

    # -- conversations ---------------------------------------------------------------------

    def echo(self, text: str) -> str:
        self.send_text(text)
        return self.read_text()

    def echo_among_others(self, text: str) -> None:
        """Send a text and wait for it to come back, whatever else comes before."""
        self.send_text(text)
        while self.read_text() != text:
            pass

    def ping(self, payload: bytes = b"?") -> None:
        """Have a Ping answered: then all that was sent before has been read."""
        self.send(frame(PING, payload))
        assert self.read_frame() == Frame(PONG, payload)

    def is_ended(self) -> bool:
        """Wait for the server to end the connection in order: nothing more comes, and no reset."""
        return self.some() == b""

    def leave(self, code: int | None = 1000, reason: str = "") -> tuple[int | None, str]:
        """Close in an orderly way: what the server answers; it ends the connection then."""
        self.send_close(code, reason)
        answer = self.read_close()
        assert self.is_ended()
        return answer

    def vanish(self) -> None:
        """Leave without a word."""
        self.sock.close()

    def is_left(self) -> tuple[int | None, str]:
        """Wait for the server to close, answer, and see it end the connection."""
        code, reason = self.read_close()
        self.send_close(code)
        assert self.is_ended()
        return code, reason
