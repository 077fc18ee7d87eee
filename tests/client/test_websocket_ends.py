"""How WebSockets of the client end, and that they are kept alive until then."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import (
    HTTPClient,
    WebSocketClosed,
    WebSocketGroup,
)
from resource_server.client import (
    Cancelled,
    line,
    reader,
)
from resource_server.client.websocket import Reconnect
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer
from tests.client.wsserver import (
    AT_ONCE,
    BINARY,
    CLOSE,
    LONG,
    PING,
    PONG,
    TEXT,
    accept,
    accepts_and_sends,
    builtin_timeout,
    closing,
    opened,
    plain,
    read_frame,
    readers,
    wait_until,
)
from tests.wsclient import frame

if TYPE_CHECKING:
    from collections.abc import Callable


class TestEnds:
    @pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 3000, 4999])
    def test_codes_come_through(self, code: int) -> None:
        script = accepts_and_sends(plain(TEXT, b"last"), closing(code, b"why"))
        with Misbehaving(script) as server, opened(server) as session:
            assert list(session) == ["last"]
            with pytest.raises(WebSocketClosed) as caught:
                session.receive()
            assert (caught.value.code, caught.value.reason) == (code, "why")
            with pytest.raises(WebSocketClosed):
                session.send("x")

    def test_a_close_is_answered(self) -> None:
        answered: list[Any] = []

        def script(peer: Peer) -> None:
            accept(peer, closing(4005))
            answered.append(read_frame(peer))

        with Misbehaving(script) as server, opened(server) as session:
            assert list(session) == []
            assert server.wait_gone()
        assert answered == [(CLOSE, (4005).to_bytes(2, "big"))]

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (b"\xff\xff\xff\xff", 1002),
            (frame(TEXT, b"masked"), 1002),
            (plain(TEXT, b"\xff\xfe"), 1007),
            (plain(BINARY, bytes(2000)), 1009),
            (plain(CLOSE, b"\x00\x01"), 1002),
        ],
    )
    def test_a_broken_rule_is_told(self, data: bytes, code: int) -> None:
        told: list[Any] = []

        def script(peer: Peer) -> None:
            accept(peer, plain(TEXT, b"good") + data)
            told.append(read_frame(peer))

        with (
            Misbehaving(script) as server,
            opened(server, max_message_size=1000, reconnect=AT_ONCE) as session,
        ):
            assert list(session) == ["good"]
            assert session.close_code == code
            assert server.wait_gone()
            assert server.connections == 1
        assert told[0][1][:2] == code.to_bytes(2, "big")

    @pytest.mark.parametrize("end", [lambda p: None, lambda p: p.reset()])
    def test_a_cut_is_1006(self, end: Callable[[Peer], None]) -> None:
        def script(peer: Peer) -> None:
            accept(peer, plain(TEXT, b"x"))
            read_frame(peer)
            end(peer)

        with Misbehaving(script) as server, opened(server) as session:
            assert session.receive(PATIENCE) == "x"
            session.send("go")
            assert list(session) == []
            assert session.close_code == 1006
            assert session.closed

    def test_close_waits_for_the_answer_and_not_for_ever(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(line, "CLOSE_TIMEOUT", 0.2)
        with Misbehaving(accepts_and_sends()) as server, opened(server) as session:
            started = time.monotonic()
            session.close(4000, "done")
            assert 0.15 < time.monotonic() - started < PATIENCE
            assert readers() == []
            assert session.close_code == 1006
            session.close()

    def test_a_server_that_does_not_close_its_side(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader, "LINGER", 0.1)

        def script(peer: Peer) -> None:
            accept(peer)
            assert read_frame(peer) == (CLOSE, (4000).to_bytes(2, "big") + b"done")
            peer.send(plain(TEXT, b"late") + closing(4000))
            peer.hang()

        with Misbehaving(script) as server, opened(server) as session:
            session.close(4000, "done")
            assert session.close_code == 4000
            assert list(session) == []

    def test_a_wrong_code_closes_nothing(self) -> None:
        with Misbehaving(accepts_and_sends(plain(TEXT, b"x"))) as server, opened(server) as session:
            for code in (1005, 999, 5000):
                with pytest.raises(ValueError, match="code"):
                    session.close(code)
            assert not session.closed
            with pytest.raises(ValueError, match="125"):
                session.ping(bytes(126))
            session.connection.stop()
            session.close(None)

    def test_messages_before_the_end_are_still_received(self) -> None:
        with Misbehaving(accepts_and_sends(plain(TEXT, b"x"))) as server, opened(server) as session:
            wait_until(lambda: session.connection._inbox)
            session.connection.stop()
            session.close()
            assert list(session) == ["x"]

    def test_receive_takes_a_timeout(self) -> None:
        with Misbehaving(accepts_and_sends()) as server, opened(server) as session:
            for timeout in (0, 0.01, -5):
                with pytest.raises(builtin_timeout, match="no message"):
                    session.receive(timeout)
            session.connection.stop()

    def test_a_session_that_is_garbage_is_closed(self) -> None:
        with Misbehaving(accepts_and_sends()) as server, HTTPClient(server.address) as client:
            session = client.websocket("/ws")
            assert len(readers()) == 1
            del session
            for thread in readers():
                thread.join(PATIENCE)
            assert readers() == []
            assert server.wait_gone()

    def test_garbage_in_a_group_too(self) -> None:
        with Misbehaving(accepts_and_sends()) as server, HTTPClient(server.address) as client:
            session = client.websocket("/ws")
            group = WebSocketGroup()
            group.add(session)
            del session, group
            assert server.wait_gone()

    def test_garbage_that_waits_to_connect_again(self) -> None:
        def script(peer: Peer) -> None:
            accept(peer)

        with Misbehaving(script) as server, HTTPClient(server.address) as client:
            session = client.websocket("/ws", reconnect=Reconnect(first=1000, most=1000))
            link = session.connection
            wait_until(lambda: not link.connected)
            del session
            for thread in readers():
                thread.join(PATIENCE)
            assert readers() == []

    def test_the_client_is_stopped(self) -> None:
        with Misbehaving(accepts_and_sends()) as server:
            client = HTTPClient(server.address)
            sessions = [client.websocket("/ws") for _ in range(3)]
            client.stop()
            assert readers() == []
            assert all(session.closed for session in sessions)
            assert [list(session) for session in sessions] == [[], [], []]

    def test_the_client_is_stopped_while_it_connects(self) -> None:
        begun = threading.Event()

        def script(peer: Peer) -> None:
            peer.read_request()
            begun.set()
            peer.hang()

        with Misbehaving(script) as server:
            client = HTTPClient(server.address, timeout=LONG)

            def stop() -> None:
                assert begun.wait(PATIENCE)
                client.stop()

            thread = threading.Thread(target=stop)
            thread.start()
            with pytest.raises(Cancelled):
                client.websocket("/ws")
            thread.join()

    def test_on_close_is_called_once_and_its_errors_are_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        called: list[bool] = []
        with Misbehaving(accepts_and_sends()) as server, opened(server) as session:

            def callback() -> None:
                called.append(session.closed)
                raise ValueError("mine")

            session.connection.on_close(callback)
            session.connection.stop()
        assert called == [True]
        assert "at a WebSocket's end failed" in caplog.text


class TestKeepAlive:
    def test_pings_are_answered(self) -> None:
        got: list[Any] = []

        def script(peer: Peer) -> None:
            accept(peer, plain(PING, b"a") + plain(PONG, b"unasked"))
            got.append(read_frame(peer))
            peer.send(plain(TEXT, b"done"))
            got.append(read_frame(peer))
            peer.hang()

        with Misbehaving(script) as server, opened(server) as session:
            assert session.receive(PATIENCE) == "done"
            session.ping(b"mine")
            wait_until(lambda: len(got) == 2)
            session.connection.stop()
        assert got == [(PONG, b"a"), (PING, b"mine")]

    def test_a_silent_server_is_asked_and_given_up(self) -> None:
        got: list[Any] = []

        def script(peer: Peer) -> None:
            accept(peer)
            for _ in range(2):
                got.append(read_frame(peer))
                peer.send(plain(PONG))
            got.append(read_frame(peer))
            peer.hang()

        with (
            Misbehaving(script) as server,
            opened(server, ping_interval=0.02, ping_timeout=0.3) as session,
        ):
            with pytest.raises(WebSocketClosed, match="1006: no answer to a ping"):
                session.receive(PATIENCE)
            assert server.wait_gone()
        assert got == [(PING, b"")] * 3

    def test_without_a_timeout_it_is_only_asked(self) -> None:
        def script(peer: Peer) -> None:
            accept(peer)
            assert read_frame(peer) == (PING, b"")
            peer.send(plain(TEXT, b"x"))
            assert read_frame(peer) == (PING, b"")
            peer.send(plain(TEXT, b"y"))
            peer.hang()

        with (
            Misbehaving(script) as server,
            opened(server, ping_interval=0.02, ping_timeout=None) as session,
        ):
            assert [session.receive(PATIENCE), session.receive(PATIENCE)] == ["x", "y"]
            session.connection.stop()

    def test_no_pings_at_all(self) -> None:
        with (
            Misbehaving(accepts_and_sends()) as server,
            opened(server, ping_interval=None) as session,
        ):
            assert session.connection._due_in(session.connection._wire) is None  # type: ignore[arg-type]
            session.connection.stop()
