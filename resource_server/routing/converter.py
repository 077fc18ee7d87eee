"""What a wildcard of a pattern accepts, and how its text becomes a Python value and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import isfinite

from ..errors import PatternError

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import Any
    from uuid import UUID


class Converter:
    r"""A kind of wildcard, for instance ``Converter(r"[0-9a-f]{6}", Colour.parse, Colour.hex)``.

    `pattern` (str) is a regular expression that one whole percent-decoded component has to match.
    `to_python(text)` makes the value; when it raises ValueError the route does not match.
    `to_url(value)` makes the text (str, not percent-encoded) again; it raises TypeError or
    ValueError for what it cannot write. Repeated with ``+`` or ``*`` a converter sees each
    component alone; the value is then a list, or the text joined with "/" if `to_python` is `str`.

    Raises PatternError for a regular expression that does not compile or that names its groups.
    """

    __slots__ = ("fullmatch", "pattern", "to_python", "to_url")

    def __init__(
        self, pattern: str, to_python: Callable[[str], object], to_url: Callable[[Any], str]
    ) -> None:
        self.pattern = pattern
        self.to_python = to_python
        self.to_url = to_url
        try:
            expression = re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise PatternError(f"{pattern!r} is not a regular expression: {error}") from error
        if expression.groupindex:
            raise PatternError(
                f"the regular expression {pattern!r} names a group: the wildcard has the name,"
                " so write (?:…)"
            )
        self.fullmatch = expression.fullmatch

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Converter) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"Converter({self.pattern!r}, {self.to_python!r}, {self.to_url!r})"

    def _key(self) -> tuple[object, ...]:
        return self.pattern, self.to_python, self.to_url


def text_to_url(value: object) -> str:
    """Return `value` if it is a str; raises TypeError otherwise."""
    if not isinstance(value, str):
        raise TypeError(f"a str is needed, not {type(value).__name__}")
    return value


def _int_to_url(value: object) -> str:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"an int is needed, not {type(value).__name__}")
    return str(int(value))


def _float_to_python(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError("too large for a float")
    return value


def _float_to_url(value: object) -> str:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"a float is needed, not {type(value).__name__}")
    return repr(float(value))


def _uuid_to_python(text: str) -> UUID:
    from uuid import UUID

    return UUID(text)


def _uuid_to_url(value: object) -> str:
    from uuid import UUID

    if not isinstance(value, UUID):
        raise TypeError(f"a uuid.UUID is needed, not {type(value).__name__}")
    return str(value)


STR = Converter(r"(?s:.+)", str, text_to_url)
#: As STR, but of one or more components: the pattern reads ``(path)`` as ``+``.
PATH = Converter(r"(?s:.+)", text_to_url, text_to_url)

BUILT_IN: Mapping[str, Converter] = {
    "str": STR,
    # int() raises ValueError beyond 4,300 digits, which is then no match.
    "int": Converter(r"-?[0-9]+", int, _int_to_url),
    "float": Converter(
        r"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", _float_to_python, _float_to_url
    ),
    "uuid": Converter(
        r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}", _uuid_to_python, _uuid_to_url
    ),
    "path": PATH,
}


def with_built_in(converters: Mapping[str, Converter] | None) -> Mapping[str, Converter]:
    """Return the built-in converters and `converters`, which win; raises PatternError."""
    if not converters:
        return BUILT_IN
    for name, converter in converters.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise PatternError(f"{name!r} cannot name a converter: use letters, digits and _")
        if not isinstance(converter, Converter):
            raise PatternError(
                f"the converter {name!r} is of type {type(converter).__name__}:"
                " give a Converter(pattern, to_python, to_url)"
            )
    return {**BUILT_IN, **converters}
