"""What a client tells, and believes, those that are not its own server."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from resource_server import Headers, HTTPClient
from resource_server.client import ConnectError, ProtocolError
from resource_server.client.cookies import MAX_COOKIE, Cookies
from resource_server.client.transport import Proxies
from resource_server.client.urls import Origin, origin_of
from tests.client.answers import LONG, ok, redirect, replying
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    """A server's, which asks for a certificate without insisting on one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def ca_of(authority: trustme.CA) -> bytes:
    return authority.cert_pem.bytes()


def test_a_client_certificate_is_shown_to_its_own_server_alone(
    authority: trustme.CA, tls: ssl.SSLContext, tmp_path: Path
) -> None:
    authority.issue_cert("me@example.org").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "me.pem")
    )
    shown: list[Any] = []

    def notes(then: bytes) -> Any:
        def script(peer: Peer) -> None:
            peer.read_request()
            shown.append(peer.sock.getpeercert())  # type: ignore[attr-defined]
            peer.send(then)
            peer.hang()

        return script

    with Misbehaving(notes(ok()), tls=tls) as other:
        location = f"https://127.0.0.1:{other.address[1]}/"
        with Misbehaving(notes(redirect(location)), tls=tls) as own:
            options: dict[str, Any] = {"ca": ca_of(authority), "cert": tmp_path / "me.pem"}
            with HTTPClient(own.address, "https", timeout=LONG, **options) as client:
                assert client.get("/").result(PATIENCE).url == location
    assert [bool(each) for each in shown] == [True, False]


@pytest.mark.parametrize("ended", [True, False])
def test_an_answer_whose_tls_does_not_end_is_cut_off(
    authority: trustme.CA, tls: ssl.SSLContext, ended: bool
) -> None:
    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nall, or a part")
        sock: Any = peer.sock
        if ended:
            sock.unwrap()

    with (
        Misbehaving(script, tls=tls) as server,
        HTTPClient(server.address, "https", timeout=LONG, ca=ca_of(authority)) as client,
    ):
        handle = client.get("/")
        if ended:
            assert handle.result(PATIENCE).body == b"all, or a part"
        else:
            with pytest.raises(ProtocolError, match="a part may be missing"):
                handle.result(PATIENCE)


class TestProxies:
    def test_one_of_the_environment_that_cannot_be_used_is_told_when_it_is_needed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("all_proxy", "socks5://user:word@127.0.0.1:9")
        with Misbehaving(replying(ok())) as server:
            with HTTPClient(server.address, timeout=LONG, retries=0) as client:
                with pytest.raises(ConnectError, match="proxy of the environment") as caught:
                    client.get("/").result(PATIENCE)
                assert "word" not in str(caught.value)
            monkeypatch.setenv("no_proxy", "127.0.0.0/8")
            with HTTPClient(server.address, timeout=LONG) as client:
                assert client.get("/").result(PATIENCE).ok
        with pytest.raises(ValueError, match="proxy"):
            HTTPClient("h", proxies="socks5://127.0.0.1:9")

    @pytest.mark.parametrize(
        ("host", "bypassed"),
        [("10.1.2.3", True), ("11.0.0.1", False), ("fd00::1", True), ("ten.example", False)],
    )
    def test_networks_that_are_reached_without(self, host: str, bypassed: bool) -> None:
        proxies = Proxies({"all": "http://proxy:8080", "no": "10.0.0.0/8, fd00::/8,no/network"})
        assert (proxies.of(origin_of((host, 80), "http")) is None) is bypassed


class TestCookies:
    HERE = Origin("https", "www.shop.co.uk", 443)

    def kept(self, *lines: str) -> str | None:
        cookies = Cookies()
        cookies.keep(self.HERE, "/a/b", Headers([("Set-Cookie", line) for line in lines]))
        return cookies.of(Origin("https", "www.shop.co.uk", 443), "/a/b")

    def test_a_domain_of_many_owners_gets_none(self) -> None:
        assert self.kept("a=1; Domain=uk", "b=1; Domain=co.uk", "c=1; Domain=other.co.uk") is None
        assert self.kept("a=1; Domain=shop.co.uk") == "a=1"

    def test_one_that_is_too_large_is_not_kept(self) -> None:
        fits = "x" * (MAX_COOKIE - 1)
        assert self.kept(f"a={fits}") == f"a={fits}"
        assert self.kept(f"a={fits}x") is None

    def test_of_the_server_as_a_whole(self) -> None:
        cookies = Cookies()
        cookies.keep(self.HERE, "*", Headers([("Set-Cookie", "a=1")]))
        assert cookies.of(self.HERE, "*") == "a=1"


def test_credentials_stay_where_they_belong() -> None:
    """Another port is another origin; what leads back has lost them as well."""
    with Misbehaving(replying(ok())) as third:
        back = replying(redirect(f"http://127.0.0.1:{third.address[1]}/"))
        with Misbehaving(back) as other:
            there = replying(redirect(f"http://127.0.0.1:{other.address[1]}/"))
            with Misbehaving(there) as own:
                headers = {"Cookie": "own=1", "Authorization": "x", "X-Kept": "1"}
                with HTTPClient(own.address, timeout=LONG, headers=headers) as client:
                    assert client.get("/").result(PATIENCE).ok
        for server in (other, third):
            lower = server.requests[0].lower()
            assert b"cookie" not in lower
            assert b"authorization" not in lower
            assert b"x-kept: 1" in lower


def test_a_websocket_keeps_cookies() -> None:
    refusal = b"HTTP/1.1 403 No\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\n\r\n"
    with (
        Misbehaving(replying(refusal), replying(ok())) as server,
        HTTPClient(server.address, timeout=LONG) as client,
    ):
        with pytest.raises(Exception, match="403"):
            client.websocket("/ws")
        assert client.get("/").result(PATIENCE).ok
        assert b"\r\nCookie: a=1\r\n" in server.requests[1]
