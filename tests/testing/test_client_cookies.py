"""TestClient: cookies persist, as RFC 6265 tells."""

from __future__ import annotations

import time
from typing import Any

import pytest

from resource_server import Request, Resource, Response, get
from resource_server.testing import CookieJar, TestClient


class Cookies(Resource):
    @get("/set/:line")
    def set(self, request: Request) -> Response:
        return Response("", headers={"Set-Cookie": request.matches["line"]})

    @get("/shown/:rest*")
    def shown(self, request: Request) -> dict[str, Any]:
        return request.cookies


def test_what_is_set_is_sent_until_it_is_deleted() -> None:
    client = TestClient(Cookies)
    response = client.cookies_set("user=ann; Path=/")
    assert response.cookies == {"user": "ann"}
    assert client.get("/shown").json() == {"user": "ann"}
    assert dict(client.cookies) == {"user": "ann"}
    assert client.cookies_set("user=; Path=/; Max-Age=0").cookies == {}
    assert client.get("/shown").json() == {}
    assert len(client.cookies) == 0


def test_the_jar_can_be_changed_by_hand() -> None:
    client = TestClient(Cookies)
    client.cookies["a"] = "1"
    client.cookies["b"] = "2"
    assert client.get("/shown").json() == {"a": "1", "b": "2"}
    assert client.get("/shown", cookies={"a": "x", "c": "3"}).json() == {
        "a": "x",
        "b": "2",
        "c": "3",
    }
    assert client.get("/shown", headers={"Cookie": "only=this"}).json() == {"only": "this"}
    del client.cookies["a"]
    assert list(client.cookies) == ["b"]
    for missing in ("a", "z"):
        with pytest.raises(KeyError):
            client.cookies[missing]
        with pytest.raises(KeyError):
            del client.cookies[missing]
    assert repr(client.cookies) == "CookieJar({'b': '2'})"


def taken(line: str, path: str = "/a/b", host: str = "www.example.com", secure: bool = True) -> Any:
    jar = CookieJar(host)
    jar.take([line], host, path, secure=secure)

    def sent_to(path: str, host: str = "www.example.com", secure: bool = True) -> bool:
        return jar.header(host, path, secure=secure) != ""

    return sent_to


def test_without_a_path_it_is_for_the_directory() -> None:
    sent_to = taken("a=1")
    assert sent_to("/a")
    assert sent_to("/a/c/d")
    assert not sent_to("/ab")
    assert not sent_to("/")
    assert taken("a=1; Path=elsewhere")("/a/x")
    assert taken("a=1", path="/x")("/y")


def test_a_path_is_that_and_what_is_below() -> None:
    sent_to = taken("a=1; Path=/x/")
    assert sent_to("/x/")
    assert sent_to("/x/y")
    assert not sent_to("/x")


def test_a_domain_is_that_and_what_is_below() -> None:
    sent_to = taken("a=1; Path=/; Domain=.example.com")
    assert sent_to("/", "example.com")
    assert sent_to("/", "api.EXAMPLE.com")
    assert not sent_to("/", "badexample.com")
    alone = taken("a=1; Path=/")
    assert alone("/")
    assert not alone("/", "sub.www.example.com")
    assert not taken("a=1; Domain=other.example", "/")("/")
    assert not taken("a=1; Domain=0.0.1", "/", "127.0.0.1")("/", "127.0.0.1")


def test_secure_cookies_go_over_https_or_stay_on_this_machine() -> None:
    sent_to = taken("a=1; Path=/; Secure; HttpOnly; SameSite=Lax")
    assert sent_to("/")
    assert not sent_to("/", secure=False)
    assert not taken("a=1; Secure", "/", secure=False)("/")
    assert taken("a=1; Secure", "/", "localhost", secure=False)("/", "localhost", secure=False)


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("__Secure-a=1; Secure", True),
        ("__Secure-a=1", False),
        ("__Host-a=1; Secure; Path=/", True),
        ("__Host-a=1; Secure; Path=/a", False),
        ("__Host-a=1; Secure; Path=/; Domain=www.example.com", False),
        ("__Host-a=1; Path=/", False),
        ("no pair", False),
        ("=value", False),
        ("a=1; Max-Age=nonsense; Expires=nonsense", True),
        ("a=1; Max-Age=-5", False),
        ("a=1; Max-Age=10; Expires=Thu, 01 Jan 1970 00:00:00 GMT", True),
        ("a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=10", True),
        ("a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT", False),
        ("a=1; Expires=Thu, 01 Jan 2999 00:00:00 GMT", True),
    ],
)
def test_what_a_browser_would_keep(line: str, kept: bool) -> None:
    assert taken(line, "/")("/") is kept


def test_a_cookie_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    jar = CookieJar("localhost")
    jar.take(["a=1; Max-Age=60", "b=2"], "localhost", "/", secure=False)
    assert jar.header("localhost", "/", secure=False) == "a=1; b=2"
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert jar.header("localhost", "/", secure=False) == "b=2"


def test_longer_paths_come_first_and_the_newest_is_the_value() -> None:
    jar = CookieJar("localhost")
    jar.take(["a=1; Path=/", "a=2; Path=/x", "b=3; Path=/"], "localhost", "/x/y", secure=False)
    assert jar.header("localhost", "/x/y", secure=False) == "a=2; a=1; b=3"
    assert jar["a"] == "2"
    assert dict(jar) == {"a": "2", "b": "3"}
    assert len(jar) == 2
