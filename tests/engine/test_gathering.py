"""A round is served in stages: all is read, all handlers run, all responses are sent."""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest

from resource_server import Response
from resource_server.engine import exchange, loop
from resource_server.engine.connection import Connection
from resource_server.engine.state import State
from tests.engine.bench import Bench, Stub, state_of
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

ASK = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture
def known(bench: Bench) -> Bench:
    """A bench whose handler is known to be quick."""
    bench.endpoints["/"].mean = 0.00001
    return bench


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have responses wait for others as long as it takes."""
    monkeypatch.setattr(loop, "GATHER", PATIENCE)
    monkeypatch.setattr(loop, "QUICK", PATIENCE)


@pytest.fixture
def pair(known: Bench) -> Iterator[tuple[Client, Client]]:
    with known.connect() as one, known.connect() as other:
        yield one, other


def has_answer(client: Client) -> bool:
    client.sock.setblocking(False)
    try:
        return bool(client.sock.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        client.sock.settimeout(PATIENCE)


def look(seen: list[bool], client: Client) -> str:
    seen.append(has_answer(client))
    return "seen"


def gather(bench: Bench, *clients: Client) -> None:
    """Serve requests of the clients up to their handlers' ends."""
    for client in clients:
        client.send(ASK)
    for _ in clients:
        bench.loop._wait()
        while bench.loop._ready:
            source, mask = bench.loop._ready.popleft()
            assert source.on_event(mask)


@pytest.mark.usefixtures("patient")
class TestSending:
    def test_responses_go_out_together_and_each_to_its_client(
        self, known: Bench, pair: tuple[Client, Client]
    ) -> None:
        gather(known, *pair)
        assert [has_answer(client) for client in pair] == [False, False]
        assert {state_of(each) for each in known.connections} == {State.WORKING}
        known.loop._send_gathered()
        assert [client.read().status for client in pair] == [200, 200]
        assert {state_of(each) for each in known.connections} == {State.READING}

    @pytest.mark.parametrize("mean", [0.0, 0.001])
    def test_before_a_handler_of_which_nothing_is_known_or_that_takes_longer(
        self,
        known: Bench,
        pair: tuple[Client, Client],
        mean: float,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        seen: list[bool] = []
        known.endpoints["/other"] = Stub(lambda _: look(seen, pair[0]), mean=mean)
        gather(known, pair[0])
        assert not has_answer(pair[0])
        monkeypatch.setattr(loop, "QUICK", 0.0005)
        pair[1].send(ASK.replace(b"/ ", b"/other "))
        known.turn()
        assert seen == [True]
        assert pair[1].read().status == 200

    def test_when_the_first_has_waited_long_enough(
        self, known: Bench, pair: tuple[Client, Client], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(loop, "GATHER", 0.0)
        gather(known, *pair)
        assert [has_answer(client) for client in pair].count(True) == 1
        known.loop._send_gathered()
        assert [client.read().status for client in pair] == [200, 200]

    def test_whoever_takes_the_lead_over_begins_with_it(
        self, known: Bench, pair: tuple[Client, Client]
    ) -> None:
        inside, go_on = threading.Event(), threading.Event()

        def hold(_: object) -> str:
            inside.set()
            assert go_on.wait(PATIENCE)
            return "held"

        known.endpoints["/held"] = Stub(hold, mean=0.00001)
        known.endpoints["/held"].blocking = False
        gather(known, pair[0])
        pair[1].send(ASK.replace(b"/ ", b"/held "))
        known.lead()
        assert inside.wait(PATIENCE)
        assert pair[0].read().status == 200
        go_on.set()
        assert pair[1].read().body == b"held"

    def test_large_ones_are_sent_at_once(self, known: Bench, pair: tuple[Client, Client]) -> None:
        known.endpoints["/"].answer = lambda _: b"x" * (exchange.GATHERED_SIZE + 1)
        gather(known, pair[0])
        assert len(pair[0].read().body) == exchange.GATHERED_SIZE + 1

    def test_pipelined_requests_have_their_turns(self, known: Bench) -> None:
        with known.connect() as client:
            client.send(ASK * 3)
            for _ in range(3):
                known.turn()
            assert [client.read().status for _ in range(3)] == [200] * 3

    def test_the_last_of_a_connection(self, known: Bench) -> None:
        known.endpoints["/"].answer = lambda _: Response("x", headers={"Connection": "close"})
        with known.connect() as client:
            gather(known, client)
            (connection,) = known.connections
            known.loop._send_gathered()
            assert state_of(connection) is State.CLOSING
            assert client.read().status == 200
            assert client.is_closed()


@pytest.mark.usefixtures("patient")
class TestTrouble:
    def test_a_client_that_has_left(self, known: Bench, pair: tuple[Client, Client]) -> None:
        gather(known, *pair)
        # So that its end is a reset.
        pair[0].sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        pair[0].sock.close()
        known.loop._send_gathered()
        assert pair[1].read().status == 200
        assert len(known.connections) == 1

    @pytest.mark.parametrize("taken", [0, 10])
    def test_a_client_that_takes_not_all_of_it(
        self, known: Bench, taken: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with known.connect() as client:
            gather(known, client)
            (connection,) = known.connections
            real = connection.sock

            class Full:
                def send(self, data: bytes) -> int:
                    if not taken:
                        raise BlockingIOError
                    return real.send(data[:taken])

                def fileno(self) -> int:
                    return real.fileno()

            connection.sock = Full()  # type: ignore[assignment]
            known.loop._send_gathered()
            connection.sock = real
            assert state_of(connection) is State.WRITING
            while state_of(connection) is not State.READING:
                known.turn()
            assert client.read().body == b"hello"

    def test_a_defect_costs_one_connection(
        self,
        known: Bench,
        pair: tuple[Client, Client],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        real = Connection.send_response
        failures = iter([RuntimeError("a defect")])

        def fail_once(self: Connection, data: bytes) -> None:
            for error in failures:
                raise error
            real(self, data)

        monkeypatch.setattr(Connection, "send_response", fail_once)
        gather(known, *pair)
        known.loop._send_gathered()
        assert len(known.connections) == 1
        assert sorted([client.is_closed() for client in pair]) == [False, True]
        assert "a defect of resource_server" in caplog.text


class TestReading:
    def test_a_defect_in_reading_costs_one_connection(
        self,
        known: Bench,
        pair: tuple[Client, Client],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        bad = known.connections[0]
        real = Connection.receive

        def fail(self: Connection) -> None:
            if self is bad:
                raise RuntimeError("a defect")
            real(self)

        monkeypatch.setattr(Connection, "receive", fail)
        for client in pair:
            client.send(ASK)
        known.lead()
        for client in pair:
            if client.sock.getsockname() == bad.client_address:
                assert client.is_closed()
            else:
                assert client.read().status == 200
        assert "a defect of resource_server" in caplog.text

    def test_all_is_read_before_the_first_handler_runs(
        self, known: Bench, pair: tuple[Client, Client]
    ) -> None:
        waiting: list[int] = []

        def look(_: object) -> str:
            waiting.append(len([each for each in known.connections if each._received]))
            return "x"

        known.endpoints["/"].answer = look
        for client in pair:
            client.send(ASK)
        known.loop._wait()
        if len(known.loop._ready) == 1:  # the system was slow to tell of the other
            known.loop._ready.extend(known.loop._selector.select(PATIENCE))
            for each in known.connections:
                if not each._received:
                    each.receive()
        for source, mask in {id(each): (each, mask) for each, mask in known.loop._ready}.values():
            assert source.on_event(mask)
        known.loop._ready.clear()
        known.loop._send_gathered()
        assert waiting == [1, 0]
        assert [client.read().status for client in pair] == [200, 200]

    def test_what_has_been_read_is_served_although_the_server_stops(self, known: Bench) -> None:
        with known.connect() as client:
            (connection,) = known.connections
            client.send(ASK)
            while not connection._received:
                known.loop._wait()
            known.loop.stopping = True
            known.loop.idle_until = 0.0
            connection.stop()
            assert state_of(connection) is State.READING
            known.turn()
            answer = client.read()
            assert answer.status == 200
            assert answer.fields["connection"] == "close"
            connection.close()

    def test_the_beginning_of_a_head_is_not_waited_for_when_the_server_stops(
        self, known: Bench
    ) -> None:
        with known.connect() as client:
            (connection,) = known.connections
            client.send(ASK[:-2])
            while not connection._received:
                known.loop._wait()
            known.loop.stopping = True
            known.loop.idle_until = 0.0
            connection.stop()
            assert state_of(connection) is State.READING
            known.loop._ready.clear()
            assert connection.on_event(1)
            assert state_of(connection) is State.CLOSED
            assert client.is_closed()

    def test_the_client_left_meanwhile(self, known: Bench) -> None:
        with known.connect() as client:
            (connection,) = known.connections
            client.sock.close()
            known.turn()
            assert state_of(connection) is State.CLOSED

    def test_others_are_left_alone(self, known: Bench) -> None:
        with known.connect():
            (connection,) = known.connections
            connection.receive()
            assert not connection._received
            connection.state = State.WORKING
            connection.receive()
            assert not connection._received
            connection.state = State.READING
