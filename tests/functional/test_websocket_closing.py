"""Closing, from either side: Close comes exactly once for each Open, whatever happened."""

from __future__ import annotations

import logging
import queue
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
import websocket as independent

from resource_server import (
    HTTPServer,
    Limits,
    Resource,
    WebSocketClosed,
    WebSocketOpCode,
    WebSocketRequest,
    websocket,
)
from tests.rawclient import PATIENCE
from tests.wsclient import (
    BINARY,
    CLOSE,
    TEXT,
    Frame,
    WSClient,
    close_frame,
    eventually,
    fragments,
    frame,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Serve
    from tests.functional.conftest import Records

Open, Text, Close = WebSocketOpCode.Open, WebSocketOpCode.Text, WebSocketOpCode.Close
STYLES = ["/inline", "/learned", "/worker"]


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.opened: queue.SimpleQueue[WebSocketRequest] = queue.SimpleQueue()
        self.closed: queue.SimpleQueue[tuple[str, int | None, str]] = queue.SimpleQueue()
        self.texts: queue.SimpleQueue[str | bytes] = queue.SimpleQueue()
        self.action: Callable[[WebSocketRequest], object] = lambda request: None
        self.gate = threading.Event()

    @websocket("/inline", blocking=False)
    @websocket("/learned")
    @websocket("/worker", blocking=True)
    def handle(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is Open:
            self.opened.put(request)
        elif opcode is Close:
            assert payload == ""
            assert request.closed
            self.closed.put((request.uid, request.close_code, request.close_reason))
        else:
            self.texts.put(payload)
            self.action(request)
            if payload == "wait":
                self.gate.wait(PATIENCE)
            elif payload == "echo":
                request.send(payload)

    def open(self) -> WebSocketRequest:
        return self.opened.get(timeout=PATIENCE)

    def close_of(self, request: WebSocketRequest) -> tuple[int | None, str]:
        """What the only Close told."""
        uid, code, reason = self.closed.get(timeout=PATIENCE)
        assert uid == request.uid
        assert self.closed.empty()
        return code, reason


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    # Whoever relies on a deadline fails.
    return serve(app, limits=Limits(closing=10 * PATIENCE, write=10 * PATIENCE))


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("path", STYLES)
class TestTheClientCloses:
    @pytest.mark.parametrize(
        ("code", "reason"), [(1000, ""), (1001, "going"), (4999, "ß" * 61), (None, "")]
    )
    def test_with_a_code(
        self, server: HTTPServer, app: App, path: str, code: int | None, reason: str
    ) -> None:
        with WSClient(server.address, path) as client:
            assert client.leave(code, reason) == (code, "")
            assert app.close_of(app.open()) == (code or 1005, reason)

    def test_by_ending_the_connection(self, server: HTTPServer, app: App, path: str) -> None:
        ends: list[Callable[[WSClient], None]] = [
            WSClient.vanish,
            WSClient.reset,
            WSClient.half_close,
        ]
        beginnings = [b"", frame(TEXT, b"half a frame")[:9], frame(TEXT, b"half", final=False)]
        for end in ends:
            for beginning in beginnings:
                with WSClient(server.address, path) as client:
                    request = app.open()
                    client.send(beginning)
                    end(client)
                    assert app.close_of(request)[0] == 1006
                    with pytest.raises(WebSocketClosed) as caught:
                        request.send("nobody is there")
                    assert caught.value.code == 1006

    def test_by_ending_its_side_the_server_ends_its_own(
        self, server: HTTPServer, app: App, path: str
    ) -> None:
        with WSClient(server.address, path) as client:
            client.half_close()
            assert client.is_closed()
            assert app.close_of(app.open())[0] == 1006

    def test_what_came_before_is_handled_first(
        self, server: HTTPServer, app: App, path: str
    ) -> None:
        for end in (close_frame(1000), b""):
            with WSClient(server.address, path) as client:
                client.send(b"".join(frame(TEXT, b"%d" % n) for n in range(100)) + end)
                if not end:
                    client.half_close()
                request = app.open()
                assert [app.texts.get(timeout=PATIENCE) for _ in range(100)] == [
                    str(n) for n in range(100)
                ]
                assert app.close_of(request)[0] == (1000 if end else 1006)

    def test_by_breaking_a_rule(self, server: HTTPServer, app: App, path: str) -> None:
        for broken, code in (
            (frame(3), 1002),
            (frame(TEXT, b"\xff"), 1007),
            (frame(BINARY, declared=2_000_000), 1009),
        ):
            with WSClient(server.address, path) as client:
                client.send(broken)
                told, reason = client.read_close()
                assert told == code
                assert client.is_ended()
                assert app.close_of(app.open()) == (code, reason)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("path", STYLES)
class TestTheServerCloses:
    @pytest.mark.parametrize(
        ("code", "reason"),
        [(1000, ""), (1001, "going"), (3000, "x" * 123), (4999, "€" * 41), (1011, ""), (None, "")],
    )
    def test_from_another_thread(
        self, server: HTTPServer, app: App, path: str, code: int | None, reason: str
    ) -> None:
        with WSClient(server.address, path) as client:
            request = app.open()
            request.close(code, reason)
            assert request.closed
            assert client.is_left() == (code, reason)
            assert app.close_of(request) == (code or 1005, "")

    def test_from_the_handler(self, server: HTTPServer, app: App, path: str) -> None:
        def action(request: WebSocketRequest) -> None:
            request.send("one")
            request.send(b"two" * 100_000)
            request.close(4000, "enough")
            request.close(4001, "more than that")
            with pytest.raises(WebSocketClosed):
                request.send("three")
            with pytest.raises(WebSocketClosed):
                request.ping()

        app.action = action
        with WSClient(server.address, path) as client:
            client.send_text("go")
            # What was sent before the Close arrives.
            assert client.read_text() == "one"
            assert client.read_binary() == b"two" * 100_000
            assert client.is_left() == (4000, "enough")
            assert app.close_of(app.open())[0] == 4000

    def test_nothing_is_handled_afterwards(self, server: HTTPServer, app: App, path: str) -> None:
        with WSClient(server.address, path) as client:
            request = app.open()
            request.close()
            assert client.read_close() == (1000, "")
            client.send(frame(TEXT, b"late") + b"".join(fragments(TEXT, [b"a", b"b"])))
            client.send(close_frame(1000))
            assert client.is_ended()
            assert app.close_of(request)[0] == 1000
            assert app.texts.empty()

    def test_rules_hold_afterwards(self, server: HTTPServer, app: App, path: str) -> None:
        """What comes behind a broken rule is not read, so the connection ends without an answer."""
        with WSClient(server.address, path) as client:
            request = app.open()
            request.close()
            assert client.read_close() == (1000, "")
            client.send(frame(3))
            assert client.is_ended()
            app.close_of(request)

    def test_the_client_has_another_code(self, server: HTTPServer, app: App, path: str) -> None:
        with WSClient(server.address, path) as client:
            request = app.open()
            request.close(4000, "mine")
            assert client.read_close() == (4000, "mine")
            client.send_close(4001, "yours")
            assert client.is_ended()
            assert app.close_of(request) == (4001, "yours")

    def test_both_at_once(self, server: HTTPServer, app: App, path: str) -> None:
        for _ in range(30):
            with WSClient(server.address, path) as client:
                request = app.open()
                start = threading.Barrier(2)

                def close(request: WebSocketRequest = request, start: Any = start) -> None:
                    start.wait()
                    request.close(4000)

                thread = threading.Thread(target=close)
                thread.start()
                start.wait()
                client.send_close(4001)
                # Whichever was first; there is only one.
                assert client.read_close()[0] in (4000, 4001)
                assert client.is_ended()
                thread.join()
                assert app.close_of(request)[0] == 4001

    def test_many_threads_at_once(self, server: HTTPServer, app: App, path: str) -> None:
        with WSClient(server.address, path) as client:
            request = app.open()
            threads = [threading.Thread(target=request.close, args=(4000 + n,)) for n in range(20)]
            for thread in threads:
                thread.start()
            code, _ = client.is_left()
            for thread in threads:
                thread.join()
            assert app.close_of(request)[0] == code

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            *[(code, "") for code in (0, 1, 999, 1004, 1005, 1006, 1010, 1015, 1016, 2999, 5000)],
            (65536, ""),
            (-1, ""),
            (1000, "x" * 124),
            (1000, "€" * 42),
            (None, "a reason"),
        ],
    )
    def test_not_with_a_code_that_may_not_be_sent(
        self, server: HTTPServer, app: App, path: str, code: int | None, reason: str
    ) -> None:
        """§7.4."""
        with WSClient(server.address, path) as client:
            request = app.open()
            with pytest.raises(ValueError, match=r"\w"):
                request.close(code, reason)
            assert not request.closed
            request.send("as before")
            assert client.read_text() == "as before"

    def test_while_the_handler_is_busy(self, server: HTTPServer, app: App, path: str) -> None:
        with WSClient(server.address, path) as client:
            request = app.open()
            client.send_text("wait")
            assert app.texts.get(timeout=PATIENCE) == "wait"
            request.close(4000)
            assert client.read_close() == (4000, "")
            client.send_close(4000)
            # Close is told in its turn, not in the middle of another call.
            assert app.closed.empty()
            app.gate.set()
            assert client.is_ended()
            assert app.close_of(request) == (4000, "")


def send_until_refused(client: WSClient, data: bytes) -> None:
    try:
        while True:
            client.send(data)
    except ConnectionError:
        pass


class TestDeadlines:
    @pytest.mark.parametrize("path", STYLES)
    def test_a_client_that_does_not_answer_is_cut_off(
        self, app: App, serve: Serve, path: str
    ) -> None:
        server = serve(app, limits=Limits(closing=0.2))
        with WSClient(server.address, path) as client:
            request = app.open()
            request.close(4000)
            assert client.read_close() == (4000, "")
            assert client.is_closed()
            assert app.close_of(request)[0] == 1006

    def test_one_that_goes_on_sending_is_cut_off_too(self, app: App, serve: Serve) -> None:
        server = serve(app, limits=Limits(closing=0.2))
        with WSClient(server.address, "/inline") as client:
            request = app.open()
            request.close(4000)
            assert client.read_close() == (4000, "")
            send_until_refused(client, frame(TEXT, b"x" * 1000))
            assert app.close_of(request)[0] == 1006
            assert app.texts.empty()

    @pytest.mark.parametrize("last", [close_frame(1000), frame(3)])
    def test_one_that_leaves_its_side_open_is_cut_off(
        self, app: App, serve: Serve, last: bytes
    ) -> None:
        server = serve(app, limits=Limits(closing=0.2))
        with WSClient(server.address, "/inline") as client:
            client.send(last)
            client.read_close()
            assert client.is_ended()
            # At first what it sends is read and thrown away; in the end it is refused.
            send_until_refused(client, b"x" * 1000)
            app.close_of(app.open())

    @pytest.mark.parametrize("path", STYLES)
    @pytest.mark.parametrize("together", [True, False], ids=["together", "apart"])
    def test_a_client_waits_no_longer_for_a_handler_that_is_busy(
        self, app: App, serve: Serve, path: str, together: bool
    ) -> None:
        """The answers to its messages come first, but not at any price."""
        server = serve(app, limits=Limits(closing=0.3))
        for last, code in ((close_frame(1000), 1000), (frame(3), 1002)):
            app.gate.clear()
            with WSClient(server.address, path) as client:
                client.send(frame(TEXT, b"wait") + last * together)
                assert app.texts.get(timeout=PATIENCE) == "wait"
                client.send(last * (not together))
                assert client.read_close()[0] == code
                assert client.is_closed()
                assert app.closed.empty()
                app.gate.set()
                assert app.close_of(app.open())[0] == code

    def test_one_that_does_not_read_the_last_is_cut_off(self, app: App, serve: Serve) -> None:
        server = serve(app, limits=Limits(closing=0.2, write=0.3))
        with WSClient(server.address, "/inline", receive_buffer=4096):
            request = app.open()
            request.send(bytes(20_000_000))
            request.close(4000)
            assert app.close_of(request)[0] == 1006


class TestLeftOver:
    def test_nothing_is_kept_of_those_that_are_closed(self, server: HTTPServer, app: App) -> None:
        """The engine lets go of the connection whichever side ends it, and however."""
        import gc
        import weakref

        class Mark:
            pass

        references = []

        def be_left(client: WSClient, request: WebSocketRequest) -> None:
            request.close()
            client.is_left()

        def break_a_rule(client: WSClient, request: WebSocketRequest) -> None:
            client.send(frame(3))
            assert client.read_close()[0] == 1002

        ends: list[Callable[[WSClient, WebSocketRequest], object]] = [
            lambda client, request: client.leave(),
            lambda client, request: client.reset(),
            be_left,
            break_a_rule,
        ]
        for path in STYLES:
            for end in ends:
                with WSClient(server.address, path) as client:
                    request = app.open()
                    mark = Mark()
                    request.state.mark = mark
                    references.append(weakref.ref(mark))
                    client.send_text("echo")
                    assert client.read_text() == "echo"
                    end(client, request)
                app.close_of(request)
                del request, mark
        while not app.texts.empty():
            app.texts.get()

        def all_gone() -> bool:
            gc.collect()
            return all(reference() is None for reference in references)

        eventually(all_gone)

    def test_opens_and_closes_are_as_many(
        self, server: HTTPServer, app: App, logged: Records
    ) -> None:
        """Both sides close and vanish at once, in every order."""
        opened = 0
        for number in range(120):
            client = WSClient(server.address, STYLES[number % 3])
            opened += 1
            request = app.open()
            client.send(frame(TEXT, b"echo") * (number % 7))
            closer = threading.Thread(target=request.close, args=(4000,))
            if number % 2:
                closer.start()
            if number % 5 == 0:
                client.reset()
            elif number % 5 == 1:
                client.send(frame(3))
            elif number % 5 == 2:
                client.send_close(1000)
            elif number % 5 == 3:
                client.half_close()
            client.sock.close()
            if number % 2:
                closer.join()
        for _ in range(opened):
            app.closed.get(timeout=PATIENCE)
        assert app.closed.empty()
        assert logged.at_least(logging.WARNING) == []


def test_the_independent_client_sees_why(server: HTTPServer, app: App) -> None:
    seen: list[tuple[int, str]] = []
    sockets: list[socket.socket] = []

    def on_open(client: independent.WebSocketApp) -> None:
        assert client.sock is not None
        # It forgets its socket, unclosed, when the server closes.
        assert client.sock.sock is not None
        sockets.append(client.sock.sock)
        app.open().close(4000, "enough")

    client = independent.WebSocketApp(
        server.url.replace("http", "ws") + "/inline",
        on_open=on_open,
        on_close=lambda ws, code, reason: seen.append((code, reason)),
    )
    client.run_forever()
    assert seen == [(4000, "enough")]
    for sock in sockets:
        sock.close()


def test_a_close_frame_is_the_last(server: HTTPServer, app: App) -> None:
    """§5.5.1: while threads go on sending."""
    for _ in range(10):
        with WSClient(server.address, "/inline") as client:
            request = app.open()
            started = threading.Semaphore(0)

            def flood(request: WebSocketRequest = request, started: Any = started) -> None:
                try:
                    while True:
                        request.send("more")
                        started.release()
                except WebSocketClosed:
                    pass

            threads = [threading.Thread(target=flood) for _ in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(10):
                assert started.acquire(timeout=PATIENCE)
            request.close(4000)
            while (received := client.read_frame()) == Frame(TEXT, b"more"):
                pass
            assert received == Frame(CLOSE, b"\x0f\xa0")
            client.send_close(4000)
            assert client.is_ended()
            for thread in threads:
                thread.join()
            app.close_of(request)
