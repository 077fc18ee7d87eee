"""The workers as their parent knows them."""

from __future__ import annotations

import contextlib
import math
import os
import socket

from .worker import READY, STOPPED


class Worker:
    """A process that serves, as its parent knows it."""

    def __init__(self, pid: int, link: socket.socket, slot: Slot) -> None:
        self.pid = pid
        self.link = link
        self.slot = slot
        self.said = b""
        #: since when it is ready, ``time.monotonic`` seconds; infinite before
        self.ready_since = math.inf
        #: when to kill it
        self.kill_at = math.inf

    @property
    def ready(self) -> bool:
        """Whether it serves."""
        return self.ready_since < math.inf

    @property
    def stopped(self) -> bool:
        """Whether the application has stopped its server."""
        return self.said.startswith(READY) and self.said.endswith(STOPPED)

    def listen(self) -> bytes:
        """What it has said since the last time; b"" if nothing."""
        try:
            data = self.link.recv(65536)
        except OSError:
            return b""
        self.said += data
        return data

    def send(self, number: int) -> None:
        """Send it a signal. It has not been waited for, so the number is no other process's."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def end_link(self) -> None:
        """Tell it that its parent stops."""
        with contextlib.suppress(OSError):
            self.link.shutdown(socket.SHUT_WR)


class Slot:
    """A worker's place: what it listens on, and who serves there now and next."""

    def __init__(self, sockets: list[socket.socket]) -> None:
        self.sockets = sockets
        self.worker: Worker | None = None
        #: one that takes the worker's place when it is ready
        self.successor: Worker | None = None
        #: when to start a worker, if there is none (``time.monotonic`` seconds)
        self.due = math.inf
        #: seconds to wait before that, if this one dies soon, too
        self.pause = 0.0
