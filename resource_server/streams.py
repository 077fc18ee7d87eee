"""Content that is not there yet: what an iterator yields, and what a source is asked for.

An iterator is run by a worker, which it keeps for as long as it lasts, and blocks as it likes. A
source is asked by the server's own thread whenever the client has taken all before, and costs no
thread while it has nothing; `EventChannel` and `LatestFrame` are made of those.
"""

from __future__ import annotations

from .content import Pieces
from .errors import FieldError, checked_field
from .headers import Headers, parse_list
from .response import BINARY, Response

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeAlias

    from .headers import HeadersLike
    from .request import Request

    # The value of a trailer field, or what gives it when the content has been sent.
    TrailerValue: TypeAlias = str | int | Callable[[], str | int | None]


class Source:
    """What the content of a response is pulled from: set as `response.source`, with no body.

    `open` is called once, by the thread that answers the request, and may take its time. From then
    on the server's own thread calls `take`, whenever the client has taken all before, and `idle`
    and `stop`; none of these may block, as everybody waits meanwhile. `close` comes once, whatever
    has happened, in any thread, and alone if nothing was opened. The server calls one of them at a
    time.

    One source can be made of another, to change its pieces: it passes everything on but `take` and
    `idle`. A coding that keeps bytes back, as gzip does, flushes behind each piece, since what has
    been taken shall reach the client now and the next may be hours away; what it has to say at the
    end is its piece before ``b""``.
    """

    __slots__ = ()

    #: Seconds after which `idle` is asked for a sign of life if nothing was sent; None for never.
    keep_alive: float | None = None
    #: Whether a piece that waits in the system's buffers grows old there: they are kept short then.
    hasty: bool = False

    def open(self, request: Request, wake: Callable[[], None]) -> None:
        """Begin to answer `request`; what this raises is answered in place of the response.

        `wake` has the server ask `take` again after that has returned None. Any thread may call it,
        at any time; it never blocks, and costs next to nothing when it has just been called.
        """

    def take(self) -> bytes | None:
        """Return the next piece, None for none now, or ``b""`` at the end."""
        return b""

    def idle(self) -> bytes:
        """Return what shows that the server is there, and means nothing."""
        return b""

    def stop(self) -> None:
        """Come to an end, as the server stops: `take` is asked for the rest, up to ``b""``."""

    def close(self) -> None:
        """Let go of everything: the client has all, or has left, or was never answered."""


class StreamResponse(Response):
    """What an iterable of bytes or str yields, each piece sent when it is yielded.

    Nothing is kept back to be sent with the next piece, also in gzip, so that yielding is flushing;
    the iterable is asked for more when the client has taken what it yielded. It is closed when it
    is done, when the client has left and when the server stops.

    `content_length` is the number of bytes if it is known; without it the content is chunked.
    `compress` allows gzip, if `content_type` is one of text.

    `trailers` are fields that follow chunked content (RFC 9110 §6.5): names to values, or to
    callables that are asked for the value when all has been sent, None for no such field. A client
    that gets the content otherwise, for instance by HTTP/1.0, is not sent them, and many drop them.
    Raises FieldError for a field that may not be one of them, ValueError for trailers of content
    whose length is known, which is not chunked.
    """

    def __init__(
        self,
        iterator: Iterable[bytes | str],
        status_code: int = 200,
        headers: HeadersLike | None = None,
        compress: bool = False,
        *,
        content_type: str = BINARY,
        content_length: int | None = None,
        trailers: Mapping[str, TrailerValue] | None = None,
    ) -> None:
        super().__init__(None, status_code, headers, compress, content_type=content_type)
        self.payload = iterator
        self.body = None
        self.iterator = Pieces(iterator)
        self._content_length = content_length
        if trailers:
            if self.content_length is not None:
                raise ValueError("content of a known length has no trailers: leave one of them out")
            self.trailers = Trailers(trailers)


# What a recipient must know before the content, or would act upon (RFC 9110 §6.5.1): framing,
# routing, modifiers of requests, controls of responses, authentication, the content's format.
_FORBIDDEN_TRAILERS = frozenset(
    parse_list(
        "accept, accept-charset, accept-encoding, accept-language, age, authorization,"
        " cache-control, connection, content-disposition, content-encoding, content-language,"
        " content-length, content-location, content-range, content-type, cookie, date, expect,"
        " expires, host, if-match, if-modified-since, if-none-match, if-range,"
        " if-unmodified-since, keep-alive, location, max-forwards, pragma, proxy-authenticate,"
        " proxy-authorization, proxy-connection, range, retry-after, set-cookie,"
        " strict-transport-security, te, trailer, transfer-encoding, upgrade, vary, via,"
        " warning, www-authenticate"
    )
)


class Trailers:
    """Trailer fields that a response announces; raises FieldError for one that may not be sent."""

    __slots__ = ("_values", "names")

    def __init__(self, values: Mapping[str, TrailerValue]) -> None:
        for name, value in values.items():
            checked_field(name, "" if callable(value) else value)
            if name.lower() in _FORBIDDEN_TRAILERS:
                raise FieldError(
                    f"{name} cannot be a trailer field: whoever reads the content has to know it"
                    " before (RFC 9110 §6.5.1); put it into the headers"
                )
        self._values = dict(values)
        #: as the field Trailer announces them (RFC 9110 §6.6.2)
        self.names = ", ".join(values)

    def fields(self) -> Headers:
        """Return the fields, at the end of the content.

        Raises what the application's callables raise, and FieldError for what they return.
        """
        headers = Headers()
        for name, value in self._values.items():
            told = value() if callable(value) else value
            if told is not None:
                headers.add(name, told)
        return headers
