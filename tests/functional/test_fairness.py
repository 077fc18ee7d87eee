"""Nobody who is slow, or sends much work in few bytes, holds up the others."""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING

from resource_server import Limits, Request, Resource, Response, StreamResponse, get, post
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from tests.conftest import Serve


class SlowFile(io.BytesIO):
    """A file on a disk that sleeps until it is woken."""

    def __init__(self, gate: threading.Event, content: bytes) -> None:
        super().__init__(content)
        self.gate = gate
        self.reading = threading.Event()

    def read(self, size: int | None = -1, /) -> bytes:
        self.reading.set()
        assert self.gate.wait(PATIENCE)
        return super().read(size)


class App(Resource):
    def __init__(self) -> None:
        self.gate = threading.Event()
        self.content = b"x" * 300_000
        self.file = SlowFile(self.gate, self.content)

    @get("/")
    def quick(self, _request: Request) -> str:
        return "quick"

    @get("/work", blocking=True)
    def work(self, _request: Request) -> str:
        return "worked"

    @get("/file")
    def read(self, _request: Request) -> Response:
        response = Response()
        response.body = None
        response.file = self.file
        response.content_length = len(self.content)
        return response

    @get("/stream")
    def stream(self, _request: Request) -> StreamResponse:
        def pieces() -> Iterator[bytes]:
            while True:
                yield b"x" * 65536

        return StreamResponse(pieces())

    @post("/live", stream=True)
    def live(self, request: Request) -> bytes:
        return request.body()

    @post("/")
    def take(self, request: Request) -> bytes:
        return request.body()


def test_a_slow_disk_holds_up_nobody_else(serve: Serve) -> None:
    app = App()
    server = serve(app)
    with Client(server.address) as reader, Client(server.address) as client:
        reader.ask("/file")
        assert app.file.reading.wait(PATIENCE)
        assert client.get("/").body == b"quick"
        app.gate.set()
        assert reader.read().body == app.content
        assert reader.get("/").body == b"quick"


def test_clients_that_do_not_read_leave_the_workers_to_others(serve: Serve) -> None:
    server = serve(App(), threads=2)
    stuck = [Client(server.address, receive_buffer=4096) for _ in range(4)]
    for client in stuck:
        client.ask("/stream")
        client.head()
    with Client(server.address) as client:
        assert client.get("/work").body == b"worked"
    for client in stuck:
        client.reset()


def test_clients_that_do_not_send_leave_the_workers_to_others(serve: Serve) -> None:
    server = serve(App(), threads=2)
    stuck = [Client(server.address) for _ in range(4)]
    for client in stuck:
        client.send(b"POST /live HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    with Client(server.address) as client:
        assert client.get("/work").body == b"worked"
    for client in stuck:
        client.send(b"123456789")
        assert client.read().body == b"123456789"
        client.sock.close()


def test_very_many_small_chunks_arrive_whole(serve: Serve) -> None:
    digits = b"0123456789" * 600
    chunks = b"".join(b"1\r\n%c\r\n" % digit for digit in digits)
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    behind = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    with Client(serve(App()).address) as client:
        for path in (b"/", b"/live"):
            client.send(head % path + chunks + b"0\r\n\r\n" + behind)
            assert client.read().body == digits
            assert client.read().body == b"quick"


def test_many_requests_that_time_out_together_are_all_answered(serve: Serve) -> None:
    server = serve(App(), limits=Limits(head=0.5))
    slow = [Client(server.address) for _ in range(120)]
    for client in slow:
        client.send(b"GET / HTTP/1.1\r\nAccept: " + b"a/b," * 2000)
    for client in slow:
        assert client.read().status == 408
        client.sock.close()


def test_there_are_fewer_connections_than_descriptors(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (2, 2))
    with Client((server := serve(App())).address) as first:
        assert first.get("/").body == b"quick"
        with Client(server.address) as second:
            assert second.read().status == 503
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    with Client(serve(App()).address) as client:
        assert client.get("/").body == b"quick"
