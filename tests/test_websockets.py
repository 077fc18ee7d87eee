"""What applications hold of WebSockets: messages, requests, sessions and groups."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from resource_server.errors import WebSocketClosed
from resource_server.headers import Headers
from resource_server.request import Request
from resource_server.websockets import (
    Outgoing,
    WebSocketGroup,
    WebSocketOpCode,
    WebSocketRequest,
    WebSocketSession,
)
from tests.wsfake import FakeConnection, FakeExchange

if TYPE_CHECKING:
    from typing import TypeAlias

    Pair: TypeAlias = tuple[WebSocketRequest | WebSocketSession, FakeConnection]


def opening(target: str = "/ws?a=1") -> Request:
    fields = b"\r\nHost: h:8000\r\nCookie: c=1\r\nX-Twice: a\r\nx-twice: b"
    return Request.received(("192.0.2.1", 5000), "GET", target, fields, 11, "h:8000")


def request(connection: FakeConnection | None = None) -> tuple[WebSocketRequest, FakeConnection]:
    connection = connection or FakeConnection()
    return WebSocketRequest.of(opening(), connection), connection


def session() -> tuple[WebSocketSession, FakeConnection]:
    connection = FakeConnection()
    return WebSocketSession(opening(), connection), connection


class TestOutgoing:
    def test_text_is_utf_8_and_anything_else_binary(self) -> None:
        text = Outgoing("a\u20ac\U0001f600")
        assert (text.opcode, text.payload) == (WebSocketOpCode.Text, "a\u20ac\U0001f600".encode())
        for binary in (b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\xff\x00")[::-1]):
            message = Outgoing(binary)
            assert (message.opcode, message.payload) == (WebSocketOpCode.Binary, b"\x00\xff")
            assert type(message.payload) is bytes
        assert text.encoded == {}

    @pytest.mark.parametrize("wrong", [None, 5, ["a"], {"a": 1}])
    def test_nothing_else_is_a_message(self, wrong: Any) -> None:
        with pytest.raises(TypeError, match=rf"not {type(wrong).__name__}: .*json\.dumps"):
            Outgoing(wrong)

    def test_half_a_character_cannot_be_sent(self) -> None:
        with pytest.raises(ValueError, match=r"surrogate pair at index 2.*\.encode"):
            Outgoing("ab\ud83d")


class TestRequest:
    def test_it_is_the_request_that_opened_it(self) -> None:
        plain = opening()
        plain.matches = {"room": 7}
        plain.state.user = "ada"
        plain.scheme = "https"
        socket = WebSocketRequest.of(plain, FakeConnection())
        assert isinstance(socket, Request)
        assert socket.matches == {"room": 7}
        assert socket.state is plain.state
        assert (socket.scheme, socket.host, socket.remote) == ("https", "h:8000", "192.0.2.1")
        assert (socket.path, socket.query, socket.cookies) == ("/ws", {"a": "1"}, {"c": "1"})
        assert socket.headers == plain.headers
        assert socket.headers.get_all("x-twice") == ["a", "b"]
        assert socket.trailers == Headers()
        with pytest.raises(AttributeError, match="'nonsense'"):
            _ = socket.nonsense  # type: ignore[attr-defined]

    def test_fields_that_a_middleware_has_changed_stay_changed(self) -> None:
        plain = opening()
        assert plain.headers["cookie"] == "c=1"
        plain.headers["X-User"] = "ada"
        socket = WebSocketRequest.of(plain, FakeConnection())
        assert socket.headers["X-User"] == "ada"

    def test_one_made_by_hand_works_too(self) -> None:
        plain = Request(("h", 1), "GET", "/ws#top", {"a": ["1", "2"]}, headers={"X-A": "b"})
        socket = WebSocketRequest.of(plain, FakeConnection())
        assert (socket.headers["x-a"], socket.fragment) == ("b", "top")
        assert socket.params == {"a": ["1", "2"]}

    def test_it_lets_go_of_the_exchange_which_is_over(self) -> None:
        plain = opening()
        plain.exchange = FakeExchange()
        connection = FakeConnection()
        socket = WebSocketRequest.of(plain, connection)
        assert socket.exchange is None
        assert socket.disconnected is False
        connection.end(1001)
        assert socket.disconnected is True

    def test_it_is_told_apart_in_logs(self) -> None:
        assert repr(request()[0]) == "<WebSocketRequest /ws?a=1 1>"
        assert repr(session()[0]) == "<WebSocketSession /ws?a=1 1>"


class TestSurface:
    """What requests and sessions have in common is what the connection does."""

    @pytest.fixture(params=[request, session])
    def pair(self, request: pytest.FixtureRequest) -> Any:
        return request.param()

    def test_facts(self, pair: Pair) -> None:
        socket, connection = pair
        connection.buffered = 12
        assert (socket.uid, socket.subprotocol, socket.buffered) == ("1", "chat", 12)
        assert (socket.closed, socket.close_code, socket.close_reason) == (False, None, "")
        connection.end(3001, "bye")
        assert (socket.closed, socket.close_code, socket.close_reason) == (True, 3001, "bye")

    def test_deeds(self, pair: Pair) -> None:
        socket, connection = pair
        socket.send("a")
        socket.send(b"b")
        socket.ping()
        socket.ping(b"x")
        socket.close(3000, "why")
        socket.close()
        assert connection.log == [
            ("send", "a"),
            ("send", b"b"),
            ("ping", b""),
            ("ping", b"x"),
            ("close", 3000, "why"),
        ]
        with pytest.raises(WebSocketClosed, match="3000"):
            socket.send("late")

    def test_closing_says_1000(self, pair: Pair) -> None:
        socket, connection = pair
        socket.close()
        assert connection.log == [("close", 1000, "")]


class TestSession:
    def test_it_has_the_request(self) -> None:
        assert session()[0].request.path == "/ws"

    def test_receiving_waits_as_long_as_it_is_told(self) -> None:
        socket, connection = session()
        connection.received.extend(["a", b"b"])
        assert socket.receive() == "a"
        assert socket.receive(2.5) == b"b"
        with pytest.raises(TimeoutError):
            socket.receive(timeout=0)
        connection.end(1001, "away")
        with pytest.raises(WebSocketClosed, match=r"1001: away") as caught:
            socket.receive()
        assert (caught.value.code, caught.value.reason) == (1001, "away")
        timeouts = [each[1] for each in connection.log]
        assert timeouts == [None, 2.5, 0, None]

    @pytest.mark.parametrize("code", [1000, 1006, 1011, 3999])
    def test_iterating_ends_when_it_is_closed(self, code: int) -> None:
        socket, connection = session()
        connection.received.extend(["a", b"b"])
        connection.end(code)
        assert list(socket) == ["a", b"b"]
        assert list(socket) == []
        connection.received.append("c")
        assert next(socket) == "c"

    def test_a_block_closes_it(self) -> None:
        socket, connection = session()
        with socket as same:
            assert same is socket
            assert not socket.closed
        assert connection.log == [("close", 1000, "")]

    def test_an_exception_that_leaves_the_block_is_told_as_1011(self) -> None:
        socket, connection = session()
        with pytest.raises(KeyError), socket:
            raise KeyError
        assert connection.log == [("close", 1011, "")]

    def test_a_block_may_close_it_itself(self) -> None:
        socket, connection = session()
        with socket:
            socket.close(3000, "enough")
        assert connection.log == [("close", 3000, "enough")]


class TestGroup:
    def test_a_message_goes_to_all_and_is_made_once(self) -> None:
        group = WebSocketGroup()
        pairs: list[Pair] = [request(), request(), session()]
        for socket, _ in pairs:
            group.add(socket)
        assert group.send("hello") == 3
        (first,), *others = [connection.posted for _, connection in pairs]
        assert all(each is first for (each,) in others)
        assert (first.opcode, first.payload) == (WebSocketOpCode.Text, b"hello")

    def test_membership(self) -> None:
        group = WebSocketGroup()
        (a, _), (b, _) = request(), session()
        assert (len(group), list(group), group.send("x")) == (0, [], 0)
        group.add(a)
        group.add(b)
        group.add(a)
        assert (len(group), a in group, b in group, "a" in group) == (2, True, True, False)
        assert set(group) == {a, b}
        group.discard(a)
        group.discard(a)
        assert (list(group), a in group) == ([b], False)
        assert group.send(b"x") == 1

    @pytest.mark.parametrize("wrong", [None, "a", opening(), FakeConnection()])
    def test_it_takes_nothing_else(self, wrong: Any) -> None:
        with pytest.raises(TypeError, match=f"not {type(wrong).__name__}"):
            WebSocketGroup().add(wrong)

    def test_what_is_no_message_is_refused_even_if_nobody_is_there(self) -> None:
        with pytest.raises(TypeError, match="not dict"):
            WebSocketGroup().send({})  # type: ignore[arg-type]

    def test_members_leave_when_they_close(self) -> None:
        group, other = WebSocketGroup(), WebSocketGroup()
        (a, connection), (b, _) = request(), request()
        for each in (group, other):
            each.add(a)
            each.add(b)
        assert set(group) == {a, b}
        connection.end(1006)
        assert (list(group), list(other)) == ([b], [b])
        assert group.send("x") == 1

    def test_what_is_closed_does_not_join(self) -> None:
        group = WebSocketGroup()
        socket, connection = request()
        connection.end(1000)
        group.add(socket)
        assert len(group) == 0
        group.add(socket)
        assert len(group) == 0

    def test_closing_between_two_groups_leaves_both(self) -> None:
        """Whoever joins while the callbacks run is not forgotten."""
        group, late = WebSocketGroup(), WebSocketGroup()
        socket, connection = request()
        group.add(socket)
        connection.closed = True
        late.add(socket)
        assert len(late) == 0
        connection.end(1000)
        assert len(group) == 0

    def test_one_that_was_discarded_may_come_back(self) -> None:
        group = WebSocketGroup()
        socket, connection = request()
        group.add(socket)
        group.discard(socket)
        group.add(socket)
        assert list(group) == [socket]
        connection.end(1000)
        assert list(group) == []

    def test_moving_between_groups_leaves_nothing_behind(self) -> None:
        socket, connection = request()
        for _ in range(100):
            group = WebSocketGroup()
            group.add(socket)
            group.discard(socket)
            WebSocketGroup().add(socket)
        assert len(connection.at_close) == 1

    def test_members_that_could_not_be_sent_to_are_not_counted(self) -> None:
        group = WebSocketGroup()
        (a, connection), (b, _) = request(), request()
        group.add(a)
        group.add(b)
        connection.closed = True
        assert group.send("x") == 1

    def test_all_are_closed_with_one_code(self) -> None:
        group = WebSocketGroup()
        pairs: list[Pair] = [request(), session(), request()]
        for socket, _ in pairs:
            group.add(socket)
        group.close(1001, "bye")
        assert [connection.log for _, connection in pairs] == [[("close", 1001, "bye")]] * 3
        assert len(group) == 0
        another, connection = request()
        group.add(another)
        group.close()
        assert connection.log == [("close", 1000, "")]

    def test_it_may_change_while_it_is_iterated(self) -> None:
        group = WebSocketGroup()
        sockets = [request()[0] for _ in range(5)]
        for socket in sockets:
            group.add(socket)
        seen = []
        for member in group:
            seen.append(member)
            group.discard(member)
        assert seen == sockets
        assert len(group) == 0

    def test_nothing_is_locked_while_something_is_sent(self) -> None:
        """A connection that closes because it is full leaves within the call that sends to it."""
        group = WebSocketGroup()

        class Full(FakeConnection):
            def post(self, message: Outgoing) -> bool:
                self.close(1013)
                return False

        for connection in (Full(), FakeConnection(), Full()):
            group.add(request(connection)[0])
        assert group.send("x") == 1
        assert len(group) == 1

    def test_closed_members_and_dropped_groups_are_not_kept_alive(self) -> None:
        group = WebSocketGroup()
        socket, connection = request()
        group.add(socket)
        group.send("x")
        connection.end(1000)
        gone = weakref.ref(connection)
        del socket, connection
        gc.collect()
        assert gone() is None
        socket, connection = request()
        group.add(socket)
        dropped = weakref.ref(group)
        del group
        gc.collect()
        assert dropped() is None
        connection.end(1000)

    def test_many_threads_join_leave_close_and_send(self) -> None:
        group = WebSocketGroup()
        stay = request()[0]
        group.add(stay)
        failures: list[BaseException] = []

        def churn() -> None:
            try:
                for i in range(300):
                    socket, connection = request()
                    group.add(socket)
                    group.send("x")
                    if i % 3 == 0:
                        group.discard(socket)
                    connection.end(1000)
                    assert socket not in group
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=churn) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert list(group) == [stay]
