"""Handlers that raise, clients that vanish, logs that fail: the server lives, and says little."""

from __future__ import annotations

import logging
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from resource_server import Disconnected, Limits, Request, Resource, Response, get, post
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resource_server import HTTPServer
    from tests.conftest import Serve
    from tests.functional.conftest import Records

FAILURES = [ZeroDivisionError, SystemExit, KeyboardInterrupt, MemoryError, GeneratorExit]


def has_left(request: Request) -> bool:
    """Whether the client has left by now: a type checker takes a property to stay the same."""
    return request.disconnected


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.error: type[BaseException] = ZeroDivisionError
        self.entered = threading.Semaphore(0)
        self.gate = threading.Event()
        self.noticed = threading.Event()
        self.interim: BaseException | None = None

    @get("/")
    def index(self, request: Request) -> str:
        return "hello"

    @get("/fails", blocking=False)
    def fails(self, request: Request) -> None:
        raise self.error("the secret")

    @get("/fails-in-worker", blocking=True)
    def fails_in_worker(self, request: Request) -> None:
        raise self.error("the secret")

    @post("/echo")
    def echo(self, request: Request) -> bytes:
        return request.body()

    @get("/wait", blocking=True)
    def wait(self, request: Request) -> str:
        self.entered.release()
        assert self.gate.wait(PATIENCE)
        return "waited"

    @get("/watch", blocking=True)
    def watch(self, request: Request) -> str:
        assert not has_left(request)
        self.entered.release()
        pace = threading.Event()
        while not has_left(request):
            pace.wait(0.01)
        self.noticed.set()
        return "nobody reads this"

    @get("/hint", blocking=True)
    def hint(self, request: Request) -> str:
        self.entered.release()
        pace = threading.Event()
        try:
            while True:
                request.send_interim(103)
                pace.wait(0.01)
        except Disconnected as error:
            self.interim = error
            assert request.disconnected
            self.noticed.set()
        return "nobody reads this"

    @get("/big")
    def big(self, request: Request) -> bytes:
        return bytes(10_000_000)


@pytest.fixture
def app() -> Iterator[App]:
    app = App()
    yield app
    app.gate.set()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app)


class TestHandlers:
    @pytest.mark.parametrize("path", ["/fails", "/fails-in-worker"])
    @pytest.mark.parametrize("error", FAILURES)
    def test_any_exception_is_a_500_and_a_traceback_in_the_log(
        self, server: HTTPServer, app: App, logged: Records, path: str, error: type[BaseException]
    ) -> None:
        app.error = error
        with Client(server.address) as client:
            answer = client.get(path)
            assert answer.status == 500
            assert b"secret" not in answer.body
            assert client.get("/").body == b"hello"
        (record,) = [r for r in logged.records if r.levelno >= logging.WARNING]
        assert record.exc_info is not None
        assert record.exc_info[0] is error

    def test_a_logging_handler_that_fails_does_not_harm_the_server(
        self, server: HTTPServer, app: App
    ) -> None:
        class Failing(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raise RuntimeError("the disk is full")

        logger = logging.getLogger("resource_server")
        level = logger.level
        failing = Failing(logging.DEBUG)
        logger.addHandler(failing)
        logger.setLevel(logging.DEBUG)
        try:
            for path in ("/fails", "/fails-in-worker") * 3:
                with Client(server.address) as client:
                    client.ask(path)
                    client.some()
            with Client(server.address) as client:
                client.ask("/big")
                client.reset()
            with Client(server.address) as client:
                assert client.get("/").body == b"hello"
        finally:
            logger.setLevel(level)
            logger.removeHandler(failing)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("vanish", ["close", "reset"])
class TestVanishing:
    """A client that is gone costs nothing and logs nothing above DEBUG."""

    def vanish(self, client: Client, how: str) -> None:
        if how == "reset":
            client.reset()
        else:
            client.sock.close()

    def still_serves(self, server: HTTPServer) -> None:
        with Client(server.address) as client:
            assert client.get("/").body == b"hello"

    @pytest.mark.parametrize(
        "sent",
        [
            b"",
            b"G",
            b"GET / HTTP/1.1\r\nHost: a\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 30,
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"x" * 100_000,
            b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
            b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n",
            b"GET /big HTTP/1.1\r\nHost: a\r\n\r\n" * 30,
            b"nonsense\r\n\r\n" + b"x" * 100_000,
        ],
    )
    def test_after_sending_something(self, server: HTTPServer, sent: bytes, vanish: str) -> None:
        for _ in range(10):
            client = Client(server.address)
            client.send(sent)
            self.vanish(client, vanish)
        self.still_serves(server)

    def test_within_the_answer(self, server: HTTPServer, vanish: str) -> None:
        client = Client(server.address)
        client.ask("/big")
        client.head()
        self.vanish(client, vanish)
        self.still_serves(server)

    def test_while_the_handler_works(self, server: HTTPServer, app: App, vanish: str) -> None:
        client = Client(server.address)
        client.ask("/wait")
        client.ask("/wait")
        assert app.entered.acquire(timeout=PATIENCE)
        self.vanish(client, vanish)
        self.still_serves(server)
        app.gate.set()
        self.still_serves(server)

    def test_the_handler_can_notice(self, server: HTTPServer, app: App, vanish: str) -> None:
        client = Client(server.address)
        client.ask("/watch")
        assert app.entered.acquire(timeout=PATIENCE)
        self.vanish(client, vanish)
        assert app.noticed.wait(PATIENCE)

    def test_interim_responses_fail(self, server: HTTPServer, app: App, vanish: str) -> None:
        client = Client(server.address)
        client.ask("/hint")
        assert app.entered.acquire(timeout=PATIENCE)
        self.vanish(client, vanish)
        assert app.noticed.wait(PATIENCE)
        assert isinstance(app.interim, Disconnected)

    def test_after_an_error(self, server: HTTPServer, vanish: str) -> None:
        client = Client(server.address)
        client.send(b"nonsense\r\n\r\n")
        assert client.read().status == 400
        self.vanish(client, vanish)
        self.still_serves(server)


@pytest.mark.usefixtures("quiet")
def test_a_client_that_takes_no_interim_response_is_cut_off(serve: Serve, app: App) -> None:
    server = serve(app, limits=Limits(write=0.2))

    class Flood(Resource):
        @get("/flood", blocking=True)
        def flood(self, request: Request) -> str:
            try:
                while True:
                    request.send_interim(103, {"Link": "x" * 1000})
            except Disconnected:
                app.noticed.set()
            return ""

    server.register_routes(Flood())
    with Client(server.address, receive_buffer=4096) as client:
        client.ask("/flood")
        assert app.noticed.wait(PATIENCE)


class TestAccessLog:
    @pytest.fixture
    def access(self, logged: Records) -> Iterator[list[str]]:
        logger = logging.getLogger("resource_server.access")
        logger.setLevel(logging.INFO)
        lines: list[str] = []

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                lines.append(record.getMessage())

        handler = Handler()
        logger.addHandler(handler)
        yield lines
        logger.removeHandler(handler)

    def test_each_answer_has_a_line(self, serve: Serve, app: App, access: list[str]) -> None:
        server = serve(app)
        with Client(server.address) as client:
            client.get("/?a=b", "Referer: http://there/", "User-Agent: me")
            client.get("/", method="HEAD")
            client.get("/nowhere")
            client.send(b"nonsense\r\n\r\n")
            client.read()
        server.stop()
        assert len(access) == 4
        assert access[0].startswith('127.0.0.1 "GET /?a=b HTTP/1.1" 200 5 "http://there/" "me" ')
        assert access[1].startswith('127.0.0.1 "HEAD / HTTP/1.1" 200 0 "-" "-" ')
        assert '"GET /nowhere HTTP/1.1" 404' in access[2]
        assert access[3].startswith('127.0.0.1 "-" 400')

    def test_what_a_terminal_would_act_upon_is_escaped(
        self, serve: Serve, app: App, access: list[str]
    ) -> None:
        server = serve(app)
        with Client(server.address) as client:
            client.send(b'GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: \x9b31m"\\\t\r\n\r\n')
            client.read()
        server.stop()
        assert r'"\x9b31m\x22\x5c"' in access[0]

    def test_a_handler_of_it_that_fails_costs_no_answer(
        self, serve: Serve, app: App, access: list[str]
    ) -> None:
        class Failing(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raise RuntimeError("the disk is full")

        logger = logging.getLogger("resource_server.access")
        failing = Failing()
        logger.addHandler(failing)
        try:
            server = serve(app)
            with Client(server.address) as client:
                for path in ("/", "/wait", "/"):
                    app.gate.set()
                    assert client.get(path).status == 200
        finally:
            logger.removeHandler(failing)


def test_garbage_of_any_kind_is_answered_or_dropped(server: HTTPServer) -> None:
    garbage = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
        b"\x00" * 1000,
        b"\r\n" * 1000,
        b"GET",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        bytes(range(256)) * 300,
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 10_000,
    ]
    for data in garbage:
        with Client(server.address) as client:
            try:
                client.send(data)
                client.half_close()
                client.rest()
            except OSError:
                pass
    with Client(server.address) as client:
        assert client.get("/").body == b"hello"


def test_a_default_timeout_of_the_application_is_no_matter(serve: Serve, app: App) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(0.05)
    try:
        server = serve(app)
        with Client(server.address) as client:
            client.ask("/wait")
            assert app.entered.acquire(timeout=PATIENCE)
            threading.Event().wait(0.2)
            app.gate.set()
            assert client.read().body == b"waited"
    finally:
        socket.setdefaulttimeout(before)


def test_responses_may_be_shared(serve: Serve) -> None:
    shared = Response("shared", headers={"X": "y"})

    class Shared(Resource):
        @get("/")
        def index(self, request: Request) -> Response:
            return shared

    with Client(serve(Shared()).address) as client:
        for _ in range(3):
            assert client.get("/").body == b"shared"
