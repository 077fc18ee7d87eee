"""Resource and decorators: which routes a class has, in which order, and with which options."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from resource_server.errors import PatternError, RegistrationError
from resource_server.request import Request
from resource_server.routing.options import MAX_CONTENT_LENGTH, RouteOptions
from resource_server.routing.resource import (
    Resource,
    Route,
    delete,
    function_routes,
    get,
    head,
    header,
    options,
    param,
    patch,
    post,
    put,
    route,
    websocket,
)
from resource_server.routing.router import Router


def named(resource: Resource) -> list[tuple[str, str, str]]:
    return [(method, path, call.__name__) for method, path, call in resource.routes()]


def ask(router: Router, path: str, method: str = "GET") -> bytes | None:
    return router.dispatch(Request(("127.0.0.1", 1), method, path)).body


class Notes(Resource):
    @get("/notes")
    def index(self, request: Request) -> str:
        """List the notes."""
        return "index"

    @put("/notes/:id(int)", 1000, name="note", blocking=True)
    @get("/notes/:id(int)")
    def note(self, request: Request) -> str:
        return f"note {request.matches['id']}"

    def unrelated(self) -> None: ...


def test_routes_are_plain_3_tuples_of_bound_methods() -> None:
    notes = Notes()
    routes = notes.routes()
    assert routes == [
        ("GET", "/notes", notes.index),
        ("PUT", "/notes/:id(int)", notes.note),
        ("GET", "/notes/:id(int)", notes.note),
    ]
    assert isinstance(routes, list)
    assert all(isinstance(each, tuple) and len(each) == 3 for each in routes)


def test_each_decorator_registers_its_method() -> None:
    class Everything(Resource):
        @get("/")
        @put("/")
        @post("/")
        @delete("/")
        @patch("/")
        @head("/")
        @options("/")
        @route("/", methods=["TRACE", "QUERY"])
        @route("/default")
        @websocket("/ws")
        def all(self, request: Request) -> None: ...

    methods = [method for method, _, _ in Everything().routes()]
    expected = ["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "QUERY", "GET"]
    assert methods == [*expected, "WEBSOCKET"]


def test_handlers_of_websockets_are_routes_like_the_others() -> None:
    class Chat(Resource):
        @websocket("/chat/:room", name="chat")
        @websocket("/talk/:room")
        def chat(self, request: Request, opcode: int, payload: str | bytes) -> None: ...

        @get("/chat/:room")
        def page(self, request: Request) -> str:
            return "page"

    class Louder(Chat):
        def chat(self, request: Request, opcode: int, payload: str | bytes) -> None: ...

    class Silent(Chat):
        chat = None  # type: ignore[assignment]

    for cls in (Chat, Louder):
        resource = cls()
        assert resource.routes()[:2] == [
            ("WEBSOCKET", "/chat/:room", resource.chat),
            ("WEBSOCKET", "/talk/:room", resource.chat),
        ]
        router = Router()
        router.register_routes(resource)
        assert router.routes() == resource.routes()
        assert router.url_for("chat", room="a") == "/chat/a"
        assert ask(router, "/chat/a") == b"page"
    assert named(Silent()) == [("GET", "/chat/:room", "page")]


def test_decorators_leave_the_function_as_it_was() -> None:
    def double(number: int) -> int:
        return number * 2

    assert get("/a")(param("x")(header("y")(double))) is double
    assert double(4) == 8


def test_options_ride_along_to_the_router_and_its_endpoints() -> None:
    def expect(request: Request) -> None: ...

    class Uploads(Resource):
        @post("/a", max_content_length=7, stream=True, blocking=False, expect=expect)
        def a(self, request: Request) -> None: ...

        @post("/b", 9)
        def b(self, request: Request) -> None: ...

        @get("/c", max_content_length=3)
        def c(self, request: Request) -> None: ...

        @patch("/d", 4)
        def d(self, request: Request) -> None: ...

    router = Router()
    router.registerRoutes(Uploads().routes())

    def endpoint(method: str, path: str) -> Any:
        return router.resolve(Request(("127.0.0.1", 1), method, path))

    a = endpoint("POST", "/a")
    assert (a.max_content_length, a.stream, a.blocking, a.expect) == (7, True, False, expect)
    b = endpoint("POST", "/b")
    assert (b.max_content_length, b.stream, b.blocking, b.expect) == (9, False, None, None)
    assert endpoint("GET", "/c").max_content_length == 3
    assert endpoint("PATCH", "/d").max_content_length == 4
    assert endpoint("GET", "/nowhere").max_content_length == MAX_CONTENT_LENGTH == 5_242_880
    assert (a.mean, a.error) == (0.0, None)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_lenght": 5},
        {"name": ""},
        {"name": 5},
        {"max_content_length": -1},
        {"max_content_length": None},
        {"max_content_length": True},
        {"stream": 1},
        {"blocking": "yes"},
        {"expect": "100-continue"},
        {"middlewares": 5},
        {"middlewares": "no"},
        {"middlewares": ["no"]},
        {"middlewares": lambda handler: handler},
    ],
)
def test_wrong_options_are_type_errors_at_import(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"get\('/x'\).*the options are"):
        get("/x", **wrong)


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(TypeError, match="max_lenght"):
        post("/x", max_lenght=5)  # type: ignore[call-arg]


@pytest.mark.parametrize("methods", ["GET", [], [5]])
def test_route_takes_a_list_of_methods(methods: Any) -> None:
    with pytest.raises(TypeError, match="methods is a list"):
        route("/x", methods=methods)


def test_a_decorator_without_its_argument_says_how_to_write_it() -> None:
    with pytest.raises(TypeError, match="takes a path"):
        get(lambda request: None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="takes a name"):
        header(lambda request: None)  # type: ignore[arg-type]


@pytest.mark.parametrize("target", [5, int])
def test_only_functions_are_decorated(target: Any) -> None:
    with pytest.raises(TypeError, match="decorates a function"):
        get("/x")(target)


def test_a_subclass_inherits_overrides_replaces_and_removes() -> None:
    class Base(Resource):
        @get("/inherited")
        def inherited(self, request: Request) -> str:
            return "base"

        @get("/kept")
        def kept(self, request: Request) -> str:
            return "base"

        @get("/old")
        def replaced(self, request: Request) -> str:
            return "base"

        @get("/removed")
        def removed(self, request: Request) -> str:
            return "base"

    class Derived(Base):
        removed = None  # type: ignore[assignment]

        @get("/own")
        def own(self, request: Request) -> str:
            return "derived"

        def kept(self, request: Request) -> str:
            return "derived"

        @post("/new")
        def replaced(self, request: Request) -> str:
            return "derived"

    assert named(Derived()) == [
        ("GET", "/own", "own"),
        ("POST", "/new", "replaced"),
        ("GET", "/inherited", "inherited"),
        ("GET", "/kept", "kept"),
    ]
    router = Router()
    router.register_routes(Derived)
    assert ask(router, "/kept") == b"derived"
    assert ask(router, "/inherited") == b"base"
    assert router.dispatch(Request(("h", 1), "GET", "/removed")).status_code == 404

    class Back(Derived):
        def removed(self, request: Request) -> str:  # type: ignore[override]
            return "back"

    assert named(Back()) == named(Derived())
    assert len(Base().routes()) == 4


def test_routes_of_mixins_follow_the_method_resolution_order() -> None:
    class Left(Resource):
        @get("/left")
        def left(self, request: Request) -> None: ...

    class Right(Resource):
        @get("/right")
        def right(self, request: Request) -> None: ...

    class Both(Left, Right):
        @get("/both")
        def both(self, request: Request) -> None: ...

    assert [path for _, path, _ in Both().routes()] == ["/both", "/left", "/right"]


def test_what_replaces_a_method_must_be_callable_or_none() -> None:
    class Wrong(Notes):
        index = 5  # type: ignore[assignment]

    with pytest.raises(RegistrationError, match=r"Wrong\.index"):
        Wrong().routes()


def test_class_methods_and_static_methods_are_handlers_either_way_around() -> None:
    class Static(Resource):
        @get("/a")
        @staticmethod
        def a(request: Request) -> str:
            return "a"

        @staticmethod
        @get("/b")
        def b(request: Request) -> str:
            return "b"

        @get("/c")
        @classmethod
        def c(cls, request: Request) -> str:
            return cls.__name__

        @classmethod
        @get("/d")
        def d(cls, request: Request) -> str:
            return cls.__name__

    router = Router()
    router.register_routes(Static)
    assert [ask(router, path) for path in ("/a", "/b", "/c", "/d")] == [
        b"a",
        b"b",
        b"Static",
        b"Static",
    ]


def test_an_alias_in_the_class_body_adds_no_routes() -> None:
    class Aliased(Resource):
        @get("/a")
        def first(self, request: Request) -> None: ...

        second = first

    assert named(Aliased()) == [("GET", "/a", "first")]


def test_a_decorator_made_with_wraps_keeps_the_routes_apart() -> None:
    @get("/inner")
    def inner(request: Request) -> str:
        return "inner"

    @functools.wraps(inner)
    def wrapper(request: Request) -> str:
        return "wrapped " + inner(request)

    get("/outer")(wrapper)
    assert [path for _, path, _ in function_routes(wrapper)] == ["/outer", "/inner"]
    assert [path for _, path, _ in function_routes(inner)] == ["/inner"]
    router = Router()
    router.register_routes(wrapper)
    assert ask(router, "/inner") == b"wrapped inner"


def test_describe_tells_what_each_route_expects() -> None:
    class Documented(Notes):
        @get("/search", name="search")
        @header("Accept-Language", "the language of the results")
        @param("q", "what to search")
        @param("limit")
        def search(self, request: Request) -> None:
            """Search.

            Slowly.
            """

        def index(self, request: Request) -> str:
            return ""

    described = Documented().describe()
    assert described[0] == {
        "method": "GET",
        "pattern": "/search",
        "name": "search",
        "doc": "Search.\n\nSlowly.",
        "headers": [{"name": "Accept-Language", "description": "the language of the results"}],
        "params": [
            {"name": "q", "description": "what to search"},
            {"name": "limit", "description": ""},
        ],
    }
    assert [(each["pattern"], each["doc"]) for each in described[1:]] == [
        ("/notes", "List the notes."),
        ("/notes/:id(int)", ""),
        ("/notes/:id(int)", ""),
    ]


def test_a_bad_pattern_names_the_class_and_method() -> None:
    class Bad(Resource):
        @get("/:")
        def broken(self, request: Request) -> None: ...

    with pytest.raises(PatternError, match=r"Bad\.broken: pattern '/:'"):
        Router().register_routes(Bad)


def test_routes_may_be_overridden_with_plain_tuples() -> None:
    class Extended(Notes):
        def routes(self) -> list[tuple[str, str, Any]]:
            return [*super().routes(), ("GET", "/extra", self.unrelated)]

    router = Router()
    router.register_routes(Extended)
    assert ask(router, "/notes/4") == b"note 4"
    assert router.dispatch(Request(("h", 1), "GET", "/extra")).status_code == 500

    class Bad(Notes):
        def routes(self) -> list[tuple[str, str, Any]]:
            return [("GET", "oops", self.unrelated)]

    with pytest.raises(PatternError, match=r"Bad\.unrelated: pattern 'oops'"):
        Router().register_routes(Bad)


def test_a_route_made_by_hand_has_the_usual_options() -> None:
    def callback(request: Request) -> None: ...

    made: Any = Route("GET", "/", callback)
    assert made == ("GET", "/", callback)
    assert made.options.max_content_length == MAX_CONTENT_LENGTH
    assert made.owner == ""
    assert RouteOptions(middlewares=[]).middlewares == ()
