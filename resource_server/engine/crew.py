"""The threads: whoever has nothing to do waits for the next job, and roles are jobs like any other.

``Loop.lead`` and ``Loop.stand_by`` are jobs that last; a slow request's handler is one that does
not. A thread is started when a job finds nobody waiting, and ends after a while without work.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from .defects import log_exception

Job = Callable[[], object]

#: Seconds that a thread waits for work before it ends.
IDLE = 5.0
#: Threads beside the workers, for each loop: the leader and its standby.
ROLES = 2
#: Jobs that wait for their client and do not count as workers; beyond them such waits are short.
MAX_WAITING = 256

_numbers = itertools.count(1)


class Crew:
    """A pool of daemon threads that grows on demand and shrinks when idle.

    :param workers: how many jobs may run at once, beside the roles.
    :param loops: how many loops it serves, with two roles each.
    """

    def __init__(self, workers: int, loops: int = 1) -> None:
        self._roles = ROLES * loops
        self._limit = workers + self._roles
        # Those that have not ended.
        self._loops = loops
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        # Guards everything below, of which only the set is read without it. Never held while a job
        # runs or a thread starts working.
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        # How many of them take jobs: one that has decided to end does not.
        self._count = 0
        # Jobs under way that do nothing but wait for their client.
        self._waiting = 0
        # Jobs that last, and do not count as workers.
        self._hosted = 0
        # Threads that wait for a job, less jobs not yet taken: one that makes it negative finds
        # nobody.
        self._spare = 0
        self._closed = False

    # -- any thread ------------------------------------------------------------------------

    def submit(self, job: Job, *, role: bool = False) -> bool:
        """Have ``job`` run by some thread of the crew, soon; later if all are busy.

        :param role: start a thread for it even beyond the limit: a loop without a leader, or a
            leader without a standby, would wait for handlers to end.
        :returns: False if the crew has been closed, and the job is not run.
        :raises RuntimeError: if a thread is needed and the system has none left.
        """
        with self._lock:
            if self._closed:
                return False
            if self._spare > 0 or (self._count >= self._allowed() and not role):
                self._spare -= 1
                self._jobs.put(job)
                return True
            thread = self._enlist(job)
        error = self._start(thread)
        if error is None:
            return True
        with self._lock:
            others = self._count > self._roles
            if others and not role:
                # No thread to be had: one of those that run takes the job when it is done.
                self._spare -= 1
                self._jobs.put(job)
                return True
        raise error

    def host(self, job: Job) -> None:
        """Have ``job``, which lasts, run in a thread that does not count as a worker's.

        :raises RuntimeError: if the system has no thread left.
        """

        def hosted() -> None:
            try:
                job()
            finally:
                self._count_hosted(-1)

        self._count_hosted(1)
        try:
            self.submit(hosted, role=True)
        except RuntimeError:
            self._count_hosted(-1)
            raise

    def _count_hosted(self, change: int) -> None:
        with self._lock:
            self._hosted += change

    def begin_waiting(self) -> bool:
        """Tell, in a job, that it waits for its client from now on: another may work meanwhile.

        So clients that take or send their bytes slowly do not use up the workers.

        :returns: whether it may wait long; not so when very many do already.
        """
        thread = None
        with self._lock:
            self._waiting += 1
            if self._spare < 0 and self._count < self._allowed() and not self._closed:
                thread = self._enlist(None)
            patient = self._waiting <= MAX_WAITING
        if thread is not None:
            self._start(thread)
        return patient

    def end_waiting(self) -> None:
        """Tell that the wait is over."""
        with self._lock:
            self._waiting -= 1

    def _allowed(self) -> int:
        return self._limit + self._hosted + min(self._waiting, MAX_WAITING)

    def _enlist(self, job: Job | None) -> threading.Thread:
        # With the lock held. The thread begins with `job`, or with the first that waits.
        thread = threading.Thread(
            target=self._run, args=([job],), name=f"resource_server-{next(_numbers)}", daemon=True
        )
        self._threads.add(thread)
        self._count += 1
        return thread

    def _start(self, thread: threading.Thread) -> RuntimeError | None:
        try:
            thread.start()
        except RuntimeError as error:
            with self._lock:
                self._threads.discard(thread)
                self._count -= 1
            return error
        return None

    def queue(self, job: Job) -> None:
        """Have ``job`` run by the next thread that is free, and start none for it."""
        with self._lock:
            self._spare -= 1
            self._jobs.put(job)

    @property
    def has_backlog(self) -> bool:
        """Whether jobs wait for a thread."""
        return self._spare < 0

    def close(self) -> None:
        """A loop has ended: after the last one take no more jobs, and let every thread end.

        Those that wait are taken before.
        """
        with self._lock:
            self._loops -= 1
            if self._loops > 0:
                return
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)

    def join(self, deadline: float) -> bool:
        """Wait until all threads have ended.

        :param deadline: ``time.monotonic`` seconds, how long at most.
        :returns: whether they have. The calling thread, if it is of the crew, does not count.
        """
        this = threading.current_thread()
        with self._lock:
            threads = [thread for thread in self._threads if thread is not this]
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def includes_caller(self) -> bool:
        """Whether the calling thread is one of the crew."""
        return threading.current_thread() in self._threads

    @property
    def size(self) -> int:
        """How many threads there are."""
        return len(self._threads)

    # -- the crew's own threads ------------------------------------------------------------

    def _run(self, first: list[Job | None]) -> None:
        """Do jobs until there is none for a while. What a job raises is logged and ends nothing."""
        # Taken out, as the Thread keeps its arguments for as long as it runs.
        job = first.pop()
        while job := job or self._next():
            try:
                job()
            except BaseException:  # noqa: BLE001 - others wait for this thread
                log_exception("A job of the server failed; this is a defect of resource_server.")
            # A job holds its request; waiting must not keep that alive.
            job = None
        with self._lock:
            self._threads.discard(threading.current_thread())

    def _next(self) -> Job | None:
        """The next job, or None when this thread shall end."""
        with self._lock:
            if self._count > self._allowed():
                self._count -= 1
                return None
            self._spare += 1
        while True:
            try:
                return self._jobs.get(timeout=IDLE)
            except Empty:
                with self._lock:
                    # Otherwise a job has been counted on this thread and is about to arrive.
                    if self._spare > 0:
                        self._spare -= 1
                        self._count -= 1
                        return None
