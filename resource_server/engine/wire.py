"""A connection as the thread that owns it may use it: blocking, with deadlines.

The loop owns a connection while it is read, written or idle; the thread that handles its request
owns it meanwhile. The methods here are for that thread, and for nobody else unless they say so.
"""

from __future__ import annotations

import os
import select
import selectors
import socket
import struct
import threading
import time

from ..errors import Disconnected, RequestTimeout

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from ..headers import Headers
    from ..protocol.http1 import HTTP1
    from ..protocol.limits import Limits
    from .crew import Crew
    from .tls import TLSSocket

RECEIVE_SIZE = 65536
#: Seconds that one wait lasts at most, since systems take no timeout without end. None should be
#: longer.
LONGEST_WAIT = 86_400.0
#: Seconds that a worker waits for a client while very many do.
IMPATIENT = 1.0
#: Bytes that the system takes ahead for a client that shall have what is new.
LITTLE = 65536
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Wire:
    """A socket, its protocol, and how to wait for both without the loop."""

    __slots__ = ("_io", "broken", "crew", "http", "limits", "sock")

    def __init__(
        self, sock: socket.socket | TLSSocket, http: HTTP1, limits: Limits, crew: Crew
    ) -> None:
        self.sock = sock
        self.http = http
        self.limits = limits
        self.crew = crew
        #: the other side is gone, or has to be cut off
        self.broken = False
        # Held by the owner around what it does with the socket, so that `abandon` does not close it
        # (and let another file have its descriptor) in the middle of that.
        self._io = threading.Lock()

    # -- the owner -------------------------------------------------------------------------

    def send_all(self, data: bytes) -> None:
        """Send ``data``, waiting while the client takes some of it every ``limits.write`` seconds.

        :raises Disconnected: when the client has gone, or takes nothing for too long.
        """
        view = memoryview(data)
        with self._io:
            while view:
                if self.broken:
                    raise Disconnected("The client has gone.")
                try:
                    view = view[self.sock.send(view) :]
                except BlockingIOError:
                    if not self._ready(_WRITE, self.limits.write):
                        self.broken = True
                        raise Disconnected("The client takes nothing of its response.") from None
                except OSError as error:
                    self.broken = True
                    raise Disconnected("The client has gone.") from error

    def receive_some(self, timeout: float) -> bytes:
        """What the client sends next; b"" when it has ended its side.

        :param timeout: seconds.
        :raises RequestTimeout: when nothing comes in time.
        :raises Disconnected: when the connection is broken.
        """
        deadline = time.monotonic() + timeout
        with self._io:
            while True:
                if self.broken:
                    raise Disconnected("The client has gone.")
                try:
                    return self.sock.recv(RECEIVE_SIZE)
                except BlockingIOError:
                    if not self._ready(_READ, deadline - time.monotonic()):
                        raise RequestTimeout("The body comes too slowly.") from None
                except OSError as error:
                    self.broken = True
                    raise Disconnected("The client has gone.") from error

    def _ready(self, events: int, timeout: float) -> bool:
        """Wait until the socket is ready, or shut down; False after ``timeout`` seconds.

        Not for long if very many workers wait for their clients: they shall not all be stuck.
        """
        patient = self.crew.begin_waiting()
        try:
            return self._poll(events, timeout if patient else min(timeout, IMPATIENT))
        finally:
            self.crew.end_waiting()

    def _poll(self, events: int, timeout: float) -> bool:
        events = getattr(self.sock, "wants", events)
        timeout = min(max(0.0, timeout), LONGEST_WAIT)
        descriptor = self.sock.fileno()
        if descriptor < 0:
            return True
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(descriptor, select.POLLIN if events == _READ else select.POLLOUT)
            return bool(poll.poll(timeout * 1000))
        readers, writers = ([descriptor], []) if events == _READ else ([], [descriptor])
        return any(select.select(readers, writers, writers, timeout))

    def send_interim(self, status_code: int, headers: Headers) -> None:
        """Send a 1xx response ahead of the final one.

        :raises ValueError: for a status that is not an interim one.
        :raises Disconnected: when the client has gone.
        """
        self.send_all(self.http.interim(status_code, headers))

    def reset_on_close(self) -> None:
        """Have the connection's end look like a failure, not like the end of what was sent.

        TLS needs no such thing: there an end without notice is a failure (RFC 8446 §6.1).
        """
        if isinstance(self.sock, socket.socket):
            pair = "hh" if os.name == "nt" else "ii"
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(pair, 1, 0))

    # -- any thread ------------------------------------------------------------------------

    def disconnected(self) -> bool:
        """Whether the client has closed its side.

        One that only half-closed, to wait for its answer, looks the same until something is sent to
        it.
        """
        if self.broken:
            return True
        descriptor = self.sock.fileno()
        if descriptor < 0:
            return True
        if hasattr(select, "POLLRDHUP"):
            poll = select.poll()
            poll.register(descriptor, select.POLLRDHUP)
            return bool(poll.poll(0))
        return self._peeks_end(descriptor)

    def gone(self) -> bool:
        """Whether the client answered what it was sent last by a reset; False where none can tell.

        Unlike `disconnected` it does not take one that only half-closed for gone. By the owner.
        """
        with self._io:
            if self.broken or self.sock.fileno() < 0 or not hasattr(select, "poll"):
                return self.broken
            poll = select.poll()
            poll.register(self.sock.fileno(), 0)
            return bool(poll.poll(0))

    def _peeks_end(self, descriptor: int) -> bool:
        # Without POLLRDHUP the end shows only once everything before it has been read.
        readable, _, _ = select.select([descriptor], [], [], 0)
        if not readable or not isinstance(self.sock, socket.socket):
            return False
        try:
            return self.sock.recv(1, socket.MSG_PEEK) == b""
        except OSError as error:
            return not isinstance(error, BlockingIOError)

    def abandon(self) -> None:
        """Cut the connection off under a handler: what that does next with it fails.

        By the thread that leads, which has taken the socket out of the selector.
        """
        self.broken = True
        try:
            # Wakes the owner where it waits for the socket, so that the lock becomes free.
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        with self._io:
            self.sock.close()


def keep_little_waiting(sock: socket.socket | TLSSocket) -> None:
    """Keep what waits in the system's buffers short, so that it does not grow old there."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is None:
        return
    try:
        sock.setsockopt(socket.IPPROTO_TCP, option, LITTLE)
    except OSError:
        # Not of TCP, or no longer there.
        pass
