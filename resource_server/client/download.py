"""The content of an answer, written to a file as it comes.

What is downloaded to ``name`` is written to ``name.part`` beside it, which is renamed when all of
it is there: under its name there is the old file, or the new one, never a half. A part that was
left by an earlier try, even of a process that was killed, is gone on with if the server says that
its content is still the same (RFC 9110 §13.1.5 If-Range, §14 Range).

To tell what a part is part of, ``name.part-of`` has the validator of the content and a hash of its
URL; a part without it is somebody else's, and left alone. Whoever writes has the part locked. What
cannot be gone on with is written to a file with a name of its own: content without a validator, a
second download to the same name at the same time, and all where there are no such locks.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import secrets
from contextlib import suppress

from ..dates import parse_date
from .errors import ProtocolError

try:
    import fcntl
except ImportError:
    _LOCKS = False  # Windows
else:
    _LOCKS = True

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Protocol

    from ..headers import Headers
    from .rules import Progress

    class Place(Protocol):
        """Where the content goes."""

        @property
        def source(self) -> Source | None:
            """What the bytes of an earlier try are part of."""

        def resume(self, url: str) -> int:
            """Return the bytes of an earlier try that are there."""

        def open(self, start: int, url: str, of: Source) -> None:
            """Make ready to write from `start` on."""

        def write(self, piece: bytes) -> None:
            """Take a piece."""

        def finish(self) -> None:
            """All was written."""

        def fail(self) -> None:
            """No more will be written."""

        def drop(self) -> None:
            """Forget the bytes of an earlier try."""


# RFC 9110 §8.8.3: not a weak one, which promises nothing about bytes.
_is_strong_tag = re.compile(r'"[\x21\x23-\x7e\x80-\xff]*"').fullmatch
_content_range = re.compile(
    r"bytes[ \t]+([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", re.IGNORECASE
).fullmatch
# Not through a link that somebody else has put there.
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
# Bytes of a .part-of that are read; ours have some hundred.
_MAX_NOTE = 65536


class Source:
    """What a part is part of: its validator (str), and its bytes in all (int or None)."""

    __slots__ = ("total", "validator")

    def __init__(self, validator: str, total: int | None) -> None:
        self.validator = validator
        self.total = total

    @property
    def usable(self) -> bool:
        """Whether the validator may be sent in If-Range."""
        value = self.validator
        return bool(_is_strong_tag(value)) or (value.isascii() and parse_date(value) is not None)

    def contradicted(self, headers: Headers, total: int | None) -> bool:
        """Tell whether a 206 is of something else: not all servers that know Range heed If-Range.

        It need not have a validator again (RFC 9110 §15.3.7), but one it has must be the same.
        """
        name = "etag" if self.validator.startswith('"') else "last-modified"
        if headers.get(name, self.validator) != self.validator:
            return True
        return None not in (total, self.total) and total != self.total


class Download:
    """Writes what a request is answered to a path, or to a binary file that is open for writing.

    A file gets the content from its position on, whatever becomes of it, and stays open. `progress`
    is called with the bytes that are there, those of an earlier try among them, and with the bytes
    in all or None. Raises TypeError or ValueError for what content cannot be written to.
    """

    def __init__(
        self, stream_to: str | os.PathLike[str] | BinaryIO, progress: Progress | None = None
    ) -> None:
        self._progress = progress
        given: Any = stream_to
        self._place: Place
        if isinstance(given, str | bytes | os.PathLike):
            self._place = _Part(os.fsdecode(given))
        elif isinstance(given, io.TextIOBase) or not hasattr(given, "write"):
            raise TypeError(f"stream_to is a path or a binary file, not {given!r}")
        else:
            self._place = _Stream(given)
        self._method = "GET"
        self._url: str | None = None
        self._begun_at = 0
        self._asked = False
        self._theirs = False
        self._done = 0
        self._total: int | None = None

    def begin(self, headers: Headers, method: str, url: str, /) -> None:
        """Set the fields of a request; for each attempt again."""
        if self._url is None:
            # Where a redirect leads may be another place each time.
            self._url = url
        self._method = method
        self._theirs = "range" in headers
        self._asked = False
        if not isinstance(self._place, _Part):
            return
        # Bytes of a compressed form are of no use to go on with, or to tell how much is left.
        headers["Accept-Encoding"] = "identity"
        if method != "GET" or self._theirs:
            return
        size = self._place.resume(self._url)
        source = self._place.source
        if size < 2 or source is None:
            return
        # One byte again: for a part that is whole already, the answer to no byte is an error.
        self._begun_at = size - 1
        headers["Range"] = f"bytes={self._begun_at}-"
        headers["If-Range"] = source.validator
        self._asked = True

    def again(self, status: int, headers: Headers, /) -> bool:
        """Tell whether to ask once more, for all, as the answer does not fit the part.

        The part is forgotten then.
        """
        if not self._asked or status not in (206, 416):
            return False
        if status == 206 and self._fits(headers):
            return False
        self._place.drop()
        return True

    def accept(self, status: int, headers: Headers, /) -> bool:
        """Tell whether the content of an answer is wanted, and make ready for it.

        Raises ProtocolError for a part that was not asked for, OSError for a file that cannot be
        opened.
        """
        # RFC 9110 §9.3.2, §15.3.5, §15.3.6: these have no content, which is not an empty one.
        if self._method == "HEAD" or not 200 <= status < 300 or status in (204, 205):
            self.again(status, headers)
            return False
        if status == 206 and not self._theirs and (not self._asked or self.again(206, headers)):
            raise ProtocolError("a part of the content came that was not asked for")
        length = headers.get("content-length", "")
        coded = headers.get("content-encoding", "identity").lower() != "identity"
        rest = int(length) if length.isascii() and length.isdigit() and not coded else None
        start = self._begun_at if status == 206 and self._asked else 0
        if not start or self._total is None:
            self._total = None if rest is None else start + rest
        self._done = start
        # What is coded is written decoded: its bytes are not those that Range counts.
        keeps = self._method == "GET" and not self._theirs and not coded
        validator = _validator(headers) if keeps else ""
        self._place.open(start, self._url or "", Source(validator, self._total))
        return True

    def _fits(self, headers: Headers) -> bool:
        """Tell whether a 206 is what goes on from where the part ends."""
        match = _content_range(headers.get("content-range", ""))
        source = self._place.source
        if match is None or source is None or "content-encoding" in headers:
            return False
        total = None if match[3] == "*" else int(match[3])
        if int(match[1]) != self._begun_at or source.contradicted(headers, total):
            return False
        self._total = source.total if total is None else total
        return True

    def write(self, piece: bytes, /) -> None:
        """Take a piece of the content."""
        self._place.write(piece)
        self._done += len(piece)
        if self._progress is not None:
            self._progress(self._done, self._total)

    def finish(self) -> None:
        """Give the file its name, as all has been written; raises ProtocolError if it was not."""
        if self._total is not None and self._done != self._total:
            # RFC 9110 §15.3.7: a server may answer with less than was asked for.
            raise ProtocolError(f"{self._done} bytes came of {self._total}")
        if self._progress is not None and not self._done:
            self._progress(0, 0)
        self._place.finish()

    def fail(self) -> None:
        """Leave the part for the next try if it can be gone on with, else nothing."""
        self._place.fail()


class _Stream:
    """A file that the caller has opened."""

    source: Source | None = None

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def resume(self, url: str) -> int:
        return 0

    def open(self, start: int, url: str, of: Source) -> None:
        pass

    def write(self, piece: bytes) -> None:
        rest = memoryview(piece)
        while rest:
            # Some have no number to tell; others may take less than they are given.
            taken: Any = self._file.write(rest)
            if not isinstance(taken, int):
                return
            if not taken:
                raise OSError("the file takes no more")
            rest = rest[taken:]

    def finish(self) -> None:
        if hasattr(self._file, "flush"):
            self._file.flush()

    def fail(self) -> None:
        pass

    def drop(self) -> None:
        pass


class _Part:
    """A path, and the file beside it that becomes it; opened when there is something in it."""

    def __init__(self, path: str) -> None:
        if os.path.isdir(path) or path.endswith(("/", os.sep)):
            raise IsADirectoryError(f"stream_to names a directory: {path!r}")
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueError(f"{path!r} is no regular file: open it and give that to stream_to")
        # The file a link leads to is replaced, not the link, as if it were opened for writing.
        self._path = os.path.realpath(path)
        self._shared = f"{self._path}.part"
        self._note = f"{self._path}.part-of"
        self._name = ""
        self._file: Any = None
        self.source: Source | None = None

    def resume(self, url: str) -> int:
        if self._file is None:
            if not self._claim(0):
                return 0
            note = self._noted()
            if note is not None and note["url"] == _hashed(url):
                self.source = Source(note["validator"], note["total"])
        return int(os.fstat(self._file.fileno()).st_size)

    def open(self, start: int, url: str, of: Source) -> None:
        if start:
            self._file.seek(start)
            return
        if self._file is not None or (of.usable and self._claim(os.O_CREAT)):
            # In this order: there is never a note beside bytes that it is not about.
            self.drop()
            if of.usable and self._write_note(url, of):
                self.source = of
                return
            self.fail()
        self._name = f"{self._path}.{secrets.token_hex(4)}.part"
        self._file = open(self._name, "xb")  # noqa: SIM115 - as long as the transfer

    def write(self, piece: bytes) -> None:
        self._file.write(piece)

    def finish(self) -> None:
        self._file.flush()
        # An earlier try may have had more, if the server does not tell how much there is.
        self._file.truncate()
        self._forget()
        if not _LOCKS:
            # An open file cannot be renamed there.
            self._file.close()
        # Before the lock goes: else another could begin to write into what is to be renamed.
        os.replace(self._name, self._path)
        self._file.close()
        self._file = None

    def fail(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        try:
            with suppress(OSError):
                file.flush()  # what a full disk does not take is not in the part
            if self._name != self._shared or not os.fstat(file.fileno()).st_size:
                self._forget()
                if not _LOCKS:
                    file.close()
                os.unlink(self._name)
        finally:
            with suppress(OSError):
                file.close()

    def drop(self) -> None:
        self._forget()
        self._file.seek(0)
        self._file.truncate()

    # All of the following needs the lock of the part, or takes it.

    def _claim(self, create: int) -> bool:
        """Open the part and lock it, if it is there, or may be made, and is nobody else's."""
        while _LOCKS:
            try:
                file = open(os.open(self._shared, _FLAGS | create, 0o666), "r+b")  # noqa: SIM115
            except OSError:
                return False  # where nothing can be written, that is told when it is tried
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                mine = os.fstat(file.fileno())
                if os.path.samestat(mine, os.stat(self._shared, follow_symlinks=False)):
                    if not mine.st_size or self._noted() is not None:
                        self._file, self._name = file, self._shared
                    return self._file is not None
            except FileNotFoundError:
                pass
            except OSError:
                return False  # another has the lock
            finally:
                if self._file is None:
                    file.close()
            # Who had it before has renamed or removed it meanwhile: look again.
        return False

    def _noted(self) -> dict[str, Any] | None:
        """Return what is noted of the part."""
        try:
            with open(os.open(self._note, _FLAGS), "rb") as file:
                note = json.loads(file.read(_MAX_NOTE))
            total = note["total"]
            if Source(note["validator"], None).usable and isinstance(note["url"], str):
                return {**note, "total": total if isinstance(total, int) else None}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass
        return None

    def _write_note(self, url: str, source: Source) -> bool:
        note = {"url": _hashed(url), "validator": source.validator, "total": source.total}
        try:
            flags = _FLAGS | os.O_CREAT | os.O_EXCL
            with open(os.open(self._note, flags, 0o666), "wb") as file:
                file.write(json.dumps(note).encode())
        except OSError:
            return False
        return True

    def _forget(self) -> None:
        """Remove the note."""
        self.source = None
        if self._name == self._shared:
            with suppress(FileNotFoundError):
                os.unlink(self._note)


def _hashed(url: str) -> str:
    # Its query may be a secret, and is not for a file.
    return hashlib.sha256(url.encode()).hexdigest()


def _validator(headers: Headers) -> str:
    """Return what If-Range may say of this content later, "" for nothing (RFC 9110 §13.1.5)."""
    tag = headers.get("etag")
    if tag is not None:
        return tag if _is_strong_tag(tag) else ""
    modified = headers.get("last-modified", "")
    then, now = parse_date(modified), parse_date(headers.get("date", ""))
    # RFC 9110 §8.8.2.2: within the same second it may have changed again.
    return modified if then is not None and now is not None and now >= then + 1 else ""
