"""One thread that calls what is due: it cuts what has taken too long."""

from __future__ import annotations

import threading
from heapq import heappop, heappush
from itertools import count
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# A watchdog with nothing to watch lives this long (seconds), so that requests that come one by one
# do not each start a thread.
IDLE = 5.0
# Entries that were called off are swept out when there are more of them, and more than others.
_MANY = 256


class Alarm:
    """A call at a time; `off` calls it off."""

    __slots__ = ("_action", "_watchdog")

    def __init__(self, action: Callable[[], object], watchdog: Watchdog) -> None:
        self._action: Callable[[], object] | None = action
        self._watchdog = watchdog

    @property
    def on(self) -> bool:
        """Whether it is still to be called."""
        return self._action is not None

    def off(self) -> None:
        """Call it off; it may be under way in the watchdog's thread."""
        if self._action is not None:
            self._action = None
            self._watchdog.called_off()

    def ring(self) -> None:
        """Make the call."""
        action, self._action = self._action, None
        if action is not None:
            action()


class Watchdog:
    """Calls functions when their time has come, in a thread that is there while there are any."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._condition = threading.Condition()  # guards all of the following
        self._alarms: list[tuple[float, int, Alarm]] = []
        self._numbers = count()
        self._off = 0
        self._thread: threading.Thread | None = None
        self._wakes_at = 0.0

    def at(self, when: float, action: Callable[[], object]) -> Alarm:
        """Have `action` called at a time of the monotonic clock; it may not block or raise."""
        alarm = Alarm(action, self)
        with self._condition:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                thread.start()
                self._thread = thread
            elif when < self._wakes_at:
                self._condition.notify()
            heappush(self._alarms, (when, next(self._numbers), alarm))
        return alarm

    def called_off(self) -> None:
        """Forget alarms that are off, now and then."""
        self._off += 1
        if self._off > _MANY and self._off * 2 > len(self._alarms):
            with self._condition:
                kept = [entry for entry in self._alarms if entry[2].on]
                kept.sort()
                self._alarms = kept
                self._off = 0

    def stop(self, timeout: float | None, wanted: Callable[[], bool] = lambda: True) -> None:
        """End the thread, without calling what is not due; waits for it up to `timeout` seconds.

        That is if it is still `wanted`: whoever needs the watchdog again has changed that before.
        """
        with self._condition:
            if not wanted():
                return
            thread, self._thread = self._thread, None
            self._alarms.clear()
            self._condition.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def _run(self) -> None:
        """Call what is due until stopped, or until there has been nothing for a while."""
        while True:
            with self._condition:
                due = self._due()
            if not due:
                return
            for alarm in due:
                alarm.ring()

    def _due(self) -> list[Alarm]:
        """Wait for alarms whose time has come; none if the thread is to end. Needs the lock."""
        idle = False
        while self._thread is threading.current_thread():
            now = monotonic()
            alarms = self._alarms
            due = []
            while alarms and (alarms[0][0] <= now or not alarms[0][2].on):
                due.append(heappop(alarms)[2])
            due = [alarm for alarm in due if alarm.on]
            if due:
                return due
            if not alarms and idle:
                self._thread = None
                break
            self._wakes_at = alarms[0][0] if alarms else now + IDLE
            idle = not self._condition.wait(self._wakes_at - now) and not self._alarms
        return []
