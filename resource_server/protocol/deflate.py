"""permessage-deflate (RFC 7692): how it is agreed on, and the two streams of a connection.

Each direction is one DEFLATE stream (RFC 1951), whose window goes on from message to message
unless that was agreed away. The two directions share nothing: one thread may compress while
another decompresses. Both streams are made when they are first needed, as most connections that
agree on compression send little, or nothing one way.
"""

from __future__ import annotations

import zlib

from ..errors import HandshakeError
from .frames import Violation

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Sequence

    # The parameters of an extension, in order; a parameter without "=" has no value.
    ExtensionParameters = Sequence[tuple[str, str | None]]

NAME = "permessage-deflate"

# Bits of the largest window for which this side keeps memory where the other one agrees: a run of
# messages of 1 KiB becomes 1 to 2 % larger than with 15.
WINDOW_BITS = 12
# zlib's measure of a compressor's other memory, 1 to 9. With these 12 bits and 5 one takes 37 KiB
# (122 KiB with zlib's own 15 and 8), and a message on its own a third less time, as less memory is
# cleared for it.
MEMORY_LEVEL = 5
# zlib's 1 to 9: its own 6 takes a third (for 1 KiB) to two thirds (64 KiB) more time than 3, and
# saves 4 to 6 % of the bytes.
LEVEL = 3
# zlib has no raw stream of 8 bits. A compressor with 9 looks back 512 - 262 = 250 bytes at most
# (its w_size - MIN_LOOKAHEAD), so that 8 are enough to read it; a reader with 9 reads 8, too.
LEAST_ZLIB_BITS = 9
# Bytes that are read behind a final block before it is known whether another one follows: zlib
# copies what it has not read, which for a message of nothing but final blocks would be quadratic.
FIRST_STEP = 64

# What the sender leaves out at the end of each message (RFC 7692 §7.2.1, §7.2.2).
TAIL = b"\x00\x00\xff\xff"
# An empty message (RFC 7692 §7.2.3.6).
EMPTY = b"\x00"
# An empty block without compression that is the stream's last: a stream that stands between two
# blocks ends with it.
_LAST_BLOCK = b"\x01\x00\x00\xff\xff"

_FLAGS = ("server_no_context_takeover", "client_no_context_takeover")
_WINDOWS = ("server_max_window_bits", "client_max_window_bits")
# RFC 7692 §7.1.2: a decimal integer from 8 to 15 without leading zeros.
_BITS = {str(bits): bits for bits in range(8, 16)}

#: What this side offers as a client: as browsers do, nothing that a server might not know.
OFFERED: ExtensionParameters = (("client_max_window_bits", None),)
#: The same as the field Sec-WebSocket-Extensions has it.
OFFER = f"{NAME}; client_max_window_bits"


class Parameters:
    """What two sides have agreed on (RFC 7692 §7.1); its str is the text of the response."""

    __slots__ = (*_FLAGS, *_WINDOWS)

    def __init__(
        self,
        *,
        server_no_context_takeover: bool = False,
        client_no_context_takeover: bool = False,
        server_max_window_bits: int = 15,
        client_max_window_bits: int = 15,
    ) -> None:
        self.server_no_context_takeover = server_no_context_takeover
        self.client_no_context_takeover = client_no_context_takeover
        self.server_max_window_bits = server_max_window_bits
        self.client_max_window_bits = client_max_window_bits

    def __str__(self) -> str:
        told = [NAME]
        told += [name for name in _FLAGS if getattr(self, name)]
        # 15 bits are what no parameter means (RFC 7692 §7.1.2).
        told += [f"{name}={bits}" for name in _WINDOWS if (bits := getattr(self, name)) != 15]
        return "; ".join(told)


def answer_offer(
    parameters: ExtensionParameters, *, context_takeover: bool = True
) -> tuple[Parameters, str] | None:
    """Return what a server agrees on and the text of its response; None declines the offer.

    Without `context_takeover` the server compresses each message on its own.
    """
    try:
        offered = _parsed(parameters)
    except ValueError:
        return None
    server_bits = offered.get("server_max_window_bits", 15)
    if server_bits is None:
        return None
    client_bits = 15  # RFC 7692 §7.1.2.2: not ours to limit unless the client says it can be
    if "client_max_window_bits" in offered:
        client_bits = min(WINDOW_BITS, offered["client_max_window_bits"] or 15)
    agreed = Parameters(
        server_no_context_takeover="server_no_context_takeover" in offered or not context_takeover,
        client_no_context_takeover="client_no_context_takeover" in offered,
        server_max_window_bits=min(WINDOW_BITS, server_bits),
        client_max_window_bits=client_bits,
    )
    return agreed, str(agreed)


def check_answer(
    parameters: ExtensionParameters, offered: ExtensionParameters = OFFERED
) -> Parameters:
    """Return what a client that has `offered` and been answered `parameters` has agreed on.

    Raises HandshakeError for a response that a client must refuse (RFC 7692 §7.1).
    """
    offer = dict(offered)
    try:
        answer = _parsed(parameters)
        for name in _WINDOWS:
            _check_bits(name, offer, answer)
    except ValueError as error:
        raise HandshakeError(f"the server answered {NAME} wrongly: {error}") from None
    if "server_no_context_takeover" in offer and "server_no_context_takeover" not in answer:
        raise HandshakeError(f"the server answered {NAME} without server_no_context_takeover")
    return Parameters(
        server_no_context_takeover="server_no_context_takeover" in answer,
        client_no_context_takeover="client_no_context_takeover" in answer,
        server_max_window_bits=answer.get("server_max_window_bits") or 15,
        client_max_window_bits=answer.get("client_max_window_bits") or 15,
    )


def _parsed(parameters: ExtensionParameters) -> dict[str, int | None]:
    """Return the bits that each parameter tells; raises ValueError for one that is not valid."""
    values: dict[str, int | None] = {}
    for name, value in parameters:
        if name in values:
            raise ValueError(f"{name} comes twice")
        if name in _FLAGS:
            if value is not None:
                raise ValueError(f"{name} takes no value, got {value[:20]!a}")
            values[name] = None
        elif name not in _WINDOWS:
            raise ValueError(f"the parameter {name[:40]!a} is unknown")
        elif value is None:
            values[name] = None
        elif value in _BITS:
            values[name] = _BITS[value]
        else:
            raise ValueError(f"{name} is a number from 8 to 15, not {value[:20]!a}")
    return values


def _check_bits(name: str, offer: dict[str, str | None], answer: dict[str, int | None]) -> None:
    """Check the size of a window in an answer (RFC 7692 §7.1.2.1, §7.1.2.2)."""
    limit = int(offer.get(name) or 15)
    if name in answer:
        bits = answer[name]
        if bits is None:
            raise ValueError(f"{name} has no value")
        if bits > limit:
            raise ValueError(f"{name} is {bits}, {limit} at most was offered")
        if name == "client_max_window_bits" and name not in offer:
            raise ValueError(f"{name} was not offered")
    elif name == "server_max_window_bits" and name in offer:
        raise ValueError(f"{name}={limit} was offered and not accepted")


class Deflate:
    """The two streams of one side of a connection.

    Either direction is for one thread at a time. After a Violation the connection is failed, and
    nothing more is decompressed.
    """

    __slots__ = (
        "_begun",
        "_bits_in",
        "_compressor",
        "_decompressor",
        "_forgets_in",
        "_forgets_out",
        "setting",
    )

    def __init__(self, parameters: Parameters, *, client: bool) -> None:
        ours = (parameters.client_max_window_bits, parameters.client_no_context_takeover)
        theirs = (parameters.server_max_window_bits, parameters.server_no_context_takeover)
        if not client:
            ours, theirs = theirs, ours
        #: All that a message compressed on its own depends on: the bits of the window. A smaller
        #: window than agreed on may be used without telling (RFC 7692 §7.1.2).
        self.setting = max(min(ours[0], WINDOW_BITS), LEAST_ZLIB_BITS)
        self._forgets_out = ours[1]
        self._bits_in = max(theirs[0], LEAST_ZLIB_BITS)
        self._forgets_in = theirs[1]
        self._compressor: zlib._Compress | None = None
        self._decompressor: zlib._Decompress | None = None
        self._begun = False  # something was read since the last end of a message or stream

    # The writing half: one thread at a time.

    def compress(self, payload: bytes) -> bytes:
        """Return the payload of a message compressed, without its tail (RFC 7692 §7.2.1)."""
        if self._forgets_out:
            return self.compress_alone(payload)
        if not payload:
            return EMPTY  # zlib writes nothing when it is flushed twice in a row
        if self._compressor is None:
            self._compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -self.setting, MEMORY_LEVEL)
        return _compressed(self._compressor, payload)

    def compress_alone(self, payload: bytes) -> bytes:
        """Return the payload compressed as if it were the connection's first.

        Every receiver can read it whatever came before, but it moves the receiver's window on:
        when it was sent, `forget`.
        """
        if not payload:
            return EMPTY
        compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, -self.setting, MEMORY_LEVEL)
        return _compressed(compressor, payload)

    def forget(self) -> None:
        """Let the next message refer to nothing that was sent before, which is always allowed."""
        self._compressor = None

    # The reading half: one thread at a time.

    def decompress(self, piece: bytes | bytearray | memoryview, limit: int) -> bytes:
        """Return what one piece of the message under way holds, `limit` bytes at most.

        Raises Violation 1009 when there would be more, of which one byte is decompressed, and 1007
        for what is not DEFLATE data.
        """
        if not piece:
            return b""
        self._begun = True
        decompressor = self._decompressor
        if decompressor is None:
            decompressor = self._decompressor = zlib.decompressobj(-self._bits_in)
        try:
            output = decompressor.decompress(piece, limit + 1)
            if decompressor.eof:
                output = self._past_final_blocks(output, decompressor.unused_data, limit)
        except zlib.error:
            raise Violation(1007, "the message is not DEFLATE data") from None
        if len(output) > limit:
            raise Violation(1009, "the message is too large")
        return output

    def end_message(self, limit: int) -> bytes:
        """Return the last bytes of the message, `limit` at most; the next piece begins another.

        Raises as `decompress`, and Violation 1007 when the message ends within a block.
        """
        output = b""
        # A stream that has just ended may come without the empty block that should follow it
        # (RFC 7692 §7.2.3.4): the message is complete all the same.
        if self._begun:
            output = self.decompress(TAIL, limit)
            if not self._between_blocks():
                raise Violation(1007, "the compressed message is not complete")
            self._begun = False
        if self._forgets_in:
            self._decompressor = None
        return output

    def _between_blocks(self) -> bool:
        """Tell whether the stream could end here, and so was not cut off in a block."""
        if self._decompressor is None:
            return False  # the tail was taken for a final block
        probe = self._decompressor.copy()
        try:
            return not probe.decompress(_LAST_BLOCK) and probe.eof
        except zlib.error:
            return False

    def _past_final_blocks(self, output: bytes, rest: bytes, limit: int) -> bytes:
        """Read on behind a final block, which ends its stream; return all that was decompressed.

        What follows, from the next whole byte on, is another stream (RFC 7692 §7.2.1, §7.2.3.4),
        with a window that is empty: so zlib and Java write it.
        """
        self._decompressor = None
        self._begun = False
        collected = bytearray(output)
        position, step = 0, FIRST_STEP
        while position < len(rest) and len(collected) <= limit:
            if self._decompressor is None:
                self._decompressor = zlib.decompressobj(-self._bits_in)
            part = rest[position : position + step]
            collected += self._decompressor.decompress(part, limit + 1 - len(collected))
            position += len(part)
            if self._decompressor.eof:
                position -= len(self._decompressor.unused_data)
                self._decompressor, self._begun, step = None, False, FIRST_STEP
            else:
                self._begun, step = True, step * 2
        return bytes(collected)


def _compressed(compressor: zlib._Compress, payload: bytes) -> bytes:
    return compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)[: -len(TAIL)]
