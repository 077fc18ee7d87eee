"""Groups: one call reaches all members, each in its own way, and none waits for another."""

from __future__ import annotations

import gc
import queue
import random
import threading
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import (
    HTTPServer,
    Limits,
    Resource,
    WebSocketGroup,
    WebSocketOpCode,
    WebSocketRequest,
    WebSocketSession,
    websocket,
    websocket_session,
)
from tests.rawclient import PATIENCE
from tests.wsclient import BINARY, CLOSE, COMPRESSED, TEXT, WSClient, eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Serve

Open, Text, Close = WebSocketOpCode.Open, WebSocketOpCode.Text, WebSocketOpCode.Close
ROOM = 200_000
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"
#: One for each way to compress, and one for not.
SETTINGS = [
    (),
    (DEFLATE,),
    (DEFLATE + "; client_max_window_bits",),
    (DEFLATE + "; server_no_context_takeover",),
    (DEFLATE + "; server_max_window_bits=9",),
    (DEFLATE + "; server_max_window_bits=8; server_no_context_takeover",),
    (DEFLATE + "; server_max_window_bits=10; client_no_context_takeover",),
]


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.group = WebSocketGroup()
        self.members: queue.SimpleQueue[WebSocketRequest | WebSocketSession] = queue.SimpleQueue()
        self.closed: queue.SimpleQueue[str] = queue.SimpleQueue()

    @websocket("/", ping_interval=None)
    @websocket("/drop", overflow="drop", max_buffered=ROOM, ping_interval=None)
    @websocket("/block", max_buffered=ROOM, ping_interval=None)
    @websocket("/close", overflow="close", max_buffered=ROOM, ping_interval=None)
    def handle(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        if opcode is Open:
            self.join(request)
        elif opcode is Close:
            assert request not in self.group
            self.closed.put(request.uid)
        elif payload == "to all":
            self.group.send("from one")
        else:
            request.send(payload)

    @websocket_session("/session", ping_interval=None)
    def converse(self, socket: WebSocketSession) -> None:
        self.join(socket)
        for message in socket:
            socket.send(message)
        assert socket not in self.group
        self.closed.put(socket.uid)

    def join(self, member: WebSocketRequest | WebSocketSession) -> None:
        self.group.add(member)
        self.members.put(member)

    def member(self) -> WebSocketRequest | WebSocketSession:
        return self.members.get(timeout=PATIENCE)


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app, limits=Limits(write=10 * PATIENCE))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def crowd(
    stack: ExitStack, server: HTTPServer, app: App, size: int, path: str = "/"
) -> list[WSClient]:
    """Clients with different settings, all of which have joined."""
    clients = [
        stack.enter_context(WSClient(server.address, path, *SETTINGS[number % len(SETTINGS)]))
        for number in range(size)
    ]
    for _ in clients:
        app.member()
    return clients


@pytest.mark.usefixtures("quiet")
class TestSending:
    @pytest.mark.parametrize("path", ["/", "/session", "/drop"])
    @pytest.mark.parametrize(
        "message", ["hello", "", "grüße 😀 " * 500, b"\x00\xff", bytes(70_000)], ids=len
    )
    def test_all_get_it(
        self, server: HTTPServer, app: App, stack: ExitStack, path: str, message: Any
    ) -> None:
        clients = crowd(stack, server, app, 21, path)
        assert len(app.group) == 21
        expected = (TEXT, message.encode()) if isinstance(message, str) else (BINARY, message)
        for _ in range(3):
            assert app.group.send(message) == 21
        for client in clients:
            for _ in range(3):
                assert client.read_message() == expected

    def test_between_messages_of_their_own(
        self, server: HTTPServer, app: App, stack: ExitStack
    ) -> None:
        """What is compressed once for all goes well with the context that each has."""
        clients = crowd(stack, server, app, 14)
        for turn in range(10):
            own = f"own {turn} " * 100
            for client in clients:
                client.send_text(own)
                assert client.read_message(strictly=True) == (TEXT, own.encode())
            assert app.group.send(f"shared {turn} " * 100) == 14
            assert app.group.send(b"shared, too" * turn) == 14
            for client in clients:
                shared = f"shared {turn} " * 100
                assert client.read_message(strictly=True) == (TEXT, shared.encode())
                assert client.read_message(strictly=True) == (BINARY, b"shared, too" * turn)

    def test_large_messages_are_compressed_for_those_who_agreed(
        self, server: HTTPServer, app: App, stack: ExitStack
    ) -> None:
        clients = crowd(stack, server, app, 7)
        app.group.send("x" * 100_000)
        for client in clients:
            received = client.read_frame()
            assert (received.rsv == COMPRESSED) is (client.deflate is not None)
            assert (len(received.payload) < 2000) is (client.deflate is not None)

    def test_from_a_handler(self, server: HTTPServer, app: App, stack: ExitStack) -> None:
        clients = crowd(stack, server, app, 5)
        clients[2].send_text("to all")
        for client in clients:
            assert client.read_text() == "from one"

    @pytest.mark.parametrize("message", [None, 7, ["a"], "\ud800"])
    def test_what_is_no_message_reaches_nobody(
        self, server: HTTPServer, app: App, stack: ExitStack, message: Any
    ) -> None:
        client = crowd(stack, server, app, 1)[0]
        with pytest.raises((TypeError, ValueError)):
            app.group.send(message)
        assert client.echo("hello") == "hello"
        assert WebSocketGroup().send("to nobody") == 0


@pytest.mark.usefixtures("quiet")
class TestMembership:
    def test_members(self, server: HTTPServer, app: App, stack: ExitStack) -> None:
        other = WebSocketGroup()
        clients = [stack.enter_context(WSClient(server.address)) for _ in range(3)]
        members = [app.member() for _ in clients]
        assert sorted(member.uid for member in app.group) == sorted(m.uid for m in members)
        for member in members:
            assert member in app.group
            app.group.add(member)
        assert len(app.group) == 3
        other.add(members[0])
        other.send("one of them")
        app.group.discard(members[0])
        app.group.discard(members[0])
        assert members[0] not in app.group
        assert app.group.send("the others") == 2
        # Those of another test's kind are no members.
        assert "text" not in app.group
        with pytest.raises(TypeError):
            app.group.add("text")  # type: ignore[arg-type]
        texts = [client.read_text() for client in clients]
        assert sorted(texts) == ["one of them", "the others", "the others"]

    @pytest.mark.parametrize("path", ["/", "/session"])
    @pytest.mark.parametrize("end", ["leave", "vanish", "reset", "close", "break"])
    def test_who_closes_leaves(
        self, server: HTTPServer, app: App, stack: ExitStack, path: str, end: str
    ) -> None:
        clients = [stack.enter_context(WSClient(server.address, path)) for _ in range(3)]
        members = [app.member() for _ in clients]
        second = WebSocketGroup()
        for member in members:
            second.add(member)
        if end == "close":
            members[0].close(4000)
            # Not a moment later.
            assert members[0] not in app.group
            leaver = next(client for client in clients if _is_readable(client))
            leaver.is_left()
            clients.remove(leaver)
        elif end == "break":
            clients[0].send(b"\xff")
            clients[0].read_close()
            del clients[0]
        else:
            getattr(WSClient, end)(clients.pop(0))
        app.closed.get(timeout=PATIENCE)
        eventually(lambda: len(app.group) == len(second) == 2)
        assert app.group.send("to who is left") == 2
        for client in clients:
            assert client.read_text() == "to who is left"

    def test_one_that_is_closed_does_not_join(self, server: HTTPServer, app: App) -> None:
        with WSClient(server.address) as client:
            member = app.member()
            client.leave()
            app.closed.get(timeout=PATIENCE)
            app.group.add(member)
            assert member not in app.group
            assert len(app.group) == 0

    def test_close_closes_all(self, server: HTTPServer, app: App, stack: ExitStack) -> None:
        clients = crowd(stack, server, app, 7)
        with pytest.raises(ValueError, match=r"\w"):
            app.group.close(1005)
        app.group.close(4000, "the room is closed")
        assert len(app.group) == 0
        for client in clients:
            assert client.is_left() == (4000, "the room is closed")
        for _ in clients:
            app.closed.get(timeout=PATIENCE)

    def test_nobody_is_kept_alive(self, server: HTTPServer, app: App) -> None:
        class Mark:
            pass

        references = []
        for path in ("/", "/session"):
            with WSClient(server.address, path) as client:
                member = app.member()
                mark = Mark()
                request = member if isinstance(member, WebSocketRequest) else member.request
                request.state.mark = mark
                references.append(weakref.ref(mark))
                list(app.group)
                client.leave()
                app.closed.get(timeout=PATIENCE)
                del member, mark, request
        for reference in references:

            def gone(reference: weakref.ref[Mark] = reference) -> bool:
                gc.collect()
                return reference() is None

            eventually(gone)
        # Nor is the group by its members.
        with WSClient(server.address):
            member = app.member()
            group = WebSocketGroup()
            group.add(member)
            known = weakref.ref(group)
            del group
            gc.collect()
            assert known() is None


def _is_readable(client: WSClient) -> bool:
    import select

    return bool(select.select([client.sock], [], [], 0.5)[0])


@pytest.mark.usefixtures("quiet")
class TestSlowMembers:
    @pytest.mark.parametrize("fields", [(), (DEFLATE,)], ids=["plain", "deflate"])
    def test_they_hold_up_nobody(
        self, server: HTTPServer, app: App, stack: ExitStack, fields: tuple[str, ...]
    ) -> None:
        """One that does not read is closed, or loses messages, as its route has it."""
        quick = stack.enter_context(WSClient(server.address))
        app.member()
        slow = {
            path: stack.enter_context(WSClient(server.address, path, *fields, receive_buffer=4096))
            for path in ("/drop", "/block", "/close")
        }
        members = {}
        for _ in slow:
            member = app.member()
            assert isinstance(member, WebSocketRequest)
            members[member.path] = member
        noise = random.Random(1).randbytes(9996)
        for number in range(2000):
            app.group.send(number.to_bytes(4, "big") + noise)
            assert quick.read_binary()[:4] == number.to_bytes(4, "big")
            for member in members.values():
                assert member.buffered <= ROOM + 1000
        assert members["/drop"] in app.group
        assert members["/block"] not in app.group
        assert members["/close"] not in app.group
        for path in ("/block", "/close"):
            while (received := slow[path].read_frame()).opcode != CLOSE:
                pass
            assert received.payload[:2] == b"\x03\xf5"
        app.group.send("the last")
        number = -1
        opcode, payload = slow["/drop"].read_message()
        while opcode == BINARY:
            assert int.from_bytes(payload[:4], "big") > number
            number = int.from_bytes(payload[:4], "big")
            opcode, payload = slow["/drop"].read_message()
        assert number == 1999
        assert payload == b"the last"

    def test_one_that_vanishes_meanwhile(
        self, server: HTTPServer, app: App, stack: ExitStack
    ) -> None:
        clients = crowd(stack, server, app, 20)
        for number, client in enumerate(clients):
            if number % 2:
                client.reset()
        for number in range(100):
            app.group.send(f"{number} " * 100)
        eventually(lambda: len(app.group) == 10)
        for number in range(100):
            for client in clients[::2]:
                assert client.read_text() == f"{number} " * 100


@pytest.mark.usefixtures("quiet")
class TestThreads:
    def test_all_at_once(self, server: HTTPServer, app: App, stack: ExitStack) -> None:
        """Threads send, members come and go, and each that stays gets everything, in order."""
        clients = crowd(stack, server, app, 7)
        halt = threading.Event()

        def come_and_go() -> None:
            turn = 0
            while not halt.is_set():
                turn += 1
                with WSClient(server.address, "/", *SETTINGS[turn % len(SETTINGS)]) as client:
                    if turn % 3:
                        client.echo_among_others("hello")
                    if turn % 2:
                        client.send_close()

        def send(name: int) -> None:
            for turn in range(60):
                app.group.send(f"{name} {turn} " * 80)

        visitors = [threading.Thread(target=come_and_go) for _ in range(3)]
        senders = [threading.Thread(target=send, args=(name,)) for name in range(4)]
        for thread in visitors + senders:
            thread.start()
        for client in clients:
            turns = dict.fromkeys(range(4), 0)
            for _ in range(240):
                name, turn = client.read_text().split(" ", 2)[:2]
                assert turns[int(name)] == int(turn)
                turns[int(name)] += 1
        halt.set()
        for thread in visitors + senders:
            thread.join()
        eventually(lambda: len(app.group) == 7)
