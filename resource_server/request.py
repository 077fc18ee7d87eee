"""The request: what the client sent, each part read when it is first asked for.

A request is made for every exchange, so making one costs a few assignments. Everything else is an
attribute that fills itself: a slot that is empty falls through to `Request.__getattr__`, which
computes the value by the table `_COMPUTED`, keeps it in the slot and is not asked again. What a
client can get wrong is found at that moment, and raised as the error it should be answered with.

A request belongs to one thread at a time: the one that handles it.
"""

from __future__ import annotations

import re
from io import BytesIO

from .charsets import CHARSETS
from .errors import BadRequest, FieldError, HTTPError, UnsupportedMediaType
from .headers import Headers, parse_cookies, parse_list, parse_parameters
from .query import MAX_PARAMETERS, parse_query, percent_decode

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import SimpleNamespace
    from typing import IO, Any, Protocol, Self

    from .forms.form import Form
    from .forms.parts import Parts
    from .headers import HeadersLike
    from .websockets import Connection, Route

    class Closable(Protocol):
        """What is let go of when a request has been answered."""

        def close(self) -> object:
            """Let go of it; more than once does nothing more."""

    class Incoming(Protocol):
        """A body as it is received, for any thread to look at."""

        size: int
        complete: bool

    class Exchange(Protocol):
        """What the engine lets a request ask of its connection; any thread may call it."""

        def keep(self, resource: Closable, /) -> None:
            """Close something when the request has been answered, or its client has left."""

        def temporary_file(self) -> IO[bytes]:
            """Return a new file for what is too large for memory; it is removed as `keep` has it.

            Raises OSError when the system has none.
            """

        def disconnected(self) -> bool:
            """Tell whether the client has left."""

        def send_interim(self, status_code: int, headers: Headers, /) -> None:
            """Send an interim response now."""

        def open_websocket(self, request: Request, route: Route, /) -> Connection:
            """Return the connection as a WebSocket that is about to be opened.

            Raises the HTTPError that answers an opening handshake which cannot be accepted.
            """


# Parts of a form, of whatever kind.
MAX_PARTS = MAX_PARAMETERS
# All fields of a form that are no files stay in memory: 1 MiB is a long text.
MAX_FIELD_BYTES = 1_048_576
# The header section of a part: a name and a file name of 255 characters each, escaped, and a type.
MAX_PART_HEADER_BYTES = 8192
# More digits than the length of anything that can be stored.
MAX_LENGTH_DIGITS = 19

# RFC 3986 §3.2.2 host (a name, an IPv4 address, or an IP literal) and §3.2.3 port.
_is_authority = re.compile(
    r"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*(?::[0-9]*)?"
    r"|\[(?:[0-9A-Fa-f:.]+|v[0-9A-Fa-f]+\.[A-Za-z0-9\-._~!$&'()*+,;=:]+)\](?::[0-9]*)?"
).fullmatch
# What quoting leaves alone in a target made by hand: all that RFC 3986 §2.2 reserves, and escapes.
_TARGET_CHARACTERS = "/?:@!$&'()*+,;=[]~%"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MULTIPART = "multipart/form-data"
_URLENCODED = "application/x-www-form-urlencoded"
_message_codecs: dict[str, Callable[[bytes], object]] = {}


def register_message_codec(content_type: str, decode: Callable[[bytes], object]) -> None:
    """Let `Request.message` decode bodies of a media type with `decode`.

    `decode` takes the whole body and raises ValueError for one that is malformed.
    """
    _message_codecs[content_type.lower()] = decode


class Request:
    """What a client sent.

    By hand: `addr` is (host, port) of the client; `path` the absolute path, which may go on with
    ``?query#fragment`` and whose characters that no URI has are percent-encoded; `params` (names to
    a value or values) and `fragment`, unless empty, replace those of the path; `headers` is
    anything that Headers is made of; `stream` a binary file with the body.
    """

    __slots__ = {
        "_content": "the body, once read",
        "_fields": "the header lines as received",
        "_form": "what form() returns",
        "_json": "what json() returns",
        "_message": "what message() returns",
        "charset": "the charset parameter of Content-Type, lower case, or 'utf-8'",
        "client_address": "(host, port) of the client",
        "content_length": "bytes of the body as declared, or None",
        "content_type": "the media type of the body in lower case, or ''",
        "cookies": "the cookies by name",
        "exchange": "the connection's side of the request, set by the engine, or None",
        "fragment": "the fragment, which only a request made by hand has",
        "headers": "the header fields",
        "host": "the authority that the client asks, as sent: 'name' or 'name:port', or ''",
        "http_version": "'1.0' or '1.1'",
        "incoming": "what has been received of the body, set by the engine, or None",
        "matches": "what the wildcards of the route matched, by name",
        "method": "the method, as sent",
        "params": "the decoded query: the values of each name",
        "path": "the path, percent-decoded",
        "query": "the decoded query: the first value of each name",
        "query_string": "the query as sent, without '?'",
        "raw_path": "the path as sent",
        "remote": "the host of the client, '' if there is none",
        "scheme": "'http' or 'https'",
        "server_address": "(host, port) at which the server was reached",
        "state": "a namespace for middlewares",
        "stream": "a binary file from which the body is read",
        "target": "the request target as sent: path and query, or '*'",
        "trailers": "the fields after a chunked body, once it has been read",
        "upgrade": "the protocols that the client offers to change to, in lower case",
        "url": "the absolute URL",
        "version": "10 for HTTP/1.0, 11 for HTTP/1.1",
    }

    _content: bytes
    _fields: bytes
    _form: Form | HTTPError
    _json: Any
    _message: Any
    charset: str
    client_address: tuple[str, int]
    content_length: int | None
    content_type: str
    cookies: dict[str, str]
    exchange: Exchange | None
    fragment: str
    headers: Headers
    host: str
    incoming: Incoming | None
    http_version: str
    matches: dict[str, Any]
    method: str
    params: dict[str, list[str]]
    path: str
    query: dict[str, str]
    query_string: str
    raw_path: str
    remote: str
    scheme: str
    server_address: tuple[str, int]
    state: SimpleNamespace
    stream: IO[bytes]
    target: str
    trailers: Headers
    upgrade: tuple[str, ...]
    url: str
    version: int

    def __init__(
        self,
        addr: tuple[str, int],
        method: str,
        path: str,
        params: Mapping[str, str | Sequence[str]] | None = None,
        fragment: str = "",
        headers: HeadersLike | None = None,
        stream: IO[bytes] | None = None,
    ) -> None:
        from urllib.parse import quote, urlencode

        target, _, tail = path.partition("#")
        target = quote(target, safe=_TARGET_CHARACTERS)
        if params:
            self.params = {
                name: [value] if isinstance(value, str) else list(value)
                for name, value in params.items()
            }
            if "?" not in target:
                target += "?" + urlencode(self.params, doseq=True)
        self.client_address = addr
        self.method = method
        self.target = target
        self.raw_path = target.partition("?")[0]
        self.fragment = fragment or tail
        self.headers = headers if isinstance(headers, Headers) else Headers(headers)
        self.version = 11
        if stream is not None:
            self.stream = stream

    @classmethod
    def received(
        cls,
        client_address: tuple[str, int],
        method: str,
        target: str,
        fields: bytes,
        version: int,
        host: str,
    ) -> Self:
        """Return the request of a head that the protocol has validated.

        `target` is in origin-form or ``*``, `fields` is a block for Headers.parse, `version` is
        10 or 11, `host` a valid authority or "".
        """
        self = cls.__new__(cls)
        self.client_address = client_address
        self.method = method
        self.target = target
        self.raw_path = target.partition("?")[0] if "?" in target else target
        self._fields = fields
        self.version = version
        self.host = host
        return self

    def hold(self, content: bytes) -> None:
        """Take the whole body, which has come with the head; for the engine."""
        self._content = content

    if not TYPE_CHECKING:  # pragma: no branch

        def __getattr__(self, name: str) -> object:
            compute = _COMPUTED.get(name)
            if compute is None:
                raise AttributeError(f"a Request has no attribute {name!r}", name=name, obj=self)
            value = compute(self)
            setattr(self, name, value)
            return value

    def __repr__(self) -> str:
        return f"<Request {ascii(self.method)[1:-1]} {ascii(self.target)[1:-1]}>"

    # The body.

    def body(self) -> bytes:
        """Return the whole body; it is read once.

        With ``stream=True`` it is read from the client now, and so are `text`, `json`, `form` and
        `message`, which then raise the same: ContentTooLarge beyond the route's limit,
        RequestTimeout for a client that is too slow, BadRequest for malformed chunks, Disconnected
        when the client has left.
        """
        return self._content

    def text(self) -> str:
        """Return the body as text in its charset; raises BadRequest when it is not."""
        try:
            return self.body().decode(self.charset)
        except UnicodeDecodeError as error:
            raise BadRequest(f"the body is not text in {self.charset}") from error

    def json(self) -> Any:
        """Return the value of a JSON body (RFC 8259), which is UTF-8 whatever its type says.

        Raises BadRequest, with the position, for anything that is not JSON; NaN and Infinity are
        not.
        """
        return self._json

    def form(
        self,
        *,
        max_parts: int = MAX_PARTS,
        max_field_bytes: int = MAX_FIELD_BYTES,
        max_header_bytes: int = MAX_PART_HEADER_BYTES,
        max_bytes: int | None = None,
    ) -> Form:
        """Return the fields and files of a form; it is read once, and the same each time.

        The result is a dict: the values of each field, in order, by its name. ``form.files`` has
        the same for files (``multipart/form-data``), each an UploadedFile that lasts until the
        request has been answered.

        The bounds: fields and files; bytes of all names and fields that are no files; bytes before
        the content of one part; bytes altogether, None for as many as the route takes.

        Raises UnsupportedMediaType for a body of another type, BadRequest for a malformed form,
        ContentTooLarge beyond a bound.
        """
        form = getattr(self, "_form", None)
        if form is None:
            try:
                form = self._read_form(max_parts, max_field_bytes, max_header_bytes, max_bytes)
            except HTTPError as error:
                # What has been read of a body is gone: another try would begin in its middle.
                form = error
            self._form = form
        if isinstance(form, HTTPError):
            raise form
        return form

    def _read_form(
        self, max_parts: int, max_field_bytes: int, max_header_bytes: int, max_bytes: int | None
    ) -> Form:
        from .forms.reading import read_pairs, read_parts

        if self.content_type == _MULTIPART:
            parts = self.parts(
                max_parts=max_parts, max_header_bytes=max_header_bytes, max_bytes=max_bytes
            )
            return read_parts(parts, self.exchange, max_field_bytes)
        if self.content_type == _URLENCODED:
            most = max_field_bytes if max_bytes is None else min(max_field_bytes, max_bytes)
            # Whoever asks for the body gets what has been read of it.
            self._content, form = read_pairs(_source(self), max_parts, most)
            return form
        raise UnsupportedMediaType(f"expected a form: {_MULTIPART} or {_URLENCODED}")

    def parts(
        self,
        *,
        max_parts: int = MAX_PARTS,
        max_header_bytes: int = MAX_PART_HEADER_BYTES,
        max_bytes: int | None = None,
    ) -> Parts:
        """Return the parts of a ``multipart/form-data`` body, one after the other as they are read.

        Nothing is stored, so with ``stream=True`` files of any size go through::

            for part in request.parts():
                for piece in part: ...

        The bounds are those of `form`. Raises UnsupportedMediaType for a body of another type;
        while it is read, as `form`, and what reading `body` raises.
        """
        from .forms.parts import Parts

        if self.content_type != _MULTIPART:
            raise UnsupportedMediaType(f"expected a form: {_MULTIPART}")
        return Parts(
            _source(self),
            self.headers["content-type"],
            max_parts=max_parts,
            max_header_bytes=max_header_bytes,
            max_bytes=max_bytes,
        )

    def message(self) -> Any:
        """Return the body decoded by the codec of its type (see `register_message_codec`).

        Raises UnsupportedMediaType for a type without codec, BadRequest for a malformed body.
        """
        return self._message

    # The connection.

    @property
    def disconnected(self) -> bool:
        """Whether the client has left, or sends no more.

        Also true for one that has closed only its own side of the connection and still waits for
        the response: until something is sent to them the two look the same.
        """
        return self.exchange is not None and self.exchange.disconnected()

    def send_interim(self, status_code: int, headers: HeadersLike | None = None) -> None:
        """Send an interim response, for instance 103 Early Hints, before the response itself.

        Nothing is sent to an HTTP/1.0 client, which could not understand it (RFC 9110 §15.2).
        Raises ValueError for a status that is not interim, or 101, which ends the exchange.
        """
        if not 100 <= status_code <= 199 or status_code == 101:
            raise ValueError(f"{status_code!r} is not the status of an interim response")
        fields = Headers(headers)
        if self.exchange is not None and self.version > 10:
            self.exchange.send_interim(status_code, fields)


def _decoded_path(request: Request) -> str:
    if not request.raw_path.isascii():
        raise BadRequest("the path holds characters that must be percent-encoded")
    return percent_decode(request.raw_path)


def _params(request: Request) -> dict[str, list[str]]:
    if not request.query_string.isascii():
        raise BadRequest("the query holds characters that must be percent-encoded")
    return parse_query(request.query_string)


def _cookies(request: Request) -> dict[str, str]:
    try:
        return parse_cookies(request.headers.get("cookie", ""))
    except FieldError as error:
        raise BadRequest(f"malformed Cookie: {error}") from error


def _charset(request: Request) -> str:
    value = request.headers.get("content-type", "")
    if ";" not in value:
        return "utf-8"
    try:
        charset = parse_parameters(value)[1].get("charset", "utf-8").lower()
    except FieldError as error:
        raise BadRequest(f"malformed Content-Type: {error}") from error
    if charset not in CHARSETS:
        raise BadRequest(f"unknown charset {charset[:40]!a}")
    return charset


def _content_length(request: Request) -> int | None:
    value = request.headers.get("content-length")
    if value is None:
        return None
    # RFC 9110 §8.6: digits and nothing else.
    if not (value.isascii() and value.isdigit()) or len(value) > MAX_LENGTH_DIGITS:
        raise BadRequest("malformed Content-Length")
    return int(value)


def _host(request: Request) -> str:
    host = request.headers.get("host", "")
    if not _is_authority(host):
        raise BadRequest("malformed Host")
    return host


def _url(request: Request) -> str:
    host = request.host or _authority(request.server_address, request.scheme)
    # RFC 9112 §3.3: the URI of the asterisk-form has neither path nor query.
    target = "" if request.target == "*" else request.target
    return f"{request.scheme}://{host}{target}"


def _authority(address: object, scheme: str) -> str:
    """Return host and port of a socket's address as a URL has them (RFC 3986 §3.2)."""
    if not isinstance(address, tuple) or not address[0]:
        return "localhost"
    host, port = address[:2]
    if ":" in host:
        host = f"[{host.partition('%')[0]}]"
    return str(host) if port == _DEFAULT_PORTS.get(scheme) else f"{host}:{port}"


def _remote(request: Request) -> str:
    address: object = request.client_address
    return str(address[0]) if isinstance(address, tuple) and address else ""


def _upgrade(request: Request) -> tuple[str, ...]:
    # RFC 9110 §7.8: only with the connection option, and never from HTTP/1.0.
    if request.version < 11 or "upgrade" not in request.headers:
        return ()
    try:
        options = parse_list(request.headers.get("connection", "").lower())
        offered = parse_list(request.headers["upgrade"].lower())
    except FieldError:
        return ()
    return tuple(offered) if "upgrade" in options else ()


def _state(_: Request) -> SimpleNamespace:
    from types import SimpleNamespace

    return SimpleNamespace()


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


# Made and imported once, when JSON is first needed.
_decode_json: Callable[[str], object]
_scan_json: Callable[[str, int], tuple[object, int]] | None = None
_json_is_too_deep: Callable[[bytes], bool]


def _prepare_json() -> None:
    global _decode_json, _scan_json, _json_is_too_deep  # noqa: PLW0603 - as said there
    from json import JSONDecoder

    from .nesting import json_is_too_deep

    # json.loads makes a decoder for every text if it is given any option: 2 µs.
    decoder = JSONDecoder(parse_constant=_refuse_constant)
    _json_is_too_deep = json_is_too_deep
    _decode_json = decoder.decode
    # Last, as another thread may look for it.
    _scan_json = decoder.scan_once  # type: ignore[attr-defined]


def _parsed_json(request: Request) -> object:
    if _scan_json is None:
        _prepare_json()
    assert _scan_json is not None
    content = request._content
    if not content:
        raise BadRequest("the body is empty where JSON is expected")
    if _json_is_too_deep(content):
        raise BadRequest("malformed JSON: nested too deeply")
    # RFC 8259 §8.1: UTF-8; a byte order mark may be ignored.
    start = 3 if content.startswith(b"\xef\xbb\xbf") else 0
    try:
        text = (content[start:] if start else content).decode()
        try:
            value, end = _scan_json(text, 0)
        except StopIteration:
            end = -1
        # A text that is nothing but a value needs no look at what is around it: 1 µs.
        return value if end == len(text) else _decode_json(text)
    except UnicodeDecodeError as error:
        raise BadRequest(f"malformed JSON: byte {start + error.start} is not UTF-8") from error
    except ValueError as error:
        raise BadRequest(f"malformed JSON{_place_in_json(error)}") from error
    except RecursionError as error:
        raise BadRequest("malformed JSON: nested too deeply") from error


def _place_in_json(error: ValueError) -> str:
    """Return where JSON is at fault, and how, for an error of the json module."""
    from json import JSONDecodeError

    if isinstance(error, JSONDecodeError):
        return f" at line {error.lineno}, column {error.colno}: {error.msg}"
    return f": {error}"


def _source(request: Request) -> IO[bytes]:
    """Return the body as a file, also where it has been read already."""
    content = _held(request)
    return request.stream if content is None else BytesIO(content)


def _held(request: Request) -> bytes | None:
    """Return the body if it is in memory; the attribute would read it now."""
    try:
        content: bytes = object.__getattribute__(request, "_content")
    except AttributeError:
        return None
    return content


def _decoded_message(request: Request) -> object:
    decode = _message_codecs.get(request.content_type)
    if decode is None:
        raise UnsupportedMediaType("the body is of a type that is not understood here")
    try:
        return decode(request.body())
    except ValueError as error:
        raise BadRequest("malformed message") from error


_COMPUTED: dict[str, Callable[[Request], object]] = {
    "_content": lambda request: request.stream.read(),
    "_json": _parsed_json,
    "_message": _decoded_message,
    "charset": _charset,
    "content_length": _content_length,
    "content_type": lambda request: (
        request.headers.get("content-type", "").partition(";")[0].strip(" \t").lower()
    ),
    "cookies": _cookies,
    "exchange": lambda _: None,
    "fragment": lambda _: "",
    "headers": lambda request: Headers.parse(request._fields),
    "host": _host,
    "incoming": lambda _: None,
    "http_version": lambda request: f"{request.version // 10}.{request.version % 10}",
    "matches": lambda _: {},
    "params": _params,
    "path": _decoded_path,
    "query": lambda request: {name: values[0] for name, values in request.params.items()},
    "query_string": lambda request: request.target.partition("?")[2],
    "remote": _remote,
    "scheme": lambda _: "http",
    "server_address": lambda _: ("", 0),
    "state": _state,
    "stream": lambda request: BytesIO(_held(request) or b""),
    "trailers": lambda _: Headers(),
    "upgrade": _upgrade,
    "url": _url,
}
