"""One client's connection, as the loop drives it.

============  ==========================================================  ==================
state         the loop waits for                                          it owns the socket
============  ==========================================================  ==================
HANDSHAKE     TLS                                                         yes
READING       a request's head; idle if nothing of it has come            yes
RESUMING      its turn: another request has been received already         yes
COLLECTING    a request's body                                            yes
WORKING       the thread that runs the handler to give it back            no
WRITING       the socket to take the rest of a response                   yes
CLOSING       the client to read a refusal and leave (lingering close)    yes
CLOSED        nothing                                                     no more
============  ==========================================================  ==================

Whoever leads the loop calls ``on_event`` and ``expire``; both may change the state and nothing else does.
While the state is WORKING, only the thread that runs the handler touches the socket and the protocol.
``on_event`` returns whether the caller still leads: it runs quick handlers itself, and may find
afterwards that a standby has taken over (see ``loop.py``).
"""

from __future__ import annotations

import enum
import logging
import selectors
import socket
from time import perf_counter
from typing import TYPE_CHECKING, BinaryIO, Protocol

from ..errors import ContentTooLarge, Disconnected, HTTPError, InternalServerError, RequestTimeout
from ..protocol.http1 import HTTP1
from ..response import error_response
from .access import log_access, log_access_enabled
from .body import CollectedBody, LiveBody
from .tls import TLSSocket
from .wire import RECEIVE_SIZE, Wire

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..request import Request
    from ..response import Response
    from .loop import Loop

log = logging.getLogger("resource_server")

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

#: A response up to this size goes out in one piece with its head; a longer one is not copied for that.
JOIN_SIZE = 65536
#: Bytes read from a file for each time its socket is ready.
FILE_PIECE = 262144
#: Seconds of handler time, on average, beyond which a route is handed to a worker before it runs …
HAND_OVER = 0.002
#: … and below which it comes back. Between the two it stays where it is.
TAKE_BACK = 0.0005
#: How much the newest run counts in a route's average.
_WEIGHT = 0.125


class Endpoint(Protocol):
    """What answers a request, and what the engine must know beforehand."""

    max_content_length: int
    stream: bool
    blocking: bool | None
    expect: Callable[[Request], object] | None
    #: an error that this endpoint merely tells: no body is read for it
    error: HTTPError | None
    #: seconds that its runs take (an average that the engine keeps; a lost update does no harm)
    mean: float
    #: whether its runs are handed to a worker for being slow
    slow: bool

    def __call__(self, request: Request) -> Response:
        """Answer; never raises."""

    def fail(self, request: Request, error: BaseException) -> Response:
        """Answer an error that was found before the handler ran; never raises."""


class Refusal:
    """An endpoint that answers an error in the place, and in the manner, of another one."""

    __slots__ = ("_endpoint", "error", "mean", "slow")

    max_content_length = 0
    stream = False
    blocking = None
    expect = None

    def __init__(self, endpoint: Endpoint, error: HTTPError) -> None:
        self._endpoint = endpoint
        self.error = error
        self.mean = 0.0
        self.slow = False

    def __call__(self, request: Request) -> Response:
        """Answer."""
        return self._endpoint.fail(request, self.error)

    def fail(self, request: Request, error: BaseException) -> Response:
        """Answer another error."""
        return self._endpoint.fail(request, error)


class State(enum.Enum):
    """Where a connection stands."""

    HANDSHAKE = enum.auto()
    READING = enum.auto()
    RESUMING = enum.auto()
    COLLECTING = enum.auto()
    WORKING = enum.auto()
    WRITING = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()


# Looking a member up on its class costs more than a global, and these are read for every event.
READING, WORKING = State.READING, State.WORKING


class Connection(Wire):
    """A client's connection in a loop.

    :param client_address: host and port.
    :param server_address: host and port that it reached.
    """

    __slots__ = (
        "_endpoint",
        "_file",
        "_file_left",
        "_interest",
        "_output",
        "_partial",
        "_request",
        "body",
        "client_address",
        "deadline",
        "loop",
        "server_address",
        "state",
    )

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket | TLSSocket,
        client_address: tuple[str, int],
        server_address: tuple[str, int],
    ) -> None:
        super().__init__(sock, HTTP1(loop.limits), loop.limits)
        self.loop = loop
        self.client_address = client_address
        self.server_address = server_address
        self.state = READING
        #: when to call ``expire``, ``time.monotonic`` seconds
        self.deadline = loop.now + loop.limits.head
        self.body: CollectedBody | None = None
        self._request: Request | None = None
        self._endpoint: Endpoint | None = None
        self._output: memoryview | None = None
        self._file: BinaryIO | None = None
        self._file_left = 0
        self._interest = 0
        # whether the beginning of a head has been received
        self._partial = False

    # -- the leader: events ----------------------------------------------------------------

    def open(self) -> None:
        """Begin: wait for the handshake, or for a request."""
        if isinstance(self.sock, TLSSocket):
            self.state = State.HANDSHAKE
            self.deadline = self.loop.now + self.limits.handshake
        self._watch(_READ)

    def turn_away(self, refusal: bytes) -> None:
        """Begin with the end: tell the client ``refusal``, and close."""
        self.http.refuse()
        try:
            self.sock.send(refusal)
        except OSError:
            self.close()
            return
        self._begin_closing()

    def on_event(self, mask: int) -> bool:
        """Go on, as the socket is ready (``mask``) or it is this connection's turn (0).

        :returns: whether the calling thread still leads.
        """
        state = self.state
        if state is READING:
            return self._receive()
        if state is WORKING:
            if mask:
                # Its owner will look by itself; until then it would report the same again and again.
                self._watch(0)
                return True
            return self._settle()
        if state is State.RESUMING:
            if mask:
                return True
            self.state = READING
            return self._serve()
        if state is State.COLLECTING:
            return self._receive_body()
        if state is State.WRITING:
            return self._write()
        if state is State.CLOSING:
            self._discard()
        elif state is State.HANDSHAKE:
            return self._shake_hands()
        return True

    def _shake_hands(self) -> bool:
        assert isinstance(self.sock, TLSSocket)
        try:
            self.sock.handshake()
        except BlockingIOError:
            self._watch(self.sock.wants)
        except (OSError, ValueError) as error:
            # Plain HTTP, a scan, a client that does not trust the certificate: daily life.
            log.debug("TLS handshake with %s failed: %s", self.client_address[0], error)
            self.close()
        else:
            self.state = READING
            self.deadline = self.loop.now + self.limits.head
            self._watch(_READ)
            # OpenSSL may hold a request already, which makes no socket readable.
            return self._receive()
        return True

    def _receive(self) -> bool:
        try:
            data = self.sock.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return True
        except OSError:
            self.close()
            return True
        if not data:
            # Nothing was under way, or a head that will never be complete.
            self.close()
            return True
        self.http.receive(data)
        return self._serve()

    def _serve(self) -> bool:
        """Answer the next request if its head is complete."""
        http = self.http
        try:
            request = http.next_request(self.client_address)
        except HTTPError as error:
            return self._refuse(error)
        if request is None:
            if not self._partial and http.buffered:
                self._partial = True
                self.deadline = self.loop.now + self.limits.head
            return True
        self._partial = False
        if self.loop.tls is not None:
            request.scheme = "https"
        request.server_address = self.server_address
        endpoint = self.loop.resolve(request)
        if http.body_complete:
            return self._run(request, endpoint)
        return self._begin_body(request, endpoint)

    def _refuse(self, error: HTTPError, request: Request | None = None) -> bool:
        """Answer what broke a rule of the protocol, and close."""
        self._drop_body()
        self.http.refuse()
        accept = request.headers.get("accept") if request is not None else "text/plain"
        self.state = WORKING
        self._deliver(request, error_response(error, accept), perf_counter())
        return self._settle()

    # -- the leader: bodies ----------------------------------------------------------------

    def _begin_body(self, request: Request, endpoint: Endpoint) -> bool:
        http = self.http
        length = http.content_length
        if endpoint.error is not None:
            # A small body is read and dropped, which keeps the connection; otherwise the answer
            # does not wait, and the connection ends with it.
            if http.expects_continue or length is None or length > self.limits.body_memory:
                return self._run(request, endpoint)
        elif length is not None and length > endpoint.max_content_length:
            error = ContentTooLarge(f"The body is longer than {endpoint.max_content_length} bytes.")
            return self._run(request, Refusal(endpoint, error))
        elif http.expects_continue and endpoint.expect is not None:
            return self._hand_over(request, endpoint, self._ask)
        elif endpoint.stream:
            return self._run(request, endpoint)
        return self._collect(request, endpoint)

    def _collect(self, request: Request, endpoint: Endpoint) -> bool:
        limit = endpoint.max_content_length
        if endpoint.error is not None:
            limit = self.limits.body_memory
        self.state = State.COLLECTING
        self._request, self._endpoint = request, endpoint
        self.body = CollectedBody(self.limits.body_memory, limit, self.loop.now)
        if self.http.expects_continue:
            # Into the empty buffer of a client that waits: the socket takes it, or is dead.
            try:
                self.sock.send(self.http.continue_())
            except OSError:
                self.close()
                return True
        return self._take_body()

    def _receive_body(self) -> bool:
        try:
            data = self.sock.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            # RFC 9112 §8: an incomplete request; nobody is there to be told.
            self.close()
            return True
        self.http.receive(data)
        return self._take_body()

    def _take_body(self) -> bool:
        """Keep what has arrived of the body; run the handler when it is complete."""
        http, body, request, endpoint = self.http, self.body, self._request, self._endpoint
        assert body is not None and request is not None and endpoint is not None
        try:
            body.write(http.read_body())
        except ContentTooLarge as error:
            self._drop_body()
            return self._run(request, Refusal(endpoint, error))
        except HTTPError as error:
            return self._refuse(error, request)
        except OSError as error:
            log.error("A request's body could not be stored: %s", error)
            return self._refuse(InternalServerError(), request)
        if not http.body_complete:
            # Silence is bounded, and so is dripping.
            limits = self.limits
            slowest = body.started + limits.body_idle + body.size / limits.body_rate
            self.deadline = min(self.loop.now + limits.body_idle, slowest)
            self._watch(_READ)
            return True
        if http.trailers is not None:
            request.trailers = http.trailers
        request.stream = body.open()
        self._request = self._endpoint = None
        return self._run(request, endpoint)

    def _drop_body(self) -> None:
        self._request = self._endpoint = None
        if self.body is not None:
            self.body.close()
            self.body = None

    # -- the leader: handlers --------------------------------------------------------------

    def _run(self, request: Request, endpoint: Endpoint) -> bool:
        """Run the handler here if it is quick, else have a worker run it."""
        loop = self.loop
        request.exchange = self
        blocking = endpoint.blocking
        if not loop.inline or endpoint.stream or (endpoint.slow if blocking is None else blocking):
            return self._hand_over(request, endpoint, self._work)
        self.state = WORKING
        # The lead is laid down while foreign code runs: if that takes long, the standby takes it up.
        loop.running = endpoint
        loop.started = started = perf_counter()
        loop.lead_lock.release()
        if loop.standby_asleep:
            loop.wake_standby()
        response = self._call(request, endpoint)
        leads = loop.lead_lock.acquire(False)
        _learn(endpoint, perf_counter() - started)
        if not leads:
            self._finish_late(request, response, started)
            return False
        if response.iterator is not None and not self.http.head_only:
            # Foreign code again, and maybe for hours.
            return self._hand_over(request, endpoint, lambda: self._finish(request, response, started))
        self._deliver(request, response, started)
        return self._settle()

    def _hand_over(self, request: Request, endpoint: Endpoint, job: Callable[[], None]) -> bool:
        self.state = WORKING
        self._request, self._endpoint = request, endpoint
        try:
            self.loop.crew.submit(job)
        except RuntimeError as error:
            log.error("No thread could be started for a request: %s", error)
            return self._refuse(InternalServerError(), request)
        return True

    def _settle(self) -> bool:
        """The response is on its way, and the connection the loop's again: decide what comes next."""
        http = self.http
        if self.broken:
            self.close()
            return True
        if self._output is not None or self._file is not None:
            self.state = State.WRITING
            self.deadline = self.loop.now + self.limits.write
            self._watch(_WRITE)
            return True
        if self._request is not None:
            # The worker was only asked whether the body is wanted.
            assert self._endpoint is not None
            return self._collect(self._request, self._endpoint)
        if http.keep_alive:
            self.deadline = self.loop.now + self.limits.keep_alive
            self._watch(_READ)
            if http.buffered:
                # Pipelined; the others get their turn first.
                self.loop.resume(self)
            else:
                self.state = READING
            return True
        self._begin_closing()
        return True

    # -- the thread that runs the handler --------------------------------------------------

    def _work(self) -> None:
        """A worker's job: run the handler, send what it answers, give the connection back."""
        request, endpoint = self._request, self._endpoint
        assert request is not None and endpoint is not None
        if endpoint.stream:
            request.stream = LiveBody(self, request, endpoint.max_content_length)
        started = perf_counter()
        response = self._call(request, endpoint)
        _learn(endpoint, perf_counter() - started)
        self._finish(request, response, started)

    def _ask(self) -> None:
        """A worker's job: ask the route whether it wants the body that the client announces."""
        request, endpoint = self._request, self._endpoint
        assert request is not None and endpoint is not None and endpoint.expect is not None
        started = perf_counter()
        try:
            answer = endpoint.expect(request)
        except HTTPError as error:
            answer = error
        except BaseException:
            log.exception("The expect callable of a route failed.")
            answer = InternalServerError()
        if isinstance(answer, HTTPError):
            self._finish(request, self._call(request, Refusal(endpoint, answer)), started)
        elif endpoint.stream:
            self._work()
        else:
            self.loop.post(self)

    def _call(self, request: Request, endpoint: Endpoint) -> Response:
        try:
            return endpoint(request)
        except BaseException:
            # SystemExit, KeyboardInterrupt and MemoryError included: the server lives.
            log.exception("An endpoint raised.")
            return error_response(InternalServerError(), "text/plain")

    def _finish(self, request: Request, response: Response, started: float) -> None:
        """Send the response, blocking only for streams, and give the connection back to the loop."""
        self._request = self._endpoint = None
        self._deliver(request, response, started)
        if not self.loop.post(self):
            # The server has stopped meanwhile.
            self.broken = True
            self.sock.close()

    def _finish_late(self, request: Request, response: Response, started: float) -> None:
        """``_finish`` of a thread that was the leader: it must not come back as if it still were."""
        try:
            self._finish(request, response, started)
        except Exception:
            log.exception("A response failed; this is a defect of resource_server.")

    def _deliver(self, request: Request | None, response: Response, started: float) -> None:
        """Send the response as far as the socket takes it; the rest is left to the loop.

        Streamed content (of a worker) is sent to its end. Failing, the connection is marked broken.
        """
        http = self.http
        if self.loop.stopping:
            http.keep_alive = False
        sent = 0
        try:
            head, response = self._start(response)
            body = response.body
            if body is not None:
                http.finish()
                self._send_some(head, body if http.sends_payload else b"")
                sent = len(body)
            elif not http.sends_payload:
                http.finish()
                self._send_some(head, b"")
                response.close()
            elif response.file is not None:
                sent = self._file_left = response.content_length or 0
                self._file = response.file
                self._send_some(head, b"")
            else:
                sent = self._stream(head, response)
        except Disconnected as error:
            log.debug("A response to %s was not finished: %s", self.client_address[0], error)
            self.broken = True
        except OSError as error:
            log.debug("A response to %s was not finished: %s", self.client_address[0], error)
            self.broken = True
        if self.body is not None:
            self.body.close()
            self.body = None
        if request is not None:
            request.exchange = None
        if log_access_enabled():
            log_access(self.client_address, request, response, sent, perf_counter() - started)

    def _start(self, response: Response) -> tuple[bytes, Response]:
        """The response's head; if it cannot be written down, that of a 500 in its place."""
        try:
            if response.status_code < 200:
                raise ValueError(f"{response.status_code} is no status of a final response")
            return self.http.start(response, self.loop.date_line()), response
        except Exception:
            log.exception("A response could not be sent.")
            response.close()
            response = error_response(InternalServerError(), "text/plain")
            return self.http.start(response, self.loop.date_line()), response

    def _send_some(self, head: bytes, body: bytes) -> None:
        """Send without blocking; keep what the socket does not take."""
        if len(body) <= JOIN_SIZE:
            self._output = self._try_send(head + body)
            return
        rest = self._try_send(head)
        self._output = self._try_send(body) if rest is None else memoryview(bytes(rest) + body)

    def _try_send(self, data: bytes | memoryview) -> memoryview | None:
        """Send what the socket takes now; return the rest.

        :raises OSError: when the client has gone.
        """
        try:
            taken = self.sock.send(data)
        except BlockingIOError:
            taken = 0
        return memoryview(data)[taken:] if taken < len(data) else None

    def _stream(self, head: bytes, response: Response) -> int:
        """Send an iterator's pieces as they come, each when the client has taken the one before.

        The head waits for the first piece, so that an iterator that fails at once is still answered with
        a 500; an empty piece sends the head alone.
        """
        http = self.http
        sent = 0
        pieces = response.iterator
        assert pieces is not None
        try:
            for piece in pieces:
                data = piece.encode() if isinstance(piece, str) else bytes(piece)
                sent += len(data)
                data = http.encode(data)
                if head or data:
                    self.send_all(head + data)
                    head = b""
            self.send_all(head + http.end())
            http.finish()
        except Disconnected:
            raise
        except BaseException as error:
            # What has been sent cannot be taken back: the cut tells the client that it is incomplete.
            log.exception("A streamed response failed after %d bytes.", sent)
            raise Disconnected("The stream failed.") from error
        finally:
            response.close()
        return sent

    # -- the leader: output ----------------------------------------------------------------

    def _write(self) -> bool:
        left = len(self._output) if self._output is not None else 0
        try:
            if self._output is not None:
                self._output = self._try_send(self._output)
            if self._output is None and self._file is not None:
                self._refill()
        except OSError as error:
            log.debug("A response to %s was not finished: %s", self.client_address[0], error)
            self.broken = True
        if self._output is not None and len(self._output) == left and not self.broken:
            # Nothing was taken, so the deadline stays. TLS may have to read before it writes.
            if isinstance(self.sock, TLSSocket):
                self._watch(self.sock.wants)
            return True
        return self._settle()

    def _refill(self) -> None:
        """Take the next piece of a file and send what the socket takes of it.

        :raises OSError: when the file has become shorter than announced: the cut connection tells.
        """
        assert self._file is not None
        piece = self._file.read(min(FILE_PIECE, self._file_left))
        if not piece and self._file_left:
            raise OSError("the file has shrunk")
        self._file_left -= len(piece)
        if not self._file_left:
            self._file.close()
            self._file = None
            self.http.finish()
        self._output = self._try_send(piece)

    # -- the leader: ends ------------------------------------------------------------------

    def expire(self) -> None:
        """The deadline has passed: tell a client that is slow, leave one that is idle or stuck."""
        state = self.state
        if (state is READING and self._partial) or state is State.COLLECTING:
            self._refuse(RequestTimeout("The request came too slowly."), self._request)
        else:
            self.close()

    @property
    def idle(self) -> bool:
        """Whether nothing is under way that a client waits for."""
        return self.state in (READING, State.HANDSHAKE, State.CLOSING)

    def _begin_closing(self) -> None:
        """Close so that the client surely reads the response (RFC 9112 §9.6)."""
        if self.http.client_closes and not isinstance(self.sock, TLSSocket):
            # It has said that it sends nothing more, so no unread byte can reset the connection.
            self.close()
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self.state = State.CLOSING
        self.deadline = self.loop.now + self.limits.closing
        self._watch(_READ)

    def _discard(self) -> None:
        # Closing with unread bytes would reset the connection, and the response with it.
        try:
            if self.sock.recv(RECEIVE_SIZE):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """End it now, whatever is under way, unless a handler is: that is cut off."""
        if self.state is State.CLOSED:
            return
        self._watch(0)
        working = self.state is WORKING and not self.broken
        self.state = State.CLOSED
        self.loop.forget(self)
        if working:
            self.abandon()
            return
        self.sock.close()
        self._output = None
        self._drop_body()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _watch(self, events: int) -> None:
        """Have the selector report these events of the socket, and no others."""
        if events != self._interest:
            self.loop.watch(self, self._interest, events)
            self._interest = events


def _learn(endpoint: Endpoint, elapsed: float) -> None:
    """Count a run in the route's average, and decide by it who makes the next."""
    mean = endpoint.mean = endpoint.mean + (elapsed - endpoint.mean) * _WEIGHT
    if endpoint.slow:
        endpoint.slow = mean > TAKE_BACK
    elif mean > HAND_OVER:
        endpoint.slow = True
