"""TestClient: requests of a test, answered in its own thread without a socket."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from ..errors import HandshakeError, is_token
from ..headers import Headers
from ..protocol.limits import Limits
from ..protocol.opening import Offer
from ..request import Request
from ..routing.options import WEBSOCKET
from ..routing.router import Router
from ..server import HTTPServer
from .content import ABSENT, Content, encode_pairs, make_content
from .cookies import CookieJar
from .exchange import Exchange
from .failures import RedirectLoop, ThreadsLeft, WebSocketRefused, watch
from .names import arguments_for, named_routes
from .response import TestResponse
from .websocket import TestWebSocket

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypedDict, Unpack

    from ..headers import HeadersLike
    from .content import Files, Pairs
    from .exchange import Address

    class Options(TypedDict, total=False):
        """What every request can be given; TestClient.request tells what it means."""

        params: Pairs | None
        fragment: str
        headers: HeadersLike | None
        cookies: Mapping[str, str] | None
        json: object
        form: Pairs | None
        files: Files | None
        body: Any
        follow_redirects: bool | None
        stream: bool


#: Redirects that are followed: as many as browsers do.
MAX_REDIRECTS = 20
_FOLLOWED = frozenset([301, 302, 303, 307, 308])
# What a target written by hand keeps: all that RFC 3986 §2.2 reserves, and escapes.
_TARGET_CHARACTERS = "/?:@!$&'()*+,;=[]~%"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_OF_CONTENT = ("content-type", "content-length", "transfer-encoding", "expect")


class _Sent:
    """A request before it is sent: once, or again where a redirect leads."""

    __slots__ = ("content", "cookies", "fragment", "headers", "method", "target")

    def __init__(
        self,
        method: str,
        target: str,
        fragment: str,
        headers: Headers,
        content: Content,
        cookies: Mapping[str, str],
    ) -> None:
        self.method = method
        self.target = target
        self.fragment = fragment
        self.headers = headers
        self.content = content
        self.cookies = cookies


class TestClient:
    """A client of an application, for its tests: no server, no socket, no waiting.

    `app` is a Router, an HTTPServer (whose Router is asked; it need not run), or anything that
    `Router.register_routes` takes.

    There is a method for each route of a resource, named by the class in lower case without
    "Resource" and the Python method: of ``NoteResource.read`` it is ``client.note_read``, of a
    plain function its name. Positional arguments are the values of the wildcards, in order; the
    rest is that of `request`. Where a method has several routes, the first is taken that has these
    wildcards, ``method=`` picks one. Of a route of WebSockets it is what `websocket` gives.

    What the application raises and the server would only log is raised here, from the same
    traceback; with ``raise_errors=False`` it is answered with 500, as clients see it.

    `base_url` tells scheme, host and port that the application is asked by, `headers` are sent with
    every request, `client_address` is where they come from. `cookies` is the jar: what responses
    set is sent with the requests that follow (RFC 6265). Several threads may share a client.

    Raises RegistrationError and PatternError as `Router.register_routes`, ValueError for a
    `base_url` with a path or of another scheme than http and https.
    """

    __test__ = False  # so that pytest does not take it for a class of tests

    def __init__(
        self,
        app: object,
        *,
        base_url: str = "http://localhost",
        headers: HeadersLike | None = None,
        raise_errors: bool = True,
        follow_redirects: bool = False,
        client_address: Address = ("127.0.0.1", 50000),
    ) -> None:
        from urllib.parse import urlsplit

        self.limits = app.limits if isinstance(app, HTTPServer) else Limits()
        self.router = _router_of(app)
        base = urlsplit(base_url)
        if base.scheme not in _DEFAULT_PORTS or not base.hostname or base.path not in ("", "/"):
            raise ValueError(f"base_url is a scheme and a host, maybe a port, not {base_url!r}")
        self.base_url = f"{base.scheme}://{base.netloc}"
        self.headers = Headers(headers)
        self.raise_errors = raise_errors
        self.follow_redirects = follow_redirects
        self.cookies = CookieJar(base.hostname)
        self._secure = base.scheme == "https"
        self._authority = base.netloc
        self._host = base.hostname
        server = (base.hostname, base.port or _DEFAULT_PORTS[base.scheme])
        self._addresses = (client_address, server)

    def __repr__(self) -> str:
        return f"<TestClient of {self.base_url}>"

    # Requests, by their method and path.

    def request(self, method: str, path: str, **options: Unpack[Options]) -> TestResponse:
        """Send a request and return the response.

        `path` is the absolute path as a browser would have it, maybe with query and fragment; what
        no URL has is percent-encoded, and a URL of this client's origin will do. `params` are added
        to its query: names to a value or values; `fragment` reaches the handler, other than over
        the network. `headers` replace those of the client, `cookies` those of the jar.

        The content is one of: `json`, any value; `form`, names to a value or values, urlencoded, or
        with `files` as multipart, where each is a content, (name, content) or (name, content,
        type); `body`: bytes, str, a dict or list (JSON), a Serializable, a file, or an iterator,
        which is sent in chunks.

        `follow_redirects` replaces what the client was given; a redirect to another origin is
        returned. With ``stream=True`` the content is produced while the response is read.

        Raises what the handler raises (see the class), RedirectLoop, TypeError and ValueError for
        a request that cannot be.
        """
        return self._request(method, path, **options)

    def get(self, path: str, **options: Unpack[Options]) -> TestResponse:
        """Send a GET; see `request`."""
        return self._request("GET", path, **options)

    def head(self, path: str, **options: Unpack[Options]) -> TestResponse:
        """Send a HEAD; see `request`."""
        return self._request("HEAD", path, **options)

    def options(self, path: str, **options: Unpack[Options]) -> TestResponse:
        """Send an OPTIONS; see `request`."""
        return self._request("OPTIONS", path, **options)

    def post(self, path: str, **options: Unpack[Options]) -> TestResponse:
        """Send a POST; see `request`."""
        return self._request("POST", path, **options)

    def put(self, path: str, **options: Unpack[Options]) -> TestResponse:
        """Send a PUT; see `request`."""
        return self._request("PUT", path, **options)

    def patch(self, path: str, **options: Unpack[Options]) -> TestResponse:
        """Send a PATCH; see `request`."""
        return self._request("PATCH", path, **options)

    def delete(self, path: str, **options: Unpack[Options]) -> TestResponse:
        """Send a DELETE; see `request`."""
        return self._request("DELETE", path, **options)

    # Requests, by the Python method of a resource.

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__") or "router" not in self.__dict__:
            raise AttributeError(f"a TestClient has no attribute {name!r}", name=name, obj=self)
        routes = named_routes(self.router)
        if name not in routes:
            known = ", ".join(routes) or "none"
            raise AttributeError(
                f"no route is called {name!r}; there are: {known}", name=name, obj=self
            )
        entries = routes[name]

        def call(*values: object, method: str | None = None, **options: Any) -> Any:
            verb, path = arguments_for(name, entries, values, method)
            if verb == WEBSOCKET:
                return self.websocket(path, **options)
            return self._request(verb, path, **options)

        call.__name__ = name
        return call

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *named_routes(self.router)})

    # WebSockets.

    @contextmanager
    def websocket(
        self,
        path: str,
        *,
        subprotocols: Sequence[str] = (),
        params: Pairs | None = None,
        headers: HeadersLike | None = None,
        cookies: Mapping[str, str] | None = None,
        timeout: float = 5.0,
    ) -> Iterator[TestWebSocket]:
        """Open a WebSocket for a block, and close it at its end.

        `subprotocols` are offered, the preferred first; `headers` may have an Origin. `timeout` is
        how many seconds to wait for a message, and at the end for the thread of a session.

        Raises WebSocketRefused for any other answer; what the handler raises, also at the end of
        the block; ThreadsLeft for a session that does not end.
        """
        offer = Offer(subprotocols=subprotocols, compression=False)
        fields = Headers(headers)
        for name, value in offer.headers:
            fields.setdefault(name, value)
        sent = self._sent("GET", path, params, "", fields, Content(), cookies)
        response, exchange = self._answer(sent)
        connection = exchange.connection
        if connection is None:
            raise WebSocketRefused(response)
        response.close()
        try:
            offer.check(response.status_code, response.headers)
        except HandshakeError:
            connection.refuse()
            raise
        connection.start()
        socket = TestWebSocket(
            connection, response, timeout=timeout, raise_errors=self.raise_errors
        )
        try:
            yield socket
        except BaseException as error:
            # What the test has run into is told, not what follows from it.
            connection.client_close(1000, "")
            try:
                connection.join(timeout)
            except ThreadsLeft as left:
                error.add_note(str(left))
            raise
        socket.close()

    # The way of a request.

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Pairs | None = None,
        fragment: str = "",
        headers: HeadersLike | None = None,
        cookies: Mapping[str, str] | None = None,
        json: object = ABSENT,
        form: Pairs | None = None,
        files: Files | None = None,
        body: Any = None,
        follow_redirects: bool | None = None,
        stream: bool = False,
    ) -> TestResponse:
        content = make_content(json, form, files, body)
        sent = self._sent(method, path, params, fragment, headers, content, cookies)
        response = self._answer(sent)[0]
        follow = self.follow_redirects if follow_redirects is None else follow_redirects
        history: list[TestResponse] = []
        while follow and (following := self._redirected(sent, response)) is not None:
            if len(history) == MAX_REDIRECTS:
                raise RedirectLoop(response)
            history.append(response)
            sent = following
            response = self._answer(sent)[0]
            response.history = history.copy()
        if not stream:
            _ = response.raw
        return response

    def _sent(
        self,
        method: str,
        path: str,
        params: Pairs | None,
        fragment: str,
        headers: HeadersLike | None,
        content: Content,
        cookies: Mapping[str, str] | None,
    ) -> _Sent:
        """Return a request; raises ValueError for one that cannot be."""
        if not is_token(method):
            raise ValueError(f"{method!r} is not a method, as GET is")
        fields = self.headers.copy()
        given = Headers(headers)
        for name in given:
            fields.pop(name, None)
        for name, value in given.fields():
            fields.add(name, value)
        for name in ("content-length", "transfer-encoding"):
            if name in fields:
                raise ValueError(f"{name} belongs to the client: it follows from the content")
        target, _, tail = self._target(path).partition("#")
        if params:
            target += ("&" if "?" in target else "?") + encode_pairs(params)
        return _Sent(method, target, fragment or tail, fields, content, cookies or {})

    def _target(self, path: str) -> str:
        """Return path, query and fragment, percent-encoded where that is needed."""
        from urllib.parse import quote

        if path == self.base_url or path.startswith((f"{self.base_url}/", f"{self.base_url}?")):
            path = path[len(self.base_url) :]
            path = path if path.startswith("/") else f"/{path}"
        if path != "*" and not path.startswith("/"):
            raise ValueError(f"a path begins with a slash, or with {self.base_url}, not {path!r}")
        path, mark, fragment = path.partition("#")
        return quote(path, safe=_TARGET_CHARACTERS) + mark + fragment

    def _answer(self, sent: _Sent) -> tuple[TestResponse, Exchange]:
        """Return the response, of which only the head has been made, and how it came to be."""
        path = sent.target.partition("?")[0]
        head, pieces = self._on_the_wire(sent, path)
        exchange = Exchange(self.router, self.limits, self._addresses, pieces, secure=self._secure)
        with watch() as errors:
            answered = exchange.answer(head, sent.fragment)
            status, headers, content = exchange.deliver(answered, raises=self.raise_errors)
        errors += exchange.errors
        if errors and self.raise_errors:
            content.close()
            raise errors[0]
        request = exchange.request
        if request is None:
            # Its head was refused before it became one.
            request = Request(self._addresses[0], sent.method, sent.target, headers=sent.headers)
        url = self.base_url + (sent.target if path != "*" else "")
        response = TestResponse(request, url, status, headers, content)
        response.interim = exchange.interim
        response.cookies = self.cookies.take(
            headers.get_all("set-cookie"), self._host, path, secure=self._secure
        )
        return response, exchange

    def _on_the_wire(self, sent: _Sent, path: str) -> tuple[bytes, Iterator[bytes]]:
        """Return the head as it is sent, and what follows it."""
        headers = sent.headers.copy()
        headers.setdefault("Host", self._authority)
        if "cookie" not in headers:
            cookies = self.cookies.header(self._host, path, secure=self._secure)
            pairs = [f"{name}={value}" for name, value in sent.cookies.items()]
            pairs += [
                pair for pair in cookies.split("; ") if pair.partition("=")[0] not in sent.cookies
            ]
            if any(pairs):
                headers["Cookie"] = "; ".join(filter(None, pairs))
        content = sent.content
        if content.content_type:
            headers.setdefault("Content-Type", content.content_type)
        if content.pieces is not None:
            headers["Transfer-Encoding"] = "chunked"
            following = _chunks(content.pieces)
        else:
            if content.body or content.content_type or sent.method in ("POST", "PUT", "PATCH"):
                headers["Content-Length"] = len(content.body)
            following = iter((content.body,) if content.body else ())
        line = f"{sent.method} {sent.target} HTTP/1.1\r\n".encode("ascii")
        return line + headers.encode() + b"\r\n", following

    def _redirected(self, sent: _Sent, response: TestResponse) -> _Sent | None:
        """Return the request that a redirect asks for (RFC 9110 §15.4); None if it asks for none.

        That is so, too, for one to another origin, where this application is not.
        """
        from urllib.parse import urljoin

        status = response.status_code
        if status not in _FOLLOWED or "location" not in response.headers:
            return None
        _ = response.raw
        location = urljoin(response.url, response.headers["location"])
        try:
            target, _, fragment = self._target(location).partition("#")
        except ValueError:
            return None
        method, content, headers = sent.method, sent.content, sent.headers.copy()
        becomes_get = method != "HEAD" if status == 303 else method == "POST" and status < 303
        if becomes_get:
            method, content = "GET", Content()
            for name in _OF_CONTENT:
                headers.pop(name, None)
        elif content.pieces is not None:
            raise ValueError(f"an iterator cannot be sent a second time, to {location}")
        return _Sent(method, target, fragment or sent.fragment, headers, content, sent.cookies)


def _router_of(app: object) -> Router:
    if isinstance(app, HTTPServer):
        return app.router
    if isinstance(app, Router):
        return app
    router = Router()
    router.register_routes(app)
    return router


def _chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield content as it is sent without a length (RFC 9112 §7.1)."""
    for piece in pieces:
        if piece:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"
