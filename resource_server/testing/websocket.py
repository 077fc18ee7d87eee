"""The client's end of a WebSocket in a test."""

from __future__ import annotations

from ..errors import WebSocketClosed
from ..websockets import WebSocketOpCode, opcode_and_payload

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import Self

    from ..websockets import Message, Sendable
    from .connection import MemoryConnection
    from .response import TestResponse


class TestWebSocket:
    """A WebSocket as a client has it, open while the block of `TestClient.websocket` lasts.

    A handler of events has dealt with a message when `send` returns, and what it raises comes out
    of `send`. A session runs in a thread of its own, and what it raises comes out of `receive`,
    `close` or the end of the block, which is also the end of the thread. Iterating gives the
    messages until the application closes.

    `response` is the one that opened it; `pings` and `pongs` are the payloads of those that have
    come. Pings are answered as they come.
    """

    __test__ = False  # so that pytest does not take it for a class of tests

    def __init__(
        self,
        connection: MemoryConnection,
        response: TestResponse,
        *,
        timeout: float,
        raise_errors: bool,
    ) -> None:
        self.response = response
        self._connection = connection
        self._timeout = timeout
        self._raise_errors = raise_errors

    def __repr__(self) -> str:
        return f"<TestWebSocket {self.response.url}>"

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that both sides have agreed upon, None for none."""
        return self._connection.subprotocol

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._connection.client_closed() is not None

    @property
    def close_code(self) -> int | None:
        """The code that the application closed with, or answered; None while it is open.

        1005 if it gave none, 1006 if the connection was lost.
        """
        return self._connection.client_code()[0]

    @property
    def close_reason(self) -> str:
        """The reason that came with `close_code`, or ""."""
        return self._connection.client_code()[1]

    @property
    def pings(self) -> list[bytes]:
        """The payloads of the Pings that the application has sent."""
        return self._connection.pings

    @property
    def pongs(self) -> list[bytes]:
        """The payloads of the Pongs that have come."""
        return self._connection.pongs

    def send(self, message: Sendable) -> None:
        """Send a message: a str as text, bytes as binary.

        Raises WebSocketClosed when it is closed, what a handler of events raises, TypeError for
        what is no message and ValueError for text that is not Unicode.
        """
        opcode, payload = opcode_and_payload(message)
        self._send(opcode, payload)

    def ping(self, payload: bytes = b"") -> None:
        """Send a Ping; the Pong is in `pongs` then. Raises as `send`, ValueError if it is long."""
        self._send(WebSocketOpCode.Ping, payload)

    def _send(self, opcode: WebSocketOpCode, payload: bytes) -> None:
        try:
            self._connection.client_send(opcode, payload)
        except WebSocketClosed:
            # Closed, maybe, because the session has failed.
            self._settle()
            raise
        self._tell_errors_of_events()

    def receive(self, timeout: float | None = None) -> Message:
        """Return the next message: text as str, binary as bytes.

        Waits for it up to `timeout` seconds (those given to `TestClient.websocket` if None), and
        raises TimeoutError then; WebSocketClosed when the application has closed and all messages
        have been received; what the handler raises.
        """
        message = self._connection.client_receive(self._timeout if timeout is None else timeout)
        if message is None:
            self._settle()
            code, reason = self._connection.client_code()
            raise WebSocketClosed(code or 1006, reason)
        self._tell_errors_of_events()
        return message

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        try:
            return self.receive()
        except WebSocketClosed:
            raise StopIteration from None

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Close, and wait for the handler to end; it does nothing a second time.

        Raises what the handler raises, ThreadsLeft if a session does not end within the timeout,
        ValueError for a code or reason that may not be sent (RFC 6455 §7.4).
        """
        self._connection.client_close(code, reason)
        self._settle()

    def drop(self) -> None:
        """Be gone without a word, as a client whose network fails; else as `close`."""
        self._connection.client_lose()
        self._settle()

    def _settle(self) -> None:
        """See the handler to its end."""
        self._connection.join(self._timeout)
        self._connection.pump()
        self._tell_errors()

    def _tell_errors_of_events(self) -> None:
        """Raise what a handler of events has raised just now.

        What a session raises comes behind all that it has sent, whenever its thread did so.
        """
        if not self._connection.is_session:
            self._tell_errors()

    def _tell_errors(self) -> None:
        """Raise the first exception of the handler that has not been raised yet."""
        errors = self._connection.errors
        if errors:
            error = errors.pop(0)
            if self._raise_errors:
                raise error
