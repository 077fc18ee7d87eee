"""Mounting: prefixes, scopes of middlewares and error handlers, routes that come later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from resource_server.errors import PatternError, RegistrationError
from resource_server.request import Request
from resource_server.response import Response
from resource_server.routing.pattern import Converter
from resource_server.routing.resource import Resource, get
from resource_server.routing.router import Router

if TYPE_CHECKING:
    from resource_server.response import Handler, Middleware


def echo(request: Request) -> str:
    return f"{request.matches}"


def says(prefix: str) -> Any:
    return lambda request, error: f"{prefix} {request.matches}"


def tag(name: str) -> Middleware:
    """Return a middleware that adds its name to the field X-Tags, innermost first."""

    def middleware(handler: Handler) -> Handler:
        def tagged(request: Request) -> Response:
            response = handler(request)
            response.headers.add("X-Tags", name)
            return response

        return tagged

    return middleware


def dispatch(router: Router, path: str, method: str = "GET") -> Response:
    return router.dispatch(Request(("127.0.0.1", 1), method, path))


def tags(router: Router, path: str, method: str = "GET") -> tuple[int, str]:
    response = dispatch(router, path, method)
    return response.status_code, response.headers.get("X-Tags", "")


def routed(*routes: tuple[str, str], **options: Any) -> Router:
    router = Router(**options)
    router.register_routes([(*route, echo) for route in routes])
    return router


class Notes(Resource):
    middlewares = (tag("resource"),)

    @get("/notes/:id(int)", name="note")
    def read(self, request: Request) -> str:
        return echo(request)


@pytest.mark.parametrize("what", [Notes, Notes(), Notes().routes()])
def test_a_resource_is_mounted_below_a_prefix(what: object) -> None:
    router = Router(middlewares=[tag("router")])
    router.mount("/api/", what, middlewares=[tag("outer"), tag("inner")])
    response = dispatch(router, "/api/notes/5")
    assert response.body == b"{'id': 5}"
    assert response.headers["X-Tags"] == "resource, inner, outer, router"
    assert tags(router, "/notes/5") == (404, "router")
    assert tags(router, "/api/other") == (404, "router")
    assert tags(router, "/api/notes/5", "PUT") == (405, "inner, outer, router")
    assert tags(router, "/api/notes/5", "OPTIONS") == (204, "inner, outer, router")
    assert router.url_for("note", id=7) == "/api/notes/7"
    assert [route[:2] for route in router.routes()] == [("GET", "/api/notes/:id(int)")]


def test_a_prefix_may_hold_wildcards_and_take_part_in_url_for() -> None:
    router = Router(converters={"lang": Converter("[a-z]{2}", str, str)})
    router.mount("/:lang(lang)/:more*", Notes)
    assert dispatch(router, "/de/a/b/notes/5").body == b"{'lang': 'de', 'more': 'a/b', 'id': 5}"
    assert dispatch(router, "/deu/notes/5").status_code == 404
    assert router.url_for("note", id=7, lang="en", more="") == "/en/notes/7"


def test_the_root_and_a_root_route_are_prefixes_and_routes() -> None:
    router = Router()
    router.mount("/", routed(("GET", "/a")))
    router.mount("/e//", routed(("GET", "/x")))
    assert dispatch(router, "/e//x").body == b"{}"
    assert router.routes()[1][:2] == ("GET", "/e//x")
    router.mount("/b/", routed(("GET", "/"), ("GET", "/:x")))
    assert dispatch(router, "/a").body == b"{}"
    assert dispatch(router, "/b").body == b"{}"
    assert dispatch(router, "/b/").body == b"{}"
    assert dispatch(router, "/b/c").body == b"{'x': 'c'}"


def test_a_mounted_router_keeps_its_middlewares_and_error_handlers() -> None:
    child = routed(("GET", "/a"), ("GET", "/fail"), middlewares=[tag("child")])
    parent = routed(("GET", "/a"), middlewares=[tag("parent")])
    parent.mount("/api", child, middlewares=[tag("mount")])
    parent.register_routes([("GET", "/api/later", echo)])
    child.error_handler(404, lambda request, error: "child's 404")
    parent.error_handler(404, lambda request, error: "parent's 404")
    parent.error_handler(405, lambda request, error: "parent's 405")

    assert tags(parent, "/api/a") == (200, "child, mount, parent")
    assert tags(parent, "/a") == (200, "parent")
    assert tags(parent, "/api/later") == (200, "parent")
    assert tags(parent, "/api/nowhere") == (404, "child, mount, parent")
    assert dispatch(parent, "/api/nowhere").body == b"child's 404"
    assert dispatch(parent, "/api").body == b"child's 404"
    assert dispatch(parent, "/api//x").body == b"child's 404"
    assert dispatch(parent, "/apis").body == b"parent's 404"
    assert tags(parent, "/api/a", "PUT") == (405, "child, mount, parent")
    assert dispatch(parent, "/api/a", "PUT").body == b"parent's 405"
    assert tags(parent, "/api/a", "OPTIONS") == (204, "child, mount, parent")
    assert tags(child, "/a") == (200, "child")


def test_handlers_of_an_inner_router_come_before_those_of_an_outer_one() -> None:
    def fail(request: Request) -> None:
        raise KeyError(request.path)

    child = Router()
    child.register_routes([("GET", "/fail", fail)])
    parent = Router()
    parent.mount("/api", child)
    parent.error_handler(KeyError, lambda request, error: Response("parent", 410))
    assert dispatch(parent, "/api/fail").body == b"parent"
    child.error_handler(LookupError, lambda request, error: Response("child", 410))
    assert dispatch(parent, "/api/fail").body == b"child"


def test_a_404_belongs_to_the_mounted_router_with_the_longest_prefix() -> None:
    router = Router()
    for prefix in ("/", "/:tenant/api", "/a/api"):
        child = Router()
        child.error_handler(404, says(prefix))
        router.mount(prefix, child)
    assert dispatch(router, "/x").body == b"/ {}"
    assert dispatch(router, "/x/api/y").body == b"/:tenant/api {'tenant': 'x'}"
    assert dispatch(router, "/a/api/y").body == b"/:tenant/api {'tenant': 'a'}"


def test_routes_added_later_are_visible_through_every_mount() -> None:
    grandchild = Router()
    child = Router()
    child.mount("/g", grandchild)
    parent = Router()
    parent.mount("/one", child)
    parent.mount("/two", child)
    parent.register_routes([("GET", "/one/g/late", lambda request: "parent's")])
    assert dispatch(parent, "/two/g/late").status_code == 404
    assert dispatch(parent, "/one/g/late").body == b"parent's"
    grandchild.register_routes([("GET", "/late", lambda request: "late")])
    # Its place is that of the mount, so it comes before what was registered after that.
    assert dispatch(parent, "/one/g/late").body == b"late"
    assert dispatch(parent, "/two/g/late").body == b"late"
    assert dispatch(child, "/g/late").body == b"late"
    other = routed(("GET", "/o"))
    child.mount("/other", other)
    assert dispatch(parent, "/two/other/o").status_code == 200
    assert [route[1] for route in parent.routes()] == [
        "/one/g/late",
        "/one/other/o",
        "/two/g/late",
        "/two/other/o",
        "/one/g/late",
    ]


def test_the_first_of_several_mounts_has_the_name() -> None:
    child = Router()
    child.register_routes(Notes)
    router = Router()
    router.mount("/a", child)
    router.mount("/b", child)
    assert router.url_for("note", id=1) == "/a/notes/1"


def test_mounting_in_a_circle_is_refused() -> None:
    outer, middle, inner = Router(), Router(), Router()
    outer.mount("/m", middle)
    middle.mount("/i", inner)
    for router in (outer, middle, inner):
        with pytest.raises(RegistrationError, match="in itself"):
            inner.mount("/o", router)


def test_a_mount_that_cannot_be_leaves_nothing_behind() -> None:
    child = routed(("GET", "/:id"))
    router = Router()
    with pytest.raises(PatternError, match=r"echo: pattern '/:id/:id'"):
        router.mount("/:id", child)
    with pytest.raises(PatternError, match="does not begin"):
        router.mount("api", child)
    with pytest.raises(RegistrationError):
        router.mount("/api", 5)
    with pytest.raises(TypeError):
        router.mount("/api", child, middlewares=[5])  # type: ignore[list-item]
    assert router.routes() == []
    router.mount("/:tenant", child)
    with pytest.raises(PatternError, match=r"/:tenant/:tenant"):
        child.register_routes([("GET", "/:tenant", echo)])
    assert len(child.routes()) == 1
