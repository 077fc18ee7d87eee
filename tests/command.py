"""A command in a process of its own, told by the lines that it writes."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parents[1]
#: Seconds after which a process that says nothing is given up; far more than any needs.
PATIENCE = 60.0


class Command:
    """A running command line, whose lines are read by threads so that waiting has an end."""

    def __init__(self, command: list[str], cwd: Path, env: dict[str, str]) -> None:
        self.cwd = cwd
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A group of its own: what it has started can be ended with it.
            start_new_session=True,
        )
        self.out: queue.Queue[str | None] = queue.Queue()
        self.err: queue.Queue[str | None] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.out)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.err)),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, lines: queue.Queue[str | None]) -> None:
        with stream:
            for line in stream:
                lines.put(line.rstrip("\n"))
        lines.put(None)

    def line(self, lines: queue.Queue[str | None] | None = None) -> str:
        """Return the next line of standard output (or error)."""
        line = (self.out if lines is None else lines).get(timeout=PATIENCE)
        assert line is not None, "the process has ended"
        return line

    def line_with(self, text: str, lines: queue.Queue[str | None] | None = None) -> str:
        """Return the next line of standard output (or error) that holds a text."""
        while text not in (line := self.line(lines)):
            pass
        return line

    def url(self) -> str:
        """Return the URL that the next line tells."""
        found = re.search(r" on (\S+) \(Ctrl-C stops it\)$", self.line())
        assert found
        return found[1]

    def rest(self, lines: queue.Queue[str | None]) -> list[str]:
        """Return all lines there are until the process ends."""
        return list(iter(lambda: lines.get(timeout=PATIENCE), None))

    def end(self, number: int = signal.SIGINT) -> tuple[int, list[str], list[str]]:
        """Send a signal, and return exit code, lines of output and of error."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, list[str], list[str]]:
        """Wait for the end, and return exit code, lines of output and of error."""
        code = self.process.wait(PATIENCE)
        return code, self.rest(self.out), self.rest(self.err)

    def close(self) -> None:
        """End the process in any case."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for reader in self._readers:
            reader.join(10)
        if os.name == "posix" and any(reader.is_alive() for reader in self._readers):
            # Somebody of its group is left who could write.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        for reader in self._readers:
            reader.join(PATIENCE)
