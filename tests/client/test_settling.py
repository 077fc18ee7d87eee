"""How a request ends when several want to end it, and that nothing of it is left then."""

from __future__ import annotations

import gc
import gzip
import os
import socket
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import requests

from resource_server import HTTPClient, Request, Resource, Response, Timeout, get
from resource_server.client import ConnectError, TimeoutError  # noqa: A004
from tests.client.answers import LONG, ok, replying
from tests.client.misbehaving import PATIENCE, Misbehaving, free_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from resource_server import RequestHandle
    from tests.conftest import Serve


class TestFiles:
    """From the last byte on, a download is done: its file and its handle say the same."""

    @pytest.fixture
    def server(self) -> Iterator[Misbehaving]:
        with Misbehaving(replying(ok(b"content"))) as server:
            yield server

    def test_a_cancel_while_the_file_gets_its_name_is_too_late(
        self, server: Misbehaving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        handles: list[RequestHandle] = []
        ready = threading.Event()
        results: list[object] = []

        def replace(old: str, new: str) -> None:
            assert ready.wait(PATIENCE)
            handle = handles[0]
            results.append(handle.cancel())
            handle.expire(TimeoutError("late"))
            results.append(handle.done())
            os.rename(old, new)

        monkeypatch.setattr(os, "replace", replace)
        with HTTPClient(server.address, timeout=LONG) as client:
            handles.append(client.get("/", stream_to=tmp_path / "name"))
            ready.set()
            assert handles[0].result(PATIENCE).status_code == 200
        assert results == [False, False]
        assert (tmp_path / "name").read_bytes() == b"content"

    def test_a_file_that_cannot_get_its_name(
        self, server: Misbehaving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def replace(old: str, new: str) -> None:
            raise PermissionError("not there")

        monkeypatch.setattr(os, "replace", replace)
        with HTTPClient(server.address, timeout=LONG) as client:
            handle = client.get("/", stream_to=tmp_path / "name")
            assert isinstance(handle.exception(PATIENCE), PermissionError)
            assert client.pending() == 0
            client.stop(PATIENCE)
            assert client._transport.pool.count == (0, 0)
        assert not (tmp_path / "name").exists()


class TestTime:
    def test_connecting_ends_in_time_although_a_name_is_looked_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        go_on = threading.Event()

        def getaddrinfo(*_: Any) -> Any:
            assert go_on.wait(PATIENCE)
            raise socket.gaierror("no such name")

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        with HTTPClient("slow.example", timeout=Timeout(connect=0.05)) as client:
            try:
                handle = client.get("/", callback=lambda _: None)
                with pytest.raises(TimeoutError, match=r"no connection in 0\.05 seconds"):
                    handle.result(PATIENCE)
            finally:
                go_on.set()


class TestLife:
    def test_what_was_started_while_it_stopped_goes_on(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Misbehaving(replying(ok()), lambda peer: peer.hang()) as server:
            client = HTTPClient(server.address, timeout=LONG, threads=1)
            assert client.get("/").result(PATIENCE).ok
            stop = client._workers.stop
            handles: list[RequestHandle] = []

            def stops(timeout: float | None) -> bool:
                ended = stop(timeout)
                handles.append(client.get("/", timeout=0.2))
                return ended

            monkeypatch.setattr(client._workers, "stop", stops)
            client.stop()
            monkeypatch.undo()
            # Its connection may be made, and its time is still watched.
            with pytest.raises(TimeoutError, match=r"not done in 0\.2 seconds"):
                handles[0].result(PATIENCE)
            client.stop()

    def test_without_a_thread_the_request_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def start(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with HTTPClient(free_address()) as client:
            monkeypatch.setattr(threading.Thread, "start", start)
            for timeout in (None, 5.0):
                with pytest.raises(RuntimeError, match="can't start"):
                    client.get("/", timeout=timeout)
            assert client.pending() == 0
            monkeypatch.undo()
            assert isinstance(client.get("/").exception(PATIENCE), ConnectError)

    def test_an_error_keeps_nothing_alive(self) -> None:
        gone = threading.Event()
        gc.collect()
        gc.disable()
        try:
            client = HTTPClient(free_address(), retries=0)
            weakref.finalize(client, gone.set)
            with pytest.raises(ConnectError):
                client.get("/").result(PATIENCE)
            error = client.get("/").exception(PATIENCE)
            assert isinstance(error, ConnectError)
            assert error.__traceback__ is not None
            del client
            # Its worker may have it for a moment longer.
            assert gone.wait(PATIENCE)
        finally:
            gc.enable()


def test_progress_of_what_is_received_into_memory() -> None:
    told: list[tuple[int, int | None]] = []
    with (
        Misbehaving(replying(ok(b"content"))) as server,
        HTTPClient(server.address, timeout=LONG) as client,
    ):
        handle = client.get("/", progress=lambda done, total: told.append((done, total)))
        assert handle.result(PATIENCE).body == b"content"
    assert told[-1] == (7, 7)


@pytest.mark.parametrize("coding", ["gzip", "identity"])
def test_a_handler_passes_a_response_on(serve: Serve, coding: str) -> None:
    """What the two connections have agreed upon is left out; the rest goes on as it came."""
    content = gzip.compress(b"content") if coding == "gzip" else b"content"
    fields = (
        f"Content-Encoding: {coding}", "Connection: X-Hop, close", "X-Hop: 1", "X-End: 2",
        "Keep-Alive: timeout=5", "Transfer-Encoding: chunked", "Content-Type: text/x",
    )  # fmt: skip
    head = "\r\n".join(["HTTP/1.1 203 OK", *fields, "", ""]).encode()
    answer = head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    with (
        Misbehaving(replying(answer)) as server,
        HTTPClient(server.address, timeout=LONG) as client,
    ):

        class Front(Resource):
            @get("/")
            def pass_on(self, request: Request) -> Response:
                return client.get("/").result(PATIENCE)

        front = serve(Front)
        response = requests.get(front.url, timeout=PATIENCE)
    assert (response.status_code, response.content) == (203, b"content")
    assert (response.headers["X-End"], response.headers["Content-Type"]) == ("2", "text/x")
    absent = {"x-hop", "keep-alive", "transfer-encoding", "connection"}
    assert absent & {name.lower() for name in response.headers} == set()
