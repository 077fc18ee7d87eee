"""ServerProcess: an application in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import requests

from resource_server.testing import ProcessFailed, ServerProcess

PROJECT = Path(__file__).parents[2]
APP = """
import os, sys
from resource_server import Resource, get

class App(Resource):
    @get("/")
    def home(self, request):
        print("asked for", request.path, flush=True)
        return os.environ.get("GREETING", "none") + " " + os.getcwd()

    @get("/exit")
    def exit(self, request):
        os._exit(3)
"""
posix = pytest.mark.skipif(os.name != "posix", reason="signals and groups of processes")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "served.py"
    path.write_text(APP)
    return path


def test_it_serves_until_the_block_ends(app: Path) -> None:
    server = ServerProcess(app, args=["--no-access-log"])
    assert (server.pid, server.returncode, server.stop()) == (None, None, None)
    assert repr(server) == f"<ServerProcess {app} not running>"
    with pytest.raises(RuntimeError, match="before it is started"):
        _ = server.url
    with server:
        assert requests.get(server.url, timeout=30).text.startswith("none ")
        assert server.pid not in (None, os.getpid())
        assert server.returncode is None
        assert server.url in repr(server)
        with pytest.raises(RuntimeError, match="runs already"):
            server.start()
    assert server.returncode == 0 or os.name == "nt"
    assert server.log.startswith(f"Serving {app} on http://127.0.0.1:")
    assert "asked for /\n" in server.log


def test_it_has_an_environment_and_a_directory_of_its_own(app: Path) -> None:
    env = {**os.environ, "GREETING": "hi"}
    with ServerProcess("served:App", env=env, cwd=app.parent) as server:
        answer = requests.get(server.url, timeout=30).text
        assert answer == f"hi {os.path.realpath(app.parent)}"
    with server:
        assert requests.get(server.url, timeout=30).status_code == 200
    assert '"GET / HTTP/1.1" 200' in server.log


def test_another_interpreter_may_run_it(app: Path) -> None:
    # The same one, by another name, which is told where the package is.
    link = app.parent / "python"
    link.symlink_to(sys.executable)
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with ServerProcess(app, python=link, env=env) as server:
        assert requests.get(server.url, timeout=30).status_code == 200


def test_one_that_cannot_start_tells_why(app: Path) -> None:
    with pytest.raises(ProcessFailed, match="ended with code 1 before it served") as failed:
        ServerProcess(f"{app}:Gone").start()
    assert "has no Gone" in failed.value.log
    assert "has no Gone" in str(failed.value)
    app.write_text("import os; os._exit(7)")
    with pytest.raises(ProcessFailed, match=r"code 7.*\n\(it wrote nothing\)"):
        ServerProcess(app).start()


def test_one_that_takes_too_long_is_ended(app: Path) -> None:
    app.write_text("print('waiting', flush=True); import threading; threading.Event().wait()")
    server = ServerProcess(app, timeout=0.01)
    with pytest.raises(ProcessFailed, match=r"did not serve within 0\.01 seconds"):
        server.start()
    assert server.returncode is not None


def test_one_that_ends_by_itself_is_told(app: Path) -> None:
    def crash(server: ServerProcess) -> None:
        with contextlib.suppress(requests.ConnectionError):
            requests.get(f"{server.url}/exit", timeout=30)
        assert server.wait() == 3

    server = ServerProcess(app)
    assert server.wait() is None
    with pytest.raises(ProcessFailed, match="ended by itself, with code 3"), server:
        crash(server)
    assert server.stop() == 3
    with server:
        assert server.wait(0) is None
        server.stop()
    with pytest.raises(ZeroDivisionError) as raised, ServerProcess(app):
        raise ZeroDivisionError
    assert "Serving" in raised.value.__notes__[0]


@posix
def test_one_that_does_not_end_is_killed(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource_server.testing.process._ENDS_WITHIN", 0.01)
    app.write_text(
        APP + "import signal\n    @get('/deaf')\n    def deaf(self, request): return 'deaf'\n"
    )
    app.write_text(
        APP
        + textwrap.dedent("""
        import threading
        def never(signal):
            threading.Event().wait()
        import resource_server.server
        resource_server.server.HTTPServer.stop = never
    """)
    )
    with ServerProcess(app) as server:
        pass
    assert server.returncode == -signal.SIGKILL


@posix
def test_what_it_has_started_is_ended_with_it(app: Path) -> None:
    app.write_text(
        APP
        + textwrap.dedent("""
        import subprocess
        subprocess.Popen(["sleep", "600"])
    """)
    )
    with ServerProcess(app) as server:
        pass
    # All that could have written to the log has ended, or there would be no end of it.
    assert server.log.endswith("Stopped.\n")
    app.write_text(
        APP
        + textwrap.dedent("""
        import subprocess
        subprocess.Popen(["sleep", "600"])
        print("started", flush=True)
        os._exit(5)
    """)
    )
    with pytest.raises(ProcessFailed, match="code 5"):
        ServerProcess(app).start()


@posix
def test_it_ends_when_the_process_of_the_test_dies(app: Path) -> None:
    fifo = app.parent / "alive"
    os.mkfifo(fifo)
    app.write_text(f"alive = open({str(fifo)!r}, 'w')\n{APP}")
    alive = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    program = f"""
import os, signal
from resource_server.testing import ServerProcess
server = ServerProcess({str(app)!r})
server.start()
print(server.url, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    try:
        parent = subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False
        )
        assert parent.returncode == -signal.SIGKILL
        assert parent.stdout.startswith("http://127.0.0.1:")
        # What the application holds open has an end when its process has.
        os.set_blocking(alive, True)
        assert os.read(alive, 1) == b""
    finally:
        os.close(alive)
