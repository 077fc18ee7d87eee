"""A file that appears under its name at once and complete, or not at all.

It is written under a hidden name in the same directory, hence in the same file system, and takes
its own name by one call of the system. Where the system can, the directory is held open and all
names are taken relative to it, so that nothing put in its place meanwhile is touched.

A hidden file that its process has left behind is told by its lock, which ends with the process.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

_fcntl: object = None
try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    pass
else:
    _fcntl = fcntl

_PREFIX, _SUFFIX = ".upload-", ".part"
_is_hidden_name = re.compile(r"\.upload-[0-9a-f]{32}\.part").fullmatch
#: Seconds after its last change before a file without an owner is taken for left behind: between
#: its making and its lock it has none for a moment.
ABANDONED = 60.0
_WINDOWS = os.name == "nt"
_HOLDS_DIRECTORY = {os.open, os.link, os.rename, os.unlink, os.stat} <= os.supports_dir_fd
_DIRECTORY_FLAGS = os.O_RDONLY
for _flag in ("O_DIRECTORY", "O_CLOEXEC"):
    _DIRECTORY_FLAGS |= getattr(os, _flag, 0)
_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL
for _flag in ("O_BINARY", "O_NOFOLLOW", "O_CLOEXEC"):
    _FILE_FLAGS |= getattr(os, _flag, 0)
# What file systems without hard links say to one.
_NO_LINKS = frozenset(
    (errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EACCES)
)


class Directory:
    """A directory that is held open; names below it are plain ones. Close it.

    `below`: names of directories, each in the one before, into none of which a link may lead.
    Raises OSError if it cannot be opened, or is none.
    """

    def __init__(self, path: str | os.PathLike[str], *, below: Sequence[str] = ()) -> None:
        self.path = os.path.abspath(path)
        self._descriptor: int | None = None
        if _HOLDS_DIRECTORY:
            self._descriptor = os.open(self.path, _DIRECTORY_FLAGS)
        try:
            for name in below:
                self._enter(name)
        except BaseException:
            self.close()
            raise
        if self._descriptor is None and not os.path.isdir(self.path):  # pragma: no cover - Windows
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self.path)

    def _enter(self, name: str) -> None:
        self.path = os.path.join(self.path, name)
        outer = self._descriptor
        if outer is not None:
            self._descriptor = os.open(name, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=outer)
            os.close(outer)

    def name_for_system(self, name: str) -> str:
        """Return what the system knows an entry by, together with `descriptor`."""
        return name if self._descriptor is not None else os.path.join(self.path, name)

    @property
    def descriptor(self) -> int | None:
        """The ``dir_fd`` for calls of the system, None where there is no such thing."""
        return self._descriptor

    def open(self, name: str, flags: int) -> int:
        """Return a descriptor of an entry."""
        return os.open(self.name_for_system(name), flags, 0o666, dir_fd=self._descriptor)

    def status(self, name: str) -> os.stat_result:
        """Return the status of an entry; a link's own."""
        return os.stat(self.name_for_system(name), dir_fd=self._descriptor, follow_symlinks=False)

    def remove(self, name: str) -> None:
        """Remove an entry that is no directory."""
        os.unlink(self.name_for_system(name), dir_fd=self._descriptor)

    def sync(self) -> None:
        """Have the names survive a power failure."""
        if self._descriptor is not None:
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Let go of it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class NewFile:
    """A file on its way into a directory: `write`, then `publish`; leaving the block discards it.

    The directory must stay open. Belongs to one thread.
    """

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._name = f"{_PREFIX}{os.urandom(16).hex()}{_SUFFIX}"
        self._descriptor: int | None = directory.open(self._name, _FILE_FLAGS)
        self._exists = True
        self._synced = False
        #: bytes written
        self.size = 0
        try:
            _lock(self._descriptor)
        except BaseException:  # pragma: no cover - a file that nobody else knows
            self.discard()
            raise

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes; raises OSError when the disk does not take them."""
        assert self._descriptor is not None
        view = memoryview(data)
        while view:
            written = os.write(self._descriptor, view)
            self.size += written
            view = view[written:]

    def sync(self) -> None:
        """Wait until the disk has what was written: before `publish`, if that holds a lock."""
        assert self._descriptor is not None
        os.fsync(self._descriptor)
        self._synced = True

    def publish(self, name: str, *, overwrite: bool, sync: bool = False) -> os.stat_result:
        """Give the file its name, which is a plain one; return its status.

        Without `overwrite` nothing is ever replaced: raises FileExistsError, and may be called
        again with another name. `sync` waits for the disk. Raises OSError for other trouble.
        """
        status = self._finish(sync=sync)
        directory = self._directory
        source, target = map(directory.name_for_system, (self._name, name))
        at = directory.descriptor
        if overwrite:
            os.replace(source, target, src_dir_fd=at, dst_dir_fd=at)
        elif _WINDOWS:  # pragma: no cover - there a rename replaces nothing
            os.rename(source, target)
        else:
            self._place(source, target)
        self._exists = False
        if sync:
            directory.sync()
        return status

    def _finish(self, *, sync: bool) -> os.stat_result:
        """Close the file, which Windows wants before it is renamed."""
        if self._descriptor is None:
            return self._directory.status(self._name)
        if sync and not self._synced:
            self.sync()
        if _WINDOWS:  # pragma: no cover
            os.close(self._descriptor)
            self._descriptor = None
            return self._directory.status(self._name)
        return os.fstat(self._descriptor)

    def _place(self, source: str, target: str) -> None:
        """Give the file a name that nothing has."""
        at = self._directory.descriptor
        try:
            os.link(source, target, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # The name is taken by an empty file first, which nobody can have but this one.
            os.close(self._directory.open(os.path.basename(target), _FILE_FLAGS))
            try:
                os.replace(source, target, src_dir_fd=at, dst_dir_fd=at)
            except BaseException:
                self._directory.remove(os.path.basename(target))
                raise
        else:
            self._directory.remove(self._name)

    def discard(self) -> None:
        """Remove what has not been published; more than once does nothing more."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        if self._exists:
            self._exists = False
            try:
                self._directory.remove(self._name)
            except FileNotFoundError:
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.discard()


def remove_abandoned(directory: Directory) -> int:
    """Remove the hidden files of processes that have ended; return how many there were.

    Those that somebody is writing are left alone.
    """
    removed = 0
    entries = os.listdir(directory.path if directory.descriptor is None else directory.descriptor)
    for name in entries:
        if _is_hidden_name(name):
            try:
                removed += _remove_if_abandoned(directory, name)
            except OSError:
                # Gone, or somebody else's: not ours to judge.
                pass
    return removed


def _remove_if_abandoned(directory: Directory, name: str) -> bool:
    status = directory.status(name)
    if not stat.S_ISREG(status.st_mode) or time.time() - status.st_mtime < ABANDONED:
        return False
    descriptor = directory.open(name, _FILE_FLAGS & ~(os.O_CREAT | os.O_EXCL))
    try:
        _lock(descriptor)
        if not _WINDOWS:
            directory.remove(name)
    finally:
        os.close(descriptor)
    if _WINDOWS:  # pragma: no cover - where a file that is open cannot be removed
        directory.remove(name)
    return True


def _lock(descriptor: int) -> None:
    """Tell other processes that somebody is writing; raises BlockingIOError if another one is."""
    if _fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:
            # A file system without locks.
            pass
