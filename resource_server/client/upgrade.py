"""How a connection becomes a WebSocket: the opening handshake, and a socket that never blocks.

`open_wire` asks a server for a WebSocket (RFC 6455 §4.1), blocking, within its timeouts. What it
returns no longer blocks: a `Wire`, whose methods need the lock of whoever owns it.
"""

from __future__ import annotations

import builtins
import ssl
from collections import deque
from time import monotonic

from ..errors import HandshakeError
from ..protocol.deflate import Deflate
from ..protocol.opening import Offer
from ..protocol.websocket import WebSocket
from .connection import RECEIVE, shut
from .errors import ClientError, ConnectError, ProtocolError, TimeoutError, TLSError  # noqa: A004
from .timeouts import Timeout
from .urls import parse_url
from .wire import MAX_INTERIM, Answer, Lost, Malformed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Self

    from ..headers import Headers
    from .answer import Outgoing
    from .connection import Held
    from .transport import Transport
    from .watchdog import Watchdog

# The most that a record of TLS holds (RFC 8446 §5.1). OpenSSL wants a write that it did not take
# again unchanged, and tells of no progress within it.
_RECORD = 16384
#: Bytes of output that waits, beyond which Pings are not answered.
MAX_PONGS = 4 * 1_048_576
# Statuses from 400 to 499 that tell to try again (RFC 9110 §15.5.9, RFC 8470, RFC 6585).
_AGAIN = frozenset([408, 425, 429])
# What has no meaning in an opening handshake: its answer has no content.
_OF_ANSWERS = ("Accept", "Accept-Encoding")


class WebSocketRefused(ClientError):  # noqa: N818 - it is what happened
    """The server did not open a WebSocket, but answered otherwise.

    `status_code` is the status of its answer (int), `headers` its fields (Headers).
    """

    status_code: int
    headers: Headers

    @property
    def is_final(self) -> bool:
        """Whether the same request would be refused again (RFC 9110 §15.5), as far as one knows."""
        return 400 <= self.status_code < 500 and self.status_code not in _AGAIN

    @classmethod
    def by(cls, answer: Answer, url: str) -> Self:
        """Return the error for an answer."""
        reason = f" {answer.reason}" if answer.reason else ""
        self = cls(
            f"the server did not open a WebSocket: {answer.status}{reason}", method="GET", url=url
        )
        self.status_code = answer.status
        self.headers = answer.headers
        return self


class Stream:
    """A socket, plain or TLS, that raises BlockingIOError where it would have to wait."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._most = _RECORD if isinstance(sock, ssl.SSLSocket) else None
        sock.settimeout(0)

    #: whether it has taken what the socket has not
    pending = False

    def receive(self) -> bytes:
        """Return what has come, b"" at the end."""
        try:
            data: bytes = self._sock.recv(RECEIVE)
            if self._most is not None:
                # What OpenSSL has decrypted already makes no socket readable again.
                while data and (more := self._sock.pending()):
                    data += self._sock.recv(more)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        return data

    def send(self, data: memoryview) -> int:
        """Send a part of it, and return how many bytes that was."""
        try:
            taken: int = self._sock.send(data[: self._most])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        return taken

    def flush(self) -> None:
        """Send what was taken."""

    def fileno(self) -> int:
        """Return the descriptor."""
        descriptor: int = self._sock.fileno()
        return descriptor

    def close(self) -> None:
        """Close the socket."""
        shut(self._sock)
        self._sock.close()


class NestedStream(Stream):
    """TLS within the TLS of an HTTPS proxy: urllib3's SSLTransport can only block."""

    def __init__(self, sock: Any) -> None:
        self._sock = sock
        self._under = Stream(sock.socket)
        self._left = memoryview(b"")

    @property
    def pending(self) -> bool:  # type: ignore[override]
        """Whether it has taken what the proxy's TLS has not."""
        return bool(self._left) or bool(self._sock.outgoing.pending)

    def receive(self) -> bytes:
        """Return what has come, b"" at the end."""
        got = b""
        while True:
            # To the last of what has come: that makes no socket readable again.
            try:
                data: bytes = self._sock.sslobj.read(RECEIVE)
            except ssl.SSLWantReadError:
                if got:
                    return got
                piece = self._under.receive()
                if piece:
                    self._sock.incoming.write(piece)
                else:
                    self._sock.incoming.write_eof()
                continue
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return got
            if not data:
                return got
            got += data

    def send(self, data: memoryview) -> int:
        """Take a record, if all of the last has been sent."""
        self.flush()
        try:
            taken: int = self._sock.sslobj.write(data[:_RECORD])
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        try:
            self.flush()
        except BlockingIOError:
            pass
        return taken

    def flush(self) -> None:
        """Send what was taken."""
        while self.pending:
            if not self._left:
                self._left = memoryview(self._sock.outgoing.read())
            self._left = self._left[self._under.send(self._left) :]


class Wire:
    """A connection that is a WebSocket: its socket, its protocol, and the output that waits."""

    __slots__ = (
        "broken", "closes_at", "heard", "opened", "outbox", "pinged",
        "protocol", "size", "stream", "subprotocol",
    )  # fmt: skip

    def __init__(self, stream: Stream, protocol: WebSocket, subprotocol: str | None) -> None:
        self.stream = stream
        self.protocol = protocol
        self.subprotocol = subprotocol
        self.outbox: deque[memoryview] = deque()
        #: bytes in the outbox
        self.size = 0
        #: nothing goes over it any more
        self.broken = False
        self.opened = self.heard = monotonic()
        #: when the Ping was sent that is not answered yet
        self.pinged: float | None = None
        #: when it is given up, once it is closing
        self.closes_at: float | None = None

    def put(self, frame: bytes) -> bool:
        """Send a frame, or keep what the socket does not take; whether anything was kept."""
        if frame and not self.broken:
            self.outbox.append(memoryview(frame))
            self.size += len(frame)
            self.flush()
        return self.waits

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""
        outbox = self.outbox
        try:
            while outbox:
                taken = self.stream.send(outbox[0])
                self.size -= taken
                if taken == len(outbox[0]):
                    outbox.popleft()
                else:
                    outbox[0] = outbox[0][taken:]
            self.stream.flush()
        except BlockingIOError:
            pass
        except OSError:
            self.drop()

    def put_pong(self, payload: bytes) -> None:
        """Answer a Ping, unless the last answers have not gone out yet (RFC 6455 §5.5.3)."""
        if self.size <= MAX_PONGS:
            self.put(self.protocol.pong(payload))

    def close_within(self, seconds: float) -> None:
        """Give it up in so many seconds, if not before."""
        ends = monotonic() + seconds
        self.closes_at = ends if self.closes_at is None else min(self.closes_at, ends)

    @property
    def waits(self) -> bool:
        """Whether something waits for the socket to take it."""
        return bool(self.outbox) or (not self.broken and self.stream.pending)

    def receive(self) -> bytes | None:
        """Return what has come; b"" at the end, None if nothing has."""
        try:
            return self.stream.receive()
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def drop(self) -> None:
        """Nothing more goes out."""
        self.broken = True
        self.outbox.clear()
        self.size = 0


class _Stage:
    """A connection during the handshake, as `Answer` reads from it."""

    def __init__(self, sock: Any, silence: float | None, ends: float | None) -> None:
        self.sock = sock
        self.buffer = b""
        # Not the longest silence but the time for all: an answer that drips is none.
        if silence is not None:
            silence += monotonic()
            ends = silence if ends is None else min(ends, silence)
        self._ends = ends

    def _limit(self) -> None:
        left = None
        if self._ends is not None:
            left = self._ends - monotonic()
            if left <= 0:
                raise builtins.TimeoutError
        self.sock.settimeout(left)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._limit()
        self.sock.sendall(data)

    def receive(self) -> bytes:
        """Wait for bytes; b"" at the end of the stream."""
        self._limit()
        try:
            data: bytes = self.sock.recv(RECEIVE)
        except ssl.SSLEOFError:
            return b""
        return data


class _Opening(Answer):
    """The answer to an opening handshake: any, but of its content nothing is read."""

    __slots__ = ()

    def __init__(self, stage: _Stage) -> None:
        self._connection = stage  # type: ignore[assignment]
        self._headers = None
        for _ in range(MAX_INTERIM + 1):
            self._read_head()
            if self.status == 101 or self.status >= 200:
                return
        raise Malformed(f"more than {MAX_INTERIM} interim answers")


class Opener:
    """All that it takes to open a WebSocket, as often as needed."""

    def __init__(
        self,
        transport: Transport,
        timeout: Timeout,
        watchdog: Watchdog | None,
        *,
        subprotocols: Sequence[str],
        compression: bool,
        max_message_size: int,
        answered: Callable[[Outgoing, Answer], object] | None,
    ) -> None:
        self._answered = answered
        self._transport = transport
        self._timeout = timeout
        self._watchdog = watchdog
        self._subprotocols = subprotocols
        self._compression = compression
        self._max_message_size = max_message_size
        # What is wrong with them is told now.
        Offer(subprotocols=subprotocols, compression=compression)

    def open(self, request: Outgoing, held: Held) -> Wire:
        """Open a WebSocket by a request, whose fields are completed.

        `held` is given what another thread can cut it with. Raises ClientError.
        """
        ends = None if self._timeout.total is None else monotonic() + self._timeout.total
        sock = self._connect(request, ends, held)
        try:
            held(lambda: shut(sock))
            wire = self._upgrade(sock, request, ends)
            held(None)
        except BaseException as error:
            shut(sock)
            sock.close()
            failure = self._failure(error, request.url)
            if failure is None:
                raise
            raise failure from failure.cause
        return wire

    def _connect(self, request: Outgoing, ends: float | None, held: Held) -> Any:
        """Return a socket that is connected to the server; the time is for all of it."""
        timeout = self._timeout
        seconds = timeout.connect
        if timeout.total is not None:
            seconds = timeout.total if seconds is None else min(seconds, timeout.total)
        cut: Any = None
        late = False

        def overdue() -> None:
            nonlocal late
            late = True
            if cut is not None:
                cut()

        def holds(free: Any) -> None:
            nonlocal cut
            held(free)
            cut = free
            if late and free is not None:
                raise builtins.TimeoutError

        alarm = None
        if self._watchdog is not None and seconds is not None:
            alarm = self._watchdog.at(monotonic() + seconds, overdue)
        try:
            sock = self._transport.connect(request.url, Timeout(connect=seconds), holds)
        except ClientError as error:
            if late:
                raise self._late(request, seconds, error.cause) from error.cause
            raise error.of("GET", request.url) from error.cause
        finally:
            if alarm is not None:
                alarm.off()
        if late:
            # A proxy's answer that was cut off may pass for a whole one.
            shut(sock)
            sock.close()
            raise self._late(request, seconds, None)
        return sock

    def _late(
        self, request: Outgoing, seconds: float | None, cause: BaseException | None
    ) -> TimeoutError:
        message = f"no connection in {seconds or 0:g} seconds"
        return TimeoutError(message, method="GET", url=request.url, cause=cause)

    def _upgrade(self, sock: Any, request: Outgoing, ends: float | None) -> Wire:
        """Do the opening handshake."""
        offer = Offer(subprotocols=self._subprotocols, compression=self._compression)
        headers = request.headers
        for name in _OF_ANSWERS:
            headers.pop(name, None)
        for name, value in offer.headers:
            headers[name] = value
        stage = _Stage(sock, self._timeout.read, ends)
        line = f"GET {parse_url(request.url)[1]} HTTP/1.1\r\n"
        stage.send(line.encode("latin-1") + headers.encode() + b"\r\n")
        answer = _Opening(stage)
        if self._answered is not None:
            self._answered(request, answer)
        if answer.status != 101:
            raise WebSocketRefused.by(answer, request.url)
        accepted = offer.check(answer.status, answer.headers)
        deflate = None if accepted.deflate is None else Deflate(accepted.deflate, client=True)
        protocol = WebSocket(client=True, max_message_size=self._max_message_size, deflate=deflate)
        protocol.open()
        protocol.receive(stage.buffer)
        nested = not hasattr(sock, "getsockopt")
        stream = NestedStream(sock) if nested else Stream(sock)
        return Wire(stream, protocol, accepted.subprotocol)

    def _failure(self, error: BaseException, url: str) -> ClientError | None:
        """Return what a failure of the handshake is to the caller, None for one that is no such."""
        if isinstance(error, ClientError):
            return None
        if isinstance(error, Malformed | HandshakeError):
            return ProtocolError(str(error), method="GET", url=url)
        if isinstance(error, Lost):
            cls = ProtocolError if error.begun else ConnectError
            return cls(str(error), method="GET", url=url)
        if isinstance(error, builtins.TimeoutError):
            return TimeoutError("no answer to the handshake in time", method="GET", url=url)
        if isinstance(error, ssl.SSLError):
            return TLSError("the TLS connection failed", method="GET", url=url, cause=error)
        if isinstance(error, OSError):
            return ConnectError("the connection was lost", method="GET", url=url, cause=error)
        return None
