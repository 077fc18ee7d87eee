"""How several processes end: together, with their requests finished, and never left behind."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.command import PATIENCE, Command
from tests.processes.conftest import ENDING, address_of, begin_slow, end_slow, pids_of
from tests.rawclient import Client

if TYPE_CHECKING:
    from tests.processes.conftest import Program


def wait_until_refused(address: tuple[str, int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            Client(address).sock.close()
        except ConnectionError:
            return
        assert time.monotonic() < deadline


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_be_finished(program: Program, number: int) -> None:
    command = program()
    address = address_of(command.line())
    with Client(address) as slow, Client(address) as idle:
        idle.get("/pid")
        begin_slow(slow)
        command.process.send_signal(number)
        wait_until_refused(address)
        assert idle.is_closed()
        assert command.process.poll() is None
        end_slow(slow)
    code, out, err = command.ended()
    assert (code, out) == (0, ["done"])
    assert err == [f"Serving on http://127.0.0.1:{address[1]}"]


def test_the_terminal_may_send_its_signal_to_all(program: Program) -> None:
    command = program()
    address = address_of(command.line())
    with Client(address) as slow:
        begin_slow(slow)
        os.killpg(command.process.pid, signal.SIGINT)
        wait_until_refused(address)
        end_slow(slow)
    assert command.ended()[:2] == (0, ["done"])


def test_a_second_signal_does_not_wait(program: Program) -> None:
    command = program()
    address = address_of(command.line())
    with Client(address) as slow:
        begin_slow(slow)
        command.process.send_signal(signal.SIGINT)
        wait_until_refused(address)
        command.process.send_signal(signal.SIGINT)
        # Well before the end of the time for requests.
        assert command.ended()[:2] == (0, ["done"])
        assert slow.is_closed()


def test_the_time_for_requests_has_an_end(program: Program) -> None:
    command = program(
        """
        from resource_server.processes import supervisor
        def run(server):
            with supervisor.Supervisor(start, address, 2, 10, drain=0.2) as it:
                say(f"tcp://{it.address[0]}:{it.address[1]}")
                it.run(lambda: say("ready"))
        def start(sockets):
            return server._start(sockets)
        server = HTTPServer(address)
        server.register_routes(App)
        run(server)
        """
    )
    address = address_of(command.line())
    assert command.line() == "ready"
    with Client(address) as slow:
        begin_slow(slow)
        command.process.send_signal(signal.SIGTERM)
        assert command.ended()[0] == 0
        assert slow.is_closed()


def test_one_that_does_not_end_is_killed(program: Program) -> None:
    command = program(
        f"from resource_server.processes import supervisor\nsupervisor.KILL_AFTER = 0.1\n{ENDING}"
    )
    pid, _ = pids_of(address_of(command.line()))
    os.kill(pid, signal.SIGSTOP)
    command.process.send_signal(signal.SIGTERM)
    command.process.send_signal(signal.SIGINT)
    code, out, err = command.ended()
    assert (code, out) == (0, ["done"])
    assert f"Process {pid} does not end in time and is killed." in err


def test_a_signal_before_they_are_ready_ends_them(program: Program) -> None:
    command = program(
        """
        def prepare():
            say("preparing")
            threading.Event().wait()
        HTTPServer(address).run(processes=2, prepare=prepare, ready=lambda: say("ready"))
        say("done")
        """
    )
    assert [command.line(), command.line()] == ["preparing", "preparing"]
    assert command.end(signal.SIGTERM) == (0, ["done"], [])


def test_none_outlives_the_parent(program: Program) -> None:
    command = program()
    address = address_of(command.line())
    with Client(address) as idle, Client(address) as slow:
        idle.get("/pid")
        begin_slow(slow)
        command.process.kill()
        assert idle.is_closed()
        end_slow(slow)
    # The end of its output is that of all who could write it.
    assert command.ended()[:2] == (-signal.SIGKILL, [])
    with pytest.raises(ConnectionRefusedError):
        Client(address)


def test_one_that_leaves_does_not_outlive_the_parent(program: Program) -> None:
    command = program()
    address = address_of(command.line())
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(address)) for _ in range(4)]
        for client in clients:
            begin_slow(client)
        command.process.send_signal(signal.SIGHUP)
        command.line_with("All processes have been replaced.", command.err)
        command.process.kill()
        for client in clients:
            end_slow(client)
    assert command.ended()[0] == -signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs terminals")
def test_the_end_of_the_terminal_ends_them(program: Program) -> None:
    """Although its signal is that for replacing them."""
    ours, theirs = os.openpty()
    try:
        command = program(
            f"""
import fcntl, termios
terminal = os.open({os.ttyname(theirs)!r}, os.O_RDWR | os.O_NOCTTY)
fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # which may be ignored, as by nohup
{ENDING}"""
        )
        address = address_of(command.line())
        pids = pids_of(address)
        command.process.send_signal(signal.SIGHUP)
        command.line_with("All processes have been replaced.", command.err)
        assert len(pids_of(address, but=pids)) == 2
    finally:
        os.close(theirs)
        os.close(ours)
    assert command.ended()[:2] == (0, ["done"])


def test_signals_and_children_of_the_program_are_its_own(program: Program) -> None:
    command: Command = program(
        """
        signal.signal(signal.SIGUSR1, lambda *_: say("mine"))
        before = [signal.getsignal(n) for n in (1, 2, 15, 17)]
        child = os.fork()
        if not child:
            os._exit(9)
        server = HTTPServer(address)
        server.register_routes(App)
        server.run(processes=2, ready=lambda: say(server.url))
        say(before == [signal.getsignal(n) for n in (1, 2, 15, 17)])
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), signal.set_wakeup_fd(-1))
        """
    )
    address = address_of(command.line())
    command.process.send_signal(signal.SIGUSR1)
    assert command.line() == "mine"
    assert len(pids_of(address)) == 2
    assert command.end()[1] == ["True", "9 -1"]
