"""Event streams over real sockets: to clients that we wrote, and to some that we did not."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest
import requests
import trustme

from resource_server import (
    Event,
    EventChannel,
    EventStream,
    HTTPServer,
    Limits,
    Request,
    Resource,
    Response,
    compression,
    get,
)
from tests.conftest import server_threads
from tests.eventsource import Dispatched, EventSource, parse
from tests.rawclient import PATIENCE, Client
from tests.wsclient import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Serve


class App(Resource):
    """Streams of events: of a channel, and of iterables."""

    def __init__(self, channel: EventChannel, keep_alive: float | None = 15.0) -> None:
        super().__init__()
        self.channel = channel
        self.keep_alive = keep_alive
        self.gate = threading.Semaphore(0)
        self.closed = threading.Event()

    @get("/")
    def index(self, request: Request) -> str:
        return "hello"

    @get("/events")
    def events(self, request: Request) -> Response:
        return EventStream(self.channel, keep_alive=self.keep_alive, retry=2000)

    @get("/iterable")
    def iterable(self, request: Request) -> Response:
        return EventStream(self.count(int(request.headers.get("last-event-id", "0"))))

    @get("/packed", middlewares=[compression(types=["text/event-stream"])])
    def packed(self, request: Request) -> Response:
        return EventStream(self.count(0))

    def count(self, number: int) -> Iterator[object]:
        try:
            while True:
                assert self.gate.acquire(timeout=PATIENCE)
                number += 1
                yield Event({"number": number}, id=str(number))
        finally:
            self.closed.set()


@pytest.fixture
def channel() -> EventChannel:
    return EventChannel()


@pytest.fixture
def app(channel: EventChannel) -> App:
    return App(channel)


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app)


def data(events: list[Dispatched]) -> list[str]:
    return [event.data for event in events]


@pytest.mark.usefixtures("quiet")
class TestChannels:
    def test_send_what_is_published(self, server: HTTPServer, channel: EventChannel) -> None:
        with EventSource(server.address) as source:
            assert source.status == 200
            for line in ("text/event-stream", "no-store", "X-Accel-Buffering: no"):
                assert line in source.head
            channel.publish("a\nb")
            channel.publish({"c": 1}, event="tick", id="ü")
            events = source.wait_for(2)
            assert data(events) == ["a\nb", '{"c":1}']
            assert (events[1].type, events[1].last_event_id) == ("tick", "ü")
            assert source.retry == 2000

    def test_tell_in_the_head_that_it_has_begun(
        self, server: HTTPServer, channel: EventChannel
    ) -> None:
        """Whoever has the head gets all that is published from then on."""
        for number in range(20):
            with EventSource(server.address) as source:
                channel.publish(str(number))
                assert data(source.wait_for(1)) == [str(number)]

    def test_go_on_where_the_client_was(self, server: HTTPServer, channel: EventChannel) -> None:
        with EventSource(server.address) as source:
            channel.publish("0")
            last = source.wait_for(1)[0].last_event_id
        eventually(lambda: len(channel) == 0)
        for number in (1, 2, 3):
            channel.publish(str(number))
        with EventSource(server.address, f"Last-Event-ID: {last}") as source:
            channel.publish("4")
            assert data(source.wait_for(4)) == ["1", "2", "3", "4"]

    def test_replay_all_to_one_of_another_life(
        self, server: HTTPServer, channel: EventChannel
    ) -> None:
        other = EventChannel()
        last = other.publish("x")
        channel.publish("0")
        channel.publish("1")
        with EventSource(server.address, f"Last-Event-ID: {last}") as source:
            assert data(source.wait_for(2)) == ["0", "1"]

    def test_skip_what_a_slow_reader_missed(self, serve: Serve) -> None:
        channel = EventChannel(replay=10)
        server = serve(App(channel))
        with EventSource(server.address, receive_buffer=4096) as slow:
            with EventSource(server.address) as fast:
                for number in range(300):
                    channel.publish(f"{number} {'x' * 50_000}")
                    fast.wait_for(number + 1)
                assert fast.comments == []
            channel.publish("last")
            while not slow.events or slow.events[-1].data != "last":
                assert slow.read_some()
            got = [int(event.data.partition(" ")[0]) for event in slow.events[:-1]]
            missed = [int(text.split()[0]) for text in slow.comments]
            assert missed
            assert len(got) + sum(missed) == 300
            assert got == sorted(got)
            # One gap: it went on with the oldest that was there.
            assert got[-9:] == list(range(291, 300))

    def test_cut_a_slow_reader_that_shall_come_back(self, serve: Serve) -> None:
        channel = EventChannel(replay=10, slow="close")
        server = serve(App(channel))
        with EventSource(server.address, receive_buffer=4096) as slow:
            channel.publish("first")
            slow.wait_for(1)
            for number in range(300):
                channel.publish(f"{number} {'x' * 50_000}")
            slow.read_to_the_end()
            assert slow.complete
            assert slow.comments == []
            last = slow.last_event_id
        with EventSource(server.address, f"Last-Event-ID: {last}") as again:
            channel.publish("last")
            while not again.events or again.events[-1].data != "last":
                assert again.read_some()
            assert 10 <= len(again.events) <= 11

    def test_miss_who_leaves_without_anything_published(
        self, server: HTTPServer, channel: EventChannel
    ) -> None:
        with EventSource(server.address):
            assert len(channel) == 1
        eventually(lambda: len(channel) == 0)

    def test_keep_silent_streams_alive(self, serve: Serve, channel: EventChannel) -> None:
        server = serve(App(channel, 0.05), limits=Limits(write=0.2))
        with EventSource(server.address) as source:
            for _ in range(3):
                assert source.wait_for_comment() == ""
            channel.publish("a")
            assert data(source.wait_for(1)) == ["a"]

    def test_end_all_streams_when_they_are_closed(
        self, server: HTTPServer, channel: EventChannel
    ) -> None:
        with EventSource(server.address) as one, EventSource(server.address) as other:
            channel.publish("last")
            channel.close()
            for source in (one, other):
                assert data(source.read_to_the_end()) == ["last"]
                assert source.complete
        with Client(server.address) as client:
            assert client.get("/events").status == 410

    def test_answer_head_without_subscribing(
        self, server: HTTPServer, channel: EventChannel
    ) -> None:
        with Client(server.address) as client:
            answer = client.get("/events", method="HEAD")
            assert answer.fields["content-type"] == "text/event-stream"
            assert client.get("/").body == b"hello"
        assert len(channel) == 0

    def test_serve_http_1_0(self, server: HTTPServer, channel: EventChannel) -> None:
        with EventSource(server.address, version="1.0") as source:
            assert not source.chunked
            channel.publish("a")
            assert data(source.wait_for(1)) == ["a"]
            channel.close()
            source.read_to_the_end()
            assert source.complete

    def test_serve_tls(self, serve: Serve, app: App, tmp_path: Path) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("localhost")
        key, chain = tmp_path / "key.pem", tmp_path / "cert.pem"
        certificate.private_key_pem.write_to_path(str(key))
        certificate.cert_chain_pems[0].write_to_path(str(chain))
        server = serve(app, privkey=key, cert=chain)
        context = ssl.create_default_context()
        authority.configure_trust(context)
        with EventSource(server.address, tls=context) as source:
            for number in range(10):
                app.channel.publish(f"{number} {'x' * 10_000 * number}")
                source.wait_for(number + 1)
        eventually(lambda: len(app.channel) == 0)


@pytest.mark.usefixtures("quiet")
class TestCrowds:
    def test_cost_no_threads(self, server: HTTPServer, channel: EventChannel) -> None:
        # Two for each loop.
        few = len(server_threads()) + 1
        with Client(server.address) as client:
            assert client.get("/").body == b"hello"
        with ExitStack() as stack:
            sources = [stack.enter_context(EventSource(server.address)) for _ in range(200)]
            assert len(channel) == 200
            # Opening takes a worker, for a moment; they end when there is nothing to do.
            eventually(lambda: len(server_threads()) <= few)
            for number in range(5):
                channel.publish(str(number))
            for source in sources:
                assert data(source.wait_for(5)) == list("01234")
            assert len(server_threads()) <= few
            with Client(server.address) as client:
                assert client.get("/").body == b"hello"
        eventually(lambda: len(channel) == 0)
        assert channel._waiting == {}

    def test_get_all_in_order_from_many_publishers(self, serve: Serve) -> None:
        channel = EventChannel(replay=10_000)
        server = serve(App(channel))
        with ExitStack() as stack:
            sources = [stack.enter_context(EventSource(server.address)) for _ in range(10)]

            def publish(name: str) -> None:
                for number in range(200):
                    channel.publish(f"{name} {number}")

            threads = [threading.Thread(target=publish, args=(name,)) for name in "abcde"]
            for thread in threads:
                thread.start()
            expected = data(sources[0].wait_for(1000))
            for source in sources:
                assert data(source.wait_for(1000)) == expected
            for name in "abcde":
                mine = [text for text in expected if text.startswith(name)]
                assert mine == [f"{name} {number}" for number in range(200)]
            for thread in threads:
                thread.join(PATIENCE)

    def test_end_with_the_server(self, server: HTTPServer, channel: EventChannel) -> None:
        with ExitStack() as stack:
            sources = [stack.enter_context(EventSource(server.address)) for _ in range(20)]
            channel.publish("last")
            assert server.stop(PATIENCE)
            assert len(channel) == 0
            for source in sources:
                assert data(source.read_to_the_end()) == ["last"]
                assert source.complete

    def test_that_do_not_read_end_with_the_server_in_time(
        self, server: HTTPServer, channel: EventChannel
    ) -> None:
        with EventSource(server.address, receive_buffer=4096):
            for _ in range(300):
                channel.publish("x" * 50_000)
            assert server.stop(0.2)
            assert len(channel) == 0


class TestIterables:
    def test_are_sent_as_they_yield(self, server: HTTPServer, app: App) -> None:
        with EventSource(server.address, path="/iterable") as source:
            for number in (1, 2, 3):
                app.gate.release()
                assert source.wait_for(number)[-1].data == f'{{"number":{number}}}'
        app.gate.release(3)
        assert app.closed.wait(PATIENCE)

    def test_go_on_as_the_handler_says(self, server: HTTPServer, app: App) -> None:
        app.gate.release()
        with EventSource(server.address, "Last-Event-ID: 41", path="/iterable") as source:
            assert source.wait_for(1)[0].data == '{"number":42}'
        app.gate.release(3)

    def test_are_flushed_in_gzip_as_well(self, server: HTTPServer, app: App) -> None:
        """What was yielded can be unpacked before anything follows."""
        import zlib

        decompressor = zlib.decompressobj(31)
        with Client(server.address) as client:
            client.ask("/packed", "Accept-Encoding: gzip")
            assert b"Content-Encoding: gzip" in client.head()
            for number in (1, 2, 3):
                app.gate.release()
                size = int(client._until(b"\r\n"), 16)
                piece = client._exactly(size + 2)[:-2]
                events = parse(decompressor.decompress(piece)).events
                assert data(events) == [f'{{"number":{number}}}']
        app.gate.release(3)
        assert app.closed.wait(PATIENCE)


class TestOtherClients:
    def test_requests_reads_them(self, server: HTTPServer, channel: EventChannel) -> None:
        with requests.get(f"{server.url}/events", stream=True, timeout=PATIENCE) as answer:
            lines = answer.iter_lines()
            assert next(lines) == b"retry: 2000"
            channel.publish("hello", id="1")
            assert [next(lines) for _ in range(4)] == [b"", b"id: 1", b"data: hello", b""]
        eventually(lambda: len(channel) == 0)

    @pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
    def test_curl_reads_them(self, server: HTTPServer, channel: EventChannel) -> None:
        with subprocess.Popen(
            ["curl", "-sN", "--max-time", str(PATIENCE), f"{server.url}/events"],
            stdout=subprocess.PIPE,
            bufsize=0,
        ) as curl:
            assert curl.stdout is not None
            received = b""
            while b"\n\n" not in received:
                piece = curl.stdout.read(100)
                assert piece
                received += piece
            channel.publish("hello", id="1")
            while not received.endswith(b"data: hello\n\n"):
                piece = curl.stdout.read(100)
                assert piece
                received += piece
            assert data(parse(received).events) == ["hello"]
            curl.terminate()
        eventually(lambda: len(channel) == 0)
