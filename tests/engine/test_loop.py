"""The loop led by hand: moments that real clients hit once in a million times."""

from __future__ import annotations

import errno
import logging
import math
import select
import selectors
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import Limits, Response
from resource_server.engine import connection as connection_module
from resource_server.engine.crew import Crew
from resource_server.engine.loop import TAKE_OVER, Loop
from resource_server.engine.state import State
from tests.engine.bench import Bench, Stub, is_paused, state_of
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from resource_server import Request


class Source:
    def __init__(self, act: Callable[[], bool | None] = lambda: True) -> None:
        self.act = act
        self.served = 0

    def on_event(self, mask: int) -> bool:
        self.served += 1
        return self.act() is not False


class TestLeading:
    def test_a_leader_that_gets_the_lead_back_goes_on_with_what_is_there(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Meanwhile another has served all that was ready, and is inside a handler itself."""
        loop = bench.loop
        done = threading.Event()

        def lose_and_regain() -> bool:
            # As Connection._run does, with a standby that takes over and lays the lead down again.
            loop.lead_lock.release()
            assert loop.lead_lock.acquire(False)
            loop._ready.clear()
            loop.lead_lock.release()
            assert loop.lead_lock.acquire(False)
            done.set()
            return True

        skipped = Source()
        loop._ready.extend([(Source(lose_and_regain), 0), (skipped, 0), (skipped, 0)])
        bench.lead()
        assert done.wait(PATIENCE)
        with Client(bench.address) as client:
            assert client.get("/").body == b"hello"
        assert skipped.served == 0
        assert caplog.records == []

    def test_nothing_is_served_twice_by_a_leader_that_gets_the_lead_back(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Meanwhile another has looked at the selector, and has not served what it found."""
        loop = bench.loop
        posted = Source()
        done = threading.Event()

        def lose_and_regain() -> bool:
            loop.lead_lock.release()
            assert loop.lead_lock.acquire(False)
            assert loop.post(posted)
            loop._wait()
            loop.lead_lock.release()
            assert loop.lead_lock.acquire(False)
            done.set()
            return True

        loop._ready.append((Source(lose_and_regain), 0))
        bench.lead()
        assert done.wait(PATIENCE)
        with Client(bench.address) as client:
            assert client.get("/").body == b"hello"
        assert posted.served == 1
        assert caplog.records == []

    def test_quick_handlers_are_not_taken_for_slow_ones(self, bench: Bench) -> None:
        """The standby that goes to sleep just when a handler begins does not take over."""
        loop = bench.loop
        loop.lead_lock.release()
        loop._sleep()
        assert not loop.standby_asleep
        assert loop.lead_lock.acquire(False)

    def test_only_what_has_been_slow_is_called_so(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loop = bench.loop
        monkeypatch.setattr(loop, "lead", lambda: None)
        quick, slow = bench.endpoints["/"], Stub(lambda _: "")
        loop.running, loop.started = quick, time.perf_counter() + PATIENCE
        loop._take_over()
        assert not quick.slow
        loop.running, loop.started = slow, time.perf_counter() - TAKE_OVER
        loop._take_over()
        assert slow.slow
        loop.ended.set()
        loop.wake_standby()

    def test_an_exception_drops_the_connection_and_nothing_else(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(request: Request) -> Stub:
            raise RuntimeError("resolve")

        good = bench.loop.resolve
        bench.lead()
        with Client(bench.address) as one, Client(bench.address) as other:
            assert one.get("/").status == other.get("/").status == 200
            bench.loop.resolve = fail
            one.ask("/")
            assert one.is_closed()
            bench.loop.resolve = good
            assert other.get("/").status == 200
        assert "a defect of resource_server" in caplog.text

    def test_a_selector_that_fails_does_not_make_it_spin(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        loop = bench.loop
        select = loop._selector.select
        failures: list[float] = []

        def fail(timeout: float | None = None) -> Any:
            if len(failures) < 5:
                failures.append(time.monotonic())
                raise OSError("select")
            return select(timeout)

        monkeypatch.setattr(loop._selector, "select", fail)
        bench.lead()
        with Client(bench.address) as client:
            assert client.get("/").status == 200
        assert failures[-1] - failures[0] >= 4 * TAKE_OVER
        assert len(caplog.records) == 5

    def test_a_failure_to_recover_is_survived(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench.lead()
        with Client(bench.address) as client:
            assert client.get("/").status == 200
            (connection,) = bench.connections
            drop = connection_module.Connection.drop

            def fail(_: object) -> None:
                monkeypatch.setattr(connection_module.Connection, "drop", drop)
                raise RuntimeError("drop")

            def fail_to_resolve(_: object) -> Stub:
                raise RuntimeError("resolve")

            monkeypatch.setattr(connection_module.Connection, "drop", fail)
            resolve = bench.loop.resolve
            bench.loop.resolve = fail_to_resolve
            client.ask("/")
            deadline = time.monotonic() + PATIENCE
            while "could not be dropped" not in caplog.text:
                assert time.monotonic() < deadline
            bench.loop.resolve = resolve
            with Client(bench.address) as other:
                assert other.get("/").status == 200
            connection.drop()

    def test_a_post_after_the_end_is_refused(self) -> None:
        bench = Bench()
        bench.stop()
        assert not bench.loop.post(Source())

    def test_what_is_posted_at_the_end_is_served(self) -> None:
        bench = Bench()
        late = Source()
        assert bench.loop.post(late)
        bench.stop()
        assert late.served == 1


class TestDeadlines:
    def test_one_that_is_set_after_a_sweep_is_not_forgotten(self) -> None:
        """What was received in the same round as a sweep may need the next one much sooner."""
        bench = Bench(Limits(keep_alive=PATIENCE, closing=0.2, head=PATIENCE))
        with bench.connect() as client:
            loop = bench.loop
            while loop._next_sweep < math.inf and loop._next_sweep < time.monotonic() + 5:
                loop._wait()
            (connection,) = bench.connections
            client.send(b"nonsense\r\n\r\n")
            assert select.select([connection.sock.fileno()], [], [], PATIENCE)[0]
            loop._next_sweep = time.monotonic()
            bench.turn()
            assert connection.state is State.CLOSING
            assert loop._next_sweep <= time.monotonic() + loop._tick
        bench.stop()

    def test_an_idle_loop_waits_without_end(self, bench: Bench) -> None:
        bench.connect().sock.close()
        while bench.loop.connections or bench.loop._next_sweep < math.inf:
            bench.turn()
        assert bench.loop._next_sweep == math.inf

    def test_a_sweep_that_fails_is_not_repeated_at_once(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with bench.connect():
            (connection,) = bench.connections
            connection.deadline = 0.0

            def fail() -> None:
                raise RuntimeError("expire")

            monkeypatch.setattr(connection_module.Connection, "expire", lambda _: fail())
            bench.loop._next_sweep = 0.0
            with pytest.raises(RuntimeError):
                bench.loop._wait()
            assert bench.loop._next_sweep > time.monotonic()

    def test_a_stop_is_punctual(self) -> None:
        """However coarse the sweeps are."""
        bench = Bench()
        gate = threading.Event()
        entered = threading.Event()

        def block(_: Request) -> str:
            entered.set()
            gate.wait(PATIENCE)
            return ""

        bench.endpoints["/"] = Stub(block, blocking=True)
        bench.lead()
        with Client(bench.address) as client:
            client.ask("/")
            assert entered.wait(PATIENCE)
            started = time.monotonic()
            bench.loop.stop(started + 0.1)
            assert bench.loop.ended.wait(PATIENCE)
            assert 0.1 <= time.monotonic() - started < 0.9
            assert client.is_closed()
        gate.set()
        assert bench.crew.join(time.monotonic() + PATIENCE)


class TestAccepting:
    """Errors of accept(2), as a test cannot have the network make them."""

    @pytest.fixture
    def failing(self, bench: Bench) -> list[OSError]:
        """Errors that the listening socket raises before it accepts."""
        errors: list[OSError] = []
        real = bench.listener.sock

        class Failing:
            def accept(self) -> Any:
                if errors:
                    raise errors.pop(0)
                return real.accept()

            def fileno(self) -> int:
                return real.fileno()

            def close(self) -> None:
                real.close()

        bench.listener.sock = Failing()  # type: ignore[assignment]
        bench.loop._selector.unregister(real)
        bench.loop._selector.register(bench.listener.sock, selectors.EVENT_READ, bench.listener)
        return errors

    @pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.ENETDOWN])
    def test_a_connection_that_has_gone_costs_nothing(
        self, bench: Bench, failing: list[OSError], number: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        failing.extend([OSError(number, "gone")] * 3)
        bench.lead()
        with Client(bench.address) as client:
            assert client.get("/").status == 200
        assert caplog.records == []

    @pytest.mark.parametrize("error", [OSError(errno.ENFILE, "x"), OSError("without a number")])
    def test_any_other_makes_a_pause(
        self,
        bench: Bench,
        failing: list[OSError],
        error: OSError,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        bench.loop._tick = 0.05
        failing.extend([error] * 3)
        bench.lead()
        with Client(bench.address) as client:
            assert client.get("/").status == 200
        assert len(caplog.records) == 1
        assert "Accepting pauses" in caplog.text

    def test_stopping_within_a_pause(self, bench: Bench, failing: list[OSError]) -> None:
        failing.append(OSError(errno.ENFILE, "x"))
        client = Client(bench.address)
        bench.turn()
        assert bench.loop._paused
        client.sock.close()
        bench.stop()
        bench.leading = True
        assert bench.loop.ended.is_set()

    def test_a_selector_that_takes_no_more_cuts_the_newcomer(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(bench.loop._selector, "register", refuse)
        with Client(bench.address) as client:
            bench.turn()
            assert client.is_closed()
        assert bench.loop.connections == set()
        assert "The selector takes no more connections" in caplog.text

    def test_a_selector_that_does_not_take_the_listener_back_is_asked_again(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loop = bench.loop
        loop.pause_accepting(OSError(errno.EMFILE, "x"))
        register = loop._selector.register

        def refuse(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(loop._selector, "register", refuse)
        loop._next_sweep = 0.0
        loop._wait()
        assert is_paused(loop)
        assert loop._next_sweep <= time.monotonic() + loop._tick
        monkeypatch.setattr(loop._selector, "register", register)
        loop._next_sweep = 0.0
        loop._wait()
        assert not is_paused(loop)
        with bench.connect():
            assert len(loop.connections) == 1

    def test_a_connection_that_was_lost_meanwhile_is_dropped(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Lost(socket.socket):
            def setsockopt(self, *_: object) -> None:
                raise OSError(errno.EINVAL, "Invalid argument")

        ours, theirs = socket.socketpair()
        lost = Lost(fileno=ours.detach())
        bench.loop.admit(lost, ("203.0.113.71", 1), bench.listener)
        assert lost.fileno() == -1
        assert bench.loop.connections == set()
        theirs.close()

    def test_nobody_is_accepted_once_it_stops(self, bench: Bench) -> None:
        with Client(bench.address):
            bench.loop.stopping = True
            assert bench.listener.on_event(selectors.EVENT_READ)
            assert bench.loop.connections == set()

    def test_who_waits_to_be_accepted_when_it_stops_may_ask(self, bench: Bench) -> None:
        clients = [Client(bench.address) for _ in range(8)]
        bench.loop.stop(time.monotonic() + PATIENCE, idle_grace=PATIENCE)
        while not bench.connections:
            bench.turn()
        with pytest.raises(ConnectionError):
            Client(bench.address)
        for client in clients:
            client.ask("/")
        while any(each.state is not State.CLOSING for each in bench.connections):
            bench.turn()
        for client in clients:
            answer = client.read()
            assert (answer.body, answer.fields["connection"]) == (b"hello", "close")
            client.sock.close()

    def test_nobody_waits_to_be_accepted_by_one_that_stops_at_once(self, bench: Bench) -> None:
        with Client(bench.address) as client:
            bench.loop.stop(time.monotonic() + PATIENCE)
            bench.turn()
            assert bench.connections == []
            assert client.is_closed()

    def test_on_windows_select_counts_connections(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(selectors, "DefaultSelector", selectors.SelectSelector)
        monkeypatch.setattr("resource_server.engine.loop.os.name", "nt")
        loop = Loop(lambda _: None, Limits(), Crew(1), max_connections=10_000)  # type: ignore[arg-type,return-value]
        monkeypatch.undo()
        assert loop._max_connections < 512
        assert loop._max_descriptor == math.inf
        loop.give_up()

    def test_a_refusal_to_one_that_has_gone(self, bench: Bench) -> None:
        bench.loop._max_connections = 0
        client = Client(bench.address)
        client.reset()
        bench.turn()
        while bench.loop.connections:
            bench.turn()


class TestConnections:
    def test_an_event_for_a_closed_connection_is_nothing(self, bench: Bench) -> None:
        with bench.connect():
            (connection,) = bench.connections
            connection.close()
            connection.close()
            for mask in (0, selectors.EVENT_READ, selectors.EVENT_WRITE):
                assert connection.on_event(mask)

    def test_events_without_anything_to_read_are_nothing(self, bench: Bench) -> None:
        with bench.connect() as client:
            (connection,) = bench.connections
            assert connection.on_event(selectors.EVENT_READ)
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
            while state_of(connection) is not State.COLLECTING:
                bench.turn()
            assert connection.on_event(selectors.EVENT_READ)
            assert state_of(connection) is State.COLLECTING
            client.send(b"abc")
            bench.loop.lead_lock.locked()
            while state_of(connection) is not State.READING:
                bench.turn()
            assert client.read().status == 200
            client.send(b"nonsense\r\n\r\n")
            while state_of(connection) is not State.CLOSING:
                bench.turn()
            assert connection.on_event(selectors.EVENT_READ)
            assert state_of(connection) is State.CLOSING

    def test_a_deadline_within_a_turn_that_is_awaited_closes(self, bench: Bench) -> None:
        with bench.connect() as client:
            (connection,) = bench.connections
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
            while state_of(connection) is not State.RESUMING:
                bench.turn()
            assert connection.on_event(selectors.EVENT_READ)
            connection.expire()
            assert state_of(connection) is State.CLOSED

    def test_an_asked_for_body_whose_client_has_gone(self, bench: Bench) -> None:
        class Dead:
            def send(self, data: bytes) -> int:
                raise ConnectionResetError

            def recv(self, size: int) -> bytes:
                head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n"
                return head + b"Expect: 100-continue\r\n\r\n"

            def close(self) -> None:
                pass

        with bench.connect():
            (connection,) = bench.connections
            bench.loop.watch(connection, selectors.EVENT_READ, 0)
            connection._interest = 0
            real = connection.sock
            connection.sock = Dead()  # type: ignore[assignment]
            assert connection.on_event(selectors.EVENT_READ)
            assert connection.state is State.CLOSED
            real.close()

    def test_a_disk_that_is_full_is_a_500(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("resource_server.engine.body.CollectedBody.write", full)
        bench.lead()
        with Client(bench.address) as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
            assert client.read().status == 500
            assert client.is_closed()
        assert "could not be stored: [Errno 28]" in caplog.text

    def test_an_endpoint_that_raises_is_a_500(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(_: Request) -> str:
            raise SystemExit

        bench.endpoints["/"] = Stub(fail)
        bench.endpoints["/worker"] = Stub(fail, blocking=True)
        bench.lead()
        with Client(bench.address) as client:
            for path in ("/", "/worker") * 2:
                assert client.get(path).status == 500
        assert [record.levelno for record in caplog.records] == [logging.ERROR] * 4

    def test_a_response_that_fails_in_a_worker_drops_the_connection(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        class Odd(Response):
            @property
            def content_length(self) -> int | None:
                raise SystemExit

            @content_length.setter
            def content_length(self, value: int | None) -> None:
                raise AssertionError

        bench.endpoints["/"] = Stub(lambda _: Odd(iter([b"a"])), blocking=True)
        bench.lead()
        with Client(bench.address) as client:
            client.ask("/")
            assert client.is_closed()
        assert "a defect of resource_server" in caplog.text

    def test_a_socket_that_cannot_be_shut_down_is_closed(self, bench: Bench) -> None:
        with bench.connect():
            (connection,) = bench.connections
            real = connection.sock

            class Stubborn:
                def __getattr__(self, name: str) -> Any:
                    return getattr(real, name)

                def shutdown(self, how: int) -> None:
                    raise OSError(errno.ENOTCONN, "not connected")

            connection.sock = Stubborn()  # type: ignore[assignment]
            connection._begin_closing()
            assert connection.state is State.CLOSED

    def test_giving_up_with_a_socket_that_cannot_be_shut_down(self, bench: Bench) -> None:
        with bench.connect():
            (connection,) = bench.connections
            real = connection.sock

            class Stubborn:
                def __getattr__(self, name: str) -> Any:
                    return getattr(real, name)

                def shutdown(self, how: int) -> None:
                    raise OSError(errno.ENOTCONN, "not connected")

            connection.sock = Stubborn()  # type: ignore[assignment]
            connection.state = State.WORKING
            connection.close()
            assert real.fileno() == -1
            assert connection.disconnected()
