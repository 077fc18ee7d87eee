"""The WebSocket protocol (RFC 6455), both roles, without I/O: bytes to messages and back.

It begins behind the opening handshake. The life of a WebSocket (§4, §7):

==========  ========================================================  =======
state       moves on by                                               to
==========  ========================================================  =======
CONNECTING  ``open``: the opening handshake is done                   OPEN
OPEN        a Close frame, sent or received, whichever comes first    CLOSING
CLOSING     ``lost``: both Close frames have passed, or time is over  CLOSED
any         ``lost``: the transport is gone                           CLOSED
==========  ========================================================  =======

A broken rule is answered with a Close frame (§7.1.7), and so moves on to CLOSING, too. Nothing is
read behind a Close frame or a broken rule, and no message is written behind a Close frame (§5.5.1).

A :class:`WebSocket` has two halves, which two threads may use at the same time: one reads, one
writes. They share no more than facts, each of which one half alone finds out and never takes back:
opened, close sent, close received, lost. The state is what these facts add up to, so it never goes
backwards, and there is no moment at which it is half changed.
"""

from __future__ import annotations

import enum
import os
from codecs import utf_8_decode

from ..websockets import WebSocketOpCode
from .frames import Violation, apply_mask, encode_frame, read_length

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from ..websockets import Outgoing
    from .deflate import Deflate

__all__ = ["State", "WebSocket", "WebSocketOpCode", "may_be_received", "may_be_sent"]

# Close codes of RFC 6455 §7.4.1.
PROTOCOL_ERROR, NO_CODE, ABNORMAL, BAD_DATA, TOO_BIG = 1002, 1005, 1006, 1007, 1009

#: A shorter message is not compressed. It fits into a packet as it is; with compression each side
#: spends about 2 µs more on it, seven times what writing it takes; and a side that sends no longer
#: ones never needs the 37 KiB of a compressor.
COMPRESS_FROM = 256

#: Frames read in one call that end no message: a client may send 10,000 in one packet.
FRAMES_PER_TURN = 256

_VIEWED = 4096  # bytes from which on a view, which saves a copy, costs less than that
_CONTROL_PAYLOAD = 125  # §5.5
_OPCODES = frozenset([0, 1, 2, 8, 9, 10])

# Looking a member up on its class costs more than a global, and these are read for every message.
TEXT, BINARY = WebSocketOpCode.Text, WebSocketOpCode.Binary
CLOSE, PING, PONG = WebSocketOpCode.Close, WebSocketOpCode.Ping, WebSocketOpCode.Pong
_MESSAGES = (TEXT, BINARY)


class State(enum.Enum):
    """Where a WebSocket stands in its life."""

    CONNECTING = enum.auto()
    OPEN = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


#: opened, a Close frame sent or received, transport gone → state
_STATES = {
    (False, False, False): State.CONNECTING,
    (True, False, False): State.OPEN,
    # A Close frame may be written before the handshake's answer went out, to follow it.
    (False, True, False): State.CLOSING,
    (True, True, False): State.CLOSING,
    (False, False, True): State.CLOSED,
    (True, False, True): State.CLOSED,
    (False, True, True): State.CLOSED,
    (True, True, True): State.CLOSED,
}


def may_be_received(code: int) -> bool:
    """Whether a Close frame may have this code (RFC 6455 §7.4, and what IANA registered since)."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def may_be_sent(code: int, *, client: bool) -> bool:
    """Whether we may begin to close with this code: 1010 is for clients only (§7.4.1)."""
    return may_be_received(code) and (client or code != 1010)


class WebSocket:
    """One side of a WebSocket.

    :param client: the role: a client masks what it sends, and a server what it receives is masked.
    :param max_message_size: the most bytes that a message from the peer may have, inflated.
    :param deflate: compression as negotiated, or None.
    """

    __slots__ = (
        "_at",
        "_attentive",
        "_buffer",
        "_client",
        "_ended",
        "_gone",
        "_head_size",
        "_mask_bit",
        "_max_message_size",
        "_message",
        "_opened",
        "close_code",
        "close_reason",
        "close_received",
        "close_sent",
        "deflate",
        "paused",
    )

    def __init__(
        self, *, client: bool = False, max_message_size: int, deflate: Deflate | None = None
    ) -> None:
        self._client = client
        self._max_message_size = max_message_size
        #: compression as negotiated
        self.deflate = deflate
        # what was received; all before _at is used
        self._buffer = b""
        self._at = 0
        # the message of which a part has come
        self._message: _Incoming | None = None
        # of the frames that come: the mask bit, and the size of the shortest head
        self._mask_bit = 0 if client else 0x80
        self._head_size = 2 if client else 6
        self._ended = False
        self._opened = False
        self._gone = False
        # whether messages are reported: open, and no Close frame sent
        self._attentive = False
        #: why it was closed: the code of the peer's Close frame, or of the rule that it broke;
        #: 1005 if the frame had none, 1006 if there was no frame; None while it is not known
        self.close_code: int | None = None
        #: the reason to this code; "" for none
        self.close_reason = ""
        #: whether our Close frame was written
        self.close_sent = False
        #: whether the peer's Close frame was read
        self.close_received = False
        #: whether `next_event` could go on at once, but has done enough for a turn
        self.paused = False

    @property
    def state(self) -> State:
        """Where it stands in its life."""
        return _STATES[self._opened, self.close_sent or self.close_received, self._gone]

    @property
    def unread(self) -> bool:
        """Whether bytes wait, be it for more of their frame."""
        return bool(self._buffer)

    def open(self) -> None:
        """The opening handshake is done. Nothing is read before."""
        self._opened = True
        self._attentive = not self.close_sent

    def lost(self) -> None:
        """The transport is gone, whoever closed it."""
        self._gone = True
        if self.close_code is None:
            self.close_code = ABNORMAL

    # -- the reading half: one thread at a time --------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what the peer sent, after :meth:`next_event` has used up what came before."""
        if self._buffer:
            self._buffer = self._buffer[self._at :] + data
            self._at = 0
        elif not self._ended:
            self._buffer = data

    def next_event(self) -> tuple[WebSocketOpCode, str | bytes] | None:
        """The next message or control frame, or None until more is received.

        Text is str, Binary, Ping and Pong are bytes, and Close, the last of all, has "": its
        content is in ``close_code`` and ``close_reason``. Once our Close frame was written,
        messages are still checked, but no longer returned. Of very many frames only some are read;
        ``paused`` then tells to call again.

        :raises Violation: at the first byte that breaks a rule. It is the last event, too.
        """
        buffer = self._buffer
        if not buffer:
            return None
        # A whole message in a frame that is not large goes straight through: 0.7 µs for 16 bytes
        # instead of 1.6 µs.
        if self._message is None and self._attentive:
            at = self._at
            size = len(buffer)
            start = at + self._head_size
            first = buffer[at]
            if (first == 0x81 or first == 0x82) and start <= size:
                length = buffer[at + 1] - self._mask_bit
                plain = 0 <= length < 126
                if length == 126 and start + 2 <= size:
                    start += 2
                    length = buffer[at + 2] << 8 | buffer[at + 3]
                    plain = length >= 126
                end = start + length
                if plain and end <= size and length <= self._max_message_size:
                    payload: bytes | bytearray = buffer[start:end]
                    if self._mask_bit:
                        payload = apply_mask(payload, buffer[start - 4 : start])
                    content: str | bytes
                    if first == 0x82:
                        content = bytes(payload)
                    else:
                        try:
                            content = payload.decode()
                        except UnicodeDecodeError:
                            return self._read_on()  # which finds it again
                    if end == size:
                        self._buffer = b""
                        end = 0
                    self._at = end
                    return (TEXT if first == 0x81 else BINARY), content
        return self._read_on()

    def _read_on(self) -> tuple[WebSocketOpCode, str | bytes] | None:
        """The general way of :meth:`next_event`."""
        if not self._opened:
            return None
        try:
            event = None
            self.paused = False
            for _ in range(FRAMES_PER_TURN):
                if self._at == len(self._buffer):
                    break
                message = self._message
                if message is None or not message.left:
                    head = self._read_head()
                    if head is None:
                        break
                    first, start, length = head
                    if first & 0x08:
                        event = self._read_control(first, start, length)
                        break
                    message = self._begin_frame(first, start, length)
                event = self._read_payload(message)
                if self._message is None:
                    # Also if it is not reported: it may have been inflated, which takes its time.
                    self.paused = event is None and self._at < len(self._buffer)
                    break
            else:
                self.paused = self._at < len(self._buffer)
        except Violation as violation:
            self._end(violation.code, violation.reason)
            raise
        if event is None and not self.paused:
            # Only a head or a control frame is kept: no more than 139 bytes.
            self._buffer = self._buffer[self._at :]
            self._at = 0
        return event

    def _use(self, end: int) -> None:
        """All before this place of the buffer is used."""
        if end == len(self._buffer):
            self._buffer = b""
            end = 0
        self._at = end

    def _end(self, code: int, reason: str) -> None:
        """Nothing is read any more."""
        self.close_code, self.close_reason = code, reason
        self._ended = True
        self._attentive = False
        self._message = None
        self._buffer = b""
        self._at = 0

    def _read_head(self) -> tuple[int, int, int] | None:
        """Look at the head of a frame, as far as it has come (RFC 6455 §5.2).

        :returns: its first byte, the place of its payload and how long that is; None if more bytes
            are needed.
        :raises Violation: at the first byte that breaks a rule.
        """
        buffer, at = self._buffer, self._at
        first = buffer[at]
        self._check_first(first)
        head = buffer[at + 1 : at + 10]
        if not head:
            return None
        if head[0] & 0x80 != self._mask_bit:  # §5.1
            raise Violation(PROTOCOL_ERROR, "a client must mask, and only a client")
        start = at + self._head_size
        length = head[0] & 0x7F
        known = True
        if first & 0x08:
            if length > _CONTROL_PAYLOAD:
                raise Violation(PROTOCOL_ERROR, "the payload of a control frame is too long")
            if first == 0x88 and length == 1:  # §5.5.1
                raise Violation(PROTOCOL_ERROR, "a Close frame has half a code")
        else:
            if length > 125:
                start += 2 if length == 126 else 8
                length, known = read_length(head)
            if not first & 0x40:
                self._check_size(length)
        return (first, start, length) if known and start <= len(buffer) else None

    def _check_first(self, first: int) -> None:
        opcode = first & 0x0F
        begins = opcode in _MESSAGES
        # §5.2: a reserved bit has a meaning only by an extension, and RSV1 only at the beginning
        # of a message (RFC 7692 §6).
        if first & 0x30 or (first & 0x40 and (self.deflate is None or not begins)):
            raise Violation(PROTOCOL_ERROR, "a reserved bit is set")
        if opcode not in _OPCODES:
            raise Violation(PROTOCOL_ERROR, f"the opcode {opcode} is reserved")
        if opcode & 0x08:
            if not first & 0x80:  # §5.5
                raise Violation(PROTOCOL_ERROR, "a control frame is fragmented")
        elif begins and self._message is not None:  # §5.4
            raise Violation(PROTOCOL_ERROR, "a message begins inside another")
        elif not begins and self._message is None:
            raise Violation(PROTOCOL_ERROR, "a frame continues no message")

    def _check_size(self, length: int) -> None:
        """The size of a message that is not compressed is known before it has come."""
        message = self._message
        if message is not None:
            if message.compressed:
                return
            length += len(message.content)
        if length > self._max_message_size:
            raise Violation(TOO_BIG, f"the message has more than {self._max_message_size} bytes")

    def _read_control(
        self, first: int, start: int, length: int
    ) -> tuple[WebSocketOpCode, str | bytes] | None:
        """Read a control frame (§5.5); None if it is not here in whole."""
        end = start + length
        if end > len(self._buffer):
            return None
        payload = self._buffer[start:end]
        if self._mask_bit:
            payload = bytes(apply_mask(payload, self._buffer[start - 4 : start]))
        self._use(end)
        if first == 0x88:
            self._read_close(payload)
            return CLOSE, ""
        return (PING if first == 0x89 else PONG), payload

    def _read_close(self, payload: bytes) -> None:
        # §5.5.1, §7.1.5, §7.1.6
        code, reason = NO_CODE, ""
        if payload:
            code = int.from_bytes(payload[:2], "big")
            if not may_be_received(code):
                raise Violation(PROTOCOL_ERROR, f"the close code {code} may not be used")
            reason = _decode(payload[2:])
        self._end(code, reason)
        self.close_received = True

    def _begin_frame(self, first: int, start: int, length: int) -> _Incoming:
        """Be ready for the payload of a frame of a message."""
        message = self._message
        if message is None:
            opcode = BINARY if first & BINARY else TEXT
            self._message = message = _Incoming(opcode, compressed=bool(first & 0x40))
        message.final = bool(first & 0x80)
        message.left = length
        if self._mask_bit:
            message.key = self._buffer[start - 4 : start]
        self._use(start)
        return message

    def _read_payload(self, message: _Incoming) -> tuple[WebSocketOpCode, str | bytes] | None:
        """Use as much of the payload as has come; returns the message if that was its end."""
        at, key = self._at, message.key
        size = min(message.left, len(self._buffer) - at)
        piece: bytes | bytearray
        if not key or size < _VIEWED:
            piece = self._buffer[at : at + size]
            if key and size:
                piece = apply_mask(piece, key)
        else:
            piece = apply_mask(memoryview(self._buffer)[at : at + size], key)
        self._use(at + size)
        message.left -= size
        if message.left and key:
            turn = size & 3
            message.key = key[turn:] + key[:turn]
        ended = message.final and not message.left
        if message.compressed:
            piece = self._inflate(piece, message, ended=ended)
        if not ended:
            message.add(piece)
            return None
        self._message = None
        content = message.finish(piece)
        return (message.opcode, content) if self._attentive else None

    def _inflate(self, piece: bytes | bytearray, message: _Incoming, *, ended: bool) -> bytes:
        deflate = self.deflate
        assert deflate is not None
        room = self._max_message_size - len(message.content)
        inflated = deflate.decompress(piece, room) if piece else b""
        if ended:
            inflated += deflate.end_message(room - len(inflated))
        return inflated

    # -- the writing half: one thread at a time --------------------------------------------

    def encode(self, opcode: int, payload: bytes) -> bytes:
        """One message, Ping or Pong as it goes over the wire.

        :param payload: of Text in UTF-8, of a control frame at most 125 bytes.
        :raises RuntimeError: when a Close frame was sent, or the transport is gone.
        :raises ValueError: for another opcode, or too long a payload of a control frame.
        """
        if self.close_sent or self._gone:
            raise RuntimeError("a message was written to a WebSocket that is closed")
        if opcode in _MESSAGES:
            deflate = self.deflate
            if deflate is not None and len(payload) >= COMPRESS_FROM:
                return self._frame(opcode, deflate.compress(payload), compressed=True)
        elif opcode not in (PING, PONG):
            raise ValueError(f"{opcode!r} is neither a message nor a Ping or Pong")
        elif len(payload) > _CONTROL_PAYLOAD:
            raise ValueError(f"a Ping or Pong has at most {_CONTROL_PAYLOAD} bytes")
        return self._frame(opcode, payload)

    def pong(self, payload: bytes) -> bytes:
        """The answer to a Ping (§5.5.2, §5.5.3), also while our Close frame is not answered yet.

        :returns: the Pong frame; b"" when closing is complete, or the transport is gone.
        """
        if self._gone or (self.close_sent and self.close_received):
            return b""
        return self._frame(PONG, payload)

    def encode_shared(self, message: Outgoing) -> bytes:
        """One message that goes to many, as it goes over the wire; they share what they can.

        :raises RuntimeError: as :meth:`encode`.
        """
        if self._client:
            # No two frames of a client may be masked alike (§5.3).
            return self.encode(message.opcode, message.payload)
        if self.close_sent or self._gone:
            raise RuntimeError("a message was written to a WebSocket that is closed")
        deflate = self.deflate
        if deflate is not None and len(message.payload) < COMPRESS_FROM:
            deflate = None
        setting = None if deflate is None else deflate.setting
        frame = message.encoded.get(setting)
        if frame is None:
            payload = message.payload
            if deflate is not None:
                payload = deflate.compress_alone(payload)
            frame = self._frame(message.opcode, payload, compressed=deflate is not None)
            message.encoded[setting] = frame
        if deflate is not None:
            # The peer has seen what our compressor has not.
            deflate.forget()
        return frame

    def _frame(self, opcode: int, payload: bytes, *, compressed: bool = False) -> bytes:
        # §5.3: a client's mask is new for each frame, and nobody can foresee it.
        mask = os.urandom(4) if self._client else b""
        return encode_frame(opcode, payload, mask=mask, compressed=compressed)

    def close(self, code: int | None = 1000, reason: str = "") -> bytes:
        """Begin to close (RFC 6455 §7.1.2).

        :param code: why; None for a frame that does not say.
        :param reason: for people, at most 123 bytes in UTF-8.
        :returns: the Close frame; b"" if one was sent before, or the transport is gone.
        :raises ValueError: for a code that we may not send, or a reason without code or too long.
        """
        if code is None:
            if reason:
                raise ValueError("a reason to close needs a code")
            return self._send_close(b"")
        if not may_be_sent(code, client=self._client):
            raise ValueError(f"{code} is not a code to close a WebSocket with; 1000 or 4000 are")
        payload = code.to_bytes(2, "big") + reason.encode()
        if len(payload) > _CONTROL_PAYLOAD:
            raise ValueError(f"a reason to close has at most {_CONTROL_PAYLOAD - 2} bytes in UTF-8")
        return self._send_close(payload)

    def answer_close(self) -> bytes:
        """Answer the peer's Close frame, with its code (§5.5.1).

        :returns: the Close frame; b"" if one was sent before, or none was received.
        """
        if not self.close_received:
            return b""
        code = self.close_code
        return self._send_close(b"" if code in (None, NO_CODE) else code.to_bytes(2, "big"))

    def fail(self, violation: Violation) -> bytes:
        """Tell the peer which rule it broke (§7.1.7); the transport is to be closed behind it.

        :returns: the Close frame; b"" if one was sent before.
        """
        return self._send_close(violation.code.to_bytes(2, "big") + violation.reason.encode())

    def _send_close(self, payload: bytes) -> bytes:
        if self.close_sent or self._gone:
            return b""
        self.close_sent = True
        self._attentive = False
        return self._frame(CLOSE, payload)


class _Incoming:
    """A message of which a part has come.

    It is kept in one piece, in however many it comes, so that it takes no more memory than it has
    bytes (and an eighth, by which the piece grows ahead).
    """

    __slots__ = ("_tail", "compressed", "content", "final", "key", "left", "opcode")

    def __init__(self, opcode: WebSocketOpCode, *, compressed: bool) -> None:
        self.opcode = opcode
        self.compressed = compressed
        #: unmasked, inflated and checked
        self.content = bytearray()
        # the bytes at the end that are not a whole character yet
        self._tail = b""
        #: whether the frame under way is the message's last
        self.final = False
        #: bytes of its payload that have not come
        self.left = 0
        #: the mask of the next of these; b"" if there is none
        self.key = b""

    def add(self, piece: bytes | bytearray) -> None:
        """Take what is not the end; a bytearray is taken over.

        :raises Violation: at the first byte that no UTF-8 text can have there (RFC 6455 §8.1).
        """
        if not self.content and isinstance(piece, bytearray):
            self.content = piece
        else:
            self.content += piece
        if self.opcode is BINARY or (not self._tail and piece.isascii()):
            return
        if self._tail:
            piece = self._tail + piece
        try:
            used = utf_8_decode(piece, "strict", False)[1]
        except UnicodeDecodeError:
            raise Violation(BAD_DATA, _NOT_UTF_8) from None
        self._tail = tail = bytes(piece[used:])
        # The decoder waits for the third byte of a surrogate before it refuses it.
        if tail[:1] == b"\xed" and tail[1:] > b"\x9f":
            raise Violation(BAD_DATA, _NOT_UTF_8)

    def finish(self, piece: bytes | bytearray) -> str | bytes:
        """Take the end; returns the whole."""
        whole = piece
        if self.content:
            self.content += piece
            whole = self.content
        return _decode(whole) if self.opcode is TEXT else bytes(whole)


_NOT_UTF_8 = "a text is not UTF-8"


def _decode(data: bytes | bytearray) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Violation(BAD_DATA, _NOT_UTF_8) from None
