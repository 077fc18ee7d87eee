"""Stopping: from anywhere, at any moment, in time, and without a trace."""

from __future__ import annotations

import gc
import logging
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING

import pytest

from resource_server import (
    HTTPServer,
    Limits,
    Request,
    Resource,
    Response,
    StreamResponse,
    get,
    post,
)
from tests.conftest import server_threads
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Serve
    from tests.functional.conftest import Records


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.server: HTTPServer | None = None
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.stopped: list[bool] = []

    @get("/")
    def index(self, request: Request) -> str:
        return "hello"

    @get("/wait", blocking=True)
    def wait(self, request: Request) -> str:
        self.entered.release()
        self.gate.wait(PATIENCE)
        return "waited"

    @get("/wait-inline", blocking=False)
    def wait_inline(self, request: Request) -> str:
        return self.wait(request)

    @post("/live", stream=True)
    def live(self, request: Request) -> bytes:
        self.entered.release()
        return request.stream.read()

    @post("/echo")
    def echo(self, request: Request) -> bytes:
        return request.body()

    @get("/stream")
    def stream(self, request: Request) -> Response:
        return StreamResponse(bytes(10_000) for _ in range(10_000_000))

    @get("/big")
    def big(self, request: Request) -> bytes:
        return bytes(30_000_000)

    @get("/stop", blocking=False)
    def stop(self, request: Request) -> str:
        assert self.server is not None
        self.stopped.append(self.server.stop())
        return "stopping"

    @get("/stop-in-worker", blocking=True)
    def stop_in_worker(self, request: Request) -> str:
        return self.stop(request)


@pytest.fixture
def app() -> Iterator[App]:
    app = App()
    yield app
    app.gate.set()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    app.server = serve(app)
    return app.server


def stop_within(server: HTTPServer, timeout: float, *, at_most: float) -> bool:
    started = time.monotonic()
    stopped = server.stop(timeout)
    assert time.monotonic() - started < at_most
    return stopped


def is_cut_off(server: HTTPServer) -> bool:
    """Stop with little patience: whether all has ended then, or soon as the machine is busy."""
    if not stop_within(server, 0.2, at_most=10):
        for thread in server_threads():
            thread.join(PATIENCE)
    return server_threads() == []


class TestFromAnywhere:
    def test_idle_connections_are_closed_at_once(self, server: HTTPServer) -> None:
        with Client(server.address) as idle, Client(server.address) as fresh:
            assert idle.get("/").status == 200
            assert stop_within(server, PATIENCE, at_most=10)
            assert idle.is_closed()
            assert fresh.is_closed()
        with pytest.raises(ConnectionRefusedError):
            Client(server.address)

    def test_before_start_and_twice(self, app: App) -> None:
        server = HTTPServer(("127.0.0.1", 0))
        assert server.stop()
        server.start()
        assert server.stop()
        assert server.stop()
        assert not server.running

    def test_from_many_threads_at_once(self, server: HTTPServer) -> None:
        results: list[bool] = []
        threads = [threading.Thread(target=lambda: results.append(server.stop())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == [True] * 8

    @pytest.mark.parametrize("path", ["/stop", "/stop-in-worker"])
    def test_from_a_handler(self, server: HTTPServer, app: App, path: str) -> None:
        with Client(server.address) as client:
            answer = client.get(path)
            assert (answer.body, answer.fields["connection"]) == (b"stopping", "close")
        assert app.stopped == [False]
        assert server.wait(PATIENCE)
        assert server.stop()

    def test_a_waiting_thread_goes_on(self, server: HTTPServer) -> None:
        assert not server.wait(0.01)
        waiting = threading.Thread(target=server.wait)
        waiting.start()
        server.stop()
        waiting.join(PATIENCE)
        assert not waiting.is_alive()

    def test_run_in_a_thread_returns(self, app: App) -> None:
        server = HTTPServer(("127.0.0.1", 0))
        running = threading.Thread(target=server.run)
        running.start()
        while not server.running:
            pass
        server.stop()
        running.join(PATIENCE)
        assert not running.is_alive()


class TestRequestsUnderWay:
    @pytest.mark.parametrize("path", ["/wait", "/wait-inline"])
    def test_they_are_answered(self, server: HTTPServer, app: App, path: str) -> None:
        with Client(server.address) as client:
            client.ask(path)
            assert app.entered.acquire(timeout=PATIENCE)
            stopping = threading.Thread(target=server.stop, args=(PATIENCE,))
            stopping.start()
            while True:
                # It listens no more, at once.
                try:
                    Client(server.address).sock.close()
                except ConnectionError:
                    break
            app.gate.set()
            answer = client.read()
            assert (answer.body, answer.fields["connection"]) == (b"waited", "close")
            client.sock.close()
            stopping.join(PATIENCE)
        assert not server.running

    def test_a_body_is_still_received(self, server: HTTPServer, app: App) -> None:
        with Client(server.address) as client, Client(server.address) as idle:
            client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na")
            assert idle.get("/").status == 200
            stopping = threading.Thread(target=server.stop, args=(PATIENCE,))
            stopping.start()
            assert idle.is_closed()
            client.send(b"bc")
            assert client.read().body == b"abc"
            client.sock.close()
            stopping.join(PATIENCE)

    def test_a_large_answer_is_still_sent(self, server: HTTPServer) -> None:
        with Client(server.address, receive_buffer=4096) as client, Client(server.address) as idle:
            client.ask("/big")
            client.head()
            assert idle.get("/").status == 200
            stopping = threading.Thread(target=server.stop, args=(PATIENCE,))
            stopping.start()
            assert idle.is_closed()
            assert len(client._exactly(30_000_000)) == 30_000_000
            client.sock.close()
            stopping.join(PATIENCE)

    def test_what_is_pipelined_behind_is_answered_with_the_last(
        self, server: HTTPServer, app: App
    ) -> None:
        with Client(server.address) as client:
            client.ask("/wait")
            client.ask("/")
            assert app.entered.acquire(timeout=PATIENCE)
            stopping = threading.Thread(target=server.stop, args=(PATIENCE,))
            stopping.start()
            while True:
                try:
                    Client(server.address).sock.close()
                except ConnectionError:
                    break
            app.gate.set()
            assert client.read().fields["connection"] == "close"
            assert client.is_closed()
            client.sock.close()
            stopping.join(PATIENCE)


class TestInTime:
    @pytest.mark.parametrize("path", ["/wait", "/wait-inline"])
    @pytest.mark.parametrize("timeout", [0.0, 0.1])
    def test_although_a_handler_blocks(
        self, server: HTTPServer, app: App, logged: Records, path: str, timeout: float
    ) -> None:
        with Client(server.address) as client:
            client.ask(path)
            assert app.entered.acquire(timeout=PATIENCE)
            assert not stop_within(server, timeout, at_most=10)
            assert not server.running
            assert client.is_closed()
            assert logged.at_least(logging.WARNING) == [
                "A handler is still running; its thread is left to end by itself."
            ]
            app.gate.set()

    def test_although_many_are_waiting_for_the_only_worker(self, serve: Serve, app: App) -> None:
        # The first may be overtaken in its loop, which makes that a worker more.
        server = serve(app, threads=1, loops=1)
        clients = [Client(server.address) for _ in range(5)]
        for client in clients:
            client.ask("/wait")
        assert app.entered.acquire(timeout=PATIENCE)
        with Client(server.address) as client:
            assert client.get("/").status == 200
        assert not stop_within(server, 0.1, at_most=10)
        for client in clients:
            assert client.is_closed()
            client.sock.close()
        app.gate.set()
        # Those that had not begun never do.
        assert not app.entered.acquire(timeout=0.2)

    @pytest.mark.parametrize("path", ["/stream", "/big"])
    def test_although_a_client_does_not_read(self, server: HTTPServer, path: str) -> None:
        with Client(server.address, receive_buffer=4096) as client:
            client.ask(path)
            client.head()
            assert is_cut_off(server)

    def test_although_a_stream_runs(self, server: HTTPServer) -> None:
        with Client(server.address) as client:
            client.ask("/stream")
            reading = threading.Event()

            def read() -> None:
                try:
                    while client.some():
                        reading.set()
                except OSError:
                    pass

            reader = threading.Thread(target=read)
            reader.start()
            assert reading.wait(PATIENCE)
            assert is_cut_off(server)
            reader.join(PATIENCE)

    def test_although_a_handler_waits_for_a_body(self, server: HTTPServer, app: App) -> None:
        with Client(server.address) as client:
            client.send(b"POST /live HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
            assert app.entered.acquire(timeout=PATIENCE)
            assert is_cut_off(server)

    def test_although_a_client_sends_half_a_request(self, server: HTTPServer) -> None:
        with Client(server.address) as client:
            client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
            with Client(server.address) as other:
                assert other.get("/").status == 200
            assert is_cut_off(server)

    def test_a_second_stop_may_be_more_impatient(self, server: HTTPServer, app: App) -> None:
        with Client(server.address) as client:
            client.ask("/wait")
            assert app.entered.acquire(timeout=PATIENCE)
            patient = threading.Thread(target=server.stop, args=(PATIENCE,))
            patient.start()
            assert not stop_within(server, 0.1, at_most=10)
            app.gate.set()
            patient.join(PATIENCE)
            assert not patient.is_alive()

    @pytest.mark.parametrize("timeout", [-1.0, 1e12, float("inf")])
    def test_any_timeout_will_do(self, server: HTTPServer, timeout: float) -> None:
        assert server.stop(timeout)
        assert server.wait(timeout)

    def test_under_load(self, app: App, serve: Serve) -> None:
        for _ in range(5):
            server = serve(app)
            halt = threading.Event()

            def load(address: tuple[str, int], halt: threading.Event) -> None:
                while not halt.is_set():
                    try:
                        with Client(address) as client:
                            for _ in range(20):
                                client.get("/")
                    except (OSError, EOFError):
                        pass

            threads = [threading.Thread(target=load, args=(server.address, halt)) for _ in range(4)]
            for thread in threads:
                thread.start()
            with Client(server.address) as client:
                assert client.get("/").status == 200
            # Clients that are being answered have up to 2 s to leave.
            assert stop_within(server, PATIENCE, at_most=20)
            halt.set()
            for thread in threads:
                thread.join()


class TestWithoutATrace:
    def test_it_starts_again_and_again(self, server: HTTPServer, app: App) -> None:
        def use() -> None:
            with Client(server.address) as client:
                assert client.get("/").status == 200
                client.ask("/wait")
                app.gate.set()
                assert client.read().status == 200

        use()
        server.stop()
        before = os.listdir("/proc/self/fd")
        for _ in range(10):
            server.start()
            use()
            assert server.stop()
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) == len(before)
        names = [thread.name for thread in threading.enumerate()]
        assert [name for name in names if name.startswith("resource_server")] == []

    def test_the_same_port_can_be_had_again_at_once(self, serve: Serve, app: App) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = serve(app, address=("127.0.0.1", port))
        for _ in range(3):
            with Client(server.address) as client:
                assert client.get("/").status == 200
                server.stop()
            server.start()

    def test_it_does_not_start_twice(self, server: HTTPServer) -> None:
        with pytest.raises(RuntimeError, match="running already"):
            server.start()

    def test_many_live_in_one_process(self, serve: Serve, app: App) -> None:
        servers = [serve(app) for _ in range(10)]
        assert len({server.address for server in servers}) == 10
        for server in servers[::2]:
            assert server.stop()
        for server in servers[1::2]:
            with Client(server.address) as client:
                assert client.get("/").status == 200


def run(code: str, *, timeout: float = 2 * PATIENCE) -> tuple[float, str]:
    """Run a program to its end; how long it took, and what it printed."""
    prelude = """
        import socket, sys, threading, time
        from resource_server import HTTPServer, Resource, Limits, get

        entered = threading.Event()

        class App(Resource):
            @get("/")
            def index(self, request):
                return "hello"
            @get("/block")
            def block(self, request):
                entered.set()
                threading.Event().wait(3600)

        server = HTTPServer(("127.0.0.1", 0))
        server.register_routes(App())

        def connect():
            return socket.create_connection(server.address, timeout=30)

        def ask(path="/"):
            sock = connect()
            sock.sendall(f"GET {path} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n".encode())
            return sock
    """
    started = time.monotonic()
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "dev",
            "-W",
            "error",
            "-c",
            textwrap.dedent(prelude) + textwrap.dedent(code),
        ],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return time.monotonic() - started, done.stdout + done.stderr


class TestExit:
    """An interpreter that ends with a server running ends cleanly, and soon."""

    def test_with_a_forgotten_server(self) -> None:
        seconds, output = run(
            """
            server.start()
            with ask() as sock:
                assert b"hello" in sock.recv(1000)
            """
        )
        assert output == ""
        assert seconds < 10

    def test_with_one_that_nobody_refers_to(self) -> None:
        _, output = run(
            """
            def forget():
                another = HTTPServer(("127.0.0.1", 0))
                another.start()
                return another.address
            address = forget()
            import gc; gc.collect()
            import atexit
            sock = socket.create_connection(address)
            sock.sendall(b"OPTIONS * HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
            assert b"HTTP/1.1 " in sock.recv(1000)
            sock.close()
            """
        )
        assert output == ""

    def test_with_a_handler_that_blocks(self) -> None:
        seconds, output = run(
            """
            server.start()
            sock = ask("/block")
            assert entered.wait(30)
            sock.close()
            """
        )
        assert output == "A handler is still running; its thread is left to end by itself.\n"
        assert seconds < 10

    def test_after_a_stop_that_left_a_handler_behind(self) -> None:
        _, output = run(
            """
            server.start()
            sock = ask("/block")
            assert entered.wait(30)
            sock.close()
            assert not server.stop(0.1)
            began = time.monotonic()
            import atexit
            atexit.register(lambda: print(time.monotonic() - began < 1))
            """
        )
        assert sorted(output.splitlines()) == [
            "A handler is still running; its thread is left to end by itself.",
            "True",
        ]

    def test_when_the_main_thread_fails(self) -> None:
        _, output = run(
            """
            sys.excepthook = lambda *_: print("failed", flush=True)
            import os
            import atexit
            # The exit code of a failed program is 1; this test wants to see that all goes well.
            atexit.register(os._exit, 0)
            server.start()
            ask().close()
            raise ZeroDivisionError
            """
        )
        assert output == "failed\n"

    def test_run_ends_with_signals(self) -> None:
        for name in ("SIGINT", "SIGTERM"):
            _, output = run(
                f"""
                import os, signal
                def interrupt():
                    while not server.running:
                        time.sleep(0.01)
                    ask().close()
                    os.kill(os.getpid(), signal.{name})
                before = signal.getsignal(signal.{name})
                thread = threading.Thread(target=interrupt)
                thread.start()
                server.run()
                thread.join()
                assert not server.running
                assert signal.getsignal(signal.{name}) is before
                print("ended")
                """
            )
            assert output == "ended\n"

    def test_run_raises_what_start_raises(self) -> None:
        _, output = run(
            """
            import signal
            before = signal.getsignal(signal.SIGINT)
            try:
                HTTPServer(("203.0.113.71", 80)).run()
            except OSError as error:
                print("203.0.113.71:80" in str(error))
            assert signal.getsignal(signal.SIGINT) is before
            """
        )
        assert output == "True\n"

    def test_run_waits_for_a_server_that_runs_already(self) -> None:
        _, output = run(
            """
            server.start()
            address = server.address
            threading.Timer(0.2, server.stop).start()
            server.run()
            assert server.address == address
            print("ended")
            """
        )
        assert output == "ended\n"


class TestIdle:
    def test_an_idle_server_has_two_threads_and_uses_no_processor(self) -> None:
        _, output = run(
            """
            import selectors
            class Counting(selectors.DefaultSelector):
                calls = 0
                def select(self, timeout=None):
                    Counting.calls += 1
                    return super().select(timeout)
            selectors.DefaultSelector = Counting
            crew = __import__("resource_server.engine.crew", fromlist=["crew"])
            crew.IDLE = 0.1
            server = HTTPServer(("127.0.0.1", 0), loops=1)
            server.register_routes(App())
            server.start()
            socks = [ask() for _ in range(20)]
            for sock in socks:
                assert b"hello" in sock.recv(1000)
            def settled():
                names = [thread.name for thread in threading.enumerate()]
                return len([name for name in names if name.startswith("resource_server")]) == 2
            deadline = time.monotonic() + 30
            while not settled():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            # Give the standby the time to see that nothing happens, then look.
            time.sleep(1.5)
            calls, used = Counting.calls, time.process_time()
            time.sleep(2)
            calls, used = Counting.calls - calls, time.process_time() - used
            assert calls <= 1, calls
            assert used < 0.02, used
            assert settled()
            for sock in socks:
                sock.close()
            print("idle")
            """
        )
        assert output == "idle\n"

    def test_the_first_request_after_a_rest_is_watched_too(self, serve: Serve, app: App) -> None:
        """The standby sleeps by then, and has to be woken before the handler begins."""
        server = serve(app, limits=Limits())
        loop = server._engine._loops[0]  # type: ignore[union-attr]
        deadline = time.monotonic() + PATIENCE
        while not loop.standby_asleep:
            assert time.monotonic() < deadline
        with Client(server.address) as blocked, Client(server.address) as client:
            blocked.ask("/wait-inline")
            assert app.entered.acquire(timeout=PATIENCE)
            assert client.get("/").status == 200
            app.gate.set()
            assert blocked.read().status == 200
