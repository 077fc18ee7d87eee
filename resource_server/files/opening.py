"""What is below a root, found and opened so that no link put in its way is ever followed.

Where the system can open a name relative to an open directory, a path is walked directory by
directory, each opened without following a link, so that whoever swaps one for a link meanwhile
finds the door closed. A link that is there is resolved by name first (``path_join_safe``), and what
it leads to is walked in the same way. Elsewhere (Windows) names are resolved before and after
opening, and what was opened has to be what is there.

Nothing but regular files and directories is ever opened: opening a device or a FIFO can already do
something. Whatever is missing, or not permitted, is NotFound: the answer tells nothing about what
exists.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from contextlib import contextmanager

from ..errors import NotFound
from .paths import has_hidden, path_join_safe

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

# What the system says of a name behind which there is nothing for this process to read.
_MISSING = frozenset(
    (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EACCES,
        errno.EPERM,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,  # a name the file system cannot have
        errno.EISDIR,
        errno.ENXIO,  # a socket, or a FIFO put in place of the file meanwhile
        errno.ENODEV,
    )
)
# What opening a link says when links are not followed: ELOOP, or ENOTDIR where a directory is
# wanted; EMLINK on FreeBSD.
_LINK = frozenset((errno.ELOOP, errno.ENOTDIR, errno.EMLINK))

# Only what POSIX or Windows has: no newline translation; should a FIFO or a terminal have taken the
# place of the file, do not wait for it and do not let it become the controlling terminal.
_OPEN_FLAGS = os.O_RDONLY
for _flag in ("O_BINARY", "O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC"):
    _OPEN_FLAGS |= getattr(os, _flag, 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_DIRECTORY = _OPEN_FLAGS | getattr(os, "O_DIRECTORY", 0) | _NO_LINK
# Enough to go through a directory; where it does not exist, going through needs reading.
_PASSAGE = _DIRECTORY | getattr(os, "O_PATH", 0)
#: Whether directories can be walked by descriptor.
WALKS = {os.open, os.stat} <= os.supports_dir_fd and bool(_NO_LINK)


def not_found(error: OSError | ValueError) -> NotFound:
    """Return NotFound for what is missing; raise ``error`` again if it is trouble of the system."""
    if isinstance(error, OSError) and error.errno not in _MISSING:
        raise error
    return NotFound()


class RegularFile(io.FileIO):
    """An open regular file. ``status`` is what it was when it was chosen to be sent."""

    status: os.stat_result


def open_regular(
    path: str, flags: int = 0, directory: int | None = None
) -> tuple[int, os.stat_result]:
    """Return descriptor and state of a file looked at before; NotFound for what is not regular.

    By its descriptor it is looked at again, because it may have been replaced in between.
    """
    try:
        descriptor = os.open(path, _OPEN_FLAGS | flags, dir_fd=directory)
    except (OSError, ValueError) as error:
        raise not_found(error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotFound
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, status


def open_trusted(path: str) -> tuple[int, os.stat_result]:
    """Return descriptor and state of the file at a path of the application; links are followed.

    Raises NotFound for all the rest.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise NotFound
    except (OSError, ValueError) as error:
        raise not_found(error) from error
    return open_regular(path)


class Place:
    """A regular file or a directory, by its name in a directory that is held open.

    ``status`` is that of the file itself. To be closed, by ``with``.
    """

    __slots__ = ("_directory", "_follows", "_path", "status")

    def __init__(
        self,
        path: str,
        status: os.stat_result,
        directory: int | None = None,
        *,
        follows: bool = False,
    ) -> None:
        self._path = path
        self.status = status
        self._directory = directory
        self._follows = follows

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    def open(self) -> tuple[int, os.stat_result]:
        """Return descriptor and state of the regular file; raises NotFound for all the rest."""
        return open_regular(self._path, 0 if self._follows else _NO_LINK, self._directory)

    @contextmanager
    def open_directory(self) -> Iterator[int | str]:
        """Open the directory to be read: by its descriptor, or by its path if that cannot be.

        Raises NotFound.
        """
        if not WALKS or os.scandir not in os.supports_fd:
            if not os.access(self._path, os.R_OK | os.X_OK):
                raise NotFound
            yield self._path
            return
        try:
            flags = _DIRECTORY & ~_NO_LINK if self._follows else _DIRECTORY
            descriptor = os.open(self._path, flags, dir_fd=self._directory)
        except OSError as error:
            raise not_found(error) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def sibling(self, suffix: str) -> Place | None:
        """Return the regular file beside this one whose name goes on with ``suffix``, if any.

        It lives as long as this place is open. A link is none unless links are followed.
        """
        path = self._path + suffix
        # Most have none, and an exception would cost more than this look: 1.5 µs.
        if not os.access(path, os.F_OK, dir_fd=self._directory):
            return None
        try:
            status = os.stat(path, dir_fd=self._directory, follow_symlinks=self._follows)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return type(self)(path, status, self._directory, follows=self._follows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory."""
        directory, self._directory = self._directory, None
        if directory is not None:
            os.close(directory)


def find(root: str, components: Sequence[str], *, follow_links: bool, hidden: bool) -> Place:
    """Return what is at ``components`` below ``root``, or raise NotFound.

    ``components`` have passed ``split_name``. With ``follow_links`` links lead wherever they lead;
    otherwise a link counts that leads to a place inside the root, which is one of a name that
    begins with a dot only if ``hidden``.
    """
    try:
        if follow_links or not components:
            path = os.path.join(root, *components)
            return Place(path, _checked(os.stat(path)), follows=True)
        if WALKS:
            place = _walk(root, components)
            if place is not None:
                return place
        return _find_resolved(root, components, hidden=hidden)
    except (OSError, ValueError) as error:
        raise not_found(error) from error


def _find_resolved(root: str, components: Sequence[str], *, hidden: bool) -> Place:
    """Return what links lead to, if that is inside the root and no link is on the way any more."""
    root = os.path.realpath(root)
    path = path_join_safe(root, "/".join(components))
    below = path[len(root) :].strip(os.sep)
    # On Windows resolving also turns short names into long ones: HTACCE~1 may be .htaccess.
    if not hidden and has_hidden(below.split(os.sep)):
        raise NotFound
    if not WALKS:
        return _ResolvedPlace(path, _checked(os.lstat(path)))
    place = _walk(root, below.split(os.sep)) if below else Place(root, os.stat(root), follows=True)
    if place is None:
        raise NotFound
    return place


def _walk(root: str, components: Sequence[str]) -> Place | None:
    """Return what is at a path of directories, None if a link is on the way or at its end."""
    directory: int | None = None
    path = root + os.sep + components[0]
    try:
        for name in components[1:]:
            try:
                inner = os.open(path, _PASSAGE, dir_fd=directory)
            except OSError as error:
                if error.errno in _LINK:
                    return None
                raise
            if directory is not None:
                os.close(directory)
            directory, path = inner, name
        status = os.lstat(path, dir_fd=directory)
        if stat.S_ISLNK(status.st_mode):
            return None
        place = Place(path, _checked(status), directory)
        directory = None
        return place
    finally:
        if directory is not None:
            os.close(directory)


def _checked(status: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise NotFound
    return status


class _ResolvedPlace(Place):
    """A place by its path, on a system that cannot walk."""

    __slots__ = ()

    def open(self) -> tuple[int, os.stat_result]:
        """Return descriptor and state, if the path still leads there without a link."""
        descriptor, status = super().open()
        try:
            same = os.path.samestat(os.lstat(self._path), status)
            if not same or os.path.realpath(self._path) != self._path:
                raise NotFound
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, status
