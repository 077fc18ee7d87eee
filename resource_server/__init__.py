"""A threaded, selector-driven HTTP/1.1 server in pure Python, to be embedded in other programs."""

from __future__ import annotations

from .errors import (
    BadGateway,
    BadRequest,
    Conflict,
    ContentTooLarge,
    Disconnected,
    ExpectationFailed,
    FieldError,
    Forbidden,
    GatewayTimeout,
    Gone,
    HandshakeError,
    HTTPError,
    HTTPNotImplemented,
    HTTPVersionNotSupported,
    InternalServerError,
    LengthRequired,
    MethodNotAllowed,
    MisdirectedRequest,
    NetworkAuthenticationRequired,
    NotAcceptable,
    NotFound,
    PatternError,
    PaymentRequired,
    PreconditionFailed,
    PreconditionRequired,
    ProxyAuthenticationRequired,
    RangeNotSatisfiable,
    RegistrationError,
    RequestHeaderFieldsTooLarge,
    RequestTimeout,
    ResourceServerError,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
    UnavailableForLegalReasons,
    UnprocessableContent,
    UnsupportedMediaType,
    UpgradeRequired,
    URITooLong,
    WebSocketClosed,
)
from .headers import Headers
from .request import Request, register_message_codec
from .response import (
    ErrorResponse,
    HTMLResponse,
    JsonResponse,
    Redirect,
    Response,
    SerializableResponse,
    TextResponse,
)
from .routing.options import SAME_ORIGIN
from .routing.pattern import Converter
from .routing.resource import (
    Resource,
    delete,
    get,
    head,
    header,
    options,
    param,
    patch,
    post,
    put,
    route,
    websocket,
    websocket_session,
)
from .routing.router import Router
from .server import HTTPServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .client import (
        Cancelled,
        ClientError,
        ClientResponse,
        ConnectError,
        HTTPClient,
        ProtocolError,
        RequestHandle,
        Timeout,
        TLSError,
        TooLarge,
        TooManyRedirects,
    )
    from .client.reader import Reconnect
    from .client.upgrade import WebSocketRefused
    from .client.websocket import ClientWebSocket
    from .codings import compression
    from .events import Event, EventChannel, EventStream
    from .files import FileResource, FileResponse, path_join_safe
    from .files.writable import WritableFileResource
    from .forms.form import Form
    from .forms.upload import UploadedFile
    from .latest import LatestFrame
    from .preconditions import conditional
    from .progress import UploadProgress
    from .protocol.limits import Limits
    from .serializable import Serializable as Serializable
    from .serializable import SerializableEnum as SerializableEnum
    from .serializable import SerializableError as SerializableError
    from .streams import StreamResponse
    from .websockets import WebSocketGroup, WebSocketOpCode, WebSocketRequest, WebSocketSession

__version__ = "0.1.0"

__all__ = [
    "SAME_ORIGIN",
    "BadGateway",
    "BadRequest",
    "Cancelled",
    "ClientError",
    "ClientResponse",
    "ClientWebSocket",
    "Conflict",
    "ConnectError",
    "ContentTooLarge",
    "Converter",
    "Disconnected",
    "ErrorResponse",
    "Event",
    "EventChannel",
    "EventStream",
    "ExpectationFailed",
    "FieldError",
    "FileResource",
    "FileResponse",
    "Forbidden",
    "Form",
    "GatewayTimeout",
    "Gone",
    "HTMLResponse",
    "HTTPClient",
    "HTTPError",
    "HTTPNotImplemented",
    "HTTPServer",
    "HTTPVersionNotSupported",
    "HandshakeError",
    "Headers",
    "InternalServerError",
    "JsonResponse",
    "LatestFrame",
    "LengthRequired",
    "Limits",
    "MethodNotAllowed",
    "MisdirectedRequest",
    "NetworkAuthenticationRequired",
    "NotAcceptable",
    "NotFound",
    "PatternError",
    "PaymentRequired",
    "PreconditionFailed",
    "PreconditionRequired",
    "ProtocolError",
    "ProxyAuthenticationRequired",
    "RangeNotSatisfiable",
    "Reconnect",
    "Redirect",
    "RegistrationError",
    "Request",
    "RequestHandle",
    "RequestHeaderFieldsTooLarge",
    "RequestTimeout",
    "Resource",
    "ResourceServerError",
    "Response",
    "Router",
    "SerializableResponse",
    "ServiceUnavailable",
    "StreamResponse",
    "TLSError",
    "TextResponse",
    "Timeout",
    "TooLarge",
    "TooManyRedirects",
    "TooManyRequests",
    "URITooLong",
    "Unauthorized",
    "UnavailableForLegalReasons",
    "UnprocessableContent",
    "UnsupportedMediaType",
    "UpgradeRequired",
    "UploadProgress",
    "UploadedFile",
    "WebSocketClosed",
    "WebSocketGroup",
    "WebSocketOpCode",
    "WebSocketRefused",
    "WebSocketRequest",
    "WebSocketSession",
    "WritableFileResource",
    "compression",
    "conditional",
    "delete",
    "get",
    "head",
    "header",
    "options",
    "param",
    "patch",
    "path_join_safe",
    "post",
    "put",
    "register_message_codec",
    "route",
    "websocket",
    "websocket_session",
]

#: Where to find what a small server does without: imported on first use, as importing takes time.
_ON_FIRST_USE = {
    "Cancelled": "client",
    "ClientError": "client",
    "ClientResponse": "client",
    "ClientWebSocket": "client.websocket",
    "ConnectError": "client",
    "HTTPClient": "client",
    "ProtocolError": "client",
    "Reconnect": "client.reader",
    "RequestHandle": "client",
    "TLSError": "client",
    "Timeout": "client",
    "TooLarge": "client",
    "TooManyRedirects": "client",
    "compression": "codings",
    "Event": "events",
    "EventChannel": "events",
    "EventStream": "events",
    "FileResource": "files",
    "FileResponse": "files",
    "Form": "forms.form",
    "LatestFrame": "latest",
    "Limits": "protocol.limits",
    # Not in __all__: "import *" shall work without the extra that they need.
    "Serializable": "serializable",
    "SerializableEnum": "serializable",
    "SerializableError": "serializable",
    "StreamResponse": "streams",
    "UploadProgress": "progress",
    "UploadedFile": "forms.upload",
    "WebSocketGroup": "websockets",
    "WebSocketRefused": "client.upgrade",
    "WebSocketOpCode": "websockets",
    "WebSocketRequest": "websockets",
    "WebSocketSession": "websockets",
    "conditional": "preconditions",
    "WritableFileResource": "files.writable",
    "path_join_safe": "files",
}


def __getattr__(name: str) -> object:
    module = _ON_FIRST_USE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value
