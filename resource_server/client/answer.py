"""The responses of the client: those of the server's side, as they were received."""

from __future__ import annotations

import json
from typing import Any

from ..charsets import CHARSETS
from ..errors import HTTPError, error_class
from ..headers import Headers, parse_parameters
from ..nesting import json_is_too_deep
from ..response import SERIALIZABLE, ErrorResponse, JsonResponse, Response, SerializableResponse
from .errors import ClientError, ProtocolError, TimeoutError  # noqa: A004

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

_UNSET: Any = object()
# RFC 9110 §7.6.1, §11.7; and its length, which is that of what was sent.
_OF_CONNECTION = frozenset(
    [
        "connection", "content-length", "keep-alive", "proxy-authenticate", "proxy-connection",
        "proxy-authentication-info", "te", "trailer", "transfer-encoding", "upgrade",
    ]
)  # fmt: skip


class Outgoing:
    """A request as it is sent: `method` and `url` (str) and `headers` (Headers).

    What `auth` is given, and may set fields of.
    """

    __slots__ = ("headers", "method", "url")

    def __init__(self, method: str, url: str, headers: Headers) -> None:
        self.method = method
        self.url = url
        self.headers = headers

    def __repr__(self) -> str:
        from .errors import safe_url

        return f"<Outgoing {self.method} {safe_url(self.url)}>"


class ClientResponse(Response):
    """An answer that was received: `status_code`, `headers` and `body` (bytes, decoded).

    `request` tells what was asked, after redirects: its `method`, `url` and `headers`; `url` is the
    same URL. `elapsed` is the time in seconds from the call to the last byte, `reason` the phrase
    that came with the status, and `error` the exception for a status of 400 or more, else None.
    """

    body: bytes
    request: Outgoing
    elapsed: float = 0.0
    reason: str = ""
    #: whether `body` is not what was sent, but what that meant
    decoded: bool = False
    error: BaseException | None = None
    _payload: Any = _UNSET

    @classmethod
    def received(
        cls, status: int, headers: Headers, body: bytes, request: Outgoing, elapsed: float
    ) -> Self:
        """Return one that is made of what came, unchecked."""
        self = cls.__new__(cls)
        self.status_code = status
        self._headers = headers
        self.body = body
        self.request = request
        self.elapsed = elapsed
        return self

    @property
    def payload(self) -> Any:
        """The content, as its type has it: bytes, the value of JSON, or a Serializable.

        Raises ProtocolError for content that is not of its type.
        """
        if self._payload is _UNSET:
            self._payload = self._decoded()
        return self._payload

    @payload.setter
    def payload(self, value: Any) -> None:
        self._payload = value

    def _decoded(self) -> Any:
        return self.body

    @property
    def url(self) -> str:
        """Where the answer came from, after redirects."""
        return self.request.url

    # For a handler that returns it, and so passes it on (RFC 9110 §7.6.1): what was agreed with
    # the server it came from is not for the next client.

    def section(self) -> tuple[bytes, bool, bool]:
        """Return the header section for those that it is passed on to."""
        left_out = {name.strip() for name in self.headers.get("connection", "").lower().split(",")}
        left_out |= _OF_CONNECTION
        if self.decoded:
            left_out.add("content-encoding")
        kept = [line for line in self.headers.fields() if line[0].lower() not in left_out]
        lines = "".join([f"{name}: {value}\r\n" for name, value in kept]).encode("latin-1")
        return lines, False, any(line[0].lower() == "date" for line in kept)

    @property
    def ok(self) -> bool:
        """Whether the status is less than 400."""
        return self.status_code < 400

    @property
    def text(self) -> str:
        """The content as text, in the charset it names, or UTF-8; what is malformed is replaced."""
        charset = "utf-8"
        try:
            charset = parse_parameters(self.content_type)[1].get("charset", charset).lower()
        except ValueError:
            pass
        # Python has more encodings than these, and some are slow or no text.
        return self.body.decode(charset if charset in CHARSETS else "utf-8", "replace")

    def json(self) -> Any:
        """Return the content as the value of its JSON, whatever its type; raises ProtocolError."""
        try:
            return _loaded(self.body)
        except (ValueError, RecursionError) as error:
            raise self._malformed("the content is not JSON", error) from error

    def raise_for_status(self) -> None:
        """Raise the error of a status of 400 or more: NotFound for 404, for instance."""

    def _malformed(self, message: str, error: BaseException) -> ProtocolError:
        request = self.request
        return ProtocolError(message, method=request.method, url=request.url, cause=error)


class ClientJsonResponse(ClientResponse, JsonResponse):
    """One whose content is JSON: `payload` is its value."""

    def _decoded(self) -> Any:
        return self.json()


class ClientSerializableResponse(ClientResponse, SerializableResponse):
    """One whose content is a Serializable: `payload` is it."""

    def _decoded(self) -> Any:
        from ..serializable import load_message

        try:
            # As many bytes as the client has accepted.
            return load_message(self.body, max_size=None)
        except ValueError as error:
            raise self._malformed("the content is no Serializable", error) from error


class ClientErrorResponse(ClientResponse, ErrorResponse):
    """One with a status of 400 or more, or none that came: `error` is the exception for it."""

    _error: BaseException | None = None

    @property
    def error(self) -> BaseException:
        """An HTTPError of the status's class, or the ClientError instead of which nothing came."""
        if self._error is None:
            cls = error_class(self.status_code)
            error = cls.__new__(cls)
            if self.status_code <= 599:
                # Past the constructors of those that want to be told what is in the fields.
                HTTPError.__init__(
                    error, self._message(), status_code=self.status_code, headers=self.headers
                )
            self._error = error
        return self._error

    @error.setter
    def error(self, value: BaseException | None) -> None:
        self._error = value

    def raise_for_status(self) -> None:
        """Raise `error`."""
        raise self.error

    def __str__(self) -> str:
        return str(self.error)

    def _decoded(self) -> Any:
        kind = _media_type(self.content_type)
        if _is_json(kind):
            return self.json()
        if kind == SERIALIZABLE:
            return ClientSerializableResponse._decoded(self)  # type: ignore[arg-type]
        return self.body

    def _message(self) -> str | None:
        """Return what the server says is wrong, if it does so as ours does."""
        if _is_json(_media_type(self.content_type)):
            try:
                content = _loaded(self.body)
            except (ValueError, RecursionError):
                return self.reason or None
            if isinstance(content, dict):
                for name in ("message", "error", "detail"):
                    if isinstance(content.get(name), str):
                        return str(content[name])
        return self.reason or None


def _loaded(content: bytes) -> Any:
    """Return the value of JSON, in any UTF, as `json.loads` does; ValueError if it is too deep."""
    text = content.decode(json.detect_encoding(content), "surrogatepass")
    if json_is_too_deep(text):
        raise ValueError("nested too deeply")
    return json.loads(text)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_json(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json")


def response_class(status: int, content_type: str) -> type[ClientResponse]:
    """Return the class for an answer."""
    if status >= 400:
        return ClientErrorResponse
    if content_type:
        kind = _media_type(content_type)
        if kind == SERIALIZABLE:
            return ClientSerializableResponse
        if _is_json(kind):
            return ClientJsonResponse
    return ClientResponse


def response_of_error(error: BaseException, method: str = "", url: str = "") -> ClientErrorResponse:
    """Return what stands for the response that did not come.

    Its status is 504 for one that took too long, else 502, as a gateway would answer; its payload
    is ``{"error": text}``.
    """
    if isinstance(error, ClientError):
        method, url = error.method, error.url
    status = 504 if isinstance(error, TimeoutError) else 502
    body = json.dumps({"error": str(error) or type(error).__name__}).encode()
    response = ClientErrorResponse.received(
        status,
        Headers([("Content-Type", "application/json")]),
        body,
        Outgoing(method, url, Headers()),
        0.0,
    )
    response.error = error
    return response
