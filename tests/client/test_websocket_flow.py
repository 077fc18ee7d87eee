"""WebSockets of the client whose peer does not read, and those that connect again."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import (
    HTTPClient,
    WebSocketClosed,
)
from resource_server.client import (
    ConnectError,
    line,
)
from resource_server.client.websocket import ClientWebSocket, Reconnect, WebSocketRefused
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer
from tests.client.wsserver import (
    AT_ONCE,
    BINARY,
    CLOSE,
    TEXT,
    accept,
    accepts_and_sends,
    answer,
    builtin_timeout,
    closing,
    opened,
    plain,
    read_frame,
    readers,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def read_frame_quickly(peer: Peer) -> tuple[int, int]:
    first, _ = peer.read_exactly(2)
    size = int.from_bytes(peer.read_exactly(8), "big")
    peer.read_exactly(4)
    left = size
    left -= len(peer.buffer[:left])
    if len(peer.buffer) > size:
        peer.buffer = peer.buffer[size:]
    else:
        peer.buffer = b""
    while left:
        data = peer.sock.recv(min(left, 1 << 20))
        assert data
        left -= len(data)
    return first & 15, size


def _shared(message: str) -> Any:
    from resource_server.websockets import Outgoing

    return Outgoing(message)


class TestFlow:
    def test_what_nobody_receives_is_not_read(self) -> None:
        sent = 0

        def script(peer: Peer) -> None:
            nonlocal sent
            accept(peer)
            for at in range(2000):
                peer.send(plain(BINARY, at.to_bytes(2, "big") * 10_000))
                sent += 1
            peer.hang()

        with (
            Misbehaving(script) as server,
            opened(server, ping_interval=0.02, ping_timeout=0.05) as session,
        ):
            link = session.connection
            wait_until(lambda: link._paused)
            # It is not the server that is silent.
            time.sleep(0.2)
            assert link._inbox_size <= line.INBOX_SIZE + 65536 + 20_100
            assert sent < 2000
            for at in range(2000):
                assert session.receive(PATIENCE) == at.to_bytes(2, "big") * 10_000
            link.stop()

    def test_close_works_while_the_inbox_is_full(self) -> None:
        def script(peer: Peer) -> None:
            accept(peer)
            for _ in range(100):
                peer.send(plain(BINARY, bytes(20_000)))
            assert read_frame(peer)[0] == CLOSE
            peer.send(closing(1000))

        with Misbehaving(script) as server, opened(server) as session:
            wait_until(lambda: session.connection._paused)
            session.close()
            assert session.close_code == 1000

    def test_senders_wait_for_a_server_that_does_not_read(self) -> None:
        may_read = threading.Event()
        size = 3_000_000

        def script(peer: Peer) -> None:
            accept(peer)
            assert may_read.wait(PATIENCE)
            for _ in range(10):
                opcode, payload = read_frame_quickly(peer)
                assert (opcode, payload) == (BINARY, size)
            peer.send(plain(TEXT, b"all"))
            peer.hang()

        with Misbehaving(script) as server, opened(server, compression=False) as session:
            sent: list[int] = []

            def send() -> None:
                for at in range(10):
                    session.send(bytes(size))
                    sent.append(at)

            thread = threading.Thread(target=send)
            thread.start()
            wait_until(lambda: session.buffered > line.MAX_BUFFERED)
            with pytest.raises(builtin_timeout):
                session.receive(0.1)
            assert len(sent) < 10
            may_read.set()
            assert session.receive(PATIENCE) == "all"
            thread.join()
            session.connection.stop()

    @pytest.mark.parametrize("grouped", [True, False])
    def test_a_sender_that_waits_is_woken_by_the_end(self, grouped: bool) -> None:
        ended = threading.Event()

        def script(peer: Peer) -> None:
            accept(peer)
            assert ended.wait(PATIENCE)

        with Misbehaving(script) as server, opened(server, compression=False) as session:
            errors: list[BaseException] = []

            def send() -> None:
                try:
                    session.send(bytes(30_000_000))
                    session.ping(b"x")
                except WebSocketClosed as error:
                    errors.append(error)

            thread = threading.Thread(target=send)
            thread.start()
            wait_until(lambda: session.buffered > line.MAX_BUFFERED)
            if grouped:
                assert not session.connection.post(_shared("x" * 10))
            session.connection.stop()
            thread.join(PATIENCE)
            assert len(errors) == 1
            ended.set()

    def test_a_message_that_cannot_go_out_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        server_of = accepts_and_sends()

        def fails(data: object) -> int:
            raise BrokenPipeError

        def script(peer: Peer) -> None:
            head, _ = peer.read_request()
            peer.send(answer(head, "Sec-WebSocket-Extensions: permessage-deflate"))
            peer.hang()

        for each in (server_of, script):
            for lost in (True, False):
                with Misbehaving(each) as server, opened(server) as session:
                    wire = session.connection._wire
                    assert wire is not None
                    if lost:
                        wire.protocol.lost()
                    else:
                        monkeypatch.setattr(wire.stream, "send", fails)
                    with pytest.raises(WebSocketClosed, match="1006"):
                        session.send("x" * 1000)


class TestReconnect:
    def test_iteration_goes_on(self) -> None:
        def says(text: bytes, *end: bytes) -> Callable[[Peer], None]:
            def script(peer: Peer) -> None:
                accept(peer)
                assert read_frame(peer) == (TEXT, b"subscribe")
                peer.send(plain(TEXT, text) + b"".join(end))

            return script

        def refuses(peer: Peer) -> None:
            peer.read_request()
            peer.answer(status="503 Service Unavailable")

        scripts = [
            says(b"one"),
            refuses,
            lambda peer: peer.reset(),
            says(b"two", closing(1012)),
            says(b"three", closing(1000)),
        ]
        where: list[str] = []

        def subscribe(session: ClientWebSocket) -> None:
            where.append(threading.current_thread().name)
            session.send("subscribe")

        with (
            Misbehaving(*scripts) as server,
            opened(server, reconnect=AT_ONCE, on_open=subscribe) as session,
        ):
            assert list(session) == ["one", "two", "three"]
            assert session.close_code == 1000
            assert session.closed
            assert len({request.split(b"Key: ")[1][:24] for request in server.requests}) == 4
        assert where[0] == threading.current_thread().name
        assert all(name.startswith("resource_server-client-websocket-") for name in where[1:])
        assert len(where) == 3

    def test_nothing_can_be_sent_meanwhile(self) -> None:
        def script(peer: Peer) -> None:
            accept(peer, closing(1001, b"restart"))

        with (
            Misbehaving(script) as server,
            opened(server, reconnect=Reconnect(1000, 1000)) as session,
        ):
            wait_until(lambda: not session.connected)
            assert server.wait_gone()
            wait_until(lambda: session.connection._wire is None)
            assert not session.closed
            assert session.close_code is None
            assert session.close_reason == ""
            assert session.buffered == 0
            with pytest.raises(WebSocketClosed, match="1001: restart"):
                session.send("x")
            with pytest.raises(WebSocketClosed, match="1001: restart"):
                session.ping()
            with pytest.raises(ValueError, match="code"):
                session.close(1)
            started = time.monotonic()
            session.close()
            assert time.monotonic() - started < 5
            assert (bool(session.closed), session.connection.close_code) == (True, 1001)

    def test_it_is_given_up_after_some_tries(self) -> None:
        accepts = iter([True])

        def script(peer: Peer) -> None:
            if next(accepts, False):
                accept(peer)
            else:
                peer.reset()

        with (
            Misbehaving(script) as server,
            opened(server, reconnect=Reconnect(0.001, 0.001, tries=3)) as session,
        ):
            with pytest.raises(WebSocketClosed) as caught:
                session.receive(PATIENCE)
            assert isinstance(caught.value.__cause__, ConnectError)
            assert server.connections == 4
            assert session.close_code == 1006

    def test_a_refusal_that_means_the_request_is_the_end(self) -> None:
        def refuses(peer: Peer) -> None:
            peer.read_request()
            peer.answer(status="403 Forbidden")

        with (
            Misbehaving(accept, refuses) as server,
            opened(server, reconnect=AT_ONCE) as session,
        ):
            with pytest.raises(WebSocketClosed) as caught:
                session.receive(PATIENCE)
            assert isinstance(caught.value.__cause__, WebSocketRefused)
            assert server.connections == 2

    def test_close_frees_it_from_connecting(self) -> None:
        begun = threading.Event()

        def hangs(peer: Peer) -> None:
            peer.read_request()
            begun.set()
            peer.hang()

        with (
            Misbehaving(accept, hangs) as server,
            opened(server, reconnect=AT_ONCE) as session,
        ):
            assert begun.wait(PATIENCE)
            session.close()
            assert readers() == []

    def test_pauses_grow_and_differ(self) -> None:
        reconnect = Reconnect(1, 8)
        for failures, longest in ((0, 1), (1, 2), (2, 4), (3, 8), (50, 8), (100_000, 8)):
            pauses = {reconnect.pause(failures) for _ in range(20)}
            assert len(pauses) > 10
            assert all(longest / 2 <= pause <= longest for pause in pauses)

    def test_on_open_that_fails_the_first_time_is_told(self) -> None:
        def fails(session: ClientWebSocket) -> None:
            raise ValueError("mine")

        with (
            Misbehaving(accept) as server,
            HTTPClient(server.address) as client,
        ):
            with pytest.raises(ValueError, match="mine"):
                client.websocket("/ws", on_open=fails)
            assert readers() == []

    @pytest.mark.parametrize("fails", [False, True])
    def test_on_open_that_fails_later_is_logged(
        self, fails: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        calls: list[BaseException | None] = []

        def on_open(session: ClientWebSocket) -> None:
            if not calls:
                calls.append(None)
                return
            try:
                session.receive()
            except RuntimeError as error:
                calls.append(error)
                if fails:
                    raise
                raise WebSocketClosed from error

        def second(peer: Peer) -> None:
            accept(peer)
            peer.send(closing(1000))
            peer.hang()

        with (
            Misbehaving(accept, second) as server,
            opened(server, reconnect=AT_ONCE, on_open=on_open) as session,
        ):
            assert list(session) == []
        assert len(calls) == 2
        assert ("on_open of a WebSocket failed" in caplog.text) is fails

    def test_what_cannot_be_asked_again_is_the_end(self, caplog: pytest.LogCaptureFixture) -> None:
        def auth(request: Any) -> None:
            if server.requests:
                raise LookupError("no token")

        with (
            Misbehaving(accept) as server,
            opened(server, reconnect=AT_ONCE, auth=auth) as session,
        ):
            with pytest.raises(WebSocketClosed) as caught:
                session.receive(PATIENCE)
            assert isinstance(caught.value.__cause__, LookupError)
        assert "A WebSocket of the client failed" in caplog.text
