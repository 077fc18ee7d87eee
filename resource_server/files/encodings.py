"""Files that are there in compressed form beside the plain one, chosen by Accept-Encoding."""

from __future__ import annotations

from functools import lru_cache

from ..content import compressible
from ..headers import preferred_encodings

#: Codings (RFC 9110 §8.4.1, RFC 7932, RFC 8878) and what the names of such files end with, the
#: better compression first.
SUFFIXES = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}
# What is compressed in itself.
_COMPRESSED = ("image/", "video/", "audio/", "font/woff")


def may_be_encoded(content_type: str) -> bool:
    """Tell whether a compressed form of this type of content is worth looking for."""
    return not content_type.startswith(_COMPRESSED) or compressible(content_type)


@lru_cache(maxsize=128)
def accepted_codings(value: str) -> tuple[str, ...]:
    """Return the codings of `SUFFIXES` that are preferred to the plain form, best first (§12.5.3).

    Of equal weights the better compression wins. An overlong or malformed field accepts none.
    """
    return tuple(preferred_encodings(value, tuple(SUFFIXES)))
