"""HTTPServer: a Router joined to an engine, that starts, tells its URL and stops."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import selectors
import signal
import sys
import threading
import time

from .engine.engine import Engine
from .engine.tls import server_context
from .routing.router import Router

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterator
    from types import FrameType, TracebackType
    from typing import Any, Self

    from .engine.listener import Address
    from .protocol.limits import Limits

log = logging.getLogger("resource_server")

Path = str | os.PathLike[str]

#: Servers to be stopped at exit, whether or not anybody still refers to them.
_running: set[HTTPServer] = set()


class HTTPServer:
    """An HTTP/1.1 server in threads of its own.

    :param addr: ``(host, port)``: host "" is every interface, port 0 any free one; or a UNIX
        socket, ``"unix:/path"`` or a path with a slash in it; or a bound socket. That belongs to
        the server from then on: :meth:`stop` closes it, so such a server cannot start again.
    :param privkey: path of a private key (PEM), for TLS together with ``cert``.
    :param cert: path of a certificate chain (PEM).
    :param router: what answers; a new Router if None.
    :param tls: an ``ssl.SSLContext`` in place of the two paths.
    :param limits: sizes and deadlines.
    :param threads: how many handlers may run at once in workers; threads are started as they are
        needed. On top come those that wait for their client (up to 256), and those that ran in the
        loop until another thread took it over.
    :param max_connections: further clients get 503. Over TLS, or far beyond it, they are cut off
        without a word. It is bounded, too, by the descriptors that the process may open
        (RLIMIT_NOFILE): all but 192 of them, or half if that is more.
    :param backlog: connections that the system keeps until they are accepted.
    :param inline: whether quick handlers run in the thread that reads their requests. With False,
        each request is handed to a worker.
    :param loops: how many threads read requests, each those of its own connections. By default it
        is one, and where the interpreter has no GIL one for each core.
    :param spool_directory: where bodies and files of forms go that are too long for memory, until
        their request has been answered; by default the system's directory for temporary files,
        which may be a small disk in memory.
    :raises ValueError: for one of ``privkey`` and ``cert`` without the other, or with ``tls``; for
        ``threads``, ``max_connections`` or ``loops`` below 1.

    Its attributes are ``addr``, as given, and ``router`` and ``limits``, as given or made here.

    Every method may be called by any thread. As a context manager it starts and stops::

        with HTTPServer(("127.0.0.1", 0)) as server:
            server.register_routes(MyResource())
            print(server.url)
    """

    def __init__(
        self,
        addr: Address,
        privkey: Path | None = None,
        cert: Path | None = None,
        *,
        router: Router | None = None,
        tls: ssl.SSLContext | None = None,
        limits: Limits | None = None,
        threads: int = 64,
        max_connections: int = 10_000,
        backlog: int = 1024,
        inline: bool = True,
        loops: int | None = None,
        spool_directory: Path | None = None,
    ) -> None:
        if (privkey is None) != (cert is None):
            raise ValueError("privkey and cert go together: give both or neither")
        if tls is not None and cert is not None:
            raise ValueError("give either tls or privkey and cert")
        loops = _default_loops() if loops is None else loops
        counts = {"threads": threads, "max_connections": max_connections, "loops": loops}
        for name, number in counts.items():
            if number < 1:
                raise ValueError(f"{name} must be at least 1, not {number}")
        self.addr = addr
        self.router = Router() if router is None else router
        self.limits = limits or _default_limits()
        self._files = (privkey, cert) if privkey is not None and cert is not None else None
        self._tls = tls
        self._options: dict[str, Any] = {
            **counts,
            "backlog": backlog,
            "inline": inline,
            "spool_directory": spool_directory,
        }
        # Guards _engine; held while it starts, never while it is waited for.
        # A signal handler may call `stop` in the middle of `start`.
        self._lock = threading.RLock()
        self._engine: Engine | None = None
        # Where it listens or has listened, and whether that is a UNIX socket.
        self._place: tuple[tuple[str, int], bool] | None = None

    # -- routes ----------------------------------------------------------------------------

    def register_routes(self, routes: object) -> None:
        """Register a Resource, a Resource class, or a list of (method, pattern, callback).

        :raises RegistrationError: if it is none of these.
        :raises PatternError: for a bad pattern.
        """
        self.router.register_routes(routes)

    registerRoutes = register_routes

    def routes(self) -> list[tuple[str, str, Any]]:
        """All routes, in the order in which they are tried: (method, pattern, callback)."""
        return self.router.routes()

    # -- running ---------------------------------------------------------------------------

    def start(self) -> None:
        """Listen and serve. When this returns, clients are answered.

        :raises OSError: naming the address that cannot be had, or the key or certificate that
            cannot be used; nothing is left behind then. Also if it was given a socket, which an
            earlier stop has closed; or ``spool_directory`` is no directory.
        :raises TypeError: if ``addr`` is no address.
        :raises RuntimeError: if it is running.
        """
        self._start()
        log.info("Serving on %s", self.url)

    def _start(self, sockets: list[socket.socket] | None = None) -> Engine:
        with self._lock:
            if self._engine is not None and not self._engine.ended:
                raise RuntimeError(f"the server is running already, at {self.url}")
            if self._files is not None:
                self._tls = server_context(*self._files)
            engine = self._engine = Engine(
                self.addr,
                self.router.resolve,
                self.limits,
                tls=self._tls,
                sockets=sockets,
                **self._options,
            )
            self._place = (engine.address, engine.is_unix)
            _forget_stopped()
            _running.add(self)
            return engine

    def stop(self, timeout: float = 5.0, *, idle_grace: float = 0.0) -> bool:
        """Stop, and return by the timeout whatever handlers do.

        Nothing more is accepted and idle connections are closed at once; requests under way are
        answered; what is left is cut off shortly before the timeout (up to a quarter of a second),
        so that this returns by then. From a handler it only begins this, and returns. Stopping a
        server that does not run does nothing. Afterwards it can be started again, unless ``addr``
        is a socket.

        :param timeout: seconds for the requests under way. However short it is, a stop may take a
            quarter of a second; and up to a second while the loop is held by code of the
            application that it called (a converter, for instance) or the machine is very busy.
        :param idle_grace: seconds in which an idle connection may send one more request, whose
            answer says that it is the last, instead of being closed at once; and so may those that
            have connected, but were not accepted yet. So no client meets a closed connection just
            when it uses it, while another server takes the address over.
        :returns: whether everything has ended: False if a handler is still running in its thread,
            if the loop does not come back, or when called from a handler.
        """
        with self._lock:
            engine = self._engine
        if engine is None:
            return True
        stopped = engine.stop(timeout, idle_grace)
        _forget_stopped()
        return stopped

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the server has stopped, at most ``timeout`` seconds (None: without end).

        :returns: whether it has stopped.
        """
        engine = self._engine
        if engine is None:
            return True
        if timeout is None and threading.current_thread() is threading.main_thread():
            _wait_heeding_signals(engine)
            return True
        return engine.wait(timeout)

    def run(
        self,
        *,
        processes: int = 1,
        prepare: Callable[[], object] | None = None,
        ready: Callable[[], object] | None = None,
    ) -> None:
        """Start if necessary, and wait until the server is stopped.

        That is by Ctrl-C, SIGTERM or another thread. Signals are handled only when called from the
        main thread, and as before afterwards.

        With several processes this one only looks after them; they are made from it by ``fork``,
        each with a copy of everything. One that dies is replaced. SIGHUP replaces them one after
        the other, and no request is refused or cut for that. ``stop()`` in any of them stops all.
        SIGTERM and Ctrl-C give the requests under way half a minute; a second one does not wait.

        :param processes: how many serve. More than one use more than one core in spite of the GIL;
            where there is no GIL ``loops`` do the same, and share their memory.
        :param prepare: called before the start, in each process that serves: for what cannot be
            inherited, such as threads, connections to a database, or code that is loaded anew.
        :param ready: called when clients are answered (not again after SIGHUP), in this process.
        :raises OSError: as :meth:`start`; ChildProcessError if a process cannot serve, with the
            reason.
        :raises RuntimeError: for several processes if the server is running, if other threads are,
            if this is not the main thread, or if the system has no ``fork``.
        :raises ValueError: for ``processes`` below 1.
        """
        if processes < 1:
            raise ValueError(f"processes must be at least 1, not {processes}")
        if processes > 1:
            self._run_processes(processes, prepare, ready)
            return
        on_main = threading.current_thread() is threading.main_thread()
        try:
            with _signals_interrupt() if on_main else contextlib.nullcontext():
                if prepare is not None:
                    prepare()
                if not self.running:
                    self.start()
                if ready is not None:
                    ready()
                self.wait()
        except KeyboardInterrupt:
            pass
        finally:
            self.stop()

    def _run_processes(
        self,
        processes: int,
        prepare: Callable[[], object] | None,
        ready: Callable[[], object] | None,
    ) -> None:
        from .processes.supervisor import Supervisor

        if self.running:
            raise RuntimeError("the server is running, in threads that no process can inherit")
        if self._files is not None:
            # What is wrong with them is told here; each process reads them for itself.
            self._tls = server_context(*self._files)

        def serve(sockets: list[socket.socket]) -> Engine:
            if prepare is not None:
                prepare()
            return self._start(sockets)

        def begin() -> None:
            log.info("Serving on %s", self.url)
            if ready is not None:
                ready()

        with Supervisor(serve, self.addr, processes, self._options["backlog"]) as supervisor:
            self._place = (supervisor.address, supervisor.is_unix)
            supervisor.run(begin)

    @property
    def running(self) -> bool:
        """Whether it serves."""
        engine = self._engine
        return engine is not None and not engine.ended

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that it listens on, or (path, 0).

        :raises RuntimeError: before the first start, as port 0 is not decided yet.
        """
        return self._listens_at()[0]

    def _listens_at(self) -> tuple[tuple[str, int], bool]:
        if self._place is None:
            raise RuntimeError("the server has no address before it is started")
        return self._place

    @property
    def url(self) -> str:
        """Where a client on this machine reaches it, without a slash at the end.

        For a UNIX socket it is ``http+unix://`` (over TLS ``https+unix://``) and the path, with
        each slash written ``%2F``.

        :raises RuntimeError: before the first start.
        """
        (host, port), is_unix = self._listens_at()
        scheme = "http" if self._tls is None else "https"
        if is_unix:
            return f"{scheme}+unix://{host.replace('/', '%2F')}"
        if host in ("0.0.0.0", "::"):  # noqa: S104
            host = "127.0.0.1"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def replace_certificate(self, privkey: Path, cert: Path) -> None:
        """Use another key and certificate for the connections that come from now on.

        :raises OSError: if they cannot be used; the old ones stay.
        :raises ValueError: if the server runs without TLS.
        """
        context = server_context(privkey, cert)
        with self._lock:
            if self._engine is not None and not self._engine.ended:
                self._engine.use_tls(context)
            self._files, self._tls = (privkey, cert), context

    def __enter__(self) -> Self:
        """Start, unless it is running."""
        if not self.running:
            self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def __repr__(self) -> str:
        state = f"serving on {self.url}" if self.running else "not running"
        return f"<HTTPServer {state}>"


def _default_limits() -> Limits:
    from .protocol.limits import Limits

    return Limits()


def _default_loops() -> int:
    """One, or as many as there are cores if threads can run Python on all of them at once."""
    gil_enabled = getattr(sys, "_is_gil_enabled", None)  # 3.13
    if gil_enabled is None or gil_enabled():
        return 1
    cores: int | None = getattr(os, "process_cpu_count", os.cpu_count)()
    return cores or 1


def _wait_heeding_signals(engine: Engine) -> None:
    """Wait for the end in the main thread, or for what the handler of a signal raises.

    A signal that comes just before a lock is waited for would be heeded with the next one only, and
    on Windows none is; what a selector waits for it finds, be it there before or not.
    """
    if os.name == "nt":
        while not engine.wait(1.0):
            pass
        return
    from .processes.waker import Waker

    waker = Waker()
    try:
        engine.on_end(lambda: waker.tell(0))
        with selectors.DefaultSelector() as selector:
            selector.register(waker.reader, selectors.EVENT_READ)
            while not engine.ended:
                selector.select()
                waker.take()
    finally:
        engine.on_end(None)
        waker.close()


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Have SIGINT and SIGTERM interrupt the main thread, as it waits."""
    # What waiting needs is imported before it can be interrupted, as an import is hard to.
    if os.name != "nt":
        from .processes import waker  # noqa: F401

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@atexit.register
def _stop_all() -> None:
    """Stop what is still running before the interpreter takes its threads' ground away."""
    deadline = time.monotonic() + 1.0
    for server in list(_running):
        server.stop(deadline - time.monotonic())


def _forget_stopped() -> None:
    for server in list(_running):
        if not server.running:
            _running.discard(server)
