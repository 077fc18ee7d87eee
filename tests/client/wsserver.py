"""The server's end of a WebSocket, as a script of `misbehaving` plays it."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from resource_server import (
    HTTPClient,
    Resource,
    Timeout,
    WebSocketGroup,
    WebSocketSession,
    websocket_session,
)
from resource_server.client.websocket import ClientWebSocket, Reconnect
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer
from tests.wsclient import frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


LONG = Timeout(PATIENCE, PATIENCE)
AT_ONCE = Reconnect(first=0.001, most=0.002)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Talk(Resource):
    """What our own server answers."""

    def __init__(self) -> None:
        super().__init__()
        self.group = WebSocketGroup()

    @websocket_session("/echo", subprotocols=["b", "a"])
    def echo(self, session: WebSocketSession) -> None:
        for message in session:
            session.send(message)

    @websocket_session("/bye")
    def bye(self, session: WebSocketSession) -> None:
        session.send("one")
        session.send(b"two")
        session.close(4001, "enough")

    @websocket_session("/plain", compression=False)
    def plain(self, session: WebSocketSession) -> None:
        self.echo(session)


def answer(head: bytes, *fields: str, key: str | None = None) -> bytes:
    if key is None:
        key = head.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0].decode()
    digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
        *fields,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def accept(peer: Peer, data: bytes = b"") -> None:
    """Open the WebSocket, and send `data` in the same packet."""
    head, _ = peer.read_request()
    peer.send(answer(head) + data)


def read_frame(peer: Peer) -> tuple[int, bytes]:
    """The next frame of the client: opcode and payload; masked, as it must be (RFC 6455 §5.1)."""
    first, second = peer.read_exactly(2)
    assert second & 0x80
    size = second & 0x7F
    if size > 125:
        size = int.from_bytes(peer.read_exactly(2 if size == 126 else 8), "big")
    key = peer.read_exactly(4)
    data = peer.read_exactly(size)
    return first & 15, bytes(byte ^ key[at & 3] for at, byte in enumerate(data))


def plain(opcode: int, payload: bytes = b"") -> bytes:
    return frame(opcode, payload, mask=None)


def closing(code: int, reason: bytes = b"") -> bytes:
    return plain(CLOSE, code.to_bytes(2, "big") + reason)


def accepts_and_sends(*frames: bytes) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        accept(peer, b"".join(frames))
        peer.hang()

    return script


def wait_until(condition: Callable[[], object]) -> None:
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


def readers() -> list[threading.Thread]:
    name = "resource_server-client-websocket-"
    return [thread for thread in threading.enumerate() if thread.name.startswith(name)]


@contextmanager
def opened(server: Misbehaving, **options: Any) -> Iterator[ClientWebSocket]:
    with HTTPClient(server.address, timeout=LONG) as client:
        with client.websocket("/ws", **options) as session:
            yield session
        assert readers() == []


builtin_timeout = socket.timeout
