"""TestClient: both styles of WebSocket handlers, driven without a socket."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import (
    Forbidden,
    HandshakeError,
    NotFound,
    Request,
    Resource,
    Response,
    Router,
    WebSocketClosed,
    WebSocketGroup,
    WebSocketOpCode,
    WebSocketRequest,
    WebSocketSession,
    get,
    websocket,
    websocket_session,
)
from resource_server.testing import TestClient, TestWebSocket, ThreadsLeft, WebSocketRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

Open, Text, Binary = WebSocketOpCode.Open, WebSocketOpCode.Text, WebSocketOpCode.Binary
Close, Ping, Pong = WebSocketOpCode.Close, WebSocketOpCode.Ping, WebSocketOpCode.Pong


class Chat(Resource):
    def __init__(self) -> None:
        self.group = WebSocketGroup()
        self.events: list[tuple[Any, ...]] = []
        self.sockets: list[WebSocketRequest] = []

    @websocket("/chat", subprotocols=["v2", "v1"], max_message_size=100)
    def chat(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: Any) -> None:
        self.events.append((opcode, payload))
        if opcode == Open:
            self.sockets.append(request)
            self.group.add(request)
            request.send("welcome")
        elif opcode == Close:
            self.events.append((request.close_code, request.close_reason))
        elif payload == "bye":
            request.close(4001, "you said so")
            with pytest.raises(WebSocketClosed):
                request.send("too late")
        elif payload == "fail":
            raise LookupError("in the handler")
        elif payload == "ping":
            request.ping(b"are you there")
        else:
            self.group.send(payload)

    @websocket("/pings", pings=True)
    def pings(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: Any) -> None:
        self.events.append((opcode, payload))
        if opcode == Text:
            request.ping(payload.encode())

    @websocket("/refuses")
    def refuses(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: Any) -> Any:
        self.events.append((opcode, payload))
        if opcode == Open:
            request.send("never read")
            return NotFound("no such room")
        return None

    @websocket("/breaks")
    def breaks(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: Any) -> None:
        raise LookupError(opcode.name)

    @websocket("/farewell")
    def farewell(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: Any) -> None:
        if opcode == Close:
            raise LookupError("at the end")

    @get("/page")
    def page(self, request: Request) -> str:
        return "a page"

    @get("/bytes")
    def bytes(self, request: Request) -> bytes:
        return b"\0\0"


@pytest.fixture
def chat() -> Chat:
    return Chat()


@pytest.fixture
def client(chat: Chat) -> TestClient:
    return TestClient(chat)


def test_each_message_has_been_dealt_with_when_it_is_sent(chat: Chat, client: TestClient) -> None:
    with client.websocket("/chat") as socket:
        assert chat.events == [(Open, "")]
        socket.send("hello")
        socket.send(b"bytes")
        assert chat.events[1:] == [(Text, "hello"), (Binary, b"bytes")]
        assert [socket.receive() for _ in range(3)] == ["welcome", "hello", b"bytes"]
        assert socket.close_code is None
        assert socket.response.status_code == 101
        assert repr(socket) == "<TestWebSocket http://localhost/chat>"
    assert socket.closed
    assert chat.events[3:] == [(Close, ""), (1000, "")]
    assert len(chat.group) == 0


def test_many_clients_share_what_the_handlers_share(client: TestClient) -> None:
    with client.websocket("/chat") as one, client.websocket("/chat") as two:
        assert (one.receive(), two.receive()) == ("welcome", "welcome")
        one.send("to all")
        assert (one.receive(), two.receive()) == ("to all", "to all")
        two.close()
        one.send("to the rest")
        assert one.receive() == "to the rest"


def test_subprotocols_and_headers_are_those_of_the_opening(client: TestClient, chat: Chat) -> None:
    headers = {"Origin": "http://localhost"}
    with client.websocket(
        "/chat?a=1", subprotocols=["v1", "v2"], headers=headers, params={"b": 2}, cookies={"c": "3"}
    ) as socket:
        assert socket.subprotocol == "v2"
        request = chat.sockets[0]
        assert request.params == {"a": ["1"], "b": ["2"]}
        assert request.cookies == {"c": "3"}
        assert request.subprotocol == "v2"
        assert request.buffered == 0
    with client.websocket("/chat", subprotocols=["v0"]) as socket:
        assert socket.subprotocol is None


def test_the_application_may_close(chat: Chat, client: TestClient) -> None:
    with client.websocket("/chat") as socket:
        socket.send("bye")
        assert list(socket) == ["welcome"]
        assert (socket.close_code, socket.close_reason) == (4001, "you said so")
        with pytest.raises(WebSocketClosed) as told:
            socket.send("more")
        assert told.value.code == 4001
        with pytest.raises(WebSocketClosed):
            socket.receive()
    assert chat.events[-2:] == [(Close, ""), (4001, "")]
    request = chat.sockets[0]
    assert request.closed
    with pytest.raises(WebSocketClosed):
        request.ping()
    request.close()
    called = []
    request.connection.on_close(lambda: called.append(True))
    assert called


def test_the_application_may_close_from_any_thread(chat: Chat, client: TestClient) -> None:
    with client.websocket("/chat") as socket:
        assert socket.receive() == "welcome"
        thread = threading.Thread(target=chat.sockets[0].close, args=(None,))
        thread.start()
        with pytest.raises(WebSocketClosed) as told:
            socket.receive()
        thread.join()
        assert told.value.code == 1005
        assert chat.events[-2:] == [(Close, ""), (1005, "")]


def test_a_message_may_come_from_any_thread(chat: Chat, client: TestClient) -> None:
    with client.websocket("/chat") as socket:
        assert socket.receive() == "welcome"
        thread = threading.Thread(target=chat.group.send, args=("from afar",))
        thread.start()
        assert socket.receive() == "from afar"
        thread.join()
        with pytest.raises(TimeoutError, match=r"within 0\.01 seconds"):
            socket.receive(0.01)


def test_the_client_may_close_with_a_code_of_its_own(chat: Chat, client: TestClient) -> None:
    with client.websocket("/chat") as socket:
        with pytest.raises(ValueError, match="not a code"):
            socket.close(1006)
        socket.close(4000, "enough")
        assert socket.close_code == 4000
        assert chat.events[-1] == (4000, "enough")
        socket.close()


def test_the_client_may_vanish(chat: Chat, client: TestClient) -> None:
    with client.websocket("/chat") as socket:
        socket.drop()
        assert chat.events[-2:] == [(Close, ""), (1006, "the connection was lost")]
        assert socket.close_code == 1006
        with pytest.raises(WebSocketClosed):
            chat.sockets[0].send("gone")
        assert chat.group.send("gone") == 0


def test_pings_are_answered_on_both_sides(chat: Chat, client: TestClient) -> None:
    with client.websocket("/chat") as socket:
        socket.ping(b"1")
        assert socket.pongs == [b"1"]
        socket.send("ping")
        assert socket.pings == [b"are you there"]
        with pytest.raises(ValueError, match="at most 125"):
            socket.ping(b"x" * 126)
        with pytest.raises(ValueError, match="at most 125"):
            chat.sockets[0].ping(b"x" * 126)
        assert chat.events == [(Open, ""), (Text, "ping")]
    with client.websocket("/pings") as socket:
        chat.events.clear()
        socket.ping(b"2")
        socket.send("3")
        assert chat.events == [(Ping, b"2"), (Text, "3"), (Pong, b"3")]


def test_a_message_that_is_too_long_closes(chat: Chat, client: TestClient) -> None:
    with client.websocket("/chat") as socket:
        socket.send("x" * 101)
        assert list(socket) == ["welcome"]
        assert socket.close_code == 1009
        assert chat.events[-2] == (Close, "")
    with client.websocket("/chat") as socket:
        with pytest.raises(ValueError, match="surrogate"):
            socket.send("\ud800")
        with pytest.raises(TypeError, match="a message is"):
            socket.send({"a": 1})  # type: ignore[arg-type]


def test_what_a_handler_raises_is_raised_by_send(chat: Chat, client: TestClient) -> None:
    with client.websocket("/chat") as socket:
        with pytest.raises(LookupError, match="in the handler"):
            socket.send("fail")
        assert socket.close_code == 1011
    assert chat.events[-2] == (Close, "")
    quiet = TestClient(chat, raise_errors=False)
    with quiet.websocket("/chat") as socket:
        socket.send("fail")
        assert list(socket) == ["welcome"]
        assert socket.close_code == 1011


def test_what_a_handler_raises_at_the_end_is_raised_at_the_end(client: TestClient) -> None:
    with pytest.raises(LookupError, match="at the end"), client.websocket("/farewell"):
        pass


def test_what_the_test_raises_comes_first(client: TestClient) -> None:
    with pytest.raises(ZeroDivisionError), client.websocket("/farewell"):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/page", 200, "200 OK: a page"),
        ("/bytes", 200, "200 OK: 2 bytes"),
        ("/nothing", 404, "404 Not Found"),
        ("/refuses", 404, "no such room"),
    ],
)
def test_another_answer_is_a_refusal(client: TestClient, path: str, status: int, told: str) -> None:
    with pytest.raises(WebSocketRefused, match=told) as refused, client.websocket(path):
        raise AssertionError("it was not opened")
    assert refused.value.response.status_code == status
    assert isinstance(refused.value, HandshakeError)


def test_a_handler_that_refuses_is_told_of_the_end(chat: Chat, client: TestClient) -> None:
    with pytest.raises(WebSocketRefused), client.websocket("/refuses"):
        pass
    assert chat.events == [(Open, ""), (Close, "")]


def test_pages_of_others_are_refused(client: TestClient) -> None:
    with (
        pytest.raises(WebSocketRefused, match="403"),
        client.websocket("/chat", headers={"Origin": "https://evil.example"}),
    ):
        pass


def test_a_handler_that_fails_at_the_opening_is_raised(chat: Chat, client: TestClient) -> None:
    with pytest.raises(LookupError, match="Open"), client.websocket("/breaks"):
        pass
    quiet = TestClient(chat, raise_errors=False)
    with pytest.raises(WebSocketRefused, match="500"), quiet.websocket("/breaks"):
        pass


def test_a_middleware_may_put_another_response_in_its_place() -> None:
    chat = Chat()

    def closes(handler: Any) -> Any:
        def inner(request: Request) -> Response:
            handler(request)
            return Response("closed today", 503)

        return inner

    router = Router(middlewares=[closes])
    router.register_routes(chat)
    with (
        pytest.raises(WebSocketRefused, match="closed today"),
        TestClient(router).websocket("/chat"),
    ):
        pass
    assert chat.events[-1] == (1006, "the WebSocket was not opened")


def test_a_response_that_changes_the_protocol_by_itself_is_none(client: TestClient) -> None:
    switching = TestClient([("GET", "/", lambda _: Response(None, 101))])
    with pytest.raises(ValueError, match="101 is no status"), switching.websocket("/"):
        pass


def test_an_opening_that_is_spoiled_is_refused() -> None:
    def spoils(handler: Any) -> Any:
        def inner(request: Request) -> Any:
            response = handler(request)
            if request.query_string:
                response.headers["Sec-WebSocket-Accept"] = "nonsense"
            return response

        return inner

    router = Router(middlewares=[spoils])
    router.register_routes(Talk)
    client = TestClient(router)
    with pytest.raises(HandshakeError, match="Accept"), client.websocket("/one?spoilt"):
        pass
    # There is room for one session only.
    with client.websocket("/one") as socket:
        socket.send("there is room")
        assert socket.receive() == "there is room"


def test_a_failing_callback_at_the_end_is_raised(chat: Chat, client: TestClient) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), client.websocket("/chat"):
        chat.sockets[0].connection.on_close(fail)


class Talk(Resource):
    def __init__(self) -> None:
        self.codes: list[Any] = []
        self.waiting = threading.Event()
        self.go_on = threading.Event()
        self.threads: list[threading.Thread] = []

    @websocket_session("/echo", max_message_size=100)
    def echo(self, socket: WebSocketSession) -> None:
        self.threads.append(threading.current_thread())
        for message in socket:
            socket.send(message)
        self.codes.append((socket.close_code, socket.close_reason))

    @websocket_session("/one", max_sessions=1)
    def one(self, socket: WebSocketSession) -> None:
        socket.send(socket.receive())

    @websocket_session("/fails")
    def fails(self, socket: WebSocketSession) -> None:
        socket.send("first")
        raise LookupError("in the session")

    @websocket_session("/waits")
    def waits(self, socket: WebSocketSession) -> None:
        with pytest.raises(TimeoutError):
            socket.receive(0)
        self.waiting.set()
        socket.send(socket.receive())
        self.go_on.wait(30)
        socket.send("the last word")

    @websocket_session("/stuck")
    def stuck(self, socket: WebSocketSession) -> None:
        self.go_on.wait(30)

    @websocket_session("/tells")
    def tells(self, socket: WebSocketSession) -> None:
        while not socket.closed:
            socket.send("tick")
            self.go_on.wait(0.001)

    @websocket_session("/refused", check=lambda _: Forbidden("not you"))
    def refused(self, socket: WebSocketSession) -> None:
        raise AssertionError("it was not opened")


@pytest.fixture
def talk() -> Iterator[Talk]:
    talk = Talk()
    yield talk
    talk.go_on.set()
    for thread in talk.threads:
        thread.join()


def test_a_session_talks_in_a_thread_that_ends_with_the_block(talk: Talk) -> None:
    with TestClient(talk).websocket("/echo") as socket:
        socket.send("a")
        socket.send(b"b")
        assert (socket.receive(), socket.receive()) == ("a", b"b")
        (thread,) = talk.threads
        assert thread.name.startswith("resource_server")
        assert thread.is_alive()
        socket.close(4002, "done")
        assert not thread.is_alive()
    assert talk.codes == [(4002, "done")]
    assert socket.close_code == 4002


def test_a_session_that_ends_closes(talk: Talk) -> None:
    client = TestClient(talk)
    with client.websocket("/one") as socket:
        with (
            pytest.raises(WebSocketRefused, match="503"),
            client.websocket("/one"),
        ):
            pass
        socket.send("only")
        assert list(socket) == ["only"]
        assert socket.close_code == 1000
    with client.websocket("/one") as socket:
        pass


def test_what_a_session_raises_is_raised_where_the_test_waits(talk: Talk) -> None:
    client = TestClient(talk)
    with client.websocket("/fails") as socket:
        assert socket.receive() == "first"
        with pytest.raises(LookupError, match="in the session"):
            socket.receive()
        assert socket.close_code == 1011
    with pytest.raises(LookupError), client.websocket("/fails") as socket:
        assert socket.receive() == "first"
    with client.websocket("/fails") as socket:
        with pytest.raises(LookupError):
            list(socket)
        with pytest.raises(WebSocketClosed) as told:
            socket.send("more")
        assert told.value.code == 1011
    with TestClient(talk, raise_errors=False).websocket("/fails") as socket:
        assert list(socket) == ["first"]
        assert socket.close_code == 1011


def test_the_last_word_of_a_session_goes_out_before_it_is_closed(talk: Talk) -> None:
    with TestClient(talk).websocket("/waits") as socket:
        assert talk.waiting.wait(30)
        socket.send("a")
        assert socket.receive() == "a"
        talk.go_on.set()
        socket.close()
    assert socket.close_code == 1000


def test_a_session_that_only_talks_notices_the_end(talk: Talk) -> None:
    with TestClient(talk).websocket("/tells") as socket:
        assert socket.receive() == "tick"
    assert socket.close_code == 1000


def test_a_session_notices_that_the_client_has_vanished(talk: Talk) -> None:
    with TestClient(talk).websocket("/echo") as socket:
        socket.drop()
    assert talk.codes == [(1006, "the connection was lost")]


def test_a_message_that_is_too_long_ends_a_session(talk: Talk) -> None:
    with TestClient(talk).websocket("/echo") as socket:
        socket.send("x" * 101)
        assert list(socket) == []
        assert socket.close_code == 1009
    assert talk.codes[0][0] == 1009


def test_a_session_that_does_not_end_is_told_with_its_place(talk: Talk) -> None:
    client = TestClient(talk)
    with (
        pytest.raises(ThreadsLeft, match=r"in 0\.01 seconds(.|\n)*self\.go_on\.wait"),
        client.websocket("/stuck", timeout=0.01),
    ):
        pass
    with pytest.raises(ZeroDivisionError) as raised, client.websocket("/stuck", timeout=0.01):
        raise ZeroDivisionError
    assert "has not ended" in raised.value.__notes__[0]
    talk.go_on.set()


def test_a_session_may_be_refused(talk: Talk) -> None:
    with (
        pytest.raises(WebSocketRefused, match="not you"),
        TestClient(talk).websocket("/refused"),
    ):
        pass


def test_pytest_takes_none_of_it_for_tests() -> None:
    assert not TestClient.__test__
    assert not TestWebSocket.__test__
