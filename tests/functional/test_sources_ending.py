"""Sources that are woken, that end with the server, and that feed TLS."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from typing import TYPE_CHECKING

import pytest
import trustme

from resource_server import HTTPServer, Request
from resource_server.engine.feed import Feed
from tests.rawclient import PATIENCE, Client
from tests.sources import App, Told, chunk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Serve
    from tests.functional.conftest import Records


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app)


@pytest.fixture
def client(server: HTTPServer) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


class TestStopping:
    def test_ends_the_content(self, server: HTTPServer, client: Client, app: App) -> None:
        app.source = Told(b"a")
        client.ask("/it")
        client.head()
        assert client.some() == chunk(b"a")
        assert server.stop(PATIENCE)
        assert client.rest() == chunk(b"bye") + b"0\r\n\r\n"
        assert app.source.closings == 1

    def test_cuts_off_what_does_not_end(self, server: HTTPServer, client: Client, app: App) -> None:
        app.source.on_stop = None
        client.ask("/it")
        client.head()
        assert server.stop(0.1)
        assert app.source.stopped.is_set()
        assert app.source.closings == 1
        assert client.rest() == b""

    def test_cuts_off_who_does_not_read(self, server: HTTPServer, app: App) -> None:
        app.source = Told(bytes(20_000_000))
        with Client(server.address, receive_buffer=4096) as client:
            client.ask("/it")
            client.head()
            assert server.stop(0.1)
            assert app.source.closings == 1

    def test_cuts_off_what_fails_to_stop(
        self, server: HTTPServer, client: Client, app: App, logged: Records
    ) -> None:
        app.source.on_stop = ZeroDivisionError()
        client.ask("/it")
        client.head()
        assert server.stop(PATIENCE)
        assert client.rest() == b""
        assert app.source.closings == 1
        message = "The source of a response could not be stopped."
        assert logged.at_least(logging.ERROR) == [message]

    def test_ends_what_begins_meanwhile(self, server: HTTPServer, client: Client, app: App) -> None:
        entered, gate = threading.Event(), threading.Event()

        class Slow(Told):
            def open(self, request: Request, wake: Callable[[], None]) -> None:
                entered.set()
                assert gate.wait(PATIENCE)
                super().open(request, wake)

        app.source = Slow(b"a")
        client.ask("/it")
        assert entered.wait(PATIENCE)
        stopper = threading.Thread(target=server.stop, args=(PATIENCE,))
        stopper.start()
        while True:
            # It listens no more, at once.
            try:
                Client(server.address).sock.close()
            except ConnectionError:
                break
        gate.set()
        assert client.read().body == b"abye"
        stopper.join(PATIENCE)
        assert app.source.closings == 1


class TestWaking:
    def test_by_many_threads_loses_nothing(self, client: Client, app: App) -> None:
        class Counting(Told):
            def __init__(self) -> None:
                super().__init__()
                self.count = self.sent = 0
                self.lock = threading.Lock()

            def add(self) -> None:
                for _ in range(500):
                    with self.lock:
                        self.count += 1
                    self.wake()

            def take(self) -> bytes | None:
                with self.lock:
                    new = self.count - self.sent
                    self.sent = self.count
                return b"x" * new or None

        app.source = source = Counting()
        client.ask("/it")
        client.head()
        threads = [threading.Thread(target=source.add) for _ in range(4)]
        for thread in threads:
            thread.start()
        total = 0
        while total < 2000:
            size = int(client._until(b"\r\n"), 16)
            total += len(client._exactly(size + 2)) - 2
        assert total == 2000
        for thread in threads:
            thread.join(PATIENCE)

    def test_long_after_the_end_disturbs_nobody(self, client: Client, app: App) -> None:
        app.source = Told(b"a", b"")
        assert client.get("/it").body == b"a"
        entered, gate = threading.Event(), threading.Event()
        old = app.source

        class Slow(Told):
            def open(self, request: Request, wake: Callable[[], None]) -> None:
                super().open(request, wake)
                entered.set()
                assert gate.wait(PATIENCE)

        # In the middle of another request of the same connection, which is not the leader's.
        app.source = Slow(b"b", b"")
        client.ask("/it")
        assert entered.wait(PATIENCE)
        for _ in range(10):
            old.wake()
        gate.set()
        assert client.read().body == b"b"
        assert client.get("/").body == b"hello"


class TestTLS:
    @pytest.fixture
    def authority(self) -> trustme.CA:
        return trustme.CA()

    @pytest.fixture
    def secure(self, serve: Serve, app: App, authority: trustme.CA, tmp_path: Path) -> HTTPServer:
        certificate = authority.issue_cert("localhost")
        key, chain = tmp_path / "key.pem", tmp_path / "cert.pem"
        certificate.private_key_pem.write_to_path(str(key))
        certificate.cert_chain_pems[0].write_to_path(str(chain))
        return serve(app, privkey=key, cert=chain)

    @pytest.fixture
    def context(self, authority: trustme.CA) -> ssl.SSLContext:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    def test_pieces_come_and_large_ones_too(
        self, secure: HTTPServer, app: App, context: ssl.SSLContext
    ) -> None:
        with Client(secure.address, tls=context) as client:
            client.ask("/it")
            client.head()
            for _ in range(3):
                app.source.give(b"a")
                assert client._exactly(6) == chunk(b"a")
            app.source.give(bytes(5_000_000), b"")
            big = chunk(bytes(5_000_000)) + b"0\r\n\r\n"
            assert client._exactly(len(big)) == big
            assert client.get("/").body == b"hello"

    def test_a_client_that_reads_slowly_gets_all(
        self, secure: HTTPServer, app: App, context: ssl.SSLContext
    ) -> None:
        app.source = Told(*[bytes(100_000)] * 50, b"")
        with Client(secure.address, tls=context, receive_buffer=4096) as client:
            assert client.get("/it").body == bytes(5_000_000)

    def test_a_client_that_leaves_is_missed(
        self, secure: HTTPServer, app: App, context: ssl.SSLContext
    ) -> None:
        with Client(secure.address, tls=context) as client:
            client.ask("/it")
            client.head()
            client.sock.shutdown(socket.SHUT_RDWR)
        assert app.source.closed.wait(PATIENCE)

    def test_pipelined_requests_wait(
        self, secure: HTTPServer, app: App, context: ssl.SSLContext
    ) -> None:
        with Client(secure.address, tls=context) as client:
            client.ask("/it")
            client.head()
            client.ask("/")
            app.source.give(b"a", b"")
            assert client._exactly(11) == chunk(b"a") + b"0\r\n\r\n"
            assert client.read().body == b"hello"


class TestLoopsThatHaveEnded:
    class Connection:
        """Of a loop that takes nothing any more."""

        def __init__(self) -> None:
            self.loop: object = self
            self.sock: object = None
            self.dropped = False

        def post(self, _source: object) -> bool:
            return False

        def drop(self) -> None:
            self.dropped = True

    def test_have_nobody_who_looks(self) -> None:
        connection, source = self.Connection(), Told()
        feed = Feed(connection, source)  # type: ignore[arg-type]
        feed.wake()
        assert source.closings == 0
        feed.look()
        feed.look()
        assert source.closings == 1

    def test_defects_end_the_connection(self) -> None:
        connection = self.Connection()
        Feed(connection, Told()).drop()  # type: ignore[arg-type]
        assert connection.dropped
