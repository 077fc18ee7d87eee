from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from resource_server.engine import crew as crew_module
from resource_server.engine.crew import MAX_WAITING, ROLES, Crew
from tests.rawclient import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def crew() -> Iterator[Crew]:
    crew = Crew(2)
    yield crew
    crew.close()
    assert crew.join(time.monotonic() + PATIENCE)


def wait_for(size: int, crew: Crew) -> None:
    deadline = time.monotonic() + PATIENCE
    while crew.size != size:
        assert time.monotonic() < deadline


def test_a_job_is_done_in_another_thread(crew: Crew) -> None:
    done = threading.Event()
    inside: list[bool] = []

    def job() -> None:
        inside.append(crew.includes_caller())
        done.set()

    crew.submit(job)
    assert done.wait(PATIENCE)
    assert inside == [True]
    assert not crew.includes_caller()


def test_a_thread_that_waits_is_used_again(crew: Crew) -> None:
    names: list[str] = []
    for _ in range(5):
        done = threading.Event()

        def job(done: threading.Event = done) -> None:
            names.append(threading.current_thread().name)
            done.set()

        crew.submit(job)
        assert done.wait(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while crew._spare < 1:
            assert time.monotonic() < deadline
    assert len(set(names)) == 1
    assert crew.size == 1


def test_jobs_beyond_the_limit_wait(crew: Crew) -> None:
    gate = threading.Event()
    began = threading.Semaphore(0)

    def job() -> None:
        began.release()
        gate.wait(PATIENCE)

    for _ in range(10):
        crew.submit(job)
    for _ in range(2 + ROLES):
        assert began.acquire(timeout=PATIENCE)
    assert not began.acquire(timeout=0.05)
    assert crew.size == 2 + ROLES
    gate.set()
    for _ in range(6):
        assert began.acquire(timeout=PATIENCE)


def test_a_role_gets_a_thread_beyond_the_limit(crew: Crew) -> None:
    gate = threading.Event()
    for _ in range(2 + ROLES + 3):
        crew.submit(lambda: gate.wait(PATIENCE))
    led = threading.Event()
    crew.submit(led.set, role=True)
    assert led.wait(PATIENCE)
    gate.set()


def test_what_a_job_raises_is_logged_and_ends_nothing(
    crew: Crew, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise SystemExit(3)

    done = threading.Event()
    crew.submit(fail)
    crew.submit(done.set)
    assert done.wait(PATIENCE)
    crew.close()
    assert crew.join(time.monotonic() + PATIENCE)
    assert "A job of the server failed" in caplog.text


def test_idle_threads_end(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "IDLE", 0.05)
    gate = threading.Event()
    for _ in range(4):
        crew.submit(lambda: gate.wait(PATIENCE))
    wait_for(4, crew)
    gate.set()
    wait_for(0, crew)
    done = threading.Event()
    crew.submit(done.set)
    assert done.wait(PATIENCE)


def test_no_job_is_lost_while_threads_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "IDLE", 0.001)
    crew = Crew(3)
    done = threading.Semaphore(0)
    for number in range(2000):
        crew.submit(done.release)
        if number % 7 == 0:
            # So that threads run idle just when the next job comes.
            assert done.acquire(timeout=PATIENCE)
            threading.Event().wait(0.001)
            done.release()
    for _ in range(2000):
        assert done.acquire(timeout=PATIENCE)
    crew.close()
    assert crew.join(time.monotonic() + PATIENCE)
    assert crew.size == 0


def test_closing_lets_what_waits_be_done_and_takes_no_more() -> None:
    crew = Crew(1)
    gate = threading.Event()
    done: list[int] = []
    for _ in range(1 + ROLES):
        crew.submit(lambda: gate.wait(PATIENCE))
    for number in range(5):
        crew.submit(partial(done.append, number))
    crew.close()
    crew.submit(lambda: done.append(99))
    assert not crew.join(time.monotonic())
    gate.set()
    assert crew.join(time.monotonic() + PATIENCE)
    assert sorted(done) == [0, 1, 2, 3, 4]


def test_joining_from_within_does_not_wait_for_itself() -> None:
    crew = Crew(1)
    joined: list[bool] = []

    def job() -> None:
        crew.close()
        joined.append(crew.join(time.monotonic() + PATIENCE))

    crew.submit(job)
    assert crew.join(time.monotonic() + PATIENCE)
    assert joined == [True]


class TestWaitingForClients:
    """A job that waits for its client leaves its place to another."""

    def test_others_work_meanwhile(self) -> None:
        gate, waiting, done = threading.Event(), threading.Barrier(3), threading.Event()
        crew = Crew(2)

        def wait() -> None:
            assert crew.begin_waiting()
            waiting.wait(PATIENCE)
            gate.wait(PATIENCE)
            crew.end_waiting()

        for _ in range(ROLES):
            crew.submit(lambda: gate.wait(PATIENCE), role=True)
        for _ in range(2):
            crew.submit(wait)
        waiting.wait(PATIENCE)
        crew.submit(done.set)
        assert done.wait(PATIENCE)
        gate.set()
        crew.close()
        assert crew.join(time.monotonic() + PATIENCE)

    def test_a_job_that_was_queued_is_begun_when_another_waits(self) -> None:
        gate, begin, done = threading.Event(), threading.Event(), threading.Event()
        crew = Crew(1)

        def wait() -> None:
            begin.wait(PATIENCE)
            crew.begin_waiting()
            gate.wait(PATIENCE)
            crew.end_waiting()

        for _ in range(ROLES):
            crew.submit(lambda: gate.wait(PATIENCE), role=True)
        crew.submit(wait)
        crew.submit(done.set)
        assert not done.is_set()
        begin.set()
        assert done.wait(PATIENCE)
        gate.set()
        crew.close()
        assert crew.join(time.monotonic() + PATIENCE)

    def test_no_more_threads_stay_than_there_are_places(self) -> None:
        gate = threading.Event()
        crew = Crew(1)
        crew.begin_waiting()
        for _ in range(ROLES + 2):
            crew.submit(lambda: gate.wait(PATIENCE))
        assert crew.size == ROLES + 2
        crew.end_waiting()
        gate.set()
        deadline = time.monotonic() + PATIENCE
        while crew.size > ROLES + 1:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        crew.close()
        assert crew.join(deadline)

    def test_patience_ends_when_very_many_wait(self) -> None:
        crew = Crew(1)
        assert all(crew.begin_waiting() for _ in range(MAX_WAITING))
        assert not crew.begin_waiting()


class TestWithoutThreads:
    """The system has no thread to give."""

    @pytest.fixture(autouse=True)
    def exhausted(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if self.refusing and thread.name.startswith("resource_server"):
                raise RuntimeError("can't start new thread")
            start(thread)

        self.refusing = False
        monkeypatch.setattr(threading.Thread, "start", refuse)
        yield
        self.refusing = False

    def test_a_role_that_finds_none_is_an_error(self, crew: Crew) -> None:
        self.refusing = True
        with pytest.raises(RuntimeError, match="can't start"):
            crew.submit(lambda: None, role=True)
        assert crew.size == 0

    def test_a_job_that_nobody_could_do_is_an_error(self, crew: Crew) -> None:
        self.refusing = True
        with pytest.raises(RuntimeError, match="can't start"):
            crew.submit(lambda: None)

    def test_a_job_waits_for_those_that_are_there(self, crew: Crew) -> None:
        gate = threading.Event()
        for _ in range(ROLES + 1):
            crew.submit(lambda: gate.wait(PATIENCE))
        self.refusing = True
        done = threading.Event()
        crew.submit(done.set)
        gate.set()
        assert done.wait(PATIENCE)

    def test_a_queued_job_is_done_by_whoever_is_free_next(self, crew: Crew) -> None:
        gate = threading.Event()
        crew.submit(lambda: gate.wait(PATIENCE))
        self.refusing = True
        done = threading.Event()
        crew.queue(done.set)
        gate.set()
        assert done.wait(PATIENCE)


def test_jobs_that_last_leave_the_workers_to_others(crew: Crew) -> None:
    leave = threading.Event()
    arrived = threading.Barrier(11)

    def lasting() -> None:
        arrived.wait(PATIENCE)
        leave.wait(PATIENCE)

    for _ in range(10):
        crew.host(lasting)
    arrived.wait(PATIENCE)
    done = threading.Event()
    assert crew.submit(done.set)
    assert done.wait(PATIENCE)
    leave.set()
    # Whoever has nothing to do any more, and is more than may work, ends.
    deadline = time.monotonic() + PATIENCE
    while crew.size > 2 + ROLES:
        assert time.monotonic() < deadline


def test_a_job_that_was_to_last_and_found_no_thread_is_not_counted(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    allowed = crew._allowed()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError):
            crew.host(lambda: None)
    assert crew._allowed() == allowed


def test_a_crew_that_is_closed_takes_no_job_and_says_so() -> None:
    crew = Crew(1)
    crew.close()
    assert not crew.submit(lambda: None)
