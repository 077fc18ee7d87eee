"""Processes of the benches: each on its core, watched by /proc, and ended whatever happens.

Needs Linux. Where the system lets nobody choose cores, or there is but one, nothing is pinned.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

ROOT = Path(__file__).resolve().parents[2]
#: The clients of the WebSocket benches, and those that come in thousands.
LOAD = Path(__file__).with_name("load")
#: Seconds that a process has for its end.
ENDING = 10.0

_TICK = os.sysconf("SC_CLK_TCK")


@cache
def cores() -> tuple[int, int]:
    """One for the server and another for the load, as far as there are two."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        print("only one core: the load takes its time from the server's")
    return allowed[0], allowed[-1]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def raise_descriptors(wanted: int) -> int:
    """How many files a process may open now: as many as wanted, or what the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for soft_now, hard_now in ((wanted, max(wanted, hard)), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, soft_now), hard_now))
        except (ValueError, OSError):
            continue
        break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def busy_seconds(core: int) -> float:
    """How long a core has run programs, whoever's; or has been lent to another machine."""
    text = Path("/proc/stat").read_text()
    ticks = [int(field) for field in text.split(f"\ncpu{core} ")[1].split("\n")[0].split()]
    user, nice, system, _idle, _iowait, _irq, _softirq, steal = ticks[:8]
    return (user + nice + system + steal) / _TICK


def surroundings() -> dict[str, str]:
    """The environment of everything that is started, in which this project can be imported."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    # Who measures the start of a server does not want it to be compiled each time.
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    return variables


class Program:
    """A process on one core that obeys lines and answers by lines, each within a deadline.

    It has a session of its own, by which what it starts is found, counted and ended. As a context
    manager it ends them all, and nobody waits for that longer than some seconds.

    :param core: the core to run on, with all its threads and children; None for any.
    :param environment: variables beside those that this process has.
    """

    def __init__(
        self,
        command: Sequence[str],
        core: int | None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._unread = b""
        before = os.sched_getaffinity(0)
        if core is not None:
            os.sched_setaffinity(0, {core})  # inherited
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={**surroundings(), **(environment or {})},
                start_new_session=True,
            )
        except OSError as error:
            self._stderr.close()
            raise RuntimeError(f"it cannot be started: {error}") from error
        finally:
            os.sched_setaffinity(0, before)
        self.pid = self._process.pid

    # -- talking ---------------------------------------------------------------------------

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self.failure("it ended") from None

    def hear(self, seconds: float = 60.0) -> Any:
        """The next line that it prints, from JSON."""
        return json.loads(self.hear_line(seconds))

    def speaks_within(self, seconds: float) -> bool:
        """Whether there is something to be heard, be it the end."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], max(0.0, seconds))[0])

    def hear_line(self, seconds: float = 60.0) -> bytes:
        assert self._process.stdout is not None
        end = time.monotonic() + seconds
        while b"\n" not in self._unread:
            if not self.speaks_within(end - time.monotonic()):
                raise self.failure(f"it said nothing for {seconds:g} seconds")
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                self._process.wait(ENDING)
                raise self.failure("it ended")
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def ask(self, line: str, seconds: float = 60.0) -> Any:
        self.tell(line)
        return self.hear(seconds)

    def interrupt(self) -> None:
        """Send what Ctrl-C sends."""
        self._process.send_signal(signal.SIGINT)

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait_until_it_listens(self, port: int, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.ended:
                raise self.failure("it ended at once")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.002)
        raise self.failure("it does not listen")

    def failure(self, what: str) -> RuntimeError:
        """The error that tells what it was that went wrong, in the program's own last words."""
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - 4000))
        words = self._stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
        return RuntimeError(f"{what}: {words}" if words else what)

    # -- watching --------------------------------------------------------------------------

    def _stats(self) -> Iterator[tuple[int, list[str]]]:
        """Number and fields of stat, from the 3rd on, of all that belong to its session."""
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(fields[3]) == self.pid and fields[0] != "Z":
                yield int(stat.parent.name), fields

    def cpu_seconds(self) -> float:
        """User and system time of all, and of children of theirs that have ended."""
        return sum(sum(map(int, fields[11:15])) for _, fields in self._stats()) / _TICK

    def memory(self) -> int:
        """Resident bytes of all; a page that several share counts once."""
        total = 0
        for pid, _ in self._stats():
            try:
                text = Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += 1024 * int(text.split("\nPss:")[1].split()[0])
            except (OSError, IndexError):
                continue
        return total

    def threads(self) -> int:
        return sum(int(fields[17]) for _, fields in self._stats())

    def status(self, name: str) -> int:
        """A number of /proc/PID/status: `Threads`, or `VmRSS` in KiB."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(text.split(f"\n{name}:")[1].split()[0])

    # -- ending ----------------------------------------------------------------------------

    def _signal_all(self, number: signal.Signals) -> None:
        for pid, _ in self._stats():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # The first alone is asked: it ends its own children, as they would be replaced otherwise.
        if not self.ended:
            self._process.terminate()
        try:
            self._process.wait(ENDING / 4)
        except subprocess.TimeoutExpired:
            pass
        self._signal_all(signal.SIGKILL)
        self._process.wait(ENDING)
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        self._process.stdout.close()
        self._stderr.close()
