"""A request in the hands of the thread that answers it: the handler is run, its response sent.

That thread is a worker; or the leader, for a quick handler; or one that was the leader until a
standby took over. Between ``Connection._run`` and the connection's return to the loop it alone
touches the socket and the protocol.
"""

from __future__ import annotations

import socket
from logging import getLogger
from time import perf_counter

from ..errors import Disconnected, ExpectationFailed, HTTPError, InternalServerError
from ..protocol.http1 import HTTP1, NO_PAYLOAD
from ..protocol.states import Payload
from ..response import Response, error_response, instance_of
from .access import log_access
from .body import CollectedBody, LiveBody
from .coding import open_body
from .defects import log_exception
from .endpoint import Refusal, learn
from .filecontent import FileContent
from .wire import Wire

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import IO

    from ..request import Closable, Request
    from ..websockets import Route
    from .endpoint import Endpoint
    from .feed import Feed
    from .loop import Loop
    from .tls import TLSSocket
    from .websocket import WebSocketConnection

log = getLogger("resource_server")

#: A response up to this size goes out in one piece with its head; a longer one is not copied for
#: that.
JOIN_SIZE = 65536
#: A response up to this size may be sent together with those of others.
GATHERED_SIZE = 16384
#: Bytes of a file that are sent before others get their turn.
FILE_TURN = 1048576
#: Seconds that a piece of a stream takes to come if the stream waits for something: it is worth a
#: look whether the client is still there.
SLOW_PIECE = 0.01
# The head waits for the file that follows, for it to share a packet (Linux).
_MORE = getattr(socket, "MSG_MORE", 0)
#: In place of what an endpoint failed to give; made beforehand, as there may be no memory then.
_FAILED = error_response(InternalServerError(), "text/plain")


class Exchange(Wire):
    """A connection as far as it answers requests.

    :param client_address: host and port.
    """

    __slots__ = (
        "_endpoint",
        "_feed",
        "_file",
        "_kept",
        "_output",
        "_request",
        "_websocket",
        "body",
        "client_address",
        "loop",
    )

    def __init__(
        self, loop: Loop, sock: socket.socket | TLSSocket, client_address: tuple[str, int]
    ) -> None:
        super().__init__(
            sock, HTTP1(loop.limits, secure=loop.tls is not None), loop.limits, loop.crew
        )
        self.loop = loop
        self.client_address = client_address
        self.body: CollectedBody | None = None
        # To be closed with the request. A tuple, as nearly all requests have none.
        self._kept: tuple[Closable, ...] = ()
        self._request: Request | None = None
        self._endpoint: Endpoint | None = None
        # What is left of the response for the loop to send: bytes, and then a file, or what a
        # source gives.
        self._output: memoryview | None = None
        self._feed: Feed | None = None
        self._file: FileContent | None = None
        # Opened by the request that is being answered.
        self._websocket: WebSocketConnection | None = None

    if TYPE_CHECKING:

        def on_event(self, mask: int) -> bool:
            """Go on in the loop, as `Connection` does."""

        def send_response(self, data: bytes) -> None:
            """Send a response that was gathered with others, as `Connection` does."""

        def drop(self) -> None:
            """End now, as `Connection` does."""

        def _open_source(self, request: Request, response: Response) -> None:
            """Open a response's source, as `Feeding` does."""

    # -- a worker's jobs -------------------------------------------------------------------

    def work(self) -> None:
        """Run the handler, send what it answers, give the connection back."""
        request, endpoint = self._request, self._endpoint
        assert request is not None
        assert endpoint is not None
        if self.broken:
            # Cut off before its turn came.
            self._give_back()
            return
        if endpoint.stream:
            request.incoming = body = LiveBody(self, request, endpoint.max_content_length)
            # A RawIOBase does all that IO[bytes] says, but is not declared to.
            request.stream = open_body(request, endpoint, body)  # type: ignore[arg-type]
        started = perf_counter()
        response = self._call(request, endpoint)
        learn(endpoint, perf_counter() - started)
        self.finish(request, endpoint, response, started)

    def ask(self) -> None:
        """Ask the route whether it wants the body that the client announces."""
        request, endpoint = self._request, self._endpoint
        assert request is not None
        assert endpoint is not None
        started = perf_counter()
        response = self._decide(request, endpoint)
        if response is not None:
            self.finish(request, endpoint, response, started)
        elif endpoint.stream:
            self.work()
        else:
            self._give_back()

    def _decide(self, request: Request, endpoint: Endpoint) -> Response | None:
        """The answer in place of `100 Continue`, or None if the body is wanted."""
        assert endpoint.expect is not None
        try:
            wanted = endpoint.expect(request)
            if wanted is None or wanted is True:
                return None
            if wanted is False:
                wanted = ExpectationFailed("The body is not wanted.")
            if isinstance(wanted, type):
                wanted = instance_of(wanted)
            if isinstance(wanted, Response):
                return wanted
            if not isinstance(wanted, HTTPError):
                kind = type(wanted).__name__
                wanted = TypeError(f"expect returns a bool, a response or an error, not {kind}")
        except BaseException as error:  # noqa: BLE001 - one request never ends the server
            wanted = error
        return self._call(request, Refusal(endpoint, wanted))

    # -- the thread that answers -----------------------------------------------------------

    def finish(
        self, request: Request, endpoint: Endpoint, response: Response, started: float
    ) -> None:
        """Send the response, blocking only for streams, and give the connection back to the loop.

        Never raises: a thread that was the leader must not come back as if it still were.
        """
        self._request = self._endpoint = None
        try:
            self._deliver(request, endpoint, response, started)
            if self._file is not None and self._output is None:
                self.pump()
        except BaseException:  # noqa: BLE001 - whatever it was, the connection goes back
            self.broken = True
            log_exception("A response failed; this is a defect of resource_server.")
        self._give_back()

    def _give_back(self) -> None:
        if not self.loop.post(self):
            # The server has stopped meanwhile.
            self.release()

    def _call(self, request: Request, endpoint: Endpoint) -> Response:
        try:
            return endpoint(request)
        except BaseException:  # noqa: BLE001 - SystemExit and MemoryError included
            return failed_response()

    def _deliver(
        self,
        request: Request | None,
        endpoint: Endpoint | None,
        response: Response,
        started: float,
        *,
        gathered: bool = False,
    ) -> bool:
        """Send the response as far as the socket takes it; the rest is left to the loop.

        Streamed content (of a worker) is sent to its end. Failing, the connection is marked broken.

        :param gathered: whether the loop may send it in a moment, with those of others.
        :returns: whether it will.
        """
        http, loop = self.http, self.loop
        if loop.stopping:
            http.keep_alive = False
        later = False
        if response.body is None or self._websocket is not None or response.status_code < 200:
            response, sent = self._send_other(request, endpoint, response)
        else:
            # Nearly all are such, and need no look at what else they might be: 1 µs.
            try:
                head = http.start(response, loop.date if gathered else loop.date_line())
            except Exception:  # noqa: BLE001 - the application's response may be anything
                head, response = self._start_failed(response)
            http.finish()
            body = b"" if http.payload is NO_PAYLOAD else response.body
            assert body is not None
            sent = len(body)
            if gathered and sent <= GATHERED_SIZE:
                loop.send_later(self, head + body, started)
                later = True
            else:
                try:
                    self._send_some(head, body)
                except OSError as error:
                    self._lose(error)
        if self._kept or self.body is not None:
            self._let_go()
        if request is not None:
            request.exchange = None
        if loop.access_logged:
            log_access(self.client_address, request, response, sent, perf_counter() - started)
        return later

    def _send_other(
        self, request: Request | None, endpoint: Endpoint | None, response: Response
    ) -> tuple[Response, int]:
        """Send one that is a stream or a file, or that a WebSocket has to do with.

        :returns: what has been sent, and the bytes of its content as far as they are known.
        """
        http = self.http
        sent = 0
        if response.socket is not self._websocket or response.status_code != 101:
            self._end_websocket()
        try:
            first: bytes | None = None
            if response.iterator is not None or response.source is not None:
                assert request is not None
                assert endpoint is not None
                response, first = self._begin_stream(request, endpoint, response)
            head, response = self._start(response)
            if response is _FAILED:
                self._end_websocket()
                self._close_feed()
            body = response.body
            if body is not None:
                if self._websocket is not None:
                    self._websocket.leftover = http.take_buffer()
                http.finish()
                if not http.sends_payload:
                    body = b""
                self._send_some(head, body)
                sent = len(body)
            elif not http.sends_payload:
                http.finish()
                close_response(response)
                self._send_some(head, b"")
            elif response.file is not None:
                file, response.file = response.file, None
                self._file = FileContent(file, response.content_length or 0, response.parts)
                sent = self._file.left
                with self._io:
                    self._output = self._try_send(head, _MORE)
            elif self._feed is not None:
                self._send_some(head, b"")
            else:
                sent = self._stream(head, first, response)
        except OSError as error:
            # Disconnected is one of them.
            self._lose(error)
        return response, sent

    def _lose(self, error: OSError) -> None:
        """The client has left, and its connection will be closed."""
        log.debug("A response to %s was not finished: %s", self.client_address[0], error)
        self.broken = True

    def _start(self, response: Response) -> tuple[bytes, Response]:
        """The response's head; if it cannot be written down, that of a 500 in its place."""
        try:
            if response.status_code < 200 and self._websocket is None:
                raise ValueError(f"{response.status_code} is no status of a final response")
            if response.body is None and self._feed is None:
                _check_source(response)
            return self.http.start(response, self.loop.date_line()), response
        except Exception:  # noqa: BLE001 - as in _deliver
            return self._start_failed(response)

    def _start_failed(self, response: Response) -> tuple[bytes, Response]:
        """Start a 500 in the place of a response that could not be written down."""
        log_exception("A response could not be sent.")
        close_response(response)
        return self.http.start(_FAILED, self.loop.date_line()), _FAILED

    def _send_some(self, head: bytes, body: bytes) -> None:
        """Send without blocking; keep what the socket does not take."""
        # Against `abandon`, which may close the socket under a handler that is late.
        with self._io:
            if len(body) <= JOIN_SIZE:
                self._output = self._try_send(head + body)
                return
            rest = self._try_send(head)
            if rest is None:
                self._output = self._try_send(body)
            else:
                self._output = memoryview(bytes(rest) + body)

    def _try_send(self, data: bytes | memoryview, flags: int = 0) -> memoryview | None:
        """Send what the socket takes now; return the rest.

        :param flags: of a plain socket; TLS has none.
        :raises OSError: when the client has gone.
        """
        sock = self.sock
        try:
            if flags and isinstance(sock, socket.socket):
                taken = sock.send(data, flags)
            else:
                taken = sock.send(data)
        except BlockingIOError:
            taken = 0
        return memoryview(data)[taken:] if taken < len(data) else None

    def pump(self) -> None:
        """Send what the socket takes of a file, up to `FILE_TURN`; never raises.

        A file that has become shorter than announced, or another one, breaks the connection: that
        tells the client.
        """
        content = self._file
        assert content is not None
        try:
            self._send_pieces(content)
            if not content.left:
                self._file = None
                content.close()
                self.http.finish()
        except OSError as error:
            self._lose(error)
        except BaseException:  # noqa: BLE001 - the application's object may raise anything
            log_exception("The file of a response could not be read.")
            self.broken = True

    def _send_pieces(self, content: FileContent) -> None:
        """Send pieces until the socket takes no more, the file ends, or it is the others' turn.

        :raises UnreadableError: when the file cannot be read.
        :raises OSError: when it is not what it was, or the client has gone.
        """
        sock = self.sock
        end = max(0, content.left - FILE_TURN)
        plain = isinstance(sock, socket.socket)
        while content.left > end and self._output is None:
            if plain:
                # While the system reads the disk here, `abandon` waits for it: for one piece.
                with self._io:
                    sent = content.send(sock.fileno())
                if sent == 0:
                    return
                if sent is not None:
                    continue
            piece = content.read()
            with self._io:
                self._output = self._try_send(piece)

    def keep(self, resource: Closable) -> None:
        """Close ``resource`` when the request has been answered, or its client has left."""
        self._kept += (resource,)

    def temporary_file(self) -> IO[bytes]:
        """A new file that is removed as :meth:`keep` has it.

        :raises OSError: when the system has none.
        """
        file = self.loop.storage.temporary_file()
        self.keep(file)
        return file

    def open_websocket(self, request: Request, route: Route) -> WebSocketConnection:
        """Accept a request's opening handshake; the response that opens it has yet to be given.

        :raises HTTPError: for a handshake that is not valid, or when there is no room.
        """
        # Imported on first use: a server without WebSockets does without.
        from .websocket import open_websocket

        if self._websocket is not None:
            raise RuntimeError("a request opens one WebSocket at most")
        self._websocket = open_websocket(self.loop, self.sock, request, route)
        return self._websocket

    def _end_websocket(self) -> None:
        """It is not opened after all."""
        websocket, self._websocket = self._websocket, None
        if websocket is not None:
            websocket.refuse()

    # -- the thread that answers: streams --------------------------------------------------

    def _begin_stream(
        self, request: Request, endpoint: Endpoint, response: Response
    ) -> tuple[Response, bytes | None]:
        """Take the first piece before the head is sent, so that a failure can still be answered.

        An empty piece has the head sent without waiting for more. A response without content takes
        none. A source is opened in the same place.

        :returns: what to send, and its first piece or None.
        """
        failed = False
        while self.http.wants_content(response.status_code):
            try:
                if response.iterator is not None:
                    return response, next(response.iterator, None)
                if response.source is not None:
                    self._open_source(request, response)
                break
            except Disconnected:
                close_response(response)
                raise
            except BaseException as error:  # noqa: BLE001 - one request never ends the server
                close_response(response)
                # In the manner of the route, which may be another stream, but not for ever.
                response = _FAILED if failed else endpoint.fail(request, error)
                failed = True
        return response, None

    def _stream(self, head: bytes, first: bytes | None, response: Response) -> int:
        """Send an iterator's pieces as they come, each when the client has taken the one before.

        :raises Disconnected: when the client has left, or the iterator failed and it must be cut
            off.
        """
        http = self.http
        sent = 0
        pieces = response.iterator
        assert pieces is not None
        piece = first
        waited = 0.0
        try:
            while piece is not None:
                data = http.encode(piece)
                sent += len(piece)
                if head or data:
                    self.send_all(head + data)
                    head = b""
                    # RFC 9110 §10.1.1: a client that has a final status is asked for nothing more.
                    http.expects_continue = False
                if waited > SLOW_PIECE and self.gone():
                    # Found now, and not in a piece that may be an hour away.
                    raise Disconnected("The client has gone.")
                waited = -perf_counter()
                piece = next(pieces, None)
                waited += perf_counter()
            trailers = response.trailers
            if trailers is None or http.payload is not Payload.CHUNKED:
                self.send_all(head + http.end())
            else:
                self.send_all(head + http.end(trailers.fields()))
            http.finish()
        except Disconnected:
            raise
        except HTTPError as error:
            # The client's fault, in a body that is read while the answer is on its way.
            log.debug("A streamed response to %s failed: %s", self.client_address[0], error)
            self._cut_stream()
            raise Disconnected("The stream failed.") from error
        except BaseException as error:
            # What has been sent cannot be taken back: the cut tells the client that it is
            # incomplete.
            log_exception("A streamed response failed after %d bytes.", sent)
            self._cut_stream()
            raise Disconnected("The stream failed.") from error
        finally:
            close_response(response)
        return sent

    def _cut_stream(self) -> None:
        """Have the end that is to come tell that content is missing."""
        if self.http.payload is Payload.UNTIL_CLOSE:
            self.reset_on_close()

    # -- the last owner --------------------------------------------------------------------

    def release(self) -> None:
        """Let go of everything that the connection holds; more than once does nothing more."""
        self.broken = True
        self.sock.close()
        self._output = None
        self._drop_body()
        self._end_websocket()
        self._close_feed()
        if self._file is not None:
            self._file.close()
            self._file = None

    def _close_feed(self) -> None:
        feed, self._feed = self._feed, None
        if feed is not None:
            feed.close()

    def _drop_body(self) -> None:
        self._request = self._endpoint = None
        self._let_go()

    def _let_go(self) -> None:
        """Remove the body, and what was to be kept no longer than its request."""
        if self.body is not None:
            self.body.close()
            self.body = None
        if self._kept:
            kept, self._kept = self._kept, ()
            for resource in reversed(kept):
                try:
                    resource.close()
                except Exception:  # noqa: BLE001 - a disk that is full, for instance
                    log_exception("What a request had stored could not be closed.")


def _check_source(response: Response) -> None:
    if response.file is not None:
        if response.content_length is None:
            raise ValueError("a response with a file has to tell its content_length")
    elif response.iterator is None and response.source is None:
        raise ValueError(
            "the content of this response has been sent before; make a new one each time"
        )


def failed_response() -> Response:
    """Log that an endpoint has raised, which none should; return a 500 in its place."""
    log_exception("An endpoint raised.")
    return _FAILED


def close_response(response: Response) -> None:
    """Close an iterator or a file, which is the application's code."""
    try:
        response.close()
    except BaseException:  # noqa: BLE001 - one request never ends the server
        log_exception("A response could not be closed.")
