"""Opening a regular file, and nothing else."""

from __future__ import annotations

import errno
import io
import os
import stat

from ..errors import NotFound

# What the system says of a name behind which there is nothing for this process to read. All of it
# is one answer, so that the answer tells nothing about what exists.
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

# Only what POSIX or Windows has: no newline translation; should a FIFO or a terminal have taken the
# place of the file, do not wait for it and do not let it become the controlling terminal.
_OPEN_FLAGS = os.O_RDONLY
for _flag in ("O_BINARY", "O_NONBLOCK", "O_NOCTTY"):
    _OPEN_FLAGS |= getattr(os, _flag, 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def not_found(error: OSError | ValueError) -> NotFound:
    """Return NotFound for what is missing; raise ``error`` again if it is trouble of the system."""
    if isinstance(error, OSError) and error.errno not in _MISSING:
        raise error
    return NotFound()


def open_regular(path: str, *, follow_links: bool) -> tuple[io.FileIO, os.stat_result]:
    """Open a regular file for reading, and nothing else; raise NotFound for all the rest.

    Looked at before it is opened, because opening a device or a FIFO can already do something, and
    by its descriptor afterwards, because it may have been replaced in between.
    """
    try:
        if not stat.S_ISREG(os.stat(path, follow_symlinks=follow_links).st_mode):
            raise NotFound
        descriptor = os.open(path, _OPEN_FLAGS if follow_links else _OPEN_FLAGS | _NO_LINK)
    except (OSError, ValueError) as error:
        raise not_found(error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotFound
        return io.FileIO(descriptor), status
    except BaseException:
        os.close(descriptor)
        raise
