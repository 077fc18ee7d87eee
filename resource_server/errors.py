"""Every exception of the package, and every HTTP status by name.

::

    ResourceServerError
    ├── HTTPError                          an answer with status 4xx or 5xx; return it or raise it
    │   ├── BadRequest                     400
    │   ├── Unauthorized                   401  (challenge)
    │   ├── PaymentRequired                402
    │   ├── Forbidden                      403
    │   ├── NotFound                       404
    │   ├── MethodNotAllowed               405  (allowed)
    │   ├── NotAcceptable                  406
    │   ├── ProxyAuthenticationRequired    407  (challenge)
    │   ├── RequestTimeout                 408
    │   ├── Conflict                       409
    │   ├── Gone                           410
    │   ├── LengthRequired                 411
    │   ├── PreconditionFailed             412
    │   ├── ContentTooLarge                413
    │   ├── URITooLong                     414
    │   ├── UnsupportedMediaType           415
    │   ├── RangeNotSatisfiable            416  (size)
    │   ├── ExpectationFailed              417
    │   ├── MisdirectedRequest             421
    │   ├── UnprocessableContent           422
    │   ├── UpgradeRequired                426  (protocol)
    │   ├── PreconditionRequired           428
    │   ├── TooManyRequests                429  (retry_after)
    │   ├── RequestHeaderFieldsTooLarge    431
    │   ├── UnavailableForLegalReasons     451
    │   ├── InternalServerError            500
    │   ├── HTTPNotImplemented             501
    │   ├── BadGateway                     502
    │   ├── ServiceUnavailable             503  (retry_after)
    │   ├── GatewayTimeout                 504
    │   ├── HTTPVersionNotSupported        505
    │   └── NetworkAuthenticationRequired  511
    ├── PatternError       (ValueError)       a route pattern or converter that cannot be used
    ├── FieldError         (ValueError)       a header field or cookie that is not valid
    ├── RegistrationError  (TypeError)        something that is not routes was registered
    ├── SerializableError  (ValueError)       bytes that are no message; in ``serializable``
    ├── ClientError                           a request of HTTPClient failed; in ``client.errors``
    ├── HandshakeError                        a server answered the opening of a WebSocket wrongly
    └── Disconnected       (ConnectionError)  the client left while a handler read or wrote
        └── WebSocketClosed                   the WebSocket is closed  (code, reason)

The check of header fields lives here as well, because errors carry fields: `checked_field`
is the one door through which a field enters anything the server sends.
"""

# ruff: noqa: N818 - the classes carry the names of their statuses, as the registry spells them.
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import ceil, inf

# Registered status codes: the IANA HTTP Status Code Registry (RFC 9110 §16.2.1),
# without those registered as unused (306, 418).
REASONS: dict[int, str] = {
    100: "Continue",
    101: "Switching Protocols",
    102: "Processing",
    103: "Early Hints",
    200: "OK",
    201: "Created",
    202: "Accepted",
    203: "Non-Authoritative Information",
    204: "No Content",
    205: "Reset Content",
    206: "Partial Content",
    207: "Multi-Status",
    208: "Already Reported",
    226: "IM Used",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Found",
    303: "See Other",
    304: "Not Modified",
    305: "Use Proxy",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    416: "Range Not Satisfiable",
    417: "Expectation Failed",
    421: "Misdirected Request",
    422: "Unprocessable Content",
    423: "Locked",
    424: "Failed Dependency",
    425: "Too Early",
    426: "Upgrade Required",
    428: "Precondition Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    451: "Unavailable For Legal Reasons",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
    506: "Variant Also Negotiates",
    507: "Insufficient Storage",
    508: "Loop Detected",
    510: "Not Extended",
    511: "Network Authentication Required",
}

# RFC 9110 §5.6.2 token.
_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
is_token = re.compile(_NAME).fullmatch
# RFC 9110 §11.3: a scheme, alone or with parameters; commas separate both these and challenges.
# Of the schemes in use Negotiate and NTLM alone have a bare token68. After any other scheme it is
# refused, since the two words of "Login required" would have that form too.
_PARAMETER = rf'{_NAME}[ \t]*=[ \t]*(?:{_NAME}|"(?:[^"\\]|\\.)*")'
_CHALLENGE = rf"(?:(?i:Negotiate|NTLM) +[A-Za-z0-9\-._~+/]+=*|{_NAME}(?: +{_PARAMETER})?)"
_CHALLENGES = rf"{_CHALLENGE}(?:[ \t]*,[ \t]*(?:{_PARAMETER}|{_CHALLENGE}))*"
# RFC 9110 §5.5 field-value: visible characters, SP, HTAB and obs-text; no other control.
_is_field_value = re.compile("[\t\x20-\x7e\x80-\xff]*").fullmatch


class ResourceServerError(Exception):
    """The root of every exception that this package defines."""


class PatternError(ResourceServerError, ValueError):
    """A route pattern or converter that cannot be used; raised at registration."""


class FieldError(ResourceServerError, ValueError):
    """A header field, field value or cookie that the grammar of RFC 9110 or 6265 refuses."""


class RegistrationError(ResourceServerError, TypeError):
    """Something that is not routes was given to be registered."""


class Disconnected(ResourceServerError, ConnectionError):
    """The client left while a handler read from it or wrote to it."""


class WebSocketClosed(Disconnected):
    """The WebSocket is closed: nothing can be sent to it, and nothing more is received.

    `code` (int) and `reason` (str) are those that closed it; 1006 stands for a connection that
    was lost, 1005 for a peer that gave no code (RFC 6455 §7.4.1).
    """

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        self.code = code
        self.reason = reason
        told = f": {reason}" if reason else ""
        super().__init__(f"the WebSocket is closed ({code}{told})")

    def __reduce__(self) -> tuple[type[WebSocketClosed], tuple[int, str]]:
        return type(self), (self.code, self.reason)


class HandshakeError(ResourceServerError):
    """A server answered a client's opening handshake wrongly (RFC 6455 §4.1)."""


def checked_field(name: str | bytes, value: str | bytes | int) -> tuple[str, str]:
    """Return (name, value) as text fit to be sent, or raise FieldError.

    The value loses spaces and tabs around it; an int becomes its digits; bytes are Latin-1.
    CR, LF, NUL and other controls are refused, so that no field can end the line it is on
    (RFC 9110 §5.1, §5.5).
    """
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if not isinstance(name, str) or not is_token(name):
        raise FieldError(f"{name!a} is not a field name: use letters, digits and - (RFC 9110 §5.1)")
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    elif isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str):
        raise FieldError(f"the value of {name} is of type {type(value).__name__}: give a str")
    value = value.strip(" \t")
    if not _is_field_value(value):
        raise FieldError(
            f"the value of {name} may hold neither controls (CR, LF, NUL …) nor characters outside"
            f" Latin-1: encode it first, for instance with urllib.parse.quote; got {value[:80]!a}"
        )
    return name, value


class HTTPError(ResourceServerError):
    """An answer with an error status; a handler may return it or raise it.

    `message` is shown to the client (str; the reason phrase when None), `status_code` replaces the
    class's own (int, 400 to 599), `headers` are fields to send along. Raises TypeError for a
    message of another type, ValueError for a status that is no error and FieldError for a field
    that may not be sent.
    """

    status_code: int = 500

    def __init__(
        self,
        message: str | None = None,
        *,
        status_code: int | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> None:
        if status_code is not None:
            if not isinstance(status_code, int) or not 400 <= status_code <= 599:
                raise ValueError(f"an error has a status from 400 to 599, not {status_code!r}")
            self.status_code = status_code
        if message is not None and not isinstance(message, str):
            raise TypeError(
                f"the message of {type(self).__name__} is a text for the client, not a"
                f" {type(message).__name__}: give a status as status_code=…, and return an"
                " ErrorResponse to answer with JSON"
            )
        self.reason: str = REASONS.get(self.status_code) or "Error"
        self.message: str = self.reason if message is None else message
        self.headers: list[tuple[str, str]] = _field_lines(headers)
        super().__init__(self.message)


def _field_lines(
    headers: Mapping[str, str] | Iterable[tuple[str, str]] | None,
) -> list[tuple[str, str]]:
    """Return the checked lines of `headers`; each line of a Headers object stays its own."""
    if headers is None:
        return []
    lines = getattr(headers, "fields", None)
    if lines is not None:
        pairs: Iterable[tuple[str, str]] = lines()
    elif isinstance(headers, Mapping):
        pairs = headers.items()
    else:
        pairs = headers
    return [checked_field(name, value) for name, value in pairs]


class BadRequest(HTTPError):
    """400: the request is malformed (RFC 9110 §15.5.1)."""

    status_code = 400


class Unauthorized(HTTPError):
    """401: credentials are missing or wrong (RFC 9110 §15.5.2).

    `challenge` is the value of WWW-Authenticate, for instance ``Basic realm="notes"``. Raises
    FieldError for what is not of that form, a scheme and its parameters.
    """

    status_code = 401

    def __init__(self, challenge: str, message: str | None = None) -> None:
        super().__init__(message, headers=[("WWW-Authenticate", _checked_challenge(challenge))])


class PaymentRequired(HTTPError):
    """402 (RFC 9110 §15.5.3)."""

    status_code = 402


class Forbidden(HTTPError):
    """403: understood and refused (RFC 9110 §15.5.4)."""

    status_code = 403


class NotFound(HTTPError):
    """404: nothing is here (RFC 9110 §15.5.5)."""

    status_code = 404


class MethodNotAllowed(HTTPError):
    """405: the target has other methods, which `allowed` lists for Allow (RFC 9110 §15.5.6).

    A str is one method.
    """

    status_code = 405

    def __init__(self, allowed: str | Iterable[str], message: str | None = None) -> None:
        self.allowed: tuple[str, ...] = (allowed,) if isinstance(allowed, str) else tuple(allowed)
        super().__init__(message, headers=[("Allow", ", ".join(self.allowed))])


class NotAcceptable(HTTPError):
    """406: no representation that the client accepts (RFC 9110 §15.5.7)."""

    status_code = 406


class ProxyAuthenticationRequired(HTTPError):
    """407: `challenge` is the value of Proxy-Authenticate (RFC 9110 §15.5.8).

    Raises FieldError as Unauthorized.
    """

    status_code = 407

    def __init__(self, challenge: str, message: str | None = None) -> None:
        headers = [("Proxy-Authenticate", _checked_challenge(challenge))]
        super().__init__(message, headers=headers)


class RequestTimeout(HTTPError):
    """408: the request did not arrive in time (RFC 9110 §15.5.9)."""

    status_code = 408


class Conflict(HTTPError):
    """409: the state of the resource is against it (RFC 9110 §15.5.10)."""

    status_code = 409


class Gone(HTTPError):
    """410: it was here and will not be again (RFC 9110 §15.5.11)."""

    status_code = 410


class LengthRequired(HTTPError):
    """411: a Content-Length is needed (RFC 9110 §15.5.12)."""

    status_code = 411


class PreconditionFailed(HTTPError):
    """412: a condition in the request's fields is false (RFC 9110 §15.5.13)."""

    status_code = 412


class ContentTooLarge(HTTPError):
    """413: more content than the server takes (RFC 9110 §15.5.14)."""

    status_code = 413


class URITooLong(HTTPError):
    """414: a longer target than the server takes (RFC 9110 §15.5.15)."""

    status_code = 414


class UnsupportedMediaType(HTTPError):
    """415: content of a type that is not understood here (RFC 9110 §15.5.16)."""

    status_code = 415


class RangeNotSatisfiable(HTTPError):
    """416: no byte of the ranges exists; `size` (bytes) is told if given (RFC 9110 §15.5.17)."""

    status_code = 416

    def __init__(self, size: int | None = None, message: str | None = None) -> None:
        headers = [] if size is None else [("Content-Range", f"bytes */{size:d}")]
        super().__init__(message, headers=headers)


class ExpectationFailed(HTTPError):
    """417: an Expect that cannot be met (RFC 9110 §15.5.18)."""

    status_code = 417


class MisdirectedRequest(HTTPError):
    """421: this server does not answer for that authority (RFC 9110 §15.5.20)."""

    status_code = 421


class UnprocessableContent(HTTPError):
    """422: well-formed content that makes no sense here (RFC 9110 §15.5.21)."""

    status_code = 422


class UpgradeRequired(HTTPError):
    """426: answered only over `protocol`, which Upgrade names (RFC 9110 §15.5.22)."""

    status_code = 426

    def __init__(self, protocol: str, message: str | None = None) -> None:
        super().__init__(message, headers=[("Upgrade", protocol)])


class PreconditionRequired(HTTPError):
    """428: the request must be conditional (RFC 6585 §3)."""

    status_code = 428


class TooManyRequests(HTTPError):
    """429: the client may try again after `retry_after` seconds (RFC 6585 §4).

    A fraction is rounded up. Raises TypeError for what is no number, ValueError for one below 0.
    """

    status_code = 429

    def __init__(self, retry_after: float | None = None, message: str | None = None) -> None:
        super().__init__(message, headers=_retry_after(retry_after))


class RequestHeaderFieldsTooLarge(HTTPError):
    """431: too many or too large header fields (RFC 6585 §5)."""

    status_code = 431


class UnavailableForLegalReasons(HTTPError):
    """451 (RFC 7725 §3)."""

    status_code = 451


class InternalServerError(HTTPError):
    """500: the server failed (RFC 9110 §15.6.1)."""

    status_code = 500


class HTTPNotImplemented(HTTPError):
    """501: the server cannot do this at all, for instance an unknown method (RFC 9110 §15.6.2)."""

    status_code = 501


class BadGateway(HTTPError):
    """502: a server behind this one answered wrongly (RFC 9110 §15.6.3)."""

    status_code = 502


class ServiceUnavailable(HTTPError):
    """503: not now; `retry_after` (seconds) says when, if given (RFC 9110 §15.6.4).

    It is rounded up and refused as that of TooManyRequests.
    """

    status_code = 503

    def __init__(self, message: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(message, headers=_retry_after(retry_after))


class GatewayTimeout(HTTPError):
    """504: a server behind this one did not answer in time (RFC 9110 §15.6.5)."""

    status_code = 504


class HTTPVersionNotSupported(HTTPError):
    """505: another major version of HTTP is needed (RFC 9110 §15.6.6)."""

    status_code = 505


class NetworkAuthenticationRequired(HTTPError):
    """511: the network wants the client to sign in (RFC 6585 §6)."""

    status_code = 511


def _checked_challenge(challenge: str) -> str:
    if not isinstance(challenge, str) or not re.fullmatch(_CHALLENGES, challenge.strip(" \t")):
        raise FieldError(
            f"{challenge!a} is no challenge: it names the scheme and its parameters, as"
            " 'Basic realm=\"notes\"' does (RFC 9110 §11.3); a text for people goes into message"
        )
    return challenge


def _retry_after(seconds: float | None) -> list[tuple[str, str]]:
    """Return the Retry-After line: delay-seconds is a non-negative integer (RFC 9110 §10.2.3)."""
    if seconds is None:
        return []
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        raise TypeError(
            f"retry_after is a number of seconds, not {seconds!r}: a text goes into message=…"
        )
    if not 0 <= seconds < inf:
        raise ValueError(f"retry_after is a number of seconds from 0, not {seconds!r}")
    return [("Retry-After", str(ceil(seconds)))]


_CLASSES: dict[int, type[HTTPError]] = {
    cls.status_code: cls for cls in HTTPError.__subclasses__() if cls.__module__ == __name__
}


def error_class(status: int) -> type[HTTPError]:
    """Return the class made for `status`, or HTTPError itself, which takes any error status."""
    return _CLASSES.get(status, HTTPError)
