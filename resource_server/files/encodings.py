"""Files that are there in compressed form beside the plain one, chosen by Accept-Encoding."""

from __future__ import annotations

from functools import lru_cache

from ..content import compressible
from ..errors import FieldError
from ..fieldvalues import MAX_NEGOTIATED, parse_quality

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
    if len(value) > MAX_NEGOTIATED:
        return ()
    try:
        weights = dict(reversed(parse_quality(value)))
    except FieldError:
        return ()
    if "x-gzip" in weights:
        weights.setdefault("gzip", weights["x-gzip"])
    others = weights.get("*", 0.0)
    # Not named, the plain form is what is left when nothing better is there.
    plain = weights.get("identity", 0.0)
    offers = [(weights.get(coding, others), coding) for coding in SUFFIXES]
    offers.sort(key=lambda offer: -offer[0])
    return tuple(coding for weight, coding in offers if weight > 0 and weight >= plain)
