"""Conformance to RFC 6455 §8.1 (Autobahn's group 6): text is UTF-8, or ends the connection.

What is well-formed is told by a table of the Unicode Standard that is written down here again, so
that nothing depends on Python's own decoder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.rawclient import PATIENCE
from tests.wsclient import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    WSClient,
    fragments,
    frame,
    split,
)
from tests.wsconformance import PLAYED, Case, Delivery, Echo, every

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Serve

_TAIL = (0x80, 0xBF)
#: The Unicode Standard, table 3-7: first and last of the leading bytes, and of those that follow.
WELL_FORMED = (
    ((0x00, 0x7F),),
    ((0xC2, 0xDF), _TAIL),
    ((0xE0, 0xE0), (0xA0, 0xBF), _TAIL),
    ((0xE1, 0xEC), _TAIL, _TAIL),
    ((0xED, 0xED), (0x80, 0x9F), _TAIL),
    ((0xEE, 0xEF), _TAIL, _TAIL),
    ((0xF0, 0xF0), (0x90, 0xBF), _TAIL, _TAIL),
    ((0xF1, 0xF3), _TAIL, _TAIL, _TAIL),
    ((0xF4, 0xF4), (0x80, 0x8F), _TAIL, _TAIL),
)


def good_until(data: bytes) -> int:
    """How many bytes can be the beginning of a text; all of them, if only the rest is missing."""
    expected: list[tuple[int, int]] = []
    for place, byte in enumerate(data):
        if expected:
            low, high = expected.pop(0)
            if not low <= byte <= high:
                return place
            continue
        for first, *others in WELL_FORMED:
            if first[0] <= byte <= first[1]:
                expected = others
                break
        else:
            return place
    return len(data)


def is_complete(data: bytes) -> bool:
    """Whether nothing is missing at the end of what is good so far."""
    return good_until(data + b" ") == len(data) + 1


#: Each lacks its last byte.
CUT: tuple[str, ...] = ("c0", "e080", "f08080", "f8808080", "fc80808080")
CUT += ("df", "efbf", "f7bfbf", "fbbfbfbf", "fdbfbfbfbf")


def sequences() -> Iterator[tuple[str, bytes]]:
    """6.5 to 6.23: Markus Kuhn's decoder stress test, and what Autobahn has added to it."""
    greek = "κόσμε".encode()
    for number, text in enumerate(("$", "¢", "€", "\U00024b62"), 1):
        yield f"6.5.{number}", b"hello" + text.encode() + b"world"
    for size in range(1, len(greek) + 1):
        yield f"6.6.{size}", greek[:size]
    groups = {
        "6.7 first of a length": ("00", "c280", "e0a080", "f0908080"),
        "6.8 first of 5 and 6": ("f888808080", "fc8480808080"),
        "6.9 last of a length": ("7f", "dfbf", "efbfbf", "f48fbfbf"),
        "6.10 last of 4, 5 and 6": ("f7bfbfbf", "fbbfbfbfbf", "fdbfbfbfbfbf"),
        "6.11 boundaries": ("ed9fbf", "ee8080", "efbfbd", "f48fbfbf", "f4908080"),
        "6.12 continuations": (
            "80",
            "bf",
            *["80bf" * n + "80" * m for n in (1, 2) for m in (0, 1)],
        ),
        "6.12 all continuations": (bytes(range(0x80, 0xC0)).hex(),),
        "6.13 lonely starts": [
            b"".join(bytes([byte, 32]) for byte in range(first, last + 1)).hex()
            for first, last in (
                (0xC0, 0xDF),
                (0xE0, 0xEF),
                (0xF0, 0xF7),
                (0xF8, 0xFB),
                (0xFC, 0xFD),
            )
        ],
        "6.14 last missing": CUT,
        "6.15 last missing, together": ("".join(CUT),),
        "6.16 impossible": ("fe", "ff", "fefeffff"),
        "6.17 overlong": ("c0af", "e080af", "f08080af", "f8808080af", "fc80808080af"),
        "6.18 largest overlong": ("c1bf", "e09fbf", "f08fbfbf", "f887bfbfbf", "fc83bfbfbfbf"),
        "6.19 overlong zero": ("c080", "e08080", "f0808080", "f880808080", "fc8080808080"),
        "6.20 surrogates": ("eda080", "edadbf", "edae80", "edafbf", "edb080", "edbe80", "edbfbf"),
        "6.21 pairs of surrogates": [
            high + low
            for high in ("eda080", "edadbf", "edae80", "edafbf")
            for low in ("edb080", "edbfbf")
        ],
        "6.22 noncharacters": [
            chr(plane << 16 | 0xFFFE | last).encode().hex()
            for plane in range(17)
            for last in (0, 1)
        ],
        "6.22 more of them": ("efb790", "efb7af"),
        "6.23 specials": ("efbfb9", "efbfba", "efbfbb", "efbfbc", "efbfbd", "efbfbe", "efbfbf"),
        "byte order mark": ("efbbbf", "efbbbf61"),
    }
    for name, members in groups.items():
        for number, member in enumerate(members, 1):
            yield f"{name} {number}", bytes.fromhex(member)


SEQUENCES = dict(sequences())
GOOD = {name: data for name, data in SEQUENCES.items() if is_complete(data)}
BAD = {name: data for name, data in SEQUENCES.items() if not is_complete(data)}
#: 6.3: κόσμε, half a pair of surrogates, and more text.
EDITED = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"


def texts() -> list[Case]:
    """Sent whole, and in fragments of a byte (6.2.3, 6.3.2)."""
    cases = []
    for name, data in SEQUENCES.items():
        answers, code = ([Frame(TEXT, data)], None) if name in GOOD else ([], 1007)
        cases.append(Case(name, [frame(TEXT, data)], answers, code))
        cases.append(
            Case(f"{name} in bytes", fragments(TEXT, split(data, 1)), answers, code),
        )
    unicode = "Hello-µ@ßöäüàá-UTF-8!!".encode()
    both = [Frame(TEXT, unicode)]
    return [
        *cases,
        Case("6.1.1", [frame(TEXT)], [Frame(TEXT)]),
        Case("6.1.2", fragments(TEXT, [b""] * 3), [Frame(TEXT)]),
        Case("6.1.3", fragments(TEXT, [b"", b"middle", b""]), [Frame(TEXT, b"middle")]),
        Case("6.2.1", [frame(TEXT, unicode)], both),
        Case("6.2.2", fragments(TEXT, [unicode[:12], unicode[12:]]), both),
        Case("6.2.3", fragments(TEXT, split(unicode, 1)), both),
        Case("6.2.4", fragments(TEXT, split("κόσμε".encode(), 1)), [Frame(TEXT, "κόσμε".encode())]),
        Case(
            "6.2 cut and empty",
            fragments(TEXT, [b"\xce", b"", b"\xba"]),
            [Frame(TEXT, b"\xce\xba")],
        ),
        Case("6.3.1", [frame(TEXT, EDITED)], [], 1007),
        Case("6.3.2", fragments(TEXT, split(EDITED, 1)), [], 1007),
        Case("cut by an end", [frame(TEXT, b"\xce"), frame(TEXT, b"\xba")], [], 1007),
        Case("cut by an empty end", fragments(TEXT, [b"\xce", b""]), [], 1007),
        Case(
            "behind a good one",
            [frame(TEXT, b"good"), frame(TEXT, b"\xff")],
            [Frame(TEXT, b"good")],
            1007,
        ),
        Case("all of it binary", [frame(BINARY, EDITED)], [Frame(BINARY, EDITED)]),
        Case("a large one", [frame(TEXT, b"x" * 70_000 + b"\xff")], [], 1007),
        Case(
            "a large one, cut",
            fragments(TEXT, [b"x" * 70_000 + b"\xf0\x9f", b"\x98\x80" + b"y" * 70_000]),
            [Frame(TEXT, b"x" * 70_000 + "😀".encode() + b"y" * 70_000)],
        ),
    ]


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def address(echo: Echo, serve: Serve) -> tuple[str, int]:
    return serve(echo).address


def test_the_table_agrees_with_python() -> None:
    for data in SEQUENCES.values():
        try:
            data.decode()
        except UnicodeDecodeError:
            assert not is_complete(data)
        else:
            assert is_complete(data)


@pytest.mark.parametrize(("path", "delivery"), PLAYED)
@every(texts())
def test_text(
    case: Case, address: tuple[str, int], path: str, delivery: Delivery, echo: Echo
) -> None:
    case.play(address, path, delivery, echo)


def fails(client: WSClient, echo: Echo) -> None:
    code, _ = client.read_close()
    assert code == 1007
    assert client.is_ended()
    assert echo.ends.get(timeout=PATIENCE)[0] == 1007


#: Those that are bad before their end.
EARLY = [name for name, data in BAD.items() if good_until(data) < len(data)]


@pytest.mark.parametrize("name", EARLY)
def test_the_first_bad_byte_of_a_frame_is_enough(
    address: tuple[str, int], echo: Echo, name: str
) -> None:
    """6.4.3 and 6.4.4: what has come so far is judged, although the frame goes on."""
    data = BAD[name]
    bad = good_until(data)
    whole = frame(TEXT, b"ok" + data + bytes(1000))
    start = len(whole) - 1000 - len(data)
    with WSClient(address) as client:
        client.send(whole[: start + bad])
        with WSClient(address) as other:
            assert other.leave() == (1000, "")
        # Nobody else has been closed by now.
        assert echo.ends.get(timeout=PATIENCE)[0] == 1000
        assert echo.ends.empty()
        client.send(whole[start + bad : start + bad + 1])
        fails(client, echo)


@pytest.mark.parametrize("name", EARLY)
def test_the_first_bad_byte_in_fragments_is_enough(
    address: tuple[str, int], echo: Echo, name: str
) -> None:
    """6.4.1 and 6.4.2: a message is judged before its last fragment."""
    data = BAD[name]
    bad = good_until(data)
    with WSClient(address) as client:
        client.send(frame(TEXT, b"ok", final=False))
        for piece in split(data[:bad], 1):
            client.send(frame(CONTINUATION, piece, final=False))
        # Nothing is wrong yet.
        client.ping(b"still good")
        client.send(frame(CONTINUATION, data[bad : bad + 1], final=False))
        fails(client, echo)


@pytest.mark.parametrize(
    ("pieces", "code"),
    [
        ([b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5", b"\xf4\x90", b"\x80\x80edited"], 1007),
        ([b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xf4", b"\x90", b"\x80\x80edited"], 1007),
    ],
)
def test_a_ping_behind_bad_text_is_not_answered(
    address: tuple[str, int], echo: Echo, pieces: list[bytes], code: int
) -> None:
    with WSClient(address) as client:
        sent = fragments(TEXT, pieces)
        client.send(sent[0])
        client.send(frame(PING, b"answered"))
        assert client.read_frame() == Frame(PONG, b"answered")
        client.send(sent[1] + frame(PING, b"never") + sent[2])
        fails(client, echo)


def test_every_character_there_is(address: tuple[str, int]) -> None:
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    text = "".join(characters)
    with WSClient(address) as client:
        assert client.echo(text) == text
        # Cut at every place within a character.
        data = "".join(characters[:: 0x110000 // 500]).encode()
        for place in range(len(data)):
            client.send(b"".join(fragments(TEXT, [data[:place], data[place:]])))
            assert client.read_text().encode() == data
