"""One request and its response, without a socket: what the engine does around a handler.

The bytes of the request go through the server's own protocol, and so does the head of the response;
what lies between, the engine's dealing with bodies, expectations, streams and failures, is done
here in the thread that asks, in the same order and with the same answers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from ..engine.body import CollectedBody, LiveBody
from ..engine.coding import open_body, refused_coding
from ..engine.filecontent import FileChangedError, FileContent, UnreadableError
from ..engine.storage import Storage
from ..errors import (
    ContentTooLarge,
    Disconnected,
    ExpectationFailed,
    HTTPError,
    InternalServerError,
)
from ..headers import Headers, format_date
from ..protocol.http1 import HTTP1
from ..protocol.states import Payload
from ..response import Response, error_response, instance_of
from .connection import MemoryConnection, open_connection
from .failures import note_exception, watch
from .response import Content

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import IO, Any

    from ..protocol.limits import Limits
    from ..request import Closable, Request
    from ..routing.endpoint import Endpoint
    from ..routing.router import Router
    from ..streams import Source
    from ..websockets import Route

    Address = tuple[str, int]

#: Statuses after which a server reads nothing more of its client: the request is in doubt.
_UNTRUSTED = frozenset([400, 501])
#: Seconds to wait for a source that gives nothing.
SOURCE_PATIENCE = 5.0


class Exchange:
    """A request under way.

    `content` yields what the client sends behind the head, as it goes over the wire. Raises in the
    caller what `content` raises; what the application raises is answered.
    """

    def __init__(
        self,
        router: Router,
        limits: Limits,
        addresses: tuple[Address, Address],
        content: Iterator[bytes],
        *,
        secure: bool,
    ) -> None:
        self.limits = limits
        self.http = HTTP1(limits, secure=secure)
        self.broken = False
        self.interim: list[tuple[int, Headers]] = []
        self.request: Request | None = None
        self.connection: MemoryConnection | None = None
        #: what followed the content
        self.trailers: Headers | None = None
        #: exceptions of a WebSocket that was not opened after all
        self.errors: list[BaseException] = []
        self._router = router
        self._client, self._server = addresses
        self._content = content
        self._secure = secure
        self._endpoint: Endpoint | None = None
        self._body: CollectedBody | None = None
        self._kept: list[Closable] = []
        # Of a response's source: there may be something to take.
        self._woken = threading.Event()

    # What a request asks of its connection, and a body that is read while it arrives.

    def disconnected(self) -> bool:
        """Tell whether the client has left."""
        return self.broken

    def send_interim(self, status_code: int, headers: Headers) -> None:
        """Send an interim response: the test finds it in `TestResponse.interim`."""
        if self.http.interim(status_code, headers):
            self.interim.append((status_code, headers.copy()))

    def keep(self, resource: Closable) -> None:
        """Close something when the request has been answered."""
        self._kept.append(resource)

    def temporary_file(self) -> IO[bytes]:
        """Return a new file that is removed as `keep` has it."""
        file = Storage(self.limits).temporary_file()
        self.keep(file)
        return file

    def open_websocket(self, request: Request, route: Route) -> MemoryConnection:
        """Return a connection in memory for a WebSocket; raises HTTPError."""
        self.connection = open_connection(request, route)
        return self.connection

    def send_all(self, data: bytes) -> None:
        """Send `100 Continue`, which is all that goes out before the response."""
        if data:
            self.interim.append((100, Headers()))

    def receive_some(self, _timeout: float) -> bytes:
        """Return what the client sends next."""
        return next(self._content, b"")

    # The way of a request.

    def answer(self, head: bytes, fragment: str) -> Response:
        """Return the response of the application to a request's head and the content behind it."""
        http = self.http
        http.receive(head)
        try:
            request = http.next_request(self._client)
        except HTTPError as error:
            return error_response(error, "text/plain")
        assert request is not None, "the head is complete"
        self.request = request
        request.scheme = "https" if self._secure else "http"
        request.server_address = self._server
        request.fragment = fragment
        endpoint = self._endpoint = self._router.resolve(request)
        # An Exchange of the engine is meant, whose part it plays.
        request.exchange = self
        if endpoint.error is not None and endpoint.error.status_code in _UNTRUSTED:
            http.refuse()
            return endpoint(request)
        return endpoint(request) if http.body_complete else self._with_body(request, endpoint)

    def _with_body(self, request: Request, endpoint: Endpoint) -> Response:
        http = self.http
        length = http.framing.length
        limit = endpoint.max_content_length
        if endpoint.error is not None:
            limit = self.limits.body_memory
            if http.expects_continue or length is None or length > limit:
                return endpoint(request)
        elif length is not None and length > limit:
            return endpoint.fail(request, _too_large(limit))
        else:
            refused = refused_coding(request, endpoint)
            if refused is not None:
                return endpoint.fail(request, refused)
            if endpoint.progress is not None:
                endpoint.progress.begin(request)
            return self._accept_body(request, endpoint)
        return self._collect(request, endpoint, limit)

    def _accept_body(self, request: Request, endpoint: Endpoint) -> Response:
        limit = endpoint.max_content_length
        if self.http.expects_continue and endpoint.expect is not None:
            answer = self._ask(request, endpoint)
            if answer is not None:
                return answer
        if endpoint.stream:
            exchange: Any = self
            # A RawIOBase does all that IO[bytes] says, but is not declared to.
            request.incoming = body = LiveBody(exchange, request, limit)
            request.stream = open_body(request, endpoint, body)  # type: ignore[arg-type]
            return endpoint(request)
        return self._collect(request, endpoint, limit)

    def _ask(self, request: Request, endpoint: Endpoint) -> Response | None:
        """Return what the route answers in place of `100 Continue`, None if it wants the body."""
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
        except BaseException as error:  # noqa: BLE001 - as in the server
            wanted = error
        return endpoint.fail(request, wanted)

    def _collect(self, request: Request, endpoint: Endpoint, limit: int) -> Response:
        http = self.http
        body = self._body = CollectedBody(Storage(self.limits), limit, 0.0)
        request.incoming = body
        self.send_all(http.continue_())
        try:
            while not http.body_complete:
                http.receive(self.receive_some(0.0))
                body.write(http.read_body())
                while http.paused:
                    body.write(http.read_body())
        except ContentTooLarge as error:
            http.refuse()
            return endpoint.fail(request, error)
        request.stream = open_body(request, endpoint, body.open())
        return endpoint(request)

    # The way of its response.

    def deliver(self, response: Response, *, raises: bool) -> tuple[int, Headers, Content]:
        """Return status, header fields and content of a response as they would be sent.

        `raises` has the content raise what the application's stream raises.
        """
        first: bytes | None = None
        if self.connection is not None and (
            response.socket is not self.connection or response.status_code != 101
        ):
            self._end_websocket()
        if response.iterator is not None or response.source is not None:
            response, first = self._begin_stream(response)
        head, response = self._start(response)
        status_line, _, fields = head.removesuffix(b"\r\n\r\n").partition(b"\r\n")
        headers = Headers.parse(b"\r\n" + fields if fields else b"")
        pieces = _Delivery(self, response, self._produce(response, first), raises)
        return int(status_line[9:12]), headers, pieces

    def _begin_stream(self, response: Response) -> tuple[Response, bytes | None]:
        """Take the first piece, or open the source, so that a failure can be answered."""
        failed = False
        request, endpoint = self.request, self._endpoint
        assert request is not None
        assert endpoint is not None
        while self.http.wants_content(response.status_code):
            try:
                if response.iterator is not None:
                    return response, next(response.iterator, None)
                if response.source is not None:
                    response.source.open(request, self._woken.set)
                break
            except BaseException as error:  # noqa: BLE001 - as in the server
                _close(response)
                response = _failed() if failed else endpoint.fail(request, error)
                failed = True
        return response, None

    def _start(self, response: Response) -> tuple[bytes, Response]:
        """Return the head of a response; of a 500 if it cannot be written down."""
        from time import time

        date = f"Date: {format_date(time())}\r\n".encode()
        try:
            if response.status_code < 200 and self.connection is None:
                raise ValueError(f"{response.status_code} is no status of a final response")
            if response.body is None and not (
                response.file or response.iterator is not None or response.source is not None
            ):
                raise ValueError(
                    "the content of this response has been sent before; make a new one each time"
                )
            if response.file is not None and response.content_length is None:
                raise ValueError("a response with a file has to tell its content_length")
            return self.http.start(response, date), response
        except Exception:  # noqa: BLE001 - the application's response may be anything
            note_exception("A response could not be sent.")
            _close(response)
            self._end_websocket()
            response = _failed()
            return self.http.start(response, date), response

    def _produce(self, response: Response, first: bytes | None) -> Iterator[bytes]:
        http = self.http
        if not http.sends_payload:
            pieces: Iterator[bytes] = iter(())
        elif response.body is not None:
            pieces = iter((response.body,) if response.body else ())
        elif response.file is not None:
            pieces = self._read_file(response)
        elif response.source is not None:
            pieces = self._pull(response.source)
        else:
            pieces = self._stream(response, first)
        yield from pieces
        http.finish()

    def _read_file(self, response: Response) -> Iterator[bytes]:
        assert response.file is not None
        content = FileContent(response.file, response.content_length or 0, response.parts)
        while content.left:
            try:
                yield content.read()
            except FileChangedError as error:
                raise Disconnected("The file has shrunk, or was changed meanwhile.") from error
            except UnreadableError as error:
                raise error.__cause__ or error from None

    def _pull(self, source: Source) -> Iterator[bytes]:
        """Yield what a source gives; when it gives nothing, another thread has to make it go on."""
        http, woken = self.http, self._woken
        try:
            while True:
                woken.clear()
                piece = source.take()
                if piece:
                    http.encode(piece)
                    yield piece
                elif piece is not None:
                    http.end()
                    return
                elif not woken.wait(SOURCE_PATIENCE):
                    raise TimeoutError(
                        f"the response gave nothing within {SOURCE_PATIENCE} seconds: read it with"
                        " stream=True, and publish before what is published is read, or end it"
                    )
        except (GeneratorExit, TimeoutError):
            raise
        except BaseException as error:
            note_exception("The source of a response failed.")
            raise Disconnected("The source of the response failed.") from error

    def _stream(self, response: Response, piece: bytes | None) -> Iterator[bytes]:
        http = self.http
        sent = 0
        try:
            while piece is not None:
                http.encode(piece)
                if piece:
                    yield piece
                sent += len(piece)
                assert response.iterator is not None
                piece = next(response.iterator, None)
            if response.trailers is not None and http.payload is Payload.CHUNKED:
                self.trailers = response.trailers.fields()
            http.end()
        except (GeneratorExit, Disconnected):
            raise
        except HTTPError as error:
            raise Disconnected(f"The stream failed after {sent} bytes.") from error
        except BaseException as error:
            note_exception("A streamed response failed after %d bytes.", sent)
            raise Disconnected(f"The stream failed after {sent} bytes.") from error

    def _end_websocket(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.refuse()
            self.errors += connection.errors

    def finish(self, response: Response) -> None:
        """Let go of everything; more than once does nothing more."""
        self.broken = True
        _close(response)
        if self._body is not None:
            self._body.close()
        while self._kept:
            self._kept.pop().close()
        if self.request is not None:
            self.request.exchange = None


class _Delivery(Content):
    """The content of a response while it is produced; what fails is raised or cut as asked for."""

    def __init__(
        self, exchange: Exchange, response: Response, pieces: Iterator[bytes], raises: bool
    ) -> None:
        self._exchange = exchange
        self._response = response
        self._pieces: Iterator[bytes] | None = pieces
        self._raises = raises

    @property
    def trailers(self) -> Headers | None:
        """The fields that followed."""
        return self._exchange.trailers

    def __next__(self) -> bytes:
        if self._pieces is None:
            raise StopIteration
        failure: BaseException
        with watch() as errors:
            try:
                return next(self._pieces)
            except BaseException as error:  # noqa: BLE001 - raised below
                failure = error
        self.close()
        raise errors[0] if errors and self._raises else failure

    def close(self) -> None:
        """Produce no more."""
        self._pieces = None
        with watch() as errors:
            self._exchange.finish(self._response)
        if errors and self._raises:
            raise errors[0]


def _too_large(limit: int) -> ContentTooLarge:
    return ContentTooLarge(f"The body is longer than {limit} bytes.")


def _failed() -> Response:
    return error_response(InternalServerError(), "text/plain")


def _close(response: Response) -> None:
    """Close an iterator or a file, which is the application's code."""
    try:
        response.close()
    except BaseException:  # noqa: BLE001 - as in the server
        note_exception("A response could not be closed.")
