"""What the benches share: other servers' packages, and programs that obey lines."""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import subprocess
import sys
import tempfile
import time
import venv
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

ROOT = Path(__file__).resolve().parents[2]
CROWD = [sys.executable, str(Path(__file__).with_name("crowd.py"))]
#: Where the other servers are installed unless an option names a place.
ENVIRONMENT = Path(tempfile.gettempdir()) / "resource_server-peers"
PEERS = ("websockets", "aiohttp", "simple-websocket", "werkzeug")


def peers_python(directory: Path, packages: Sequence[str] = PEERS) -> str:
    """The Python of a virtual environment that has the peers; it is made where there is none."""
    python = str(directory / "bin" / "python")
    versions = [python, "-c", "from importlib.metadata import version as v; import sys\n"]
    versions[2] += (
        f"print('Python', sys.version.split()[0], *(p+' '+v(p) for p in {tuple(packages)}))"
    )
    if not os.path.exists(python):
        venv.create(directory, with_pip=True)
    if subprocess.run(versions, capture_output=True, check=False).returncode:
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *packages], check=False)  # what is missing is left out, and said
    subprocess.run(versions, check=False, stderr=subprocess.DEVNULL)
    return python


@cache
def cores() -> tuple[int, int]:
    """One for the server and another for the load, as far as there are two."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        print("only one core: the load takes its time from the server's")
    return allowed[0], allowed[-1]


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
    """How long a core has not been idle, whoever used it; the hypervisor, too."""
    text = Path("/proc/stat").read_text()
    ticks = [int(field) for field in text.split(f"\ncpu{core} ")[1].split("\n")[0].split()]
    return (sum(ticks[:8]) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


class Program:
    """A process on one core that obeys lines and answers by lines, each within a deadline.

    As a context manager it ends the process, and nobody waits for it longer than ten seconds.
    """

    def __init__(self, command: Sequence[str], core: int) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._unread = b""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {core})  # inherited, with all its threads
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        finally:
            os.sched_setaffinity(0, before)
        self.pid = self._process.pid

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self.failure("it ended") from None

    def hear(self, seconds: float = 60.0) -> Any:
        """The next line that it prints, from JSON."""
        assert self._process.stdout is not None
        descriptor, end = self._process.stdout.fileno(), time.monotonic() + seconds
        while b"\n" not in self._unread:
            if not select.select([descriptor], [], [], max(0, end - time.monotonic()))[0]:
                raise self.failure(f"it said nothing for {seconds:g} seconds")
            piece = os.read(descriptor, 65536)
            if not piece:
                self._process.wait(10)
                raise self.failure("it ended")
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return json.loads(line)

    def ask(self, line: str, seconds: float = 60.0) -> Any:
        self.tell(line)
        return self.hear(seconds)

    def wait_until_it_listens(self, port: int) -> None:
        for _ in range(200):
            if self._process.poll() is not None:
                raise self.failure("it ended at once")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise self.failure("it does not listen")

    def failure(self, what: str) -> RuntimeError:
        """The error that tells what it was that went wrong, in the program's own last words."""
        self._stderr.seek(max(0, self._stderr.seek(0, os.SEEK_END) - 4000))
        words = self._stderr.read().decode(errors="replace").strip().rpartition("\n")[2]
        return RuntimeError(f"{what}: {words}" if words else what)

    def status(self, name: str) -> int:
        """A number of /proc/PID/status: `Threads`, or `VmRSS` in KiB."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(text.split(f"\n{name}:")[1].split()[0])

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
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        try:
            self._process.stdin.close()
        except BrokenPipeError:
            pass
        self._process.stdout.close()
        self._stderr.close()
