"""Content codings of responses (RFC 9110 §8.4): compression that the client accepts.

There is one mechanism, `Compression`. ``Response(..., compress=True)`` has it applied with its
defaults to one response, the middleware `compression` to all that a handler answers which do not
speak of it themselves, by True or False.

**When not to compress.** The size of compressed content tells how much of it repeats. Where one
response holds a secret that stays the same (a token against CSRF, a key, private text) *and* text
that a stranger can choose (a search term that is shown again, the name in a URL), and the stranger
can both make the client ask and see how long the answers are, he guesses the secret letter by
letter, through TLS: that is the attack named BREACH. Leave such responses as they are, with
``compress=False`` or by giving the middleware only to the routes without secrets; or take one of
the two away: mask the secret with random bytes that are others in each response, or show what the
URL says only to requests of one's own pages (cookies with SameSite, Sec-Fetch-Site). Header fields
are not compressed in HTTP/1.1, so that setting a cookie is no reason.

Threads: a Compression never changes once made. What encodes a stream belongs to the one response,
and is used by whoever asks that for its next piece, one thread at a time.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from .content import COMPRESSIBLE_TYPES, Source, compressible
from .headers import accepts_encoding, preferred_encodings, vary_on

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, Protocol, Self, TypeAlias

    from .headers import Headers
    from .request import Request
    from .response import Handler, Middleware, Response

    class Encoder(Protocol):
        """Makes one coded content of many pieces."""

        def encode(self, piece: bytes) -> bytes:
            """Return what lets the client read up to the end of `piece`."""

        def finish(self) -> bytes:
            """Return the end."""

    # All of the content at once, and what encodes a stream; each for a level.
    Coding: TypeAlias = tuple[Callable[[bytes, int], bytes], Callable[[int], Encoder]]

#: The codings that are known, in the server's order of preference.
CODINGS = ("zstd", "br", "gzip")
#: Below this many bytes no coding saves a packet.
MINIMUM = 512
# Levels for content that is made for one request. Of 125 kB of HTML they make 35 kB each: zstd in
# 1.0 ms, br in 4.0 ms, gzip in 4.6 ms. The next levels take half as long again for 1 to 5 % less.
_LEVELS = {"zstd": 3, "br": 4, "gzip": 5}
# Of zstd, level 20 and up look back further than the 8 MiB that a client has to have (RFC 9659 §3).
_LEVELS_ALLOWED = {"zstd": range(1, 20), "br": range(12), "gzip": range(1, 10)}
# A stream keeps what it looks back at for as long as it lasts: 256 KiB (log2). With its tables that
# is 0.8 MiB in zstd and 0.6 MiB in br; gzip's 32 KiB make 0.1 MiB.
_STREAM_WINDOW = 18
# zlib's notation: a window of 2**15 bytes, plus 16 for the wrapper of gzip.
_GZIP_WINDOW = 31

# No content (RFC 9110 §15.3.5, §15.3.6), or a part of what is not compressed (§15.3.7).
_NEVER_COMPRESSED = frozenset([204, 205, 206])
# What has been encoded already, is a part, or has a digest of the bytes as they are (RFC 9530 §2,
# §3 count content codings in).
_FIXED_BY = (
    "content-encoding",
    "content-range",
    "content-digest",
    "repr-digest",
    "digest",
    "content-md5",
)


class Compression:
    """Which responses are compressed, and how; `apply` does it. The arguments are `compression`'s.

    Raises ValueError for codings, types and levels that there are not, TypeError for a str in place
    of several.
    """

    __slots__ = ("_codings", "_levels", "_minimum", "_types")

    def __init__(
        self,
        codings: Iterable[str] = CODINGS,
        minimum: int = MINIMUM,
        types: Iterable[str] = COMPRESSIBLE_TYPES,
        levels: Mapping[str, int] | None = None,
    ) -> None:
        self._codings = _checked_codings(codings)
        self._minimum = minimum
        self._types = _checked_types(types)
        self._levels = {**_LEVELS, **_checked_levels(levels or {})}

    def apply(self, response: Response, request: Request) -> Response:
        """Return the response to send: encoded, if that may be, is worth it and is accepted.

        It is `response` itself if that concerns no coding, else a copy, because an application may
        answer any number of requests with one response. An iterator goes over to the copy, whose
        `close` then closes it. A client that sends no Accept-Encoding gets the content as it is:
        it may mean anything (RFC 9110 §12.5.3) and is mostly a program that expects no coding.
        """
        modified = response.status_code != 304
        if not (self._concerns(response) if modified else self._may_concern(response)):
            return response
        copy = response.hand_over()
        copy.compress = False  # it is decided
        vary_on(copy.headers, "Accept-Encoding")
        accepted = request.headers.get("accept-encoding")
        if accepted is None:
            return copy
        offers = [name for name in self._codings if _coding(name)]
        coding = next(iter(preferred_encodings(accepted, offers)), None)
        if coding is None:
            return copy
        if not modified:
            # RFC 9110 §15.4.5: it tells the validator that the content would have come with.
            _weaken(copy.headers)
        elif self._encode(copy, coding, anyway=not accepts_encoding(accepted, "identity")):
            _describe(copy.headers, coding)
        return copy

    def _concerns(self, response: Response) -> bool:
        """Tell whether the answer depends on the codings that the client accepts."""
        if response.status_code < 200 or response.status_code in _NEVER_COMPRESSED:
            return False
        if response.file is not None:
            return False  # of any size, and sent by the loop
        if response.body is None:
            if response.iterator is None and response.source is None:
                return False
        elif len(response.body) < self._minimum:
            return False
        return compressible(response.content_type, self._types) and _may_be_changed(
            response.headers
        )

    def _may_concern(self, response: Response) -> bool:
        """Tell the same of a 304, which mostly does not say of what type the content would be."""
        kind = response.content_type
        return (not kind or compressible(kind, self._types)) and _may_be_changed(response.headers)

    def _encode(self, response: Response, coding: str, *, anyway: bool) -> bool:
        """Encode the content; False if it stays as it is, since it got no shorter."""
        made = _coding(coding)
        assert made is not None
        pack, encoder = made
        level = self._levels[coding]
        if response.iterator is not None:
            response.iterator = EncodedPieces(response.iterator, lambda: encoder(level))
        elif response.source is not None:
            response.source = EncodedSource(response.source, lambda: encoder(level))
        else:
            assert response.body is not None
            packed = pack(response.body, level)
            if len(packed) >= len(response.body) and not anyway:
                return False
            response.body = packed
        response.content_length = None
        return True


def compression(
    *,
    codings: Iterable[str] = CODINGS,
    minimum: int = MINIMUM,
    types: Iterable[str] = COMPRESSIBLE_TYPES,
    levels: Mapping[str, int] | None = None,
) -> Middleware:
    """Return a middleware that compresses what the client accepts compressed.

    Read above when not to. `codings`: those to use, of ``zstd``, ``br`` and ``gzip``, the best
    first; among those that the client likes equally the first one wins. What is not installed is
    left out: br needs ``brotli`` or ``brotlicffi``, zstd Python 3.14 or ``backports.zstd``, which
    ``resource_server[compression]`` installs. `minimum`: bytes below which a body stays as it is.
    `types`: the media types to compress, each ``kind/name``, ``kind/*`` or ``*+suffix``, by default
    ``resource_server.content.COMPRESSIBLE_TYPES``; ``text/event-stream`` has to be listed itself.
    `levels`: of a coding, in place of the ones that suit content made anew for each request.

    A stream stays a stream: the client can read each piece when it was yielded. Left as they are:
    responses that decide it themselves, by ``compress=True`` or, as files do, False; parts (206);
    what is encoded already or has a digest; and what says ``Cache-Control: no-transform`` (RFC 9111
    §5.2.2.6). All others tell caches in Vary, and a strong entity-tag becomes a weak one: compare
    those with If-None-Match by RFC 9110 §8.8.3.2, and do not demand them in If-Match.

    Raises ValueError for codings, types and levels that there are not, TypeError for a str in place
    of several.

    >>> Router(middlewares=[compression(codings=["br", "gzip"], levels={"br": 5})])
    <Router: 0 routes>
    """
    policy = Compression(codings, minimum, types, levels)

    def middleware(handler: Handler) -> Handler:
        def answer(request: Request) -> Response:
            response = handler(request)
            return response if response.compress is not None else policy.apply(response, request)

        return answer

    return middleware


def _checked_codings(codings: Iterable[str]) -> tuple[str, ...]:
    names = _several(codings, "codings")
    for name in names:
        if name not in CODINGS:
            raise ValueError(f"{name!r} is no coding to compress with: {', '.join(CODINGS)} are")
    return names


def _checked_types(types: Iterable[str]) -> frozenset[str]:
    names = [name.lower() for name in _several(types, "types")]
    for name in names:
        kind, slash, rest = name.partition("/")
        if not (kind and slash and rest and kind != "*") and not name.startswith("*+"):
            raise ValueError(f"{name!r} is no media type, nor kind/* nor *+suffix")
    return frozenset(names)


def _checked_levels(levels: Mapping[str, int]) -> Mapping[str, int]:
    for coding, level in levels.items():
        allowed = _LEVELS_ALLOWED.get(coding)
        if allowed is None:
            raise ValueError(f"{coding!r} is no coding that has a level")
        if level not in allowed:
            raise ValueError(
                f"the level of {coding} is from {allowed[0]} to {allowed[-1]}, not {level!r}"
            )
    return levels


def _several(names: Iterable[str], what: str) -> tuple[str, ...]:
    if isinstance(names, str):
        raise TypeError(f"{what} are a list or tuple of str, not one str: [{names!r}]")
    return tuple(names)


def _may_be_changed(headers: Headers) -> bool:
    if any(name in headers for name in _FIXED_BY):
        return False
    return "no-transform" not in headers.get("cache-control", "").lower()


def _describe(headers: Headers, coding: str) -> None:
    """Have the fields tell of the coding."""
    headers["Content-Encoding"] = coding
    headers.pop("Content-Length", None)
    # Ranges are those of the bytes as they were, under an address where these are others.
    headers.pop("Accept-Ranges", None)
    _weaken(headers)


def _weaken(headers: Headers) -> None:
    """Turn a strong entity-tag into a weak one: other bytes may not have the same (§8.8.3.3)."""
    tag = headers.get("etag", "")
    if tag.startswith('"'):
        headers["ETag"] = f"W/{tag}"


class EncodedPieces:
    """Pieces in a coding, each flushed, so that the client can read what was yielded so far.

    The encoder is made for the first piece: an answer to HEAD needs none.
    """

    __slots__ = ("_done", "_encoder", "_make", "_source")

    def __init__(self, source: Iterator[bytes], make: Callable[[], Encoder]) -> None:
        self._source = source
        self._make = make
        self._encoder: Encoder | None = None
        self._done = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        if self._done:
            raise StopIteration
        piece = next(self._source, None)
        if piece is not None and not piece:
            return piece
        encoder = self._encoder
        if encoder is None:
            encoder = self._encoder = self._make()
        if piece is not None:
            return encoder.encode(piece)
        self._done = True
        self._encoder = None
        return encoder.finish()

    def close(self) -> None:
        """Close the source, if it can be closed."""
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


class EncodedSource(Source):
    """A source in a coding, each piece flushed.

    The server calls one method at a time, so the encoder needs no lock. It is made for the first
    piece, as in `EncodedPieces`.
    """

    def __init__(self, source: Source, make: Callable[[], Encoder]) -> None:
        self._source = source
        self._make = make
        self._encoder: Encoder | None = None
        self._ended = False
        self.keep_alive = source.keep_alive
        self.hasty = source.hasty

    def open(self, request: Request, wake: Callable[[], None]) -> None:
        """Open the source."""
        self._source.open(request, wake)

    def take(self) -> bytes | None:
        """Return the next piece; the end of the coding is one more, before ``b""``."""
        if self._ended:
            return b""
        piece = self._source.take()
        if piece is None:
            return None
        if piece:
            return self._encoded(piece)
        self._ended = True
        encoder, self._encoder = self._encoder or self._make(), None
        return encoder.finish()

    def idle(self) -> bytes:
        """Return the source's sign of life, if it has one."""
        sign = self._source.idle()
        return self._encoded(sign) if sign and not self._ended else b""

    def _encoded(self, piece: bytes) -> bytes:
        if self._encoder is None:
            self._encoder = self._make()
        return self._encoder.encode(piece)

    def stop(self) -> None:
        """Have the source come to its end."""
        self._source.stop()

    def close(self) -> None:
        """Close the source."""
        self._encoder = None
        self._source.close()


# The codings. What needs a package is imported when a client first accepts what a server offers.


class _Gzip:
    """gzip (RFC 1952)."""

    __slots__ = ("_compressor",)

    def __init__(self, level: int) -> None:
        import zlib

        self._compressor = zlib.compressobj(level, zlib.DEFLATED, _GZIP_WINDOW)

    def encode(self, piece: bytes) -> bytes:
        from zlib import Z_SYNC_FLUSH

        return self._compressor.compress(piece) + self._compressor.flush(Z_SYNC_FLUSH)

    def finish(self) -> bytes:
        return self._compressor.flush()


def _gzip() -> Coding:
    import zlib

    return lambda content, level: zlib.compress(content, level, _GZIP_WINDOW), _Gzip


class _Brotli:
    """br (RFC 7932)."""

    __slots__ = ("_compressor",)

    def __init__(self, module: Any, level: int) -> None:
        self._compressor = module.Compressor(quality=level, lgwin=_STREAM_WINDOW)

    def encode(self, piece: bytes) -> bytes:
        encoded: bytes = self._compressor.process(piece) + self._compressor.flush()
        return encoded

    def finish(self) -> bytes:
        end: bytes = self._compressor.finish()
        return end


def _brotli() -> Coding | None:
    module = _first("brotli", "brotlicffi")
    if module is None:
        return None
    return (
        lambda content, level: module.compress(content, quality=level),
        lambda level: _Brotli(module, level),
    )


class _Zstd:
    """zstd (RFC 8878), in one frame."""

    __slots__ = ("_compressor",)

    def __init__(self, module: Any, level: int) -> None:
        parameter = module.CompressionParameter
        options = {parameter.compression_level: level, parameter.window_log: _STREAM_WINDOW}
        self._compressor = module.ZstdCompressor(options=options)

    def encode(self, piece: bytes) -> bytes:
        encoded: bytes = self._compressor.compress(piece, self._compressor.FLUSH_BLOCK)
        return encoded

    def finish(self) -> bytes:
        end: bytes = self._compressor.flush()
        return end


def _zstd() -> Coding | None:
    module = _first("compression.zstd", "backports.zstd")
    if module is None:
        return None
    # Of content whose length is known the window is no longer than that.
    return module.compress, lambda level: _Zstd(module, level)


def _first(*names: str) -> Any:
    """Return the first module of these that can be imported, or None."""
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


_FINDERS: dict[str, Callable[[], Coding | None]] = {"gzip": _gzip, "br": _brotli, "zstd": _zstd}


@cache
def _coding(name: str) -> Coding | None:
    """Return how content gets a coding, or None if what that needs is not installed."""
    return _FINDERS[name]()


#: What ``Response(..., compress=True)`` means.
DEFAULT = Compression()
