"""The patterns accept what the RFCs' grammar says, on every release of Python."""

from __future__ import annotations

import itertools
import re

import pytest

from resource_server.protocol import grammar
from resource_server.protocol.limits import Limits

_POSSESSIVE = re.compile(rb"(?<!\\)([+*?}])\+(?![\]])")


def backtracking(pattern: re.Pattern[bytes]) -> re.Pattern[bytes]:
    """The same pattern with ordinary repetitions."""
    return re.compile(_POSSESSIVE.sub(rb"\1", pattern.pattern))


@pytest.mark.parametrize(
    ("name", "alphabet"),
    [
        ("CHUNK_LINE", [b"5", b";", b"a", b"=", b'"', b" ", b"\\"]),
        ("HOST", [b"a", b"%", b"2", b"[", b"]", b":", b"v"]),
        ("FIELD_BLOCK", [b"\r\n", b"a", b":", b" ", b"\r", b"\n", b"\0"]),
        ("FIELD_LINE", [b"a", b":", b" ", b"\r", b"\n", b"\xff"]),
        ("PARTIAL_LINE", [b"a", b"\t", b"\r", b"\n", b"\0"]),
        ("PARTIAL_REQUEST_LINE", [b"a", b"\t", b"\r", b"\n", b"\0"]),
        ("REQUEST_LINE", [b"a", b" ", b"/", b" HTTP/1.1", b"#", b"\n"]),
        ("ANY_REQUEST_LINE", [b"a", b" ", b"/", b"\n"]),
        ("ABSOLUTE_FORM", [b"http", b"://", b"a", b"/", b"?", b":"]),
        ("IPV_FUTURE", [b"v", b"1", b".", b"a", b":"]),
    ],
)
def test_without_backtracking_the_same_is_matched(name: str, alphabet: list[bytes]) -> None:
    # Possessive groups differ in Python before 3.11.5, which Debian 12 has.
    pattern: re.Pattern[bytes] = getattr(grammar, name)
    expected = backtracking(pattern)
    assert expected.pattern != pattern.pattern
    for length in range(7):
        for parts in itertools.product(alphabet, repeat=length):
            data = b"".join(parts)
            found, wanted = pattern.fullmatch(data), expected.fullmatch(data)
            assert (found and found.groups()) == (wanted and wanted.groups()), data


def test_no_pattern_has_a_possessive_group() -> None:
    for name, value in vars(grammar).items():
        if isinstance(value, re.Pattern):
            without_classes = re.sub(rb"\[(?:\\.|[^\]\\])*\]", b"C", value.pattern)
            assert re.search(rb"\)[+*?}]\+|\(\?>", without_classes) is None, name


def test_the_bytes_of_a_partial_line_are_those_of_a_complete_one() -> None:
    for byte in range(256):
        value = b"X:" + bytes([byte])
        partial = grammar.PARTIAL_LINE.fullmatch(value) is not None
        assert partial == (grammar.FIELD_LINE.fullmatch(value) is not None or byte == 0x0D)
        target = b"/" + bytes([byte])
        if grammar.TARGET.fullmatch(target):
            assert grammar.PARTIAL_REQUEST_LINE.fullmatch(target)


class TestLimits:
    def test_their_defaults_let_browsers_through(self) -> None:
        limits = Limits()
        assert limits.request_line >= 8000  # RFC 9112 §3
        assert limits.empty_lines >= 1  # RFC 9112 §2.2
        assert limits.header_bytes >= 16384

    @pytest.mark.parametrize("name", sorted(Limits.__annotations__))
    @pytest.mark.parametrize("value", [0, -1, float("nan")])
    def test_each_is_positive(self, name: str, value: float) -> None:
        with pytest.raises(ValueError, match=name):
            Limits(**{name: value})  # type: ignore[arg-type]

    def test_they_are_named_and_do_not_change(self) -> None:
        with pytest.raises(TypeError):
            Limits(8192)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="no 'body'; it has request_line, "):
            Limits(body=1)  # type: ignore[call-arg]
        limits = Limits()
        with pytest.raises(AttributeError, match="head"):
            limits.head = 1.0  # type: ignore[misc]
        with pytest.raises(AttributeError, match="head"):
            del limits.head
        assert limits.head == 10.0

    def test_they_are_values(self) -> None:
        assert Limits(head=3) == Limits(head=3.0) != Limits()
        assert len({Limits(head=3), Limits(head=3), Limits(), "limits"}) == 3
        something: object = 0
        assert Limits() != something
        assert repr(Limits(head=3)) == repr(Limits()).replace("head=10.0", "head=3")

    def test_the_help_gives_the_reason_of_each(self) -> None:
        for name in Limits.__annotations__:
            assert f":param {name}: " in (Limits.__doc__ or "")
