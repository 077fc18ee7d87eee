"""Reading an answer is linear work in its bytes, whatever a server sends."""

from __future__ import annotations

import time
from typing import Any

import pytest

from resource_server.client.errors import safe_url
from resource_server.client.wire import MAX_HEAD, Answer, Malformed

#: Seconds for what takes some milliseconds, and took ten and more when it was quadratic.
SOON = 10.0


class Arriving:
    """A connection over which bytes come, so many at a time."""

    def __init__(self, data: bytes, step: int = 65536) -> None:
        self.buffer = b""
        self.ragged = False
        self._pieces = [data[at : at + step] for at in range(0, len(data), step)]

    def receive(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


def answer(data: bytes, step: int = 65536) -> Answer:
    connection: Any = Arriving(data, step)
    return Answer(connection, "GET")


def content(data: bytes, step: int = 65536) -> bytes:
    received = answer(data, step)
    return b"".join(iter(received.read, b""))


def test_spaces_before_a_folded_line() -> None:
    spaces = b" " * (MAX_HEAD - 100)
    head = b"HTTP/1.1 204 No Content\r\nName: a" + spaces + b"b\r\n c\r\n\r\n"
    begun = time.monotonic()
    value = answer(head).headers["name"]
    assert time.monotonic() - begun < SOON
    assert value.split() == ["a", "b", "c"]


def test_many_small_chunks() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = head + b"1\r\nx\r\n" * 200_000 + b"0\r\n\r\n"
    begun = time.monotonic()
    assert len(content(data)) == 200_000
    assert time.monotonic() - begun < 2 * SOON


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
def test_chunks_are_the_same_however_they_arrive(step: int) -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"1\r\na\r\n3;x=y\r\nb\r\n\r\n2\r\n\r\n\r\n0\r\nTrailer: t\r\n\r\n"
    assert content(head + chunks, step) == b"ab\r\n\r\n"


@pytest.mark.parametrize("extension", ["a\rb", "a\x00b", "a\nb"])
def test_controls_in_a_chunk_extension(extension: str) -> None:
    head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with pytest.raises(Malformed, match="chunk size"):
        content(f"{head}1;{extension}\r\nx\r\n0\r\n\r\n".encode())


def test_what_follows_a_chunk_without_its_line_end_is_not_waited_for() -> None:
    received = answer(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz")
    assert received.read() == b"x"
    with pytest.raises(Malformed):
        received.read()


@pytest.mark.parametrize(
    "query", ["key" * 20_000, "?" * 60_000, "&" * 60_000, "token&" * 10_000, "secre" * 12_000]
)
def test_hiding_the_secrets_of_a_url(query: str) -> None:
    begun = time.monotonic()
    assert safe_url(f"http://h/?{query}").startswith("http://h/?")
    assert time.monotonic() - begun < SOON
    assert safe_url(f"http://h/?{query}&a=1?my-token=2").endswith("&a=1?my-token=***")
