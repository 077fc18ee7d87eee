"""The newest frame over real sockets: as a moving picture, and through WebSockets."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import requests

from resource_server import (
    HTTPServer,
    LatestFrame,
    Request,
    Resource,
    Response,
    WebSocketClosed,
    WebSocketOpCode,
    WebSocketRequest,
    WebSocketSession,
    get,
    websocket,
    websocket_session,
)
from tests.rawclient import PATIENCE, Client
from tests.wsclient import WSClient, eventually, opening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Serve


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.frames = LatestFrame()
        self.errors: list[BaseException] = []

    @get("/")
    def index(self, request: Request) -> str:
        return "hello"

    @get("/camera")
    def camera(self, request: Request) -> Response:
        return self.frames.stream()

    @websocket("/socket")
    def socket(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is WebSocketOpCode.Open:
            self.frames.attach(request)
        elif opcode is WebSocketOpCode.Text:
            try:
                self.frames.attach(request)
            except RuntimeError as error:
                request.send(str(error))

    @websocket_session("/session")
    def session(self, session: WebSocketSession) -> None:
        self.frames.attach(session)
        for message in session:
            session.send(message)
        try:
            self.frames.attach(session)
        except WebSocketClosed as error:
            self.errors.append(error)


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app)


class Camera(Client):
    """Reads a multipart/x-mixed-replace by its lengths and by its delimiters."""

    def __init__(self, server: HTTPServer, receive_buffer: int | None = None) -> None:
        super().__init__(server.address, receive_buffer=receive_buffer)
        self.ask("/camera", version="1.0")
        head = self.head()
        assert b"no-store" in head
        self.last = b""
        self.boundary = head.partition(b"boundary=")[2].partition(b"\r\n")[0]
        assert self._until(b"\r\n") == b"--" + self.boundary + b"\r\n"

    def frame(self) -> bytes:
        """The next frame; one that stays comes twice."""
        while (frame := self.part()) == self.last:
            pass
        self.last = frame
        return frame

    def part(self) -> bytes:
        fields = self._until(b"\r\n\r\n")
        assert fields.startswith(b"Content-Type: image/jpeg\r\n")
        data = self._exactly(int(fields.partition(b"Content-Length: ")[2]))
        # The delimiter is there with the frame, not with the next.
        assert self._exactly(len(self.boundary) + 6) == b"\r\n--" + self.boundary + b"\r\n"
        return data


@pytest.mark.usefixtures("quiet")
class TestPictures:
    def test_each_viewer_gets_the_newest(self, server: HTTPServer, app: App) -> None:
        app.frames.publish(b"first")
        with Camera(server) as one, Camera(server) as other:
            assert one.frame() == other.frame() == b"first"
            for number in range(10):
                app.frames.publish(b"%d" % number)
                assert one.frame() == other.frame() == b"%d" % number
            assert len(app.frames) == 2
        eventually(lambda: len(app.frames) == 0)

    def test_a_frame_that_stays_comes_twice(self, server: HTTPServer, app: App) -> None:
        app.frames.publish(b"still")
        with Camera(server) as camera:
            assert camera.part() == camera.part() == b"still"
            app.frames.close()
            assert camera.rest() == b""

    def test_a_slow_viewer_misses_frames_and_slows_nobody(
        self, server: HTTPServer, app: App
    ) -> None:
        with Camera(server, receive_buffer=4096) as slow, Camera(server) as fast:
            for number in range(200):
                app.frames.publish(b"%d " % number + bytes(200_000))
                assert fast.frame().startswith(b"%d " % number)
            app.frames.publish(b"200 ")
            seen: list[int] = []
            while not seen or seen[-1] != 200:
                seen.append(int(slow.frame().partition(b" ")[0]))
            assert len(seen) < 100
            assert seen == sorted(set(seen))

    def test_they_end_when_there_are_no_more(self, server: HTTPServer, app: App) -> None:
        with Camera(server) as camera:
            app.frames.publish(b"last")
            app.frames.close()
            assert camera.frame() == b"last"
            assert camera.rest() == b""
        with Client(server.address) as client:
            assert client.get("/camera").status == 410

    def test_they_end_with_the_server(self, server: HTTPServer, app: App) -> None:
        with Camera(server) as camera:
            app.frames.publish(b"x")
            assert camera.frame() == b"x"
            assert server.stop(PATIENCE)
            assert camera.rest() == b""
        assert len(app.frames) == 0

    def test_requests_reads_them(self, server: HTTPServer, app: App) -> None:
        app.frames.publish(b"jpeg")
        with requests.get(f"{server.url}/camera", stream=True, timeout=PATIENCE) as answer:
            kind, _, boundary = answer.headers["Content-Type"].partition("; boundary=")
            assert kind == "multipart/x-mixed-replace"
            pieces = answer.iter_content(None)
            received = b""
            while not received.endswith(b"jpeg\r\n--" + boundary.encode() + b"\r\n"):
                received += next(pieces)
        eventually(lambda: len(app.frames) == 0)

    def test_a_camera_works_while_somebody_looks(self, server: HTTPServer, app: App) -> None:
        pictures: list[int] = []

        def work() -> None:
            while app.frames.wait_for_viewers():
                app.frames.publish(b"%d" % len(pictures))
                pictures.append(1)

        thread = threading.Thread(target=work)
        thread.start()
        assert pictures == []
        with Camera(server) as camera:
            for _ in range(3):
                camera.frame()
        eventually(lambda: len(app.frames) == 0)
        app.frames.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.fixture(params=["/socket", "/session"])
def viewer(request: pytest.FixtureRequest, server: HTTPServer) -> Iterator[WSClient]:
    with WSClient(server.address, request.param) as client:
        yield client


@pytest.mark.usefixtures("quiet")
class TestWebSockets:
    def test_get_the_newest(self, viewer: WSClient, app: App) -> None:
        for number in range(10):
            app.frames.publish(b"%d" % number)
            assert viewer.read_binary() == b"%d" % number

    def test_get_what_was_there_before(self, server: HTTPServer, app: App) -> None:
        app.frames.publish(b"before")
        with WSClient(server.address, "/socket") as viewer:
            assert viewer.read_binary() == b"before"

    def test_may_be_compressed_for_other_messages(self, server: HTTPServer, app: App) -> None:
        with WSClient(
            server.address, "/session", "Sec-WebSocket-Extensions: permessage-deflate"
        ) as viewer:
            for number in range(5):
                text = f"{number} {'x' * 1000}"
                viewer.send_text(text)
                assert viewer.read_text() == text
                app.frames.publish(b"%d" % number * 1000)
                frame = viewer.read_frame()
                assert (frame.payload, frame.rsv) == (b"%d" % number * 1000, 0)

    def test_that_are_slow_miss_frames_and_slow_nobody(self, server: HTTPServer, app: App) -> None:
        with (
            WSClient(server.address, "/socket", receive_buffer=4096) as slow,
            WSClient(server.address, "/socket") as fast,
        ):
            for number in range(200):
                app.frames.publish(b"%d " % number + bytes(200_000))
                assert fast.read_binary().startswith(b"%d " % number)
            app.frames.publish(b"200 ")
            seen: list[int] = []
            while not seen or seen[-1] != 200:
                seen.append(int(slow.read_binary().partition(b" ")[0]))
            assert len(seen) < 100
            assert seen == sorted(set(seen))

    def test_are_closed_when_there_are_no_more(self, viewer: WSClient, app: App) -> None:
        app.frames.publish(b"last")
        assert viewer.read_binary() == b"last"
        app.frames.close()
        assert viewer.read_close()[0] == 1000
        viewer.send_close()
        eventually(lambda: len(app.frames) == 0)

    def test_are_no_longer_viewers_when_they_leave(self, viewer: WSClient, app: App) -> None:
        app.frames.publish(b"x")
        assert viewer.read_binary() == b"x"
        viewer.vanish()
        eventually(lambda: len(app.frames) == 0)
        app.frames.publish(b"y")

    def test_cannot_be_attached_when_they_are_closed(self, server: HTTPServer, app: App) -> None:
        with WSClient(server.address, "/session") as viewer:
            viewer.leave()
        eventually(lambda: app.errors)
        eventually(lambda: len(app.frames) == 0)

    def test_are_attached_once(self, server: HTTPServer, app: App) -> None:
        with WSClient(server.address, "/socket") as viewer:
            viewer.send_text("again")
            assert "at most" in viewer.read_text()
            app.frames.publish(b"x")
            assert viewer.read_binary() == b"x"

    def test_end_with_the_server(self, server: HTTPServer, viewer: WSClient, app: App) -> None:
        stopping = threading.Thread(target=server.stop, args=(PATIENCE,))
        stopping.start()
        assert viewer.read_close()[0] == 1001
        viewer.send_close(1001)
        stopping.join(PATIENCE)
        assert len(app.frames) == 0


class TestFailures:
    def test_of_frames_that_are_closed_are_told(self, server: HTTPServer, app: App) -> None:
        app.frames.close()
        with Client(server.address) as client:
            client.send(opening("/socket"))
            assert client.read().status == 410
        with WSClient(server.address, "/session") as viewer:
            assert viewer.read_close()[0] == 1011

    def test_of_a_source_close_the_websocket(self, server: HTTPServer, app: App) -> None:
        with WSClient(server.address, "/socket") as viewer:
            app.frames.publish(b"x")
            assert viewer.read_binary() == b"x"
            app.frames._latest = object()  # type: ignore[assignment]
            for waiting in list(app.frames._waiting):
                waiting.wake()
            assert viewer.read_close()[0] == 1011
        eventually(lambda: len(app.frames) == 0)

    def test_of_what_is_no_websocket_are_told(self) -> None:
        with pytest.raises(TypeError, match="attach takes"):
            LatestFrame().attach(object())  # type: ignore[arg-type]
