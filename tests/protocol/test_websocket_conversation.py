"""Both roles against each other: what one says arrives unchanged, however it is cut."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resource_server.protocol.deflate import Deflate, Parameters
from resource_server.protocol.frames import Violation
from resource_server.protocol.websocket import COMPRESS_FROM, State, WebSocket, WebSocketOpCode
from resource_server.websockets import Outgoing
from tests.protocol.websocket_feeding import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    LIMIT,
    PING,
    PONG,
    TEXT,
    Event,
    as_client,
    close_frame,
    deflate,
    events,
    frame,
    opened,
    state_of,
    told,
    with_deflate,
)

if TYPE_CHECKING:
    from collections.abc import Callable

Text, Binary = WebSocketOpCode.Text, WebSocketOpCode.Binary
Close, Ping, Pong = WebSocketOpCode.Close, WebSocketOpCode.Ping, WebSocketOpCode.Pong

_UNIT = st.text(max_size=8)
_TEXTS = st.tuples(_UNIT, st.sampled_from([1, 1, 1, 7, 40, 300])).map(
    lambda pair: pair[0] * pair[1]
)
_DATA = st.tuples(st.binary(max_size=8), st.sampled_from([1, 1, 1, 7, 40, 300, 10_000])).map(
    lambda pair: pair[0] * pair[1]
)
_SAID = st.one_of(
    st.tuples(st.just(Text), _TEXTS),
    st.tuples(st.just(Binary), _DATA),
    st.tuples(st.sampled_from([Ping, Pong]), st.binary(max_size=125)),
)
_PARAMETERS = st.none() | st.builds(
    Parameters,
    server_no_context_takeover=st.booleans(),
    client_no_context_takeover=st.booleans(),
    server_max_window_bits=st.integers(8, 15),
    client_max_window_bits=st.integers(8, 15),
)


def _payload(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


def _draw_cut(data: st.DataObject, stream: bytes) -> list[bytes]:
    places = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    return [stream[a:b] for a, b in zip([0, *places], [*places, len(stream)], strict=True)]


@dataclass
class Side:
    """One role, what is on the way to it, and what it is to tell of that."""

    socket: WebSocket
    wire: bytes = b""
    expected: list[Event] = field(default_factory=list)

    def hear(self, data: st.DataObject) -> None:
        """Read all that is on the way, however it is cut."""
        told = []
        for piece in _draw_cut(data, self.wire):
            told += events(self.socket, piece)
        assert told == self.expected
        self.wire = b""
        self.expected.clear()


def _sides(parameters: Parameters | None) -> tuple[Side, Side]:
    sides = []
    for client in (False, True):
        deflate = None if parameters is None else Deflate(parameters, client=client)
        socket = WebSocket(client=client, max_message_size=LIMIT, deflate=deflate)
        socket.open()
        sides.append(Side(socket))
    return sides[0], sides[1]


_TURNS = st.lists(st.tuples(st.booleans(), st.booleans(), _SAID), max_size=12)


@given(_TURNS, _PARAMETERS, st.booleans(), st.data())
def test_a_conversation_arrives_unchanged(
    turns: list[tuple[bool, bool, Event]],
    parameters: Parameters | None,
    client_closes: bool,
    data: st.DataObject,
) -> None:
    sides = _sides(parameters)
    for by_client, shared, (opcode, content) in turns:
        speaker, hearer = sides[by_client], sides[not by_client]
        if shared and opcode in (Text, Binary):
            hearer.wire += speaker.socket.encode_shared(Outgoing(content))
        else:
            hearer.wire += speaker.socket.encode(opcode, _payload(content))
        hearer.expected.append((opcode, content))
    closer, closed = sides[client_closes], sides[not client_closes]
    closer.hear(data)
    closed.wire += closer.socket.close(4000, "that is all")
    closed.expected.append((Close, ""))
    closed.hear(data)
    # What is said until the Close frame is answered is not told any more.
    closer.wire += closed.socket.encode(TEXT, b"late") + closed.socket.answer_close()
    closer.expected.append((Close, ""))
    closer.hear(data)
    assert (closed.socket.close_code, closed.socket.close_reason) == (4000, "that is all")
    assert (closer.socket.close_code, closer.socket.close_reason) == (4000, "")
    for side in sides:
        assert state_of(side.socket) is State.CLOSING
        side.socket.lost()
        assert state_of(side.socket) is State.CLOSED
        assert side.socket.close_code == 4000


@given(st.lists(_SAID, max_size=8), st.booleans(), st.booleans(), st.data())
def test_fragments_arrive_joined(
    said: list[Event], client: bool, compression: bool, data: st.DataObject
) -> None:
    sender = deflate(client=not client)
    key = b"" if client else KEY
    stream, expected = b"", []
    for opcode, content in said:
        payload = _payload(content)
        if opcode in (Ping, Pong):
            stream += frame(opcode, payload, key=key)
            expected.append((opcode, content))
            continue
        compressed = compression and data.draw(st.booleans())
        pieces = _draw_cut(data, sender.compress(payload) if compressed else payload)
        for at, piece in enumerate(pieces):
            final = at == len(pieces) - 1
            first = CONTINUATION if at else opcode
            rsv = 4 if compressed and not at else 0
            stream += frame(first, piece, final=final, rsv=rsv, key=key)
            if not final and data.draw(st.booleans()):
                stream += frame(PING, b"%d" % at, key=key)
                expected.append((Ping, b"%d" % at))
        expected.append((opcode, content))
    socket = opened(client=client, compression=compression)
    told: list[Event] = []
    for piece in _draw_cut(data, stream):
        told += events(socket, piece)
    assert told == expected


_PIECES = st.sampled_from(
    [
        frame(TEXT, b"a"), frame(TEXT, "ä".encode()[:1], final=False), frame(BINARY, final=False),
        frame(CONTINUATION, "ä".encode()[1:]), frame(CONTINUATION, b"b", final=False), frame(PING),
        frame(PONG, b"p" * 125), close_frame(1000), close_frame(1005), close_frame(), b"\x81",
        b"\x82\xfe", b"\x82\xff\x00", b"\x00", b"\x80\x80", b"\x81\x83\x00\x00\x00\x00\xe2\x82",
        frame(TEXT, b"c", key=b""), frame(CLOSE, b"\x03"), frame(TEXT, b"d" * 200, final=False),
        frame(TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00", rsv=4), frame(TEXT, b"\xff", rsv=4),
        b"\xc1\x85\x00\x00\x00\x00\x4a\x4c", frame(BINARY, b"\x4a\x4c", rsv=4, final=False),
    ]
)  # fmt: skip


@given(st.lists(_PIECES | st.binary(max_size=4), max_size=10).map(b"".join), st.booleans())
@example(frame(TEXT, b"a" * 301), False)
@example(frame(TEXT, b"\xff", final=False) + b"\x00", False)
def test_the_outcome_does_not_depend_on_the_cuts(stream: bytes, compression: bool) -> None:
    """Whatever comes, it is told or refused in one way, and nothing but a Violation is raised."""

    def outcome(pieces: list[bytes]) -> tuple[list[Event], int | None, str]:
        socket = opened(limit=300, compression=compression)
        seen: list[Event] = []
        for piece in pieces:
            socket.receive(piece)
            try:
                seen.extend(told(socket))
            except Violation:
                assert socket.close_code in (1002, 1007, 1009)
        return seen, socket.close_code, socket.close_reason

    singly = [stream[at : at + 1] for at in range(len(stream))]
    assert outcome([stream]) == outcome(singly)


# what is written


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_is_one_frame(size: int, opcode: int) -> None:
    payload = b"x" * size
    assert opened().encode(opcode, payload) == frame(opcode, payload, key=b"")


@pytest.mark.parametrize("opcode", [PING, PONG])
@pytest.mark.parametrize("make", [opened, with_deflate])
def test_a_ping_or_pong_has_up_to_125_bytes_and_is_never_compressed(
    opcode: int, make: Callable[[], WebSocket]
) -> None:
    assert make().encode(opcode, b"x" * 125) == frame(opcode, b"x" * 125, key=b"")
    with pytest.raises(ValueError, match="125"):
        make().encode(opcode, b"x" * 126)


@pytest.mark.parametrize("opcode", [CONTINUATION, 3, 7, CLOSE, 11, 255, WebSocketOpCode.Open])
def test_nothing_else_is_a_message(opcode: int) -> None:
    with pytest.raises(ValueError, match="neither"):
        opened().encode(opcode, b"")


def test_a_client_masks_each_frame_anew() -> None:
    client = as_client()
    keys = [b"1234", b"5678", b"abcd", b"efgh"]
    with mock.patch("os.urandom", side_effect=keys) as urandom:
        shared = Outgoing("Hello")
        assert client.encode(TEXT, b"Hello") == frame(TEXT, b"Hello", key=keys[0])
        assert client.encode_shared(shared) == frame(TEXT, b"Hello", key=keys[1])
        assert client.encode_shared(shared) == frame(TEXT, b"Hello", key=keys[2])
        assert client.close() == close_frame(1000, key=keys[3])
    assert urandom.mock_calls == [mock.call(4)] * 4
    assert not shared.encoded


def test_a_server_masks_nothing() -> None:
    with mock.patch("os.urandom", side_effect=AssertionError):
        assert opened().encode(TEXT, b"Hello") == frame(TEXT, b"Hello", key=b"")


def test_short_messages_are_not_compressed() -> None:
    server, client = with_deflate(), opened(client=True, compression=True)
    short, long = b"a" * (COMPRESS_FROM - 1), b"a" * COMPRESS_FROM
    assert server.encode(TEXT, short) == frame(TEXT, short, key=b"")
    encoded = server.encode(TEXT, long)
    assert encoded[0] == 0xC1
    assert len(encoded) < 50
    assert events(client, encoded) == [(Text, long.decode())]


# a message that goes to many


def test_the_frame_of_a_shared_message_is_made_once() -> None:
    message = Outgoing("Hello")
    first, second = opened(), opened()
    encoded = first.encode_shared(message)
    assert encoded == frame(TEXT, b"Hello", key=b"")
    assert second.encode_shared(message) is encoded
    assert list(message.encoded.values()) == [encoded]


def test_a_shared_message_is_compressed_once_for_each_setting() -> None:
    def member(bits: int) -> tuple[WebSocket, WebSocket]:
        sides = [
            WebSocket(
                client=client,
                max_message_size=LIMIT,
                deflate=deflate(client=client, server_max_window_bits=bits),
            )
            for client in (False, True)
        ]
        for side in sides:
            side.open()
        return sides[0], sides[1]

    text = "Hello, " * 100
    plain = opened(), as_client()
    members = [member(12), member(12), member(9), member(9), plain]
    for _ in range(2):
        message = Outgoing(text)
        frames = []
        for server, client in members:
            # Each has another window: the shared message does not refer to it.
            own = f"{id(server)} {text}"
            assert events(client, server.encode(TEXT, own.encode())) == [(Text, own)]
            frames.append(server.encode_shared(message))
            assert events(client, frames[-1]) == [(Text, text)]
            assert events(client, server.encode(TEXT, own.encode())) == [(Text, own)]
        assert frames[0] is frames[1]
        assert frames[2] is frames[3]
        assert len(message.encoded) == 3


def test_a_short_shared_message_is_the_same_for_all() -> None:
    message = Outgoing(b"short")
    assert with_deflate().encode_shared(message) is opened().encode_shared(message)


def test_a_shared_message_does_not_go_behind_the_end() -> None:
    for socket in (opened(), as_client()):
        socket.close()
        with pytest.raises(RuntimeError):
            socket.encode_shared(Outgoing("late"))
    lost = opened()
    lost.lost()
    with pytest.raises(RuntimeError):
        lost.encode_shared(Outgoing("late"))
