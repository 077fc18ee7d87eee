"""What is told of a file: validators and fields, as bytes made once for each state of it."""

from __future__ import annotations

import os
import time

from ..headers import format_date

#: Representations that are remembered; beyond it all are forgotten, as none is more than a saving.
MAX_KNOWN = 1024
_NANOSECONDS = 1_000_000_000

_known: dict[tuple[object, ...], Representation] = {}


class Representation:
    """The fields of a file's content in one state and one coding; immutable.

    ``etag`` is a strong entity-tag: of the inode, the size and the time of the last change in
    nanoseconds, which every other content has others of, unless someone sets the time back or the
    clock of the file system, of some milliseconds, did not move between two changes. ``modified``
    is in whole seconds since 1970, None for a time no calendar has.
    """

    __slots__ = (
        "about",
        "content_type",
        "dates",
        "etag",
        "lines",
        "modified",
        "size",
        "validators",
    )

    def __init__(
        self,
        status: os.stat_result,
        content_type: str,
        description: tuple[str, ...],
        policy: tuple[str, ...],
    ) -> None:
        self.size = status.st_size
        self.content_type = content_type
        self.etag = f'"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"'
        self.modified: int | None = None
        dates = []
        try:
            # Never later than now (RFC 9110 §8.8.2.1).
            modified = int(min(status.st_mtime_ns // _NANOSECONDS, time.time()))
            dates.append(f"Last-Modified: {format_date(modified)}")
            self.modified = modified
        except ValueError:
            pass  # a time no calendar has; a file without a date is still a file
        #: what the content is, for every answer that has some
        self.about = _lines("X-Content-Type-Options: nosniff", *description)
        #: what a 304 has as well
        self.validators = _lines(f"ETag: {self.etag}", *policy)
        self.dates = _lines(*dates, "Accept-Ranges: bytes")
        #: of the whole content
        self.lines = _lines(f"Content-Type: {content_type}") + self.about + self.validators
        self.lines += self.dates


def represent(
    status: os.stat_result,
    content_type: str,
    description: tuple[str, ...] = (),
    policy: tuple[str, ...] = (),
) -> Representation:
    """Return the representation of a file in this state.

    ``description`` are the field lines of its content, ``policy`` those of how to keep it, which a
    304 repeats. Both are checked by the caller.

    Any thread may call it. Two may make the same one at once, and either is right; the dictionary
    itself is consistent under every interpreter.
    """
    if status.st_mtime > time.time():
        return Representation(status, content_type, description, policy)
    key = (
        status.st_ino,
        status.st_mtime_ns,
        status.st_size,
        content_type,
        description,
        policy,
    )
    try:
        # Not `get`: without a GIL that takes CPython 3.13 37 µs for keys of another thread.
        return _known[key]
    except KeyError:
        known = Representation(status, content_type, description, policy)
    if len(_known) >= MAX_KNOWN:
        _known.clear()
    _known[key] = known
    return known


def _lines(*lines: str) -> bytes:
    return "".join([f"{line}\r\n" for line in lines]).encode("latin-1")
