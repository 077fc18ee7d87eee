"""Parsers of field values: lists, parameters, and what a client accepts (RFC 9110 §5.6, §12).

Every pattern is possessive where it repeats: a value is read once from left to right, whatever a
client sends. How long a value may be is the protocol's limit on the header section.
"""

from __future__ import annotations

import re

from .errors import FieldError

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Characters of an Accept-like field that are looked at; a longer one, which takes milliseconds and
#: which nobody needs, is left aside.
MAX_NEGOTIATED = 2000

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = r'"(?:[^"\\]++|\\.)*"'
# RFC 9110 §5.6.1: an element is anything but commas, save inside a quoted-string.
_element = re.compile(rf'(?:[^",]++|{_QUOTED})*').match
# RFC 9110 §5.6.6: parameters = *( OWS ";" OWS [ parameter ] )
_parameter = re.compile(
    rf'[ \t]*+;[ \t]*+(?:({_NAME})=(?:({_NAME})|"((?:[^"\\]++|\\.)*)"))?[ \t]*+'
).match
_leading_value = re.compile(rf"{_NAME}(?:/{_NAME})?").match
_escape = re.compile(r"\\(.)")
# RFC 9110 §12.4.2 qvalue.
_is_qvalue = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?").fullmatch


def parse_list(value: str) -> list[str]:
    """Return the elements of a comma-separated list (RFC 9110 §5.6.1), empty ones left out.

    A comma inside a quoted-string separates nothing, and quotes stay as they are. Raises FieldError
    for a quote that is never closed. Entity-tags know no backslash escape: not for lists of those.

    >>> parse_list('gzip, , "a,b"')
    ['gzip', '"a,b"']
    """
    if '"' not in value:
        return [item for part in value.split(",") if (item := part.strip(" \t"))]
    items = []
    position = 0
    while position <= len(value):
        match = _element(value, position)
        assert match is not None  # the pattern matches the empty string
        position = match.end() + 1
        if position <= len(value) and value[position - 1] != ",":
            raise FieldError("a quote in a list is never closed")
        if item := match[0].strip(" \t"):
            items.append(item)
    return items


def parse_parameters(value: str) -> tuple[str, dict[str, str]]:
    """Return the leading token or media type, and its parameters (RFC 9110 §5.6.6, §8.3.1).

    The leading part and the names of parameters come in lower case; values without their quotes.
    Raises FieldError for anything malformed and for a parameter that comes twice, which two readers
    could understand in two ways.

    >>> parse_parameters('Text/HTML; Charset="utf-8"')
    ('text/html', {'charset': 'utf-8'})
    """
    value = value.strip(" \t")
    match = _leading_value(value)
    if match is None:
        raise FieldError(f"{value[:80]!a} does not begin with a token or a media type")
    leading, position = match[0].lower(), match.end()
    parameters: dict[str, str] = {}
    while position < len(value):
        match = _parameter(value, position)
        if match is None:
            raise FieldError(f"{value[:80]!a} has a malformed parameter")
        position = match.end()
        name, token, quoted = match.groups()
        if name is None:
            continue
        name = name.lower()
        if name in parameters:
            raise FieldError(f"the parameter {name} comes twice")
        if quoted is not None:
            token = _escape.sub(r"\1", quoted) if "\\" in quoted else quoted
        parameters[name] = token
    return leading, parameters


def parse_quality(value: str) -> list[tuple[str, float]]:
    """Return the members of an Accept-like field with their weights, best first (RFC 9110 §12.4.2).

    Members of equal weight keep their order; those of weight 0 are kept, since they refuse;
    malformed ones are left out. Names come in lower case, parameters before the weight stay with
    them as ``;name=value``. Raises FieldError for a quote that is never closed.

    >>> parse_quality("br;q=0.5, gzip, identity;q=0")
    [('gzip', 1.0), ('br', 0.5), ('identity', 0.0)]
    """
    members = []
    for item in parse_list(value):
        try:
            name, parameters = parse_parameters(item)
        except FieldError:
            continue
        weight = "1"
        for key, text in parameters.items():
            if key == "q":
                weight = text
                break  # what follows the weight are the extensions of RFC 7231, which mean nothing
            name += f";{key}={text}"
        if _is_qvalue(weight):
            members.append((name, float(weight)))
    members.sort(key=lambda member: -member[1])
    return members


def accepts(value: str | None, offers: Sequence[str]) -> str | None:
    """Return the offered media type that an Accept field likes best (RFC 9110 §12.5.1), or None.

    `value` is the field value; None or an empty one accepts everything. `offers` are media types in
    the server's order of preference, which decides among equals. A more specific range has the
    word over a less specific one: ``text/*;q=0.5, text/html`` prefers HTML.
    """
    if not offers:
        return None
    if value is None or not value.strip(" \t") or len(value) > MAX_NEGOTIATED:
        return offers[0]
    try:
        ranges = dict(reversed(parse_quality(value)))
    except FieldError:
        return None
    best, best_weight = None, 0.0
    for offer in offers:
        weight = _media_weight(ranges, offer)
        if weight > best_weight:
            best, best_weight = offer, weight
    return best


def _media_weight(ranges: dict[str, float], offer: str) -> float:
    """Return the weight that the most specific of `ranges` gives to `offer`; 0.0 if none does."""
    media_type, parameters = parse_parameters(offer)
    exact = media_type + "".join(f";{key}={text}" for key, text in parameters.items())
    for candidate in (exact, media_type, media_type.partition("/")[0] + "/*", "*/*"):
        weight = ranges.get(candidate)
        if weight is not None:
            return weight
    return 0.0


def accepts_encoding(value: str | None, coding: str) -> bool:
    """Tell whether an Accept-Encoding field allows the content coding (RFC 9110 §12.5.3).

    `value` is the field value. None (no such field) allows every coding, an empty value only
    ``identity``. ``identity`` is allowed unless it is refused by name or by ``*;q=0``.
    """
    if value is None:
        return True
    coding = coding.lower()
    weight = _coding_weight(_weights_of_codings(value), coding)
    return coding == "identity" if weight is None else weight > 0


def preferred_encodings(value: str, offers: Sequence[str]) -> list[str]:
    """Return the content codings that an Accept-Encoding field prefers to none, the best first.

    `offers` are content codings in the server's order of preference, which decides among equals.
    What is accepted is preferred, unless the field gives more weight to ``identity`` by name.

    >>> preferred_encodings("gzip;q=0.8, br, identity;q=0.5, *;q=0.1", ["zstd", "gzip", "br"])
    ['br', 'gzip']
    """
    weights = _weights_of_codings(value)
    plain = weights.get("identity", 0.0)
    weighed = [(_coding_weight(weights, offer) or 0.0, offer) for offer in offers]
    weighed.sort(key=lambda each: -each[0])
    return [offer for weight, offer in weighed if weight > 0 and weight >= plain]


def _weights_of_codings(value: str) -> dict[str, float]:
    """Return the weights that an Accept-Encoding gives; none if it cannot be understood."""
    if len(value) > MAX_NEGOTIATED:
        return {}
    try:
        return dict(reversed(parse_quality(value)))
    except FieldError:
        return {}


def _coding_weight(weights: dict[str, float], coding: str) -> float | None:
    """Return the weight of a coding, by its name, its other name or ``*``; None if it has none."""
    weight = weights.get(coding)
    if weight is None and coding in _ALIASES:
        weight = weights.get(_ALIASES[coding])
    return weights.get("*") if weight is None else weight


# RFC 9110 §8.4.1: the x- names mean the same.
_ALIASES = {"gzip": "x-gzip", "x-gzip": "gzip", "compress": "x-compress", "x-compress": "compress"}
