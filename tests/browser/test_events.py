"""Event streams as an `EventSource` reads them, and newest frames as an `<img>` shows them."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.support.wait import WebDriverWait

from resource_server import (
    Event,
    EventChannel,
    EventStream,
    HTMLResponse,
    LatestFrame,
    Request,
    Resource,
    Response,
    get,
)
from tests.wsclient import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from selenium.webdriver import Chrome

    from tests.browser.conftest import OpenBrowser
    from tests.conftest import Serve

pytestmark = pytest.mark.browser

#: Seconds until what is waited for has to be there.
PATIENCE = 30.0

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>Events</title>
<link rel="icon" href="data:,">
<script>
const told = [];
function listen(path) {
  const source = new EventSource(path);
  for (const type of ["open", "message", "tick"]) {
    source.addEventListener(type, (event) => told.push([type, event.data, event.lastEventId]));
  }
  source.addEventListener("error", () => told.push(["error", String(source.readyState), ""]));
  return source;
}
</script>
<img id="camera">
"""


def png(width: int) -> bytes:
    """A black picture of that width, one line high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    content = zlib.compress(bytes(width + 1))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", content) + chunk(b"IEND", b"")
    )


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.channel = EventChannel()
        self.frames = LatestFrame("image/png")
        self.came_back_with: list[str] = []

    @get("/")
    def page(self, request: Request) -> Response:
        return HTMLResponse(PAGE)

    @get("/events")
    def events(self, request: Request) -> Response:
        return EventStream(self.channel, retry=50)

    @get("/short")
    def short(self, request: Request) -> Response:
        last = request.headers.get("last-event-id", "0")
        self.came_back_with.append(last)
        return EventStream(self.two(int(last)), retry=50)

    def two(self, last: int) -> Iterator[Event]:
        for number in (last + 1, last + 2):
            yield Event(number, id=str(number))

    @get("/camera")
    def camera(self, request: Request) -> Response:
        return self.frames.stream()


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def browser(app: App, serve: Serve, browser: Chrome) -> Chrome:
    browser.get(serve(app).url)
    return browser


def told(browser: Chrome, count: int) -> list[tuple[str, ...]]:
    """So many events, as the page has them."""

    def enough(_: Chrome) -> bool:
        return bool(browser.execute_script("return told.length") >= count)

    WebDriverWait(browser, PATIENCE).until(enough)
    return [tuple(event) for event in browser.execute_script("return told")]


class TestEventSource:
    def test_dispatches_what_is_published(self, browser: Chrome, app: App) -> None:
        browser.execute_script("window.source = listen('/events')")
        assert told(browser, 1)[0][0] == "open"
        app.channel.publish("a\nb ü", id="ö")
        app.channel.publish({"x": 1}, event="tick", id="2")
        assert told(browser, 3)[1:] == [("message", "a\nb ü", "ö"), ("tick", '{"x":1}', "2")]
        browser.execute_script("source.close()")
        eventually(lambda: len(app.channel) == 0)

    def test_comes_back_with_the_last_id(self, browser: Chrome, app: App) -> None:
        browser.execute_script("window.source = listen('/short')")

        def five(_: Chrome) -> bool:
            events = browser.execute_script("return told.filter((each) => each[0] == 'message')")
            return [event[1] for event in events][:5] == ["1", "2", "3", "4", "5"]

        WebDriverWait(browser, PATIENCE).until(five)
        browser.execute_script("source.close()")
        assert app.came_back_with[:3] == ["0", "2", "4"]

    def test_gives_up_when_the_channel_is_closed(self, browser: Chrome, app: App) -> None:
        browser.execute_script("window.source = listen('/events')")
        told(browser, 1)
        app.channel.close()

        def closed(_: Chrome) -> bool:
            return bool(browser.execute_script("return source.readyState === EventSource.CLOSED"))

        WebDriverWait(browser, PATIENCE).until(closed)


class TestPictures:
    def test_each_is_shown_before_there_is_another(
        self, open_browser: OpenBrowser, app: App, serve: Serve
    ) -> None:
        browser = open_browser()
        browser.get(serve(app).url)
        app.frames.publish(png(10))
        browser.execute_script("document.getElementById('camera').src = '/camera'")
        for width in (10, 25, 40):
            app.frames.publish(png(width))

            def shown(_: Chrome, width: int = width) -> bool:
                script = "return document.getElementById('camera').naturalWidth"
                return bool(browser.execute_script(script) == width)

            WebDriverWait(browser, PATIENCE).until(shown)
        assert len(app.frames) == 1
        browser.quit()
        eventually(lambda: len(app.frames) == 0)
