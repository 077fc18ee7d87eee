"""A file as a response."""

from __future__ import annotations

import io
import os
import time

from ..headers import format_date
from ..media_types import content_type_of
from ..response import Response
from .disposition import content_disposition
from .opening import open_regular

#: Files up to this size, in bytes, are read at once, so that one send answers the request.
SMALL_FILE = 64 * 1024


class FileResponse(Response):
    """The content of a regular file, opened when the response is made.

    ``path``: the file; links are followed, so it must come from a trusted place, or from
    ``path_join_safe``. ``content_type``: by default from the name, with ``charset=utf-8`` for text.
    ``filename``: the browser saves the file under this name (``Content-Disposition``).

    What is small is read at once into ``body``; the rest is ``file``, of which the server sends
    ``content_length`` bytes. A response that nobody sends is given back with ``close()``.

    Raises ``NotFound`` for what is missing, not a regular file, or not permitted to be read;
    ``OSError`` when the system is in trouble (descriptors used up, a failing disk).
    """

    _follow_links = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        content_type: str | None = None,
        filename: str | None = None,
    ) -> None:
        name = os.fspath(path)
        fields = [("X-Content-Type-Options", "nosniff")]
        if filename is not None:
            fields.append(("Content-Disposition", content_disposition(filename)))
        content_type = content_type or content_type_of(filename or name)
        file, status = open_regular(name, follow_links=self._follow_links)
        try:
            fields += _last_modified(status.st_mtime)
            super().__init__(None, 200, fields, content_type=content_type)
            self._take_content(file, status.st_size)
        except BaseException:
            file.close()
            raise

    def _take_content(self, file: io.FileIO, size: int) -> None:
        if size > SMALL_FILE:
            self.body = None
            self.file = file
            self.content_length = size
        else:
            with file:
                self.body = _read(file, size)


class ServedFile(FileResponse):
    """A file at a path without links; a link found in its place was put there meanwhile."""

    _follow_links = False


class HeadFile(ServedFile):
    """The fields of the same file for HEAD: nothing is read, for nothing will be sent."""

    def _take_content(self, file: io.FileIO, size: int) -> None:
        file.close()
        self.content_length = size


def _read(file: io.FileIO, size: int) -> bytes:
    """Read up to ``size`` bytes; less only when the file has become shorter."""
    pieces = []
    while size > 0 and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _last_modified(timestamp: float) -> list[tuple[str, str]]:
    """Return the field Last-Modified, never later than now (RFC 9110 §8.8.2.1)."""
    try:
        return [("Last-Modified", format_date(min(timestamp, time.time())))]
    except (OverflowError, OSError, ValueError):
        return []  # a time no calendar has; a file without a date is still a file
