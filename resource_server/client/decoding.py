"""Content codings undone (RFC 9110 §8.4), piece by piece: never more than a bound at a time."""

from __future__ import annotations

import zlib
from functools import cache
from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    class Decoder(Protocol):
        """Undoes one coding."""

        def decode(self, data: bytes, /) -> Iterator[bytes]:
            """Yield what `data` makes, in pieces of bounded size; raises ValueError."""

        def finish(self) -> None:
            """Raise ValueError unless the coding has come to its end."""


# Bytes that a decoder makes at once.
PIECE = 65536
# More codings on top of each other are an attack: each multiplies the size by up to 1000.
MAX_CODINGS = 3
# Members of one gzip: `pigz` and logs that are appended to make some, and each costs a few µs.
MAX_MEMBERS = 10000


class _Zlib:
    """gzip, of one or more members (RFC 1952 §2.2), or deflate, with its wrapper or without."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        # Not before the first two bytes of deflate tell whether they are the wrapper's.
        self._inflater = zlib.decompressobj(31) if gzip else None
        self._held = b""
        self._begun = False
        self._members = 0

    def decode(self, data: bytes) -> Iterator[bytes]:
        self._begun = True
        if self._inflater is None:
            data = self._held + data
            if len(data) < 2:
                self._held = data
                return
            # RFC 1950 §2.2; "deflate" is that format, but some servers leave its wrapper out.
            wrapped = data[0] & 15 == 8 and (data[0] << 8 | data[1]) % 31 == 0
            self._inflater = zlib.decompressobj(15 if wrapped else -15)
        while True:
            inflater = self._inflater
            if inflater.eof:
                if not self._gzip or not data.strip(b"\0"):
                    return  # padding, as some servers send
                self._members += 1
                if self._members > MAX_MEMBERS:
                    raise ValueError(f"more than {MAX_MEMBERS} members of gzip")
                inflater = self._inflater = zlib.decompressobj(31)
            try:
                piece = inflater.decompress(data, PIECE)
            except zlib.error as error:
                raise ValueError(str(error)) from error
            if piece:
                yield piece
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            # A full piece may have more behind it, although all of the data was taken in.
            if not data and len(piece) < PIECE:
                return

    def finish(self) -> None:
        # Some servers name a coding although there is no content.
        if self._begun and not (self._inflater is not None and self._inflater.eof):
            raise ValueError("the compressed content ends too early")


class _Brotli:
    """br (RFC 7932), with a package that can bound what it makes."""

    def __init__(self, module: Any) -> None:
        self._decoder = module.Decompressor()
        self._error: type[Exception] = module.error
        self._begun = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        self._begun = True
        try:
            piece = self._decoder.process(data, output_buffer_limit=PIECE)
            while piece:
                yield piece
                piece = self._decoder.process(b"", output_buffer_limit=PIECE)
        except self._error as error:
            raise ValueError(str(error) or "malformed br") from error

    def finish(self) -> None:
        if self._begun and not self._decoder.is_finished():
            raise ValueError("the compressed content ends too early")


class _Zstd:
    """zstd (RFC 8878), of one or more frames."""

    def __init__(self, module: Any) -> None:
        self._module = module
        # RFC 9659 §3: no more than 8 MiB of window in HTTP.
        parameter = module.DecompressionParameter.window_log_max
        self._make: Callable[[], Any] = lambda: module.ZstdDecompressor(options={parameter: 23})
        self._decoder: Any = self._make()
        self._begun = False

    def decode(self, data: bytes) -> Iterator[bytes]:
        self._begun = True
        while True:
            if self._decoder.eof:
                data = self._decoder.unused_data or data
                if not data:
                    return
                self._decoder = self._make()
            try:
                piece = self._decoder.decompress(data, PIECE)
            except self._module.ZstdError as error:
                raise ValueError(str(error)) from error
            data = b""
            if piece:
                yield piece
            if self._decoder.eof:
                if not self._decoder.unused_data:
                    return
            elif self._decoder.needs_input:
                return

    def finish(self) -> None:
        if self._begun and not self._decoder.eof:
            raise ValueError("the compressed content ends too early")


def _first(*names: str) -> Any:
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    return None


@cache
def _codings() -> dict[str, Callable[[], Decoder]]:
    """Return what makes a decoder for each coding that this installation can undo."""
    codings: dict[str, Callable[[], Decoder]] = {
        "gzip": lambda: _Zlib(gzip=True),
        "x-gzip": lambda: _Zlib(gzip=True),
        "deflate": lambda: _Zlib(gzip=False),
    }
    brotli = _first("brotlicffi", "brotli")
    # Older ones make as much as the content asks for.
    if hasattr(getattr(brotli, "Decompressor", None), "can_accept_more_data"):
        codings["br"] = lambda: _Brotli(brotli)
    zstd = _first("compression.zstd", "backports.zstd")
    if zstd is not None:
        codings["zstd"] = lambda: _Zstd(zstd)
    return codings


@cache
def accepted() -> str:
    """Return the value of Accept-Encoding."""
    return ", ".join(name for name in _codings() if name != "x-gzip")


def decoders(value: str) -> list[Decoder] | None:
    """Return what undoes a Content-Encoding, the first to be used first.

    It is an empty list for nothing to undo, None if it names a coding that is not known. Raises
    ValueError if it names too many.
    """
    names = [name for name in (each.strip() for each in value.lower().split(",")) if name]
    names = [name for name in names if name != "identity"]
    if len(names) > MAX_CODINGS:
        raise ValueError(f"more than {MAX_CODINGS} content codings")
    known = _codings()
    if any(name not in known for name in names):
        return None
    return [known[name]() for name in reversed(names)]


def decoded(stages: list[Decoder], data: bytes) -> Iterator[bytes]:
    """Yield what `data` makes when all stages have undone their coding; raises ValueError."""
    if not stages:
        yield data
        return
    first, *rest = stages
    for piece in first.decode(data):
        yield from decoded(rest, piece)
