"""A server in a process of its own: its own interpreter, environment and port."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading

from .failures import ProcessFailed

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import IO, Self

_find_url = re.compile(r"^Serving .* on (\S+://\S+) \(Ctrl-C stops it\)$").match
#: Seconds for the process to end by itself, and then by being killed.
_ENDS_WITHIN = 10.0
_DIES_WITHIN = 5.0
#: Seconds for the rest of its output to be read.
_OUTPUT_ENDS_WITHIN = 1.0

# The new process reads its standard input, which ends when this one closes it or dies, however
# that comes: then it ends as by SIGTERM, and surely. Only then is it `python -m resource_server`.
_PROGRAM = """\
import os, runpy, signal, sys, threading, time

def follow_parent():
    try:
        while os.read(0, 1024):
            pass
    except OSError:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
    os._exit(1)

threading.Thread(target=follow_parent, daemon=True).start()
sys.path.extend({paths!r})
runpy.run_module("resource_server", run_name="__main__", alter_sys=True)
"""


class ServerProcess:
    """An application served by ``python -m resource_server`` on a free port of 127.0.0.1.

    ::

        with ServerProcess("app.py:Notes", env={**os.environ, "NOTES": str(tmp_path)}) as server:
            requests.get(f"{server.url}/notes/7", timeout=10)

    `app` is ``module:name`` or ``path/to/file.py:name``, as on the command line, whose further
    arguments are `args`; relative paths are below `cwd`, which is the current directory if None.
    `env` is the whole environment of the process, that of this one if None; `python` its
    interpreter. `timeout` is how many seconds it may take until it answers.

    As a context manager it starts and stops. The process is also ended when this one dies. An
    exception that leaves the block, and ProcessFailed, tell what the process wrote.
    """

    def __init__(
        self,
        app: str | os.PathLike[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        args: Sequence[str] = (),
        python: str | os.PathLike[str] = sys.executable,
        timeout: float = 10.0,
    ) -> None:
        self.app = os.fspath(app)
        self._env = None if env is None else dict(env)
        self._cwd = cwd
        self._args = list(args)
        self._python = os.fspath(python)
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        # The one that reads what it writes, and the one that waits for its end.
        self._reader: threading.Thread | None = None
        self._waiter: threading.Thread | None = None
        self._lines: list[str] = []
        self._url = ""
        # Set when the URL is known, and when the process has ended.
        self._heard = threading.Event()

    def __repr__(self) -> str:
        return f"<ServerProcess {self.app} {self._url or 'not running'}>"

    @property
    def url(self) -> str:
        """Where it is reached, without a slash at the end; RuntimeError before it has started."""
        if not self._url:
            raise RuntimeError("the process has no URL before it is started")
        return self._url

    @property
    def log(self) -> str:
        """What it has written by now, on standard output and standard error."""
        return "".join(self._lines)

    @property
    def pid(self) -> int | None:
        """The number of the process, None when there is none."""
        return None if self._process is None else self._process.pid

    @property
    def returncode(self) -> int | None:
        """The code that it ended with, None while it runs or before it has started."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start it, and return when it answers.

        Raises ProcessFailed if it ends before or takes longer than the timeout, RuntimeError if it
        runs already, OSError if there is no such interpreter or directory.
        """
        if self._process is not None and self._process.poll() is None:
            raise RuntimeError(f"the process runs already, at {self._url}")
        self._lines, self._url = [], ""
        self._heard.clear()
        self._process = process = self._spawn()
        assert process.stdout is not None
        self._reader = threading.Thread(
            target=self._read, args=(process.stdout,), name="resource_server-test-log", daemon=True
        )
        self._waiter = threading.Thread(
            target=self._await, args=(process,), name="resource_server-test-wait", daemon=True
        )
        self._reader.start()
        self._waiter.start()
        in_time = self._heard.wait(self._timeout)
        if self._url:
            return
        self.stop()
        if in_time:
            what = f"{self.app} ended with code {process.returncode} before it served"
        else:
            what = f"{self.app} did not serve within {self._timeout} seconds"
        raise ProcessFailed(what, self.log)

    def _spawn(self) -> subprocess.Popen[bytes]:
        import subprocess

        paths = []
        if self._python == sys.executable:
            # So that the package is found as it is here, installed or not.
            paths.append(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
        program = _PROGRAM.format(paths=paths)
        command = [self._python, "-u", "-c", program, self.app, "--port", "0", *self._args]
        return subprocess.Popen(  # noqa: S603 - what the test asks for
            command,
            cwd=self._cwd,
            env=self._env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A group of its own, so that what it has started can be ended with it.
            start_new_session=True,
        )

    def _read(self, output: IO[bytes]) -> None:
        """The reader's thread: keep what is written, until nobody is left who could write."""
        with output:
            for line in output:
                text = line.decode("utf-8", "backslashreplace").replace("\r\n", "\n")
                self._lines.append(text)
                found = _find_url(text.rstrip("\n"))
                if found and not self._url:
                    self._url = found[1]
                    self._heard.set()

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        """The waiter's thread: what the process has started may write on when it has ended."""
        process.wait()
        self._heard.set()

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for it to end by itself, up to `timeout` seconds (None for ever).

        Returns its code, None if it still runs or has not been started.
        """
        if self._waiter is not None:
            self._waiter.join(timeout)
        return self.returncode

    def stop(self) -> int | None:
        """End it: asked at first, killed if it takes more than 10 seconds. Returns its code.

        It does nothing if it does not run. What it has started itself and left behind is killed,
        where the system has groups of processes.
        """
        import subprocess

        process, reader = self._process, self._reader
        if process is None or reader is None:
            return self.returncode
        self._reader = None
        ran = process.poll() is None
        if ran:
            process.terminate()
        try:
            process.wait(_ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_DIES_WITHIN)
        assert process.stdin is not None
        process.stdin.close()
        # The end of the output comes with that of the last process that could write it; while
        # there is one, no other group can have the number.
        if not ran:
            reader.join(_OUTPUT_ENDS_WITHIN)
        if ran or reader.is_alive():
            _kill_group(process.pid)
        reader.join(_DIES_WITHIN)
        self.wait(_DIES_WITHIN)
        return process.returncode

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop; raises ProcessFailed if it had ended by itself, other than with code 0."""
        stopped = self._reader is None
        code = self.returncode
        self.stop()
        if error is not None:
            error.add_note(f"The output of {self.app}:\n{self.log}")
        elif code and not stopped:
            raise ProcessFailed(f"{self.app} ended by itself, with code {code}", self.log)


def _kill_group(group: int) -> None:
    """Kill what is left of a group of processes, on systems that have them."""
    if os.name == "posix":
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
