"""A handle ends once, whoever ends it; and what it is made of: alarms, threads, connections."""

from __future__ import annotations

import concurrent.futures
import pickle
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import ErrorResponse, Headers, ResourceServerError
from resource_server.client import (
    Cancelled,
    ClientError,
    ClientResponse,
    ConnectError,
    Outgoing,
    ProtocolError,
    RequestHandle,
    TimeoutError,  # noqa: A004
)
from resource_server.client import watchdog as watchdog_module
from resource_server.client import workers as workers_module
from resource_server.client.errors import safe_url
from resource_server.client.handle import Ended
from resource_server.client.pool import Closed, Pool
from resource_server.client.urls import Origin, joined, origin_of
from resource_server.client.watchdog import Watchdog
from resource_server.client.workers import Workers

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 30.0


class Owner:
    def __init__(self) -> None:
        self.told: list[str] = []

    def ended(self, handle: RequestHandle) -> None:
        assert not handle.done()
        self.told.append("ended")

    def delivered(self, handle: RequestHandle) -> None:
        self.told.append("delivered")


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def handle(owner: Owner) -> RequestHandle:
    return RequestHandle(owner, "GET", "/x", "http://me:pw@h/x")


def response() -> ClientResponse:
    return ClientResponse.received(200, Headers(), b"", Outgoing("GET", "http://h/x", Headers()), 0)


class TestEnds:
    def test_a_response(self, handle: RequestHandle, owner: Owner) -> None:
        assert [handle.response, handle.running()] == [None, False]
        assert handle.begin()
        assert handle.running()
        assert repr(handle) == "<RequestHandle GET /x pending>"
        answer = response()
        handle.succeed(answer)
        assert handle.result() is handle.response is answer
        assert (handle.done(), handle.running(), handle.cancelled()) == (True, False, False)
        assert owner.told == ["ended", "delivered"]

    def test_an_error(self, handle: RequestHandle, owner: Owner) -> None:
        error = ConnectError("no", method="GET", url=handle.url)
        handle.fail(error)
        assert handle.exception() is error
        with pytest.raises(ConnectError):
            handle.result()
        answer = handle.response
        assert answer is not None
        assert answer.error is error
        assert isinstance(answer, ErrorResponse)
        assert owner.told == ["ended", "delivered", "delivered"]

    def test_an_error_that_is_not_the_clients(self, handle: RequestHandle) -> None:
        error = KeyError("x")
        handle.fail(error)
        assert handle.response is not None
        assert handle.response.error is error
        assert handle.response.request.method == "GET"

    def test_only_the_first_counts(self, handle: RequestHandle, owner: Owner) -> None:
        assert handle.cancel()
        handle.succeed(response())
        handle.fail(KeyError())
        assert handle.cancelled()
        assert not handle.begin()
        assert owner.told == ["ended"]

    def test_what_is_done_is_not_cancelled(self, handle: RequestHandle) -> None:
        handle.succeed(response())
        assert not handle.cancel()
        assert not handle.cancelled()

    def test_cancelling_is_told_to_all_who_wait(self, handle: RequestHandle) -> None:
        called: list[RequestHandle] = []
        handle.add_done_callback(called.append)  # type: ignore[arg-type]
        waiting = threading.Thread(target=concurrent.futures.wait, args=([handle],))
        waiting.start()
        assert handle.cancel()
        waiting.join(PATIENCE)
        assert not waiting.is_alive()
        assert called == [handle]
        assert list(concurrent.futures.as_completed([handle])) == [handle]
        for ask in (handle.result, handle.exception):
            with pytest.raises(Cancelled, match=r"^GET http://h/x: the request was cancelled$"):
                ask()
        handle.wait()

    def test_a_time_that_passes_ends_nothing(self, handle: RequestHandle, owner: Owner) -> None:
        with pytest.raises(concurrent.futures.TimeoutError):
            handle.result(0.001)
        with pytest.raises(concurrent.futures.TimeoutError):
            handle.exception(0.001)
        assert not handle.done()
        assert owner.told == []

    def test_a_race_has_one_winner(self, owner: Owner) -> None:
        for _ in range(100):
            handle = RequestHandle(owner, "GET", "/", "http://h/")
            gate = threading.Barrier(3)
            won: list[bool] = []

            def cancel(
                handle: RequestHandle = handle, gate: Any = gate, won: list[bool] = won
            ) -> None:
                gate.wait()
                won.append(handle.cancel())

            def succeed(handle: RequestHandle = handle, gate: Any = gate) -> None:
                gate.wait()
                handle.succeed(response())

            threads = [threading.Thread(target=target) for target in (cancel, succeed)]
            for thread in threads:
                thread.start()
            gate.wait()
            for thread in threads:
                thread.join(PATIENCE)
            assert handle.cancelled() == won[0]
            assert handle.done()


class TestFreeing:
    def test_the_end_frees_the_worker(self, handle: RequestHandle) -> None:
        freed: list[int] = []
        handle.held(lambda: freed.append(1))
        handle.cancel()
        assert freed == [1]
        with pytest.raises(Ended):
            handle.held(None)

    def test_what_was_taken_back_is_not_called(self, handle: RequestHandle) -> None:
        freed: list[int] = []
        handle.held(lambda: freed.append(1))
        handle.held(None)
        handle.cancel()
        assert freed == []
        assert handle.over

    def test_a_pause_ends_with_the_handle(self, handle: RequestHandle) -> None:
        handle.pause(0.001)
        ended = threading.Event()

        def worker() -> None:
            try:
                handle.pause(PATIENCE)
            except Ended:
                ended.set()

        thread = threading.Thread(target=worker)
        thread.start()
        while handle._free is None:
            pass
        handle.cancel()
        assert ended.wait(PATIENCE / 2)
        thread.join(PATIENCE)


class TestErrors:
    def test_they_are_what_their_names_say(self) -> None:
        assert issubclass(ClientError, ResourceServerError)
        assert issubclass(ConnectError, ConnectionError)
        assert issubclass(TimeoutError, __builtins__["TimeoutError"])  # type: ignore[index]
        assert issubclass(Cancelled, concurrent.futures.CancelledError)

    def test_the_text_has_all(self) -> None:
        cause = OSError("broken")
        error = ConnectError("no way", method="GET", url="http://me:pw@h/?key=1&a=2", cause=cause)
        assert str(error) == "GET http://h/?key=***&a=2: no way (OSError: broken)"
        assert error.__cause__ is error.cause is cause
        assert str(ClientError("alone", cause=KeyError())) == "alone (KeyError)"

    def test_they_can_be_pickled(self) -> None:
        error = ProtocolError("no", method="GET", url="http://h/", cause=ValueError("x"))
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error)
        assert (again.method, again.url) == ("GET", "http://h/")

    @pytest.mark.parametrize(
        ("url", "safe"),
        [
            ("http://user:pass@host/p", "http://host/p"),
            ("https://a@b@host/", "https://host/"),
            ("http://h/?api_key=1&x=2&Token=3#f", "http://h/?api_key=***&x=2&Token=***#f"),
            ("http://h/a@b", "http://h/a@b"),
            ("/no/url", "/no/url"),
        ],
    )
    def test_urls_are_shown_without_secrets(self, url: str, safe: str) -> None:
        assert safe_url(url) == safe
        assert safe in repr(Outgoing("GET", url, Headers()))


class TestUrls:
    def test_what_a_location_means(self) -> None:
        here = origin_of("h", "http")
        assert joined(here, "/a/b?c", "d") == (here, "/a/d")
        assert joined(here, "/a", "//other/x") == (Origin("http", "other", 80), "/x")
        assert joined(here, "/a", "https://h") == (Origin("https", "h", 443), "/")
        assert joined(here, "/a", "//user@h/x") == (here, "/x")
        for location in ("mailto:x", "http:/x", "a\nb", "//a b"):
            with pytest.raises(ValueError, match=r".+"):
                joined(here, "/a", location)

    def test_on_a_unix_socket(self) -> None:
        here = origin_of("unix:/s", "http")
        assert joined(here, "/a/b", "c") == (here, "/a/c")
        assert joined(here, "/a/b", "http://h/c") == (Origin("http", "h", 80), "/c")


@pytest.fixture
def dog() -> Iterator[Watchdog]:
    dog = Watchdog("resource_server-test-watchdog")
    yield dog
    dog.stop(PATIENCE)


class TestWatchdog:
    def test_it_calls_in_the_order_of_times(self, dog: Watchdog) -> None:
        called: list[int] = []
        done = threading.Event()
        now = time.monotonic() + 0.3
        dog.at(now + 0.02, done.set)
        dog.at(now + 0.01, lambda: called.append(2))
        dog.at(now, lambda: called.append(1))
        assert done.wait(PATIENCE)
        assert called == [1, 2]

    def test_what_is_called_off_is_not_called(self, dog: Watchdog) -> None:
        called: list[int] = []
        done = threading.Event()
        now = time.monotonic()
        alarm = dog.at(now + 0.3, lambda: called.append(1))
        alarm.off()
        alarm.off()
        dog.at(now + 0.31, done.set)
        assert done.wait(PATIENCE)
        assert called == []

    def test_many_that_are_called_off_take_no_room(self, dog: Watchdog) -> None:
        late = time.monotonic() + PATIENCE
        for _ in range(5000):
            dog.at(late, int).off()
        assert len(dog._alarms) < 1000

    def test_it_goes_when_there_is_nothing_for_a_while_and_comes_again(
        self, dog: Watchdog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watchdog_module, "IDLE", 0.01)
        for _ in range(2):
            done = threading.Event()
            dog.at(time.monotonic(), done.set)
            assert done.wait(PATIENCE)
            deadline = time.monotonic() + PATIENCE
            while dog._thread is not None:
                assert time.monotonic() < deadline

    def test_stopped_it_calls_nothing_and_can_be_used_again(self, dog: Watchdog) -> None:
        called: list[int] = []
        dog.at(time.monotonic() + 0.3, lambda: called.append(1))
        dog.stop(PATIENCE)
        dog.stop(PATIENCE)
        done = threading.Event()
        dog.at(time.monotonic() + 0.31, done.set)
        assert done.wait(PATIENCE)
        assert called == []


class TestWorkers:
    def test_jobs_wait_for_a_thread(self) -> None:
        workers = Workers(2, "resource_server-test")
        go_on = threading.Event()
        at_work = threading.Semaphore(0)
        names: list[str] = []

        def job() -> None:
            at_work.release()
            go_on.wait(PATIENCE)
            names.append(threading.current_thread().name)

        for _ in range(5):
            workers.do(job)
        for _ in range(2):
            assert at_work.acquire(timeout=PATIENCE)
        assert not at_work.acquire(blocking=False)
        go_on.set()
        assert workers.stop(PATIENCE)
        assert len(names) == 5
        assert set(names) == {"resource_server-test-1", "resource_server-test-2"}

    def test_without_another_thread_those_there_are_do_all(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def start(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        workers = Workers(2, "resource_server-test")
        go_on, done = threading.Event(), threading.Event()
        workers.do(lambda: go_on.wait(PATIENCE))
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start)
            workers.do(done.set)
        go_on.set()
        assert done.wait(PATIENCE)
        assert workers.stop(PATIENCE)

    def test_a_thread_that_is_free_is_used_again(self) -> None:
        workers = Workers(8, "resource_server-test")
        for _ in range(10):
            done = threading.Event()
            workers.do(done.set)
            assert done.wait(PATIENCE)
            deadline = time.monotonic() + PATIENCE
            while workers._free < 1:
                assert time.monotonic() < deadline
        assert len(workers._threads) == 1
        assert workers.stop(PATIENCE)

    def test_threads_end_when_there_is_nothing_to_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(workers_module, "IDLE", 0.01)
        workers = Workers(2, "resource_server-test")
        for _ in range(2):
            done = threading.Event()
            workers.do(done.set)
            assert done.wait(PATIENCE)
            deadline = time.monotonic() + PATIENCE
            while workers._threads:
                assert time.monotonic() < deadline
            assert workers._free == 0
        assert workers.stop(PATIENCE)

    def test_one_that_does_not_come_back_is_not_waited_for(self) -> None:
        workers = Workers(1, "resource_server-test")
        go_on = threading.Event()
        workers.do(lambda: go_on.wait(PATIENCE))
        assert not workers.stop(0.01)
        # The next generation is not counted wrong by the last.
        done = threading.Event()
        workers.do(done.set)
        assert done.wait(PATIENCE)
        go_on.set()
        assert workers.stop(PATIENCE)
        assert workers._free == 0


class Line:
    """What a Pool needs of a connection."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.usable = True
        self.reused = False
        self.closed = False

    def close(self) -> None:
        self.closed = True


A, B = origin_of("a", "http"), origin_of("b", "http")


class TestPool:
    def take(self, pool: Pool, origin: Origin, *, fresh: bool = False) -> Any:
        handle = RequestHandle(Owner(), "GET", "/", "http://h/")
        return pool.take(origin, handle, fresh=fresh)

    def give(self, pool: Pool, origin: Origin) -> Any:
        assert self.take(pool, origin, fresh=True) is None
        line: Any = Line(origin)
        pool.give_back(line)
        return line

    def test_the_last_one_used_is_the_next(self) -> None:
        pool = Pool(4)
        assert [self.take(pool, A), self.take(pool, A)] == [None, None]
        lines: list[Any] = [Line(A), Line(A)]
        for line in lines:
            pool.give_back(line)
        assert pool.count == (0, 2)
        assert self.take(pool, B) is None
        assert self.take(pool, A) is lines[1]
        assert lines[1].reused
        assert pool.count == (2, 1)

    def test_one_that_is_not_usable_is_closed(self) -> None:
        pool = Pool(2)
        line = self.give(pool, A)
        line.usable = False
        assert self.take(pool, A) is None
        assert line.closed
        assert pool.count == (1, 0)

    def test_one_that_is_kept_makes_room_for_another_origin(self) -> None:
        pool = Pool(2)
        first, second = self.give(pool, A), self.give(pool, B)
        assert self.take(pool, origin_of("c", "http")) is None
        assert (first.closed, second.closed) == (True, False)
        assert pool.count == (1, 1)

    def test_a_fresh_one_is_not_one_that_was_kept(self) -> None:
        pool = Pool(1)
        line = self.give(pool, A)
        assert self.take(pool, A, fresh=True) is None
        assert line.closed
        assert pool.count == (1, 0)

    @pytest.mark.parametrize("back", [True, False])
    def test_who_waits_gets_what_comes_back(self, back: bool) -> None:
        pool = Pool(1)
        assert self.take(pool, A) is None
        got: list[object] = []
        thread = threading.Thread(target=lambda: got.append(self.take(pool, A)))
        thread.start()
        while not len(pool._line):
            pass
        line: Any = Line(A)
        if back:
            pool.give_back(line)
        else:
            pool.give_up()
        thread.join(PATIENCE)
        assert got == [line if back else None]
        assert pool.count == (1, 0)

    def test_nobody_is_overtaken(self) -> None:
        pool = Pool(1)
        assert self.take(pool, A) is None
        order: list[int] = []

        def wait(number: int) -> None:
            self.take(pool, A, fresh=True)
            order.append(number)
            pool.give_up()

        threads = [threading.Thread(target=wait, args=(number,)) for number in range(3)]
        for number, thread in enumerate(threads):
            thread.start()
            while len(pool._line) <= number:
                pass
        pool.give_up()
        for thread in threads:
            thread.join(PATIENCE)
        assert order == [0, 1, 2]
        assert pool.count == (0, 0)

    def test_who_is_cancelled_waits_no_longer(self) -> None:
        pool = Pool(1)
        assert self.take(pool, A) is None
        handles = [RequestHandle(Owner(), "GET", "/", "http://h/") for _ in range(2)]
        ended = threading.Semaphore(0)

        def wait(handle: RequestHandle) -> None:
            try:
                pool.take(A, handle, fresh=False)
            except Ended:
                ended.release()

        threads = [threading.Thread(target=wait, args=(handle,)) for handle in handles]
        for thread in threads:
            thread.start()
        while len(pool._line) < 2:
            pass
        assert handles[0].cancel()
        assert ended.acquire(timeout=PATIENCE)
        assert handles[1].cancel()
        assert ended.acquire(timeout=PATIENCE)
        for thread in threads:
            thread.join(PATIENCE)
        assert len(pool._line) == 0
        assert pool.count == (1, 0)

    def test_closed_it_keeps_nothing_and_gives_nothing(self) -> None:
        pool = Pool(2)
        kept = self.give(pool, A)
        assert self.take(pool, B) is None
        pool.close()
        assert kept.closed
        late: Any = Line(B)
        pool.give_back(late)
        assert late.closed
        with pytest.raises(Closed):
            self.take(pool, A)
        pool.open()
        assert self.take(pool, A) is None

    def test_who_waits_is_told_that_it_is_closed(self) -> None:
        pool = Pool(1)
        assert self.take(pool, A) is None
        closed = threading.Event()

        def wait() -> None:
            try:
                self.take(pool, A)
            except Closed:
                closed.set()

        thread = threading.Thread(target=wait)
        thread.start()
        while not len(pool._line):
            pass
        pool.close()
        assert closed.wait(PATIENCE)
        thread.join(PATIENCE)
