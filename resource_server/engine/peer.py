"""What the loop serves, as it sees it."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    import socket
    from typing import Protocol

    from .tls import TLSSocket

    class Source(Protocol):
        """What the loop serves when the selector reports it, or when it was posted (mask 0)."""

        def on_event(self, mask: int) -> bool:
            """Do what there is to do; tell whether the caller still leads."""

    class Peer(Source, Protocol):
        """A connection, of HTTP or a WebSocket's. The leader alone calls these."""

        sock: socket.socket | TLSSocket
        #: when to call ``expire``, ``time.monotonic`` seconds; infinite while nothing can expire
        deadline: float

        def expire(self) -> None:
            """Do what is due at the deadline, which is another one then, or infinite."""

        def stop(self) -> None:
            """End soon, with what is under way finished: the server stops."""

        def cut_off(self) -> None:
            """End now."""

        def drop(self) -> None:
            """End now, after a defect in `on_event`."""
