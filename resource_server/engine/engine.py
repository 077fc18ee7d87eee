"""A running server's sockets and threads, from their start to their end. An engine runs once."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time

from .crew import Crew
from .listener import Address, Listener, bind, named
from .loop import Loop
from .storage import Storage
from .wire import LONGEST_WAIT

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from ..protocol.limits import Limits
    from ..request import Request
    from .endpoint import Endpoint

log = logging.getLogger("resource_server")

#: Seconds, at most, between cutting off what is left and the deadline of a stop; and those that a
#: stop gets however short its timeout.
CUTTING = 0.25
#: Seconds that a stop waits for a loop that does not come back, however short its timeout.
LEAST_PATIENCE = 1.0


class Engine:
    """Listens and serves from its construction on.

    :param address: see :func:`~resource_server.engine.listener.bind`.
    :param resolve: gives the endpoint that answers a request; called by whichever thread leads the
        loop.
    :param threads: how many handlers may run at once in workers; on top come those that wait for
        their client (``crew.MAX_WAITING``) and those that were overtaken while running in the loop.
    :param loops: how many loops share the connections.
    :param max_connections: beyond it clients get 503, or are cut off; the process's descriptors
        bound it, too.
    :param spool_directory: see :class:`~resource_server.server.HTTPServer`.
    :param sockets: those of the address, if they listen already, inherited from another process.
    :raises OSError: if the address cannot be had, or no thread; nothing is left behind then.
    :raises TypeError: if the address is none.
    """

    def __init__(
        self,
        address: Address,
        resolve: Callable[[Request], Endpoint],
        limits: Limits,
        *,
        threads: int,
        max_connections: int,
        backlog: int,
        inline: bool,
        loops: int,
        tls: ssl.SSLContext | None,
        spool_directory: str | os.PathLike[str] | None = None,
        sockets: list[socket.socket] | None = None,
    ) -> None:
        # One for all loops: its lock guards what it counts.
        storage = Storage(limits, spool_directory)
        self._crew = Crew(threads, loops)
        self._loops: list[Loop] = []
        led = 0
        # Guards the next, also while it is called.
        self._ending = threading.Lock()
        self._on_end: Callable[[], object] | None = None
        try:
            for _ in range(loops):
                self._loops.append(
                    Loop(
                        resolve,
                        limits,
                        self._crew,
                        max_connections=max_connections,
                        inline=inline,
                        storage=storage,
                        tls=tls,
                    )
                )
            for loop in self._loops:
                loop.on_end = self._loop_ended
            inherited = sockets is not None
            listeners = [
                Listener(sock, self._loops[0], inherited=inherited)
                for sock in sockets or bind(address, backlog)
            ]
            #: host and port, or path and 0, of the first listening socket
            self.address = listeners[0].address
            self.is_unix = not listeners[0].is_tcp
            self._loops[0].listen(listeners, self._loops)
            # The first one, which accepts, comes last: what fails before has met no client.
            for loop in reversed(self._loops):
                self._crew.submit(loop.stand_by, role=True)
                self._crew.submit(loop.lead, role=True)
                led += 1
        except BaseException as error:
            self._give_up(led, loops)
            if isinstance(error, RuntimeError):
                raise named(OSError(errno.EAGAIN, str(error)), address) from error
            if isinstance(error, OSError) and len(self._loops) < loops:
                raise named(error, address) from error
            raise

    def _give_up(self, led: int, wanted: int) -> None:
        """End what there is, when the rest could not be had."""
        unled = len(self._loops) - led
        for loop in self._loops[:unled]:
            loop.give_up()
        for _ in range(wanted - len(self._loops)):
            self._crew.close()
        for loop in self._loops[unled:]:
            loop.stop(time.monotonic())
            loop.ended.wait(LEAST_PATIENCE)

    def _loop_ended(self) -> None:
        with self._ending:
            if self._on_end is not None and self.ended:
                self._on_end()

    # Any thread may call what follows.

    def on_end(self, callback: Callable[[], object] | None) -> None:
        """Have this called when it has stopped, and nothing else; None for nothing.

        When this returns, what was to be called before is not called any more. It must not block.
        """
        with self._ending:
            self._on_end = callback

    def use_tls(self, context: ssl.SSLContext) -> None:
        """Use this context for the connections that come from now on.

        :raises ValueError: if the engine runs without TLS: what is open and what comes would differ
            in scheme.
        """
        if self._loops[0].tls is None:
            raise ValueError(
                "a server that was started without TLS cannot change to it while running"
            )
        for loop in self._loops:
            loop.tls = context

    @property
    def ended(self) -> bool:
        """Whether it has stopped."""
        return all(loop.ended.is_set() for loop in self._loops)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has stopped, at most ``timeout`` seconds; whether it has."""
        if timeout is None:
            return all(loop.ended.wait() for loop in self._loops)
        return self._wait_until(time.monotonic() + min(timeout, LONGEST_WAIT))

    def _wait_until(self, deadline: float) -> bool:
        return all(loop.ended.wait(deadline - time.monotonic()) for loop in self._loops)

    def begin_stop(self, timeout: float, idle_grace: float = 0.0) -> float:
        """Have it stop, without waiting for that.

        Whatever is answered from now on is told that its connection ends.

        :returns: when it shall have ended, ``time.monotonic`` seconds.
        """
        timeout = min(max(0.0, timeout), LONGEST_WAIT)
        deadline = time.monotonic() + timeout
        # What is left is cut off a little before the deadline, so that its threads can end by then.
        for loop in self._loops:
            loop.stop(deadline - min(CUTTING, timeout / 5), idle_grace)
        return deadline

    def stop(self, timeout: float, idle_grace: float = 0.0) -> bool:
        """Stop: see :meth:`HTTPServer.stop <resource_server.server.HTTPServer.stop>`.

        :returns: whether everything has ended: False if a handler is still running, or the loop
            does not come back. A thread of the crew, which cannot wait for itself, gets False at
            once, and the engine ends as soon as it can.
        """
        started = time.monotonic()
        deadline = self.begin_stop(timeout, idle_grace)
        if self._crew.includes_caller():
            return False
        # The loop itself needs no more than a moment, unless code of the application that it called
        # (a converter, for instance) holds it, or the machine is very busy.
        if not self._wait_until(max(deadline, started + LEAST_PATIENCE)):
            log.error("The server's loop does not come back from a handler; it is left behind.")
            return False
        if not self._crew.join(max(deadline, started + CUTTING)):
            log.warning("A handler is still running; its thread is left to end by itself.")
            return False
        return True
