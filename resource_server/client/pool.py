"""The connections of a client: how many there may be, and which are kept for the next request."""

from __future__ import annotations

import threading
from collections import OrderedDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .connection import Connection
    from .handle import RequestHandle
    from .urls import Origin


class Closed(Exception):  # noqa: N818 - it is a state
    """The pool is closed."""


class Pool:
    """Lends connections; at most `most` are in use or kept at any time, for all origins together.

    Decisions are made under the lock, connections opened and closed outside it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._condition = threading.Condition(threading.Lock())  # guards all of the following
        self._lent = 0
        # Who waits, in the order in which they came.
        self._line: OrderedDict[RequestHandle, None] = OrderedDict()
        # Those kept, the one that was used last at the end.
        self._kept: OrderedDict[Connection, Origin] = OrderedDict()
        self._closed = False

    def take(self, origin: Origin, handle: RequestHandle, *, fresh: bool) -> Connection | None:
        """Return a connection to an origin that was kept, or None for the right to make one.

        Waits while there are too many, until the handle is ended, which raises Ended. `fresh` asks
        for the right. Whoever has got either calls `give_back` or `give_up` once.
        """
        connection = self._taken(origin, handle, fresh)
        while connection is not None and not connection.usable:
            connection.close()
            # With the right to it, which another one or none takes over.
            with self._condition:
                connection = self._kept_to(origin)
        if connection is not None:
            connection.reused = True
        return connection

    def _kept_to(self, origin: Origin) -> Connection | None:
        """Return the connection to an origin that was used last, kept no more; needs the lock."""
        for connection, its in reversed(self._kept.items()):
            if its == origin:
                del self._kept[connection]
                return connection
        return None

    def _taken(self, origin: Origin, handle: RequestHandle, fresh: bool) -> Connection | None:
        victim = None
        with self._condition:
            try:
                self._await_turn(handle)
                connection = None if fresh else self._kept_to(origin)
                if connection is None and self._lent + len(self._kept) >= self._most:
                    victim, _ = self._kept.popitem(last=False)
                self._lent += 1
            finally:
                self._line.pop(handle, None)
                self._tell_first()
        if victim is not None:
            victim.close()
        return connection

    def _await_turn(self, handle: RequestHandle) -> None:
        """Wait until there is room and nobody came before; needs the lock.

        The lock is given up while the handle is told how to wake this thread: a handle's guard may
        be held by one who waits for the lock, in `_wake`. Nobody overtakes meanwhile.
        """
        if not self._closed and (self._line or self._lent >= self._most):
            self._line[handle] = None
            self._told(handle, self._wake)
            while not self._closed and not handle.over:
                if self._lent < self._most and next(iter(self._line)) is handle:
                    break
                self._condition.wait()
            self._told(handle, None)
        if self._closed:
            raise Closed

    def _tell_first(self) -> None:
        if self._line:
            self._condition.notify_all()

    def _told(self, handle: RequestHandle, free: Callable[[], None] | None) -> None:
        self._condition.release()
        try:
            handle.held(free)
        finally:
            self._condition.acquire()

    def _wake(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def give_back(self, connection: Connection) -> None:
        """Return a connection that the next request can use."""
        with self._condition:
            self._lent -= 1
            if not self._closed:
                self._kept[connection] = connection.origin
                self._tell_first()
                return
        connection.close()

    def give_up(self) -> None:
        """Return the right to a connection; that one is closed, or was not made."""
        with self._condition:
            self._lent -= 1
            self._tell_first()

    def open(self) -> None:
        """Let connections be taken again after `close`."""
        with self._condition:
            self._closed = False

    def close(self) -> None:
        """Close what is kept, and what is given back from now on."""
        with self._condition:
            self._closed = True
            kept = list(self._kept)
            self._kept.clear()
            self._condition.notify_all()
        for connection in kept:
            connection.close()

    @property
    def count(self) -> tuple[int, int]:
        """How many are lent, and how many are kept."""
        with self._condition:
            return self._lent, len(self._kept)
