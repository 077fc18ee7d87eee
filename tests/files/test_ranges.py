from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server.errors import RangeNotSatisfiable
from resource_server.files.ranges import MAX_RANGES, content_range, multipart, parse_range


@pytest.mark.parametrize(
    ("value", "ranges"),
    [
        # RFC 9110 §14.1.2, of a representation of 10000 bytes.
        ("bytes=0-499", [(0, 500)]),
        ("bytes=500-999", [(500, 500)]),
        ("bytes=-500", [(9500, 500)]),
        ("bytes=9500-", [(9500, 500)]),
        ("bytes=0-0,-1", [(0, 1), (9999, 1)]),
        ("bytes= 0-999, 4500-5499, -1000", [(0, 1000), (4500, 1000), (9000, 1000)]),
        ("bytes=500-600,601-999", [(500, 500)]),
        ("bytes=500-700,601-999", [(500, 500)]),
        # More than there is.
        ("bytes=0-", [(0, 10000)]),
        ("bytes=0-99999999999999999999999999", [(0, 10000)]),
        ("bytes=9999-10000", [(9999, 1)]),
        ("bytes=-10001", [(0, 10000)]),
        ("bytes=-99999999999999999999999999", [(0, 10000)]),
        # Those that cannot be satisfied are left out.
        ("bytes=0-0,10000-", [(0, 1)]),
        ("bytes=0-0,-0", [(0, 1)]),
        # The order is that of the request; joined ranges stand where the first of them stood.
        ("bytes=5-6,1-2", [(5, 2), (1, 2)]),
        ("bytes=50-60,1-2,61-70", [(50, 21), (1, 2)]),
        ("bytes=61-70,1-2,50-60", [(50, 21), (1, 2)]),
        ("bytes=0-9,2-3,20-29", [(0, 10), (20, 10)]),
        ("bytes=0-,0-,0-", [(0, 10000)]),
        # RFC 9110 §5.6.1: empty elements of a list.
        ("bytes=,0-1 ,\t, 3-4,", [(0, 2), (3, 2)]),
        ("BYTES=0-1", [(0, 2)]),
        ("bytes=000-01", [(0, 2)]),
        # Not for us.
        ("lines=0-1", None),
        ("bytes", None),
        ("bytes 0-1", None),
        ("byte=0-1", None),
        ("", None),
        ("bytes=", None),
        ("bytes= , ,", None),
    ],
)
def test_of_10000_bytes(value: str, ranges: list[tuple[int, int]] | None) -> None:
    assert parse_range(value, 10000) == ranges


@pytest.mark.parametrize(
    "value",
    [
        "bytes=10000-",
        "bytes=10000-10001",
        "bytes=99999999999999999999999-",
        "bytes=-0",
        "bytes=-000",
        "bytes=5-2",
        "bytes=0-1,5-2",
        "bytes=-",
        "bytes=a-b",
        "bytes=0-1;q=1",
        "bytes=0x1-0x2",
        "bytes=+1-2",
        "bytes=1_0-2_0",
        "bytes=--1",
        "bytes=1--",
        "bytes=0 - 1",
        "bytes=0-1-2",
        "bytes=\u0661-\u0662",
        "bytes=\u00b2-",
        "bytes=0-1,abc",
        "bytes=" + ",".join(["0-1"] * (MAX_RANGES + 1)),
    ],
)
def test_refused(value: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        parse_range(value, 10000)
    assert refused.value.headers == [("Content-Range", "bytes */10000")]


def test_of_an_empty_file() -> None:
    # RFC 9110 §14.1.2: a suffix is satisfiable, an int-range has to begin inside.
    assert parse_range("bytes=-5", 0) is None
    with pytest.raises(RangeNotSatisfiable):
        parse_range("bytes=0-", 0)


def test_as_many_as_allowed() -> None:
    value = "bytes=" + ",".join(f"{2 * n}-{2 * n}" for n in range(MAX_RANGES))
    ranges = parse_range(value, 10000)
    assert ranges is not None
    assert len(ranges) == MAX_RANGES


@pytest.mark.parametrize(
    "value",
    [
        "bytes=" + "0-," * 30_000,
        "bytes=" + "9" * 90_000 + "-",
        "bytes=" + " " * 90_000 + "x",
        "bytes=" + "0" * 90_000 + "-" + "0" * 90_000,
    ],
    ids=["many", "digits", "spaces", "zeros"],
)
def test_the_work_is_linear(value: str) -> None:
    started = time.process_time()
    try:
        parse_range(value, 10000)
    except RangeNotSatisfiable:
        pass
    assert time.process_time() - started < 2


SPECS = st.one_of(
    st.tuples(st.integers(0, 130), st.integers(0, 130)).map(lambda p: f"{min(p)}-{max(p)}"),
    st.integers(0, 130).map(lambda n: f"{n}-"),
    st.integers(1, 130).map(lambda n: f"-{n}"),
)


@given(st.lists(SPECS, min_size=1, max_size=12), st.integers(1, 100))
def test_exactly_the_bytes_asked_for(specs: list[str], size: int) -> None:
    wanted = set()
    for spec in specs:
        first, _, last = spec.partition("-")
        if first:
            wanted |= set(range(int(first), min(int(last or size), size - 1) + 1))
        else:
            wanted |= set(range(max(0, size - int(last)), size))
    try:
        ranges = parse_range("bytes=" + ",".join(specs), size)
    except RangeNotSatisfiable:
        assert not wanted
        return
    assert ranges is not None
    given_ = [at for start, length in ranges for at in range(start, start + length)]
    assert len(given_) == len(set(given_))
    assert set(given_) == wanted


def test_content_range() -> None:
    assert content_range((0, 500), 1234) == "bytes 0-499/1234"


def test_multipart() -> None:
    media_type, parts = multipart([(500, 500), (7000, 1000)], 8000, "application/pdf")
    boundary = media_type.partition("boundary=")[2].encode()
    assert parts == [
        b"--%b\r\nContent-Type: application/pdf\r\nContent-Range: bytes 500-999/8000\r\n\r\n"
        % boundary,
        (500, 500),
        b"\r\n--%b\r\nContent-Type: application/pdf\r\nContent-Range: bytes 7000-7999/8000\r\n\r\n"
        % boundary,
        (7000, 1000),
        b"\r\n--%b--\r\n" % boundary,
    ]
    assert multipart([], 0, "")[0] != media_type


def test_multipart_without_a_type() -> None:
    _, parts = multipart([(0, 1), (2, 1)], 9, "")
    assert b"Content-Type" not in b"".join(part for part in parts if isinstance(part, bytes))
