"""A WebSocket in memory: both its ends speak the protocol, and each frame arrives at once.

A handler of events runs in the thread of the test, and only while that calls: `pump` gives it what
has come, one event at a time, as the server does. The function of a session runs in a thread of its
own; the test waits for what it sends, and for its end.

There is no network, so nothing waits for a client that reads slowly, `max_buffered` and `overflow`
have nothing to do, and nobody pings who has not been asked to.
"""

from __future__ import annotations

import os
import threading
from collections import deque

from ..errors import ServiceUnavailable, WebSocketClosed
from ..protocol.frames import Violation
from ..protocol.opening import accept
from ..protocol.websocket import WebSocket
from ..websockets import (
    WebSocketOpCode,
    WebSocketRequest,
    WebSocketSession,
    opcode_and_payload,
)
from .failures import note_exception, threads_left, watch

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..protocol.opening import Accepted
    from ..request import Request
    from ..streams import Source
    from ..websockets import Message, Outgoing, Route, Sendable

    Event = tuple[WebSocketOpCode, str | bytes]

_CLOSE, _PING, _PONG = WebSocketOpCode.Close, WebSocketOpCode.Ping, WebSocketOpCode.Pong
_MESSAGES = (WebSocketOpCode.Text, WebSocketOpCode.Binary)
_END: Event = (_CLOSE, "")
_INTERNAL_ERROR = 1011
#: A test may be sent anything.
_UNBOUNDED = 1 << 62
#: Seconds that a session has to say its last word before the client's Close is answered, as on the
#: server (`Limits.closing`).
_LAST_WORD = 2.0

# Guards `sessions` of every route.
_sessions_lock = threading.Lock()


def open_connection(request: Request, route: Route) -> MemoryConnection:
    """Accept the opening handshake of `request`; raises HTTPError as the server does."""
    accepted = accept(request, subprotocols=route.subprotocols, compression=False)
    if route.session:
        with _sessions_lock:
            if route.sessions >= route.max_sessions:
                raise ServiceUnavailable("There are too many sessions.", retry_after=1)
            route.sessions += 1
    return MemoryConnection(route, accepted)


class MemoryConnection:
    """The server's end, for the handler; and the client's, for the test, below.

    `errors` are the exceptions of the handler that nobody took.
    """

    def __init__(self, route: Route, accepted: Accepted) -> None:
        self.uid = os.urandom(16).hex()
        self.headers = accepted.headers
        self.subprotocol = accepted.subprotocol
        self.buffered = 0
        self.is_session = route.session
        self.errors: list[BaseException] = []
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self._route = route
        self._handle: WebSocketRequest | WebSocketSession | None = None
        # Guards all that follows, and is told of every change. Nothing of the application is called
        # under it.
        self._changed = threading.Condition()
        self._server = WebSocket(max_message_size=route.max_message_size)
        self._client = WebSocket(client=True, max_message_size=_UNBOUNDED)
        self._inbox: deque[Event] = deque()
        self._outbox: deque[Message] = deque()
        self._violation: Violation | None = None
        self._at_close: list[Callable[[], None]] | None = []
        # What this side has closed with.
        self._farewell = (1006, "")
        # Whether somebody runs the handler; whether Close is, or was, among the events; whether
        # the connection is gone.
        self._running = False
        self._over = False
        self._lost = False
        # Whether a session has taken a message and not asked for the next.
        self._answering = False
        self._thread: threading.Thread | None = None

    # The server's end, in any thread.

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._server.close_sent or self._lost

    @property
    def close_code(self) -> int | None:
        """Why it was closed, as the server knows it."""
        return self._server.close_code

    @property
    def close_reason(self) -> str:
        """What was said about that."""
        return self._server.close_reason

    def begin(self, handle: WebSocketRequest | WebSocketSession, /) -> None:
        """The handler is about to be called with Open, or a session's thread to be started."""
        self._handle = handle
        self._server.open()
        self._client.open()

    def send(self, message: Sendable, /) -> None:
        """Send a message to the test; raises WebSocketClosed."""
        opcode, payload = opcode_and_payload(message)
        with self._changed:
            self._require_open()
            self._to_client(self._server.encode(opcode, payload))

    def post(self, message: Outgoing, /) -> bool:
        """Send one of many; tells whether it was sent."""
        with self._changed:
            if self.closed:
                return False
            self._to_client(self._server.encode_shared(message))
            return True

    def ping(self, payload: bytes = b"", /) -> None:
        """Send a Ping, which the client answers at once; raises WebSocketClosed, ValueError."""
        payload = bytes(payload)
        if len(payload) > 125:
            raise ValueError("the payload of a Ping has at most 125 bytes (RFC 6455 §5.5)")
        with self._changed:
            self._require_open()
            self._to_client(self._server.encode(_PING, payload))

    def close(self, code: int | None = 1000, reason: str = "", /) -> None:
        """Close, and have the client answer; nothing the second time. Raises ValueError."""
        with self._changed:
            frame = self._server.close(code, reason)
            if not frame:
                return
            self._farewell = (1005 if code is None else code, reason)
            self._to_client(frame)
        self._leave()

    def feed(self, source: Source, request: Request, /) -> None:
        """Send what a source gives, as binary messages, at once; raises as `send` does."""
        one_at_a_time = threading.Lock()

        def pull() -> None:
            with one_at_a_time:
                while not self.closed and (piece := source.take()) is not None:
                    self.send(piece) if piece else self.close()

        with self._changed:
            self._require_open()
        try:
            source.open(request, pull)
        except BaseException:
            source.close()
            raise
        self.on_close(source.close)
        pull()

    def on_close(self, callback: Callable[[], None], /) -> None:
        """Call it once, when it is no longer open, or now if that is so already."""
        with self._changed:
            if self._at_close is not None:
                self._at_close.append(callback)
                return
        callback()

    def receive(self, timeout: float | None = None, /) -> Message:
        """Wait for a message of the test: the session's thread."""
        with self._changed:
            self._answering = False
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._inbox, timeout):
                raise TimeoutError(f"no message came within {timeout} seconds")
            opcode, payload = self._inbox[0]
            if opcode is not _CLOSE:
                self._inbox.popleft()
                self._answering = True
                return payload
        self._conclude()
        raise self._closed_error()

    def _require_open(self) -> None:
        if self.closed:
            raise self._closed_error()

    def _closed_error(self) -> WebSocketClosed:
        code, reason = self.close_code, self.close_reason
        if code is None:
            code, reason = self._farewell
        return WebSocketClosed(code, reason)

    # What goes over, with the lock held.

    def _to_client(self, frame: bytes) -> None:
        client = self._client
        client.receive(frame)
        while (event := client.next_event()) is not None:
            opcode, payload = event
            if opcode in _MESSAGES:
                self._outbox.append(payload)
            elif opcode is _CLOSE:
                self._to_server(client.answer_close())
            else:
                assert isinstance(payload, bytes)
                (self.pings if opcode is _PING else self.pongs).append(payload)
                if opcode is _PING and not client.close_sent:
                    self._to_server(client.encode(_PONG, payload))
        self._changed.notify_all()

    def _to_server(self, frame: bytes) -> None:
        server = self._server
        server.receive(frame)
        try:
            while (event := server.next_event()) is not None:
                opcode, payload = event
                if opcode is _CLOSE:
                    self._end()
                elif opcode in _MESSAGES or self._route.pings:
                    self._inbox.append(event)
                if opcode is _PING and not server.close_sent:
                    assert isinstance(payload, bytes)
                    self._to_client(server.encode(_PONG, payload))
        except Violation as violation:
            self._violation = violation.with_traceback(None)
            self._end()
        self._changed.notify_all()

    def _end(self) -> None:
        """Nothing more comes: the handler is told, behind all messages."""
        if not self._over:
            self._over = True
            self._inbox.append(_END)

    # The end of it, in whichever thread.

    def _conclude(self) -> None:
        """Say the server's last word, if it has not been said."""
        with self._changed:
            violation = self._violation
            server = self._server
            frame = server.answer_close() if violation is None else server.fail(violation)
            if frame:
                self._to_client(frame)
        self._leave()

    def _lose(self, reason: str) -> None:
        """The connection is gone, for both."""
        with self._changed:
            self._lost = True
            for end in (self._server, self._client):
                known = end.close_code is not None
                end.lost()
                if not known:
                    end.close_reason = reason
            self._end()
            self._changed.notify_all()
        self._leave()

    def _leave(self) -> None:
        """Tell groups and others that it is open no longer."""
        with self._changed:
            callbacks, self._at_close = self._at_close, None
        for callback in callbacks or ():
            try:
                callback()
            except BaseException:  # noqa: BLE001 - the application's code may raise anything
                note_exception("What was to be called at a WebSocket's end failed.")

    def _release(self) -> None:
        """Nobody handles anything any more."""
        with self._changed:
            handle, self._handle = self._handle, None
        if isinstance(handle, WebSocketSession):
            with _sessions_lock:
                self._route.sessions -= 1

    # The client's end, in the thread of the test.

    def refuse(self) -> None:
        """It is not opened after all, as something else was answered."""
        begun = self._handle
        self._lose("the WebSocket was not opened")
        if isinstance(begun, WebSocketRequest):
            self.pump()
        elif begun is None and self.is_session:
            # Counted, but not begun.
            with _sessions_lock:
                self._route.sessions -= 1
        else:
            self._release()

    def start(self) -> None:
        """It is open: a session begins."""
        if isinstance(self._handle, WebSocketSession):
            self._thread = threading.Thread(
                target=self._converse, name="resource_server-test-session", daemon=True
            )
            self._thread.start()

    def _converse(self) -> None:
        """The session's thread, from beginning to end; never raises."""
        session = self._handle
        assert isinstance(session, WebSocketSession)
        with watch() as errors:
            succeeded = self._route.converse(session)
            self.close(1000 if succeeded else _INTERNAL_ERROR)
        self._conclude()
        self.errors += errors
        self._release()

    def pump(self) -> None:
        """Have the handler of events deal with all that has come, unless it is at it already."""
        if self.is_session:
            return
        with self._changed:
            if self._running:
                return
            self._running = True
        while True:
            with self._changed:
                if not self._inbox:
                    self._running = False
                    return
                opcode, payload = self._inbox.popleft()
            self._call(opcode, payload)

    def _call(self, opcode: WebSocketOpCode, payload: str | bytes) -> None:
        request = self._handle
        assert isinstance(request, WebSocketRequest)
        with watch() as errors:
            if opcode is _CLOSE:
                self._conclude()
                self._route(request, opcode, payload)
                self._release()
            elif not self._server.close_sent and not self._route(request, opcode, payload):
                self.close(_INTERNAL_ERROR)
        self.errors += errors

    def client_closed(self) -> WebSocketClosed | None:
        """Return what tells that the client cannot send any more, None while it can."""
        client = self._client
        if not client.close_sent and client.close_code is None:
            return None
        return WebSocketClosed(client.close_code or 1005, client.close_reason)

    def client_code(self) -> tuple[int | None, str]:
        """Return code and reason of the server's Close, as the client knows them."""
        return self._client.close_code, self._client.close_reason

    def client_send(self, opcode: WebSocketOpCode, payload: bytes) -> None:
        """Send a message or a Ping, and let a handler of events deal with it."""
        with self._changed:
            closed = self.client_closed()
            if closed is not None:
                raise closed
            self._to_server(self._client.encode(opcode, payload))
            refused = self._violation is not None and self._idle()
        if refused and self.is_session:
            self._conclude()
        self.pump()

    def client_receive(self, timeout: float) -> Message | None:
        """Wait for a message; None when there are no more. Raises TimeoutError."""
        self.pump()
        with self._changed:
            ready = self._changed.wait_for(
                lambda: self._outbox or self._client.close_code is not None, timeout
            )
            if not ready:
                raise TimeoutError(f"no message came within {timeout} seconds")
            if self._outbox:
                return self._outbox.popleft()
        self.pump()
        return None

    def client_close(self, code: int | None, reason: str) -> None:
        """Close, and see the server answer; raises ValueError."""
        with self._changed:
            frame = self._client.close(code, reason)
            if frame:
                self._to_server(frame)
        if not self.is_session:
            self.pump()
            return
        with self._changed:
            if not self._idle():
                self._changed.wait_for(lambda: self._client.close_code is not None, _LAST_WORD)
        self._conclude()

    def _idle(self) -> bool:
        """Whether a session has dealt with all that came before the end, as far as can be told."""
        return not self._answering and bool(self._inbox) and self._inbox[0] is _END

    def client_lose(self) -> None:
        """Be gone, without a word."""
        self._lose("the connection was lost")
        self.pump()

    def join(self, timeout: float) -> None:
        """Wait for the end of a session's thread; raises ThreadsLeft."""
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise threads_left(
                    f"the WebSocket was closed, but its session has not ended in {timeout} seconds",
                    [self._thread],
                )
