"""One request from start to end: attempts, redirects, a challenge, and the answer's content.

`Exchange.run` is called in a worker's thread and ends the handle. It holds one connection at a
time, which goes back to the pool when all of an answer has been read, and is closed otherwise.
"""

from __future__ import annotations

import builtins
import random
from contextlib import suppress
from time import monotonic, time

from ..dates import parse_date
from .answer import Outgoing, response_class
from .decoding import decoded, decoders
from .errors import (
    ClientError,
    ConnectError,
    ProtocolError,
    TimeoutError,  # noqa: A004
    TLSError,
    TooLarge,
    TooManyRedirects,
)
from .handle import Ended
from .pool import Closed
from .urls import joined
from .wire import Answer, Lost, Malformed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ..headers import Headers
    from .answer import ClientResponse
    from .connection import Connection
    from .handle import RequestHandle
    from .payload import Payload
    from .rules import Auth, Progress, Rules, Sink
    from .timeouts import Timeout
    from .transport import Transport
    from .urls import Origin
    from .watchdog import Watchdog

# RFC 9110 §9.2.2.
IDEMPOTENT = frozenset(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"])
_REDIRECTS = frozenset([301, 302, 303, 307, 308])
_RETRIED = frozenset([502, 503, 504])
# What belongs to one origin alone.
_CREDENTIALS = ("Authorization", "Cookie", "Proxy-Authorization")
_OF_CONTENT = (
    "Content-Type", "Content-Encoding", "Content-Language", "Content-Location", "Content-Range",
    "Content-Digest", "Repr-Digest", "Digest", "Last-Modified", "Expect",
)  # fmt: skip
# Bytes of an answer that are read so that its connection can be used again; more costs more than a
# new connection does.
MAX_DRAINED = 65536
# Seconds: the first pause before a retry, doubled for each, and the longest.
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
# The longest Retry-After that is waited for when there is no total.
LONGEST_RETRY_AFTER = 60.0
# Content up to this many bytes goes out together with the head.
_SMALL = 16384


class _Callers(Exception):  # noqa: N818 - what it holds may be an error
    """Something that the caller has given raised `error`, which must not be taken for ours."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Exchange:
    """A request, and all that is needed to make it."""

    __slots__ = (
        "_answered", "_attempts", "_client", "_ends", "_redirects", "_sent", "auth", "handle",
        "headers", "method", "origin", "payload", "progress", "rules", "sink", "target", "timeout",
        "transport", "watchdog",
    )  # fmt: skip

    def __init__(
        self,
        handle: RequestHandle,
        origin: Origin,
        target: str,
        headers: Headers,
        payload: Payload | None,
        timeout: Timeout,
        *,
        rules: Rules,
        transport: Transport,
        watchdog: Watchdog,
        auth: Auth | None,
        progress: Progress | None,
        sink: Sink | None,
        client: object,
    ) -> None:
        # Not gone before its requests are done.
        self._client = client
        self.handle = handle
        self.method = handle.method
        self.origin = origin
        self.target = target
        self.headers = headers
        self.payload = payload
        self.timeout = timeout
        self.rules = rules
        self.transport = transport
        self.watchdog = watchdog
        self.auth = auth
        self.progress = progress
        self.sink = sink
        self._attempts = 0
        self._redirects = 0
        self._answered = False
        self._sent: Outgoing | None = None
        total = timeout.total
        self._ends = None if total is None else handle.started + total

    def run(self) -> None:
        """End the handle with what the request ends in; never raises."""
        handle = self.handle
        if not handle.begin():
            return
        try:
            response = self._response()
        except BaseException as error:  # noqa: BLE001 - it is the caller's, whatever it is
            self._give_up_sink()
            _clear_frames(error)
            # One that is over, which Ended tells among others, keeps what it ended in.
            handle.fail(error)
        else:
            handle.succeed(response)
        finally:
            # The error has this frame, the handle has the error, and the frame would have both.
            del self, handle

    def overdue(self) -> None:
        """End the handle, as its total time has passed."""
        self.handle.expire(self._error(TimeoutError, f"not done in {self.timeout.total:g} seconds"))

    def _give_up_sink(self) -> None:
        sink, self.sink = self.sink, None
        if sink is not None:
            with suppress(Exception):
                sink.fail()

    def _error(
        self, cls: type[ClientError], message: str, cause: BaseException | None = None
    ) -> ClientError:
        return cls(message, method=self.method, url=self.origin.text + self.target, cause=cause)

    # From attempt to attempt.

    def _response(self) -> ClientResponse:
        """Ask until there is an answer that is to be given to the caller."""
        while True:
            try:
                connection, answer = self._ask()
            except ConnectError:
                if not self._may_retry() or not self._pause(self._backoff()):
                    raise
                continue
            try:
                again = self._goes_on(answer)
                if again is None:
                    response = self._read(answer)
                else:
                    self._drain(answer)
                    # From here on nobody cuts it.
                    self.handle.held(None)
            except BaseException:
                self._discard(connection)
                raise
            self._return(connection, answer)
            if again is None:
                return response
            again()

    def _goes_on(self, answer: Answer) -> Callable[[], None] | None:
        """Return what to do before the request is made again, None if this is the answer."""
        self._keep_cookies(answer)
        status = answer.status
        if self.sink is not None and self.sink.again(status, answer.headers):
            return lambda: None
        if status < 300:
            return None
        if status in _REDIRECTS:
            location = answer.headers.get("location")
            if location is None or not self.rules.max_redirects:
                return None
            return lambda: self._redirect(status, location)
        if status == 401 and self._challenged(answer):
            return lambda: None
        if status in _RETRIED and self._may_retry():
            delay = self._retry_after(answer)
            if self._fits(delay):
                return lambda: self.handle.pause(delay)
        return None

    def _keep_cookies(self, answer: Answer) -> None:
        cookies = self.rules.cookies
        if cookies is not None and "set-cookie" in answer.headers:
            cookies.keep(self.origin, self.target, answer.headers)

    def _challenged(self, answer: Answer) -> bool:
        """Ask `auth` whether it can answer a challenge; once, as a second is a refusal."""
        ask = getattr(self.auth, "answer", None)
        if ask is None or self._answered or not self._repeatable:
            return False
        self._answered = True
        assert self._sent is not None
        response = response_class(401, "").received(401, answer.headers, b"", self._sent, 0.0)
        return bool(ask(response))

    @property
    def _repeatable(self) -> bool:
        return self.payload is None or self.payload.repeatable

    def _may_retry(self) -> bool:
        if self._attempts > self.rules.retries or self.method not in IDEMPOTENT:
            return False
        return self._repeatable and not self.handle.over

    def _backoff(self) -> float:
        """Return the seconds before the next attempt; at random, so that clients do not align."""
        pause: float = min(FIRST_PAUSE * 2 ** (self._attempts - 1), LONGEST_PAUSE)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret

    def _retry_after(self, answer: Answer) -> float:
        """Return what the server asks for (RFC 9110 §10.2.3), or the back-off."""
        value = answer.headers.get("retry-after", "")
        if value.isascii() and value.isdigit():
            return float(value[:9])
        date = parse_date(value)
        return self._backoff() if date is None else max(0.0, date - time())

    def _fits(self, seconds: float) -> bool:
        if self._ends is None:
            return seconds <= LONGEST_RETRY_AFTER
        return monotonic() + seconds < self._ends

    def _pause(self, seconds: float) -> bool:
        if not self._fits(seconds):
            return False
        self.handle.pause(seconds)
        return True

    def _redirect(self, status: int, location: str) -> None:
        """Change the request to what a redirect asks for (RFC 9110 §15.4)."""
        if self._redirects >= self.rules.max_redirects:
            raise self._error(TooManyRedirects, f"more than {self.rules.max_redirects} redirects")
        self._redirects += 1
        self._attempts = 0
        self._answered = False
        before = self.origin
        try:
            origin, target = joined(before, self.target, location)
        except ValueError as error:
            raise self._error(ProtocolError, "a redirect that cannot be followed", error) from error
        if before.scheme == "https" and origin.scheme == "http" and not self.rules.downgrade:
            raise self._error(ProtocolError, "a redirect from https to http is not followed")
        if status == 303 or (status in (301, 302) and self.method == "POST"):
            if self.method != "HEAD":
                self.method = "GET"
            self.payload = None
            for name in _OF_CONTENT:
                self.headers.pop(name, None)
        elif not self._repeatable:
            raise self._error(ProtocolError, "a redirect asks for a payload that is used up")
        if origin != before:
            self.auth = None
            for name in _CREDENTIALS:
                self.headers.pop(name, None)
            self.headers["Host"] = origin.authority
        self.origin = origin
        self.target = target

    # One attempt.

    def _ask(self) -> tuple[Connection, Answer]:
        """Send the request once and return the head of the answer, with its connection.

        A connection that was kept may be closed by the server just then. If nothing of an answer
        has come, and it does no harm to ask twice, that is done on a new one (RFC 9112 §9.3.1).
        """
        self._attempts += 1
        fresh = False
        while True:
            connection = self._connection(fresh)
            try:
                return connection, self._converse(connection)
            except (OSError, Malformed, Lost) as error:
                self._discard(connection)
                stale = isinstance(error, ConnectionError) or (
                    isinstance(error, Lost) and not error.begun
                )
                if (
                    stale
                    and connection.reused
                    and self.method in IDEMPOTENT
                    and self._repeatable
                    and not self.handle.over
                ):
                    fresh = True
                    continue
                failure = self._failure(error)
                raise failure from failure.cause
            except _Callers as error:
                self._discard(connection)
                raise error.error from None
            except BaseException:
                self._discard(connection)
                raise

    def _failure(self, error: BaseException) -> ClientError:
        """Return what a failure of the connection is to the caller."""
        if isinstance(error, Malformed):
            return self._error(ProtocolError, str(error))
        if isinstance(error, Lost):
            return self._error(ProtocolError if error.begun else ConnectError, str(error))
        if isinstance(error, builtins.TimeoutError):
            read = self.timeout.read
            # The system gives up a connection too, with a number; ours has none.
            told = "long" if read is None or error.errno else f"{read:g} seconds"
            return self._error(TimeoutError, f"nothing moved for {told}", error)
        import ssl

        if isinstance(error, ssl.SSLError):
            return self._error(TLSError, "the TLS connection failed", error)
        return self._error(ConnectError, "the connection was lost", error)

    def _connection(self, fresh: bool) -> Connection:
        """Return a connection to the origin, kept or new."""
        pool = self.transport.pool
        try:
            connection = pool.take(self.origin, self.handle, fresh=fresh)
        except Closed:
            self.handle.cancel()
            raise Ended from None
        if connection is not None:
            return connection
        try:
            return self._connected()
        except BaseException as error:
            pool.give_up()
            if isinstance(error, ClientError):
                url = self.origin.text + self.target
                raise error.of(self.method, url) from error.cause
            raise

    def _connected(self) -> Connection:
        """Return a new connection; when the time for it has passed, the handle ends at once."""
        self.transport.prepare(self.origin)
        seconds = self.timeout.connect
        if seconds is None:
            return self.transport.open(self.origin, None, self.handle.held)
        alarm = self.watchdog.at(monotonic() + seconds, self._unconnected)
        try:
            return self.transport.open(self.origin, seconds, self.handle.held)
        finally:
            alarm.off()

    def _unconnected(self) -> None:
        message = f"no connection in {self.timeout.connect:g} seconds"
        self.handle.expire(self._error(TimeoutError, message))

    def _discard(self, connection: Connection) -> None:
        """Close a connection whose state is not known."""
        with suppress(Ended):
            self.handle.held(None)
        connection.reset()
        self.transport.pool.give_up()

    def _return(self, connection: Connection, answer: Answer) -> None:
        """Give a connection back: for the next request, if all of the answer was read."""
        if answer.done and answer.keep:
            self.transport.pool.give_back(connection)
            return
        if answer.done:
            connection.close()
        else:
            connection.reset()
        self.transport.pool.give_up()

    def _converse(self, connection: Connection) -> Answer:
        """Send the request and read the head of the answer."""
        self.handle.held(connection.cut)
        connection.set_timeout(self.timeout.read)
        try:
            request = self._outgoing()
        except OSError as error:
            raise _Callers(error) from error
        head = self._head(request, connection.forwarding)
        payload = self.payload
        try:
            if payload is None:
                connection.send(head)
            elif payload.body is not None and len(payload.body) <= _SMALL:
                connection.send(head + payload.body)
                self._tell(len(payload.body))
            else:
                self._send(connection, head, payload)
        except OSError as error:
            # The server may have answered before it has taken all, and closed, or reads no more.
            if not connection.readable:
                raise
            try:
                answer = Answer(connection, self.method)
            except (OSError, Malformed, Lost):
                raise error from None
            answer.keep = False
            return answer
        return Answer(connection, self.method)

    def _outgoing(self) -> Outgoing:
        """Return the request with the fields that are made for each attempt."""
        request = Outgoing(self.method, self.origin.text + self.target, self.headers)
        cookies = self.rules.cookies
        given = None if cookies is None else cookies.of(self.origin, self.target)
        if given or self.auth is not None or self.sink is not None:
            headers = request.headers = self.headers.copy()
            if given:
                own = headers.get("cookie")
                headers["Cookie"] = f"{own}; {given}" if own else given
            if self.auth is not None:
                self.auth(request)
            if self.sink is not None:
                self.sink.begin(headers, request.method, request.url)
        self._sent = request
        return request

    def _head(self, request: Outgoing, forwarding: bool) -> bytes:
        """Return the request line and fields as they are sent (RFC 9112 §3)."""
        payload = self.payload
        target = self.target
        extra = ""
        if payload is not None:
            if payload.length is None:
                extra = "Transfer-Encoding: chunked\r\n"
            else:
                extra = f"Content-Length: {payload.length}\r\n"
        elif self.method in ("POST", "PUT", "PATCH"):
            extra = "Content-Length: 0\r\n"
        if forwarding:
            # RFC 9112 §3.2.2 absolute-form.
            target = f"http://{self.origin.authority}{'' if target == '*' else target}"
            for name, value in self.transport.proxy_fields(self.origin).items():
                extra += f"{name}: {value}\r\n"
        line = f"{self.method} {target} HTTP/1.1\r\n{extra}"
        return line.encode("latin-1") + request.headers.encode() + b"\r\n"

    def _send(self, connection: Connection, head: bytes, payload: Payload) -> None:
        """Send the head and a payload in pieces."""
        connection.send(head)
        chunked = payload.length is None
        done = 0
        pieces = payload.pieces()
        while True:
            try:
                piece = next(pieces, None)
            except Exception as error:
                raise _Callers(error) from error
            if piece is None:
                break
            size = len(piece)
            if size:
                connection.send(b"%x\r\n%b\r\n" % (size, piece) if chunked else piece)
                done += size
                self._tell(done)
        if chunked:
            connection.send(b"0\r\n\r\n")

    def _tell(self, done: int) -> None:
        """Tell the progress of an upload; that of a download is its sink's to tell."""
        if self.progress is None or self.sink is not None:
            return
        assert self.payload is not None
        try:
            self.progress(done, self.payload.length)
        except Exception as error:
            raise _Callers(error) from error

    # The answer.

    def _read(self, answer: Answer) -> ClientResponse:
        """Read the content of the answer, and return the response."""
        headers = answer.headers
        sink = self.sink
        stages: list[Any] | None = []
        coding = headers.get("content-encoding")
        if coding is not None and not answer.done:
            try:
                stages = decoders(coding)
            except ValueError as error:
                raise self._error(ProtocolError, str(error)) from None
        body = b""
        if sink is not None and self._accepted(sink, answer):
            limit = self.rules.max_response_size if stages else None
            for piece in self._content(answer, stages or [], limit):
                sink.write(piece)
            # Before the file has its name: what is cancelled has left none.
            self.handle.settle()
            self._finish(sink)
        else:
            self._give_up_sink()
            limit = self.rules.max_response_size
            total = None if stages else answer.length
            body = b"".join(self._counted(self._content(answer, stages or [], limit), total))
            self.handle.settle()
        assert self._sent is not None
        cls = response_class(answer.status, headers.get("content-type", ""))
        elapsed = monotonic() - self.handle.started
        response = cls.received(answer.status, headers, body, self._sent, elapsed)
        response.reason = answer.reason
        response.decoded = bool(stages)
        return response

    def _accepted(self, sink: Sink, answer: Answer) -> bool:
        try:
            return sink.accept(answer.status, answer.headers)
        except ProtocolError as error:
            raise error.of(self.method, self.origin.text + self.target) from error.cause

    def _finish(self, sink: Sink) -> None:
        """Give the file its name."""
        try:
            sink.finish()
        except ProtocolError as error:
            raise error.of(self.method, self.origin.text + self.target) from error.cause
        self.sink = None

    def _content(self, answer: Answer, stages: list[Any], limit: int | None) -> Iterator[bytes]:
        """Yield the content as it is meant, decoded; never more than `limit` bytes in all."""
        if not stages and limit is not None and (answer.length or 0) > limit:
            raise self._too_large(limit)
        done = 0
        try:
            while data := self._received(answer):
                for piece in decoded(stages, data):
                    done += len(piece)
                    if limit is not None and done > limit:
                        raise self._too_large(limit)
                    yield piece
            for stage in stages:
                stage.finish()
        except ValueError as error:
            raise self._error(ProtocolError, "the content cannot be decoded", error) from error

    def _counted(self, pieces: Iterator[bytes], total: int | None) -> Iterator[bytes]:
        """Yield pieces, and tell how many bytes they were, if that was not told of a payload."""
        done = 0
        for piece in pieces:
            yield piece
            done += len(piece)
            if self.progress is not None and self.payload is None:
                self.progress(done, total)

    def _received(self, answer: Answer) -> bytes:
        try:
            return answer.read()
        except (OSError, Malformed, Lost) as error:
            failure = self._failure(error)
            raise failure from failure.cause

    def _too_large(self, limit: int) -> ClientError:
        return self._error(TooLarge, f"the content is larger than {limit} bytes")

    def _drain(self, answer: Answer) -> None:
        """Read what is left of an answer that is not wanted, undecoded, unless it is much."""
        room = MAX_DRAINED
        if (answer.length or 0) > room:
            return
        with suppress(OSError, Malformed, Lost):
            while room > 0 and (data := answer.read()):
                room -= len(data)


def _clear_frames(error: BaseException) -> None:
    """Let go of what the frames of an error have, and of those it came from, but not of the lines.

    They have the handle, which has the error: without this it, its client and what was to be sent
    would be there until the next garbage collection.
    """
    found: list[BaseException | None] = [error]
    for each in found:
        traceback = each.__traceback__ if each is not None else None
        while traceback is not None:
            with suppress(RuntimeError):  # it is still running
                traceback.tb_frame.clear()
            traceback = traceback.tb_next
        if each is not None:
            # One may come from another that holds it.
            near = (each.__cause__, each.__context__)
            found += [one for one in near if all(one is not other for other in found)]
