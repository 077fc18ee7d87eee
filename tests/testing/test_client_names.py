"""TestClient: a method for each route."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from resource_server import (
    PatternError,
    Request,
    Resource,
    Router,
    WebSocketOpCode,
    WebSocketRequest,
    WebSocketSession,
    get,
    post,
    put,
    websocket,
    websocket_session,
)
from resource_server.testing import TestClient


class UserResource(Resource):
    @get("/user/:name/posts/:number(int)")
    def posts(self, request: Request) -> dict[str, Any]:
        return {"matches": request.matches, "params": request.params, "url": request.fragment}

    @get("/user/:name")
    @put("/user/:name")
    @post("/users")
    def edit(self, request: Request) -> dict[str, Any]:
        return {
            "method": request.method,
            "matches": request.matches,
            "body": request.text(),
            "tag": request.headers.get("x-tag"),
        }

    @get("/files/:folder?/:rest*")
    def files(self, request: Request) -> dict[str, Any]:
        return request.matches

    @websocket("/chat/:room")
    def chat(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str) -> None:
        if opcode == WebSocketOpCode.Open:
            request.send(request.matches["room"])

    @websocket_session("/talk")
    def talk(self, socket: WebSocketSession) -> None:
        socket.send("hello")


class _Hidden(Resource):
    @get("/hidden")
    def read(self, request: Request) -> str:
        return "hidden"


@get("/plain")
def plain(request: Request) -> str:
    return "plain"


@pytest.fixture
def client() -> TestClient:
    return TestClient([UserResource, _Hidden, plain])


def test_values_fill_the_wildcards_in_order(client: TestClient) -> None:
    response = client.user_posts("ann/b", 7, params={"a": "1"}, fragment="end")
    assert response.request.target == "/user/ann%2Fb/posts/7?a=1"
    assert response.json() == {
        "matches": {"name": "ann/b", "number": 7},
        "params": {"a": ["1"]},
        "url": "end",
    }


def test_a_method_with_several_routes_takes_the_first_that_fits(client: TestClient) -> None:
    assert client.user_edit("ann").json()["method"] == "GET"
    assert client.user_edit("ann", method="PUT", body="x").json()["body"] == "x"
    assert client.user_edit(headers={"X-Tag": "t"}).json() == {
        "method": "POST",
        "matches": {},
        "body": "",
        "tag": "t",
    }


def test_wildcards_at_the_end_may_be_left_out(client: TestClient) -> None:
    assert client.user_files().json() == {"folder": None, "rest": ""}
    assert client.user_files("a", "b/c").json() == {"folder": "a", "rest": "b/c"}


def test_values_that_do_not_fit_are_refused_with_the_routes(client: TestClient) -> None:
    with pytest.raises(TypeError, match=r"user_posts\(\) was given 1 .* GET /user/:name/posts"):
        client.user_posts("ann")
    with pytest.raises(TypeError, match="with DELETE; its routes are: GET /user/:name, PUT"):
        client.user_edit("ann", method="DELETE")
    with pytest.raises(TypeError, match="WebSocket /chat/:room"):
        client.user_chat()
    with pytest.raises(PatternError, match="number"):
        client.user_posts("ann", "seven")


def test_functions_and_private_classes_have_names_too(client: TestClient) -> None:
    assert client.plain().text == "plain"
    assert client._hidden_read().text == "hidden"
    assert client.plain.__name__ == "plain"


def test_websockets_are_opened_by_name(client: TestClient) -> None:
    with client.user_chat("lobby") as socket:
        assert socket.receive() == "lobby"
    with client.user_talk(timeout=10) as socket:
        assert list(socket) == ["hello"]


def test_names_that_there_are_not_are_told_with_those_there_are(client: TestClient) -> None:
    with pytest.raises(AttributeError, match=r"no route is called 'user_gone'; .* user_posts, "):
        client.user_gone()
    with pytest.raises(AttributeError, match="there are: none"):
        TestClient(Router()).anything()
    with pytest.raises(AttributeError):
        client.__deepcopy__  # noqa: B018
    with pytest.raises(AttributeError):
        TestClient.__new__(TestClient).user_posts()
    assert {"user_posts", "plain", "get"} <= set(dir(client))


def test_routes_in_mounts_and_tuples_and_without_names() -> None:
    class Unnamed(Resource):
        @get("/r")
        def read(self, request: Request) -> str:
            return "r"

    Unnamed.__name__ = "Resource"
    router = Router()
    router.mount("/api/:version(int)", [UserResource, Unnamed])
    router.register_routes(
        [
            ("GET", "/partial", functools.partial(plain)),
            ("GET", "/tuple", lambda _: "tuple"),
        ]
    )
    client = TestClient(router)
    assert client.user_posts(2, "ann", 1).request.target == "/api/2/user/ann/posts/1"
    assert client.resource_read(2).text == "r"
    assert not [name for name in dir(client) if "partial" in name or "lambda" in name]


def test_routes_that_are_registered_later_are_known() -> None:
    router = Router()
    client = TestClient(router)
    router.register_routes(plain)
    assert client.plain().text == "plain"
