"""Whoever is slow, silent or stuck is left, and told where that is possible."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from resource_server import Limits, Request, Resource, Response, StreamResponse, get, post
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Serve

BIG = 30_000_000


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.closed = threading.Event()

    @get("/")
    def index(self, request: Request) -> str:
        return "hello"

    @post("/echo")
    def echo(self, request: Request) -> bytes:
        return request.body()

    @get("/big")
    def big(self, request: Request) -> bytes:
        return bytes(BIG)

    @get("/endless")
    def endless(self, request: Request) -> Response:
        def pieces() -> Iterator[bytes]:
            try:
                while True:
                    yield bytes(100_000)
            finally:
                self.closed.set()

        return StreamResponse(pieces())


def drip(client: Client, text: bytes) -> None:
    """Send a byte every 20 ms until the server has had enough."""
    pace = threading.Event()
    try:
        for byte in text * 1000:
            client.send(bytes([byte]))
            pace.wait(0.02)
            client.sock.setblocking(False)
            try:
                client._buffer += client.sock.recv(65536)
                break
            except BlockingIOError:
                pass
            finally:
                client.sock.settimeout(PATIENCE)
    except ConnectionError:
        pass


class TestHeads:
    def test_an_unfinished_head_gets_408(self, serve: Serve) -> None:
        server = serve(App(), limits=Limits(head=0.2))
        with Client(server.address) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
            answer = client.read()
            assert (answer.status, answer.fields["connection"]) == (408, "close")
            assert client.is_closed()

    def test_a_dripped_head_gets_408(self, serve: Serve) -> None:
        server = serve(App(), limits=Limits(head=0.3))
        with Client(server.address) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX-")
            drip(client, b"abcdef")
            assert client.read().status == 408

    def test_a_silent_client_is_left_without_a_word(self, serve: Serve) -> None:
        server = serve(App(), limits=Limits(head=0.2))
        with Client(server.address) as client:
            assert client.is_closed()

    def test_the_second_head_has_its_own_deadline(self, serve: Serve) -> None:
        server = serve(App(), limits=Limits(head=0.2, keep_alive=PATIENCE))
        with Client(server.address) as client:
            assert client.get("/").status == 200
            client.send(b"GET / HTTP/1.1\r\n")
            assert client.read().status == 408

    def test_half_a_pipelined_head_has_one_too(self, serve: Serve) -> None:
        server = serve(App(), limits=Limits(head=0.2, keep_alive=PATIENCE))
        with Client(server.address) as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\n")
            assert client.read().status == 200
            assert client.read().status == 408


class TestBodies:
    def test_a_silent_body_gets_408(self, serve: Serve) -> None:
        server = serve(App(), limits=Limits(body_idle=0.2))
        with Client(server.address) as client:
            client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
            answer = client.read()
            assert (answer.status, answer.fields["connection"]) == (408, "close")

    def test_a_dripped_body_gets_408(self, serve: Serve) -> None:
        server = serve(App(), limits=Limits(body_idle=0.5, body_rate=1000))
        with Client(server.address) as client:
            client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
            started = time.monotonic()
            drip(client, b"abcdef")
            assert client.read().status == 408
            assert time.monotonic() - started < PATIENCE / 2

    def test_a_body_at_a_fair_rate_may_take_long(self, serve: Serve) -> None:
        server = serve(App(), limits=Limits(body_idle=5, body_rate=10, head=0.2))
        with Client(server.address) as client:
            client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 40\r\n\r\n")
            pace = threading.Event()
            for _ in range(40):
                client.send(b"x")
                pace.wait(0.02)
            assert client.read().body == b"x" * 40


class TestIdle:
    def test_an_idle_connection_is_closed(self, serve: Serve) -> None:
        server = serve(App(), limits=Limits(keep_alive=0.2))
        with Client(server.address) as client:
            assert client.get("/").status == 200
            assert client.is_closed()

    def test_each_request_renews_it(self, serve: Serve) -> None:
        server = serve(App(), limits=Limits(keep_alive=2.0))
        with Client(server.address) as client:
            pace = threading.Event()
            started = time.monotonic()
            while time.monotonic() - started < 2.6:
                assert client.get("/").status == 200
                pace.wait(0.1)

    def test_deadlines_may_be_without_end(self, serve: Serve) -> None:
        endless = float("inf")
        server = serve(
            App(), limits=Limits(head=endless, keep_alive=1e12, write=endless, body_idle=1e12)
        )
        with Client(server.address) as client, Client(server.address, receive_buffer=4096) as slow:
            assert client.get("/").status == 200
            slow.ask("/endless")
            assert slow.some()
            assert client.get("/").status == 200


class TestStalls:
    @pytest.mark.parametrize("path", ["/big", "/endless"])
    @pytest.mark.usefixtures("quiet")
    def test_a_client_that_takes_nothing_is_cut_off(self, serve: Serve, path: str) -> None:
        app = App()
        server = serve(app, limits=Limits(write=0.3))
        with Client(server.address, receive_buffer=4096) as client:
            client.ask(path)
            if path == "/endless":
                assert app.closed.wait(PATIENCE)
            else:
                # Nothing is read until the server has given up: then there is less than all.
                wait_until_alone(server.address)
            with pytest.raises((ConnectionError, EOFError)):
                client.read()

    def test_a_slow_reader_gets_all_of_it(self, serve: Serve) -> None:
        server = serve(App(), limits=Limits(write=2.0))
        with Client(server.address, receive_buffer=65536) as client:
            client.ask("/big")
            pace = threading.Event()
            client.head()
            received = 0
            while received < BIG:
                received += len(client.some(1_000_000))
                pace.wait(0.001)
            assert received == BIG

    def test_lingering_is_bounded(self, serve: Serve) -> None:
        server = serve(App(), limits=Limits(closing=0.2))
        with Client(server.address) as client:
            client.send(b"nonsense\r\n\r\n")
            assert client.read().status == 400
            assert client.some() == b""
            # The client does not close; the server does, and then answers with a reset.
            pace = threading.Event()
            deadline = time.monotonic() + PATIENCE
            try:
                while time.monotonic() < deadline:
                    client.send(b"more")
                    pace.wait(0.02)
            except ConnectionError:
                return
            pytest.fail("the server goes on reading")


def wait_until_alone(address: tuple[str, int]) -> None:
    """Wait until the server has no connection left, as the system sees it."""
    deadline = time.monotonic() + PATIENCE
    pace = threading.Event()
    port = f":{address[1]:04X}"
    while time.monotonic() < deadline:
        with open("/proc/self/net/tcp") as table:
            lines = [line.split() for line in table][1:]
        established = [line for line in lines if line[1].endswith(port) and line[3] == "01"]
        if not established:
            return
        pace.wait(0.02)
    raise AssertionError("the server keeps the connection")
