"""Sources, event streams, newest frames and trailers, driven without a server."""

from __future__ import annotations

import threading

import pytest

from resource_server import (
    Disconnected,
    EventChannel,
    EventStream,
    LatestFrame,
    Request,
    Resource,
    Response,
    StreamResponse,
    WebSocketOpCode,
    WebSocketRequest,
    get,
    websocket,
)
from resource_server.streams import Source
from resource_server.testing import TestClient
from resource_server.testing import exchange as exchange_module
from tests.eventsource import parse
from tests.rawclient import PATIENCE


class Broken(Source):
    def take(self) -> bytes | None:
        raise ZeroDivisionError


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.channel = EventChannel()
        self.frames = LatestFrame()

    @get("/events")
    def events(self, request: Request) -> Response:
        return EventStream(self.channel)

    @get("/list")
    def list(self, request: Request) -> Response:
        return EventStream(["a", "b"])

    @get("/broken")
    def broken(self, request: Request) -> Response:
        response = Response(None)
        response.body = None
        response.source = Broken()
        return response

    @get("/trailers")
    def trailers(self, request: Request) -> Response:
        return StreamResponse([b"a"], trailers={"X": lambda: "y"})

    @get("/camera")
    def camera(self, request: Request) -> Response:
        return self.frames.stream()

    @websocket("/socket")
    def socket(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is WebSocketOpCode.Open:
            self.frames.attach(request)


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def client(app: App) -> TestClient:
    return TestClient(app)


class TestSources:
    def test_give_what_is_published_meanwhile(self, client: TestClient, app: App) -> None:
        with client.get("/events", stream=True) as response:
            assert response.headers["Content-Type"] == "text/event-stream"
            assert len(app.channel) == 1
            pieces = iter(response)
            for number in range(3):
                app.channel.publish(str(number))
                assert parse(next(pieces)).events[0].data == str(number)
        assert len(app.channel) == 0

    def test_wait_for_other_threads(self, client: TestClient, app: App) -> None:
        with client.get("/events", stream=True) as response:
            thread = threading.Timer(0.01, app.channel.publish, args=("late",))
            thread.start()
            assert parse(next(iter(response))).events[0].data == "late"
            thread.join(PATIENCE)

    def test_are_read_to_their_end(self, client: TestClient, app: App) -> None:
        response = client.get("/events", stream=True)
        app.channel.publish("a")
        app.channel.close()
        assert [event.data for event in parse(response.body).events] == ["a"]
        assert len(app.channel) == 0
        assert client.get("/events").status_code == 410

    def test_that_give_nothing_do_not_hang(
        self, client: TestClient, app: App, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exchange_module, "SOURCE_PATIENCE", 0.01)
        with pytest.raises(TimeoutError, match="stream=True"):
            client.get("/events")
        assert len(app.channel) == 0

    def test_that_fail_raise_it(self, app: App) -> None:
        with pytest.raises(ZeroDivisionError):
            TestClient(app).get("/broken")
        with pytest.raises(Disconnected):
            TestClient(app, raise_errors=False).get("/broken")

    def test_are_not_opened_for_head(self, client: TestClient, app: App) -> None:
        assert client.head("/events").headers["Content-Type"] == "text/event-stream"
        assert len(app.channel) == 0


def test_events_of_an_iterable_are_read(client: TestClient) -> None:
    assert [event.data for event in parse(client.get("/list").body).events] == ["a", "b"]


def test_trailers_are_announced_and_told(client: TestClient) -> None:
    response = client.get("/trailers", stream=True)
    assert response.headers["Trailer"] == "X"
    before = response.trailers
    assert (before, response.body) == (None, b"a")
    assert dict(response.trailers or {}) == {"X": "y"}
    assert client.get("/list").trailers is None


class TestFrames:
    def test_come_as_parts(self, client: TestClient, app: App) -> None:
        app.frames.publish(b"jpeg")
        with client.get("/camera", stream=True) as response:
            pieces = iter(response)
            assert next(pieces).startswith(b"--")
            assert b"\r\n\r\njpeg\r\n--" in next(pieces)
        assert len(app.frames) == 0

    def test_come_as_messages(self, client: TestClient, app: App) -> None:
        app.frames.publish(b"0")
        with client.websocket("/socket") as socket:
            assert socket.receive() == b"0"
            for number in range(1, 4):
                app.frames.publish(b"%d" % number)
                assert socket.receive() == b"%d" % number
        assert len(app.frames) == 0

    def test_that_end_close_the_websocket(self, client: TestClient, app: App) -> None:
        with client.websocket("/socket") as socket:
            app.frames.close()
            assert [*socket] == []
            assert socket.close_code == 1000

    def test_that_have_ended_open_none(self, client: TestClient, app: App) -> None:
        app.frames.close()
        assert client.get("/camera").status_code == 410
