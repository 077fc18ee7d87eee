"""Conformance to RFC 6455 §5: framing, pings, reserved bits and opcodes, fragments, limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.rawclient import PATIENCE
from tests.wsclient import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    WSClient,
    close_frame,
    fragments,
    frame,
    split,
)
from tests.wsconformance import LIMIT, PLAYED, Case, Delivery, Echo, every

if TYPE_CHECKING:
    from tests.conftest import Serve

HELLO = b"Hello, world!"
ODD = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"
ECHOED = [Frame(TEXT, HELLO)]


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def address(echo: Echo, serve: Serve) -> tuple[str, int]:
    return serve(echo).address


def framing() -> list[Case]:
    """Group 1."""
    return [
        Case(f"{group}-{size}", [frame(opcode, byte * size)], [Frame(opcode, byte * size)])
        for group, opcode, byte in (("1.1", TEXT, b"*"), ("1.2", BINARY, b"\xfe"))
        for size in (0, 1, 124, 125, 126, 127, 128, 65534, 65535, 65536, 65537)
    ]


def pings() -> list[Case]:
    """Group 2."""
    numbered = [b"payload-%d" % number for number in range(10)]
    ten = Case(
        "2.10", [frame(PING, text) for text in numbered], [Frame(PONG, text) for text in numbered]
    )
    unasked = frame(PONG, b"unsolicited")
    return [
        *[
            Case(f"2.{number}", [frame(PING, payload)], [Frame(PONG, payload)])
            for number, payload in ((1, b""), (2, HELLO), (3, ODD), (4, b"\xfe" * 125))
        ],
        Case("2.5", [frame(PING, b"\xfe" * 126)], [], 1002),
        Case("2.5-pong", [frame(PONG, b"\xfe" * 126)], [], 1002),
        Case("2.5-large", [frame(PING, b"\xfe" * 65536)], [], 1002),
        Case("2.7", [frame(PONG)], []),
        Case("2.8", [unasked], []),
        Case("2.9", [unasked, frame(PING, HELLO)], [Frame(PONG, HELLO)]),
        ten,
    ]


def reserved_bits() -> list[Case]:
    """Group 3: no extension has been agreed on that gives them a meaning."""
    cases = []
    for rsv in range(1, 8):
        for opcode, payload in (
            (TEXT, HELLO),
            (BINARY, ODD),
            (PING, HELLO),
            (PONG, HELLO),
            (CLOSE, b"\x03\xe8"),
        ):
            bad = frame(opcode, payload, rsv=rsv)
            cases.append(Case(f"3-rsv{rsv}-{opcode}", [bad], [], 1002))
            cases.append(
                Case(f"3-rsv{rsv}-{opcode}-later", [frame(TEXT, HELLO), bad], ECHOED, 1002)
            )
        first = frame(TEXT, HELLO, final=False)
        cases.append(Case(f"3-rsv{rsv}-continued", [first, frame(0, HELLO, rsv=rsv)], [], 1002))
    return cases


def reserved_opcodes() -> list[Case]:
    """Group 4."""
    cases = []
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for payload in (b"", HELLO):
            bad = frame(opcode, payload)
            size = len(payload)
            cases.append(Case(f"4-{opcode}-{size}", [bad], [], 1002))
            cases.append(Case(f"4-{opcode}-{size}-later", [frame(TEXT, HELLO), bad], ECHOED, 1002))
            cases.append(
                Case(
                    f"4-{opcode}-{size}-within",
                    [frame(TEXT, HELLO, final=False), bad],
                    [],
                    1002,
                )
            )
    return cases


def fragmented() -> list[Case]:
    """Group 5."""
    one, two, three = b"fragment1", b"fragment2", b"fragment3"
    halves = fragments(TEXT, [one, two])
    whole = Frame(TEXT, one + two)
    ping, pong = frame(PING, HELLO), Frame(PONG, HELLO)
    stray, stray_final = frame(CONTINUATION, three, final=False), frame(CONTINUATION, three)
    text = frame(TEXT, HELLO)
    return [
        Case("5.1", fragments(PING, [one, two]), [], 1002),
        Case("5.1-alone", [frame(PING, one, final=False)], [], 1002),
        Case("5.2", fragments(PONG, [one, two]), [], 1002),
        Case("5.2-close", fragments(CLOSE, [b"\x03\xe8", two]), [], 1002),
        Case("5.3", halves, [whole]),
        Case("5.3-binary", fragments(BINARY, [ODD, one]), [Frame(BINARY, ODD + one)]),
        Case("5.6", [halves[0], ping, halves[1]], [pong, whole]),
        Case("5.6-pong", [halves[0], frame(PONG, HELLO), halves[1]], [whole]),
        Case("5.9", [stray_final, text], [], 1002),
        Case("5.9-empty", [frame(CONTINUATION), text], [], 1002),
        Case("5.12", [stray, text], [], 1002),
        Case("5.12-behind", [text, stray_final], ECHOED, 1002),
        Case("5.15", [*halves, stray, text], [whole], 1002),
        Case("5.16", [stray, *halves, stray, *halves], [], 1002),
        Case("5.17", [stray_final, *halves, stray_final, *halves], [], 1002),
        Case("5.18", [halves[0], frame(TEXT, two)], [], 1002),
        Case("5.18-binary", [halves[0], frame(BINARY, two)], [], 1002),
        Case("5.18-not-final", [halves[0], frame(TEXT, two, final=False)], [], 1002),
        Case(
            "5.19",
            [
                *fragments(TEXT, [one, two, three])[:2],
                frame(PING, b"one"),
                *[frame(CONTINUATION, piece, final=False) for piece in (three, one)],
                frame(PING, b"two"),
                frame(CONTINUATION, two),
            ],
            [
                Frame(PONG, b"one"),
                Frame(PONG, b"two"),
                Frame(TEXT, one + two + three + one + two),
            ],
        ),
        Case("5-empty", fragments(TEXT, [b"", b"", b""]), [Frame(TEXT)]),
        Case("5-empty-binary", fragments(BINARY, [b"", b""]), [Frame(BINARY)]),
        Case("5-empty-first", fragments(TEXT, [b"", one, b""]), [Frame(TEXT, one)]),
        Case("5-empty-last", fragments(TEXT, [one, two, b""]), [whole]),
        Case("5-bytes", fragments(TEXT, split(HELLO * 9, 1)), [Frame(TEXT, HELLO * 9)]),
        Case("5-then-another", [*halves, text, *halves], [whole, *ECHOED, whole]),
        Case(
            "5-pings-in-each-gap",
            [data for half in halves[:1] for data in (half, *[ping] * 20)] + halves[1:],
            [*[pong] * 20, whole],
        ),
        Case("10.1", fragments(TEXT, split(b"*" * 65536, 1300)), [Frame(TEXT, b"*" * 65536)]),
    ]


def masking_and_lengths() -> list[Case]:
    """RFC 6455 §5.1: a client masks each frame; §5.2: a length is as short as it can be."""
    return [
        *[
            Case(f"unmasked-{opcode}", [frame(opcode, b"\x03\xe8", mask=None)], [], 1002)
            for opcode in (TEXT, BINARY, CLOSE, PING, PONG)
        ],
        Case(
            "unmasked-continuation",
            [frame(TEXT, HELLO, final=False), frame(CONTINUATION, HELLO, mask=None)],
            [],
            1002,
        ),
        Case("unmasked-later", [frame(TEXT, HELLO), frame(TEXT, HELLO, mask=None)], ECHOED, 1002),
        Case("mask-of-zeros", [frame(TEXT, HELLO, mask=bytes(4))], ECHOED),
        Case("mask-of-ones", [frame(TEXT, HELLO, mask=b"\xff" * 4)], ECHOED),
        Case(
            "masks-differ",
            [frame(TEXT, HELLO, mask=bytes([n, 255 - n, 7 * n % 256, 1])) for n in range(50)],
            ECHOED * 50,
        ),
        *[
            Case(f"length-{size}-in-16", [frame(BINARY, b"x" * size, form=16)], [], 1002)
            for size in (0, 1, 125)
        ],
        *[
            Case(f"length-{size}-in-64", [frame(BINARY, b"x" * size, form=64)], [], 1002)
            for size in (0, 125, 126, 65535)
        ],
        Case("length-of-ping-in-16", [frame(PING, HELLO, form=16)], [], 1002),
        Case("length-of-ping-in-64", [frame(PING, HELLO, form=64)], [], 1002),
        Case("length-with-top-bit", [frame(BINARY, declared=2**63)], [], 1002),
        Case("length-all-ones", [frame(BINARY, declared=2**64 - 1)], [], 1002),
        Case("length-of-2-to-the-62", [frame(BINARY, declared=2**62)], [], 1009),
        Case("length-of-2-to-the-32", [frame(TEXT, declared=2**32)], [], 1009),
        Case("length-beyond-the-limit", [frame(TEXT, declared=LIMIT + 1)], [], 1009),
        Case(
            "lengths-beyond-the-limit",
            [frame(TEXT, HELLO, final=False), frame(CONTINUATION, declared=LIMIT)],
            [],
            1009,
        ),
    ]


@pytest.mark.parametrize(("path", "delivery"), PLAYED)
@every(framing() + pings() + reserved_bits() + reserved_opcodes())
def test_frames(
    case: Case, address: tuple[str, int], path: str, delivery: Delivery, echo: Echo
) -> None:
    case.play(address, path, delivery, echo)


@pytest.mark.parametrize(("path", "delivery"), PLAYED)
@every(fragmented() + masking_and_lengths())
def test_fragments(
    case: Case, address: tuple[str, int], path: str, delivery: Delivery, echo: Echo
) -> None:
    case.play(address, path, delivery, echo)


#: What is wrong already when this much of a frame has come.
BEGINNINGS = {
    "reserved opcode": (b"\x83", 1002),
    "reserved control opcode": (b"\x8f", 1002),
    "reserved bit": (b"\xc1", 1002),
    "reserved bit of a control frame": (b"\xa9", 1002),
    "fragmented ping": (b"\x09", 1002),
    "fragmented close": (b"\x08", 1002),
    "nothing to continue": (b"\x80", 1002),
    "nothing to continue, and more to come": (b"\x00", 1002),
    "text within a message": (frame(BINARY, b"a", final=False) + b"\x81", 1002),
    "binary within a message": (frame(BINARY, b"a", final=False) + b"\x02", 1002),
    "not masked": (b"\x81\x05", 1002),
    "long ping": (b"\x89\xfe", 1002),
    "very long pong": (b"\x8a\xff", 1002),
    "close with one byte": (b"\x88\x81", 1002),
    "short length in 16 bits": (b"\x82\xfe\x00\x7d", 1002),
    "short length in 64 bits": (b"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff", 1002),
    "negative length": (b"\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00", 1002),
    "large message": (b"\x81\xff" + (LIMIT + 1).to_bytes(8, "big"), 1009),
    "large fragment": (
        frame(TEXT, b"ab", final=False) + b"\x80\xff" + (LIMIT - 1).to_bytes(8, "big"),
        1009,
    ),
}


@pytest.mark.parametrize("name", BEGINNINGS)
@pytest.mark.parametrize("path", ["/", "/worker", "/session"])
def test_what_is_wrong_is_told_without_waiting_for_more(
    address: tuple[str, int], echo: Echo, path: str, name: str
) -> None:
    beginning, code = BEGINNINGS[name]
    with WSClient(address, path) as client:
        assert client.echo("before") == "before"
        client.send(beginning)
        assert client.read_close()[0] == code
        assert client.is_ended()
    assert echo.ends.get(timeout=PATIENCE)[0] == code


@pytest.mark.parametrize("name", BEGINNINGS)
def test_half_of_what_is_wrong_is_not_told_yet(address: tuple[str, int], name: str) -> None:
    """Without its last byte each of them might become a good frame."""
    beginning, code = BEGINNINGS[name]
    with WSClient(address) as client:
        client.send(beginning[:-1])
        with WSClient(address) as other:
            assert other.echo("meanwhile") == "meanwhile"
        client.send(beginning[-1:])
        assert client.read_close()[0] == code


@pytest.mark.parametrize("path", ["/", "/worker", "/session"])
def test_ping_is_answered_while_a_message_comes(address: tuple[str, int], path: str) -> None:
    """5.19: at once, not with the message's last fragment."""
    with WSClient(address, path) as client:
        client.send(frame(TEXT, b"a", final=False))
        client.ping(b"first")
        client.send(frame(CONTINUATION, b"b", final=False))
        client.ping(b"second")
        client.send(frame(CONTINUATION, b"c"))
        assert client.read_text() == "abc"


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("kib", [64, 256, 1024, 4096, 16384])
def test_large_messages(address: tuple[str, int], opcode: int, kib: int) -> None:
    """9.1 and 9.2."""
    payload = (b"BAsd7&jh23" * (kib * 103))[: kib * 1024]
    with WSClient(address) as client:
        client.send(frame(opcode, payload))
        assert client.read_message() == (opcode, payload)
        assert client.leave() == (1000, "")


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [64, 256, 1024, 4096, 16384, 65536, 262144])
def test_large_messages_in_fragments(address: tuple[str, int], opcode: int, size: int) -> None:
    """9.3 and 9.4."""
    payload = (b"BAsd7&jh23" * 104858)[: 1024 * 1024]
    with WSClient(address) as client:
        client.send(b"".join(fragments(opcode, split(payload, size))))
        assert client.read_message() == (opcode, payload)
        assert client.leave() == (1000, "")


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [64, 128, 256, 512, 1024, 2048])
def test_large_messages_in_chops(address: tuple[str, int], opcode: int, size: int) -> None:
    """9.5 and 9.6."""
    payload = (b"BAsd7&jh23" * 26215)[: 256 * 1024]
    with WSClient(address) as client:
        for piece in split(frame(opcode, payload), size):
            client.send(piece)
        assert client.read_message() == (opcode, payload)
        assert client.leave() == (1000, "")


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("size", [0, 16, 64, 256, 1024, 4096])
@pytest.mark.parametrize("path", ["/", "/worker", "/session"])
def test_many_messages(address: tuple[str, int], path: str, opcode: int, size: int) -> None:
    """9.7 and 9.8."""
    payload = b"x" * size
    sent = frame(opcode, payload)
    with WSClient(address, path) as client:
        for _ in range(300):
            client.send(sent)
            assert client.read_message() == (opcode, payload)
        assert client.leave() == (1000, "")


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_of_the_size_that_is_allowed(
    address: tuple[str, int], echo: Echo, opcode: int
) -> None:
    with WSClient(address, "/small") as client:
        for pieces in ([b"x" * 1000], [b"x" * 500] * 2, [b"x"] * 1000, [b""] * 9 + [b"x" * 1000]):
            client.send(b"".join(fragments(opcode, pieces)))
            assert client.read_message() == (opcode, b"x" * 1000)
        client.send(frame(PING, b"y" * 125))
        assert client.read_frame() == Frame(PONG, b"y" * 125)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize(
    "pieces",
    [[1001], [65536], [1000, 1], [1000, 0, 1], [1] * 1001, [0] * 9 + [500, 501]],
    ids=["one", "large", "two", "three", "bytes", "empty ones"],
)
@pytest.mark.parametrize("delivery", list(Delivery))
def test_a_larger_one_is_refused(
    address: tuple[str, int], echo: Echo, opcode: int, pieces: list[int], delivery: Delivery
) -> None:
    sent = fragments(opcode, [b"x" * size for size in pieces])
    case = Case("large", [frame(TEXT, HELLO), *sent], ECHOED, 1009)
    case.play(address, "/small", delivery, echo)


def test_one_closes_without_a_word_when_the_client_is_gone(
    address: tuple[str, int], echo: Echo
) -> None:
    with WSClient(address) as client:
        client.send(frame(TEXT, HELLO)[:7])
    assert echo.ends.get(timeout=PATIENCE)[0] == 1006
    with WSClient(address) as client:
        client.send(frame(TEXT, HELLO, final=False) + close_frame(1001))
        assert client.read_close() == (1001, "")
        assert client.is_ended()
    assert echo.ends.get(timeout=PATIENCE) == (1001, "")
