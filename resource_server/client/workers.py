"""The threads of a client: started when there is work, and gone when there has been none."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds that a thread waits for more work before it ends.
IDLE = 10.0


class Workers:
    """Runs what it is given, in at most `most` threads; what is given must not raise."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._queue: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._lock = threading.Lock()  # guards the following
        self._threads: set[threading.Thread] = set()
        # Of jobs not yet begun, and threads that wait for one.
        self._free = 0
        self._number = 0

    def do(self, job: Callable[[], object]) -> None:
        """Have a job done as soon as there is a thread for it.

        Raises RuntimeError if there is none, and the system does not let one be started.
        """
        with self._lock:
            if self._free <= 0 and len(self._threads) < self._most:
                try:
                    self._start()
                except RuntimeError:
                    if not self._threads:
                        raise
            self._free -= 1
            self._queue.put(job)

    def _start(self) -> None:
        self._number += 1
        name = f"{self._name}-{self._number}"
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        thread.start()
        self._threads.add(thread)
        self._free += 1

    def _run(self) -> None:
        """Do jobs until there is none for a while, or the threads are to stop."""
        queue = self._queue
        while True:
            try:
                job = queue.get(timeout=IDLE)
            except Empty:
                with self._lock:
                    # A job may have been promised this thread meanwhile, or its end.
                    if self._free > 0 and self._queue is queue:
                        self._free -= 1
                        self._threads.discard(threading.current_thread())
                        return
                continue
            if job is None:
                return
            job()
            # Not kept alive while waiting for the next.
            del job
            with self._lock:
                if self._queue is queue:
                    self._free += 1

    def stop(self, timeout: float | None) -> bool:
        """End the threads when they are done; wait for them up to `timeout` seconds.

        Returns whether they have ended. Jobs that were not begun are forgotten.
        """
        ends = None if timeout is None else monotonic() + timeout
        with self._lock:
            threads, self._threads = self._threads, set()
            queue, self._queue = self._queue, SimpleQueue()
            self._free = 0
            for _ in threads:
                queue.put(None)
        ended = True
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(None if ends is None else max(0.0, ends - monotonic()))
                ended = ended and not thread.is_alive()
        return ended
