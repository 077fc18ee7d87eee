"""How deeply data from outside is nested, told before it is decoded.

Decoders of JSON and MessagePack call themselves for each level, and use the stack of the thread for
it: 300 bytes and more. The interpreter's own guard lets some thousand levels pass, which is more
than a thread has room for where its stack was made small, and then it is not an exception that ends
the program. Most data has fewer brackets than levels are allowed, and is not looked at again.
"""

from __future__ import annotations

import re
from functools import cache

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable

#: Levels that are decoded. Documents of people and programs have some ten.
MAX_DEPTH = 256

# Of JSON, what levels begin and end with, and strings, in which the same is no bracket. All else
# goes first, at 1 ns a byte; what is left of most strings is a pair of quotes.
_escapes = re.compile(rb"\\.", re.DOTALL)
_strings = re.compile(rb'"[^"]*+"?')
_ALL_ELSE = bytes(set(range(256)) - set(b'[]{}"'))
_SQUARE = bytes.maketrans(b"{}", b"[]")
_find_runs = re.compile(rb"\[+|\]+").finditer
# Levels that are taken away from the inside, at 1 ns a byte, before brackets are counted at 200.
_SHALLOW = 16

# MessagePack: what may begin an array or map, in its first byte.
_NO_CONTAINERS = bytes(set(range(256)) - set(range(0x80, 0xA0)) - set(range(0xDC, 0xE0)))
# Bytes behind the first: of a length, and of a value without one; of str, bin and ext, the type
# of an ext is among the latter.
_LENGTHS = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_VALUES = {0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4,
           0xD3: 8, 0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17, 0xC7: 1, 0xC8: 1,
           0xC9: 1}  # fmt: skip
# A value that begins with its type, and has no other in it; but for those with a length.
_SCALAR = rb"[\x00-\x7f\xc0\xc2\xc3\xe0-\xff\xa0]|" + b"|".join(
    [re.escape(bytes([0xA0 + size])) + b".{%d}" % size for size in range(1, 32)]
    + [re.escape(bytes([first])) + b".{%d}" % size for first, size in _VALUES.items()
       if first not in _LENGTHS]
)  # fmt: skip
_MOST_AT_ONCE = 64


@cache
def _match_scalars(count: int) -> Callable[[bytes, int], re.Match[bytes] | None]:
    """Return what finds so many scalars: 30 ns for each, where a step of ours takes 300."""
    return re.compile(b"(?:%b){%d}+" % (_SCALAR, count), re.DOTALL).match


def json_is_too_deep(text: bytes | bytearray | str) -> bool:
    """Tell whether JSON is nested more than MAX_DEPTH levels; text that is none may be, or not."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    # Fewer brackets than levels? `count` looks at each byte; `replace` finds those that there are
    # by memchr: half the time for a document of 1 KiB, a fifteenth for one that is all text.
    rest = len(data.replace(b"[", b"")) + len(data.replace(b"{", b""))
    if 2 * len(data) - rest <= MAX_DEPTH:
        return False
    if b"\\" in data:
        data = _escapes.sub(b"", data)
    # Two quotes side by side, whatever they end or begin: inside stays inside.
    brackets = data.translate(_SQUARE, _ALL_ELSE).replace(b'""', b"")
    if b'"' in brackets:
        brackets = _strings.sub(b"", brackets)
    for _ in range(_SHALLOW):
        brackets = brackets.replace(b"[]", b"")
    depth = _SHALLOW
    for run in _find_runs(brackets):
        if brackets[run.start()] == 0x5B:
            depth += run.end() - run.start()
            if depth > MAX_DEPTH:
                return True
        else:
            depth = max(_SHALLOW, depth - (run.end() - run.start()))
    return False


def msgpack_is_too_deep(data: bytes) -> bool:
    """Tell whether MessagePack is nested more than MAX_DEPTH levels, as far as it is well-formed.

    Of data with few arrays and maps that is known at once.
    """
    if len(data.translate(None, _NO_CONTAINERS)) <= MAX_DEPTH:
        return False
    # Values that are still to come: in the innermost array or map, and in those around it.
    left, outer = 1, list[int]()
    at, size = 0, len(data)
    flat = True  # as far as is known, the rest of what is open
    while at < size:
        while not left:
            if not outer:
                return False
            left = outer.pop()
            flat = False
        if flat:
            count = min(left, _MOST_AT_ONCE)
            scalars = _match_scalars(count)(data, at)
            flat = scalars is not None
            if scalars is not None:
                at = scalars.end()
                left -= count
                continue
        first = data[at]
        at += 1
        left -= 1
        if first < 0x80 or first >= 0xE0:
            continue
        if 0xA0 <= first < 0xC0:
            at += first & 31
        elif first < 0xA0 or first >= 0xDC:
            count, at = _count(data, first, at)
            outer.append(left)
            left = count
            flat = True
            if len(outer) > MAX_DEPTH:
                return True
        else:
            at += _VALUES.get(first, 0)
            width = _LENGTHS.get(first, 0)
            if width:
                start = at - _VALUES.get(first, 0)
                at += width + int.from_bytes(data[start : start + width], "big")
    return False


def _count(data: bytes, first: int, at: int) -> tuple[int, int]:
    """Return how many values an array or map has, and where the first is."""
    if first < 0xA0:
        return (first & 15) << (first < 0x90), at
    width = 4 if first & 1 else 2
    return int.from_bytes(data[at : at + width], "big") << (first >= 0xDE), at + width
