"""A running server's sockets and threads, from their start to their end. An engine runs once."""

from __future__ import annotations

import errno
import logging
import time
from typing import TYPE_CHECKING

from .crew import Crew
from .listener import Address, Listener, bind, named
from .loop import Loop
from .wire import LONGEST_WAIT

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from ..protocol.limits import Limits
    from ..request import Request
    from .exchange import Endpoint

log = logging.getLogger("resource_server")


class Engine:
    """Listens and serves from its construction on.

    :param address: see :func:`~resource_server.engine.listener.bind`.
    :param resolve: gives the endpoint that answers a request; called by whichever thread leads the
        loop.
    :param threads: how many handlers may run at once in workers.
    :raises OSError: if the address cannot be had, or no thread; nothing is left behind then.
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
        tls: ssl.SSLContext | None,
    ) -> None:
        self._crew = Crew(threads)
        try:
            self._loop = Loop(
                resolve,
                limits,
                self._crew,
                max_connections=max_connections,
                inline=inline,
                tls=tls,
            )
        except OSError as error:
            raise named(error, address) from error
        try:
            listeners = [Listener(sock, self._loop) for sock in bind(address, backlog)]
            #: host and port, or path and 0, of the first listening socket
            self.address = listeners[0].address
            self.is_unix = not listeners[0].is_tcp
            self._loop.listen(listeners)
            self._crew.submit(self._loop.stand_by, role=True)
            self._crew.submit(self._loop.lead, role=True)
        except RuntimeError as error:
            self._loop.give_up()
            raise named(OSError(errno.EAGAIN, str(error)), address) from error
        except BaseException:
            self._loop.give_up()
            raise

    # Any thread may call what follows.

    def use_tls(self, context: ssl.SSLContext) -> None:
        """Use this context for the connections that come from now on.

        :raises ValueError: if the engine runs without TLS: what is open and what comes would differ
            in scheme.
        """
        if self._loop.tls is None:
            raise ValueError(
                "a server that was started without TLS cannot change to it while running"
            )
        self._loop.tls = context

    @property
    def ended(self) -> bool:
        """Whether it has stopped."""
        return self._loop.ended.is_set()

    @property
    def threads(self) -> int:
        """How many threads it has at the moment."""
        return self._crew.size

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has stopped, at most ``timeout`` seconds; whether it has."""
        if timeout is not None:
            timeout = min(timeout, LONGEST_WAIT)
        return self._loop.ended.wait(timeout)

    def stop(self, timeout: float) -> bool:
        """Stop: see :meth:`HTTPServer.stop <resource_server.server.HTTPServer.stop>`.

        :returns: whether everything has ended. A thread of the crew, which cannot wait for itself,
            gets False at once, and the engine ends as soon as it can.
        """
        timeout = min(max(0.0, timeout), LONGEST_WAIT)
        deadline = time.monotonic() + timeout
        self._loop.stop(deadline)
        if self._crew.includes_caller():
            return False
        # A little more than the loop has: at the deadline it cuts off what is left. It needs more
        # than a moment only when the machine is very busy.
        if not self._loop.ended.wait(max(0.0, deadline + 1.0 - time.monotonic())):
            log.error("The server's loop does not come back from a handler; it is left behind.")
            return False
        if not self._crew.join(deadline + min(1.0, 0.2 + timeout / 10)):
            log.warning("A handler is still running; its thread is left to end by itself.")
            return False
        return True
