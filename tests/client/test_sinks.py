"""Content that goes elsewhere than into memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import HTTPClient, RequestHandle
from resource_server.client import ProtocolError, exchange
from tests.client import misbehaving
from tests.client.answers import ok, redirect, replying
from tests.client.misbehaving import PATIENCE, Misbehaving

if TYPE_CHECKING:
    from collections.abc import Callable


class Sink:
    """Takes the content of one answer."""

    def __init__(self, wanted: bool = True) -> None:
        self.wanted = wanted
        self.did: list[object] = []

    def begin(self, headers: Any, method: str, url: str) -> None:
        headers["X-Sink"] = "1"
        self.did.append("begin")

    def again(self, status: int, headers: Any) -> bool:
        return False

    def accept(self, status: int, headers: Any) -> bool:
        self.did.append(status)
        return self.wanted

    def write(self, piece: bytes) -> None:
        self.did.append(piece)

    def finish(self) -> None:
        self.did.append("finish")

    def fail(self) -> None:
        self.did.append("fail")


@pytest.fixture
def sinking(monkeypatch: pytest.MonkeyPatch) -> Callable[[HTTPClient, Sink], RequestHandle]:
    """Ask with a sink of the test's own."""

    def ask(client: HTTPClient, sink: Sink) -> RequestHandle:
        class Taking(exchange.Exchange):
            __slots__ = ()

            def __init__(self, *args: Any, **options: Any) -> None:
                super().__init__(*args, **{**options, "sink": sink})

        from resource_server.client import http

        monkeypatch.setattr(http, "Exchange", Taking)
        return client.get("/")

    return ask


class TestSinks:
    def test_the_content_goes_there(self, sinking: Any) -> None:
        sink = Sink()
        with Misbehaving(replying(redirect("/x"), ok())) as server:
            with HTTPClient(server.address) as client:
                response = sinking(client, sink).result(PATIENCE)
            assert response.body == b""
            assert sink.did == ["begin", "begin", 200, b"ok", "finish"]
            assert all(b"X-Sink: 1" in head for head in server.requests)

    def test_what_is_not_wanted_there_is_kept_in_memory(self, sinking: Any) -> None:
        sink = Sink(wanted=False)
        with Misbehaving(replying(ok())) as server, HTTPClient(server.address) as client:
            assert sinking(client, sink).result(PATIENCE).body == b"ok"
            assert sink.did == ["begin", 200, "fail"]

    def test_a_download_that_breaks_is_told(self, sinking: Any) -> None:
        sink = Sink()
        with (
            Misbehaving(misbehaving.close_in_body) as server,
            HTTPClient(server.address) as client,
        ):
            assert isinstance(sinking(client, sink).exception(PATIENCE), ProtocolError)
            client.stop()
            assert sink.did == ["begin", 200, b"12345", "fail"]

    def test_a_download_that_is_cancelled_is_told(self, sinking: Any) -> None:
        sink = Sink()
        with Misbehaving(misbehaving.hang_in_body) as server, HTTPClient(server.address) as client:
            handle = sinking(client, sink)
            deadline = time.monotonic() + PATIENCE
            while b"12345" not in sink.did:
                assert time.monotonic() < deadline
            handle.cancel()
            client.stop()
            assert sink.did[-1] == "fail"

    def test_a_full_disk_is_no_lost_connection(self, sinking: Any) -> None:
        class Full(Sink):
            def write(self, piece: bytes) -> None:
                raise OSError(28, "No space left on device")

        with Misbehaving(replying(ok())) as server, HTTPClient(server.address) as client:
            error = sinking(client, Full()).exception(PATIENCE)
            assert type(error) is OSError
