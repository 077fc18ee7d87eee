"""Workers that die and workers that are replaced: nobody is refused, and at SIGHUP nobody cut."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import requests

from tests.command import PATIENCE
from tests.processes.conftest import (
    ENDING,
    address_of,
    ask,
    begin_slow,
    end_slow,
    pids_of,
)
from tests.rawclient import Client

if TYPE_CHECKING:
    from types import TracebackType

    from tests.processes.conftest import Program

REPLACED = "All processes have been replaced."


class Load:
    """Clients that ask again and again until the block ends; what they met is in its attributes."""

    def __init__(self, address: tuple[str, int], *, sessions: int = 0, raw: int = 0, new: int = 0):
        self.address = address
        self.url = f"http://{address[0]}:{address[1]}/pid"
        self.answers = 0
        self.lost: list[Exception] = []
        self.refused: list[Exception] = []
        # Guards what is above; set when it is enough.
        self._lock = threading.Lock()
        self._enough = threading.Event()
        kinds = [self._session] * sessions + [self._raw] * raw + [self._new] * new
        self._threads = [threading.Thread(target=self._run, args=(kind,)) for kind in kinds]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def wait_for(self, answers: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.answers < answers and not self.lost and not self.refused:
            assert time.monotonic() < deadline, f"only {self.answers} answers"
            self._enough.wait(0.05)

    def _count(self) -> None:
        with self._lock:
            self.answers += 1

    def _run(self, kind: object) -> None:
        while not self._enough.is_set():
            try:
                kind()  # type: ignore[operator]
            except ConnectionRefusedError as error:
                self.refused.append(error)
                return
            except (OSError, EOFError) as error:
                self.lost.append(error)

    def _session(self) -> None:
        """One that the library keeps alive; it does not try anything twice."""
        with requests.Session() as session:
            while not self._enough.is_set():
                assert session.get(self.url, timeout=PATIENCE).status_code == 200
                self._count()

    def _raw(self) -> None:
        """One that is kept until an answer says that it is the last."""
        with Client(self.address) as client:
            while not self._enough.is_set():
                answer = client.get("/pid")
                assert answer.status == 200
                self._count()
                if answer.fields.get("connection") == "close":
                    return

    def _new(self) -> None:
        ask(self.address)
        self._count()


class TestDying:
    def test_one_that_was_killed_is_replaced_and_nobody_is_refused(self, program: Program) -> None:
        command = program()
        address = address_of(command.line())
        before = pids_of(address)
        with Load(address, new=3) as load:
            load.wait_for(50)
            for pid in before:
                os.kill(pid, signal.SIGKILL)
                line = command.line_with(f"Process {pid} is replaced", command.err)
                assert line == f"Process {pid} is replaced now: it ended by SIGKILL"
            load.answers = 0
            lost = len(load.lost)
            after = pids_of(address)
            load.lost.clear()
            load.wait_for(50)
        assert not load.refused
        # Those that were being answered, one of each client at each death.
        assert lost <= 6
        assert not load.lost
        assert before.isdisjoint(after)
        assert command.end()[0] == 0

    def test_one_that_dies_again_and_again_is_replaced_later_each_time(
        self, program: Program
    ) -> None:
        command = program()
        address = address_of(command.line())
        pauses = []
        other, pid = pids_of(address)
        for _ in range(3):
            os.kill(pid, signal.SIGKILL)
            line = command.line_with(f"Process {pid} is replaced", command.err)
            pauses.append(line.split(" is replaced ")[1])
            # Connections that have come to its socket meanwhile wait for the next one.
            (pid,) = pids_of(address) - {other}
        reason = ": it ended by SIGKILL"
        assert pauses == [f"now{reason}", f"in 0.5 s{reason}", f"in 1 s{reason}"]
        assert command.end()[0] == 0

    def test_a_system_that_has_no_process_left_is_asked_again(self, program: Program) -> None:
        command = program(
            """
            fork = os.fork
            def fails():
                if os.path.exists("full"):
                    os.unlink("full")
                    raise OSError(11, "no more")
                return fork()
            os.fork = fails
            server = HTTPServer(address)
            server.register_routes(App)
            server.run(processes=2, ready=lambda: say(server.url))
            """
        )
        address = address_of(command.line())
        pids = pids_of(address)
        full = Path(command.cwd) / "full"
        full.touch()
        os.kill(min(pids), signal.SIGKILL)
        line = command.line_with("No process", command.err)
        assert line == "No process could be started ([Errno 11] no more); tried again in 0.5 s."
        assert min(pids) not in pids_of(address)
        full.touch()
        command.process.send_signal(signal.SIGHUP)
        line = command.line_with("No new process", command.err)
        assert line.endswith("so the old ones go on: [Errno 11] no more")
        assert command.end()[0] == 0

    def test_one_that_somebody_else_has_waited_for_is_replaced_as_well(
        self, program: Program
    ) -> None:
        command = program(
            f"""
def wait(*_):
    say("waiting")
    os.waitpid(-1, 0)
signal.signal(signal.SIGUSR1, wait)
{ENDING}"""
        )
        pid, _ = pids_of(address_of(command.line()))
        command.process.send_signal(signal.SIGUSR1)
        assert command.line() == "waiting"
        os.kill(pid, signal.SIGKILL)
        line = command.line_with(f"Process {pid}", command.err)
        assert line == f"Process {pid} is replaced now: it ended with code 0"
        assert command.end()[0] == 0


class TestReloading:
    def test_under_load_no_request_is_refused_or_cut(self, program: Program) -> None:
        command = program()
        address = address_of(command.line())
        with Load(address, sessions=3, raw=3, new=1) as load:
            pids: set[int] = set()
            for turn in range(1, 5):
                load.wait_for(800 * turn)
                pids |= pids_of(address, but=pids)
                command.process.send_signal(signal.SIGHUP)
                command.line_with(REPLACED, command.err)
            load.wait_for(4000)
        assert (load.refused, load.lost) == ([], [])
        assert load.answers >= 4000
        code, out, err = command.end(signal.SIGTERM)
        assert (code, out, err) == (0, ["done"], [])

    def test_an_idle_connection_gets_one_more_answer(self, program: Program) -> None:
        command = program(
            f"from resource_server.processes import worker\nworker.IDLE_GRACE = 60\n{ENDING}"
        )
        address = address_of(command.line())
        with Client(address) as client, Client(address) as slow:
            old = client.get("/pid")
            begin_slow(slow)
            command.process.send_signal(signal.SIGHUP)
            command.line_with(REPLACED, command.err)
            answer = client.get("/pid")
            assert (answer.body, answer.fields["connection"]) == (old.body, "close")
            assert client.is_closed()
            # What takes long is finished by who has begun it.
            end_slow(slow)
        assert int(old.body) not in pids_of(address)
        assert command.end()[0] == 0

    def test_one_that_is_told_to_end_is_replaced_before_it_has(self, program: Program) -> None:
        command = program()
        address = address_of(command.line())
        with Client(address) as client:
            pid = int(client.get("/pid").body)
            os.kill(pid, signal.SIGTERM)
            line = command.line_with(f"Process {pid}", command.err)
            assert line == f"Process {pid} was told to end; another one takes its place."
            assert len(pids_of(address, but={pid})) == 2
            assert client.get("/pid").fields["connection"] == "close"
        assert command.end()[0] == 0

    def test_a_dead_one_comes_back_at_once(self, program: Program, tmp_path: Path) -> None:
        """Whoever sends SIGHUP has mended it."""
        command = program(
            """
            from resource_server.processes import supervisor
            supervisor.FIRST_PAUSE = supervisor.LONGEST_PAUSE = 1000
            def prepare():
                if os.path.exists("broken"):
                    raise OSError("broken")
            server = HTTPServer(address)
            server.register_routes(App)
            server.run(processes=2, prepare=prepare, ready=lambda: say(server.url))
            """
        )
        address = address_of(command.line())
        broken = tmp_path / "broken"
        broken.touch()
        pid = next(iter(pids_of(address)))
        os.kill(pid, signal.SIGKILL)
        assert command.line_with("is replaced now", command.err)
        line = command.line_with("is replaced in 1000 s", command.err)
        assert line.endswith(": broken")
        command.process.send_signal(signal.SIGHUP)
        # The dead one fails once more, and the other one is left alone.
        lines = {command.line(command.err) for _ in range(3)}
        assert "A new process cannot serve, so the old ones go on: broken" in lines
        assert {line.partition(" is replaced ")[2] for line in lines} == {
            "",
            "now: broken",
            "in 1000 s: broken",
        }
        broken.unlink()
        command.process.send_signal(signal.SIGHUP)
        command.line_with(REPLACED, command.err)
        assert pid not in pids_of(address)
        assert command.end()[0] == 0
