"""What is asked again: retries, redirects and challenges; and what goes along."""

from __future__ import annotations

import time
from typing import Any

import pytest

from resource_server import HTTPClient, Timeout
from resource_server.client import (
    ProtocolError,
    TooManyRedirects,
)
from tests.client import misbehaving
from tests.client.answers import LONG, ok, redirect, replying
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer


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
