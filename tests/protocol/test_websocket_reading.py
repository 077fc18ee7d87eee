"""RFC 6455 §5, §6.2, §8.1: what is received."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resource_server.protocol.deflate import Deflate, Parameters
from resource_server.protocol.frames import Violation
from resource_server.protocol.websocket import State, WebSocket, WebSocketOpCode
from tests.protocol.websocket_feeding import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    LIMIT,
    PING,
    PONG,
    TEXT,
    Outcome,
    as_client,
    close_frame,
    deflate,
    events,
    frame,
    opened,
    outcome_of,
    refusal,
    with_deflate,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Text, Binary = WebSocketOpCode.Text, WebSocketOpCode.Binary
Close, Ping, Pong = WebSocketOpCode.Close, WebSocketOpCode.Ping, WebSocketOpCode.Pong

#: a text with characters of one to four bytes, and the first and last of each length
CHARACTERS = "\x00\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff aä€𝄞"
ROLES = pytest.mark.parametrize(
    ("make", "key"), [(opened, KEY), (as_client, b"")], ids=["server", "client"]
)


def told(data: bytes, make: Callable[[], WebSocket] = opened) -> list[object]:
    """The messages in some bytes, however they are cut."""
    outcome: Outcome = outcome_of(data, make)
    assert outcome.error is None, outcome.reason
    return list(outcome.events)


@ROLES
def test_the_examples_of_the_specification(make: Callable[[], WebSocket], key: bytes) -> None:
    assert told(frame(TEXT, b"Hello", key=key), make) == [(Text, "Hello")]
    fragments = frame(TEXT, b"Hel", final=False, key=key) + frame(CONTINUATION, b"lo", key=key)
    assert told(fragments, make) == [(Text, "Hello")]
    assert told(frame(PING, b"Hello", key=key), make) == [(Ping, b"Hello")]
    assert told(frame(PONG, b"Hello", key=key), make) == [(Pong, b"Hello")]
    assert told(frame(BINARY, bytes(256), key=key), make) == [(Binary, bytes(256))]


@ROLES
@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 500])
def test_messages_of_every_form_of_length(
    make: Callable[[], WebSocket], key: bytes, size: int
) -> None:
    data = bytes(range(256)) * 2
    assert told(frame(BINARY, data[:size], key=key), make) == [(Binary, data[:size])]
    text = "x" * size
    assert told(frame(TEXT, text.encode(), key=key), make) == [(Text, text)]


@ROLES
@pytest.mark.parametrize("size", [65535, 65536, 100_000])
def test_large_messages(make: Callable[[], WebSocket], key: bytes, size: int) -> None:
    data = (bytes(range(251)) * 400)[:size]
    encoded = frame(BINARY, data, key=key)
    for cut in (1, 2, 3, 9, 10, 14, 15, 70, 4096, size - 1, len(encoded)):
        socket = make()
        received = []
        for at in range(0, len(encoded), max(cut, 50)):
            received += events(socket, encoded[at : at + max(cut, 50)])
        socket.receive(encoded[:cut])
        received += events(socket)
        socket.receive(encoded[cut:])
        received += events(socket)
        assert received == [(Binary, data)] * 2


@ROLES
def test_messages_follow_each_other(make: Callable[[], WebSocket], key: bytes) -> None:
    data = b"".join(frame(TEXT, b"%d" % number, key=key) for number in range(20))
    assert told(data, make) == [(Text, str(number)) for number in range(20)]


def test_messages_are_left_until_they_are_asked_for() -> None:
    socket = opened()
    for number in range(3):
        socket.receive(frame(TEXT, b"a%d" % number) + frame(TEXT, b"b%d" % number))
        assert socket.next_event() == (Text, ["a0", "b0", "a1"][number])
    assert events(socket) == [(Text, "b1"), (Text, "a2"), (Text, "b2")]


def test_nothing_is_read_before_the_handshake_is_done() -> None:
    socket = WebSocket(max_message_size=LIMIT)
    socket.receive(frame(TEXT, b"early"))
    assert socket.next_event() is None
    socket.open()
    assert events(socket) == [(Text, "early")]


# §5.1, §5.3: masking


@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
@pytest.mark.parametrize("payload", [b"", b"ab"])
def test_a_client_has_to_mask(opcode: int, payload: bytes) -> None:
    assert refusal(frame(opcode, payload, key=b"")) == (1002, 2)


@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
@pytest.mark.parametrize("payload", [b"", b"ab"])
def test_a_server_must_not_mask(opcode: int, payload: bytes) -> None:
    assert refusal(frame(opcode, payload), as_client) == (1002, 2)


@pytest.mark.parametrize("key", [b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x00\x01\x80\x7f"])
def test_any_key_masks(key: bytes) -> None:
    assert told(frame(BINARY, bytes(range(256)), key=key)) == [(Binary, bytes(range(256)))]


def test_each_frame_has_a_key_of_its_own() -> None:
    data = b"".join(
        frame(opcode, b"abcde", final=final, key=key)
        for opcode, final, key in [
            (BINARY, False, b"1234"), (CONTINUATION, False, b"abcd"), (CONTINUATION, True, KEY),
        ]
    )  # fmt: skip
    assert told(data) == [(Binary, b"abcde" * 3)]


# §5.2: the head


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
def test_a_reserved_bit_means_nothing_without_an_extension(rsv: int, opcode: int) -> None:
    assert refusal(frame(opcode, b"", rsv=rsv)) == (1002, 1)
    if rsv != 4 or opcode not in (TEXT, BINARY):
        assert refusal(frame(opcode, b"", rsv=rsv), with_deflate) == (1002, 1)


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("make", [opened, with_deflate])
def test_a_continuation_has_no_reserved_bit(rsv: int, make: Callable[[], WebSocket]) -> None:
    data = frame(TEXT, b"a", final=False)
    assert refusal(data + frame(CONTINUATION, b"b", rsv=rsv), make) == (1002, len(data) + 1)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("final", [True, False])
def test_a_reserved_opcode_is_refused(opcode: int, final: bool) -> None:
    assert refusal(frame(opcode, b"", final=final)) == (1002, 1)
    begun = frame(TEXT, b"a", final=False)
    assert refusal(begun + frame(opcode, b"", final=final)) == (1002, len(begun) + 1)


@ROLES
@pytest.mark.parametrize(
    ("size", "octets", "told_by"), [(0, 2, 4), (125, 2, 4), (0, 8, 8), (126, 8, 8), (65535, 8, 8)]
)
def test_a_length_takes_the_fewest_bytes(
    make: Callable[[], WebSocket], key: bytes, size: int, octets: int, told_by: int
) -> None:
    data = frame(BINARY, bytes(min(size, 200)), key=key, octets=octets, length=size)
    assert refusal(data, make) == (1002, told_by)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1])
def test_a_length_has_63_bits(length: int) -> None:
    assert refusal(frame(BINARY, b"abc", octets=8, length=length)) == (1002, 3)


# §5.4: fragmentation


@ROLES
def test_fragments_are_joined(make: Callable[[], WebSocket], key: bytes) -> None:
    data = (
        frame(BINARY, b"a", final=False, key=key)
        + frame(CONTINUATION, b"", final=False, key=key)
        + frame(CONTINUATION, b"b" * 200, final=False, key=key)
        + frame(CONTINUATION, b"c", key=key)
    )
    assert told(data, make) == [(Binary, b"a" + b"b" * 200 + b"c")]


@pytest.mark.parametrize(("opcode", "empty"), [(TEXT, ""), (BINARY, b"")])
def test_all_fragments_may_be_empty(opcode: int, empty: str | bytes) -> None:
    data = frame(opcode, final=False) + frame(CONTINUATION, final=False) + frame(CONTINUATION)
    assert told(data) == [(WebSocketOpCode(opcode), empty)]


def test_a_control_frame_may_come_between_fragments() -> None:
    data = (
        frame(TEXT, b"a", final=False)
        + frame(PING, b"1")
        + frame(CONTINUATION, b"b", final=False)
        + frame(PONG, b"2")
        + frame(PING)
        + frame(CONTINUATION, b"c")
    )
    assert told(data) == [(Ping, b"1"), (Pong, b"2"), (Ping, b""), (Text, "abc")]


def test_a_close_frame_between_fragments_ends_the_message() -> None:
    outcome = outcome_of(frame(TEXT, b"a", final=False) + close_frame(1001))
    assert outcome.events == [(Close, "")]
    assert outcome.close_code == 1001


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_does_not_begin_inside_another(opcode: int, final: bool) -> None:
    data = frame(TEXT, b"a", final=False)
    assert refusal(data + frame(opcode, b"b", final=final)) == (1002, len(data) + 1)


@pytest.mark.parametrize("final", [True, False])
@pytest.mark.parametrize(
    "before",
    [b"", frame(TEXT, b"a"), frame(TEXT, b"", final=False) + frame(CONTINUATION), frame(PING)],
)
def test_a_continuation_continues_something(before: bytes, final: bool) -> None:
    data = before + frame(CONTINUATION, b"b", final=final)
    assert refusal(data) == (1002, len(before) + 1)


# §5.5: control frames


@ROLES
@pytest.mark.parametrize("opcode", [PING, PONG])
@pytest.mark.parametrize("size", [0, 1, 124, 125])
def test_a_control_frame_has_up_to_125_bytes(
    make: Callable[[], WebSocket], key: bytes, opcode: int, size: int
) -> None:
    payload = (b"\x00\xff" * 63)[:size]
    assert told(frame(opcode, payload, key=key), make) == [(WebSocketOpCode(opcode), payload)]


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("length", [126, 127, 65536])
def test_a_control_frame_has_no_more(opcode: int, length: int) -> None:
    assert refusal(frame(opcode, bytes(127), length=length)) == (1002, 2)


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("before", [b"", frame(TEXT, b"a", final=False)])
def test_a_control_frame_is_not_fragmented(opcode: int, before: bytes) -> None:
    assert refusal(before + frame(opcode, final=False)) == (1002, len(before) + 1)


# §10.4: limits


@ROLES
def test_a_message_may_be_as_large_as_is_allowed(make: Callable[[], WebSocket], key: bytes) -> None:
    data = frame(BINARY, b"a" * 60_000, final=False, key=key)
    data += frame(CONTINUATION, b"a" * 40_000, key=key)
    socket = make()
    assert events(socket, data) == [(Binary, b"a" * 100_000)]
    assert events(socket, frame(BINARY, b"a" * 100_000, key=key)) == [(Binary, b"a" * 100_000)]


def small(limit: int) -> Callable[[], WebSocket]:
    return lambda: opened(limit=limit)


@pytest.mark.parametrize(
    ("limit", "length", "told_by"),
    [(0, 1, 2), (5, 6, 2), (124, 125, 2), (5, 126, 4), (300, 301, 4), (300, 512, 3),
     (255, 65535, 3), (300, 65536, 8), (65536, 65537, 10), (65536, 2**63 - 1, 3)],
)  # fmt: skip
def test_a_message_is_refused_as_soon_as_its_size_is_known(
    limit: int, length: int, told_by: int
) -> None:
    assert refusal(frame(BINARY, b"", length=length), small(limit)) == (1009, told_by)


def test_the_fragments_count_together() -> None:
    data = frame(TEXT, b"abc", final=False) + frame(CONTINUATION, b"de", final=False)
    assert told(data + frame(CONTINUATION), small(5)) == [(Text, "abcde")]
    assert refusal(data + frame(CONTINUATION, b"f"), small(5)) == (1009, len(data) + 2)


def test_a_control_frame_is_not_limited() -> None:
    assert told(frame(PING, bytes(125)), small(0)) == [(Ping, bytes(125))]
    assert told(frame(TEXT, b""), small(0)) == [(Text, "")]


# §8.1: UTF-8


@ROLES
def test_text_is_utf_8(make: Callable[[], WebSocket], key: bytes) -> None:
    data = CHARACTERS.encode()
    assert told(frame(TEXT, data, key=key), make) == [(Text, CHARACTERS)]
    for cut in range(len(data) + 1):
        fragments = frame(TEXT, data[:cut], final=False, key=key)
        fragments += frame(CONTINUATION, data[cut:], key=key)
        assert events(make(), fragments) == [(Text, CHARACTERS)]


@ROLES
def test_a_character_may_be_spread_over_fragments(
    make: Callable[[], WebSocket], key: bytes
) -> None:
    data = b"".join(
        frame(CONTINUATION if at else TEXT, bytes([byte]), final=False, key=key)
        + frame(CONTINUATION, b"", final=False, key=key)
        for at, byte in enumerate("a€𝄞".encode())
    )
    assert told(data + frame(CONTINUATION, key=key), make) == [(Text, "a€𝄞")]


@ROLES
@pytest.mark.parametrize(
    "bad",
    [b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3(", b"\xe0\x80\x80", b"\xed\xa0\x80",
     b"\xed\xbf\xbf", b"\xed\xb0\x80", b"\xf0\x80\x80\x80", b"\xf4\x90\x80\x80", b"\xf5", b"\xf8",
     b"\xfe", b"\xff", b"\xe2\x82(", b"\xf0\x9d\x84(", b"\xc3\xc3"],
)  # fmt: skip
def test_what_is_not_utf_8_is_refused_at_the_first_bad_byte(
    make: Callable[[], WebSocket], key: bytes, bad: bytes
) -> None:
    for before in (b"", b"abc", "ä".encode()):
        data = frame(TEXT, before + bad + b"def", key=key)
        code, count = refusal(data, make)
        assert code == 1007
        seen = data[len(data) - len(before + bad + b"def") : count]
        assert len(seen) == len(before) + _first_bad(bad)
        fragment = frame(TEXT, before + bad, final=False, key=key)
        assert refusal(fragment, make)[0] == 1007


_TAIL = (0x80, 0xBF)
#: RFC 3629 §4: the ranges that the bytes of a character are in
_SYNTAX = [
    [(0x00, 0x7F)],
    [(0xC2, 0xDF), _TAIL],
    [(0xE0, 0xE0), (0xA0, 0xBF), _TAIL],
    [(0xE1, 0xEC), _TAIL, _TAIL],
    [(0xED, 0xED), (0x80, 0x9F), _TAIL],
    [(0xEE, 0xEF), _TAIL, _TAIL],
    [(0xF0, 0xF0), (0x90, 0xBF), _TAIL, _TAIL],
    [(0xF1, 0xF3), _TAIL, _TAIL, _TAIL],
    [(0xF4, 0xF4), (0x80, 0x8F), _TAIL, _TAIL],
]
EVERY = [bytes([byte]) for byte in range(256)]


def _fits(data: bytes, row: list[tuple[int, int]]) -> bool:
    return all(low <= byte <= high for byte, (low, high) in zip(data, row, strict=False))


def _begins_character(data: bytes) -> bool:
    return any(len(data) <= len(row) and _fits(data, row) for row in _SYNTAX)


def _is_character(data: bytes) -> bool:
    return any(len(data) == len(row) and _fits(data, row) for row in _SYNTAX)


def _first_bad(data: bytes) -> int:
    """How many bytes show that this begins no text; it must not begin with a character."""
    return next(size for size in range(1, len(data) + 1) if not _begins_character(data[:size]))


def _refused(*pieces: bytes) -> bool:
    socket = opened(client=True)
    socket.receive(b"\x01\x7d")
    assert socket.next_event() is None
    try:
        for piece in pieces:
            socket.receive(piece)
            assert socket.next_event() is None
    except Violation:
        assert socket.close_code == 1007
        assert piece is pieces[-1], "refused too early"
        return True
    return False


@pytest.mark.no_cover  # thousands of times the same lines
def test_every_beginning_of_two_bytes_is_judged_at_once() -> None:
    for first in EVERY:
        begins = _begins_character(first)
        assert _refused(first) == (not begins), first
        for second in EVERY if begins else []:
            both = first + second
            # The first may be a character by itself, and the second begin another.
            good = _begins_character(second if first < b"\x80" else both)
            assert _refused(first, second) == _refused(both) == (not good), both


@pytest.mark.no_cover  # thousands of times the same lines
@pytest.mark.parametrize(("size", "step"), [(2, 1), (3, 61)])
def test_every_third_and_fourth_byte_is_judged_at_once(size: int, step: int) -> None:
    edges = [bytes([byte]) for byte in b"\x00A\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc2\xe0\xf0\xff"]
    begun = [b""]
    for _ in range(size):
        longer = [prefix + byte for prefix in begun for byte in EVERY]
        begun = [prefix for prefix in longer if _begins_character(prefix)]
        begun = [prefix for prefix in begun if not _is_character(prefix)]
    for prefix in begun[::step]:
        for edge in edges:
            good = _begins_character(prefix + edge)
            singly = [bytes([byte]) for byte in prefix]
            assert _refused(*singly, edge) == (not good), prefix + edge
            assert _refused(prefix + edge) == (not good), prefix + edge


@pytest.mark.parametrize("cut", [b"\xc3", b"\xe2", b"\xe2\x82", b"\xf0\x9d\x84"])
def test_text_does_not_end_within_a_character(cut: bytes) -> None:
    for data in (cut, b"abc" + cut):
        whole = frame(TEXT, data)
        assert refusal(whole) == (1007, len(whole))
        fragments = frame(TEXT, data, final=False) + frame(CONTINUATION)
        assert refusal(fragments)[0] == 1007


def test_binary_is_anything() -> None:
    data = bytes(range(255, -1, -1))
    fragments = frame(BINARY, data, final=False) + frame(CONTINUATION, data)
    assert told(fragments) == [(Binary, data + data)]


# RFC 7692 §6: compressed messages


def compressed(text: bytes) -> bytes:
    return deflate(client=True).compress(text)


@pytest.mark.parametrize(("opcode", "content"), [(TEXT, "Hello" * 50), (BINARY, b"Hello" * 50)])
def test_a_compressed_message(opcode: int, content: str | bytes) -> None:
    payload = compressed(b"Hello" * 50)
    expected = [(WebSocketOpCode(opcode), content)]
    assert told(frame(opcode, payload, rsv=4), with_deflate) == expected
    for cut in range(len(payload) + 1):
        fragments = frame(opcode, payload[:cut], rsv=4, final=False)
        fragments += frame(PING) + frame(CONTINUATION, payload[cut:])
        assert told(fragments, with_deflate) == [(Ping, b""), *expected]


def test_an_empty_compressed_message() -> None:
    assert told(frame(TEXT, b"\x00", rsv=4), with_deflate) == [(Text, "")]
    fragments = frame(TEXT, b"", rsv=4, final=False) + frame(CONTINUATION, b"\x00")
    assert told(fragments, with_deflate) == [(Text, "")]


def test_a_message_need_not_be_compressed() -> None:
    data = frame(TEXT, b"plain") + frame(TEXT, compressed(b"small"), rsv=4) + frame(TEXT, b"plain")
    assert told(data, with_deflate) == [(Text, "plain"), (Text, "small"), (Text, "plain")]


def test_compressed_text_is_utf_8() -> None:
    payload = compressed(CHARACTERS.encode())
    assert told(frame(TEXT, payload, rsv=4), with_deflate) == [(Text, CHARACTERS)]
    payload = compressed(b"abc\xff" + b"abc")
    assert refusal(frame(TEXT, payload, rsv=4), with_deflate)[0] == 1007
    cut = frame(TEXT, compressed(b"abc\xe2\x82"), rsv=4)
    assert refusal(cut, with_deflate) == (1007, len(cut))


def test_what_is_not_compressed_is_refused() -> None:
    assert refusal(frame(TEXT, b"\xff\xff", rsv=4), with_deflate)[0] == 1007


def test_a_compressed_message_is_limited_by_what_it_holds() -> None:
    def make() -> WebSocket:
        return opened(limit=1000, compression=True)

    payload = compressed(b"a" * 1000)
    assert told(frame(BINARY, payload, rsv=4), make) == [(Binary, b"a" * 1000)]
    # What it takes on the wire does not count: here there are empty blocks before it.
    padded = b"\x00\x00\x00\xff\xff" * 300 + payload
    assert told(frame(BINARY, padded, rsv=4), make) == [(Binary, b"a" * 1000)]
    fragments = frame(BINARY, padded[:5], rsv=4, final=False) + frame(CONTINUATION, padded[5:])
    assert told(fragments, make) == [(Binary, b"a" * 1000)]
    payload = compressed(b"a" * 1001)
    assert refusal(frame(BINARY, payload, rsv=4), make)[0] == 1009
    fragments = frame(BINARY, payload[:-3], rsv=4, final=False)
    assert refusal(fragments + frame(CONTINUATION, payload[-3:]), make)[0] == 1009


def test_the_room_that_is_left_is_told_to_whoever_inflates() -> None:
    rooms = []

    class Recorder(Deflate):
        def decompress(self, piece: bytes | bytearray | memoryview, limit: int) -> bytes:
            rooms.append(limit)
            return b"abc"

        def end_message(self, limit: int) -> bytes:
            rooms.append(limit)
            return b"d"

    socket = WebSocket(max_message_size=10, deflate=Recorder(Parameters(), client=False))
    socket.open()
    data = frame(TEXT, b"1", rsv=4, final=False) + frame(CONTINUATION, b"", final=False)
    assert events(socket, data + frame(CONTINUATION, b"2")) == [(Text, "abcabcd")]
    assert rooms == [10, 7, 4]
    assert events(socket, frame(TEXT, b"3", rsv=4)) == [(Text, "abcd")]
    assert rooms[3:] == [10, 7]


# what comes behind the end


@pytest.mark.parametrize("end", [close_frame(1000), frame(TEXT, b"\xff"), b"\x00"])
def test_nothing_is_read_behind_the_end(end: bytes) -> None:
    socket = opened()
    socket.receive(end + frame(TEXT, b"late"))
    try:
        assert socket.next_event() == (Close, "")
    except Violation:
        pass
    assert socket.next_event() is None
    socket.receive(frame(TEXT, b"later"))
    assert socket.next_event() is None


def test_messages_behind_our_close_frame_are_checked_and_not_told() -> None:
    socket = opened()
    socket.close(1000)
    data = frame(TEXT, b"a") + frame(BINARY, b"b", final=False) + frame(PING, b"c")
    data += frame(CONTINUATION, b"d") + frame(PONG, b"e")
    assert events(socket, data) == [(Ping, b"c"), (Pong, b"e")]
    socket.receive(frame(TEXT, b"\xff"))
    with pytest.raises(Violation):
        socket.next_event()
    assert socket.close_code == 1007
    assert socket.state is State.CLOSING


def test_a_message_begun_before_our_close_frame_is_not_told_behind_it() -> None:
    socket = opened()
    assert events(socket, frame(TEXT, b"a", final=False)) == []
    socket.close(1000)
    assert events(socket, frame(CONTINUATION, b"b") + close_frame(1000)) == [(Close, "")]
