"""Compressed responses of real servers, as clients that we did not write read them."""

from __future__ import annotations

import shutil
import subprocess
import threading
import zlib
from typing import TYPE_CHECKING

import pytest
import requests

from resource_server import (
    EventChannel,
    EventStream,
    Request,
    Resource,
    Response,
    Router,
    StreamResponse,
    compression,
    get,
)
from resource_server import codings as known
from resource_server.client.decoding import decoded, decoders
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resource_server import HTTPServer
    from tests.conftest import Serve

LONG = "".join(f"<li>{number}: as long as it takes</li>\n" for number in range(2000))


def installed() -> list[str]:
    return [name for name in known.CODINGS if known._coding(name)]


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.read = threading.Semaphore(0)
        self.closed = threading.Event()

    @get("/page")
    def page(self, request: Request) -> Response:
        return Response(LONG, headers={"ETag": '"1"'}, content_type="text/html; charset=utf-8")

    @get("/large")
    def large(self, request: Request) -> str:
        return LONG * 100

    @get("/stream")
    def stream(self, request: Request) -> Response:
        return StreamResponse(LONG.splitlines(keepends=True), content_type="text/plain")

    @get("/live")
    def live(self, request: Request) -> Response:
        def pieces() -> Iterator[str]:
            try:
                yield ""
                for number in range(100):
                    yield f"piece {number}\n"
                    assert self.read.acquire(timeout=PATIENCE)  # of the piece before
            finally:
                self.closed.set()

        return StreamResponse(pieces(), content_type="text/plain")


class Events(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.channel = EventChannel()

    @get("/events")
    def events(self, request: Request) -> Response:
        return EventStream(self.channel)


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    router = Router(middlewares=[compression()])
    router.register_routes(app)
    return serve(router)


@pytest.mark.parametrize("path", ["/page", "/stream", "/large"])
@pytest.mark.parametrize("coding", ["zstd", "br", "gzip", "identity"])
def test_requests_undoes_it(server: HTTPServer, path: str, coding: str) -> None:
    if coding != "identity" and coding not in installed():
        pytest.skip(f"{coding} is not installed")
    answer = requests.get(server.url + path, headers={"Accept-Encoding": coding}, timeout=PATIENCE)
    assert answer.headers.get("Content-Encoding", "identity") == coding
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert answer.text == LONG * (100 if path == "/large" else 1)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("path", ["/page", "/stream"])
def test_curl_undoes_all_that_it_asks_for(server: HTTPServer, path: str) -> None:
    command = ["curl", "--silent", "--compressed", "--max-time", str(PATIENCE), server.url + path]
    answer = subprocess.run(command, capture_output=True, check=True)
    assert answer.stdout.decode() == LONG
    size = subprocess.run(
        [*command, "--output", "-", "--write-out", "%{stderr}%{size_download}"],
        capture_output=True,
        check=True,
    )
    assert int(size.stderr) < len(LONG)


@pytest.mark.parametrize("command", ["gzip", "zstd", "brotli"])
def test_the_programs_undo_it(server: HTTPServer, command: str) -> None:
    coding = {"brotli": "br"}.get(command, command)
    if shutil.which(command) is None or coding not in installed():
        pytest.skip(f"{command} is not installed")
    for path in ("/page", "/stream"):
        with requests.get(
            server.url + path, headers={"Accept-Encoding": coding}, stream=True, timeout=PATIENCE
        ) as answer:
            raw = answer.raw.read(decode_content=False)
        plain = subprocess.run([command, "-dc"], input=raw, capture_output=True, check=True)
        assert plain.stdout.decode() == LONG


@pytest.mark.parametrize("coding", ["zstd", "br", "gzip"])
@pytest.mark.parametrize("path", ["/page", "/stream"])
def test_head_tells_what_get_would(server: HTTPServer, path: str, coding: str) -> None:
    told = []
    for method in ("GET", "HEAD"):
        answer = requests.request(
            method, server.url + path, headers={"Accept-Encoding": coding}, timeout=PATIENCE
        )
        told.append({**answer.headers, "Date": ""})
    assert told[0] == told[1]
    assert ("Content-Length" in told[0]) == (path == "/page")
    assert told[0].get("ETag", 'W/"1"') == 'W/"1"'


def test_each_piece_arrives_before_the_next_is_made(app: App, server: HTTPServer) -> None:
    reader = zlib.decompressobj(31)
    fields = {"Accept-Encoding": "gzip"}
    with requests.get(
        f"{server.url}/live", headers=fields, stream=True, timeout=PATIENCE
    ) as answer:
        raw = answer.raw.read_chunked(decode_content=False)
        for number in range(20):
            assert reader.decompress(next(raw)) == b"piece %d\n" % number
            app.read.release()
    app.read.release(100)  # to find that the client has left
    assert app.closed.wait(PATIENCE)


def test_a_client_that_leaves_closes_the_source(app: App, server: HTTPServer) -> None:
    with Client(server.address) as client:
        client.send(b"GET /live HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n")
        assert b"Content-Encoding: gzip" in client.head()
    app.read.release(100)
    assert app.closed.wait(PATIENCE)


@pytest.mark.parametrize("coding", ["zstd", "br", "gzip"])
def test_events_are_compressed_if_that_is_asked_for(serve: Serve, coding: str) -> None:
    (stage,) = decoders(coding) or pytest.skip(f"{coding} is not installed")
    events = Events()
    router = Router(middlewares=[compression(types=["text/event-stream"])])
    router.register_routes(events)
    server = serve(router)
    fields = {"Accept-Encoding": coding}
    with requests.get(
        f"{server.url}/events", headers=fields, stream=True, timeout=PATIENCE
    ) as answer:
        assert answer.headers["Content-Encoding"] == coding
        raw = answer.raw.read_chunked(decode_content=False)
        text = b""
        for number in range(10):
            events.channel.publish(f"number {number}")
            while f"data: number {number}\n\n".encode() not in text:
                text += b"".join(decoded([stage], next(raw)))
        events.channel.close()
        text = b"".join(piece for data in raw for piece in decoded([stage], data))
        stage.finish()
