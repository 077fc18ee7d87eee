"""Making a client: its address, and its options."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import (
    HTTPClient,
    Timeout,
)
from tests.client.things import PATIENCE, Things, seen

if TYPE_CHECKING:
    from tests.conftest import Serve


class TestMaking:
    @pytest.mark.parametrize(
        ("addr", "protocol", "url"),
        [
            ("example.org", "http", "http://example.org"),
            ("example.org:81", "http", "http://example.org:81"),
            (("example.org", 443), "https", "https://example.org"),
            (("::1", 80), "http", "http://[::1]"),
            ("::1", "http", "http://[::1]"),
            ("[::1]:8080", "http", "http://[::1]:8080"),
            (("fe80::1%eth0", 8080), "http", "http://[fe80::1]:8080"),
            ("unix:/run/x y.sock", "http", "http+unix://%2Frun%2Fx%20y.sock"),
            ("Bücher.example", "http", "http://xn--bcher-kva.example"),
        ],
    )
    def test_addresses(self, addr: Any, protocol: str, url: str) -> None:
        client = HTTPClient(addr, protocol)
        assert client.url == url
        assert repr(client) == f"<HTTPClient {url}>"

    @pytest.mark.parametrize(
        ("addr", "protocol"),
        [
            ("http://x/", "http"),
            ("user@host", "http"),
            ("", "http"),
            ("a b", "http"),
            ("x:99999", "http"),
            ("x:y", "http"),
            (("x", 0), "http"),
            (("x",), "http"),
            (("x", "80"), "http"),
            (80, "http"),
            ("unix:", "http"),
            ("x", "ftp"),
            ("x\r\n", "http"),
        ],
    )
    def test_what_is_no_address_is_refused(self, addr: Any, protocol: str) -> None:
        with pytest.raises((TypeError, ValueError)):
            HTTPClient(addr, protocol)

    @pytest.mark.parametrize(
        ("url", "base"),
        [
            ("http://example.org", "http://example.org"),
            ("HTTPS://Example.org:443/v1/", "https://example.org/v1"),
            ("http+unix://%2Frun%2Fx.sock/api", "http+unix://%2Frun%2Fx.sock/api"),
        ],
    )
    def test_of_a_url(self, url: str, base: str) -> None:
        assert HTTPClient.from_url(url).url == base

    @pytest.mark.parametrize("url", ["ftp://x/", "example.org", "http://", "http://x/\n", "x"])
    def test_what_is_no_url_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match=r"URL|host|control"):
            HTTPClient.from_url(url)

    def test_a_user_in_the_url_is_sent(self, serve: Serve) -> None:
        pytest.importorskip("resource_server.client.auth")
        server = serve(Things)
        with HTTPClient.from_url(server.url.replace("//", "//me:p%40s@")) as client:
            handle = client.get("/seen")
            fields = dict(map(tuple, seen(handle)["headers"]))
            assert fields["Authorization"] == "Basic bWU6cEBz"
            assert "me:" not in handle.url + client.url

    def test_a_websocket_is_opened_with_what_requests_have(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def connect(transport: Any, opening: Any, timeout: Timeout, **options: Any) -> Any:
            return opening, timeout, options

        module: Any = ModuleType("resource_server.client.websocket")
        module.connect = connect
        monkeypatch.setitem(sys.modules, module.__name__, module)

        def auth(request: Any) -> None:
            request.headers["Authorization"] = "me"

        with HTTPClient(serve(Things).address, timeout=3) as client:
            made: Any = client.websocket("/ws", {"a": 1}, auth=auth, option=2)
            opening, timeout, options = made
            assert timeout == Timeout(total=3)
            assert callable(options.pop("answered"))
            assert options == {
                "option": 2,
                "watchdog": client._watchdog,
                "links": client._links,
            }
            assert "Cookie" not in opening().headers
            client.get("/cookie").result(PATIENCE)
            request = opening()
            assert (request.method, request.url) == ("GET", f"{client.url}/ws?a=1")
            assert request.headers["authorization"] == "me"
            assert request.headers["cookie"] == "c=1"
            own: Any = client.websocket("/ws", headers={"Cookie": "o=2"}, timeout=Timeout(read=1))
            assert own[0]().headers["cookie"] == "o=2; c=1"
            assert own[1] == Timeout(read=1)

    def test_the_path_of_the_url_stands_before_others(self, serve: Serve) -> None:
        server = serve(Things)
        with HTTPClient.from_url(f"{server.url}/se?ignored") as client:
            assert client.get("/../seen").result(PATIENCE).status_code in (400, 404)
            assert client.url == f"{server.url}/se"
        with HTTPClient.from_url(f"{server.url}/") as client:
            assert seen(client.get("seen"))["target"] == "/seen"

    @pytest.mark.parametrize(
        "given",
        [
            {"threads": 0},
            {"max_connections": 0},
            {"retries": -1},
            {"max_redirects": "1"},
            {"fingerprint": "abc"},
            {"proxies": "socks5://x"},
            {"timeout": 0},
        ],
    )
    def test_options_that_cannot_be_used_are_refused(self, given: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r".+"):
            HTTPClient("x", **given)

    @pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
    def test_times_are_positive(self, value: float) -> None:
        for name in ("connect", "read", "total"):
            with pytest.raises(ValueError, match=name):
                Timeout(**{name: value})

    @pytest.mark.parametrize("value", ["1", True, object()])
    def test_times_are_numbers(self, value: Any) -> None:
        with pytest.raises(TypeError, match="connect"):
            Timeout(value)

    def test_a_number_is_the_time_in_all(self) -> None:
        assert Timeout.of(3) == Timeout(total=3)
        assert Timeout(None, None, None).read is None
