"""Fuzz the WebSocket protocol, in both roles, with and without compression.

Invariants:

- Whatever the bytes, nothing but Violation is raised, once, and nothing is told behind it.
- What is told, and how it ends, does not depend on how the bytes are cut; but where a compressed
  message breaks two rules, either may be found first.
- What is kept between two pieces is no more than a head, or a message within its limit.
- What one role says arrives at the other unchanged, however the bytes are cut.
- Whatever its fields, an opening is accepted or refused by an HTTPError, and a client understands
  what was accepted.

    python scripts/fuzz/websocket.py [seconds]

Needs nothing; where atheris is installed, it guides the search. Prints the input that breaks an
invariant and exits with 1.
"""

from __future__ import annotations

import random
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from resource_server.errors import HandshakeError, HTTPError
from resource_server.headers import Headers
from resource_server.protocol.deflate import Deflate, Parameters
from resource_server.protocol.frames import Violation, encode_frame
from resource_server.protocol.http1 import HTTP1
from resource_server.protocol.limits import Limits
from resource_server.protocol.opening import Offer, accept
from resource_server.protocol.websocket import WebSocket, WebSocketOpCode
from resource_server.websockets import Outgoing

if TYPE_CHECKING:
    from collections.abc import Iterator

Event: TypeAlias = tuple[WebSocketOpCode, str | bytes]
# What was told, the close code and the reason.
Outcome: TypeAlias = tuple[list[Event], int | None, str]

Text, Binary, Close = WebSocketOpCode.Text, WebSocketOpCode.Binary, WebSocketOpCode.Close
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
# Small ones, so that they are met.
LIMITS = (125, 300, 5_000, 70_000)
#: The longest head of a frame, or a control frame but for its last byte.
LONGEST_KEPT = 14 + 125
WORDS = [
    b"", b"a", b"Hello", "ä€😀".encode(), b"\xe2\x82", b"\xf0\x9f\x98", b"\xed\xa0\x80", b"\xff",
    b"\xc0\x80", b"\xf4\x90", b"x" * 125, b"y" * 126, b"z" * 300, b"\0" * 66_000, b"ab" * 2_400,
]  # fmt: skip
CODES = [1000, 1001, 1004, 1005, 1006, 1010, 1011, 1015, 2999, 3000, 4999, 5000, 0, 65535]
FIELDS = [
    "Upgrade: websocket", "Upgrade: h2c, WebSocket", "Connection: Upgrade", "Connection: close",
    "Connection: keep-alive, upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Key: short", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8",
    "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: a, chat,,b",
    "Sec-WebSocket-Protocol: ,", "Sec-WebSocket-Protocol: chat chat",
]  # fmt: skip
EXTENSIONS = [
    "permessage-deflate", "x-unknown", "; ", ", ", ",", ";", "=", '"', "\\", " ", "10", "8", "16",
    "015", '"12"', "server_no_context_takeover", "client_no_context_takeover",
    "server_max_window_bits", "client_max_window_bits", "=9", "é",
]  # fmt: skip


# -- bytes that come ---------------------------------------------------------------------------


def make(setting: int) -> WebSocket:
    """Return an open WebSocket: the bits of ``setting`` choose role, compression and limit."""
    client = bool(setting & 1)
    deflate = None
    if setting & 2:
        # The largest windows: beyond a smaller one zlib finds what it has put out in the same call.
        parameters = Parameters(
            server_no_context_takeover=bool(setting & 4),
            client_no_context_takeover=bool(setting & 8),
        )
        deflate = Deflate(parameters, client=client)
    socket = WebSocket(client=client, max_message_size=LIMITS[setting >> 4 & 3], deflate=deflate)
    socket.open()
    return socket


def events(socket: WebSocket) -> Iterator[Event]:
    """Tell all that there is to tell, in as many steps as the protocol likes to take."""
    while True:
        event = socket.next_event()
        if event is not None:
            yield event
        elif not socket.paused:
            return


def read(setting: int, pieces: list[bytes]) -> Outcome:
    """Return what these bytes amount to."""
    socket = make(setting)
    limit = LIMITS[setting >> 4 & 3]
    told: list[Event] = []
    broken: tuple[int, str] | None = None
    for piece in pieces:
        socket.receive(piece)
        try:
            for event in events(socket):
                assert broken is None, "something is told behind a broken rule"
                assert not told or told[-1][0] is not Close, "something is told behind a Close"
                assert len(event[1]) <= max(limit, 125)
                told.append(event)
        except Violation as violation:
            assert broken is None, "a rule is broken twice"
            broken = (violation.code, violation.reason)
        message = socket._message
        kept = 0 if message is None else len(message.content)
        assert len(socket._buffer) <= LONGEST_KEPT, "bytes pile up"
        assert kept <= limit, "a message is larger than it may be"
    if broken is not None:
        assert broken == (socket.close_code, socket.close_reason)
        assert broken[0] in (1002, 1007, 1009)
        assert len(broken[1].encode("ascii")) <= 123
        if setting & 2 and broken[0] in (1007, 1009):
            return told, 1007, "the message is too large, or is none"
    return told, socket.close_code, socket.close_reason


def cut(choose: random.Random, data: bytes) -> list[bytes]:
    """Return the bytes in up to six pieces."""
    places = sorted(choose.randrange(len(data) + 1) for _ in range(choose.randrange(1, 6)))
    ends = zip([0, *places], [*places, len(data)], strict=True)
    return [data[start:end] for start, end in ends]


def check_reading(data: bytes) -> None:
    """Read bytes whose first one is the setting, in several ways."""
    setting, stream = data[0], data[1:]
    choose = random.Random(data)
    expected = read(setting, [stream])
    if len(stream) < 5_000:
        assert read(setting, [stream[at : at + 1] for at in range(len(stream))]) == expected
    for _ in range(3):
        assert read(setting, cut(choose, stream)) == expected


def deflated(choose: random.Random, payload: bytes) -> bytes:
    """Return what may be a compressed message."""
    compressor = zlib.compressobj(choose.choice([0, 1, 9]), zlib.DEFLATED, -choose.choice([9, 15]))
    data = compressor.compress(payload)
    data += compressor.flush(choose.choice([zlib.Z_SYNC_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FINISH]))
    return data.removesuffix(b"\x00\x00\xff\xff")


def mutation(choose: random.Random) -> bytes:
    """Return a setting and something like the frames that it is to read."""
    setting = choose.randrange(64)
    frames = []
    inside = False
    for _ in range(choose.randrange(1, 9)):
        opcode = choose.choice([TEXT, TEXT, BINARY, PING, PONG, *[CLOSE] * (not inside)])
        if inside and opcode in (TEXT, BINARY):
            opcode = CONTINUATION
        payload = b"".join(choose.choices(WORDS, k=choose.randrange(3)))
        compressed = bool(setting & 2) and opcode in (TEXT, BINARY) and choose.random() < 0.5
        if compressed:
            payload = deflated(choose, payload * choose.choice([1, 1, 40]))
        final = True
        if opcode >= CLOSE:
            payload = payload[:125]
            if opcode == CLOSE:
                payload = choose.choice(CODES).to_bytes(2, "big") + payload[:123]
        else:
            inside = choose.random() < 0.4
            final = not inside
        mask = b"" if setting & 1 else choose.randbytes(4)
        if choose.random() < 0.02:
            opcode, compressed, final = choose.randrange(16), choose.random() < 0.5, not final
        frames.append(encode_frame(opcode, payload, mask=mask, compressed=compressed, final=final))
    data = b"".join(frames)
    for _ in range(choose.choice([0, 0, 1, 1, 2, 5])):
        start = choose.randrange(len(data) + 1)
        end = min(len(data), start + choose.choice([0, 0, 1, 2, 10]))
        inserted = choose.choice([b"", choose.randbytes(1), choose.choice(WORDS[:9]), frames[0]])
        data = data[:start] + inserted + data[end:]
    return bytes([setting]) + data


# -- both roles --------------------------------------------------------------------------------


def check_conversation(choose: random.Random) -> None:
    """Let both roles speak, and compare what is told with what was said."""
    parameters = Parameters(
        server_no_context_takeover=choose.random() < 0.3,
        client_no_context_takeover=choose.random() < 0.3,
        server_max_window_bits=choose.randrange(8, 16),
        client_max_window_bits=choose.randrange(8, 16),
    )
    compression = choose.random() < 0.7
    sides = []
    for client in (False, True):
        deflate = Deflate(parameters, client=client) if compression else None
        side = WebSocket(client=client, max_message_size=500_000, deflate=deflate)
        side.open()
        sides.append(side)
    for _ in range(choose.randrange(1, 8)):
        speaker, hearer = choose.sample(sides, 2)
        wire, said = speech(choose, speaker)
        assert listen(choose, hearer, wire) == said
    closer, closed = choose.sample(sides, 2)
    wire, said = speech(choose, closer)
    code = choose.choice([None, 1000, 1001, 3000, 4999])
    wire += closer.close(code, "" if code is None else "that is all")
    assert listen(choose, closed, wire) == [*said, (Close, "")]
    late, said = speech(choose, closed)
    heard = listen(choose, closer, late + closed.answer_close())
    # Once it has closed, a side is told control frames only.
    assert heard == [*[event for event in said if event[0] not in (Text, Binary)], (Close, "")]
    assert closer.close_code == closed.close_code == (1005 if code is None else code)


def speech(choose: random.Random, speaker: WebSocket) -> tuple[bytes, list[Event]]:
    """Return some messages as they go over the wire, and as they are to be told."""
    wire = b""
    said: list[Event] = []
    for _ in range(choose.randrange(4)):
        kind = choose.randrange(4)
        size = choose.choice([0, 1, 10, 126, 300, 20_000, 70_000])
        if kind == 0:
            payload = choose.randbytes(min(size, 125))
            opcode = choose.choice([WebSocketOpCode.Ping, WebSocketOpCode.Pong])
            wire += speaker.encode(opcode, payload)
            said.append((opcode, payload))
            continue
        message: str | bytes = "ä€😀x"[choose.randrange(4)] * size
        if kind == 1:
            message = choose.randbytes(min(size, 500)) * (size // 500 + 1)
        outgoing = Outgoing(message)
        if choose.random() < 0.3:
            wire += speaker.encode_shared(outgoing)
        else:
            wire += speaker.encode(outgoing.opcode, outgoing.payload)
        said.append((outgoing.opcode, message))
    return wire, said


def listen(choose: random.Random, hearer: WebSocket, wire: bytes) -> list[Event]:
    """Return what is told of these bytes, however they are cut."""
    told: list[Event] = []
    for piece in cut(choose, wire):
        hearer.receive(piece)
        told += events(hearer)
    return told


# -- the opening -------------------------------------------------------------------------------


def check_opening(choose: random.Random) -> None:
    """Have a server answer an opening, and a client understand the answer."""
    offer = Offer(subprotocols=("chat", "b") * (choose.random() < 0.5))
    fields = [f"{name}: {value}" for name, value in offer.headers]
    if choose.random() < 0.7:
        if choose.random() < 0.5:
            fields.pop(choose.randrange(len(fields)))
        fields += choose.sample(FIELDS, choose.randrange(3))
        extensions = "".join(choose.choices(EXTENSIONS, k=choose.randrange(12)))
        fields.append(f"Sec-WebSocket-Extensions: {extensions}")
    head = "\r\n".join(["GET / HTTP/1.1", "Host: a", *fields, "", ""])
    http = HTTP1(Limits())
    http.receive(head.encode("latin-1", "replace"))
    try:
        request = http.next_request(("", 0))
        assert request is not None
        accepted = accept(request, subprotocols=("a", "b", "chat"))
    except HTTPError:
        return
    if accepted.subprotocol is not None:
        assert accepted.subprotocol in request.headers.get("sec-websocket-protocol", "")
    answer = Headers([*accepted.headers, ("Connection", "Upgrade")])
    try:
        understood = offer.check(101, answer)
    except HandshakeError:
        # The client was given what another one had asked for.
        assert len(fields) != len(offer.headers)
        return
    assert understood.subprotocol == accepted.subprotocol
    assert str(understood.deflate) == str(accepted.deflate)


# -- the search --------------------------------------------------------------------------------


def check(data: bytes) -> None:
    """Raise AssertionError, or whatever was raised, if an invariant does not hold."""
    if data:
        check_reading(data)
    choose = random.Random(data)
    check_conversation(choose)
    check_opening(choose)


def search(seconds: float) -> int:
    """Check mutations for that long; return the exit code."""
    seed = random.SystemRandom().getrandbits(64)
    choose = random.Random(seed)
    deadline = time.monotonic() + seconds
    count = 0
    while time.monotonic() < deadline:
        data = mutation(choose)
        try:
            check(data)
        except Exception:
            print(f"Seed {seed}, input {count}:\n{data!r}", file=sys.stderr)
            raise
        count += 1
    print(f"{count} inputs, nothing found (seed {seed}).")
    return 0


def main() -> int:
    """Fuzz for the seconds given as argument (10)."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    try:
        import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        return search(seconds)
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-max_total_time={max(1, round(seconds))}"], check)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
