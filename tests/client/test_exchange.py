"""One request against servers that misbehave at every stage, and what it ends in."""

from __future__ import annotations

import concurrent.futures
import threading
import time
import zlib
from typing import TYPE_CHECKING

import pytest

from resource_server import HTTPClient, Timeout
from resource_server.client import (
    Cancelled,
    ConnectError,
    ProtocolError,
    TimeoutError,  # noqa: A004
    TooLarge,
)
from tests.client import misbehaving
from tests.client.answers import LONG, ends, ok, replying
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer

if TYPE_CHECKING:
    from tests.client.misbehaving import Script


class TestStages:
    """At each stage a server can hang, close, reset, or send what is no answer."""

    @pytest.mark.parametrize(
        "script",
        [
            misbehaving.hang_at_once,
            misbehaving.hang_after_request,
            misbehaving.hang_in_head,
            misbehaving.hang_in_body,
        ],
    )
    def test_silence_is_a_timeout(self, script: Script) -> None:
        with Misbehaving(script) as server:
            error = ends(server, timeout=Timeout(read=0.1))
            assert isinstance(error, TimeoutError)
            assert "0.1 seconds" in str(error)

    @pytest.mark.parametrize(
        "script",
        [
            misbehaving.hang_at_once,
            misbehaving.hang_after_request,
            misbehaving.hang_in_head,
            misbehaving.hang_in_body,
            misbehaving.drip_forever,
        ],
    )
    def test_the_total_is_kept_whatever_the_server_does(self, script: Script) -> None:
        with Misbehaving(script) as server:
            started = time.monotonic()
            error = ends(server, timeout=Timeout(None, None, 0.2))
            assert isinstance(error, TimeoutError)
            assert "not done in 0.2 seconds" in str(error)
            assert 0.2 <= time.monotonic() - started < PATIENCE

    @pytest.mark.parametrize(
        "script",
        [
            misbehaving.hang_at_once,
            misbehaving.hang_after_request,
            misbehaving.hang_in_head,
            misbehaving.hang_in_body,
            misbehaving.drip_forever,
        ],
    )
    def test_a_request_is_cancelled_in_any_of_them(self, script: Script) -> None:
        reached = threading.Event()

        def telling(peer: Peer) -> None:
            reached.set()
            script(peer)

        with Misbehaving(telling) as server, HTTPClient(server.address, timeout=LONG) as client:
            handle = client.get("/")
            assert reached.wait(PATIENCE)
            assert handle.running()
            assert handle.cancel()
            assert handle.cancel()
            assert (handle.cancelled(), handle.done(), handle.running()) == (True, True, False)
            with pytest.raises(Cancelled, match=r"GET .*cancelled"):
                handle.result()
            with pytest.raises(concurrent.futures.CancelledError):
                handle.exception()
            assert concurrent.futures.wait([handle], PATIENCE).done == {handle}
            assert repr(handle) == "<RequestHandle GET / cancelled>"
            assert isinstance(handle.response.error, Cancelled)  # type: ignore[union-attr]
            # Its connection was cut, and its thread serves the next.
            assert server.wait_gone()

    @pytest.mark.parametrize(
        "script",
        [
            misbehaving.cut_at_once,
            misbehaving.close_after_request,
            misbehaving.reset_after_request,
            misbehaving.reset_in_body,
        ],
    )
    def test_a_lost_connection_is_a_connect_error(self, script: Script) -> None:
        with Misbehaving(script) as server:
            error = ends(server)
            assert isinstance(error, ConnectError)
            assert isinstance(error, ConnectionError)

    @pytest.mark.parametrize(
        ("script", "message"),
        [
            (misbehaving.close_in_head, "in the answer's head"),
            (misbehaving.close_in_body, "5 bytes before its Content-Length"),
            (misbehaving.close_in_chunks, "in the middle of its chunks"),
            (misbehaving.garbage, "of HTTP/1.1"),
            (misbehaving.endless_head, "longer than 65536 bytes"),
            (misbehaving.endless_interim, "more than 16 interim answers"),
        ],
    )
    def test_what_is_no_answer_is_a_protocol_error(self, script: Script, message: str) -> None:
        with Misbehaving(script) as server:
            error = ends(server)
            assert isinstance(error, ProtocolError)
            assert message in str(error)

    def test_a_refused_connection(self) -> None:
        with HTTPClient(misbehaving.free_address(), retries=1) as client:
            error = client.get("/").exception(PATIENCE)
            assert isinstance(error, ConnectError)
            assert isinstance(error.cause, ConnectionRefusedError)
            assert "cannot connect to 127.0.0.1:" in str(error)
            assert client._transport.pool.count == (0, 0)

    def test_a_name_that_does_not_exist(self) -> None:
        with HTTPClient("name.invalid", retries=0) as client:
            assert isinstance(client.get("/").exception(PATIENCE), ConnectError)

    @pytest.mark.parametrize("limits", [Timeout(connect=0.1), Timeout(total=0.1)])
    def test_a_connection_that_is_never_made(self, limits: Timeout) -> None:
        with misbehaving.unanswering() as address:
            client = HTTPClient(address, retries=0, timeout=limits)
            error = client.get("/").exception(PATIENCE)
            assert isinstance(error, TimeoutError)
            assert "0.1 seconds" in str(error) or "took too long" in str(error)
            client.stop(PATIENCE)
            assert client._transport.pool.count == (0, 0)

    def test_a_request_is_cancelled_while_it_connects(self) -> None:
        with misbehaving.unanswering() as address:
            client = HTTPClient(address, retries=0, timeout=LONG)
            handle = client.get("/")
            while not handle.running():
                pass
            assert handle.cancel()
            started = time.monotonic()
            client.stop(PATIENCE)
            assert time.monotonic() - started < PATIENCE / 2

    def test_an_upload_that_nobody_takes(self) -> None:
        with (
            Misbehaving(lambda peer: peer.server.closing.wait(PATIENCE)) as server,
            HTTPClient(server.address, timeout=Timeout(read=0.2), retries=0) as client,
        ):
            error = client.post("/", bytes(50_000_000)).exception(PATIENCE)
            assert isinstance(error, TimeoutError)

    def test_an_upload_that_is_refused_before_its_end(self) -> None:
        def script(peer: Peer) -> None:
            peer.read_head()
            peer.answer(b"too much", status="413 X")
            # Not closed, as the client would then lose the answer.
            peer.server.closing.wait(PATIENCE)

        with (
            Misbehaving(script) as server,
            HTTPClient(server.address, timeout=Timeout(read=0.5)) as client,
        ):
            response = client.post("/", bytes(50_000_000)).result(PATIENCE)
            assert (response.status_code, response.body) == (413, b"too much")
            assert client._transport.pool.count == (0, 0)


class TestFraming:
    """Where an answer ends (RFC 9112 §6.3)."""

    @pytest.mark.parametrize(
        ("head", "message"),
        [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3", "Content-Length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: +2", "Content-Length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0x2", "Content-Length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: -2", "Content-Length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: ", "Content-Length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked", "both"),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked", "both"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked", "unknown"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked", "unknown"),
            ("HTTP/1.1 200 OK\r\nBad Name: x", "header fields"),
            ("HTTP/1.1 200 OK\r\nName : x", "header fields"),
            ("HTTP/1.1 200 OK\r\nName: a\x00b", "header fields"),
            ("HTTP/1.1 200 OK\r\nName: a\rb", "header fields"),
            ("HTTP/1.1 200 OK\r\n folded", "header fields"),
            ("HTTP/1.1 200 OK\r\nName: a\nOther: b", "header fields"),
            ("HTTP/1.1 20 OK", "status line"),
            ("HTTP/1.1 099 OK", "status line"),
            ("HTTP/2.0 200 OK", "HTTP/1.1"),
            ("HTTP/1.1  200 OK", "status line"),
            ("HTTP/1.1 101 Switching Protocols", "was not asked for"),
        ],
    )
    def test_what_is_ambiguous_is_refused(self, head: str, message: str) -> None:
        with Misbehaving(replying(f"{head}\r\n\r\nok".encode())) as server:
            error = ends(server)
            assert isinstance(error, ProtocolError)
            assert message in str(error)

    @pytest.mark.parametrize(
        "chunks",
        [
            "+2\r\nok\r\n0\r\n\r\n",
            "0x2\r\nok\r\n0\r\n\r\n",
            "2_0\r\nok\r\n0\r\n\r\n",
            " 2\r\nok\r\n0\r\n\r\n",
            "\r\nok\r\n0\r\n\r\n",
            "2\nok\r\n0\r\n\r\n",
            "2\r\nok!\r\n0\r\n\r\n",
            "2\r\nok0\r\n\r\n",
            "2;" + "x" * 5000 + "\r\nok\r\n0\r\n\r\n",
            "0\r\nbad trailer\r\n\r\n",
            "0\r\n" + "X: y\r\n" * 4000 + "\r\n",
            "1\r\nx\r\n" * 10 + "1;" + "x" * 4000 + "\r\nx\r\n" + f"1;{'x' * 4000}\r\nx\r\n" * 20,
        ],
    )
    def test_malformed_chunks_are_refused(self, chunks: str) -> None:
        head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        with Misbehaving(replying((head + chunks).encode())) as server:
            assert isinstance(ends(server), ProtocolError)

    @pytest.mark.parametrize(
        ("data", "body", "kept"),
        [
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", True),
            (b"HTTP/1.1 200\r\nContent-Length: 2, 2\r\n\r\nok", b"ok", True),
            (b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", b"", True),
            (b"HTTP/1.1 204 No\r\n\r\n", b"", True),
            (b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", b"", True),
            (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end", False),
            (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
            (
                b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok",
                b"ok",
                True,
            ),
            (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", b"ok", False),
            (b"HTTP/1.1 200 OK\r\nFolded: a\r\n  b\r\nContent-Length: 2\r\n\r\nok", b"ok", True),
            (
                (
                    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n"
                    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                ),
                b"ok",
                True,
            ),
            (
                (
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
                    b"1;x=y\r\no\r\n1 \r\nk\r\n0\r\nTrailer: x\r\n\r\n"
                ),
                b"ok",
                True,
            ),
        ],
    )
    @pytest.mark.parametrize("step", [1, 7, 100_000])
    def test_the_end_is_found_however_it_arrives(
        self, data: bytes, body: bytes, kept: bool, step: int
    ) -> None:
        def script(peer: Peer) -> None:
            peer.read_request()
            for at in range(0, len(data), step):
                peer.send(data[at : at + step])
            if kept:
                peer.hang()

        with Misbehaving(script) as server, HTTPClient(server.address, timeout=LONG) as client:
            assert client.get("/").result(PATIENCE).body == body
            assert client._transport.pool.count == (0, int(kept))

    def test_after_more_than_the_answer_a_connection_is_not_used_again(self) -> None:
        with (
            Misbehaving(replying(ok() + ok(b"poison")), replying(ok(b"2"))) as server,
            HTTPClient(server.address, timeout=LONG) as client,
        ):
            assert client.get("/").result(PATIENCE).body == b"ok"
            assert client._transport.pool.count == (0, 0)
            assert client.get("/").result(PATIENCE).body == b"2"

    def test_a_head_has_no_content(self) -> None:
        with (
            Misbehaving(replying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", ok())) as server,
            HTTPClient(server.address, timeout=LONG) as client,
        ):
            response = client.head("/").result(PATIENCE)
            assert (response.body, response.headers["content-length"]) == (b"", "9")
            assert client.get("/").result(PATIENCE).body == b"ok"
            assert server.connections == 1


class TestContent:
    def test_too_much_is_refused_before_it_is_read(self) -> None:
        def script(peer: Peer) -> None:
            peer.read_request()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n")
            peer.hang()

        with Misbehaving(script) as server:
            error = ends(server, max_response_size=1000)
            assert isinstance(error, TooLarge)
            assert "1000 bytes" in str(error)

    def test_too_much_is_refused_as_it_comes(self) -> None:
        with Misbehaving(misbehaving.endless_body) as server:
            assert isinstance(ends(server, max_response_size=1_000_000), TooLarge)

    def test_a_bomb_is_refused(self) -> None:
        with Misbehaving(misbehaving.bombing(misbehaving.bomb(1 << 28))) as server:
            assert isinstance(ends(server, max_response_size=1_000_000), TooLarge)

    def test_as_much_as_allowed_is_not(self) -> None:
        packed = zlib.compress(bytes(1000))
        scripts = [replying(ok(bytes(1000)), ok(packed, "Content-Encoding: deflate"))]
        with (
            Misbehaving(*scripts) as server,
            HTTPClient(server.address, max_response_size=1000) as client,
        ):
            assert client.get("/").result(PATIENCE).body == bytes(1000)
            assert client.get("/").result(PATIENCE).body == bytes(1000)

    @pytest.mark.parametrize("coding", ["gzip", "deflate", "gzip, gzip, gzip, gzip"])
    def test_what_cannot_be_decoded_is_a_protocol_error(self, coding: str) -> None:
        with Misbehaving(replying(ok(b"this is none", f"Content-Encoding: {coding}"))) as server:
            assert isinstance(ends(server), ProtocolError)

    def test_what_ends_too_early_is_a_protocol_error(self) -> None:
        packed = zlib.compress(bytes(range(256)))[:-6]
        with Misbehaving(replying(ok(packed, "Content-Encoding: deflate"))) as server:
            assert isinstance(ends(server), ProtocolError)

    def test_an_unknown_coding_is_left_as_it_is(self) -> None:
        with (
            Misbehaving(replying(ok(b"?", "Content-Encoding: new"))) as server,
            HTTPClient(server.address) as client,
        ):
            assert client.get("/").result(PATIENCE).body == b"?"


class TestConnections:
    def test_a_connection_is_used_again(self) -> None:
        with (
            Misbehaving(replying(ok(b"1"), ok(b"2"), ok(b"3"))) as server,
            HTTPClient(server.address) as client,
        ):
            assert [client.get("/").result(PATIENCE).body for _ in range(3)] == [b"1", b"2", b"3"]
            assert server.connections == 1

    def test_a_connection_that_the_server_closed_meanwhile_is_not_used(self) -> None:
        with (
            Misbehaving(replying(ok(b"1")), replying(ok(b"2"))) as server,
            HTTPClient(server.address, retries=0) as client,
        ):
            assert client.get("/").result(PATIENCE).body == b"1"
            assert server.wait_gone()
            assert client.post("/", "x").result(PATIENCE).body == b"2"

    def test_a_connection_closed_in_the_moment_of_asking_is_replaced(self) -> None:
        def closing(peer: Peer) -> None:
            peer.read_request()
            peer.answer(b"1")
            peer.read_request()

        with (
            Misbehaving(closing, replying(ok(b"2"))) as server,
            HTTPClient(server.address, retries=0) as client,
        ):
            assert client.get("/").result(PATIENCE).body == b"1"
            assert client.get("/").result(PATIENCE).body == b"2"
            assert len(server.requests) == 3

    def test_but_a_post_is_not_sent_twice(self) -> None:
        def closing(peer: Peer) -> None:
            peer.read_request()
            peer.answer(b"1")
            peer.read_request()

        with (
            Misbehaving(closing, replying(ok(b"2"))) as server,
            HTTPClient(server.address) as client,
        ):
            assert client.get("/").result(PATIENCE).body == b"1"
            assert isinstance(client.post("/", "x").exception(PATIENCE), ConnectError)
            assert len(server.requests) == 2

    def test_what_comes_unasked_is_never_an_answer(self) -> None:
        sent = threading.Event()

        def script(peer: Peer) -> None:
            peer.read_request()
            peer.answer(b"1")
            sent.wait(PATIENCE)
            peer.answer(b"poison")
            sent.clear()
            peer.hang()

        with (
            Misbehaving(script, replying(ok(b"2"))) as server,
            HTTPClient(server.address) as client,
        ):
            assert client.get("/").result(PATIENCE).body == b"1"
            (kept,) = client._transport.pool._kept
            sent.set()
            deadline = time.monotonic() + PATIENCE
            while kept.usable:
                assert time.monotonic() < deadline
            assert client.get("/").result(PATIENCE).body == b"2"
