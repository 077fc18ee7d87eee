"""RFC 6455 §5.5.1, §7: how a WebSocket is closed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resource_server.protocol.frames import Violation
from resource_server.protocol.websocket import (
    FRAMES_PER_TURN,
    State,
    WebSocket,
    WebSocketOpCode,
    may_be_received,
    may_be_sent,
)
from tests.protocol.websocket_feeding import (
    BINARY,
    CLOSE,
    CONTINUATION,
    KEY,
    LIMIT,
    PING,
    TEXT,
    as_client,
    close_frame,
    events,
    feed,
    frame,
    opened,
    outcome_of,
    refusal,
    state_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSED_EVENT = (WebSocketOpCode.Close, "")
#: RFC 6455 §7.4.1, the IANA registry (1012 to 1014), and §7.4.2
ON_THE_WIRE = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}


def close_of(socket: WebSocket) -> tuple[int | None, str]:
    return socket.close_code, socket.close_reason


def closing(socket: WebSocket) -> WebSocket:
    socket.close()
    return socket


# §7.4: codes


def test_which_codes_are_on_the_wire() -> None:
    for code in range(65536):
        assert may_be_received(code) == (code in ON_THE_WIRE), code
        assert may_be_sent(code, client=True) == (code in ON_THE_WIRE), code
        assert may_be_sent(code, client=False) == (code in ON_THE_WIRE - {1010}), code
    assert not may_be_sent(-1, client=True)
    assert not may_be_sent(65536, client=True)


@pytest.mark.no_cover  # thousands of times the same lines
def test_every_code_is_judged_when_it_is_received() -> None:
    for code in range(65536):
        outcome = feed([close_frame(code, key=b"")], as_client)
        if code in ON_THE_WIRE:
            assert (outcome.error, outcome.close_code) == (None, code)
            assert outcome.events == [CLOSED_EVENT]
        else:
            assert (outcome.error, outcome.close_code) == (1002, 1002)
            assert outcome.events == []


@pytest.mark.parametrize("client", [False, True])
def test_every_code_is_judged_before_it_is_sent(client: bool) -> None:
    refused = []
    socket = opened(client=client)
    for code in range(-1, 65538):
        try:
            written = socket.close(code)
        except ValueError as error:
            refused.append((code, str(error).startswith(f"{code} "), state_of(socket)))
        else:
            assert events(opened(client=not client), written) == [CLOSED_EVENT]
            socket = opened(client=client)
    codes = ON_THE_WIRE if client else ON_THE_WIRE - {1010}
    assert refused == [(code, True, State.OPEN) for code in range(-1, 65538) if code not in codes]


# §5.5.1: the Close frame


@pytest.mark.parametrize(
    ("make", "key"), [(opened, KEY), (as_client, b"")], ids=["server", "client"]
)
@pytest.mark.parametrize(
    ("code", "reason"),
    [(None, ""), (1000, ""), (1001, "going away"), (4999, "ä€𝄞"), (3000, "x" * 123)],
)
def test_a_close_frame_tells_a_code_and_a_reason(
    make: Callable[[], WebSocket], key: bytes, code: int | None, reason: str
) -> None:
    outcome = outcome_of(close_frame(code, reason.encode(), key=key), make)
    assert outcome.events == [CLOSED_EVENT]
    assert outcome.error is None
    # §7.1.5: 1005 if there is none
    assert outcome.close_code == code or (outcome.close_code == 1005 and code is None)
    assert outcome.close_reason == reason


def test_half_a_code_is_refused() -> None:
    assert refusal(frame(CLOSE, b"\x03")) == (1002, 2)


@pytest.mark.parametrize("reason", [b"\xff", b"abc\xe2\x82", b"\xed\xa0\x80", b"\xc0\x80"])
def test_a_reason_is_utf_8(reason: bytes) -> None:
    assert refusal(close_frame(1000, reason))[0] == 1007


def test_a_wrong_code_is_told_before_a_wrong_reason() -> None:
    assert refusal(close_frame(1005, b"\xff"))[0] == 1002


# §7.1.2: beginning to close


@pytest.mark.parametrize(
    ("code", "reason", "payload"),
    [
        (None, "", b""),
        (1000, "", b"\x03\xe8"),
        (1001, "bye", b"\x03\xe9bye"),
        (4000, "€" * 41, b"\x0f\xa0" + "€".encode() * 41),
    ],
)
def test_a_close_frame_is_written(code: int | None, reason: str, payload: bytes) -> None:
    assert opened().close(code, reason) == frame(CLOSE, payload, key=b"")
    masked = opened(client=True).close(code, reason)
    assert masked == frame(CLOSE, payload, key=masked[2:6])


def test_an_ordinary_close_is_1000() -> None:
    assert opened().close() == close_frame(1000, key=b"")


@pytest.mark.parametrize(
    ("code", "reason"),
    [(None, "why"), (1000, "x" * 124), (1000, "€" * 42), (1000, "\ud800"), (1005, ""), (10, "")],
)
def test_what_cannot_be_told_is_refused(code: int | None, reason: str) -> None:
    for socket in (opened(), closing(opened())):
        state = state_of(socket)
        with pytest.raises(ValueError):  # noqa: PT011 - each says something of its own
            socket.close(code, reason)
        assert state_of(socket) is state


def test_only_one_close_frame_is_sent() -> None:
    socket = opened()
    assert socket.close(1000)
    assert socket.close(1001) == b""
    assert socket.fail(Violation(1002, "too late")) == b""
    assert events(socket, close_frame(1000)) == [CLOSED_EVENT]
    assert socket.answer_close() == b""


# §5.5.1, §7.1.1: answering


@pytest.mark.parametrize("code", [1000, 1001, 1010, 1014, 3000, 4999])
def test_a_close_frame_is_answered_with_its_code(code: int) -> None:
    socket = opened()
    assert events(socket, close_frame(code, b"because")) == [CLOSED_EVENT]
    assert socket.answer_close() == close_frame(code, key=b"")
    assert socket.answer_close() == b""


def test_a_close_frame_without_code_is_answered_without() -> None:
    socket = opened()
    assert events(socket, close_frame()) == [CLOSED_EVENT]
    assert socket.close_code == 1005
    assert socket.answer_close() == close_frame(key=b"")


def test_there_is_nothing_to_answer_before() -> None:
    socket = opened()
    assert socket.answer_close() == b""
    assert not socket.close_sent


# §7.1.7: failing


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x00", 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(BINARY, length=LIMIT + 1), 1009),
    ],
)
def test_a_broken_rule_is_told(data: bytes, code: int) -> None:
    socket = opened()
    socket.receive(data)
    with pytest.raises(Violation) as caught:
        socket.next_event()
    assert (socket.close_code, socket.close_reason) == (code, caught.value.reason)
    assert state_of(socket) is State.OPEN
    assert socket.fail(caught.value) == close_frame(code, caught.value.reason.encode(), key=b"")
    assert state_of(socket) is State.CLOSING
    assert socket.close_sent
    assert not socket.close_received
    assert socket.fail(caught.value) == b""
    socket.lost()
    assert socket.close_code == code


# §5.5.1: nothing is sent behind a Close frame


@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING])
@pytest.mark.parametrize("end", [WebSocket.close, WebSocket.lost])
def test_nothing_is_sent_behind_the_end(opcode: int, end: Callable[[WebSocket], object]) -> None:
    socket = opened()
    end(socket)
    with pytest.raises(RuntimeError):
        socket.encode(opcode, b"late")


def test_messages_may_be_sent_until_the_answer() -> None:
    socket = opened()
    events(socket, close_frame(1000))
    assert socket.encode(TEXT, b"bye") == frame(TEXT, b"bye", key=b"")
    socket.answer_close()
    with pytest.raises(RuntimeError):
        socket.encode(TEXT, b"late")


# §4, §7.1.3, §7.1.4: the states

STEPS: dict[str, Callable[[WebSocket], object]] = {
    "open": lambda socket: socket.open(),
    "close": lambda socket: socket.close(),
    "fail": lambda socket: socket.fail(Violation(1011, "no")),
    "receive": lambda socket: events(socket, frame(TEXT, b"a") + frame(PING)),
    "receive close": lambda socket: events(socket, close_frame(1000)),
    "answer": lambda socket: socket.answer_close(),
    "lost": lambda socket: socket.lost(),
}
#: state → what moves it on; all else leaves it
MOVES = {
    State.CONNECTING: {
        "open": State.OPEN,
        "close": State.CLOSING,
        "fail": State.CLOSING,
        "lost": State.CLOSED,
    },
    State.OPEN: {
        "close": State.CLOSING,
        "fail": State.CLOSING,
        "receive close": State.CLOSING,
        "lost": State.CLOSED,
    },
    State.CLOSING: {"lost": State.CLOSED},
    State.CLOSED: {},
}
WAYS: list[list[str]] = [
    [],
    ["open"],
    ["close"],
    ["close", "open"],
    ["open", "close"],
    ["open", "fail"],
    ["open", "receive close"],
    ["open", "receive close", "answer"],
    ["open", "close", "receive close"],
    ["lost"],
    ["open", "lost"],
    ["close", "lost"],
    ["open", "close", "receive close", "lost"],
]


@pytest.mark.parametrize("way", WAYS, ids=" ".join)
@pytest.mark.parametrize("step", STEPS)
def test_the_states(way: list[str], step: str) -> None:
    socket = WebSocket(max_message_size=LIMIT)
    state = State.CONNECTING
    for done in way:
        STEPS[done](socket)
        state = MOVES[state].get(done, state)
        assert state_of(socket) is state
    STEPS[step](socket)
    assert state_of(socket) is MOVES[state].get(step, state)


def test_a_close_frame_may_follow_the_handshake_at_once() -> None:
    socket = WebSocket(max_message_size=LIMIT)
    assert socket.close(1008) == close_frame(1008, key=b"")
    socket.open()
    assert state_of(socket) is State.CLOSING
    assert events(socket, frame(TEXT, b"a") + close_frame(1008)) == [CLOSED_EVENT]


@pytest.mark.parametrize("begun", [b"", frame(TEXT, b"a", final=False), close_frame(1000)[:-1]])
def test_a_transport_that_is_lost_without_a_close_frame_is_1006(begun: bytes) -> None:
    socket = opened()
    assert close_of(socket) == (None, "")
    assert events(socket, begun) == []
    socket.lost()
    assert state_of(socket) is State.CLOSED
    assert close_of(socket) == (1006, "")
    assert socket.close() == b""
    assert not socket.close_sent


def test_the_code_stays_when_the_transport_is_closed() -> None:
    socket = opened()
    events(socket, close_frame(4000, b"done"))
    socket.lost()
    assert (socket.close_code, socket.close_reason) == (4000, "done")


def test_our_own_code_is_not_the_one_of_the_peer() -> None:
    socket = opened()
    socket.close(1001)
    assert close_of(socket) == (None, "")
    events(socket, close_frame(1000))
    assert close_of(socket) == (1000, "")
    assert (socket.close_sent, socket.close_received) == (True, True)


@pytest.mark.parametrize("client", [False, True])
def test_a_ping_is_answered_until_both_sides_have_closed(client: bool) -> None:
    """RFC 6455 §5.5.2: unless a Close frame has been received."""
    socket = opened(client=client)
    assert socket.pong(b"a").endswith(b"a") or client
    assert len(socket.pong(b"a")) == (7 if client else 3)
    socket.close(1000)
    assert socket.pong(b"b")[0] == 0x8A
    socket.receive(close_frame(1000, key=b"" if client else KEY))
    socket.next_event()
    assert socket.pong(b"c") == b""


def test_a_ping_is_not_answered_when_the_transport_is_gone() -> None:
    socket = opened()
    socket.lost()
    assert socket.pong(b"late") == b""


def test_very_many_frames_are_read_in_turns() -> None:
    socket = opened()
    empty = frame(CONTINUATION, b"", final=False)
    socket.receive(frame(TEXT, b"a", final=False) + empty * (2 * FRAMES_PER_TURN))
    turns = 1
    while socket.next_event() is None and socket.paused:
        turns += 1
    assert turns == 3
    assert events(socket, frame(CONTINUATION, b"b")) == [(WebSocketOpCode.Text, "ab")]


def test_messages_behind_our_close_frame_are_read_one_in_a_turn() -> None:
    socket = opened()
    socket.close(1000)
    socket.receive(frame(TEXT, b"a") * 3)
    assert [(socket.next_event(), socket.paused) for _ in range(3)] == [
        (None, True),
        (None, True),
        (None, False),
    ]
