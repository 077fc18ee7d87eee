"""A reader of event streams, written from the WHATWG HTML Standard §9.2.6 alone, and a client.

It shares no code with the package, so that both cannot make the same mistake. What the standard has
a reader ignore, but no writer should send, is an AssertionError here.
"""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, NamedTuple, Self

from tests.rawclient import Client

if TYPE_CHECKING:
    import ssl
    from types import TracebackType


class Dispatched(NamedTuple):
    """An event as it would be dispatched."""

    data: str
    type: str = "message"
    last_event_id: str = ""


class Parser:
    """Bytes in, events out: §9.2.6, "interpreting an event stream"."""

    def __init__(self) -> None:
        self.events: list[Dispatched] = []
        self.comments: list[str] = []
        self.retry: int | None = None
        self.last_event_id = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._text = ""
        self._begun = False
        self._data = self._type = self._id = ""

    def feed(self, data: bytes) -> None:
        self._text += self._decoder.decode(data)
        if not self._begun and self._text:
            self._begun = True
            self._text = self._text.removeprefix("\ufeff")
        while (line := self._next_line()) is not None:
            self._take(line)

    def _next_line(self) -> str | None:
        ends = [index for mark in "\r\n" if (index := self._text.find(mark)) >= 0]
        if not ends:
            return None
        end = min(ends)
        if self._text[end] == "\r" and end + 1 == len(self._text):
            return None  # an LF may follow
        after = end + (2 if self._text.startswith("\r\n", end) else 1)
        line, self._text = self._text[:end], self._text[after:]
        return line

    def _take(self, line: str) -> None:
        if not line:
            self._dispatch()
        elif line.startswith(":"):
            self.comments.append(line[1:].removeprefix(" "))
        else:
            field, _, value = line.partition(":")
            self._process(field, value.removeprefix(" "))

    def _process(self, field: str, value: str) -> None:
        assert field in ("event", "data", "id", "retry"), f"a field that is ignored: {field!a}"
        if field == "event":
            self._type = value
        elif field == "data":
            self._data += value + "\n"
        elif field == "id":
            assert "\0" not in value, "an id that is ignored"
            self._id = value
        else:
            assert value.isascii(), "a retry that is ignored"
            assert value.isdigit(), "a retry that is ignored"
            self.retry = int(value)

    def _dispatch(self) -> None:
        self.last_event_id = self._id
        if self._data:
            data = self._data.removesuffix("\n")
            self.events.append(Dispatched(data, self._type or "message", self._id))
        self._data = self._type = ""

    @property
    def is_between(self) -> bool:
        """Whether what was read ends behind an event, or before the first."""
        return not (self._text or self._data or self._type)


def parse(data: bytes) -> Parser:
    """Read a whole stream; bit by bit it has to mean the same."""
    whole, slowly = Parser(), Parser()
    whole.feed(data)
    for index in range(len(data)):
        slowly.feed(data[index : index + 1])
    assert whole.is_between
    assert (whole.events, whole.comments, whole.retry, whole.last_event_id) == (
        slowly.events,
        slowly.comments,
        slowly.retry,
        slowly.last_event_id,
    )
    return whole


class EventSource(Parser):
    """A client that reads a stream of events over a raw socket."""

    def __init__(
        self,
        address: tuple[str, int],
        *fields: str,
        path: str = "/events",
        version: str = "1.1",
        tls: ssl.SSLContext | None = None,
        receive_buffer: int | None = None,
    ) -> None:
        super().__init__()
        self.client = Client(address, tls=tls, receive_buffer=receive_buffer)
        self.client.ask(path, *fields, version=version)
        self.head = self.client.head().decode("latin-1")
        self.chunked = "Transfer-Encoding: chunked" in self.head
        self._wire = b""
        #: whether the content has come to its end, as HTTP tells it
        self.complete = False
        #: the sizes of the chunks as they came
        self.chunks: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.client.sock.close()

    @property
    def status(self) -> int:
        return int(self.head[9:12])

    def read_some(self) -> bool:
        """Read on; False at the end."""
        data = self.client.some()
        if self.chunked:
            self._wire += data
            self._decode()
        else:
            self.feed(data)
            self.complete = not data
        return bool(data) and not self.complete

    def _decode(self) -> None:
        while b"\r\n" in self._wire:
            line, _, rest = self._wire.partition(b"\r\n")
            size = int(line, 16)
            if len(rest) < size + 2:
                return
            assert rest[size : size + 2] == b"\r\n"
            self._wire = rest[size + 2 :]
            if not size:
                self.complete = True
                return
            self.chunks.append(size)
            self.feed(rest[:size])

    def wait_for(self, count: int) -> list[Dispatched]:
        """Read until so many events have come, and return all that have."""
        while len(self.events) < count:
            assert self.read_some(), f"the stream ended after {len(self.events)} events"
        return self.events

    def wait_for_comment(self) -> str:
        while not self.comments:
            assert self.read_some(), "the stream ended"
        return self.comments.pop(0)

    def read_to_the_end(self) -> list[Dispatched]:
        while self.read_some():
            pass
        return self.events
