"""Where the bodies that loops collect are kept, and how much of it there is for all together.

One for a server, whose loops share it. Its lock guards the two counts: the leaders take, and
whichever thread has answered a request gives back. It is held for a few instructions, never while
a file is made, so no leader waits for another.
"""

from __future__ import annotations

import errno
import os
import threading

from ..errors import ServiceUnavailable

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import IO

    from ..protocol.limits import Limits

#: Seconds after which a client may try again that was told there is no room for its body.
RETRY_AFTER = 5
# What the system says when there are no more descriptors.
_NO_DESCRIPTOR = frozenset((errno.EMFILE, errno.ENFILE))


class Storage:
    """Memory and temporary files for bodies; any thread may call it.

    :param directory: of the temporary files; None for the system's own.
    :raises NotADirectoryError: if that is none.
    """

    __slots__ = ("_directory", "_files", "_lock", "_memory", "each")

    def __init__(self, limits: Limits, directory: str | os.PathLike[str] | None = None) -> None:
        if directory is not None and not os.path.isdir(directory):
            raise NotADirectoryError(
                errno.ENOTDIR, "spool_directory is not a directory", os.fspath(directory)
            )
        self._directory = directory
        self._lock = threading.Lock()
        self._memory = limits.bodies_memory
        self._files = limits.spooled_bodies
        #: bytes of one body that may be in memory
        self.each = limits.body_memory

    def take_memory(self, size: int) -> bool:
        """Take bytes; False if they are not there."""
        with self._lock:
            if size > self._memory:
                return False
            self._memory -= size
            return True

    def give_memory(self, size: int) -> None:
        """Give bytes back."""
        with self._lock:
            self._memory += size

    def take_file(self) -> IO[bytes]:
        """A new temporary file, one of those that are counted.

        :raises ServiceUnavailable: if there is none left.
        :raises OSError: for other trouble of the system.
        """
        with self._lock:
            if not self._files:
                raise _no_room()
            self._files -= 1
        try:
            return self.temporary_file()
        except BaseException as error:
            self.give_file()
            if isinstance(error, OSError) and error.errno in _NO_DESCRIPTOR:
                raise _no_room() from error
            raise

    def give_file(self) -> None:
        """Count one file less: it has been closed."""
        with self._lock:
            self._files += 1

    def temporary_file(self) -> IO[bytes]:
        """A new temporary file, for a handler: how many there are is bounded by the threads."""
        # Imported here: it takes long, and most servers never need it.
        import tempfile

        return tempfile.TemporaryFile(dir=self._directory)


def _no_room() -> ServiceUnavailable:
    return ServiceUnavailable("There is no room for the body now.", retry_after=RETRY_AFTER)
