"""Content that is not there yet: what an iterator yields, and what a source is asked for.

An iterator is run by a worker, which it keeps for as long as it lasts, and blocks as it likes. A
source is asked by the server's own thread whenever the client has taken all before, and costs no
thread while it has nothing; `EventChannel` and `LatestFrame` are made of those.
"""

from __future__ import annotations

from .content import Pieces
from .content import Source as Source
from .errors import FieldError, checked_field
from .headers import Headers, parse_list
from .response import BINARY, Response

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import TypeAlias

    from .headers import HeadersLike

    # The value of a trailer field, or what gives it when the content has been sent.
    TrailerValue: TypeAlias = str | int | Callable[[], str | int | None]


class StreamResponse(Response):
    """What an iterable of bytes or str yields, each piece sent when it is yielded.

    Nothing is kept back to be sent with the next piece, also in gzip, so that yielding is flushing;
    the iterable is asked for more when the client has taken what it yielded. It is closed when it
    is done, when the client has left and when the server stops.

    `content_length` is the number of bytes if it is known; without it the content is chunked.
    `compress` is as in Response; `content_type` has to be one of text for it.

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
        compress: bool | None = None,
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
