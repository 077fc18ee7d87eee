"""Several processes on one address: who answers, where, and what cannot be served."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from resource_server import HTTPServer
from tests.processes.conftest import ENDING, address_of, ask, pids_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Serve
    from tests.processes.conftest import Program


def test_all_processes_answer_and_the_parent_none(program: Program) -> None:
    command = program()
    address = address_of(command.line())
    pids = pids_of(address)
    assert command.process.pid not in pids
    assert len({ask(address, "/random") for _ in range(20)}) == 20
    assert command.line(command.err) == f"Serving on http://127.0.0.1:{address[1]}"
    code, out, err = command.end(15)
    assert (code, out, err) == (0, ["done"], [])


def test_all_addresses_of_a_host_are_served(program: Program) -> None:
    command = program(address=("", 0))
    _, port = address_of(command.line())
    assert pids_of(("127.0.0.1", port)) == pids_of(("127.0.0.1", port))
    assert command.end()[0] == 0


def test_a_unix_socket_stays_until_the_end(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    command = program(address=f"unix:{path}")
    address = address_of(command.line())
    assert address == (str(path), 0)
    first = int(ask(address))
    os.kill(first, 9)
    command.line_with(f"Process {first} is replaced now", command.err)
    assert int(ask(address)) != first
    assert command.end()[:2] == (0, ["done"])
    assert not path.exists()


def test_a_bound_socket_is_shared(program: Program) -> None:
    command = program(f"address = socket.create_server(('127.0.0.1', 0))\n{ENDING}")
    address = address_of(command.line())
    assert int(ask(address)) != command.process.pid
    assert command.end()[0] == 0


def test_without_an_option_to_spread_connections_one_socket_is_shared(program: Program) -> None:
    program_text = "from resource_server.engine import listener\nlistener._SPREADING = None\n"
    command = program(program_text + ENDING)
    address = address_of(command.line())
    first = int(ask(address))
    assert first != command.process.pid
    assert command.end()[0] == 0


def test_each_process_is_prepared(program: Program) -> None:
    """Threads cannot be inherited, so there is a place to start them."""
    command = program(
        """
        def prepare():
            threading.Thread(target=say, args=("prepared", os.getpid())).start()
            atexit.register(say, "over")

        atexit.register(lambda: say("parent over"))
        server = HTTPServer(address)
        server.register_routes(App)
        try:
            server.run(processes=2, prepare=prepare, ready=lambda: say(server.url))
        finally:
            say("finally")
        """
    )
    # The threads may be a little late.
    lines = {command.line() for _ in range(3)}
    address = address_of(next(line for line in lines if line.startswith("http")))
    assert {f"prepared {pid}" for pid in pids_of(address)} < lines
    # What the processes have brought about, they end; what the parent has, it alone.
    assert command.end()[1] == ["over", "over", "finally", "parent over"]


def test_the_application_may_stop_it(program: Program) -> None:
    command = program()
    address = address_of(command.line())
    with pytest.raises(AssertionError):  # 204
        ask(address, "/stop")
    code, out, _ = command.ended()
    assert (code, out) == (0, ["done"])


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("raise OSError('no database')", "no database"),
        ("{}['x']", "KeyError: 'x'"),
        ("sys.exit(7)", "SystemExit: 7"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "it ended by SIGKILL"),
        ("os._exit(3)", "it ended with code 3"),
    ],
)
def test_a_process_that_cannot_serve_ends_all(program: Program, failure: str, reason: str) -> None:
    command = program(
        f"""
        atexit.register(say, "once")
        def prepare():
            {failure}
        try:
            HTTPServer(address).run(processes=2, prepare=prepare, ready=lambda: say("ready"))
        except ChildProcessError as error:
            say(error)
        """
    )
    code, out, err = command.ended()
    assert (code, out) == (0, [f"a process cannot serve: {reason}", "once"])
    # A defect is told with its traceback, what the system refuses is not.
    assert any("Traceback" in line for line in err) == ("Error" in reason or "Exit" in reason)


def test_what_fails_in_ready_ends_all(program: Program) -> None:
    command = program(
        """
        def ready():
            raise ValueError("never mind")
        HTTPServer(address).run(processes=2, ready=ready)
        """
    )
    code, _, err = command.ended()
    assert (code, err[-1]) == (1, "ValueError: never mind")


def test_a_port_in_use_is_told(program: Program) -> None:
    """Although those who share it would let it be shared by any program of the same user."""
    command = program()
    address = address_of(command.line())
    other = program(address=address)
    code, _, err = other.ended()
    assert code == 1
    assert "cannot listen on 127.0.0.1" in err[-1]


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="needs SO_REUSEPORT")
def test_a_server_in_one_process_shares_its_port_with_nobody(serve: Serve) -> None:
    server = serve()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(server.address)


class TestWhereItCannotBe:
    def test_other_threads_are_running(self, program: Program) -> None:
        command = program(
            """
            gate = threading.Event()
            threading.Thread(target=gate.wait, name="mine").start()
            try:
                HTTPServer(address).run(processes=2)
            except RuntimeError as error:
                say(error)
            gate.set()
            """
        )
        assert command.line() == (
            "other threads are running (mine), and a fork would take along what they hold, but "
            "not them: start them in `prepare`, once in each process"
        )

    def test_off_the_main_thread(self) -> None:
        errors: list[str] = []

        def run() -> None:
            try:
                HTTPServer(("127.0.0.1", 0)).run(processes=2)
            except RuntimeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert "from the main thread" in errors[0]

    def test_a_system_without_fork(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr("os.fork")
        with pytest.raises(RuntimeError, match="run one"):
            HTTPServer(("127.0.0.1", 0)).run(processes=2)

    def test_a_server_that_is_running(self, serve: Serve) -> None:
        with pytest.raises(RuntimeError, match="is running"):
            serve().run(processes=2)

    def test_no_process(self) -> None:
        with pytest.raises(ValueError, match="at least 1, not 0"):
            HTTPServer(("127.0.0.1", 0)).run(processes=0)

    def test_a_certificate_that_is_none(self, tmp_path: Path) -> None:
        file = tmp_path / "cert.pem"
        file.write_text("nothing")
        with pytest.raises(OSError, match="PEM"):
            HTTPServer(("127.0.0.1", 0), file, file).run(processes=2)


def test_one_process_is_prepared_and_told_of_as_well(program: Program) -> None:
    command = program(
        """
        server = HTTPServer(address)
        server.register_routes(App)
        server.run(prepare=lambda: say("prepare"), ready=lambda: say(server.url))
        """
    )
    assert command.line() == "prepare"
    assert int(ask(address_of(command.line()))) == command.process.pid
    assert command.end()[0] == 0
