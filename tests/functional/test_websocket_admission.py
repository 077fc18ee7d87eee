"""Who may open a WebSocket: origins, checks, what Open and middlewares answer instead."""

from __future__ import annotations

import logging
import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import (
    SAME_ORIGIN,
    Conflict,
    Forbidden,
    HTTPServer,
    Redirect,
    Request,
    Resource,
    Response,
    Router,
    TextResponse,
    Unauthorized,
    WebSocketOpCode,
    WebSocketRequest,
    get,
    websocket,
)
from tests.rawclient import PATIENCE, Answer, Client
from tests.wsclient import PING, Frame, WSClient, opening

if TYPE_CHECKING:
    from collections.abc import Callable

    from resource_server.response import Handler
    from tests.conftest import Serve
    from tests.functional.conftest import Records


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        #: what handlers were called with
        self.events: queue.SimpleQueue[tuple[str, int | str]] = queue.SimpleQueue()
        self.answer: Callable[[], object] = lambda: None

    @websocket("/")
    def echo(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        self.events.put((opcode.name, payload if isinstance(payload, str) else payload.hex()))
        if opcode is WebSocketOpCode.Text:
            request.send(payload)

    @websocket("/checked", check=lambda request: checks[request.query["check"]](request))
    def checked(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        self.echo(request, opcode, payload)

    @websocket("/answering")
    def answering(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> object:
        self.events.put((opcode.name, request.close_code or 0))
        return self.answer() if opcode is WebSocketOpCode.Open else None

    @websocket("/greeting")
    def greeting(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is WebSocketOpCode.Open:
            request.send("welcome")
            request.send(b"\x00" * 200_000)
            request.ping(b"there?")
            request.send("come in")

    @websocket("/leaving")
    def leaving(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        self.events.put((opcode.name, request.close_code or 0))
        if opcode is WebSocketOpCode.Open:
            request.send("bye")
            request.close(4001, "no time")

    @websocket("/any", origins="*")
    @websocket("/app", origins=["https://app.example:8443", "http://other.example"])
    @websocket("/own-and-app", origins=[SAME_ORIGIN, "https://app.example"])
    @websocket("/sandbox", origins="null")
    def origins(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        self.echo(request, opcode, payload)

    @get("/page")
    def only_page(self, request: Request) -> str:
        return "only a page"


def fail(request: Request) -> object:
    raise ZeroDivisionError


def raising(error: Any) -> Callable[[Request], object]:
    def check(request: Request) -> object:
        raise error

    return check


checks: dict[str, Callable[[Request], object]] = {
    "none": lambda request: None,
    "true": lambda request: True,
    "false": lambda request: False,
    "class": lambda request: Conflict,
    "instance": lambda request: Unauthorized("Basic"),
    "raised": raising(Conflict("taken")),
    "raised class": raising(Conflict),
    "response": lambda request: TextResponse("not now", 429),
    "redirect": raising(Redirect("/elsewhere")),
    "failing": fail,
    "nonsense": lambda request: 7,
}


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app)


def ask(server: HTTPServer, request: bytes) -> Answer:
    with Client(server.address) as client:
        client.send(request)
        return client.read()


class TestOrigins:
    """§10.2: browsers tell which page it is that opens."""

    @pytest.mark.parametrize(
        ("path", "origin"),
        [
            ("/", "http://test"),
            ("/", "http://test:80"),
            ("/", "HTTP://TEST"),
            # A proxy may have ended TLS.
            ("/", "https://test"),
            ("/", "https://test:443"),
            ("/any", "https://evil.example"),
            ("/any", "null"),
            ("/app", "https://app.example:8443"),
            ("/app", "https://APP.example:8443"),
            ("/app", "http://other.example:80"),
            ("/own-and-app", "http://test"),
            ("/own-and-app", "https://app.example"),
            ("/sandbox", "null"),
        ],
    )
    def test_pages_that_may(self, server: HTTPServer, path: str, origin: str) -> None:
        with WSClient(server.address, path, f"Origin: {origin}") as client:
            assert client.echo("hello") == "hello"
        # What is no browser says nothing.
        with WSClient(server.address, path) as client:
            assert client.echo("hello") == "hello"

    @pytest.mark.parametrize(
        ("path", "origin"),
        [
            ("/", "http://evil.example"),
            ("/", "http://test.evil.example"),
            ("/", "http://eviltest"),
            ("/", "http://test:8080"),
            ("/", "https://test:80"),
            ("/", "http://test@evil.example"),
            ("/", "http://test/"),
            ("/", "http://test, http://test"),
            ("/", "http://test\r\nOrigin: http://test"),
            ("/", "ftp://test"),
            ("/", "file://"),
            ("/", "test"),
            ("/", "null"),
            ("/", ""),
            ("/app", "http://test"),
            ("/app", "https://app.example"),
            ("/app", "http://app.example:8443"),
            ("/app", "null"),
            ("/sandbox", "http://test"),
        ],
    )
    def test_pages_that_may_not(self, server: HTTPServer, app: App, path: str, origin: str) -> None:
        with Client(server.address) as client:
            client.send(opening(path, f"Origin: {origin}"))
            answer = client.read()
            assert answer.status == 403
            assert "sec-websocket-accept" not in answer.fields
            assert client.get("/page").status == 200
        assert app.events.empty()

    @pytest.mark.parametrize(
        ("host", "origin", "status"),
        [
            ("127.0.0.1:8000", "http://127.0.0.1:8000", 101),
            ("127.0.0.1:8000", "http://localhost:8000", 403),
            ("[::1]:8000", "http://[::1]:8000", 101),
            ("[::1]:8000", "http://[::2]:8000", 403),
            ("test:80", "http://test", 101),
            ("test:443", "https://test", 101),
            ("test:443", "http://test", 403),
        ],
    )
    def test_the_port_counts(self, server: HTTPServer, host: str, origin: str, status: int) -> None:
        with Client(server.address) as client:
            client.send(opening("/", f"Origin: {origin}", host=host))
            assert client.read().status == status


class TestCheck:
    @pytest.mark.parametrize("name", ["none", "true"])
    def test_it_may_let_in(self, server: HTTPServer, name: str) -> None:
        with WSClient(server.address, f"/checked?check={name}") as client:
            assert client.echo("hello") == "hello"

    @pytest.mark.parametrize(
        ("name", "status"),
        [
            ("false", 403),
            ("class", 409),
            ("instance", 401),
            ("raised", 409),
            ("raised%20class", 409),
            ("response", 429),
            ("redirect", 302),
            ("failing", 500),
            ("nonsense", 500),
        ],
    )
    def test_it_may_refuse(
        self, server: HTTPServer, app: App, name: str, status: int, logged: Records
    ) -> None:
        with Client(server.address) as client:
            client.send(opening(f"/checked?check={name}"))
            answer = client.read()
            assert answer.status == status
            assert "sec-websocket-accept" not in answer.fields
            # It is HTTP as before, and nothing has been opened.
            assert client.get("/page").status == 200
        assert app.events.empty()
        assert bool(logged.at_least(logging.ERROR)) is (status == 500)


class TestOpen:
    def test_messages_of_open_come_first(self, server: HTTPServer) -> None:
        with WSClient(server.address, "/greeting") as client:
            assert client.read_text() == "welcome"
            assert client.read_binary() == bytes(200_000)
            assert client.read_frame() == Frame(PING, b"there?")
            assert client.read_text() == "come in"

    def test_open_may_close(self, server: HTTPServer, app: App) -> None:
        with WSClient(server.address, "/leaving") as client:
            assert client.read_text() == "bye"
            assert client.is_left() == (4001, "no time")
        assert app.events.get(timeout=PATIENCE) == ("Open", 0)
        assert app.events.get(timeout=PATIENCE) == ("Close", 4001)
        assert app.events.empty()

    @pytest.mark.usefixtures("quiet")
    @pytest.mark.parametrize("action", ["close", "send"])
    def test_another_thread_may_use_it_before_open_has_returned(
        self, serve: Serve, action: str
    ) -> None:
        closed = threading.Event()

        class Early(Resource):
            @websocket("/", blocking=True)
            def early(
                self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
            ) -> None:
                if opcode is WebSocketOpCode.Close:
                    closed.set()
                elif opcode is WebSocketOpCode.Open:
                    act = request.close if action == "close" else request.send
                    thread = threading.Thread(
                        target=act, args=(4000,) if action == "close" else (bytes(10_000_000),)
                    )
                    thread.start()
                    thread.join()
                    # By then the loop has done what that thread had for it.
                    with Client(running.address) as client:
                        assert client.get("/nowhere").status == 404

        running = serve(Early())
        with WSClient(running.address) as client:
            if action == "send":
                assert client.read_binary() == bytes(10_000_000)
                client.send_close(4000)
            assert client.read_close()[0] == 4000
            client.send_close(4000)
            assert client.is_ended()
            assert closed.wait(PATIENCE)

    @pytest.mark.parametrize(
        ("returned", "raises"),
        [
            (Conflict, False),
            (Conflict("x"), False),
            (Response("no", 409), False),
            (Conflict, True),
            (Conflict("x"), True),
        ],
    )
    def test_open_may_refuse(
        self, server: HTTPServer, app: App, returned: Any, raises: bool, logged: Records
    ) -> None:
        def answer() -> object:
            if raises:
                raise returned
            return returned

        app.answer = answer
        with Client(server.address) as client:
            client.send(opening("/answering"))
            answered = client.read()
            assert answered.status == 409
            assert "sec-websocket-accept" not in answered.fields
            assert client.get("/page").status == 200
        # What was told to be open is told to be closed.
        assert app.events.get(timeout=PATIENCE) == ("Open", 0)
        assert app.events.get(timeout=PATIENCE)[0] == "Close"
        assert app.events.empty()
        assert logged.at_least(logging.WARNING) == []

    @pytest.mark.parametrize(
        "error", [ZeroDivisionError, SystemExit, KeyboardInterrupt, MemoryError]
    )
    def test_open_may_fail(
        self, server: HTTPServer, app: App, error: type[BaseException], logged: Records
    ) -> None:
        def answer() -> object:
            raise error

        app.answer = answer
        assert ask(server, opening("/answering")).status == 500
        assert app.events.get(timeout=PATIENCE) == ("Open", 0)
        assert app.events.get(timeout=PATIENCE)[0] == "Close"
        assert len(logged.at_least(logging.ERROR)) == 1

    @pytest.mark.parametrize("returned", [None, "text", 7, {"a": 1}, True, False])
    def test_what_else_open_returns_means_nothing(
        self, server: HTTPServer, app: App, returned: object
    ) -> None:
        app.answer = lambda: returned
        with WSClient(server.address, "/answering") as client:
            assert client.leave() == (1000, "")

    def test_a_client_may_vanish_before_it_is_open(self, serve: Serve) -> None:
        entered, gate = threading.Event(), threading.Event()
        events: queue.SimpleQueue[WebSocketOpCode] = queue.SimpleQueue()

        class Slow(Resource):
            @websocket("/", blocking=True)
            def slow(
                self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
            ) -> None:
                events.put(opcode)
                if opcode is WebSocketOpCode.Open:
                    entered.set()
                    gate.wait(PATIENCE)

        server = serve(Slow())
        client = Client(server.address)
        client.send(opening("/"))
        assert entered.wait(PATIENCE)
        client.reset()
        gate.set()
        assert events.get(timeout=PATIENCE) is WebSocketOpCode.Open
        assert events.get(timeout=PATIENCE) is WebSocketOpCode.Close
        assert events.empty()


class TestMiddlewares:
    def test_they_see_it_open_and_may_refuse_it(self, serve: Serve, app: App) -> None:
        seen: list[int] = []

        def watch(handler: Handler) -> Handler:
            def handle(request: Request) -> Response:
                if "secret" not in request.query:
                    raise Forbidden
                response = handler(request)
                seen.append(response.status_code)
                response.headers["X-Seen"] = "yes"
                response.set_cookie("session", "1")
                return response

            return handle

        router = Router(middlewares=[watch])
        router.register_routes(app)
        server = serve(router)
        assert ask(server, opening("/")).status == 403
        with WSClient(server.address, "/?secret") as client:
            assert client.answer.fields["x-seen"] == "yes"
            assert client.answer.fields["set-cookie"].startswith("session=1")
            assert client.echo("hello") == "hello"
        assert seen == [101]

    def test_one_that_answers_something_else_closes_it(self, serve: Serve, app: App) -> None:
        def spoil(handler: Handler) -> Handler:
            def handle(request: Request) -> Response:
                handler(request)
                return Response("no", 418)

            return handle

        router = Router(middlewares=[spoil])
        router.register_routes(app)
        server = serve(router)
        assert ask(server, opening("/")).status == 418
        assert app.events.get(timeout=PATIENCE) == ("Open", "")
        assert app.events.get(timeout=PATIENCE) == ("Close", "")

    def test_a_response_with_101_by_hand_is_a_defect(self, serve: Serve, logged: Records) -> None:
        class Wrong(Resource):
            @get("/")
            def index(self, request: Request) -> Response:
                return Response(None, 101)

        assert ask(serve(Wrong()), opening("/")).status == 500
        assert len(logged.at_least(logging.ERROR)) == 1
