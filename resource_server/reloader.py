"""Restart the command line's server when a file of the app changes.

A parent process does nothing but start a child with the same arguments, and start it again when it
ends with ``CHANGED``. The child serves, and a thread in it compares the modification times of the
files of all loaded modules with those it saw first. So code is never reloaded inside a running
interpreter, and a child that cannot import the app only waits for the next change.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Exit code with which a child asks to be started again.
CHANGED = 3
#: Seconds between two looks at the files: soon enough for a person, and no load.
POLL_SECONDS = 0.5
#: Seconds a child may take to end by itself after Ctrl-C, which a terminal sends to both processes.
CHILD_ENDS_WITHIN = 1.0
#: Seconds a child may take after that until it is killed; more than its server takes to stop.
CHILD_STOPS_WITHIN = 10.0

_CHILD_MARK = "RESOURCE_SERVER_RELOAD_CHILD"


def is_child() -> bool:
    """Tell whether this process was started by ``supervise``; forgets it, so ask once.

    Otherwise a server that the app itself starts as a process would take itself for a child.
    """
    return os.environ.pop(_CHILD_MARK, None) is not None


def supervise() -> int:
    """Run this same command as a child, again and again while its files change.

    Returns the exit code: 0 after KeyboardInterrupt, which ends the child as well; otherwise the
    child's own.
    """
    command = [sys.executable, *sys.orig_argv[1:]]
    child: subprocess.Popen[bytes] | None = None
    try:
        while True:
            child = subprocess.Popen(command, env={**os.environ, _CHILD_MARK: "1"})  # noqa: S603
            code = child.wait()
            if code != CHANGED:
                return code if code >= 0 else 1
    except KeyboardInterrupt:
        if child is not None:
            _end(child)
        return 0


def _end(child: subprocess.Popen[bytes]) -> None:
    """See a child out: by itself, asked, or killed; it is reaped in any case."""
    try:
        child.wait(CHILD_ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        child.terminate()
        try:
            child.wait(CHILD_STOPS_WITHIN)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


class Watcher:
    """A thread that looks for changes of the files of loaded modules, and of others it is told of.

    Methods may be called by any thread. The thread is a daemon and ends after the first change.
    """

    def __init__(self, files: Iterable[str] = ()) -> None:
        self._parent = os.getppid()
        self._lock = threading.Lock()  # guards _seen and _on_change
        self._seen: dict[str, tuple[int, int] | None] = {}
        self._on_change: Callable[[], object] | None = None
        self._changed = threading.Event()
        self.changed_file = ""
        self.add(files)
        threading.Thread(target=self._run, name="resource_server-reloader", daemon=True).start()

    @property
    def changed(self) -> bool:
        """Whether a file has changed."""
        return self._changed.is_set()

    def add(self, files: Iterable[str]) -> None:
        """Watch these files and directories too, from what they are now; they need not exist."""
        with self._lock:
            for file in files:
                if file not in self._seen:
                    self._seen[file] = _state(file)

    def add_modules(self) -> None:
        """Watch the files of all modules loaded by now; later ones are found at each look."""
        files = [getattr(module, "__file__", None) for module in sys.modules.copy().values()]
        self.add(file for file in files if isinstance(file, str))

    def on_change(self, action: Callable[[], object]) -> None:
        """Call ``action`` when a file changes, in the watching thread; at once if one has."""
        with self._lock:
            self._on_change = action
            late = self._changed.is_set()
        if late:
            action()

    def wait(self) -> None:
        """Block until a file changes."""
        self._changed.wait()

    def _run(self) -> None:
        pause = threading.Event()
        while not self._find_change():
            pause.wait(POLL_SECONDS)
        with self._lock:
            self._changed.set()
            action = self._on_change
        if action is not None:
            action()

    def _find_change(self) -> bool:
        if os.getppid() != self._parent:
            # The parent was killed, so nobody would start this process again or end it.
            return True
        self.add_modules()
        with self._lock:
            for file, seen in self._seen.items():
                now = _state(file)
                # A file that is gone is being replaced by an editor, or will fail where it is used.
                if now is not None and now != seen:
                    self.changed_file = file
                    return True
        return False


def _state(file: str) -> tuple[int, int] | None:
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size
