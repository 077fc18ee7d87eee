"""What a Router takes as routes, and what it says of anything else."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from resource_server.errors import PatternError, RegistrationError, ResourceServerError
from resource_server.request import Request
from resource_server.routing.resource import Resource, get, post
from resource_server.routing.router import Router


def hello(request: Request) -> str:
    return "hello"


@get("/decorated", name="decorated")
@post("/decorated")
def decorated(request: Request) -> str:
    return "decorated"


class Thing(Resource):
    @get("/thing")
    def thing(self, request: Request) -> str:
        return "thing"


class Needy(Resource):
    def __init__(self, needed: int) -> None:
        self.needed = needed

    @get("/needy")
    def read(self, request: Request) -> str:
        return f"needy {self.needed}"


def body(router: Router, path: str, method: str = "GET") -> bytes | None:
    response = router.dispatch(Request(("127.0.0.1", 1), method, path))
    assert response.status_code == 200
    return response.body


def test_everything_that_is_routes() -> None:
    router = Router()
    router.register_routes(Thing)
    router.register_routes(Needy(5))
    router.register_routes(decorated)
    router.register_routes([("GET", "/a", hello), ("POST", "/a", hello)])
    router.register_routes(("GET", "/single", hello))
    router.register_routes(each for each in [("GET", "/lazy", hello)])
    router.register_routes([Needy(6), [Thing(), decorated, ("GET", "/nested", hello)]])
    router.registerRoutes([])
    for path in ("/a", "/single", "/lazy", "/nested"):
        assert body(router, path) == b"hello"
    assert body(router, "/thing") == b"thing"
    assert body(router, "/needy") == b"needy 5"
    assert body(router, "/decorated", "POST") == b"decorated"


def test_decorated_methods_can_be_registered_alone() -> None:
    router = Router()
    router.register_routes(Needy(7).read)
    assert body(router, "/needy") == b"needy 7"


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        (None, "is not routes"),
        (5, "is not routes"),
        ("GET /", "is not routes"),
        (b"GET /", "is not routes"),
        ({"GET": hello}, "is not routes"),
        (hello, "no decorator"),
        (int, "no decorator"),
        (Needy, "Needy cannot be made without arguments"),
        (Router(), "mount"),
        ([Router()], "mount"),
        ([("GET", "/")], "is not routes"),
        (("", "/", hello), "is not a method"),
        (("G T", "/", hello), "is not a method"),
        (("GET", "/", "hello"), "cannot be called"),
        (("CONNECT", "/", hello), "CONNECT"),
        (("connect", "/", hello), "CONNECT"),
        ([("GET", "/ok", hello), None], "is not routes"),
    ],
)
def test_anything_else_is_refused_with_advice(wrong: Any, advice: str) -> None:
    router = Router()
    with pytest.raises(RegistrationError) as caught:
        router.register_routes(wrong)
    assert advice in str(caught.value)
    assert isinstance(caught.value, (TypeError, ResourceServerError))
    assert router.routes() == []


@pytest.mark.parametrize("route", [("GET", "/"), "GET", (5, "/", hello)])
def test_a_resource_whose_routes_are_no_3_tuples_is_refused(route: Any) -> None:
    class Wrong(Resource):
        def routes(self) -> list[Any]:
            return [route]

    with pytest.raises(RegistrationError):
        Router().register_routes(Wrong)


async def later(request: Request) -> str:
    return "later"


async def pieces(request: Request) -> AsyncIterator[str]:
    yield "later"


class Later(Resource):
    @get("/later")
    async def read(self, request: Request) -> str:
        return "later"


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        (("GET", "/", later), "GET /: later"),
        ([("GET", "/", pieces)], "pieces"),
        (get("/")(later), "later"),
        (Later, "Later.read"),
        ([("WEBSOCKET", "/", Later().read)], "Later.read"),
    ],
)
def test_coroutines_are_refused_with_advice(wrong: Any, name: str) -> None:
    router = Router()
    with pytest.raises(RegistrationError, match=rf"{name} is written with async.*write def"):
        router.register_routes([("GET", "/ok", hello), wrong])
    assert router.routes() == []


def test_what_decides_about_a_body_is_no_coroutine_either() -> None:
    with pytest.raises(TypeError, match="expect later is written with async"):
        post("/", expect=later)


def test_standard_methods_may_be_written_in_lower_case() -> None:
    router = Router()
    router.register_routes([("get", "/a", hello), ("m-search", "/a", hello)])
    router.register_routes(("websocket", "/ws", hello))
    assert router.routes()[-1][0] == "WEBSOCKET"
    assert body(router, "/a") == b"hello"
    assert body(router, "/a", "m-search") == b"hello"
    assert router.dispatch(Request(("h", 1), "get", "/a")).status_code == 501


def test_what_requests_are_looked_up_by_is_interned() -> None:
    router = Router()
    router.register_routes([("get", "/some/path", hello)])
    assert body(router, "/some/path") == b"hello"
    keys = [*router._literal, *router._literal["/some/path"]]
    assert {"/some/path", "/some/path/", "GET", "HEAD"} <= set(keys)
    assert [key for key in keys if key is not sys.intern("".join(list(key)))] == []


def test_all_or_nothing_is_registered() -> None:
    router = Router()
    with pytest.raises(PatternError, match="hello: pattern 'bad'"):
        router.register_routes([("GET", "/good", hello), ("GET", "bad", hello)])
    assert router.routes() == []
    with pytest.raises(PatternError, match="'bad'"):
        router.register_routes([("GET", "bad", lambda request: None)])


def test_one_name_belongs_to_one_pattern() -> None:
    router = Router()
    router.register_routes(decorated)
    router.register_routes(decorated)

    @get("/other", name="decorated")
    def other(request: Request) -> None: ...

    with pytest.raises(PatternError, match=r"other: pattern '/other'.*'/decorated' has already"):
        router.register_routes(other)


def test_routes_lists_all_in_order() -> None:
    router = Router()
    thing = Thing()
    router.register_routes(thing)
    router.register_routes([("POST", "/x/:y+", hello)])
    assert router.routes() == [("GET", "/thing", thing.thing), ("POST", "/x/:y+", hello)]
    copy = Router()
    copy.register_routes(router.routes())
    assert copy.routes() == router.routes()


def test_converters_of_a_router_are_checked_when_it_is_made() -> None:
    with pytest.raises(PatternError, match="is of type str"):
        Router(converters={"hex": "[0-9a-f]+"})  # type: ignore[dict-item]
