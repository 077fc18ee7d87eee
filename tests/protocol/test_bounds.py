"""What a client can make the parser do: work linear in what it sends, and memory within the limits.

Work is counted, not timed: the bytes that are looked at, and the calls that are made.
"""

from __future__ import annotations

import re
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from resource_server.errors import HTTPError
from resource_server.protocol import grammar
from resource_server.protocol.http1 import HTTP1
from resource_server.protocol.limits import Limits
from resource_server.response import Response
from tests.protocol.feeding import CLIENT, feed, head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: Limits that do not cut the cases short.
WIDE = Limits(
    request_line=1 << 20,
    header_fields=1 << 20,
    header_bytes=1 << 20,
    empty_lines=1 << 20,
    chunk_line=1 << 20,
    chunk_overhead=1 << 20,
    trailer_fields=1 << 20,
    trailer_bytes=1 << 20,
)
CHUNKED = head("Transfer-Encoding: chunked", line="POST / HTTP/1.1")


class Work:
    """Counts."""

    looked_at = 0
    calls = 0


class Metered(bytes):
    """Bytes that count how many of them are looked at; slicing and joining do not count."""

    work: Work

    def of(self, data: bytes) -> Metered:
        copy = Metered(data)
        copy.work = self.work
        return copy

    def __getitem__(self, key: Any) -> Any:
        part = super().__getitem__(key)
        return self.of(part) if isinstance(part, bytes) else part

    def __add__(self, other: Any) -> Metered:
        return self.of(super().__add__(other))

    def __iter__(self) -> Iterator[int]:
        self.work.looked_at += len(self)
        return super().__iter__()

    def __contains__(self, item: Any) -> bool:
        self.work.looked_at += len(self)
        return super().__contains__(item)

    def find(self, sub: Any, start: Any = 0, end: Any = None) -> int:
        found = super().find(sub, start, end)
        stop = len(self) if end is None else min(end, len(self))
        self.work.looked_at += (stop if found < 0 else found) - (start or 0)
        return found

    def count(self, *args: Any) -> int:
        self.work.looked_at += len(self)
        return super().count(*args)

    def split(self, *args: Any, **options: Any) -> list[bytes]:
        self.work.looked_at += len(self)
        return super().split(*args, **options)


class MeteredPattern:
    """A pattern that counts how many bytes it may look at."""

    def __init__(self, pattern: re.Pattern[bytes], work: Work) -> None:
        self._pattern = pattern
        self._work = work

    def fullmatch(
        self, data: bytes, start: int = 0, end: int = sys.maxsize
    ) -> re.Match[bytes] | None:
        self._work.looked_at += max(0, min(end, len(data)) - start)
        return self._pattern.fullmatch(data, start, end)

    def findall(self, data: bytes) -> list[Any]:
        self._work.looked_at += len(data)
        return self._pattern.findall(data)


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Callable[[Iterable[bytes]], Work]:
    """Count the work that feeding some pieces takes."""

    def run(pieces: Iterable[bytes]) -> Work:
        work = Work()
        metered = []
        for piece in pieces:
            metered.append(Metered(piece))
            metered[-1].work = work
        with monkeypatch.context() as patch:
            for name, value in list(vars(grammar).items()):
                if isinstance(value, re.Pattern):
                    patch.setattr(grammar, name, MeteredPattern(value, work))

            def count(frame: object, event: str, argument: object) -> None:
                if "call" in event:
                    work.calls += 1

            before = sys.getprofile()
            sys.setprofile(count)
            try:
                feed(metered, WIDE)
            finally:
                sys.setprofile(before)
        return work

    return run


def singly(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


WHOLE: list[tuple[str, Callable[[int], bytes]]] = [
    ("empty lines", lambda n: b"\r\n" * (n // 2)),
    ("request line", lambda n: b"GET /" + b"a" * n),
    ("request line at fault", lambda n: b"GET /" + b"a" * n + b"# HTTP/1.1\r\n\r\n"),
    ("version at fault", lambda n: b"GET /" + b"a" * n + b" HTTP/2.0\r\n\r\n"),
    ("one field", lambda n: head("X: " + "a" * n)),
    ("one field at fault", lambda n: head("X: " + "a" * n, "X : 1")),
    ("many fields", lambda n: head(*["A:b"] * (n // 5))),
    ("many fields at fault", lambda n: head(*["A:b"] * (n // 5), "X : 1")),
    ("spaces", lambda n: head("X:" + " " * n + "a" + " " * n)),
    ("spaces at fault", lambda n: head("X" + " " * n + ": a")),
    ("host", lambda n: head("Host: " + "a%41" * (n // 4), host="")),
    ("host at fault", lambda n: head("Host: " + "a%41" * (n // 4) + "^", host="")),
    ("address at fault", lambda n: head("Host: [" + ":" * n + "]", host="")),
    ("port", lambda n: head("Host: a:" + "0" * n + "80", host="")),
    ("url", lambda n: head(line="GET http://" + "a%41" * (n // 4) + "^/ HTTP/1.1")),
    ("connection", lambda n: head("Connection: " + "a," * (n // 2))),
    ("expect", lambda n: head("Expect: " + "100-continue," * (n // 13))),
    ("codings", lambda n: head(*["Transfer-Encoding: x"] * (n // 22))),
    ("length", lambda n: head("Content-Length: " + "0" * n + "1") + b"a"),
    ("small chunks", lambda n: CHUNKED + b"1\r\na\r\n" * (n // 6) + b"0\r\n\r\n"),
    ("extension", lambda n: CHUNKED + b"1" + b";a" * (n // 2) + b"\r\na\r\n0\r\n\r\n"),
    ("extension at fault", lambda n: CHUNKED + b"1" + b";a=b" * (n // 4) + b"=\r\n"),
    ("quoted extension", lambda n: CHUNKED + b'1;a="' + b"\\a" * (n // 2) + b'\r\na\r\n'),
    ("trailers", lambda n: CHUNKED + b"0\r\n" + b"A:b\r\n" * (n // 5) + b"\r\n"),
    ("trailer", lambda n: CHUNKED + b"0\r\nA:" + b"b" * n),
    ("counted body", lambda n: head(f"Content-Length: {n}", line="POST / HTTP/1.1") + b"a" * n),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make"), WHOLE)
@pytest.mark.parametrize("cut", [lambda data: [data], singly], ids=["whole", "dripping"])
def test_work_grows_with_the_bytes_and_no_faster(
    name: str, make: Callable[[int], bytes], cut: Callable[[bytes], list[bytes]], measure: Any
) -> None:
    small, large = make(2000), make(8000)
    little, much = measure(cut(small)), measure(cut(large))
    assert much.looked_at <= 5 * little.looked_at + 1000
    assert much.calls <= 5 * little.calls + 100
    assert much.looked_at <= 16 * len(large), "each byte is looked at a few times"


@pytest.mark.parametrize("request_", [head(), CHUNKED + b"0\r\n\r\n"])
def test_pipelined_requests_cost_the_same_each(request_: bytes, measure: Any) -> None:
    little, much = measure([request_ * 20]), measure([request_ * 200])
    assert much.looked_at <= 11 * little.looked_at
    assert much.calls <= 11 * little.calls


@pytest.mark.parametrize(
    ("start", "unit", "most"),
    [
        (b"", b"A", 8192),
        (b"", b"\r\n", 8),
        (b"GET /", b"a", 8192),
        (b"GET / HTTP/1.1\r\n", b"A", 16 + 32768),
        (b"GET / HTTP/1.1\r\nA:", b" ", 16 + 32768),
        (b"GET / HTTP/1.1\r\n", b"A:b\r\n", 16 + 32768),
        (CHUNKED, b"0", 256),
        (CHUNKED + b"1;", b"a", 256),
        (CHUNKED + b"0\r\n", b"A", 8192),
        (CHUNKED + b"0\r\n", b"A:b\r\n", 8192),
    ],
)
def test_what_never_ends_is_refused_and_forgotten(start: bytes, unit: bytes, most: int) -> None:
    http = HTTP1(Limits())
    http.receive(start)
    with pytest.raises(HTTPError):  # noqa: PT012
        for _ in range(100_000):
            http.next_request(CLIENT)
            http.read_body()
            assert http.buffered <= most + 4
            http.receive(unit)
    assert http.buffered == 0


def test_chunks_without_content_are_refused() -> None:
    outcome = feed([CHUNKED, *[b"1;" + b"a" * 250 + b"\r\na\r\n"] * 1000])
    assert outcome.error == 400


def test_a_body_is_not_kept() -> None:
    for start, piece in [
        (head("Content-Length: 1000000000", line="POST / HTTP/1.1"), b"a" * 10000),
        (CHUNKED, b"2710\r\n" + b"a" * 10000 + b"\r\n"),
    ]:
        http = HTTP1(Limits())
        http.receive(start)
        http.next_request(CLIENT)
        for _ in range(100):
            http.receive(piece)
            assert http.read_body() == b"a" * 10000
            assert http.buffered == 0


@pytest.mark.parametrize("lines", [["X: y"], ["X: " + "a" * 30000], ["A: b"] * 99])
def test_an_idle_connection_keeps_little(lines: list[str]) -> None:
    data = head(*lines)
    tracemalloc.start()
    try:
        idle = []
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(50):
            http = HTTP1(Limits())
            http.receive(bytes(bytearray(data)))
            assert http.next_request(CLIENT) is not None
            http.start(Response(), b"")
            http.finish()
            idle.append(http)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / len(idle) < 4096
