"""The Router: which route answers, and what is answered when none does."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server.errors import Gone, MethodNotAllowed, PatternError
from resource_server.request import Request
from resource_server.response import Response
from resource_server.routing.pattern import Converter, Pattern
from resource_server.routing.resource import Resource, get
from resource_server.routing.router import Endpoint, Router
from resource_server.routing.table import MAX_REMEMBERED


def request(method: str, path: str) -> Request:
    return Request(("127.0.0.1", 1), method, path)


def says(text: str) -> Any:
    return lambda request: f"{text} {request.matches}" if request.matches else text


def router_of(*routes: tuple[str, str], **options: Any) -> Router:
    """Return a Router whose routes answer with their number and what was matched."""
    router = Router(**options)
    router.register_routes([(*route, says(str(i))) for i, route in enumerate(routes)])
    return router


def answer(router: Router, method: str, path: str) -> tuple[int, str]:
    response = router.dispatch(request(method, path))
    assert response.body is not None
    return response.status_code, response.body.decode()


def allow(router: Router, method: str, path: str) -> tuple[int, str]:
    response = router.dispatch(request(method, path))
    return response.status_code, response.headers["Allow"]


def test_first_registered_match_wins_across_literal_and_wildcard() -> None:
    router = router_of(
        ("GET", "/a/:x(int)"),
        ("GET", "/a/b"),
        ("GET", "/a/:x"),
        ("GET", "/a/c"),
        ("GET", "/a/5"),
        ("GET", "/a/b"),
    )
    assert answer(router, "GET", "/a/b") == (200, "1")
    assert answer(router, "GET", "/a/b/") == (200, "1")
    assert answer(router, "GET", "/%61/b") == (200, "1")
    assert answer(router, "GET", "/a/c") == (200, "2 {'x': 'c'}")
    assert answer(router, "GET", "/a/5") == (200, "0 {'x': 5}")


def test_precedence_is_per_method() -> None:
    router = router_of(
        ("GET", "/:x"), ("POST", "/a"), ("GET", "/a"), ("PUT", "/:x"), ("POST", "/:x")
    )
    assert answer(router, "GET", "/a") == (200, "0 {'x': 'a'}")
    assert answer(router, "POST", "/a") == (200, "1")
    assert answer(router, "PUT", "/a") == (200, "3 {'x': 'a'}")
    assert answer(router, "POST", "/b") == (200, "4 {'x': 'b'}")
    assert answer(router, "HEAD", "/a") == (200, "0 {'x': 'a'}")
    assert allow(router, "DELETE", "/a") == (405, "GET, HEAD, OPTIONS, POST, PUT")


def test_routes_of_one_pattern_do_not_jump_the_queue() -> None:
    router = router_of(("GET", "/:x"), ("POST", "/:x(int)"), ("POST", "/:x"))
    assert answer(router, "POST", "/5") == (200, "1 {'x': 5}")
    assert answer(router, "POST", "/a") == (200, "2 {'x': 'a'}")


def test_a_converter_that_may_refuse_leaves_the_literal_behind_it_reachable() -> None:
    refused = set()

    def lookup(text: str) -> str:
        if text in refused:
            raise ValueError(text)
        return text

    router = Router(converters={"known": Converter("[a-z]+", lookup, str)})
    router.register_routes([("GET", "/:x(known)", says("wild")), ("GET", "/a", says("literal"))])
    assert answer(router, "GET", "/a") == (200, "wild {'x': 'a'}")
    refused.add("a")
    assert answer(router, "GET", "/a") == (200, "literal")
    assert allow(router, "PUT", "/a") == (405, "GET, HEAD, OPTIONS")


def test_head_is_answered_by_get_unless_it_has_a_route() -> None:
    router = router_of(("GET", "/a"), ("GET", "/:x"), ("HEAD", "/:x/b"), ("GET", "/c/b"))
    assert answer(router, "HEAD", "/a") == (200, "0")
    assert answer(router, "HEAD", "/x") == (200, "1 {'x': 'x'}")
    assert answer(router, "HEAD", "/c/b") == (200, "2 {'x': 'c'}")
    assert allow(router, "PUT", "/x/b") == (405, "HEAD, OPTIONS")
    head = router.resolve(request("HEAD", "/a"))
    assert head is router.resolve(request("GET", "/a"))
    explicit = router_of(("GET", "/a"), ("HEAD", "/a"))
    assert answer(explicit, "HEAD", "/a") == (200, "1")


def test_options_tells_the_methods_unless_it_has_a_route() -> None:
    router = router_of(("GET", "/a"), ("PUT", "/a"), ("DELETE", "/:x"), ("OPTIONS", "/o"))
    assert allow(router, "OPTIONS", "/a") == (204, "DELETE, GET, HEAD, OPTIONS, PUT")
    assert allow(router, "OPTIONS", "/x") == (204, "DELETE, OPTIONS")
    assert answer(router, "OPTIONS", "/o") == (200, "3")
    assert allow(router, "OPTIONS", "*") == (204, "DELETE, GET, HEAD, OPTIONS, PUT")
    assert allow(router_of(("PUT", "/a")), "OPTIONS", "/a") == (204, "OPTIONS, PUT")
    assert answer(router, "OPTIONS", "/no/thing")[0] == 404
    assert allow(Router(), "OPTIONS", "*") == (204, "OPTIONS")


def test_empty_components_are_components() -> None:
    router = router_of(("GET", "/a//"), ("GET", "/a"), ("GET", "//"))
    assert answer(router, "GET", "/a//") == (200, "0")
    assert answer(router, "GET", "/a/") == (200, "1")
    assert answer(router, "GET", "//") == (200, "2")
    assert answer(router, "GET", "/")[0] == 404
    assert answer(router, "GET", "/a///")[0] == 404


def test_a_path_without_route_is_404_and_another_method_405() -> None:
    router = router_of(("GET", "/a"), ("POST", "/w/:x"))
    assert answer(router, "GET", "/b")[0] == 404
    assert answer(router, "GET", "/a/b")[0] == 404
    for path in ("/a", "/a/", "/%61"):
        assert allow(router, "POST", path) == (405, "GET, HEAD, OPTIONS")
    assert allow(router, "GET", "/w/1") == (405, "OPTIONS, POST")
    assert allow(router, "TRACE", "/a") == (405, "GET, HEAD, OPTIONS")
    assert answer(router, "TRACE", "/b")[0] == 404


def test_methods_that_nobody_knows_are_501() -> None:
    router = router_of(("PURGE", "/a"), ("GET", "/b"))
    assert answer(router, "FOO", "/b")[0] == 501
    assert answer(router, "get", "/b")[0] == 501
    assert answer(router, "CONNECT", "/b")[0] == 501
    assert answer(router, "CONNECT", "host:443")[0] == 501
    assert answer(router, "PURGE", "/a") == (200, "0")
    assert allow(router, "PURGE", "/b") == (405, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize("path", ["/%", "/%ff", "/a%zz", "*", "x"])
def test_malformed_paths_are_400(path: str) -> None:
    router = router_of(("GET", "/:any*"))
    asked = request("GET", "/")
    asked.raw_path = path
    endpoint = router.resolve(asked)
    assert endpoint.error is not None
    assert endpoint(asked).status_code == 400
    assert asked.matches == {}


def test_resolve_sets_matches_and_error() -> None:
    router = router_of(("GET", "/a"), ("GET", "/u/:x/:y*"))
    asked = request("GET", "/u/1/2/3")
    assert router.resolve(asked).error is None
    assert asked.matches == {"x": "1", "y": "2/3"}
    asked = request("GET", "/a")
    assert isinstance(router.resolve(asked), Endpoint)
    assert asked.matches == {}
    asked = request("POST", "/u/1")
    error = router.resolve(asked).error
    assert isinstance(error, MethodNotAllowed)
    assert error.allowed == ("GET", "HEAD", "OPTIONS")
    assert asked.matches == {"x": "1", "y": ""}


def test_a_converter_that_fails_otherwise_is_the_servers_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def gone(text: str) -> str:
        if text == "gone":
            raise Gone
        raise KeyError(text)

    router = Router(converters={"fails": Converter("(?s:.*)", gone, str)})
    router.register_routes([("GET", "/:x(fails)", says("no"))])
    with caplog.at_level(logging.ERROR, "resource_server"):
        assert answer(router, "GET", "/a%0A")[0] == 500
    assert "GET /a%0A: a converter failed" in caplog.text
    assert "KeyError" in caplog.text
    assert answer(router, "GET", "/gone")[0] == 410


def test_a_path_asked_again_has_values_of_its_own() -> None:
    router = router_of(("GET", "/:x(int)/:y+"))
    found = []
    for _ in range(4):
        asked = request("GET", "/7/a/b")
        router.resolve(asked)
        found.append(dict(asked.matches))
        asked.matches["x"] = asked.matches["z"] = "changed"
    assert found == [{"x": 7, "y": "a/b"}] * 4


def test_methods_of_a_path_asked_again_are_kept_apart() -> None:
    router = router_of(("GET", "/:x"), ("PUT", "/:x"))
    for _ in range(3):
        assert answer(router, "GET", "/a") == (200, "0 {'x': 'a'}")
        assert answer(router, "PUT", "/a") == (200, "1 {'x': 'a'}")
        assert answer(router, "PATCH", "/a")[0] == 405


def test_a_route_that_is_added_counts_for_a_path_asked_before() -> None:
    router = Router()
    router.register_routes([("GET", "/:x", says("0")), ("GET", "/b/:x", says("1"))])
    for _ in range(3):
        assert answer(router, "GET", "/b/c") == (200, "1 {'x': 'c'}")
        assert answer(router, "PUT", "/b/c")[0] == 405
    router.register_routes([("PUT", "/b/:x", says("2"))])
    for _ in range(3):
        assert answer(router, "PUT", "/b/c") == (200, "2 {'x': 'c'}")


def test_values_that_may_be_others_the_next_time_are_made_each_time() -> None:
    count = iter(range(100))
    converters = {"counted": Converter("[a-z]+", lambda _: next(count), str)}
    router = router_of(("GET", "/:x(counted)"), ("GET", "/n/:x(int)+"), converters=converters)
    seen = []
    for _ in range(4):
        asked = request("GET", "/a")
        router.resolve(asked)
        seen.append(asked.matches["x"])
    assert seen == [0, 1, 2, 3]
    for _ in range(4):
        asked = request("GET", "/n/1/2")
        router.resolve(asked)
        assert asked.matches == {"x": [1, 2]}
        asked.matches["x"].append(3)


def test_what_is_remembered_of_paths_is_bounded() -> None:
    router = router_of(("GET", "/a/:x"))
    long = "/a/" + "x" * 5000
    for path in [f"/a/{number}" for number in range(3 * MAX_REMEMBERED)] + [long]:
        for _ in range(3):
            assert answer(router, "GET", path) == (200, f"0 {{'x': '{path[3:]}'}}")
        table = router._table
        assert table is not None
        assert 0 < len(table._remembered) <= MAX_REMEMBERED
        assert ("GET", long) not in table._remembered


def test_a_router_without_routes_answers_404() -> None:
    assert answer(Router(), "GET", "/")[0] == 404


def test_routes_can_be_added_while_serving() -> None:
    router = router_of(("GET", "/a"))
    assert answer(router, "GET", "/b")[0] == 404
    before = router.resolve(request("GET", "/a"))
    before.mean = 0.5
    router.register_routes([("GET", "/b", says("b")), ("PUT", "/a", says("put"))])
    assert answer(router, "GET", "/b") == (200, "b")
    assert answer(router, "PUT", "/a") == (200, "put")
    assert router.resolve(request("GET", "/a")) is before
    assert allow(router, "POST", "/a") == (405, "GET, HEAD, OPTIONS, PUT")


def test_threads_register_while_others_ask() -> None:
    router = router_of(("GET", "/always"))
    wrong: list[object] = []
    done = threading.Event()

    def register(number: int) -> None:
        for i in range(30):
            router.register_routes([("GET", f"/{number}/{i}", says("x"))])
            status, _ = answer(router, "GET", f"/{number}/{i}")
            if status != 200:
                wrong.append((number, i, status))

    def keep_asking() -> None:
        while not done.is_set():
            if answer(router, "GET", "/always") != (200, "0"):
                wrong.append("lost")

    reader = threading.Thread(target=keep_asking)
    writers = [threading.Thread(target=register, args=(n,)) for n in range(4)]
    reader.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert wrong == []
    assert len(router.routes()) == 121


def count_matching(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that grows by each pattern tried, of Routers not asked before."""
    tried: list[str] = []

    def counting(plain: Callable[[Pattern, Any], Any]) -> Callable[[Pattern, Any], Any]:
        def match(self: Pattern, components: Any) -> Any:
            tried.append(self.text)
            return plain(self, components)

        return match

    for name in ("match_components", "take"):
        monkeypatch.setattr(Pattern, name, counting(getattr(Pattern, name)))
    return tried


def test_a_literal_path_is_never_matched_when_nothing_earlier_could(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    router = Router()
    router.register_routes([("GET", "/:x(int)", says("int"))])
    router.register_routes([("GET", f"/route{i}", says(str(i))) for i in range(1000)])
    router.register_routes([("GET", "/:rest*", says("rest"))])
    tried = count_matching(monkeypatch)
    router.resolve(request("GET", "/route1"))
    tried.clear()  # of compiling
    assert answer(router, "GET", "/route999") == (200, "999")
    assert answer(router, "HEAD", "/route999/") == (200, "999")
    assert tried == []


def test_wildcard_routes_under_other_prefixes_are_not_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    router = Router()
    router.register_routes([("GET", f"/p{i}/:x", says(str(i))) for i in range(1000)])
    router.register_routes([("GET", f"/:tenant/t{i}/:x*", says(str(i))) for i in range(1000)])
    tried = count_matching(monkeypatch)
    router.resolve(request("GET", "/"))
    tried.clear()
    assert answer(router, "GET", "/p700/a") == (200, "700 {'x': 'a'}")
    assert answer(router, "GET", "/acme/t9/a/b") == (200, "9 {'tenant': 'acme', 'x': 'a/b'}")
    assert tried == ["/p700/:x", "/:tenant/t9/:x*"]


SHAPES = ["/", "/a", "/b", "/a/b", "/:x", "/:x(int)", "/a/:x", "/:x/b", "/:x?", "/:x*", "/a/:x+/b"]


@given(
    st.lists(
        st.tuples(st.sampled_from(["GET", "PUT", "HEAD", "WEBSOCKET"]), st.sampled_from(SHAPES))
    ),
    st.sampled_from(["GET", "PUT", "HEAD"]),
    st.booleans(),
    st.lists(st.sampled_from(["a", "b", "5", "%61"]), max_size=4),
)
def test_the_tables_answer_as_a_scan_of_all_routes_would(
    routes: list[tuple[str, str]], method: str, upgrade: bool, components: list[str]
) -> None:
    path = "/" + "/".join(components)
    router = router_of(*routes)
    found = [
        (registered, i)
        for i, (registered, text) in enumerate(routes)
        if Pattern(text).match(path) is not None
    ]
    mine = [i for registered, i in found if registered == method]
    if not mine and method == "HEAD":
        mine = [i for registered, i in found if registered == "GET"]
    socket = method != "PUT" and any(registered == "WEBSOCKET" for registered, _ in found)
    asking = {"Connection": "Upgrade", "Upgrade": "websocket"}
    # What is remembered of those before changes nothing.
    for before in ({}, {}, asking, {}):
        router.dispatch(Request(("h", 1), method, path, headers=before))
    headers = asking if upgrade else {}
    response = router.dispatch(Request(("h", 1), method, path, headers=headers))
    status, text = response.status_code, (response.body or b"").decode()
    if socket and method == "GET" and upgrade:
        assert status == 501
    elif socket and not mine:
        assert status == 426
    elif mine:
        assert (status, text.split()[0]) == (200, str(mine[0]))
    else:
        assert status == (405 if found else 404)


def test_url_for_is_the_inverse_of_matching() -> None:
    class Files(Resource):
        @get("/files/:dir*/:name", name="file")
        def file(self, request: Request) -> Response:
            return Response(request.matches["dir"] + "|" + request.matches["name"])

    router = Router(converters={"hex": Converter("[0-9a-f]+", lambda t: int(t, 16), "{:x}".format)})
    router.register_routes([Files, get("/c/:name(hex)", name="colour")(says("c"))])
    path = router.url_for("file", dir="a b/c", name="x/y")
    assert path == "/files/a%20b/c/x%2Fy"
    assert answer(router, "GET", path) == (200, "a b/c|x/y")
    assert router.url_for("colour", name=255) == "/c/ff"
    with pytest.raises(PatternError, match="needs a value for name"):
        router.url_for("file", dir="a")
    with pytest.raises(PatternError, match="has no size"):
        router.url_for("file", dir="a", name="b", size=1)
    with pytest.raises(PatternError, match=r"'fiel'.*colour, file"):
        router.url_for("fiel")
    with pytest.raises(PatternError, match="none"):
        Router().url_for("x")


def test_a_dropped_router_is_not_kept_alive_by_what_was_mounted() -> None:
    import gc
    import weakref

    child = router_of(("GET", "/a"))
    parent = Router()
    parent.mount("/p", child)
    gone = weakref.ref(parent)
    del parent
    gc.collect()
    assert gone() is None
    child.register_routes([("GET", "/b", says("b"))])
    assert answer(child, "GET", "/b") == (200, "b")


def test_routers_are_dropped_in_one_thread_while_another_registers_in_what_they_mounted() -> None:
    import gc

    child = router_of(("GET", "/a"))
    wrong: list[object] = []
    done = threading.Event()

    def keep_registering() -> None:
        while not done.is_set():
            try:
                child.register_routes([])
            except BaseException as error:
                wrong.append(error)

    writer = threading.Thread(target=keep_registering)
    writer.start()
    for _ in range(5):
        parents = [Router() for _ in range(50)]
        for parent in parents:
            parent.mount("/p", child)
        assert {answer(parent, "GET", "/p/a") for parent in parents} == {(200, "0")}
        del parent, parents
        gc.collect()
    done.set()
    writer.join()
    assert wrong == []
