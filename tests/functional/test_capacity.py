"""More clients than there is room for."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from resource_server import Limits, Request, Resource, get
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from tests.conftest import Serve
    from tests.functional.conftest import Records


class App(Resource):
    @get("/")
    def index(self, request: Request) -> str:
        return "hello"


def test_clients_beyond_the_maximum_get_503_until_there_is_room(
    serve: Serve, logged: Records
) -> None:
    # Each loop tells it.
    server = serve(App(), loops=1, max_connections=2, limits=Limits(closing=0.2))
    first, second = Client(server.address), Client(server.address)
    assert first.get("/").status == second.get("/").status == 200
    for _ in range(5):
        with Client(server.address) as third:
            answer = third.read()
            assert (answer.status, answer.fields["connection"]) == (503, "close")
            assert answer.fields["retry-after"] == "1"
            assert third.is_closed()
    # Once a minute is enough.
    assert logged.at_least(logging.WARNING) == ["There are 2 connections; more are refused."]
    first.sock.close()
    while True:
        with Client(server.address) as third:
            third.ask("/")
            try:
                if third.read().status == 200:
                    break
            except ConnectionError:
                pass
    assert second.get("/").status == 200
    second.sock.close()


@pytest.mark.usefixtures("logged")
def test_a_flood_beyond_that_is_cut(serve: Serve) -> None:
    server = serve(App(), max_connections=1, limits=Limits(closing=PATIENCE))
    with Client(server.address) as first:
        assert first.get("/").status == 200
        flood = [Client(server.address) for _ in range(100)]
        told = 0
        for client in flood:
            try:
                told += client.read().status == 503
            except (EOFError, ConnectionError):
                pass
        assert 0 < told <= 64
        assert first.get("/").status == 200
        for client in flood:
            client.sock.close()


def test_the_backlog_takes_a_burst(serve: Serve) -> None:
    server = serve(App())

    def ask(_: int) -> int:
        with Client(server.address) as client:
            return client.get("/").status

    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(ask, range(300))) == {200}


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=3 * PATIENCE,
        check=False,
    )


PRELUDE = """
    import logging, os, resource, socket, sys, time
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    from resource_server import HTTPServer, Limits, Resource, get

    class App(Resource):
        @get("/")
        def index(self, request):
            return "hello"

    def ask(sock):
        sock.sendall(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
        return sock.recv(65536)

    def connect(server):
        return socket.create_connection(server.address, timeout=30)
"""


def test_running_out_of_descriptors_is_survived_without_spinning() -> None:
    done = run(
        PRELUDE
        + """
    server = HTTPServer(("127.0.0.1", 0), limits=Limits(write=0.4))
    server.register_routes(App())
    server.start()
    good = connect(server)
    assert b"200 OK" in ask(good)
    # Connections first, as these use the same descriptors.
    waiting = [socket.socket() for _ in range(10)]
    for sock in waiting:
        sock.settimeout(30)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd")) - 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 3, hard))
    for sock in waiting:
        sock.connect(server.address)
    # What was there is served, and waiting for descriptors takes no processor time.
    before = time.process_time()
    for _ in range(20):
        assert b"200 OK" in ask(good)
        time.sleep(0.05)
    assert time.process_time() - before < 0.5, time.process_time() - before
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    for sock in waiting:
        assert b"200 OK" in ask(sock)
        sock.close()
    good.close()
    assert server.stop()
    """
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == ["Accepting pauses: [Errno 24] Too many open files."]


def test_a_server_that_cannot_start_for_want_of_descriptors_leaves_nothing() -> None:
    done = run(
        PRELUDE
        + """
    server = HTTPServer(("127.0.0.1", 0), loops=1)
    server.register_routes(App())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd")) - 1
    failures = 0
    for spare in range(5):
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + spare, hard))
        try:
            server.start()
        except OSError as error:
            failures += 1
            assert "127.0.0.1:0" in str(error), error
        else:
            server.stop()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert len(os.listdir("/proc/self/fd")) - 1 == used, spare
    assert failures == 4, failures
    """
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_select_selector_cuts_what_it_cannot_watch() -> None:
    done = run(
        """
    import selectors
    selectors.DefaultSelector = selectors.SelectSelector
    """
        + PRELUDE
        + """
    server = HTTPServer(("127.0.0.1", 0))
    server.register_routes(App())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    server.start()
    fillers = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    cut = connect(server)
    try:
        assert cut.recv(10) == b""
    except ConnectionError:
        pass
    cut.close()
    for descriptor in fillers:
        os.close(descriptor)
    good = connect(server)
    assert b"200 OK" in ask(good)
    good.close()
    assert server.stop()
    """
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "takes no more connections" in done.stdout


def test_without_more_threads_requests_are_answered_all_the_same() -> None:
    done = run(
        PRELUDE
        + """
    import threading
    class Slow(Resource):
        @get("/slow", blocking=True)
        def slow(self, request):
            return "slow"
        @get("/inline", blocking=False)
        def inline(self, request):
            entered.set()
            gate.wait(30)
            return "inline"
    entered, gate = threading.Event(), threading.Event()
    server = HTTPServer(("127.0.0.1", 0))
    server.register_routes(App())
    server.register_routes(Slow())
    server.start()
    start = threading.Thread.start
    def refuse(self):
        raise RuntimeError("can't start new thread")
    threading.Thread.start = refuse
    sock, other = connect(server), connect(server)
    sock.sendall(b"GET /slow HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    assert b" 500 " in sock.recv(65536)
    sock.close()
    # The leader is taken over from; there is no standby until its handler is done.
    sock = connect(server)
    sock.sendall(b"GET /inline HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    assert entered.wait(30)
    assert b"hello" in ask(other)
    gate.set()
    assert b"inline" in sock.recv(65536)
    # Now there is one again.
    gate.clear(); entered.clear()
    sock.sendall(b"GET /inline HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    assert entered.wait(30)
    assert b"hello" in ask(other)
    gate.set()
    assert b"inline" in sock.recv(65536)
    threading.Thread.start = start
    sock.sendall(b"GET /slow HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    assert b"slow" in sock.recv(65536)
    sock.close()
    other.close()
    assert server.stop()
    """
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "No thread could be started for a request: can't start new thread"
    ]
