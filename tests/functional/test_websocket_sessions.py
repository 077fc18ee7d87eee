"""Sessions: conversations that are written as a loop, each in a thread of its own."""

from __future__ import annotations

import logging
import queue
import threading
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest
import websocket as independent

from resource_server import (
    HTTPServer,
    Limits,
    Request,
    Resource,
    WebSocketClosed,
    WebSocketSession,
    get,
    websocket_session,
)
from resource_server.engine.crew import Crew
from tests.conftest import server_threads
from tests.rawclient import PATIENCE, Client
from tests.wsclient import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    Frame,
    WSClient,
    close_frame,
    eventually,
    frame,
    opening,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.conftest import Serve
    from tests.functional.conftest import Records


class App(Resource):
    """Each session runs what the test puts into ``script``."""

    def __init__(self) -> None:
        super().__init__()
        self.script: Callable[[WebSocketSession], object] = echo
        self.sessions: queue.SimpleQueue[WebSocketSession] = queue.SimpleQueue()
        self.ends: queue.SimpleQueue[tuple[int | None, str]] = queue.SimpleQueue()

    @websocket_session("/", subprotocols=["chat"])
    @websocket_session("/rooms/:room")
    def converse(self, socket: WebSocketSession) -> None:
        self.sessions.put(socket)
        try:
            self.script(socket)
        finally:
            self.ends.put((socket.close_code, socket.close_reason))

    @websocket_session("/few", max_sessions=3)
    def few(self, socket: WebSocketSession) -> None:
        self.converse(socket)

    @websocket_session("/refused", check=lambda request: False)
    def refused(self, socket: WebSocketSession) -> None:
        self.converse(socket)

    @get("/page")
    def page(self, request: Request) -> str:
        return "a page"

    def session(self) -> WebSocketSession:
        return self.sessions.get(timeout=PATIENCE)

    def end(self) -> tuple[int | None, str]:
        return self.ends.get(timeout=PATIENCE)


def echo(socket: WebSocketSession) -> None:
    for message in socket:
        socket.send(message)


def wait(socket: WebSocketSession) -> None:
    """Stay until it is closed."""
    for _ in socket:
        pass


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app, limits=Limits(closing=10 * PATIENCE))


@pytest.mark.usefixtures("quiet")
class TestConversations:
    def test_iteration_gives_messages_until_the_client_leaves(
        self, server: HTTPServer, app: App
    ) -> None:
        received: list[str | bytes] = []

        def collect(socket: WebSocketSession) -> None:
            received.extend(socket)

        app.script = collect
        for code in (1000, 1001, 4000, None):
            received.clear()
            with WSClient(server.address) as client:
                client.send_text("grüße")
                client.send_binary(b"\x00\xff")
                client.send_text("")
                assert client.leave(code, "bye" if code else "") == (code, "")
                assert app.end() == (code or 1005, "bye" if code else "")
            assert received == ["grüße", b"\x00\xff", ""]

    def test_or_is_gone(self, server: HTTPServer, app: App) -> None:
        for leave in (WSClient.vanish, WSClient.reset, WSClient.half_close):
            with WSClient(server.address) as client:
                assert client.echo("hello") == "hello"
                leave(client)
                assert app.end()[0] == 1006

    def test_or_breaks_a_rule(self, server: HTTPServer, app: App) -> None:
        with WSClient(server.address) as client:
            client.send(frame(TEXT, b"good") + frame(TEXT, b"\xff"))
            assert client.read_text() == "good"
            assert client.read_close()[0] == 1007
            assert client.is_ended()
            assert app.end()[0] == 1007

    def test_receive(self, server: HTTPServer, app: App) -> None:
        closed: queue.SimpleQueue[WebSocketClosed] = queue.SimpleQueue()

        def script(socket: WebSocketSession) -> None:
            assert socket.receive() == "one"
            assert socket.receive(PATIENCE) == b"two"
            with pytest.raises(TimeoutError):
                socket.receive(0)
            with pytest.raises(TimeoutError):
                socket.receive(timeout=0.01)
            socket.send("now")
            assert socket.receive(1e9) == "three"
            for _ in range(3):
                with pytest.raises(WebSocketClosed) as caught:
                    socket.receive(PATIENCE)
                closed.put(caught.value)
            assert list(socket) == []

        app.script = script
        with WSClient(server.address) as client:
            client.send(frame(TEXT, b"one") + frame(BINARY, b"two"))
            assert client.read_text() == "now"
            client.send_text("three")
            assert client.leave(4000, "that is all") == (4000, "")
            app.end()
        for _ in range(3):
            error = closed.get(timeout=PATIENCE)
            assert (error.code, error.reason) == (4000, "that is all")
            assert isinstance(error, ConnectionError)

    def test_what_a_session_knows(self, server: HTTPServer, app: App) -> None:
        def script(socket: WebSocketSession) -> None:
            request = socket.request
            socket.send(f"{request.matches['room']} {request.query['q']} {request.cookies['c']}")
            assert not socket.closed
            assert (socket.close_code, socket.close_reason) == (None, "")
            assert socket.subprotocol is None
            assert socket.uid
            wait(socket)
            assert socket.closed

        app.script = script
        with WSClient(server.address, "/rooms/lounge?q=1", "Cookie: c=2") as client:
            assert client.read_text() == "lounge 1 2"
            client.leave()
            app.end()
        app.script = wait
        with WSClient(server.address, "/", "Sec-WebSocket-Protocol: chat") as client:
            assert app.session().subprotocol is None
            assert app.session().subprotocol == "chat"
            assert client.answer.fields["sec-websocket-protocol"] == "chat"

    def test_the_server_speaks_first(self, server: HTTPServer, app: App) -> None:
        def script(socket: WebSocketSession) -> None:
            for number in range(1000):
                socket.send(str(number))

        app.script = script
        with WSClient(server.address) as client:
            assert [client.read_text() for _ in range(1000)] == [str(n) for n in range(1000)]
            # A session that returns closes.
            assert client.is_left() == (1000, "")

    def test_other_threads_may_send_and_close(self, server: HTTPServer, app: App) -> None:
        app.script = wait
        with WSClient(server.address) as client:
            socket = app.session()
            socket.send("from outside")
            assert client.read_text() == "from outside"
            socket.ping(b"there?")
            assert client.read_frame() == Frame(PING, b"there?")
            socket.close(4000, "enough")
            assert client.is_left() == (4000, "enough")
            assert app.end()[0] == 4000
            with pytest.raises(WebSocketClosed):
                socket.send("too late")

    def test_pings_are_answered_while_nobody_receives(self, server: HTTPServer, app: App) -> None:
        gate = threading.Event()
        app.script = lambda socket: gate.wait(PATIENCE)
        with WSClient(server.address) as client:
            client.send_text("unread")
            client.ping(b"there?")
            gate.set()
            assert client.is_left() == (1000, "")

    def test_the_independent_client(self, server: HTTPServer) -> None:
        client = independent.create_connection(
            server.url.replace("http", "ws"), timeout=PATIENCE, subprotocols=["chat"]
        )
        with closing(client):
            for text in ("hello", "grüße", "x" * 100_000):
                client.send(text)
                assert client.recv() == text


class TestEnds:
    @pytest.mark.usefixtures("quiet")
    def test_as_a_context_manager(self, server: HTTPServer, app: App) -> None:
        def script(socket: WebSocketSession) -> None:
            with socket:
                socket.send("inside")
            assert socket.closed
            with pytest.raises(WebSocketClosed):
                socket.send("outside")

        app.script = script
        with WSClient(server.address) as client:
            assert client.read_text() == "inside"
            assert client.is_left() == (1000, "")

    @pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
    @pytest.mark.parametrize("managed", [True, False])
    def test_a_failure_closes_with_1011(
        self,
        server: HTTPServer,
        app: App,
        logged: Records,
        error: type[BaseException],
        managed: bool,
    ) -> None:
        def script(socket: WebSocketSession) -> None:
            with ExitStack() as stack:
                if managed:
                    stack.enter_context(socket)
                raise error

        app.script = script
        with WSClient(server.address) as client:
            assert client.is_left()[0] == 1011
        server.stop()
        assert len(logged.at_least(logging.ERROR)) == 1

    @pytest.mark.usefixtures("quiet")
    def test_that_the_client_has_left_is_no_failure(self, server: HTTPServer, app: App) -> None:
        def script(socket: WebSocketSession) -> None:
            while True:
                socket.send(socket.receive())

        app.script = script
        with WSClient(server.address) as client:
            assert client.echo("hello") == "hello"
            assert client.leave() == (1000, "")
            assert app.end() == (1000, "")

    @pytest.mark.usefixtures("quiet")
    def test_one_that_closes_itself_hears_no_more(self, server: HTTPServer, app: App) -> None:
        def script(socket: WebSocketSession) -> None:
            socket.close(4000, "enough")
            with pytest.raises(WebSocketClosed):
                socket.receive(PATIENCE)
            assert list(socket) == []

        app.script = script
        with WSClient(server.address) as client:
            client.send_text("unheard")
            assert client.read_close() == (4000, "enough")
            client.send(frame(TEXT, b"unheard") + close_frame(4000))
            assert client.is_ended()
            app.end()

    @pytest.mark.usefixtures("quiet")
    @pytest.mark.parametrize("answered", [True, False])
    def test_a_close_of_another_thread_ends_one_that_receives(
        self, app: App, serve: Serve, answered: bool
    ) -> None:
        """When the client has answered, or has had the time to."""
        server = serve(app, limits=Limits(closing=10 * PATIENCE if answered else 0.2))
        with WSClient(server.address) as client:
            socket = app.session()
            assert client.echo("hello") == "hello"
            socket.close(4000)
            assert client.read_close() == (4000, "")
            if answered:
                client.send_close(4001, "yes")
                assert app.end() == (4001, "yes")
            else:
                assert app.end()[0] == 1006

    @pytest.mark.usefixtures("quiet")
    def test_messages_before_the_end_are_all_received(self, server: HTTPServer, app: App) -> None:
        gate = threading.Event()
        received: list[str | bytes] = []

        def script(socket: WebSocketSession) -> None:
            gate.wait(PATIENCE)
            received.extend(socket)

        app.script = script
        for leave in (WSClient.vanish, WSClient.half_close, lambda client: client.send_close()):
            received.clear()
            gate.clear()
            with WSClient(server.address) as client:
                client.send(b"".join(frame(TEXT, b"%d" % number) for number in range(1000)))
                leave(client)
                gate.set()
                app.end()
            assert received == [str(number) for number in range(1000)]


@pytest.fixture
def several() -> Iterator[Callable[..., list[WSClient]]]:
    """Open WebSockets, whose sockets are closed however the test ends."""
    with ExitStack() as stack:

        def clients(server: HTTPServer, count: int, path: str = "/") -> list[WSClient]:
            return [stack.enter_context(WSClient(server.address, path)) for _ in range(count)]

        yield clients


class TestRoom:
    def test_too_many_get_503(
        self, server: HTTPServer, app: App, several: Callable[..., list[WSClient]]
    ) -> None:
        app.script = wait
        clients = several(server, 3, "/few")
        for _ in range(2):
            with Client(server.address) as client:
                client.send(opening("/few"))
                answer = client.read()
                assert answer.status == 503
                assert "retry-after" in answer.fields
                assert client.get("/page").status == 200
            # Another route has room of its own.
            with WSClient(server.address) as other:
                other.leave()
        clients[0].leave()

        def has_room() -> bool:
            with Client(server.address) as client:
                client.send(opening("/few"))
                return client.read().status == 101

        eventually(has_room)
        for client in clients[1:]:
            client.leave()

    def test_what_is_refused_takes_no_room(
        self, server: HTTPServer, app: App, several: Callable[..., list[WSClient]]
    ) -> None:
        app.script = wait
        for _ in range(5):
            with Client(server.address) as client:
                client.send(opening("/refused"))
                assert client.read().status == 403
            with Client(server.address) as client:
                client.send(opening("/few", "Sec-WebSocket-Protocol: ("))
                assert client.read().status == 400
            with Client(server.address) as client:
                client.send(opening("/few", "Origin: http://evil.example"))
                assert client.read().status == 403
        several(server, 3, "/few")

    def test_without_a_thread_to_be_had_it_is_closed(
        self, server: HTTPServer, app: App, logged: Records, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(crew: Crew, job: object) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(Crew, "host", refuse)
            for _ in range(5):
                with WSClient(server.address, "/few") as client:
                    assert client.is_left()[0] == 1013
        assert len(logged.at_least(logging.ERROR)) == 5
        # It takes no room, either.
        with WSClient(server.address, "/few") as client:
            assert client.echo("hello") == "hello"

    def test_sessions_take_no_workers(
        self, app: App, serve: Serve, several: Callable[..., list[WSClient]]
    ) -> None:
        app.script = wait
        server = serve(app, threads=1, inline=False)
        clients = several(server, 30)
        for _ in clients:
            app.session()
        with Client(server.address) as browser:
            assert browser.get("/page").body == b"a page"
        for client in clients:
            client.leave()

    def test_each_has_its_own_thread_and_none_is_left(
        self, app: App, serve: Serve, several: Callable[..., list[WSClient]]
    ) -> None:
        threads: set[int] = set()

        def script(socket: WebSocketSession) -> None:
            threads.add(threading.get_ident())
            echo(socket)

        app.script = script
        server = serve(app)
        clients = several(server, 20)
        for number, client in enumerate(clients):
            assert client.echo(str(number)) == str(number)
        assert len(threads) == 20
        assert len(server_threads()) >= 20
        for client in clients:
            client.leave()
        for _ in clients:
            app.end()
        # Threads are kept for a while for what comes; a stop leaves none.
        assert server.stop()

    def test_a_flood_is_read_as_fast_as_it_is_received(self, server: HTTPServer, app: App) -> None:
        gate = threading.Event()
        received = 0

        def script(socket: WebSocketSession) -> None:
            nonlocal received
            gate.wait(PATIENCE)
            for _ in socket:
                received += 1

        app.script = script
        sent = 0
        with WSClient(server.address) as client:

            def flood() -> None:
                nonlocal sent
                for _ in range(3000):
                    client.send(frame(BINARY, bytes(10_000)))
                    sent += 1

            thread = threading.Thread(target=flood)
            thread.start()
            eventually(lambda: sent > 30)
            for _ in range(3):
                with WSClient(server.address) as other:
                    other.ping()
            assert sent < 1600
            gate.set()
            thread.join()
            assert client.leave() == (1000, "")
        eventually(lambda: received == 3000)

    def test_a_slow_reader_holds_its_own_session_only(self, server: HTTPServer, app: App) -> None:
        ended = threading.Event()

        def script(socket: WebSocketSession) -> None:
            try:
                for _ in range(3000):
                    socket.send(bytes(10_000))
            finally:
                ended.set()

        app.script = script
        with WSClient(server.address, receive_buffer=4096) as client:
            socket = app.session()
            eventually(lambda: socket.buffered > 1_000_000)
            app.script = echo
            with WSClient(server.address) as other:
                assert other.echo("hello") == "hello"
            assert socket.buffered <= 1_048_576
            assert not ended.is_set()
            for _ in range(3000):
                assert client.read_binary() == bytes(10_000)
            assert client.read_frame().opcode == CLOSE
            assert ended.wait(PATIENCE)
