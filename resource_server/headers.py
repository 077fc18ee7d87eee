"""Header fields: `Headers`, and the parsers and makers of field values.

`Headers` keeps every line in order, as it was received or will be sent. Look-ups go through an
index of combined values that is made by the first of them and dropped by every change. Whatever
enters one by hand passes `checked_field`; what comes from the wire was checked by the protocol.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, KeysView, Mapping, MutableMapping, Sequence

from .cookies import format_cookie, parse_cookies
from .dates import format_date, parse_date
from .errors import checked_field
from .fieldvalues import (
    accepts,
    accepts_encoding,
    parse_list,
    parse_parameters,
    parse_quality,
    preferred_encodings,
)

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import Any, Self, TypeAlias, TypeVar, overload

    Default = TypeVar("Default")
    Value: TypeAlias = str | bytes | int
    # What Headers can be made of.
    HeadersLike: TypeAlias = (
        Mapping[str, Value | Sequence[Value]]
        | Mapping[bytes, Value | Sequence[Value]]
        | Mapping[str, str]
        | Mapping[bytes, bytes]
        | Iterable[tuple[str | bytes, Value]]
        | Iterable[tuple[str, str]]
    )

__all__ = [
    "Headers",
    "accepts",
    "accepts_encoding",
    "format_cookie",
    "format_date",
    "parse_cookies",
    "parse_date",
    "parse_list",
    "parse_parameters",
    "parse_quality",
    "preferred_encodings",
    "vary_on",
]

# The lines of a validated block; a value is taken without the whitespace around it (RFC 9112 §5).
# Each repetition ends at a character it cannot hold, so the work grows with the block's length.
_lines_of = re.compile(r"\r\n([^:]+):[ \t]*((?:[^\r]*[^\r \t])?)").findall
# Several lines of a field are one list (RFC 9110 §5.2), but Cookie has its own separator
# (RFC 9113 §8.2.3) and Set-Cookie is no list at all (RFC 9110 §5.3).
_SEPARATORS: dict[str, str | None] = {"cookie": "; ", "set-cookie": None}


class Headers(MutableMapping[str, str]):
    """Header fields: an ordered multimap whose names have no case (RFC 9110 §5).

    Made of another Headers, a mapping of names to values or lists of values, or pairs; names and
    values may be str or bytes (Latin-1), values also int. ``headers["name"]`` is the value, several
    lines joined as one list; of Set-Cookie it is the first. ``headers[b"name"]`` is the list of the
    values as bytes, one per line. As a mapping it has the distinct names, spelled as they came
    first. Every change raises FieldError for a name or value that may not be sent.

    >>> headers = Headers({"Accept": "text/html"})
    >>> headers.add("accept", "text/plain")
    >>> headers["ACCEPT"], headers[b"accept"]
    ('text/html, text/plain', [b'text/html', b'text/plain'])
    """

    __slots__ = ("_index", "_lines")

    _lines: list[tuple[str, str]]
    _index: dict[str, str] | None

    def __init__(self, items: HeadersLike | None = None) -> None:
        self._lines = []
        self._index = None
        if items is None:
            return
        if isinstance(items, Headers):
            self._lines = items._lines.copy()
        else:
            # The look at dict saves the slow question whether it is a Mapping: 0.4 µs.
            if items.__class__ is dict or isinstance(items, Mapping):
                pairs: Iterable[Any] = items.items()
            else:
                pairs = items
            for name, value in pairs:
                if isinstance(value, (str, bytes, int)):
                    self._lines.append(checked_field(name, value))
                else:
                    self._lines += [checked_field(name, each) for each in value]

    @classmethod
    def parse(cls, block: bytes) -> Self:
        """Return the fields of a block that the protocol has validated: each line after a CRLF."""
        self = cls.__new__(cls)
        self._lines = _lines_of(block.decode("latin-1"))
        self._index = None
        return self

    def encode(self) -> bytes:
        """Return the lines as they are sent, each ended by CRLF (RFC 9112 §5)."""
        return "".join([f"{name}: {value}\r\n" for name, value in self._lines]).encode("latin-1")

    def names(self) -> KeysView[str]:
        """Return the names of the fields in lower case, each once."""
        return (self._index or self._indexed()).keys()

    def fields(self) -> list[tuple[str, str]]:
        """Return every line as (name, value), in order."""
        return self._lines.copy()

    def get_all(self, name: str) -> list[str]:
        """Return the values of every line of a field, in order; an empty list when absent."""
        key = name.lower()
        if key not in (self._index or self._indexed()):
            return []
        return [value for each, value in self._lines if each.lower() == key]

    def add(self, name: str, value: Value) -> None:
        """Append a line, whether or not the field is there."""
        self._lines.append(checked_field(name, value))
        self._index = None

    def copy(self) -> Headers:
        """Return Headers with the same lines."""
        return Headers(self)

    def _indexed(self) -> dict[str, str]:
        """Return the combined value of each field by its name in lower case; keep it."""
        lines = self._lines
        index = {name.lower(): value for name, value in lines}
        if len(index) != len(lines):
            index = _combined(lines)
        self._index = index
        return index

    # The mapping over combined values.

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, key: str) -> str: ...
        @overload
        def __getitem__(self, key: bytes) -> list[bytes]: ...

    def __getitem__(self, key: str | bytes) -> str | list[bytes]:
        if isinstance(key, bytes):
            values = self.get_all(key.decode("latin-1"))
            if not values:
                raise KeyError(key)
            return [value.encode("latin-1") for value in values]
        try:
            return (self._index or self._indexed())[key.lower()]
        except KeyError:
            raise KeyError(key) from None

    if TYPE_CHECKING:

        @overload
        def get(self, key: str, default: None = None) -> str | None: ...
        @overload
        def get(self, key: str, default: str) -> str: ...
        @overload
        def get(self, key: str, default: Default) -> str | Default: ...
        @overload
        def get(self, key: bytes, default: None = None) -> list[bytes] | None: ...
        @overload
        def get(self, key: bytes, default: list[bytes]) -> list[bytes]: ...

    def get(self, key: str | bytes, default: object = None) -> object:
        """Return the combined value (str key) or the list of values (bytes key), or `default`."""
        if isinstance(key, bytes):
            values = self.get_all(key.decode("latin-1"))
            return [value.encode("latin-1") for value in values] if values else default
        return (self._index or self._indexed()).get(key.lower(), default)

    def __setitem__(self, key: str | bytes, value: Value) -> None:
        name, text = checked_field(key, value)
        wanted = name.lower()
        lines = self._lines
        places = [at for at, line in enumerate(lines) if line[0].lower() == wanted]
        if places:
            lines[places[0]] = (name, text)
            if len(places) > 1:
                gone = set(places[1:])
                self._lines = [line for at, line in enumerate(lines) if at not in gone]
        else:
            lines.append((name, text))
        self._index = None

    def __delitem__(self, key: str | bytes) -> None:
        wanted = _key(key)
        kept = [line for line in self._lines if line[0].lower() != wanted]
        if len(kept) == len(self._lines):
            raise KeyError(key)
        self._lines = kept
        self._index = None

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, (str, bytes)):
            return False
        return _key(key) in (self._index or self._indexed())

    def __iter__(self) -> Iterator[str]:
        seen = set()
        for name, _ in self._lines:
            key = name.lower()
            if key not in seen:
                seen.add(key)
                yield name

    def __len__(self) -> int:
        return len(self._index or self._indexed())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Headers):
            if not isinstance(other, Mapping):
                return NotImplemented
            try:
                other = Headers(other)
            except (ValueError, TypeError):
                return False
        return _grouped(self._lines) == _grouped(other._lines)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Headers({self._lines!a})"


def vary_on(headers: Headers, name: str) -> None:
    """Add a field name to Vary, unless it is there (RFC 9110 §12.5.5)."""
    vary = headers.get("vary")
    if not vary:
        headers["Vary"] = name
    elif not {"*", name.lower()} & set(parse_list(vary.lower())):
        headers["Vary"] = f"{vary}, {name}"


def _key(key: str | bytes) -> str:
    return (key.decode("latin-1") if isinstance(key, bytes) else key).lower()


def _grouped(lines: list[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the values of each field by its name in lower case."""
    groups: dict[str, list[str]] = {}
    for name, value in lines:
        groups.setdefault(name.lower(), []).append(value)
    return groups


def _combined(lines: list[tuple[str, str]]) -> dict[str, str]:
    """Return one value for each field, also where it has several lines (RFC 9110 §5.2)."""
    combined = {}
    for name, values in _grouped(lines).items():
        separator = _SEPARATORS.get(name, ", ")
        combined[name] = values[0] if separator is None else separator.join(values)
    return combined
