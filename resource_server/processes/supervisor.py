"""The parent: it starts the workers, replaces them and ends them."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import math
import os
import selectors
import signal
import socket
import threading
import time

from ..engine.listener import Address, Place, bind_for_each
from .slot import Slot, Worker
from .waker import Waker, note
from .worker import FAILED, LEAVING, READY, flush, work

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Any, NoReturn, Self

    from .worker import Serve

log = logging.getLogger("resource_server.processes")

#: Seconds that a worker gets for the requests under way when it shall end.
DRAIN = 30.0
#: Seconds after these until a worker that has not ended is killed, and after a hurried stop.
KILL_AFTER = 2.0
#: Seconds until a worker that died is replaced: none for the first, this for one that died soon,
#: then twice as many, …
FIRST_PAUSE = 0.5
#: … up to these.
LONGEST_PAUSE = 8.0
#: Seconds after which a worker did not die soon.
STABLE = 5.0
_READ = selectors.EVENT_READ


class Supervisor:
    """Starts workers, replaces them and ends them. In the main thread; it serves once.

    :param serve: run in each worker: gives a server that serves on these sockets, or raises.
    :param address: see :func:`~resource_server.engine.listener.bind`.
    :param processes: how many workers.
    :param drain: seconds that a worker gets for the requests under way when it shall end.
    :raises RuntimeError: where processes cannot be forked.
    :raises OSError: if the address cannot be had.
    :raises TypeError: if it is none.
    """

    def __init__(
        self, serve: Serve, address: Address, processes: int, backlog: int, drain: float = DRAIN
    ) -> None:
        _require_fork()
        self._serve = serve
        self._drain = drain
        self._slots = [Slot(sockets) for sockets in bind_for_each(address, backlog, processes)]
        self._place = Place(self._slots[0].sockets[0])
        #: host and port, or path and 0
        self.address = self._place.address
        self.is_unix = not self._place.is_tcp
        # All that have not ended, those that leave among them.
        self._workers: list[Worker] = []
        # What SIGHUP has left to do: slots, and workers that have yet to leave.
        self._reloading = False
        self._to_replace: list[Slot] = []
        self._going: list[Worker] = []
        self._started = False
        self._stopping = False
        # Why the first workers cannot serve.
        self._failure: str | None = None
        self._follows_terminal = False
        self._handlers: dict[int, Any] = {}
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> Self:
        """Nothing more."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the sockets."""
        self._selector.close()
        self._close_sockets()

    def _close_sockets(self) -> None:
        for slot in self._slots:
            for sock in slot.sockets:
                sock.close()
        self._place.clear()

    def run(self, ready: Callable[[], object]) -> None:
        """Serve until SIGTERM, SIGINT, or until the application stops one of the servers.

        :param ready: called when all workers are.
        :raises ChildProcessError: if one cannot serve; the others have ended then.
        :raises OSError: if one cannot be started.
        """
        with self._signals():
            try:
                for slot in self._slots:
                    slot.worker = self._start(slot)
                while not self._started and not self._stopping:
                    self._turn()
                if not self._stopping:
                    ready()
                while not self._stopping:
                    self._turn()
            finally:
                self._begin_stop()
                while self._workers:
                    self._turn()
        if self._failure is not None:
            raise ChildProcessError(f"a process cannot serve: {self._failure}")

    def _turn(self) -> None:
        """Wait for what happens next, and do what it asks for."""
        due = min(
            [math.inf, *(slot.due for slot in self._slots), *(w.kill_at for w in self._workers)]
        )
        timeout = None if due == math.inf else max(0.0, due - time.monotonic())
        for key, _ in self._selector.select(timeout):
            key.data()
        now = time.monotonic()
        for worker in self._workers:
            if worker.kill_at <= now:
                worker.kill_at = math.inf
                log.warning("Process %d does not end in time and is killed.", worker.pid)
                worker.send(signal.SIGKILL)
        for slot in self._slots:
            if slot.due <= now:
                slot.due = math.inf
                slot.worker = self._try_to_start(slot)
        if self._started and not self._stopping:
            self._replace_next()

    # -- signals ---------------------------------------------------------------------------

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Have the selector report signals."""
        wishes = {
            signal.SIGCHLD: self._reap,
            signal.SIGTERM: self._stop,
            signal.SIGINT: self._stop,
            signal.SIGHUP: self._reload,
        }
        self._waker = waker = Waker()

        def take() -> None:
            for number in waker.take():
                # There may be handlers of the application's for others.
                if number in wishes:
                    wishes[signal.Signals(number)]()

        self._selector.register(waker.reader, _READ, take)
        for number in wishes:
            self._handlers[number] = signal.signal(number, note)
        self._follows_terminal = self._handlers[signal.SIGHUP] == signal.SIG_DFL and _has_terminal()
        try:
            yield
        finally:
            waker.close()
            self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._handlers.items():
            # None stands for one that is not Python's, which cannot be had back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    # -- workers' lives --------------------------------------------------------------------

    def _start(self, slot: Slot) -> Worker:
        """Fork a worker.

        :raises OSError: if the system has no process or descriptor left.
        """
        ours, theirs = socket.socketpair()
        # What is in the buffers is not to be written by both.
        flush()
        # Until it has handlers of its own, a signal to the new process would be taken for one to
        # the parent, whose pipe it has.
        masked = signal.pthread_sigmask(signal.SIG_BLOCK, list(self._handlers))
        try:
            pid = os.fork()
            if pid == 0:
                ours.close()
                self._be_worker(slot, theirs, masked)
        except OSError:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            theirs.close()
        ours.setblocking(False)
        worker = Worker(pid, ours, slot)
        self._workers.append(worker)
        self._selector.register(ours, _READ, functools.partial(self._hear, worker))
        return worker

    def _try_to_start(self, slot: Slot) -> Worker | None:
        """Start a worker; None, and once more in a while, if the system cannot."""
        try:
            return self._start(slot)
        except OSError as error:
            pause = self._postpone(slot)
            log.error("No process could be started (%s); tried again in %g s.", error, pause)
            return None

    def _postpone(self, slot: Slot) -> float:
        """Have a worker started, later each time; in how many seconds."""
        pause = slot.pause
        slot.due = time.monotonic() + pause
        slot.pause = min(max(FIRST_PAUSE, 2 * pause), LONGEST_PAUSE)
        return pause

    def _hear(self, worker: Worker) -> None:
        if worker not in self._workers:
            # It has ended since the selector reported it.
            return
        if not worker.listen():
            # About to end: SIGCHLD tells the rest.
            self._selector.unregister(worker.link)
        elif worker.stopped:
            self._begin_stop()
        elif worker.said == READY:
            self._welcome(worker)
        elif worker.said == READY + LEAVING:
            self._see_off(worker)

    def _see_off(self, worker: Worker) -> None:
        """A worker leaves: have another one in its place, unless that is why it does."""
        slot = worker.slot
        if worker in self._going:
            self._going.remove(worker)
        elif slot.worker is worker and not self._stopping:
            worker.kill_at = time.monotonic() + self._drain + KILL_AFTER
            log.warning("Process %d was told to end; another one takes its place.", worker.pid)
            slot.worker, slot.successor = slot.successor, None
            if slot.worker is None:
                slot.worker = self._try_to_start(slot)

    def _welcome(self, worker: Worker) -> None:
        """A worker is ready: let the one that it replaces go."""
        worker.ready_since = now = time.monotonic()
        slot = worker.slot
        if slot.successor is worker:
            old, slot.worker, slot.successor = slot.worker, worker, None
            if old is not None:
                self._going.append(old)
                old.send(signal.SIGTERM)
                old.kill_at = now + self._drain + KILL_AFTER
        if self._complete():
            self._started = True

    def _reap(self) -> None:
        """See which workers have ended."""
        for worker in list(self._workers):
            try:
                pid, status = os.waitpid(worker.pid, os.WNOHANG)
            except ChildProcessError:
                # Somebody else has waited for it, or the system was told not to keep its status.
                pid, status = worker.pid, 0
            if pid:
                while worker.listen():
                    pass
                with contextlib.suppress(KeyError):
                    self._selector.unregister(worker.link)
                worker.link.close()
                self._workers.remove(worker)
                if worker in self._going:
                    self._going.remove(worker)
                self._mourn(worker, os.waitstatus_to_exitcode(status))

    def _mourn(self, worker: Worker, code: int) -> None:
        """A worker has ended: replace it, unless it should have."""
        slot = worker.slot
        if worker.said.startswith(FAILED):
            reason = worker.said[len(FAILED) :].decode("utf-8", "replace")
        else:
            reason = f"it ended by {_name(-code)}" if code < 0 else f"it ended with code {code}"
        if slot.successor is worker:
            slot.successor = None
            self._to_replace, self._reloading = [], False
            if not self._stopping:
                log.error("A new process cannot serve, so the old ones go on: %s", reason)
        elif slot.worker is worker:
            # One that was to replace it does so now.
            slot.worker, slot.successor = slot.successor, None
            if self._stopping or worker.stopped:
                self._begin_stop()
            elif not self._started:
                self._failure = reason
                self._begin_stop()
            elif slot.worker is None:
                self._replace_dead(worker, reason)

    def _replace_dead(self, worker: Worker, reason: str) -> None:
        slot = worker.slot
        if time.monotonic() - worker.ready_since >= STABLE:
            slot.pause = 0.0
        pause = self._postpone(slot)
        when = f"in {pause:g} s" if pause else "now"
        log.warning("Process %d is replaced %s: %s", worker.pid, when, reason)

    def _reload(self) -> None:
        """SIGHUP: replace all workers, one after the other; the end of the terminal ends them."""
        if self._follows_terminal and not _has_terminal():
            self._stop()
        else:
            # Those that have died first, as the others may be left alone if the first one fails.
            self._to_replace = sorted(self._slots, key=lambda slot: slot.worker is not None)
            self._reloading = True

    def _replace_next(self) -> None:
        """Go on with what SIGHUP asked for."""
        while self._to_replace and not any(slot.successor for slot in self._slots):
            slot = self._to_replace.pop(0)
            slot.pause = 0.0
            if slot.worker is None:
                slot.due = math.inf
                slot.worker = self._try_to_start(slot)
                continue
            try:
                slot.successor = self._start(slot)
            except OSError as error:
                self._to_replace, self._reloading = [], False
                log.error("No new process could be started, so the old ones go on: %s", error)
        if self._reloading and not self._to_replace and not self._going and self._complete():
            self._reloading = False
            log.info("All processes have been replaced.")

    def _complete(self) -> bool:
        """Whether there are as many workers as there shall be, and no more."""
        return all(
            slot.worker is not None and slot.worker.ready and slot.successor is None
            for slot in self._slots
        )

    # -- the end ---------------------------------------------------------------------------

    def _stop(self) -> None:
        """Have the workers stop; hurry, when they are stopping."""
        if not self._stopping:
            self._begin_stop()
            return
        soon = time.monotonic() + KILL_AFTER
        for worker in self._workers:
            worker.send(signal.SIGTERM)
            worker.kill_at = min(worker.kill_at, soon)

    def _begin_stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._close_sockets()
        for slot in self._slots:
            slot.due = math.inf
        end = time.monotonic() + self._drain + KILL_AFTER
        for worker in self._workers:
            if not worker.ready:
                # It may be far from looking at its link.
                worker.send(signal.SIGTERM)
            worker.end_link()
            worker.kill_at = min(worker.kill_at, end)

    # -- the worker's process --------------------------------------------------------------

    def _be_worker(self, slot: Slot, link: socket.socket, masked: set[Any]) -> NoReturn:
        """All of a worker's life. What the parent would do at its end, this process does not."""
        code = 1
        try:
            atexit._clear()
            self._leave_parent(slot)
            signal.pthread_sigmask(signal.SIG_SETMASK, masked)
            code = work(self._serve, slot.sockets, link, self._drain)
        except BaseException:
            log.exception("A process failed; this is a defect of resource_server.")
        finally:
            os._exit(code)

    def _leave_parent(self, slot: Slot) -> None:
        """Give back what is the parent's."""
        self._waker.close()
        signal.set_wakeup_fd(-1)
        self._restore_handlers()
        # The terminal sends these to all its processes; the parent decides what they mean. Not
        # ignored, which programs that the application starts would inherit.
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, note)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._selector.close()
        for worker in self._workers:
            worker.link.close()
        for other in self._slots:
            for sock in other.sockets:
                if sock not in slot.sockets:
                    sock.close()


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _has_terminal() -> bool:
    """Whether this process has a terminal that controls it, and that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _require_fork() -> None:
    if not hasattr(os, "fork"):
        raise RuntimeError("several processes need fork, which this system has not: run one")
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("several processes are run from the main thread, which gets the signals")
    others = [t.name for t in threading.enumerate() if t is not threading.current_thread()]
    if others:
        raise RuntimeError(
            f"other threads are running ({', '.join(others)}), and a fork would take along what "
            "they hold, but not them: start them in `prepare`, once in each process"
        )
