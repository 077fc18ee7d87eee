"""What the loop waits on: the system's best way of telling which sockets are ready, and for whom.

The standard library's selectors do that everywhere. On Linux, where most servers run, its epoll
takes 0.5 µs of Python for each event, and asks for as many events as there are connections: two
allocations of that size each time. So the loop speaks to the system's epoll itself there.
"""

from __future__ import annotations

import select
import selectors

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    import socket

    from .peer import Source

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

#: Events that are asked for at once. The system tells of the others in the next round, before it
#: repeats itself.
MAX_EVENTS = 256


class Selector:
    """By a selector of the standard library. The methods are for the leader."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        #: whether it takes no descriptor beyond a small number
        self.is_limited = isinstance(self._selector, selectors.SelectSelector)

    def register(self, file: int | socket.socket, events: int, source: Source) -> None:
        """Report these events of a descriptor, for a source to serve.

        :raises OSError: when the system cannot.
        :raises ValueError: when it is none that could be watched.
        :raises KeyError: when it is watched already.
        """
        self._selector.register(file, events, source)

    def modify(self, file: int | socket.socket, events: int, source: Source) -> None:
        """Report other events of a descriptor that is watched."""
        self._selector.modify(file, events, source)

    def unregister(self, file: int | socket.socket) -> None:
        """Report nothing more; KeyError if it was not watched."""
        self._selector.unregister(file)

    def select(self, timeout: float | None = None) -> list[tuple[Source, int]]:
        """Wait for events, for seconds or without end: sources, and what each is ready for."""
        return [(key.data, mask) for key, mask in self._selector.select(timeout)]

    def __contains__(self, file: int | socket.socket) -> bool:
        return file in self._selector.get_map()

    def close(self) -> None:
        """Let go of the system's object."""
        self._selector.close()


class EpollSelector(Selector):
    """By Linux's epoll."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        # By descriptor: the source, and the events that it waits for.
        self._watched: dict[int, tuple[Source, int]] = {}
        self.is_limited = False

    def register(self, file: int | socket.socket, events: int, source: Source) -> None:
        """Report these events of a descriptor, as `Selector` does."""
        descriptor = _descriptor(file)
        if descriptor in self._watched:
            raise KeyError(f"descriptor {descriptor} is watched already")
        self._epoll.register(descriptor, _MASKS[events])
        self._watched[descriptor] = (source, events)

    def modify(self, file: int | socket.socket, events: int, source: Source) -> None:
        """Report other events of a descriptor that is watched."""
        descriptor = _descriptor(file)
        self._epoll.modify(descriptor, _MASKS[events])
        self._watched[descriptor] = (source, events)

    def unregister(self, file: int | socket.socket) -> None:
        """Report nothing more."""
        descriptor = _descriptor(file)
        del self._watched[descriptor]
        try:
            self._epoll.unregister(descriptor)
        except OSError:
            # The system has forgotten it, as it was closed.
            pass

    def select(self, timeout: float | None = None) -> list[tuple[Source, int]]:
        """Wait for events, for seconds or without end: sources, and what each is ready for."""
        ready = []
        watched = self._watched
        for descriptor, event in self._epoll.poll(timeout, MAX_EVENTS):
            try:
                source, events = watched[descriptor]
            except KeyError:
                continue
            if event != _IN:
                # An error, or the other side's end, makes it ready for whatever is waited for.
                event = (event & ~_OUT and _READ) | (event & ~_IN and _WRITE)
            ready.append((source, event & events))
        return ready

    def __contains__(self, file: int | socket.socket) -> bool:
        return _descriptor(file) in self._watched

    def close(self) -> None:
        """Let go of the system's object."""
        self._epoll.close()
        self._watched.clear()


def open_selector() -> Selector:
    """Return the best there is."""
    best = getattr(selectors, "EpollSelector", None)
    return EpollSelector() if selectors.DefaultSelector is best else Selector()


def _descriptor(file: int | socket.socket) -> int:
    return file if isinstance(file, int) else file.fileno()


# What epoll calls the events.
_IN, _OUT = getattr(select, "EPOLLIN", 1), getattr(select, "EPOLLOUT", 4)
_MASKS = {_READ: _IN, _WRITE: _OUT, _READ | _WRITE: _IN | _OUT}
