"""What the engine gives to WebSockets, without engine and socket: it writes down what is asked."""

from __future__ import annotations

from collections import deque
from typing import IO, TYPE_CHECKING

from resource_server.errors import WebSocketClosed

if TYPE_CHECKING:
    from collections.abc import Callable

    from resource_server.headers import Headers
    from resource_server.request import Closable, Request
    from resource_server.websockets import (
        Message,
        Outgoing,
        Route,
        Sendable,
        WebSocketRequest,
        WebSocketSession,
    )


class FakeConnection:
    """The connection of a WebSocket, open from the beginning."""

    def __init__(self, uid: str = "1") -> None:
        self.uid = uid
        self.headers = [("Upgrade", "websocket"), ("Sec-WebSocket-Accept", "x")]
        self.closed = False
        self.subprotocol: str | None = "chat"
        self.buffered = 0
        self.close_code: int | None = None
        self.close_reason = ""
        self.socket: WebSocketRequest | WebSocketSession | None = None
        self.log: list[tuple[object, ...]] = []
        self.posted: list[Outgoing] = []
        self.received: deque[Message] = deque()
        self.at_close: list[Callable[[], None]] = []

    def begin(self, socket: WebSocketRequest | WebSocketSession) -> None:
        self.log.append(("begin",))
        self.socket = socket

    def send(self, message: Sendable) -> None:
        if self.closed:
            raise WebSocketClosed(self.close_code or 1006)
        self.log.append(("send", message))

    def post(self, message: Outgoing) -> bool:
        if not self.closed:
            self.posted.append(message)
        return not self.closed

    def ping(self, payload: bytes = b"") -> None:
        self.log.append(("ping", payload))

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        if not self.closed:
            self.log.append(("close", code, reason))
            self.end(code or 1005, reason)

    def receive(self, timeout: float | None = None) -> Message:
        self.log.append(("receive", timeout))
        if self.received:
            return self.received.popleft()
        if not self.closed:
            raise TimeoutError
        raise WebSocketClosed(self.close_code or 1006, self.close_reason)

    def on_close(self, callback: Callable[[], None]) -> None:
        if self.closed:
            callback()
        else:
            self.at_close.append(callback)

    def end(self, code: int, reason: str = "") -> None:
        """Be closed, by whichever side."""
        self.closed, self.close_code, self.close_reason = True, code, reason
        callbacks, self.at_close = self.at_close, []
        for callback in callbacks:
            callback()


class FakeExchange:
    """The connection's side of a request that asks for a WebSocket."""

    def __init__(self, connection: FakeConnection | None = None) -> None:
        self.connection = connection or FakeConnection()
        self.opened: list[tuple[Request, Route]] = []

    def disconnected(self) -> bool:
        return False

    def send_interim(self, status_code: int, headers: Headers) -> None:
        raise AssertionError("nobody sends an interim response here")

    def keep(self, resource: Closable) -> None:
        raise AssertionError("nobody keeps anything here")

    def temporary_file(self) -> IO[bytes]:
        raise AssertionError("nobody stores anything here")

    def open_websocket(self, request: Request, route: Route) -> FakeConnection:
        self.opened.append((request, route))
        return self.connection
