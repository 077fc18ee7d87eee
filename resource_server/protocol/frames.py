"""Frames of the WebSocket protocol (RFC 6455 §5.2): how they are written, masked and judged."""

from __future__ import annotations

_SMALL = 126  # a payload shorter than this has its length in the second byte
_MEDIUM = 65_536  # one shorter than this has it in two bytes more, any longer one in eight

# From this many bytes on, translating every fourth byte by a table is quicker than XOR of integers,
# whose digits of 30 bits fit no byte: 49 µs instead of 55 to 130 µs for 64 KiB.
_BY_TABLE = 4096


class Violation(Exception):  # noqa: N818 - what the peer did, as in the RFC
    """The peer broke a rule. Carries the close code that tells it (RFC 6455 §7.4.1) and why.

    :param code: a close code that may be sent.
    :param reason: plain ASCII, at most 123 bytes.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.reason} (close code {self.code})"


def apply_mask(data: bytes | bytearray | memoryview, key: bytes) -> bytes | bytearray:
    """Mask or unmask, which is the same (RFC 6455 §5.3).

    :param data: its first byte is masked with the key's first.
    :param key: four bytes.
    :returns: a bytearray, which nobody else has, if it is large: it would be copied to be bytes.
    """
    size = len(data)
    if size >= _BY_TABLE:
        return _translate(data, key)
    keys = key * (size >> 2) + key[: size & 3]
    # One XOR of two large integers: many times quicker than a loop over the bytes.
    masked = int.from_bytes(data, "little") ^ int.from_bytes(keys, "little")
    return masked.to_bytes(size, "little")


_tables: list[bytes] = []  # for each byte of a key, what the 256 bytes become; made on first use


def _translate(data: bytes | bytearray | memoryview, key: bytes) -> bytearray:
    tables = _tables
    if not tables:
        every = bytes(range(256))
        # Assigned in one step: two threads may make them, and none may see half of them.
        tables[:] = [bytes(apply_mask(every, bytes((byte,)) * 4)) for byte in range(256)]
    masked = bytearray(data)
    for lane in range(4):
        masked[lane::4] = masked[lane::4].translate(tables[key[lane]])
    return masked


def encode_frame(
    opcode: int,
    payload: bytes,
    *,
    mask: bytes = b"",
    compressed: bool = False,
    final: bool = True,
) -> bytes:
    """One frame as it goes over the wire.

    :param opcode: 0 to 15; nothing is checked here.
    :param mask: the four bytes of the key that a client's frame is masked with; none for a server.
    :param compressed: whether RSV1 is set (RFC 7692 §6).
    :param final: whether it is the last frame of its message.
    """
    first = opcode | (0x80 if final else 0) | (0x40 if compressed else 0)
    masked = 0x80 if mask else 0
    size = len(payload)
    if size < _SMALL:
        head = bytes((first, masked | size))
    elif size < _MEDIUM:
        head = b"%c%c%b" % (first, masked | 126, size.to_bytes(2, "big"))
    else:
        head = b"%c%c%b" % (first, masked | 127, size.to_bytes(8, "big"))
    if mask:
        return b"".join((head, mask, apply_mask(payload, mask)))
    return head + payload


def read_length(head: bytes) -> tuple[int, bool]:
    """The payload's length as a frame's head tells it (RFC 6455 §5.2).

    :param head: what has come of it from the second byte on, and maybe what follows.
    :returns: the length, and whether it is known; if not, it is the least that it may become.
    :raises Violation: as soon as the bytes cannot become a length.
    """
    size = head[0] & 0x7F
    if size < _SMALL:
        return size, True
    octets, fewer = (2, _SMALL) if size == 126 else (8, _MEDIUM)
    known = head[1 : 1 + octets]
    missing = 8 * (octets - len(known))
    least = int.from_bytes(known, "big") << missing
    if least >> 63:
        raise Violation(1002, "the highest bit of a frame's length is set")
    if least + (1 << missing) <= fewer:
        raise Violation(1002, "a frame's length takes more bytes than it needs")
    return least, not missing
