"""Waiting without the loop, also on systems without poll(2)."""

from __future__ import annotations

import select
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from resource_server import Disconnected, Headers, Limits, RequestTimeout
from resource_server.engine.crew import Crew
from resource_server.engine.wire import Wire
from resource_server.protocol.http1 import HTTP1
from tests.rawclient import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["poll", "select"])
def pair(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Wire, socket.socket]]:
    if request.param == "select":
        monkeypatch.delattr(select, "poll", raising=False)
        monkeypatch.delattr(select, "POLLRDHUP", raising=False)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(PATIENCE)
    limits = Limits(write=0.1)
    yield Wire(ours, HTTP1(limits), limits, Crew(1)), theirs
    ours.close()
    theirs.close()


def test_what_comes_is_received(pair: tuple[Wire, socket.socket]) -> None:
    wire, theirs = pair
    theirs.sendall(b"abc")
    assert wire.receive_some(PATIENCE) == b"abc"
    threading.Timer(0.05, theirs.sendall, [b"def"]).start()
    assert wire.receive_some(PATIENCE) == b"def"
    theirs.shutdown(socket.SHUT_WR)
    assert wire.receive_some(PATIENCE) == b""


def test_silence_is_a_timeout(pair: tuple[Wire, socket.socket]) -> None:
    for timeout in (0.01, 0.0, -1.0):
        with pytest.raises(RequestTimeout):
            pair[0].receive_some(timeout)


def test_large_data_is_sent_as_it_is_taken(pair: tuple[Wire, socket.socket]) -> None:
    wire, theirs = pair
    data = bytes(range(256)) * 8000
    received = bytearray()

    def receive() -> None:
        while len(received) < len(data):
            received.extend(theirs.recv(65536))

    receiver = threading.Thread(target=receive)
    receiver.start()
    wire.send_all(data)
    receiver.join()
    assert received == data


def test_a_peer_that_takes_nothing_is_disconnected(pair: tuple[Wire, socket.socket]) -> None:
    wire, _ = pair
    with pytest.raises(Disconnected):
        wire.send_all(bytes(10_000_000))
    assert wire.disconnected()
    with pytest.raises(Disconnected):
        wire.send_all(b"x")
    with pytest.raises(Disconnected):
        wire.receive_some(0.1)


def test_a_peer_that_has_gone_is_disconnected(pair: tuple[Wire, socket.socket]) -> None:
    wire, theirs = pair
    assert not wire.disconnected()
    theirs.close()
    assert wire.disconnected()
    with pytest.raises(Disconnected):
        wire.send_all(b"x")


def test_one_that_has_sent_something_has_not_gone(pair: tuple[Wire, socket.socket]) -> None:
    wire, theirs = pair
    theirs.sendall(b"x")
    assert not wire.disconnected()


def test_abandoning_wakes_who_waits(pair: tuple[Wire, socket.socket]) -> None:
    wire, _ = pair
    failures: list[BaseException] = []
    began = threading.Event()

    def wait() -> None:
        began.set()
        try:
            wire.receive_some(PATIENCE)
        except Disconnected as error:
            failures.append(error)
        else:
            with pytest.raises(Disconnected):
                wire.receive_some(PATIENCE)
            failures.append(Disconnected())

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert began.wait(PATIENCE)
    wire.abandon()
    waiting.join(PATIENCE)
    assert len(failures) == 1
    assert wire.sock.fileno() == -1
    assert wire.disconnected()


def test_a_closed_socket_is_as_good_as_gone(pair: tuple[Wire, socket.socket]) -> None:
    wire, _ = pair
    wire.sock.close()
    assert wire.disconnected()
    assert wire._ready(1, PATIENCE)
    with pytest.raises(Disconnected):
        wire.receive_some(0.1)


def test_a_reset_is_being_gone_without_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(select, "POLLRDHUP", raising=False)

    class Reset(socket.socket):
        def recv(self, *_: object) -> bytes:
            raise ConnectionResetError

    ours, theirs = socket.socketpair()
    theirs.close()
    limits = Limits()
    with Reset(fileno=ours.detach()) as reset:
        assert Wire(reset, HTTP1(limits), limits, Crew(1)).disconnected()


def test_an_interim_response_needs_a_request(pair: tuple[Wire, socket.socket]) -> None:
    with pytest.raises(RuntimeError, match="after the request"):
        pair[0].send_interim(103, Headers())
