"""What a worker does, in its own process."""

from __future__ import annotations

import atexit
import contextlib
import logging
import selectors
import signal
import sys

from .waker import Waker, note

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ..engine.engine import Engine

    Serve = Callable[[list[socket.socket]], Engine]

log = logging.getLogger("resource_server.processes")

#: Seconds in which a client of a worker that leaves may send one more request on a connection that
#: is idle.
IDLE_GRACE = 5.0

#: What a worker says to its parent.
READY, FAILED, LEAVING, STOPPED = b"+", b"-", b"!", b"."

#: Characters of the reason that a worker gives.
_REASON_SIZE = 2000
# What its waker tells beside signals, which count from 1.
_ENDED = 0
_READ = selectors.EVENT_READ


def work(serve: Serve, sockets: list[socket.socket], link: socket.socket, drain: float) -> int:
    """Serve in a worker until it shall end; the exit code."""
    try:
        engine = serve(sockets)
    except BaseException as error:
        reason = str(error)
        if not isinstance(error, OSError):
            reason = f"{type(error).__name__}: {reason}"
            log.error("A process cannot serve.", exc_info=error)
        _say(link, FAILED + reason[:_REASON_SIZE].encode("utf-8", "replace"))
        _end()
        return 1
    waker = Waker()
    signal.signal(signal.SIGTERM, note)
    engine.on_end(lambda: waker.tell(_ENDED))
    if engine.ended:
        waker.tell(_ENDED)
    _say(link, READY)
    if not _follow(engine, link, waker, drain):
        _say(link, STOPPED)
    _end()
    return 0


def _follow(engine: Engine, link: socket.socket, waker: Waker, drain: float) -> bool:
    """Have the engine stop when it shall; returns when it has, and tells whether it should."""
    told = False
    with selectors.DefaultSelector() as selector:
        selector.register(waker.reader, _READ)
        selector.register(link, _READ)
        while True:
            ready = [key.fileobj for key, _ in selector.select()]
            numbers = waker.take()
            if _ENDED in numbers:
                return told
            if signal.SIGTERM in numbers:
                # The second time it is impatience.
                engine.begin_stop(0.0 if told else drain, IDLE_GRACE)
                if not told:
                    _say(link, LEAVING)
                told = True
            if link in ready:
                selector.unregister(link)
                engine.begin_stop(drain)
                told = True


def _end() -> None:
    """Do what an interpreter does at its end, with what this process has brought about."""
    atexit._run_exitfuncs()
    flush()


def _say(link: socket.socket, text: bytes) -> None:
    """Tell the parent; if that has died, the link's end tells."""
    with contextlib.suppress(OSError):
        link.sendall(text)


def flush() -> None:
    """Write out what is in the buffers of the standard streams."""
    for stream in (sys.stdout, sys.stderr):
        # A windowed program has none; nobody may read it; it may be closed.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
