"""What comes through a loop's door (`Loop.post`), beside connections; the leader serves it."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    import socket

    from .listener import Listener
    from .loop import Loop


class Door:
    """What the selector reports when something was posted."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def on_event(self, _mask: int) -> bool:
        """Let it in."""
        self._loop.enter()
        return True


class Arrival:
    """A connection that another loop has accepted, on its way through the door."""

    def __init__(
        self, loop: Loop, sock: socket.socket, peer: tuple[str, int], listener: Listener
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._peer = peer
        self._listener = listener

    def on_event(self, _mask: int) -> bool:
        """Take it in; if the server stops meanwhile, as one that is idle then."""
        self._loop.take_in(self._sock, self._peer, self._listener)
        return True


class Stop:
    """The wish to stop, on its way through the door."""

    def __init__(self, loop: Loop, deadline: float) -> None:
        self._loop = loop
        self._deadline = deadline

    def on_event(self, _mask: int) -> bool:
        """Begin."""
        self._loop.begin_stop(self._deadline)
        return True
