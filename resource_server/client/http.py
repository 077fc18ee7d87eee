"""HTTPClient: asks one server for many things at a time, from any thread.

Each request is done by one of a few threads that come and go as they are needed; the caller has a
handle at once. There are two ways to the results, which can be mixed: wait for a handle's
``result()``, or have a loop of one's own call `update`, which calls the callbacks.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from importlib import import_module
from time import monotonic

from ..headers import Headers
from .answer import Outgoing
from .decoding import accepted
from .exchange import Exchange
from .handle import RequestHandle
from .payload import Payload
from .rules import Rules
from .timeouts import Timeout
from .transport import Transport
from .urls import origin_of, parse_url, target_of
from .watchdog import Watchdog
from .workers import Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping
    from http.cookiejar import CookieJar
    from types import TracebackType
    from typing import Any, BinaryIO, Self, TypeAlias

    from ..headers import HeadersLike
    from .payload import Sendable
    from .reader import Link
    from .rules import Auth, Progress, Sink
    from .transport import Certificate
    from .urls import Query
    from .websocket import ClientWebSocket
    from .wire import Answer

    Callback: TypeAlias = Callable[[RequestHandle], object]
    Address: TypeAlias = tuple[str, int] | str

#: Bytes of an answer's content that are kept in memory, if nothing else is said.
MAX_RESPONSE_SIZE = 64 * 1024 * 1024
# Results that nobody has asked for, and that have no callback: the oldest of more are forgotten.
MAX_UNCLAIMED = 1000


class _Desk:
    """Which handles are under way, and which are done and wait to be delivered."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the following
        self._undelivered: dict[RequestHandle, None] = {}
        self._done: OrderedDict[RequestHandle, None] = OrderedDict()
        self._unclaimed = 0

    def opened(self, handle: RequestHandle) -> None:
        with self._lock:
            self._undelivered[handle] = None

    def ended(self, handle: RequestHandle) -> None:
        """Keep a handle that is about to be done until it is delivered."""
        with self._lock:
            if handle not in self._undelivered:
                return
            self._done[handle] = None
            if handle.callback is not None:
                return
            self._unclaimed += 1
            if self._unclaimed <= MAX_UNCLAIMED:
                return
            oldest = next(each for each in self._done if each.callback is None)
            self._forget(oldest)

    def delivered(self, handle: RequestHandle) -> None:
        """Forget a handle whose result somebody has got, unless its callback is still to run."""
        if handle.callback is None:
            with self._lock:
                self._forget(handle)

    def drop(self, handle: RequestHandle) -> None:
        """Forget a handle that nobody has got."""
        with self._lock:
            self._forget(handle)

    def _forget(self, handle: RequestHandle) -> None:
        self._undelivered.pop(handle, None)
        if handle in self._done:
            del self._done[handle]
            if handle.callback is None:
                self._unclaimed -= 1

    def next(self) -> RequestHandle | None:
        """Return the next handle that is done, and forget it."""
        with self._lock:
            if not self._done:
                return None
            handle = next(iter(self._done))
            self._forget(handle)
        return handle

    def under_way(self) -> list[RequestHandle]:
        with self._lock:
            return [handle for handle in self._undelivered if not handle.over]

    def __len__(self) -> int:
        return len(self._undelivered)


class HTTPClient:
    """A client of one server; any thread may use it.

    `addr` is ``(host, port)``, ``"host"``, ``"host:port"`` or ``"unix:/path"``, `protocol` "http"
    or "https"; `from_url` takes a URL instead. It starts with its first request. As a context
    manager it is stopped at the end of the block.

    - `timeout` is a Timeout, or a number of seconds for each request in all
    - `threads` is how many requests are made at a time, `max_connections` how many connections
      there are at most, those kept for the next request among them; WebSockets are not counted
    - `retries` is how often a request is made again if no connection is made or the answer is 502,
      503 or 504; methods that are not idempotent (POST, PATCH) never are
    - `max_redirects` is how many redirects are followed; with 0 they are given to the caller. To
      another origin (another scheme or port is one) go no Authorization, Cookie and client
      certificate, but all other `headers`. `downgrade` allows those from https to http
    - `max_response_size` is how many bytes of content, decoded, an answer may have (None: any)
    - `headers` are sent with each request
    - `auth` is called with each request for this server to set what proves who asks, in a thread
      of the client and with a connection, so it must not wait for this client:
      `client.basic(user, password)`, `client.bearer(token)`, `client.digest(user, password)`
    - `cookies` tells whether they are kept
    - `proxies` is the URL of a proxy, or a mapping of "http", "https" and "all" to URLs and of
      "no" to hosts; None for what the environment says, {} for none
    - `ca` is a PEM file or directory of the authorities to trust instead of certifi's, `cert` a
      PEM file with the client's certificate and key, or (certificate, key[, password])
    - `fingerprint` is the SHA-256 of the server's certificate, which is then all it has to have

    Raises TypeError and ValueError for what it cannot use, and OSError for files it cannot read.
    """

    def __init__(
        self,
        addr: Address,
        protocol: str = "http",
        *,
        timeout: Timeout | float | None = None,
        threads: int = 8,
        max_connections: int = 8,
        retries: int = 2,
        max_redirects: int = 10,
        max_response_size: int | None = MAX_RESPONSE_SIZE,
        headers: HeadersLike | None = None,
        auth: Auth | None = None,
        cookies: bool = True,
        proxies: Mapping[str, str] | str | None = None,
        ca: str | os.PathLike[str] | bytes | None = None,
        cert: Certificate | None = None,
        fingerprint: str | None = None,
        downgrade: bool = False,
    ) -> None:
        _check_counts(threads, max_connections, retries, max_redirects)
        self._origin = origin_of(addr, protocol)
        self._prefix = ""
        self._timeout = Timeout() if timeout is None else Timeout.of(timeout)
        self._auth = auth
        self._jar = None
        if cookies:
            from .cookies import Cookies

            self._jar = Cookies()
        self._rules = Rules(
            retries=retries,
            max_redirects=max_redirects,
            max_response_size=max_response_size,
            downgrade=downgrade,
            cookies=self._jar,
        )
        self._transport = Transport(
            self._origin,
            max_connections=max_connections,
            proxies=proxies,
            ca=ca,
            cert=cert,
            fingerprint=fingerprint,
        )
        self._headers = self._common_headers(headers)
        self._workers = Workers(threads, "resource_server-client")
        self._watchdog = Watchdog("resource_server-client-watchdog")
        self._desk = _Desk()
        # The WebSockets that are open.
        self._links: set[Link] = set()
        # Guards the next, and that the pool is closed as long as it is set.
        self._life = threading.Lock()
        self._stopped = False
        weakref.finalize(self, _abandoned, self._transport, self._workers, self._watchdog)

    @classmethod
    def from_url(cls, url: str, **options: Any) -> Self:
        """Return a client of the server at a URL; `options` are those of the class.

        A path in it stands before the path of each request; a user and password in it are sent as
        basic authentication, unless there is an `auth`. Raises as the class, ValueError for a URL
        that is not of http or https (or http+unix, with the socket's path, quoted, as its host).
        """
        origin, target, user = parse_url(url)
        if user and options.get("auth") is None:
            from urllib.parse import unquote

            from .auth import basic

            name, _, password = user.partition(":")
            options["auth"] = basic(unquote(name), unquote(password))
        address: Address = f"unix:{origin.path}" if origin.path else (origin.host, origin.port)
        self = cls(address, origin.scheme, **options)
        self._prefix = target.partition("?")[0].rstrip("/")
        return self

    def _common_headers(self, given: HeadersLike | None) -> Headers:
        version = import_module(__package__.rpartition(".")[0]).__version__
        headers = Headers(
            [
                ("Host", self._origin.authority),
                ("User-Agent", f"resource_server/{version}"),
                ("Accept", "*/*"),
                ("Accept-Encoding", accepted()),
            ]
        )
        _replace(headers, given)
        return headers

    # Requests.

    def get(
        self,
        path: str,
        query: Query | None = None,
        headers: HeadersLike | None = None,
        callback: Callback | None = None,
        *,
        timeout: Timeout | float | None = None,
        stream_to: str | os.PathLike[str] | BinaryIO | None = None,
        progress: Progress | None = None,
        auth: Auth | None = None,
    ) -> RequestHandle:
        """Ask for a resource with GET, and return a handle at once.

        `path` is percent-encoded where it needs it. `query` is text, or names and values, of which
        a list stands for several. `headers` replace those of the client. `callback` is called with
        the handle by `update` or `getResponses` in their thread. `timeout` and `auth` replace the
        client's. `stream_to` is a path or binary file that the content is written to instead of
        into the response, `progress(done, total)` is called in a thread of the client with bytes,
        decoded, the second None if unknown. Raises ValueError for a path or header that cannot be
        sent.
        """
        return self.request(
            "GET",
            path,
            None,
            query,
            headers,
            callback,
            timeout=timeout,
            stream_to=stream_to,
            progress=progress,
            auth=auth,
        )

    def head(
        self,
        path: str,
        query: Query | None = None,
        headers: HeadersLike | None = None,
        callback: Callback | None = None,
        **options: Any,
    ) -> RequestHandle:
        """Ask with HEAD for what GET would answer, without the content; the rest is as for get."""
        return self.request("HEAD", path, None, query, headers, callback, **options)

    def options(
        self,
        path: str = "*",
        query: Query | None = None,
        headers: HeadersLike | None = None,
        callback: Callback | None = None,
        **options: Any,
    ) -> RequestHandle:
        """Ask with OPTIONS what a resource, or the server, can do; the rest is as for get."""
        return self.request("OPTIONS", path, None, query, headers, callback, **options)

    def delete(
        self,
        path: str,
        query: Query | None = None,
        headers: HeadersLike | None = None,
        callback: Callback | None = None,
        **options: Any,
    ) -> RequestHandle:
        """Ask with DELETE to remove a resource; the rest is as for get."""
        return self.request("DELETE", path, None, query, headers, callback, **options)

    def post(
        self,
        path: str,
        payload: Sendable,
        query: Query | None = None,
        headers: HeadersLike | None = None,
        callback: Callback | None = None,
        **options: Any,
    ) -> RequestHandle:
        """Send a payload with POST; the rest is as for get.

        A dict or list is sent as JSON, a Serializable as such, str as UTF-8 text and bytes as they
        are; files (opened for reading) and iterators of bytes or str are sent as they are read.
        None is no payload. `progress` is called for what was sent. Raises TypeError for a payload
        of another type.
        """
        return self.request("POST", path, payload, query, headers, callback, **options)

    def put(
        self,
        path: str,
        payload: Sendable,
        query: Query | None = None,
        headers: HeadersLike | None = None,
        callback: Callback | None = None,
        **options: Any,
    ) -> RequestHandle:
        """Send a payload with PUT; the rest is as for post."""
        return self.request("PUT", path, payload, query, headers, callback, **options)

    def patch(
        self,
        path: str,
        payload: Sendable,
        query: Query | None = None,
        headers: HeadersLike | None = None,
        callback: Callback | None = None,
        **options: Any,
    ) -> RequestHandle:
        """Send a payload with PATCH; the rest is as for post."""
        return self.request("PATCH", path, payload, query, headers, callback, **options)

    def request(
        self,
        method: str,
        path: str,
        payload: Sendable = None,
        query: Query | None = None,
        headers: HeadersLike | None = None,
        callback: Callback | None = None,
        *,
        timeout: Timeout | float | None = None,
        stream_to: str | os.PathLike[str] | BinaryIO | None = None,
        progress: Progress | None = None,
        auth: Auth | None = None,
    ) -> RequestHandle:
        """Make a request with any method, which is sent as it is spelled; the rest is as for post.

        Raises ValueError for CONNECT, which is no request, and for what is no method.
        """
        if method not in _METHODS:
            _check_method(method)
        target = target_of(path, query)
        if target != "*":
            target = self._prefix + target
        elif method != "OPTIONS":
            raise ValueError('the path "*" stands for the server as a whole, for OPTIONS alone')
        limits = self._timeout if timeout is None else Timeout.of(timeout)
        content = None if payload is None else Payload(payload)
        handle = RequestHandle(self._desk, method, path, self._origin.text + target, callback)
        exchange = Exchange(
            handle,
            self._origin,
            target,
            self._fields(content, headers),
            content,
            limits,
            rules=self._rules,
            transport=self._transport,
            watchdog=self._watchdog,
            auth=self._auth if auth is None else auth,
            progress=progress,
            sink=None if stream_to is None else _sink(stream_to, progress),
            client=self,
        )
        if self._stopped:
            self.start()
        self._desk.opened(handle)
        try:
            if limits.total is not None:
                alarm = self._watchdog.at(handle.started + limits.total, exchange.overdue)
                handle.add_done_callback(lambda _: alarm.off())
            self._workers.do(exchange.run)
        except BaseException:
            # There is no thread for it, and the caller has no handle of it.
            handle.cancel()
            self._desk.drop(handle)
            raise
        return handle

    def _fields(self, content: Payload | None, given: HeadersLike | None) -> Headers:
        fields = self._headers.copy()
        if content is not None:
            fields["Content-Type"] = content.content_type
        if given is not None:
            _replace(fields, given)
        return fields

    def websocket(
        self,
        path: str,
        query: Query | None = None,
        headers: HeadersLike | None = None,
        *,
        timeout: Timeout | float | None = None,
        auth: Auth | None = None,
        **options: Any,
    ) -> ClientWebSocket:
        """Open a WebSocket, and return it when it is open; stopping the client closes it.

        `options` are those of `client.websocket.connect`, which also tells what is raised; the rest
        is as for get, and `timeout` is for the opening.
        """
        from .websocket import connect

        target = self._prefix + target_of(path, query)
        limits = self._timeout if timeout is None else Timeout.of(timeout)
        fields = self._fields(None, headers)

        def opening() -> Outgoing:
            """Return the request for one try, with what is proof or cookie at that time."""
            request = Outgoing("GET", self._origin.text + target, fields.copy())
            given = None if self._jar is None else self._jar.of(self._origin, target)
            if given:
                own = fields.get("cookie")
                request.headers["Cookie"] = f"{own}; {given}" if own else given
            prove = self._auth if auth is None else auth
            if prove is not None:
                prove(request)
            return request

        def answered(_: Outgoing, answer: Answer) -> None:
            if self._jar is not None and "set-cookie" in answer.headers:
                self._jar.keep(self._origin, target, answer.headers)

        if self._stopped:
            self.start()
        return connect(
            self._transport,
            opening,
            limits,
            watchdog=self._watchdog,
            links=self._links,
            answered=answered,
            **options,
        )

    # Results.

    def pending(self) -> int:
        """Return how many requests are under way, or done and not yet delivered.

        A request is delivered by `update` or `getResponses`, or, if it has no callback, by
        ``result()`` and ``exception()`` of its handle.
        """
        return len(self._desk)

    def get_responses(self) -> Iterator[RequestHandle]:
        """Yield the handles that are done, each once, after calling its callback in this thread.

        It does not wait for those under way. What a callback raises is raised here; the others
        are for the next time. Handles whose result was already taken, and that have no callback,
        are not among them; nor are, of those that nobody asked for, more than the last 1000.
        """
        while (handle := self._desk.next()) is not None:
            # It is about to be done, if it is not yet.
            handle.wait()
            if handle.callback is not None:
                handle.callback(handle)
            yield handle

    getResponses = get_responses

    def update(self) -> int:
        """Call the callbacks of the requests that are done, and return how many those were."""
        return sum(1 for _ in self.get_responses())

    # Life.

    @property
    def cookies(self) -> CookieJar | None:
        """The cookies that were kept, None if none are."""
        return None if self._jar is None else self._jar.jar

    @property
    def url(self) -> str:
        """Where paths begin."""
        return self._origin.text + self._prefix

    def start(self) -> None:
        """Make the client ready; a request does so too."""
        with self._life:
            self._stopped = False
            self._transport.pool.open()

    def stop(self, timeout: float | None = 5.0) -> None:
        """Cancel what is under way, end the threads, close the connections.

        Waits for that up to `timeout` seconds (None for ever). Handles that are done can still be
        had from `getResponses`. A request, or `start`, starts the client again.
        """
        ends = None if timeout is None else monotonic() + timeout
        with self._life:
            self._stopped = True
            self._transport.pool.close()
        for handle in self._desk.under_way():
            handle.cancel()
        # A copy, as those that end leave the set.
        links = self._links.copy()
        for link in links:
            link.stop()
        self._workers.stop(timeout)
        for link in links:
            link.join(None if ends is None else max(0.0, ends - monotonic()))
        left = None if ends is None else max(0.0, ends - monotonic())
        # Unless a request has started the client again meanwhile, which may have a time of its own.
        self._watchdog.stop(left, lambda: self._stopped)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<HTTPClient {self.url}>"


def _check_counts(threads: int, max_connections: int, retries: int, max_redirects: int) -> None:
    for name, value, least in (
        ("threads", threads, 1),
        ("max_connections", max_connections, 1),
        ("retries", retries, 0),
        ("max_redirects", max_redirects, 0),
    ):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name} is a number of at least {least}, not {value!r}")


_METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])


def _check_method(method: str) -> None:
    from ..errors import is_token

    if not is_token(method):
        raise ValueError(f"{method!a} is not a method: use a word such as GET (RFC 9110 §9.1)")
    if method == "CONNECT":
        raise ValueError("CONNECT makes a tunnel, and is no request")


def _sink(stream_to: str | os.PathLike[str] | BinaryIO, progress: Progress | None) -> Sink:
    from .download import Download

    return Download(stream_to, progress)


def _replace(headers: Headers, given: HeadersLike | None) -> None:
    """Set each field of `given`, instead of those of the same name; raises ValueError."""
    fields = Headers(given)
    for name in ("Transfer-Encoding", "Content-Length"):
        if name in fields:
            raise ValueError(f"{name} follows from the payload: leave it out of the headers")
    for name in fields:
        headers.pop(name, None)
    for name, value in fields.fields():
        headers.add(name, value)


def _abandoned(transport: Transport, workers: Workers, watchdog: Watchdog) -> None:
    """Close what a client has left that nobody stopped, and that is gone."""
    transport.pool.close()
    workers.stop(0)
    watchdog.stop(0)
