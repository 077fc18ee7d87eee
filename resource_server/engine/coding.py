"""Content codings of a request undone (RFC 9110 §8.4), as far as the handler reads.

A body in a coding is small on the wire and may be a thousand times as large behind it. So it is
undone piece by piece, when it is asked for, and what each coding makes counts against the limit of
the route: also what lies between two of them.
"""

from __future__ import annotations

from ..errors import BadRequest, ContentTooLarge, UnsupportedMediaType
from .body import PieceReader

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import IO

    from ..request import Request
    from .endpoint import Endpoint

#: Bytes made at once.
PIECE = 65536
#: Bytes given to zlib at once: behind each member of a gzip it copies what is left of them.
FEED = 4096
#: Codings on top of each other. One is normal, two are a client that compresses what was.
MAX_CODINGS = 2
#: In the notation of zlib: the window, and the wrapper of gzip (RFC 1952) or that of deflate,
#: which is the zlib format (RFC 9110 §8.4.1.2).
_WINDOWS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_ACCEPTED = "gzip, deflate"


def refused_coding(request: Request, endpoint: Endpoint) -> UnsupportedMediaType | None:
    """The answer to a body whose coding the route does not take (RFC 9110 §15.5.16), or None."""
    if endpoint.decode is None:
        return None
    codings = _codings(request)
    if not codings:
        return None
    if not endpoint.decode:
        problem, accepted = "in a content coding", "identity"
    elif len(codings) > MAX_CODINGS:
        problem, accepted = f"in more than {MAX_CODINGS} content codings", _ACCEPTED
    elif not all(coding in _WINDOWS for coding in codings):
        problem, accepted = "in an unknown content coding", _ACCEPTED
    else:
        return None
    return UnsupportedMediaType(
        f"A body {problem} is not taken here.", headers=[("Accept-Encoding", accepted)]
    )


def _codings(request: Request) -> list[str]:
    """The codings of the body, in lower case, in the order in which they were applied."""
    value = request.headers.get("content-encoding")
    if value is None:
        return []
    names = [name.strip(" \t") for name in value.lower().split(",")]
    return [name for name in names if name and name != "identity"]


def open_body(request: Request, endpoint: Endpoint, body: IO[bytes]) -> IO[bytes]:
    """The body as the handler reads it: with its codings undone where the route wants that."""
    codings = _codings(request) if endpoint.decode else []
    if not codings:
        return body
    # A RawIOBase does all that IO[bytes] says, but is not declared to.
    return DecodedBody(body, codings, endpoint.max_content_length)  # type: ignore[return-value]


class DecodedBody(PieceReader):
    """A body with its codings undone.

    :param codings: as they were applied.
    :param limit: bytes that each of them may make.

    Reading raises ContentTooLarge beyond the limit, BadRequest for content that is malformed or
    ends too early, and what reading the body raises; then the same each time.
    """

    def __init__(self, body: IO[bytes], codings: list[str], limit: int) -> None:
        super().__init__()
        pieces: Iterator[bytes] = iter(lambda: body.read(PIECE), b"")
        for coding in reversed(codings):
            pieces = _inflated(pieces, _WINDOWS[coding], limit)
        self._pieces = pieces
        self._error: Exception | None = None

    def _next_piece(self) -> bytes:
        # Behind an error the iterator is at its end, which would look like that of the body.
        if self._error is not None:
            raise self._error
        try:
            return next(self._pieces, b"")
        except Exception as error:
            self._error = error
            raise


def _inflated(source: Iterator[bytes], window: int, limit: int) -> Iterator[bytes]:
    """Yield what one coding hid, in pieces that are not empty."""
    import zlib

    inflater = zlib.decompressobj(window)
    made = 0
    for received in source:
        for start in range(0, len(received), FEED):
            data = received[start : start + FEED]
            more = True
            while more:
                if inflater.eof:
                    if window == _WINDOWS["deflate"]:
                        raise BadRequest("there is more behind the compressed content of the body")
                    # RFC 1952 §2.2: a gzip has any number of members.
                    inflater = zlib.decompressobj(window)
                try:
                    piece = inflater.decompress(data, PIECE)
                except zlib.error as error:
                    raise BadRequest("the compressed content of the body is malformed") from error
                made += len(piece)
                if made > limit:
                    raise ContentTooLarge(f"The body is longer than {limit} bytes.")
                if piece:
                    yield piece
                data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
                # Behind a full piece there may be more, although all of the data was taken in.
                more = bool(data) or (len(piece) == PIECE and not inflater.eof)
    if not inflater.eof:
        raise BadRequest("the compressed content of the body ends too early")
