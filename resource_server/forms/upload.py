"""A file that came with a form, and where its content lies."""

from __future__ import annotations

import io
import os

from ..newfile import Directory, NewFile
from .filename import safe_file_name

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

#: Bytes of all files of a form together that are kept in memory; with more they are on the disk.
FILE_MEMORY = 65536
#: Bytes copied at once.
PIECE = 262_144


class Store:
    """The content of all files of one form: a seekable file in which each has its place.

    So a form holds one descriptor at most, however many files it brings. Belongs to one thread at a
    time.
    """

    __slots__ = ("_file", "_start")

    def __init__(self, file: IO[bytes], start: int = 0) -> None:
        self._file = file
        self._start = start

    def read_at(self, offset: int, size: int) -> bytes:
        """Return at most `size` bytes from a place; raises ValueError when it has been closed."""
        file = self._file
        # Who reads the body by itself finds it where it was.
        position = file.tell()
        file.seek(self._start + offset)
        try:
            return file.read(size)
        finally:
            file.seek(position)

    def close(self) -> None:
        """Leave the file alone: it is the body of the request, which its owner closes."""


class Spool(Store):
    """A store that is filled here: in memory while it is small, then in a temporary file.

    `open_file` makes the temporary file, which `close` removes.
    """

    __slots__ = ("_open_file", "size")

    def __init__(self, open_file: Callable[[], IO[bytes]]) -> None:
        super().__init__(io.BytesIO())
        self._open_file = open_file
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add bytes at the end; raises OSError when the disk does not take them."""
        before = self.size
        self.size += len(data)
        if before <= FILE_MEMORY < self.size:
            memory = self._file
            assert isinstance(memory, io.BytesIO)
            self._file = self._open_file()
            self._file.write(memory.getbuffer())
        self._file.write(data)

    def close(self) -> None:
        """Remove what has been stored."""
        self._file.close()


class _StoredFile(io.RawIOBase):
    """One file of a store, to be read from its own beginning."""

    def __init__(self, store: Store, offset: int, size: int) -> None:
        super().__init__()
        self._store = store
        self._offset = offset
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError("a file has no position before its beginning")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: object) -> int:
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        wanted = min(len(target), max(0, self._size - self._position))
        data = self._store.read_at(self._offset + self._position, wanted) if wanted else b""
        target[: len(data)] = data
        self._position += len(data)
        return len(data)


class UploadedFile:
    """A file that came with a form, while its request is handled.

    `name` is what the client calls it: never use that as a path. `safe_name` is a plain name made
    of it. `content_type` is what the client says of it, `size` its bytes.
    """

    __slots__ = ("_file", "_offset", "_store", "content_type", "name", "size")

    def __init__(self, name: str, content_type: str, store: Store, offset: int, size: int) -> None:
        self.name = name
        self.content_type = content_type
        self.size = size
        self._store = store
        self._offset = offset
        self._file: IO[bytes] | None = None

    def __repr__(self) -> str:
        return f"<UploadedFile {self.name[:80]!a} of {self.size} bytes>"

    @property
    def safe_name(self) -> str:
        """A plain name: never a path, hidden, a device or empty. Others may have the same."""
        return safe_file_name(self.name)

    @property
    def file(self) -> IO[bytes]:
        """The content as a seekable binary file, the same each time.

        It cannot be read any more when the request has been answered.
        """
        if self._file is None:
            self._file = io.BufferedReader(_StoredFile(self._store, self._offset, self.size))
        return self._file

    def read(self) -> bytes:
        """Return the whole content, wherever `file` stands."""
        return self._store.read_at(self._offset, self.size)

    def save(
        self,
        directory: str | os.PathLike[str],
        name: str | None = None,
        *,
        overwrite: bool = False,
        sync: bool = False,
    ) -> str:
        """Write the file into a directory, and return its path.

        It appears there at once and complete, or not at all. `name` is by default `safe_name`;
        `overwrite` lets it replace a file of that name; `sync` waits until it is on the disk.

        Raises FileExistsError without `overwrite`, if the name is taken; ValueError for a name that
        is not a plain one; OSError when the system does not take it.
        """
        name = self.safe_name if name is None else name
        if name in ("", ".", "..") or "\0" in name or os.path.basename(name) != name:
            raise ValueError(f"{name!r} is not a plain file name: the directory is given apart")
        with Directory(directory) as place, NewFile(place) as file:
            copied = 0
            while copied < self.size:
                size = min(PIECE, self.size - copied)
                piece = self._store.read_at(self._offset + copied, size)
                if len(piece) < size:
                    raise OSError("the stored content of the upload has been cut short")
                file.write(piece)
                copied += size
            file.publish(name, overwrite=overwrite, sync=sync)
            return os.path.join(place.path, name)
