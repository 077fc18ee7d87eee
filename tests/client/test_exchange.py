"""One request against servers that misbehave at every stage, and what it ends in."""

from __future__ import annotations

import concurrent.futures
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import HTTPClient, RequestHandle, Timeout
from resource_server.client import (
    Cancelled,
    ClientError,
    ConnectError,
    ProtocolError,
    TimeoutError,  # noqa: A004
    TooLarge,
    TooManyRedirects,
    exchange,
)
from tests.client import misbehaving
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.client.misbehaving import Script

# What is only there to end a test that would hang.
LONG = Timeout(PATIENCE, PATIENCE)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "FIRST_PAUSE", 0.001)


def replying(*answers: bytes) -> Script:
    """A script that answers each request of a connection with the next of some bytes."""

    def script(peer: Peer) -> None:
        for answer in answers:
            peer.read_request()
            peer.send(answer)

    return script


def ok(body: bytes = b"ok", *fields: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


def redirect(location: str, status: int = 302, *fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", "Content-Length: 0", f"Location: {location}", *fields, "", ""]
    return "\r\n".join(lines).encode()


def ends(server: Misbehaving, *, timeout: Timeout = LONG, **options: Any) -> BaseException:
    """Return what a GET ends in, and see that its thread and connection are free after it."""
    with HTTPClient(server.address, timeout=timeout, retries=0, **options) as client:
        error = client.get("/it?token=secret").exception(PATIENCE)
        assert error is not None
        assert isinstance(error, ClientError)
        assert error.method == "GET"
        assert error.url == f"{server.url}/it?token=***"
        assert str(error).startswith(f"GET {server.url}/it?token=***: ")
        assert error.__cause__ is error.cause
        assert server.wait_gone()
        client.stop()
        assert client._transport.pool.count == (0, 0)
    return error


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


class TestRetries:
    @pytest.mark.parametrize("status", [502, 503, 504])
    def test_a_gateway_that_fails_is_asked_again(self, status: int) -> None:
        bad = f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()
        with (
            Misbehaving(replying(bad, bad, ok())) as server,
            HTTPClient(server.address, retries=2) as client,
        ):
            assert client.get("/").result(PATIENCE).body == b"ok"
            assert (len(server.requests), server.connections) == (3, 1)

    def test_but_no_more_often_than_allowed(self) -> None:
        bad = b"HTTP/1.1 503 X\r\nContent-Length: 1\r\n\r\n"
        with (
            Misbehaving(replying(bad + b"1", bad + b"2", bad + b"3")) as server,
            HTTPClient(server.address, retries=1) as client,
        ):
            response = client.get("/").result(PATIENCE)
            assert (response.status_code, response.body) == (503, b"2")

    def test_a_lost_connection_is_made_again(self) -> None:
        with (
            Misbehaving(misbehaving.cut_at_once, replying(ok())) as server,
            HTTPClient(server.address, retries=1) as client,
        ):
            assert client.get("/").result(PATIENCE).body == b"ok"

    @pytest.mark.parametrize("payload", [b"x" * 100_000, "small"])
    def test_a_payload_that_can_be_is_sent_again(self, payload: Any) -> None:
        bad = b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"
        with (
            Misbehaving(replying(bad, ok())) as server,
            HTTPClient(server.address, retries=1) as client,
        ):
            assert client.put("/", payload).result(PATIENCE).ok
            assert server.bodies[0] == server.bodies[1]

    @pytest.mark.parametrize(
        ("method", "payload"), [("POST", "x"), ("PATCH", "x"), ("PUT", iter(["x"]))]
    )
    def test_what_may_not_be_repeated_is_not(self, method: str, payload: Any) -> None:
        bad = b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n"
        with (
            Misbehaving(replying(bad, ok())) as server,
            HTTPClient(server.address, retries=1) as client,
        ):
            response = client.request(method, "/", payload).result(PATIENCE)
            assert response.status_code == 503

    def test_retry_after_is_honoured(self) -> None:
        bad = b"HTTP/1.1 503 X\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
        with (
            Misbehaving(replying(bad, ok())) as server,
            HTTPClient(server.address, retries=1) as client,
        ):
            started = time.monotonic()
            assert client.get("/").result(PATIENCE).ok
            assert time.monotonic() - started >= 1

    @pytest.mark.parametrize(
        ("value", "total"),
        [
            ("9", 5.0),
            ("999999999999999999999", 5.0),
            ("3600", None),
            ("Fri, 31 Dec 9998 23:59:59 GMT", None),
        ],
    )
    def test_but_not_beyond_the_total_or_all_patience(
        self, value: str, total: float | None
    ) -> None:
        bad = f"HTTP/1.1 503 X\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n".encode()
        with (
            Misbehaving(replying(bad, ok())) as server,
            HTTPClient(server.address, timeout=Timeout(total=total)) as client,
        ):
            assert client.get("/").result(PATIENCE).status_code == 503

    def test_a_date_that_has_passed_is_now(self) -> None:
        date = b"Sun, 06 Nov 1994 08:49:37 GMT"
        bad = b"HTTP/1.1 503 X\r\nRetry-After: %b\r\nContent-Length: 0\r\n\r\n" % date
        with Misbehaving(replying(bad, ok())) as server, HTTPClient(server.address) as client:
            assert client.get("/").result(PATIENCE).ok

    def test_a_pause_is_ended_by_cancel(self) -> None:
        bad = b"HTTP/1.1 503 X\r\nRetry-After: 50\r\nContent-Length: 0\r\n\r\n"
        with Misbehaving(replying(bad, ok())) as server:
            client = HTTPClient(server.address)
            handle = client.get("/")
            deadline = time.monotonic() + PATIENCE
            while client._transport.pool.count != (0, 1):
                assert time.monotonic() < deadline
            assert handle.cancel()
            started = time.monotonic()
            client.stop(PATIENCE)
            assert time.monotonic() - started < PATIENCE / 2


class TestRedirects:
    @pytest.mark.parametrize(
        ("status", "method", "then"),
        [
            (301, "GET", "GET"),
            (301, "POST", "GET"),
            (302, "POST", "GET"),
            (302, "PUT", "PUT"),
            (303, "PUT", "GET"),
            (303, "HEAD", "HEAD"),
            (307, "POST", "POST"),
            (308, "POST", "POST"),
        ],
    )
    def test_the_method_that_follows(self, status: int, method: str, then: str) -> None:
        with (
            Misbehaving(replying(redirect("/there?x=1", status), ok(b""))) as server,
            HTTPClient(server.address, timeout=LONG) as client,
        ):
            payload = None if method in ("GET", "HEAD") else {"a": 1}
            response = client.request(method, "/here", payload).result(PATIENCE)
            assert response.url == f"{server.url}/there?x=1"
            assert response.request.method == then
            first, second = server.requests
            assert first.startswith(f"{method} /here ".encode())
            assert second.startswith(f"{then} /there?x=1 ".encode())
            if payload is not None:
                assert server.bodies == [b'{"a":1}', b'{"a":1}' if then == method else b""]
                assert (b"Content-Type" in second) == (then == method)

    @pytest.mark.parametrize(
        ("location", "target"),
        [
            ("there", "/a/there"),
            ("../there", "/there"),
            ("?q", "/a/b?q"),
            ("/sp ace", "/sp%20ace"),
            ("/there#part", "/there"),
            ("", "/a/b"),
        ],
    )
    def test_relative_locations(self, location: str, target: str) -> None:
        with (
            Misbehaving(replying(redirect(location), ok())) as server,
            HTTPClient(server.address) as client,
        ):
            response = client.get("/a/b").result(PATIENCE)
            assert response.url == server.url + target

    def test_too_many(self) -> None:
        with (
            Misbehaving(misbehaving.redirect_forever) as server,
            HTTPClient(server.address, max_redirects=3) as client,
        ):
            error = client.get("/").exception(PATIENCE)
            assert isinstance(error, TooManyRedirects)
            assert error.url == f"{server.url}/again"
            assert len(server.requests) == 4

    @pytest.mark.parametrize(
        "location", ["ftp://x/", "http://", "http://x:99999/", "http+unix://%2Fx/", "http://a b/"]
    )
    def test_a_location_that_cannot_be_followed(self, location: str) -> None:
        with (
            Misbehaving(replying(redirect(location))) as server,
            HTTPClient(server.address) as client,
        ):
            error = client.get("/").exception(PATIENCE)
            assert isinstance(error, ProtocolError)
            assert "cannot be followed" in str(error)

    def test_without_a_location_it_is_an_answer(self) -> None:
        with (
            Misbehaving(replying(b"HTTP/1.1 302 X\r\nContent-Length: 0\r\n\r\n")) as server,
            HTTPClient(server.address) as client,
        ):
            assert client.get("/").result(PATIENCE).status_code == 302

    def test_none_are_followed_if_none_are_wanted(self) -> None:
        with (
            Misbehaving(replying(redirect("/x"))) as server,
            HTTPClient(server.address, max_redirects=0) as client,
        ):
            assert client.get("/").result(PATIENCE).headers["location"] == "/x"

    def test_credentials_do_not_leave_their_origin(self) -> None:
        headers = {"Authorization": "a", "Cookie": "b=c", "Proxy-Authorization": "d", "X-Kept": "e"}

        def auth(request: Any) -> None:
            request.headers["X-Auth"] = "secret"

        with Misbehaving(replying(ok())) as other:
            with (
                Misbehaving(replying(redirect("/same"), redirect(f"{other.url}/x"))) as server,
                HTTPClient(server.address, auth=auth) as client,
            ):
                assert client.get("/", headers=headers).result(PATIENCE).ok
                same = server.requests[1]
            for name in (b"Authorization: a", b"Cookie: b=c", b"X-Auth: secret", b"X-Kept: e"):
                assert name in same
            head = other.requests[0]
            assert b"X-Kept: e" in head
            assert f"Host: 127.0.0.1:{other.address[1]}\r\n".encode() in head
            for name in (b"Authorization", b"Cookie", b"X-Auth", b"secret"):
                assert name not in head

    def test_a_payload_that_is_used_up_cannot_follow(self) -> None:
        with (
            Misbehaving(replying(redirect("/x", 307))) as server,
            HTTPClient(server.address) as client,
        ):
            error = client.post("/", iter(["x"])).exception(PATIENCE)
            assert isinstance(error, ProtocolError)
            assert "used up" in str(error)

    def test_a_large_answer_is_not_read_for_its_location(self) -> None:
        def script(peer: Peer) -> None:
            peer.read_request()
            peer.send(b"HTTP/1.1 302 X\r\nLocation: /x\r\nContent-Encoding: gzip\r\n\r\n")
            while True:
                peer.send(bytes(65536))

        with (
            Misbehaving(script, replying(ok())) as server,
            HTTPClient(server.address) as client,
        ):
            assert client.get("/").result(PATIENCE).body == b"ok"

    def test_nor_one_that_says_how_large_it_is(self) -> None:
        def script(peer: Peer) -> None:
            peer.read_request()
            peer.send(b"HTTP/1.1 302 X\r\nLocation: /x\r\nContent-Length: 1000000\r\n\r\n")
            peer.hang()

        with (
            Misbehaving(script, replying(ok())) as server,
            HTTPClient(server.address, timeout=LONG) as client,
        ):
            assert client.get("/").result(PATIENCE).body == b"ok"


class TestAuth:
    class Challenged:
        def __init__(self, *, answers: bool = True) -> None:
            self.answers = answers
            self.asked: list[tuple[int, str]] = []

        def __call__(self, request: Any) -> None:
            request.headers["Authorization"] = f"try {len(self.asked)}"

        def answer(self, response: Any) -> bool:
            self.asked.append((response.status_code, response.headers["www-authenticate"]))
            return self.answers

    CHALLENGE = b"HTTP/1.1 401 X\r\nWWW-Authenticate: Odd\r\nContent-Length: 2\r\n\r\nno"

    def test_a_challenge_is_answered_once(self) -> None:
        auth = self.Challenged()
        with (
            Misbehaving(replying(self.CHALLENGE, self.CHALLENGE)) as server,
            HTTPClient(server.address, auth=auth) as client,
        ):
            response = client.get("/").result(PATIENCE)
            assert (response.status_code, response.body) == (401, b"no")
            assert auth.asked == [(401, "Odd")]
            assert b"Authorization: try 0" in server.requests[0]
            assert b"Authorization: try 1" in server.requests[1]

    def test_or_not_at_all(self) -> None:
        auth = self.Challenged(answers=False)
        with (
            Misbehaving(replying(self.CHALLENGE)) as server,
            HTTPClient(server.address) as client,
        ):
            assert client.get("/", auth=auth).result(PATIENCE).status_code == 401
            assert len(server.requests) == 1

    def test_what_auth_raises_is_what_the_request_ends_in(self) -> None:
        def auth(request: Any) -> None:
            raise FileNotFoundError("no key")

        with Misbehaving(misbehaving.hang_at_once) as server, HTTPClient(server.address) as client:
            error = client.get("/", auth=auth).exception(PATIENCE)
            assert isinstance(error, FileNotFoundError)


class TestCookies:
    def test_they_are_kept_and_sent_where_they_belong(self) -> None:
        def cookie(text: str) -> bytes:
            return ok(b"", f"Set-Cookie: {text}")

        answers = [
            cookie("a=1"),
            cookie("b=2; Path=/deep"),
            cookie("c=3; Secure"),
            ok(),
            ok(),
            ok(),
        ]
        with (
            Misbehaving(replying(*answers)) as server,
            HTTPClient(server.address, headers={"X": "y"}) as client,
        ):
            for path in ("/", "/deep/x", "/", "/", "/deep/y"):
                client.get(path).result(PATIENCE)
            client.get("/", headers={"Cookie": "own=0"}).result(PATIENCE)
            cookies = [
                b"; ".join(line[8:] for line in head.split(b"\r\n") if line.startswith(b"Cookie: "))
                for head in server.requests
            ]
            assert cookies == [b"", b"a=1", b"a=1", b"a=1", b"b=2; a=1", b"own=0; a=1"]
            assert client.cookies is not None
            assert {each.name for each in client.cookies} >= {"a", "b"}

    def test_or_not_kept_at_all(self) -> None:
        with (
            Misbehaving(replying(ok(b"", "Set-Cookie: a=1"), ok())) as server,
            HTTPClient(server.address, cookies=False) as client,
        ):
            client.get("/").result(PATIENCE)
            client.get("/").result(PATIENCE)
            assert b"Cookie" not in server.requests[1]
            assert client.cookies is None

    def test_those_of_a_redirect_are_kept_too(self) -> None:
        with (
            Misbehaving(replying(redirect("/x", 302, "Set-Cookie: a=1"), ok())) as server,
            HTTPClient(server.address) as client,
        ):
            client.get("/").result(PATIENCE)
            assert b"Cookie: a=1" in server.requests[1]

    def test_a_server_that_sets_too_many_gets_none_back(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from resource_server.client import cookies

        monkeypatch.setattr(cookies, "MAX_COOKIES", 3)
        fields = [f"Set-Cookie: c{number}=1" for number in range(5)]
        with (
            Misbehaving(replying(ok(b"", *fields), ok())) as server,
            HTTPClient(server.address) as client,
        ):
            client.get("/").result(PATIENCE)
            client.get("/").result(PATIENCE)
            assert b"Cookie" not in server.requests[1]


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
