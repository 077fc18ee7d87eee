"""What waits to be sent on a WebSocket: its order, its size, and what may be dropped."""

from __future__ import annotations

import random

from resource_server.engine.outbox import JOIN_SIZE, Outbox


def sent(outbox: Outbox, step: int = 1 << 30) -> bytes:
    """Everything that goes out, as a socket takes it that takes ``step`` bytes at a time."""
    data = b""
    while outbox:
        tried = outbox.next()
        taken = min(step, len(tried))
        data += tried[:taken]
        outbox.took(taken)
    return data


def test_frames_go_out_in_their_order_however_little_is_taken_at_a_time() -> None:
    frames = [b"%d;" % number for number in range(100)]
    for step in (1, 2, 3, 50, 1000):
        outbox = Outbox()
        for frame in frames:
            outbox.put(frame)
        assert outbox.size == len(b"".join(frames))
        assert sent(outbox, step) == b"".join(frames)
        assert not outbox
        assert outbox.size == 0


def test_small_frames_go_out_together_and_a_large_one_is_not_copied() -> None:
    outbox = Outbox()
    outbox.put(b"a" * 10)
    outbox.put(b"b" * 10)
    large = b"c" * JOIN_SIZE
    outbox.put(large)
    assert outbox.next() == b"a" * 10 + b"b" * 10
    outbox.took(20)
    assert outbox.next().obj is large


def test_what_was_tried_is_tried_again_whatever_has_come_meanwhile() -> None:
    outbox = Outbox()
    outbox.put(b"one")
    tried = bytes(outbox.next())
    outbox.put_pong(b"pong")
    outbox.put(b"two")
    outbox.drop(0)
    assert outbox.next() == tried
    assert sent(outbox) == b"onepong"


def test_of_pongs_the_last_goes_out_before_other_frames() -> None:
    outbox = Outbox()
    outbox.put(b"data")
    outbox.put_pong(b"first")
    outbox.put_pong(b"2nd")
    assert outbox.size == 7
    assert sent(outbox) == b"2nddata"


def test_the_oldest_data_is_dropped_and_nothing_else() -> None:
    outbox = Outbox()
    outbox.put_rest(memoryview(b"rest"))
    outbox.put(b"old")
    outbox.put(b"ping", data=False)
    outbox.put(b"older than new")
    outbox.put(b"new")
    outbox.drop(12)
    assert outbox.size == 11
    assert sent(outbox) == b"restpingnew"


def test_dropping_stops_where_there_is_room_enough() -> None:
    outbox = Outbox()
    for frame in (b"aa", b"bb", b"cc"):
        outbox.put(frame)
    outbox.drop(6)
    assert outbox.size == 6
    outbox.drop(5)
    assert sent(outbox) == b"bbcc"


def test_the_size_is_that_of_all_that_goes_out() -> None:
    chance = random.Random(1)
    for _ in range(200):
        outbox = Outbox()
        for _ in range(chance.randrange(30)):
            deed = chance.randrange(5)
            frame = b"x" * chance.choice([1, 5, 100, JOIN_SIZE])
            if deed == 0:
                outbox.put_pong(frame)
            elif deed == 1 and outbox:
                outbox.took(chance.randrange(1, len(outbox.next()) + 1))
            elif deed == 2:
                outbox.drop(chance.randrange(20_000))
            else:
                outbox.put(frame, data=deed == 3)
        size = outbox.size
        assert len(sent(outbox)) == size
