"""How cases of conformance are played and judged: an echoing server, deliveries, a strict judge.

The cases are those that the public Autobahn test suite is known for, in its groups and numbers.
"""

from __future__ import annotations

import enum
import queue
from typing import TYPE_CHECKING, NamedTuple

import pytest

from resource_server import (
    Resource,
    WebSocketOpCode,
    WebSocketRequest,
    WebSocketSession,
    websocket,
    websocket_session,
)
from tests.rawclient import PATIENCE
from tests.wsclient import BINARY, PING, TEXT, Frame, WSClient, close_frame, frame

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Bytes of a message that the echo takes.
LIMIT = 16 * 1024 * 1024

#: What nobody answers: it comes behind a Close, or behind what ended the connection.
AFTERWARDS = frame(TEXT, b"too late") + frame(PING, b"too late") + b"\xff" * 20


class Echo(Resource):
    """Gives each message back, in each style in which that can be written.

    ``opened`` counts; each connection that closes puts what it was told into ``ends``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.opened = 0
        self.ends: queue.SimpleQueue[tuple[int | None, str]] = queue.SimpleQueue()

    @websocket("/", blocking=False, max_message_size=LIMIT)
    @websocket("/learned", max_message_size=LIMIT)
    @websocket("/worker", blocking=True, max_message_size=LIMIT)
    @websocket("/small", max_message_size=1000)
    def answer(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is WebSocketOpCode.Open:
            self.opened += 1
        elif opcode is WebSocketOpCode.Close:
            assert payload == ""
            self.ends.put((request.close_code, request.close_reason))
        else:
            assert type(payload) is (str if opcode is WebSocketOpCode.Text else bytes)
            request.send(payload)

    @websocket_session("/session", max_message_size=LIMIT)
    def converse(self, socket: WebSocketSession) -> None:
        self.opened += 1
        try:
            for message in socket:
                socket.send(message)
        finally:
            self.ends.put((socket.close_code, socket.close_reason))


class Delivery(enum.Enum):
    """How the bytes of a case are cut on their way."""

    #: each frame by itself, and the end when all has been answered
    FRAMES = "frames"
    #: each byte by itself; a large case in pieces of 997
    CHOPPED = "chopped"
    #: all at once, with what the client says at the end and behind it
    PACKED = "packed"

    def send(self, client: WSClient, frames: Iterable[bytes]) -> None:
        if self is Delivery.FRAMES:
            for data in frames:
                client.send(data)
            return
        data = b"".join(frames)
        size = len(data) if self is Delivery.PACKED else 1 if len(data) < 3000 else 997
        for start in range(0, len(data), size):
            client.send(data[start : start + size])


#: The echo's style with how the bytes come.
PLAYED = [
    pytest.param("/", Delivery.FRAMES, id="frames"),
    pytest.param("/", Delivery.CHOPPED, id="chopped"),
    pytest.param("/", Delivery.PACKED, id="packed"),
    pytest.param("/learned", Delivery.PACKED, id="packed-learned"),
    pytest.param("/worker", Delivery.PACKED, id="packed-worker"),
    pytest.param("/session", Delivery.PACKED, id="packed-session"),
]


class Case(NamedTuple):
    """What the client sends, and what it gets before the end."""

    name: str
    sent: list[bytes]
    answers: list[Frame]
    #: how the server closes; None if it is the client that closes, with 1000
    code: int | None = None

    def play(self, address: tuple[str, int], path: str, delivery: Delivery, echo: Echo) -> None:
        """Play it, and judge."""
        with WSClient(address, path) as client:
            ending = [AFTERWARDS] if self.code else [close_frame(1000), AFTERWARDS]
            together = delivery is not Delivery.FRAMES
            delivery.send(client, [*self.sent, *ending] if together else self.sent)
            for answer in self.answers:
                read_answer(client, answer)
            if not together:
                delivery.send(client, ending)
            code = self.code or 1000
            told = client.read_close()
            assert told[0] == code, told
            assert client.is_ended()
            end = echo.ends.get(timeout=PATIENCE)
            assert end[0] == code
            assert (echo.opened, echo.ends.qsize()) == (1, 0)


def read_answer(client: WSClient, answer: Frame) -> None:
    """Read what has to come next."""
    if answer.opcode in (TEXT, BINARY):
        assert client.read_message() == (answer.opcode, answer.payload)
    else:
        assert client.read_frame() == answer


def every(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """Play a test with each case."""
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in cases])
