"""Responses: what a handler answers, in the form that the engine sends.

Most responses are a body and a content type, so these are all that making one sets; `Headers` come
into being when somebody asks for them, and without them `section` is a constant for each
content type. Framing and the connection belong to the server: it alone writes Content-Length,
Transfer-Encoding and Connection.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from .content import Pieces, json_bytes
from .errors import REASONS, FieldError, HTTPError, checked_field
from .headers import Headers, accepts, format_cookie, parse_list, vary_on

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta
    from typing import Any, BinaryIO, Self, TypeAlias

    from .headers import HeadersLike
    from .request import Request
    from .streams import Source, Trailers

Handler: TypeAlias = Callable[["Request"], "Response"]
Middleware: TypeAlias = Callable[[Handler], Handler]

TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
JSON = "application/json"
BINARY = "application/octet-stream"
SERIALIZABLE = "application/x-serializable"

# What the server writes itself (RFC 9112 §6, §9.6).
_FRAMING = frozenset(["content-length", "connection", "transfer-encoding"])
#: What becomes a response by itself.
PAYLOADS: frozenset[type] = frozenset([str, bytes, dict, list])
_REDIRECTS = frozenset([300, 301, 302, 303, 305, 307, 308])
# What stays as it is in a Location: all that RFC 3986 §2.2 reserves, and escapes already made.
_LOCATION_CHARACTERS = "/?#:@!$&'()*+,;=[]~%"

_find_control = re.compile(r"[\x00-\x1f\x7f]").search
_bare_percent = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NO_TRANSFER_ENCODING = "Transfer-Encoding belongs to the server: leave it out of the headers"

# The encoded lines of responses whose headers nobody touched; bounded, for types made at run time.
_MAX_KNOWN_TYPES = 256
_section_by_type: dict[str, tuple[bytes, bool, bool]] = {"": (b"", False, False)}


class Response:
    """An answer.

    `payload` is None (nothing), bytes-like, str (UTF-8 text), a dict or list (JSON), or an iterable
    of bytes or str, which is streamed as it yields; the response closes it. An empty piece sends
    nothing. `status_code` is an int from 100 to 999, `headers` anything that Headers is made of;
    `compress` allows it, if it is worth it, to be compressed for clients that accept that; False
    forbids it, None leaves it to the middleware `compression`, whose notes tell when not to.
    `content_type` replaces
    the one that follows from the payload, and a Content-Type in `headers` replaces both.

    Raises ValueError for a status that is none, FieldError for headers that may not be sent, which
    Transfer-Encoding is one of, and TypeError for a payload of another type.

    What the server reads:
    `status_code`; `body`, the whole content as bytes, or None when there is an `iterator` of
    pieces, a `source` to pull them from (see streams.py), or a `file`, of which `content_length`
    bytes follow from its position, or, of a regular file, `parts`: bytes as they are, and (offset,
    length) in it; `trailers` behind chunked content; and `section()`.
    """

    body: bytes | None = b""
    iterator: Iterator[bytes] | None = None
    file: BinaryIO | None = None
    parts: Sequence[bytes | tuple[int, int]] | None = None
    source: Source | None = None
    trailers: Trailers | None = None
    # What the connection goes on as after a 101 (RFC 9110 §15.2.2): here it passes through the
    # middlewares, which may put another response in its place.
    socket: object | None = None
    compress: bool | None = None
    _headers: Headers | None = None
    _content_type: str = ""
    _content_length: int | None = None

    def __init__(
        self,
        payload: Any = None,
        status_code: int = 200,
        headers: HeadersLike | None = None,
        compress: bool | None = None,
        *,
        content_type: str | None = None,
    ) -> None:
        if status_code.__class__ is not int or not 100 <= status_code <= 999:
            status_code = _checked_status(status_code)
        self.status_code: int = status_code
        self.payload = payload
        if payload.__class__ is str:
            self.body = payload.encode()
            self._content_type = TEXT
        elif payload.__class__ is dict:
            self.body = json_bytes(payload)
            self._content_type = JSON
        elif payload.__class__ is bytes:
            self.body = payload
            self._content_type = BINARY
        elif payload is not None:
            self._take(payload)
        if content_type is not None:
            self._content_type = _checked_type(content_type)
        if headers is not None:
            self._take_headers(headers)
        if compress is not None:
            self.compress = compress

    def _take(self, payload: Any) -> None:
        """Set body or iterator, and the content type, from a payload of any other type."""
        if isinstance(payload, (dict, list)):
            self.body = json_bytes(payload)
            self._content_type = JSON
        elif isinstance(payload, str):
            self.body = payload.encode()
            self._content_type = TEXT
        elif isinstance(payload, (bytes, bytearray, memoryview)):
            self.body = bytes(payload)
            self._content_type = BINARY
        elif isinstance(payload, Iterable) and not isinstance(payload, tuple):
            self.body = None
            self.iterator = Pieces(payload)
            self._content_type = BINARY
        else:
            raise TypeError(
                f"a {type(payload).__name__} cannot be a response's payload: give bytes, str, dict,"
                " list, an iterator of bytes or str, or use JsonResponse"
            )

    def _take_headers(self, headers: HeadersLike) -> None:
        taken = Headers(headers)
        names = taken.names()
        if "transfer-encoding" in names:
            raise FieldError(_NO_TRANSFER_ENCODING)
        if self._content_type and "content-type" not in names:
            taken.add("Content-Type", self._content_type)
        self._headers = taken

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.status_code}>"

    # What the application reads and sets.

    @property
    def headers(self) -> Headers:
        """The header fields, Content-Type among them; to be changed freely until it is sent."""
        headers = self._headers
        if headers is None:
            headers = Headers()
            if self._content_type:
                headers["Content-Type"] = self._content_type
            # Last, for threads that share the response: none sees fields without Content-Type.
            self._headers = headers
        return headers

    @property
    def content_type(self) -> str:
        """The value of Content-Type, "" for none."""
        if self._headers is None:
            return self._content_type
        return self._headers.get("content-type", "")

    @content_type.setter
    def content_type(self, value: str) -> None:
        if self._headers is None:
            self._content_type = _checked_type(value)
        elif value:
            self._headers["Content-Type"] = value
        else:
            self._headers.pop("Content-Type", None)

    def set_cookie(
        self,
        name: str,
        value: str,
        *,
        max_age: int | timedelta | None = None,
        expires: float | datetime | None = None,
        domain: str | None = None,
        path: str | None = "/",
        secure: bool = False,
        http_only: bool = False,
        same_site: str | None = "Lax",
    ) -> None:
        """Add a Set-Cookie line (RFC 6265 §4.1).

        `name` and `value` are str, plain ASCII without spaces, commas, semicolons or backslashes.
        `max_age` is in seconds (int) or a timedelta, `expires` in seconds since 1970 or a datetime
        (UTC if it tells no zone); without either the cookie lives as long as the browser. `domain`
        and `path` are str, or None for no such attribute; `same_site` is "Strict", "Lax", "None",
        or None for no such attribute. `secure` and `http_only` are bool.

        Raises FieldError for a name, value or attribute that is not plain cookie text, and for a
        cookie that browsers would drop: larger than 4096 bytes, SameSite=None without `secure`, or
        a ``__Secure-`` or ``__Host-`` name that does not keep its promise (RFC 6265bis §4.1.3); and
        ValueError for a time that cannot be written as a date.
        """
        cookie = format_cookie(
            name,
            value,
            max_age=max_age,
            expires=expires,
            domain=domain,
            path=path,
            secure=secure,
            http_only=http_only,
            same_site=same_site,
        )
        self.headers.add("Set-Cookie", cookie)

    def delete_cookie(self, name: str, *, path: str = "/", domain: str | None = None) -> None:
        """Let the client forget a cookie that was set with the same path and domain.

        Raises FieldError for a name, path or domain that `set_cookie` would refuse.
        """
        # A browser takes back a cookie with a prefix only from a line that honours the prefix.
        secure = name.lower().startswith(("__secure-", "__host-"))
        self.set_cookie(
            name, "", max_age=0, expires=0, path=path, domain=domain, secure=secure, same_site=None
        )

    # What the server reads.

    @property
    def content_length(self) -> int | None:
        """Bytes of the content of an iterator or file, if known; else what Content-Length says.

        The server counts a body itself. Raises FieldError for a Content-Length that is no number.
        """
        if self._content_length is not None or self._headers is None:
            return self._content_length
        value = self._headers.get("content-length")
        if value is None:
            return None
        if not (value.isascii() and value.isdigit()):
            raise FieldError(f"Content-Length is a number of bytes, not {value[:80]!a}")
        return int(value)

    @content_length.setter
    def content_length(self, value: int | None) -> None:
        self._content_length = value

    def section(self) -> tuple[bytes, bool, bool]:
        """Return what the application has put into the header section.

        These are its lines as sent, each ended by CRLF, without framing fields; whether it asks to
        close the connection (Connection: close); whether it has set Date itself.

        Raises FieldError if it has set Transfer-Encoding.
        """
        headers = self._headers
        if headers is None:
            # Without look-up and join of lines: 0.1 µs instead of 1.5 µs.
            return _section_by_type.get(self._content_type) or _section_of_type(self._content_type)
        names = headers.names()
        has_date = "date" in names
        if _FRAMING.isdisjoint(names):
            return headers.encode(), False, has_date
        if "transfer-encoding" in names:
            raise FieldError(_NO_TRANSFER_ENCODING)
        wants_close = "close" in parse_list(headers.get("connection", "").lower())
        kept = [line for line in headers.fields() if line[0].lower() not in _FRAMING]
        lines = "".join([f"{name}: {value}\r\n" for name, value in kept]).encode("latin-1")
        return lines, wants_close, has_date

    def close(self) -> None:
        """Close the iterator, the source and the file; more than once does nothing more."""
        iterator, self.iterator = self.iterator, None
        source, self.source = self.source, None
        file, self.file = self.file, None
        try:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
        finally:
            try:
                if source is not None:
                    source.close()
            finally:
                if file is not None:
                    file.close()

    def negotiate(self, request: Request) -> Response:
        """Return the response to send: compressed, if this one asks for it and the client does.

        It is this one if nothing has to be changed, else a copy, which takes over the iterator.
        """
        if not self.compress:
            return self
        from .codings import DEFAULT

        return DEFAULT.apply(self, request)

    def hand_over(self) -> Self:
        """Return one with the same content and headers of its own; takes iterator and source."""
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__)
        if self._headers is not None:
            copy._headers = self._headers.copy()
        self.iterator = self.source = None
        return copy


class JsonResponse(Response):
    """A value as JSON (RFC 8259); TypeError or ValueError if it has no JSON."""

    def __init__(
        self, obj: object, status_code: int = 200, headers: HeadersLike | None = None
    ) -> None:
        super().__init__(json_bytes(obj), status_code, headers, content_type=JSON)
        self.payload = obj


class TextResponse(Response):
    """Plain text in UTF-8."""

    def __init__(
        self,
        text: str,
        status_code: int = 200,
        headers: HeadersLike | None = None,
        compress: bool | None = None,
    ) -> None:
        super().__init__(text, status_code, headers, compress, content_type=TEXT)


class HTMLResponse(Response):
    """A page of HTML in UTF-8, sent as it is: escaping what is not HTML is the caller's part."""

    def __init__(
        self,
        html: str,
        status_code: int = 200,
        headers: HeadersLike | None = None,
        compress: bool | None = None,
    ) -> None:
        super().__init__(html, status_code, headers, compress, content_type=HTML)


class SerializableResponse(Response):
    """A Serializable, which is any object whose method ``dumpb()`` returns its bytes."""

    def __init__(
        self, obj: Any, status_code: int = 200, headers: HeadersLike | None = None
    ) -> None:
        dump = getattr(obj, "dumpb", None)
        if dump is None:
            raise TypeError(
                f"a {type(obj).__name__} has no method dumpb: derive it from Serializable,"
                " or use JsonResponse"
            )
        super().__init__(dump(), status_code, headers, content_type=SERIALIZABLE)
        self.payload = obj


class ErrorResponse(Response, Exception):  # noqa: N818 - it is an answer as well
    """An error as JSON: returned by a handler, or raised.

    `obj` is a text or exception, sent as ``{"error": text}``, or any other value that JSON has,
    sent as it is. Of an exception the client reads the text only below status 500; an HTTPError,
    whose message is made for the client, brings its own status and fields. `error` is the
    exception, or None. Raises TypeError or ValueError for what has no JSON.
    """

    def __init__(
        self,
        obj: object,
        status_code: int = 400,
        headers: HeadersLike | None = None,
    ) -> None:
        self.error: BaseException | None = None
        content: object = obj
        if isinstance(obj, str):
            content = {"error": obj}
        elif isinstance(obj, BaseException):
            self.error = obj
            if isinstance(obj, HTTPError):
                status_code = obj.status_code
                headers = _merged(obj.headers, headers)
            content = {"error": _text_for_client(obj, status_code)}
        super().__init__(json_bytes(content), status_code, headers, content_type=JSON)
        self.payload = obj


class Redirect(Response, Exception):  # noqa: N818 - it is an answer, not an error
    """Another place to go: returned by a handler, or raised.

    `location` is an absolute or relative URL; characters that no URL has are percent-encoded, so
    that a backslash is never taken for a slash. `status_code` is one of 300, 301, 302, 303, 305,
    307, 308 (RFC 9110 §15.4); 303 asks for the next request to be GET, 307 and 308 keep the method.
    Raises ValueError for another status, FieldError for control characters in the location.
    """

    def __init__(
        self, location: str, status_code: int = 302, headers: HeadersLike | None = None
    ) -> None:
        if status_code not in _REDIRECTS:
            raise ValueError(f"{status_code!r} is not the status of a redirection")
        if _find_control(location):
            raise FieldError(f"a location has no control characters: {location[:80]!a}")
        from urllib.parse import quote

        super().__init__(None, status_code, headers)
        self.headers["Location"] = _bare_percent.sub(
            "%25", quote(location, safe=_LOCATION_CHARACTERS)
        )


def to_response(result: object) -> Response:
    """Return what a handler has returned as a response.

    A response stays itself, an HTTPError becomes its answer, None 204, str text, bytes-like binary
    content, a dict or list JSON, an iterator a stream, a Serializable its bytes. Raises TypeError
    for anything else.
    """
    if isinstance(result, Response):
        return result
    if result is None:
        return Response(None, 204)
    if isinstance(result, HTTPError):
        return error_response(result)
    if isinstance(result, (str, bytes, dict, list, bytearray, memoryview)) or hasattr(
        type(result), "__next__"
    ):
        return Response(result)
    if hasattr(type(result), "dumpb"):
        return SerializableResponse(result)
    raise TypeError(
        f"a handler returned a {type(result).__name__}: return a Response, str, bytes, dict, list,"
        " iterator, Serializable or None"
    )


def instance_of(cls: type) -> object:
    """Return what a handler meant that returned a class of responses or errors: an instance.

    Any other class stays what it is. Raises TypeError for a class that needs arguments.
    """
    if not issubclass(cls, (Response, HTTPError)):
        return cls
    try:
        return cls()
    except TypeError as error:
        raise TypeError(
            f"a handler returned the class {cls.__name__}, which needs arguments ({error}):"
            f" return {cls.__name__}(…)"
        ) from error


def error_response(error: HTTPError, accept: str | None = None) -> Response:
    """Return the answer for an error, as JSON, HTML or plain text by the Accept field value.

    Plain text is what a client gets that does not care.
    """
    status, message = error.status_code, error.message
    title = f"{status} {error.reason}"
    content_type = accepts(accept, (TEXT, JSON, HTML)) or TEXT
    if content_type == JSON:
        payload = json_bytes({"status": status, "error": error.reason, "message": message})
    else:
        if content_type == HTML:
            text = _error_page(title, message)
        else:
            text = f"{title}\n" if message == error.reason else f"{title}\n{message}\n"
        # A message may hold a lone surrogate, from JSON for instance; it is answered all the same.
        payload = text.encode("utf-8", "replace")
    headers = Headers(error.headers)
    headers.pop("Transfer-Encoding", None)
    headers["Content-Type"] = content_type
    # The text may repeat what the client sent: never let a browser take it for anything else.
    headers["X-Content-Type-Options"] = "nosniff"
    vary_on(headers, "Accept")
    return Response(payload, status, headers)


def _error_page(title: str, message: str) -> str:
    from html import escape

    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f"<p>{escape(message)}</p>\n</body>\n</html>\n"
    )


def _text_for_client(error: BaseException, status_code: int) -> str:
    if isinstance(error, HTTPError):
        return error.message
    if status_code >= 500:
        return REASONS.get(status_code, "Server Error")
    return str(error) or type(error).__name__


def _merged(lines: Iterable[tuple[str, str]], headers: HeadersLike | None) -> Headers:
    """Return `lines`, with those fields replaced that `headers` has as well."""
    given = Headers(headers)
    merged = Headers([line for line in lines if line[0] not in given])
    for name, value in given.fields():
        merged.add(name, value)
    return merged


def _checked_status(status_code: object) -> int:
    """Return a status given as an int of another class (IntEnum), or raise ValueError."""
    if isinstance(status_code, int) and not isinstance(status_code, bool):
        number = int(status_code)
        if 100 <= number <= 999:
            return number
    raise ValueError(f"a status is an int from 100 to 999, not {status_code!r}")


def _checked_type(content_type: str) -> str:
    if content_type in _section_by_type:
        return content_type
    return checked_field("Content-Type", content_type)[1]


def _section_of_type(content_type: str) -> tuple[bytes, bool, bool]:
    section = f"Content-Type: {content_type}\r\n".encode("latin-1"), False, False
    if len(_section_by_type) < _MAX_KNOWN_TYPES:
        _section_by_type[content_type] = section
    return section
