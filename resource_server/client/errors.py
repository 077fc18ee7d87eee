"""What a request of the client can end in, instead of a response.

::

    ResourceServerError
    └── ClientError                              method, url, cause
        ├── ConnectError      (ConnectionError)  no connection, or lost before the answer
        ├── TimeoutError      (TimeoutError)     one of the times of its Timeout has passed
        ├── TLSError                             the server is not to be trusted, or speaks no TLS
        ├── ProtocolError                        what came is no answer, or ended too early
        │   └── TooManyRedirects
        ├── TooLarge                             the answer is larger than max_response_size
        └── Cancelled         (CancelledError)   the handle was cancelled, or the client stopped
"""

# ruff: noqa: N818 - the classes are named for what happened.
from __future__ import annotations

import builtins
import re
from concurrent.futures import CancelledError

from ..errors import ResourceServerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

# Names of query parameters whose values are not for logs.
_TELLING = r"(?:key|token|secret|passw|pwd|auth|sig|credential|session|code)"
# The first part is searched for its word once, the second takes all of it: linear work, as what
# redirects to a URL may have chosen it.
_secrets = re.compile(rf"(?<=[?&])(?=[^=&#?]*?{_TELLING})([^=&#?]*+)=[^&#]+", re.IGNORECASE)
_userinfo = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*://)[^/?#]*@")


def safe_url(url: str) -> str:
    """Return a URL without its user and password, and without the values of secret parameters."""
    return _secrets.sub(r"\1=***", _userinfo.sub(r"\1", url))


class ClientError(ResourceServerError):
    """A request that got no response.

    `method` is the request's (str), `url` its URL without credentials (str), `cause` the exception
    that led to it or None, which is also its ``__cause__``, and `message` what happened (str). The
    text has all four.
    """

    def __init__(
        self,
        message: str,
        *,
        method: str = "",
        url: str = "",
        cause: BaseException | None = None,
    ) -> None:
        self.method = method
        self.url = safe_url(url)
        self.cause = cause
        self.message = message
        if method:
            message = f"{method} {self.url}: {message}"
        if cause is not None:
            self.__cause__ = cause
            message = f"{message} ({_told(cause)})"
        super().__init__(message)

    def of(self, method: str, url: str) -> Self:
        """Return the same error as that of a request."""
        return type(self)(self.message, method=method, url=url, cause=self.cause)


def _told(cause: BaseException) -> str:
    text = str(cause)
    name = type(cause).__name__
    return f"{name}: {text}" if text else name


class ConnectError(ClientError, ConnectionError):
    """No connection could be made, or it was lost before the answer."""


class TimeoutError(ClientError, builtins.TimeoutError):  # noqa: A001 - it is one
    """One of the times of the request's Timeout has passed."""


class TLSError(ClientError):
    """The server could not prove who it is, refused the client's certificate, or speaks no TLS."""


class ProtocolError(ClientError):
    """What came is not an answer as RFC 9110 and 9112 define it, or it ended before its end."""


class TooManyRedirects(ProtocolError):
    """The answer leads on and on, more often than `max_redirects`."""


class TooLarge(ClientError):
    """The answer's content, decoded, is larger than `max_response_size`."""


class Cancelled(ClientError, CancelledError):
    """The request was cancelled, or its client was stopped."""
