"""A client for HTTP and WebSockets, for programs that use threads.

It is imported on first use: ``from resource_server import HTTPClient`` is enough.
"""

from __future__ import annotations

from .answer import (
    ClientErrorResponse,
    ClientJsonResponse,
    ClientResponse,
    ClientSerializableResponse,
    Outgoing,
)
from .auth import basic, bearer, digest
from .errors import (
    Cancelled,
    ClientError,
    ConnectError,
    ProtocolError,
    TimeoutError,  # noqa: A004 - it is one
    TLSError,
    TooLarge,
    TooManyRedirects,
)
from .handle import RequestHandle
from .http import HTTPClient
from .timeouts import Timeout

__all__ = [
    "Cancelled",
    "ClientError",
    "ClientErrorResponse",
    "ClientJsonResponse",
    "ClientResponse",
    "ClientSerializableResponse",
    "ConnectError",
    "HTTPClient",
    "Outgoing",
    "ProtocolError",
    "RequestHandle",
    "TLSError",
    "Timeout",
    "TimeoutError",
    "TooLarge",
    "TooManyRedirects",
    "basic",
    "bearer",
    "digest",
]
