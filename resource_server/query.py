"""Queries and forms in a URL's manner: names and values, percent-encoded."""

from __future__ import annotations

import re

from .errors import BadRequest

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Iterator

# A query or form with more pairs is an attack on the dictionary, not a form.
MAX_PARAMETERS = 1000

# All escapes that stand together at once: one by one, a body of them would become a list of bytes
# objects 80 times its size. Possessive, as the engine keeps a note of each escape otherwise.
_ESCAPES = re.compile(rb"(?:%[0-9A-Fa-f]{2})++")
_find_bad_escape = re.compile(r"%(?![0-9A-Fa-f]{2})").search


def _decoded_escapes(match: re.Match[bytes]) -> bytes:
    return bytes.fromhex(match[0].replace(b"%", b"").decode("ascii"))


def percent_decode(text: str) -> str:
    """Return a component of a URI with its escapes decoded as UTF-8 (RFC 3986 §2.1, §2.5).

    Raises BadRequest for a ``%`` without two hexadecimal digits and for what is not UTF-8.
    """
    if "%" not in text:
        return text
    if _find_bad_escape(text):
        raise BadRequest("malformed percent-encoding")
    try:
        return _ESCAPES.sub(_decoded_escapes, text.encode()).decode()
    except UnicodeDecodeError as error:
        raise BadRequest("percent-encoded text is not UTF-8") from error


def parse_query(text: str) -> dict[str, list[str]]:
    """Return the pairs of a query or form (WHATWG URL §5.1): the values of each name, in order.

    ``&`` alone separates pairs, ``+`` is a space, blank values are kept. Raises BadRequest for
    malformed escapes and for more than `MAX_PARAMETERS` pairs.
    """
    parameters: dict[str, list[str]] = {}
    if not text:
        return parameters
    if text.count("&") >= MAX_PARAMETERS:
        raise BadRequest(f"more than {MAX_PARAMETERS} parameters")
    for name, value in parse_pairs(text):
        parameters.setdefault(name, []).append(value)
    return parameters


def parse_pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs of a query or form, as many as there are; raises as `parse_query`."""
    for pair in text.split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        if "+" in pair or "%" in pair:
            name = percent_decode(name.replace("+", " "))
            value = percent_decode(value.replace("+", " "))
        yield name, value
