"""Range requests (RFC 9110 §14): which bytes are asked for, and how several parts are told.

The work is linear in the field's length, and the number of ranges is bounded before any is read.
"""

from __future__ import annotations

import os
import re

from ..errors import RangeNotSatisfiable

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import TypeAlias

    # Offset and length, in bytes.
    Range: TypeAlias = tuple[int, int]
    # Of a response: bytes as they are sent, or a range of its file.
    Part: TypeAlias = bytes | Range

#: Ranges in one field; nobody seeks to more places at once, and each costs a part with its fields.
MAX_RANGES = 50
#: Digits of a position; those of 2**63 are 19. More make a number that is beyond every file.
_MAX_DIGITS = 19

_is_bytes = re.compile(r"bytes=", re.IGNORECASE).match
_range_spec = re.compile(r"([0-9]*+)-([0-9]*+)").fullmatch


def parse_range(value: str, size: int) -> list[Range] | None:
    """Return the ranges of a representation of `size` bytes that a Range field asks for.

    They come in the order asked for, those that overlap or touch as one. None means the whole, for
    a unit other than bytes and for no range at all. Raises RangeNotSatisfiable if no byte that is
    asked for exists, for a malformed field, and for one with more than `MAX_RANGES` (§15.5.17).
    """
    if not _is_bytes(value):
        return None
    if value.count(",") >= MAX_RANGES:
        raise RangeNotSatisfiable(size, f"There are more than {MAX_RANGES} ranges.")
    specs = [spec for part in value[6:].split(",") if (spec := part.strip(" \t"))]
    if not specs:
        return None
    ranges = [found for spec in specs if (found := _resolve(spec, size)) is not None]
    if not ranges:
        raise RangeNotSatisfiable(size)
    # The suffix of nothing is satisfiable, but has no first byte that Content-Range could name.
    return _coalesced(ranges) if size else None


def _resolve(spec: str, size: int) -> Range | None:
    """Return what a range-spec means (§14.1.1, §14.1.2), None if there is no such byte."""
    match = _range_spec(spec)
    if match is None or spec == "-":
        raise RangeNotSatisfiable(size, "The Range field is malformed.")
    first, last = match.groups()
    if not first:
        length = min(_number(last), size)
        return (size - length, length) if _number(last) else None
    start = _number(first)
    end = _number(last) if last else size - 1
    if last and end < start:
        raise RangeNotSatisfiable(size, "A range ends before it begins.")
    return (start, min(end, size - 1) + 1 - start) if start < size else None


def _number(digits: str) -> int:
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= _MAX_DIGITS else 10**_MAX_DIGITS


def _coalesced(ranges: list[Range]) -> list[Range]:
    """Join what overlaps or touches; it stands where its first range stood (§15.3.7.2)."""
    joined: list[list[int]] = []  # place of the first, offset, end
    for start, length, place in sorted((each[0], each[1], at) for at, each in enumerate(ranges)):
        if joined and start <= joined[-1][2]:
            joined[-1][0] = min(joined[-1][0], place)
            joined[-1][2] = max(joined[-1][2], start + length)
        else:
            joined.append([place, start, start + length])
    return [(start, end - start) for _, start, end in sorted(joined)]


def content_range(each: Range, size: int) -> str:
    """Return the value of Content-Range (§14.4)."""
    start, length = each
    return f"bytes {start}-{start + length - 1}/{size}"


def multipart(ranges: list[Range], size: int, content_type: str) -> tuple[str, list[Part]]:
    """Return the type and the parts of multipart/byteranges content (§14.6)."""
    # Not to be guessed by whoever writes the file, so that no content ends its part.
    boundary = os.urandom(15).hex()
    parts: list[Part] = []
    begin = f"--{boundary}\r\n"
    about = f"Content-Type: {content_type}\r\n" if content_type else ""
    for each in ranges:
        head = f"{begin}{about}Content-Range: {content_range(each, size)}\r\n\r\n"
        parts += (head.encode("latin-1"), each)
        begin = f"\r\n--{boundary}\r\n"
    parts.append(f"\r\n--{boundary}--\r\n".encode())
    return f"multipart/byteranges; boundary={boundary}", parts
