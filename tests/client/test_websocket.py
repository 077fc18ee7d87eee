"""WebSockets of the client: our own server, and what an opening handshake may be answered."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import (
    HTTPClient,
    Timeout,
    WebSocketClosed,
    WebSocketGroup,
    WebSocketSession,
)
from resource_server.client import (
    ClientError,
    ConnectError,
    ProtocolError,
    TimeoutError,  # noqa: A004
)
from resource_server.client.websocket import Reconnect, WebSocketRefused
from tests.client import misbehaving
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer, free_address
from tests.client.wsserver import (
    LONG,
    TEXT,
    Talk,
    answer,
    opened,
    plain,
    readers,
)

if TYPE_CHECKING:
    from tests.conftest import Serve


class TestOurServer:
    def test_messages_go_both_ways(self, serve: Serve) -> None:
        server = serve(Talk())
        with HTTPClient(server.address) as client, client.websocket("/echo?x=ä") as session:
            assert isinstance(session, WebSocketSession)
            assert (session.connected, session.closed, session.close_code) == (True, False, None)
            assert session.buffered == 0
            for message in ("text \u20ac", b"\x00\xff", "", b"", "x" * 300_000, bytes(100_000)):
                session.send(message)
                assert session.receive(PATIENCE) == message
            session.send(bytearray(b"ab"))
            assert session.receive(PATIENCE) == b"ab"
            assert repr(session).startswith("<ClientWebSocket /echo?x=%C3%A4 ")
            assert session.request.target == "/echo?x=%C3%A4"
            assert session.request.method == "GET"
            assert session.request.headers["upgrade"] == "websocket"
            assert "accept-encoding" not in session.request.headers
            assert session.request.url == f"http://127.0.0.1:{server.address[1]}/echo?x=%C3%A4"
        assert session.closed
        assert not session.connected
        assert (session.close_code, session.close_reason) == (1000, "")
        with pytest.raises(WebSocketClosed):
            session.send("more")
        with pytest.raises(WebSocketClosed):
            session.ping()

    @pytest.mark.parametrize("path", ["/echo", "/plain"])
    @pytest.mark.parametrize("compression", [True, False])
    def test_with_compression_and_without(self, serve: Serve, path: str, compression: bool) -> None:
        server = serve(Talk())
        with (
            HTTPClient(server.address) as client,
            client.websocket(path, compression=compression) as session,
        ):
            for _ in range(3):
                session.send("to be or not to be " * 100)
                assert session.receive(PATIENCE) == "to be or not to be " * 100

    def test_the_server_chooses_a_subprotocol(self, serve: Serve) -> None:
        server = serve(Talk())
        with HTTPClient(server.address) as client:
            with client.websocket("/echo", subprotocols=["a", "b"]) as session:
                assert session.subprotocol == "b"
            with client.websocket("/echo", subprotocols=["c"]) as session:
                assert session.subprotocol is None
            for wrong in ("a", ["a b"], ["a", "a"]):
                with pytest.raises(ValueError, match="subprotocol"):
                    client.websocket("/echo", subprotocols=wrong)

    def test_iteration_ends_when_the_server_closes(self, serve: Serve) -> None:
        server = serve(Talk())
        with HTTPClient(server.address) as client:
            with client.websocket("/bye") as session:
                assert list(session) == ["one", b"two"]
                with pytest.raises(WebSocketClosed, match="4001: enough"):
                    session.receive()
                assert (session.close_code, session.close_reason) == (4001, "enough")
                assert session.closed
            assert session.close_code == 4001

    def test_many_threads_send(self, serve: Serve) -> None:
        server = serve(Talk())
        with HTTPClient(server.address) as client, client.websocket("/echo") as session:

            def send(number: int) -> None:
                for at in range(50):
                    session.send(f"{number} {at} " * 200)

            threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
            for thread in threads:
                thread.start()
            got: dict[str, list[str]] = {}
            for _ in range(400):
                message = session.receive(PATIENCE)
                assert isinstance(message, str)
                number, at, *_ = message.split(" ")
                assert message == f"{number} {at} " * 200
                got.setdefault(number, []).append(at)
            for thread in threads:
                thread.join()
            assert all(each == [str(at) for at in range(50)] for each in got.values())

    def test_a_session_may_join_a_group(self, serve: Serve) -> None:
        server = serve(Talk())
        group = WebSocketGroup()
        with HTTPClient(server.address) as client:
            session = client.websocket("/echo")
            group.add(session)
            assert group.send("hello") == 1
            assert session.receive(PATIENCE) == "hello"
            session.close()
            assert len(group) == 0
            assert not session.connection.post(_shared("late"))
            called: list[int] = []
            session.connection.on_close(lambda: called.append(1))
            assert called == [1]

    def test_refusals_name_the_status(self, serve: Serve) -> None:
        server = serve(Talk())
        with HTTPClient(server.address) as client:
            with pytest.raises(WebSocketRefused, match="404") as caught:
                client.websocket("/nothing?token=1")
            assert isinstance(caught.value, ClientError)
            assert caught.value.status_code == 404
            assert "content-length" in caught.value.headers
            assert caught.value.method == "GET"
            assert caught.value.url.endswith("/nothing?token=***")
            assert readers() == []


def _shared(message: str) -> Any:
    from resource_server.websockets import Outgoing

    return Outgoing(message)


class TestHandshake:
    @pytest.mark.parametrize(
        ("script", "error", "text"),
        [
            (lambda p: p.send(answer(p.read_request()[0], key="x")), ProtocolError, "Accept"),
            (lambda p: (p.read_request(), p.send(b"\x00garbage\r\n\r\n")), ProtocolError, "HTTP"),
            (lambda p: p.read_request(), ConnectError, "without an answer"),
            (misbehaving.reset_after_request, ConnectError, "lost"),
            (
                lambda p: (p.read_request(), p.send(b"HTTP/1.1 101 Sw")),
                ProtocolError,
                "in the answer's head",
            ),
            (
                lambda p: p.send(answer(p.read_request()[0], "Sec-WebSocket-Extensions: x")),
                ProtocolError,
                "extension",
            ),
            (
                lambda p: p.send(answer(p.read_request()[0], "Sec-WebSocket-Protocol: x")),
                ProtocolError,
                "Protocol",
            ),
            (
                lambda p: (p.read_request(), p.send(b"HTTP/1.1 102 P\r\n\r\n" * 50)),
                ProtocolError,
                "interim",
            ),
            (
                lambda p: (p.read_request(), p.send(b"HTTP/1.1 200 OK\r\n\r\nno")),
                WebSocketRefused,
                "200 OK",
            ),
            (
                lambda p: (p.read_request(), p.send(b"HTTP/1.1 503\r\n\r\n")),
                WebSocketRefused,
                "503",
            ),
        ],
    )
    def test_what_is_no_handshake(self, script: Any, error: type[ClientError], text: str) -> None:
        with Misbehaving(script) as server, HTTPClient(server.address, timeout=LONG) as client:
            with pytest.raises(error, match=text) as caught:
                client.websocket("/ws")
            assert caught.value.url == f"{server.url}/ws"
            assert readers() == []

    @pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 101 Switching"])
    @pytest.mark.parametrize("timeout", [Timeout(read=0.1), Timeout(read=None, total=0.1)])
    def test_a_server_that_hangs(self, begun: bytes, timeout: Timeout) -> None:
        def script(peer: Peer) -> None:
            peer.read_request()
            peer.send(begun)
            peer.hang()

        with Misbehaving(script) as server, HTTPClient(server.address) as client:
            with pytest.raises(TimeoutError, match="handshake"):
                client.websocket("/ws", timeout=timeout)
            assert server.wait_gone()

    def test_a_server_that_drips(self) -> None:
        def script(peer: Peer) -> None:
            peer.drip(b"HTTP/1.1 " + b"1" * 5000, 0.02)

        with (
            Misbehaving(script) as server,
            HTTPClient(server.address, timeout=Timeout(read=0.2)) as client,
            pytest.raises(TimeoutError),
        ):
            client.websocket("/ws")

    def test_interim_answers_are_passed_over(self) -> None:
        def script(peer: Peer) -> None:
            head, _ = peer.read_request()
            peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer(head) + plain(TEXT, b"x"))
            peer.hang()

        with Misbehaving(script) as server, opened(server) as session:
            assert session.receive(PATIENCE) == "x"
            session.connection.stop()

    def test_fields_and_timeouts_are_checked(self) -> None:
        with HTTPClient(free_address()) as client:
            options: dict[str, Any]
            for options in (
                {"max_message_size": 0},
                {"ping_interval": 0},
                {"ping_timeout": float("nan")},
            ):
                with pytest.raises(ValueError, match=next(iter(options))):
                    client.websocket("/ws", **options)
            for options in ({"reconnect": 5}, {"ping_interval": "x"}, {"ping_timeout": True}):
                with pytest.raises(TypeError, match=next(iter(options))):
                    client.websocket("/ws", **options)
        with pytest.raises(ValueError, match="tries"):
            Reconnect(tries=0)
        with pytest.raises(ValueError, match="most"):
            Reconnect(most=-1)
