"""What a peer can make us do: work linear in what it sends, and memory within the limit.

Work is counted, not timed: the bytes that are copied, and the calls that are made.
"""

from __future__ import annotations

import sys
import tracemalloc
from codecs import utf_8_decode
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest

from resource_server.protocol import websocket
from resource_server.protocol.frames import Violation, apply_mask
from tests.protocol.websocket_feeding import (
    BINARY,
    CONTINUATION,
    KEY,
    PING,
    TEXT,
    deflate,
    events,
    frame,
    opened,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from resource_server.protocol.websocket import WebSocket


@pytest.fixture(autouse=True, scope="module")
def tables() -> None:
    """Have the tables made that large payloads are masked with: once, and for all WebSockets."""
    apply_mask(bytes(10_000), KEY)


class Work:
    copied = 0
    calls = 0


class Metered(bytes):
    """Bytes that count how many of them are copied."""

    work: Work

    def of(self, data: bytes) -> Metered:
        self.work.copied += len(data)
        copy = Metered(data)
        copy.work = self.work
        return copy

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        return self.of(part) if isinstance(part, bytes) else part

    def __add__(self, other: Any) -> Metered:
        return self.of(super().__add__(other))


def measure(
    pieces: Iterable[bytes], monkeypatch: pytest.MonkeyPatch, *, compression: bool = False
) -> Work:
    """Count the work that feeding some pieces takes."""
    work = Work()
    metered = []
    for piece in pieces:
        metered.append(Metered(piece))
        metered[-1].work = work
    socket = opened(limit=1 << 20, compression=compression)

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(data: bytes, *args: Any) -> Any:
            work.copied += len(data)
            return function(data, *args)

        return counted

    def count(frame: object, event: str, argument: object) -> None:
        if "call" in event:
            work.calls += 1

    with monkeypatch.context() as patch:
        patch.setattr(websocket, "apply_mask", counting(apply_mask))
        patch.setattr(websocket, "utf_8_decode", counting(utf_8_decode))
        before = sys.getprofile()
        sys.setprofile(count)
        try:
            for piece in metered:
                events(socket, piece)
        finally:
            sys.setprofile(before)
    return work


def singly(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def one_byte_fragments(n: int) -> bytes:
    parts = [frame(CONTINUATION, b"\xa4" if at % 2 else b"\xc3", final=False) for at in range(n)]
    return frame(TEXT, final=False) + b"".join(parts[: n // 7])


def compressed(n: int) -> bytes:
    payload = deflate(client=True).compress(bytes(at * at % 251 for at in range(n)))
    return frame(BINARY, payload, rsv=4)


STREAMS: list[tuple[str, Callable[[int], bytes]]] = [
    ("small messages", lambda n: frame(TEXT, b"a" * 16) * (n // 16)),
    ("middle messages", lambda n: frame(TEXT, b"a" * 200) * (n // 200)),
    ("one message", lambda n: frame(TEXT, b"a" * n)),
    ("one text", lambda n: frame(TEXT, "ä".encode() * (n // 2))),
    ("one text of four bytes", lambda n: frame(TEXT, "𝄞".encode() * (n // 4))),
    ("binary", lambda n: frame(BINARY, b"\xff" * n)),
    ("one-byte fragments", one_byte_fragments),
    ("empty fragments", lambda n: frame(TEXT, final=False) + frame(0, final=False) * (n // 6)),
    ("pings", lambda n: frame(PING) * (n // 6)),
    ("large pings", lambda n: frame(PING, bytes(125)) * (n // 125)),
    ("never a head", lambda n: frame(TEXT, b"a" * n)[:-1]),
    ("compressed", compressed),
]


@pytest.mark.parametrize(("name", "make"), STREAMS, ids=[name for name, _ in STREAMS])
@pytest.mark.parametrize("cut", [lambda data: [data], singly], ids=["whole", "dripping"])
def test_work_grows_with_the_bytes_and_no_faster(
    name: str,
    make: Callable[[int], bytes],
    cut: Callable[[bytes], list[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small, large = make(2000), make(8000)
    little = measure(cut(small), monkeypatch, compression=name == "compressed")
    much = measure(cut(large), monkeypatch, compression=name == "compressed")
    grown = len(large) / len(small)
    assert much.copied <= 1.2 * grown * little.copied + 500
    assert much.calls <= 1.2 * grown * little.calls + 100
    # Only a control frame of at most 139 bytes is looked at again with each of its bytes.
    assert much.copied <= (3 * 139 if "pings" in name else 20) * len(large)


def _grown(socket: WebSocket, pieces: Iterable[bytes]) -> tuple[int, int]:
    """The memory that is kept, and the most that was taken, in bytes."""
    socket.next_event()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for piece in pieces:
            socket.receive(piece)
            while socket.next_event() is None and socket.paused:
                pass
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return after - before, peak - before


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("bytes", singly(frame(TEXT, b"a" * 10_000)[:-1])),
        ("half characters", singly(frame(TEXT, "ä".encode() * 5_000)[:-1])),
        ("fragments", [frame(TEXT, final=False), *repeat(frame(0, b"a", final=False), 10_000)]),
        ("many fragments", [frame(TEXT, final=False), frame(0, b"a", final=False) * 10_000]),
    ],
)
def test_a_message_in_pieces_takes_its_size(name: str, pieces: list[bytes]) -> None:
    kept, most = _grown(opened(limit=10_000), pieces)
    assert kept < 10_000 * 9 / 8 + 2000
    assert most < 2 * 10_000 * 9 / 8 + 2000


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("empty fragments", repeat(frame(CONTINUATION, final=False), 5_000)),
        ("all at once", [frame(CONTINUATION, final=False) * 5_000]),
    ],
)
def test_empty_fragments_take_nothing(name: str, pieces: Iterable[bytes]) -> None:
    socket = opened()
    events(socket, frame(TEXT, final=False))
    kept, most = _grown(socket, pieces)
    assert kept < 500
    assert most < 2000


def test_half_a_ping_takes_little() -> None:
    kept, _ = _grown(opened(), [*singly(frame(PING, bytes(125))[:-1])])
    assert kept < 500


def test_what_was_received_is_not_kept_with_the_part_that_is_needed() -> None:
    socket = opened()
    data = frame(TEXT, b"a" * 60_000) + frame(PING, b"half")[:-1]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        socket.receive(bytes(bytearray(data)))
        assert len(events(socket)) == 1
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1000


def test_a_bomb_is_not_inflated() -> None:
    payload = deflate(client=True).compress(bytes(20_000_000))
    assert len(payload) < 100_000
    socket = opened(limit=50_000, compression=True)
    data = frame(BINARY, payload, rsv=4)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        socket.receive(data)
        with pytest.raises(Violation) as caught:
            socket.next_event()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code == 1009
    assert peak - before < 500_000


def test_an_idle_websocket_takes_little() -> None:
    socket = opened()
    events(socket, frame(TEXT, b"a" * 5000) + frame(PING))
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        idle = [opened() for _ in range(100)]
        for one in idle:
            events(one, frame(TEXT, b"a" * 5000) + frame(PING))
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / len(idle) < 300
