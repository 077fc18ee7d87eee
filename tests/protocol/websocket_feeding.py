"""Frames as the RFC draws them, and feeding them to a WebSocket in every way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from resource_server.protocol.deflate import Deflate, Parameters
from resource_server.protocol.frames import Violation
from resource_server.protocol.websocket import State, WebSocket, WebSocketOpCode
from tests.protocol.feeding import cuts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
KEY = b"\x37\xfa\x21\x3d"
LIMIT = 100_000

Event = tuple[WebSocketOpCode, str | bytes]


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    rsv: int = 0,
    key: bytes = KEY,
    octets: int | None = None,
    length: int | None = None,
) -> bytes:
    """A frame, drawn after RFC 6455 §5.2 and masked byte by byte.

    ``key`` b"" is a server's frame; ``octets`` (0, 2, 8) forces the form of the length, and
    ``length`` declares another than the payload has.
    """
    size = len(payload) if length is None else length
    if octets is None:
        octets = 0 if size < 126 else 2 if size < 65536 else 8
    short = {0: size, 2: 126, 8: 127}[octets]
    head = bytes([final << 7 | rsv << 4 | opcode, bool(key) << 7 | short])
    if octets:
        head += size.to_bytes(octets, "big")
    if key:
        payload = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    return head + key + payload


def close_frame(code: int | None = None, reason: bytes = b"", *, key: bytes = KEY) -> bytes:
    return frame(CLOSE, b"" if code is None else code.to_bytes(2, "big") + reason, key=key)


def deflate(*, client: bool = False, **parameters: int) -> Deflate:
    """Compression with the largest windows, unless told otherwise."""
    return Deflate(Parameters(**parameters), client=client)  # type: ignore[arg-type]


def opened(*, client: bool = False, limit: int = LIMIT, compression: bool = False) -> WebSocket:
    """A WebSocket that is open."""
    socket = WebSocket(
        client=client,
        max_message_size=limit,
        deflate=deflate(client=client) if compression else None,
    )
    socket.open()
    return socket


def state_of(socket: WebSocket) -> State:
    """Where it stands now, which a type checker must not take for where it stands later."""
    return socket.state


def events(socket: WebSocket, data: bytes = b"") -> list[Event]:
    """What there is to tell, with this data."""
    if data:
        socket.receive(data)
    return list(told(socket))


def told(socket: WebSocket) -> Iterator[Event]:
    """What there is to tell, in however many turns."""
    while (event := socket.next_event()) is not None or socket.paused:
        if event is not None:
            yield event


@dataclass
class Outcome:
    """What became of some bytes."""

    events: list[Event] = field(default_factory=list)
    #: the code of the broken rule, and how it is told
    error: int | None = None
    reason: str = ""
    close_code: int | None = None
    close_reason: str = ""

    @property
    def ended(self) -> bool:
        return self.close_code is not None


def feed(pieces: Iterable[bytes], make: Callable[[], WebSocket] = opened) -> Outcome:
    socket = make()
    outcome = Outcome()
    for piece in pieces:
        socket.receive(piece)
        try:
            outcome.events += told(socket)
        except Violation as violation:
            broken = violation
        else:
            continue
        assert outcome.error is None, "something was read behind a broken rule"
        outcome.error, outcome.reason = broken.code, broken.reason
        assert len(broken.reason.encode("ascii")) <= 123
        assert (socket.close_code, socket.close_reason) == (broken.code, broken.reason)
        assert socket.next_event() is None
    outcome.close_code, outcome.close_reason = socket.close_code, socket.close_reason
    return outcome


def outcome_of(data: bytes, make: Callable[[], WebSocket] = opened) -> Outcome:
    """The outcome of whole frames, however they are cut, and whatever follows them."""
    expected = feed([data], make)
    for pieces in cuts(data):
        assert feed(pieces, make) == expected, f"cut as {pieces}"
    following = feed([data], make)
    trailing = frame(PING, b"next", key=b"" if _reads_server(make) else KEY)
    if not expected.ended:
        following.events.append((WebSocketOpCode.Ping, b"next"))
    for pieces in cuts(data):
        assert feed([*pieces[:-1], pieces[-1] + trailing], make) == following, f"cut as {pieces}"
        assert feed([*pieces, trailing], make) == following, f"cut as {pieces}"
    return expected


def refusal(data: bytes, make: Callable[[], WebSocket] = opened) -> tuple[int | None, int]:
    """The close code that refuses some bytes, and how many of them had to come for that."""
    expected = outcome_of(data, make)
    socket = make()
    for count, byte in enumerate(data, 1):
        try:
            events(socket, bytes([byte]))
        except Violation:
            assert socket.close_code == expected.error
            return expected.error, count
    return None, len(data)


def _reads_server(make: Callable[[], WebSocket]) -> bool:
    # Told by its first frame: a client masks.
    return make().encode(PING, b"")[1] >= 0x80


def as_client() -> WebSocket:
    return opened(client=True)


def with_deflate() -> WebSocket:
    return opened(compression=True)
