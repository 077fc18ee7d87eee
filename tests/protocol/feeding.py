"""Feed a protocol as a server would, cut in every way; the outcome has to be always the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from resource_server.errors import HTTPError
from resource_server.protocol.http1 import HTTP1
from resource_server.protocol.limits import Limits
from resource_server.protocol.states import Reading
from resource_server.response import Response, error_response

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

CLIENT = ("192.0.2.1", 40000)
#: What is sent behind a case to see whether it is read as a request.
NEXT = b"GET /next HTTP/1.1\r\nHost: n\r\n\r\n"


@dataclass
class Received:
    """A request as it was understood."""

    method: str
    target: str
    host: str
    version: int
    fields: list[tuple[str, str]]
    keep_alive: bool
    body: bytes = b""
    trailers: list[tuple[str, str]] | None = None
    complete: bool = False


@dataclass
class Outcome:
    """What became of some bytes."""

    requests: list[Received] = field(default_factory=list)
    #: the status of the refusal, if there was one, and its text
    error: int | None = None
    message: str = field(default="", compare=False)
    #: bytes that wait for more
    left: int = 0
    closed: bool = False

    @property
    def request(self) -> Received:
        """The only request."""
        assert self.error is None, (self.error, self.message)
        assert len(self.requests) == 1
        return self.requests[0]

    @property
    def awaits_more(self) -> bool:
        return self.left > 0 or any(not request.complete for request in self.requests)


def feed(pieces: Iterable[bytes], limits: Limits | None = None) -> Outcome:
    """Answer whatever requests the pieces hold, as soon as each is complete."""
    http = HTTP1(limits or Limits())
    outcome = Outcome()
    for piece in pieces:
        http.receive(piece)
        try:
            while _step(http, outcome):
                pass
        except HTTPError as error:
            assert outcome.error is None, "something was read behind an error"
            outcome.error, outcome.message = error.status_code, error.message
            if outcome.requests and not outcome.requests[-1].complete:
                # How much of a malformed body was seen before its fault depends on the cuts.
                outcome.requests[-1].body = b""
            http.start(error_response(error, "text/plain"), b"")
            http.finish()
    outcome.left = http.buffered
    outcome.closed = http.reading is Reading.CLOSED
    return outcome


def _step(http: HTTP1, outcome: Outcome) -> bool:
    """Go on with the request under way or the next; whether there may be more to do."""
    if http.reading is Reading.CLOSED:
        return False
    if http.reading is Reading.HEAD:
        request = http.next_request(CLIENT)
        if request is None:
            return False
        assert request.client_address == CLIENT
        outcome.requests.append(
            Received(
                request.method,
                request.target,
                request.host,
                request.version,
                request.headers.fields(),
                http.keep_alive,
            )
        )
    received = outcome.requests[-1]
    received.body += http.read_body()
    while http.paused:
        received.body += http.read_body()
    if not http.body_complete:
        return False
    received.complete = True
    received.trailers = None if http.trailers is None else http.trailers.fields()
    http.start(Response(), b"")
    http.finish()
    return True


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """The data whole, byte by byte, and cut in two at some places."""
    yield [data]
    yield [data[at : at + 1] for at in range(len(data))]
    for at in range(1, len(data), max(1, len(data) // 20)):
        yield [data[:at], data[at:]]


def outcome_of(data: bytes, limits: Limits | None = None) -> Outcome:
    """The outcome of some bytes, however they are cut, and whatever follows them."""
    expected = feed([data], limits)
    for pieces in cuts(data):
        assert feed(pieces, limits) == expected, f"cut as {pieces}"
    if expected.awaits_more or not data:
        return expected
    following = feed([data], limits)
    if not expected.closed:
        following.requests += feed([NEXT], limits).requests
    for pieces in cuts(data):
        assert feed([*pieces[:-1], pieces[-1] + NEXT], limits) == following, f"cut as {pieces}"
        assert feed([*pieces, NEXT], limits) == following, f"cut as {pieces}"
    return expected


def refusal(data: bytes, limits: Limits | None = None) -> int | None:
    """The status that refuses some bytes, or None."""
    return outcome_of(data, limits).error


def head(
    *lines: str | bytes, line: str | bytes = "GET / HTTP/1.1", host: str = "a.example"
) -> bytes:
    """A request's head with these field lines behind a Host field; ``host`` "" leaves that out."""
    parts = [line, *([f"Host: {host}"] if host else []), *lines]
    raw = [part.encode("latin-1") if isinstance(part, str) else part for part in parts]
    return b"\r\n".join(raw) + b"\r\n\r\n"
