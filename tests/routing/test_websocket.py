"""Routes of WebSockets: which requests reach them, what opens or refuses one, who is called."""

from __future__ import annotations

import functools
import logging
from typing import Any

import pytest

from resource_server.errors import (
    Disconnected,
    Forbidden,
    HTTPError,
    RegistrationError,
    ServiceUnavailable,
    Unauthorized,
    WebSocketClosed,
)
from resource_server.request import Request
from resource_server.response import JsonResponse, Redirect, Response
from resource_server.routing.options import SAME_ORIGIN
from resource_server.routing.resource import Resource, get, websocket, websocket_session
from resource_server.routing.router import Router
from resource_server.routing.websocket import SocketRoute
from resource_server.websockets import WebSocketOpCode, WebSocketRequest, WebSocketSession
from tests.wsfake import FakeConnection, FakeExchange

Text, Open, Close = WebSocketOpCode.Text, WebSocketOpCode.Open, WebSocketOpCode.Close


def silent(request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes) -> None: ...


def asking(path: str = "/ws", method: str = "GET", **headers: str) -> Request:
    """Return a request for a WebSocket, with an exchange that opens it."""
    fields = {"Host": "h", "Connection": "Upgrade", "Upgrade": "websocket"}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(("127.0.0.1", 1), method, path, headers=fields)
    request.exchange = FakeExchange()
    return request


def serving(*routes: object) -> Router:
    router = Router()
    router.register_routes(list(routes))
    return router


def _give(result: object, *_: object) -> object:
    return result


def connection_of(response: Response) -> FakeConnection:
    assert response.status_code == 101
    assert isinstance(response.socket, FakeConnection)
    return response.socket


def route_of(decorated: Any, path: str = "/ws") -> SocketRoute:
    """Return what the engine is given for a route."""
    request = asking(path)
    assert serving(decorated).dispatch(request).status_code == 101
    assert isinstance(request.exchange, FakeExchange)
    ((_, route),) = request.exchange.opened
    assert isinstance(route, SocketRoute)
    return route


def ask(router: Router, path: str, method: str = "GET", **headers: str) -> Response:
    return router.dispatch(Request(("127.0.0.1", 1), method, path, headers=headers))


class TestReaching:
    """A WebSocket is opened by a GET that asks for it; its path may have other routes."""

    @pytest.mark.parametrize("pattern", ["/ws", "/:ws"])
    def test_who_does_not_ask_is_told_to(self, pattern: str) -> None:
        router = serving(("WEBSOCKET", pattern, silent))
        for method in ("GET", "HEAD"):
            for headers in ({}, {"Upgrade": "h2c", "Connection": "upgrade"}):
                response = ask(router, "/ws", method, **headers)
                assert (response.status_code, response.headers["Upgrade"]) == (426, "websocket")
        assert router.dispatch(asking(method="HEAD")).status_code == 426

    @pytest.mark.parametrize("pattern", ["/ws", "/:ws"])
    def test_a_router_without_a_server_cannot_open_it(self, pattern: str) -> None:
        request = asking()
        request.exchange = None
        response = serving(("WEBSOCKET", pattern, silent)).dispatch(request)
        assert response.status_code == 501
        assert b"needs a server" in (response.body or b"")

    @pytest.mark.parametrize("pattern", ["/ws", "/:ws"])
    def test_no_client_may_send_its_method_or_hear_of_it(self, pattern: str) -> None:
        router = serving(("WEBSOCKET", pattern, silent), ("PUT", pattern, lambda request: "put"))
        assert ask(router, "/ws", "WEBSOCKET").status_code == 501
        assert ask(router, "/no/thing", "WEBSOCKET").status_code == 501
        for path, method, status in [("/ws", "OPTIONS", 204), ("/ws", "POST", 405)]:
            response = ask(router, path, method)
            assert response.status_code == status
            assert response.headers["Allow"] == "GET, HEAD, OPTIONS, PUT"
        assert ask(router, "*", "OPTIONS").headers["Allow"] == "GET, HEAD, OPTIONS, PUT"
        assert ask(router, "/ws", "PUT").body == b"put"

    @pytest.mark.parametrize("page", ["/ws", "/:ws", "/:rest*"])
    @pytest.mark.parametrize("socket", ["/ws", "/:ws"])
    @pytest.mark.parametrize("turned", [False, True])
    def test_a_route_for_get_has_the_others(self, page: str, socket: str, turned: bool) -> None:
        routes = [("WEBSOCKET", socket, silent), ("GET", page, lambda request: "page")]
        router = serving(*(reversed(routes) if turned else routes))
        for _ in range(2):
            assert ask(router, "/ws").body == b"page"
            assert ask(router, "/ws", "HEAD").status_code == 200
            assert ask(router, "/ws", Connection="upgrade", Upgrade="h2c").body == b"page"
            assert router.dispatch(asking()).status_code == 101
            assert router.dispatch(asking(method="HEAD")).status_code == 200
        assert ask(router, "/ws", "POST").headers["Allow"] == "GET, HEAD, OPTIONS"

    def test_a_route_for_head_has_head(self) -> None:
        router = serving(("WEBSOCKET", "/ws", silent), ("HEAD", "/ws", lambda request: "head"))
        assert ask(router, "/ws", "HEAD").status_code == 200
        assert ask(router, "/ws").status_code == 426

    def test_the_first_that_matches_wins(self) -> None:
        opened = []

        def wild(request: WebSocketRequest, opcode: int, payload: str) -> None:
            opened.append(("wild", request.matches))

        def literal(request: WebSocketRequest, opcode: int, payload: str) -> None:
            opened.append(("literal", request.matches))

        first = serving(("WEBSOCKET", "/:id(int)", wild), ("WEBSOCKET", "/5", literal))
        assert first.dispatch(asking("/5")).status_code == 101
        second = serving(("WEBSOCKET", "/5", literal), ("WEBSOCKET", "/:id(int)", wild))
        assert second.dispatch(asking("/5")).status_code == 101
        assert second.dispatch(asking("/6")).status_code == 101
        assert opened == [("wild", {"id": 5}), ("literal", {}), ("wild", {"id": 6})]

    def test_other_paths_do_not_look_at_the_fields(self) -> None:
        router = serving(("WEBSOCKET", "/ws", silent), ("GET", "/p/:x", lambda request: "page"))
        request = Request.received(("h", 1), "GET", "/p/1", b"\r\nHost: h", 11, "h")
        del request._fields  # what the fields are parsed from
        assert router.resolve(request).error is None

    def test_a_mounted_one_has_counts_of_its_own(self) -> None:
        inner = serving(websocket("/ws")(silent))
        outer = Router()
        outer.mount("/a", inner)
        outer.mount("/b", inner)
        routes = []
        for path in ("/a/ws", "/b/ws", "/a/ws"):
            request = asking(path)
            assert outer.dispatch(request).status_code == 101
            assert isinstance(request.exchange, FakeExchange)
            routes.append(request.exchange.opened[0][1])
        assert routes[0] is routes[2]
        assert routes[0] is not routes[1]

    def test_no_body_is_taken(self) -> None:
        router = serving(websocket("/ws")(silent), ("WEBSOCKET", "/tuple", silent))
        for path in ("/ws", "/tuple"):
            assert router.resolve(asking(path)).max_content_length == 0


class TestOpening:
    def test_the_handler_hears_of_it_before_the_response_is_sent(self) -> None:
        calls: list[Any] = []

        class Chat(Resource):
            @websocket("/chat/:room")
            def chat(
                self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
            ) -> None:
                calls.append((request, opcode, payload))
                request.send("welcome")

        request = asking("/chat/a?x=1")
        response = serving(Chat).dispatch(request)
        connection = connection_of(response)
        assert response.headers.fields() == connection.headers
        assert response.body == b""
        assert connection.log == [("begin",), ("send", "welcome")]
        ((socket, opcode, payload),) = calls
        assert (opcode, payload) == (Open, "")
        assert isinstance(socket, WebSocketRequest)
        assert socket is connection.socket
        assert (socket.matches, socket.query) == ({"room": "a"}, {"x": "1"})

    def test_a_session_is_only_begun(self) -> None:
        calls: list[WebSocketSession] = []

        @websocket_session("/ws")
        def converse(socket: WebSocketSession) -> None:
            calls.append(socket)

        router = serving(converse)
        request = asking()
        connection = connection_of(router.dispatch(request))
        assert calls == []
        assert isinstance(connection.socket, WebSocketSession)
        assert connection.socket.request is request
        assert connection.log == [("begin",)]

    @pytest.mark.parametrize(
        ("answer", "raised", "status"),
        [
            (Unauthorized("Bearer"), False, 401),
            (Unauthorized("Bearer"), True, 401),
            (Forbidden, False, 403),
            (Forbidden, True, 403),
            (JsonResponse({"a": 1}, 409), False, 409),
            (Redirect("/login"), False, 302),
            (Redirect("/login"), True, 302),
        ],
    )
    @pytest.mark.parametrize("where", ["check", "open"])
    def test_it_can_be_refused(self, answer: Any, raised: bool, status: int, where: str) -> None:
        def refuse(*_: object) -> object:
            if raised:
                raise answer
            return answer

        decorated = (
            websocket("/ws", check=refuse)(silent)
            if where == "check"
            else websocket("/ws")(lambda request, opcode, payload: refuse())
        )
        request = asking()
        response = serving(decorated).dispatch(request)
        assert response.status_code == status
        assert response.socket is None
        assert isinstance(request.exchange, FakeExchange)
        log = request.exchange.connection.log
        assert log == ([] if where == "check" else [("begin",)])

    def test_what_else_open_returns_says_nothing(self) -> None:
        results: list[object] = [None, True, False, "text", {"a": 1}, int, ValueError, ValueError()]
        for result in results:
            router = serving(("WEBSOCKET", "/ws", functools.partial(_give, result)))
            assert router.dispatch(asking()).status_code == 101

    def test_a_handler_that_fails_is_an_error_of_the_server(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(request: Request, opcode: int, payload: str) -> None:
            raise KeyError(1)

        assert serving(websocket("/ws")(fail)).dispatch(asking()).status_code == 500
        assert "the handler failed" in caplog.text

    def test_a_handshake_that_is_refused_asks_nobody(self) -> None:
        class Refusing(FakeExchange):
            def open_websocket(self, request: Request, route: object) -> FakeConnection:
                raise ServiceUnavailable

        asked: list[Request] = []
        request = asking()
        request.exchange = Refusing()
        router = serving(
            websocket("/ws", check=asked.append)(lambda *event: asked.append(event[0]))
        )
        assert router.dispatch(request).status_code == 503
        assert asked == []

    def test_a_check_lets_it_open(self) -> None:
        asked: list[Request] = []
        request = asking()
        router = serving(websocket("/ws", check=asked.append)(silent))
        assert router.dispatch(request).status_code == 101
        assert asked == [request]
        for result in (None, True):
            check = functools.partial(_give, result)
            router = serving(websocket_session("/ws", check=check)(silent))
            assert router.dispatch(asking()).status_code == 101

    def test_a_check_that_says_no_is_403(self) -> None:
        router = serving(websocket("/ws", check=lambda _: False)(silent))
        assert router.dispatch(asking()).status_code == 403

    @pytest.mark.parametrize("result", [0, 1, "", "no", int, ValueError])
    def test_a_check_that_says_nothing_known_opens_nothing(
        self, result: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        router = serving(websocket("/ws", check=lambda _: result)(silent))
        assert router.dispatch(asking()).status_code == 500
        assert f"check returns a bool, a response or an error, not {type(result).__name__}" in (
            caplog.text
        )

    def test_middlewares_and_error_handlers_have_their_part(self) -> None:
        def guard(handler: Any) -> Any:
            def guarded(request: Request) -> Response:
                if "authorization" not in request.headers:
                    raise Unauthorized("Bearer")
                request.state.user = "ada"
                response: Response = handler(request)
                response.headers["X-Seen"] = "yes"
                return response

            return guarded

        users = []

        def chat(request: WebSocketRequest, opcode: int, payload: str) -> None:
            users.append(request.state.user)

        class Chat(Resource):
            middlewares = (guard,)

            @websocket("/inherited", subprotocols=["a"])
            def chat(self, request: WebSocketRequest, opcode: int, payload: str) -> None: ...

        router = serving(websocket("/ws", middlewares=[guard])(chat), Chat)
        router.error_handler(426, lambda request, error: "upgrade, please")
        assert router.dispatch(asking()).status_code == 401
        response = router.dispatch(asking(Authorization="x"))
        assert (response.status_code, response.headers["X-Seen"]) == (101, "yes")
        assert users == ["ada"]
        assert ask(router, "/ws", Authorization="x").body == b"upgrade, please"
        request = asking("/inherited", Authorization="x")
        assert router.dispatch(request).status_code == 101
        assert isinstance(request.exchange, FakeExchange)
        assert request.exchange.opened[0][1].subprotocols == ("a",)

    def test_a_middleware_may_answer_in_its_place(self) -> None:
        def replace(handler: Any) -> Any:
            return lambda request: handler(request) and Response("no", 200)

        response = serving(websocket("/ws", middlewares=[replace])(silent)).dispatch(asking())
        assert (response.status_code, response.socket) == (200, None)


class TestOrigin:
    @staticmethod
    def status(origins: Any, origin: str | None, host: str = "h", scheme: str = "http") -> int:
        request = asking(Host=host)
        request.scheme = scheme
        if origin is not None:
            request.headers["Origin"] = origin
        router = serving(websocket("/ws", origins=origins)(silent))
        status = router.dispatch(request).status_code
        assert isinstance(request.exchange, FakeExchange)
        assert bool(request.exchange.opened) == (status == 101)
        return status

    def test_what_is_no_browser_passes(self) -> None:
        settings: list[Any] = [SAME_ORIGIN, "*", [], "https://app.example", "null"]
        for origins in settings:
            assert self.status(origins, None) == 101

    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("http://h", "h"),
            ("http://h", "h:80"),
            ("http://h", "h:"),
            ("http://h:80", "h"),
            ("http://h:8000", "h:8000"),
            ("HTTP://App.Example", "aPP.eXAMPLE"),
            ("http://[::1]:8000", "[::1]:8000"),
            ("http://[2001:DB8::1]", "[2001:db8::1]"),
            # A proxy that ends TLS keeps Host.
            ("https://h", "h"),
            ("https://h", "h:443"),
            ("https://h:443", "h"),
        ],
    )
    def test_pages_of_the_same_host_and_port_pass(self, origin: str, host: str) -> None:
        assert self.status(SAME_ORIGIN, origin, host) == 101

    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("http://evil.example", "h"),
            ("http://h.evil.example", "h"),
            ("http://evilh", "h"),
            ("http://h:8001", "h:8000"),
            ("http://h", "h:8000"),
            ("http://h", "h:443"),
            ("https://h", "h:80"),
            ("http://127.0.0.1:8000", "localhost:8000"),
            ("http://[::1]", "[::2]"),
            ("ws://h", "h"),
            ("file://h", "h"),
            ("file://", ""),
            ("http://", ""),
            ("null", "h"),
            ("null", "null"),
            ("", "h"),
            ("h", "h"),
            ("//h", "h"),
            ("http:h", "h"),
            ("http://h/", "h"),
            ("http://h/path", "h"),
            ("http://h?", "h"),
            ("http://h#", "h"),
            ("http://h:", "h"),
            ("http://h:80x", "h"),
            ("http://h:99999", "h"),
            ("http://h:65536", "h"),
            ("http://h:000080", "h"),
            ("http://u@h", "h"),
            ("http://h@h", "h"),
            ("http://h http://h", "h"),
            ("http://h, http://h", "h"),
            ("http://h\\", "h"),
            ("http://[::1", "[::1]"),
            ("http://é", "h"),
            ("http://%68", "h"),
        ],
    )
    def test_all_others_are_refused(self, origin: str, host: str) -> None:
        assert self.status(SAME_ORIGIN, origin, host) == 403

    def test_over_tls_the_page_has_come_over_tls_too(self) -> None:
        assert self.status(SAME_ORIGIN, "https://h", scheme="https") == 101
        assert self.status(SAME_ORIGIN, "https://h:8443", "h:8443", scheme="https") == 101
        assert self.status(SAME_ORIGIN, "http://h", scheme="https") == 403
        assert self.status(SAME_ORIGIN, "http://h:8443", "h:8443", scheme="https") == 403

    def test_a_host_that_is_no_name_is_no_pages(self) -> None:
        assert self.status(SAME_ORIGIN, "http://h", "%68") == 403

    def test_several_origins_in_a_request_are_refused(self) -> None:
        request = asking()
        request.headers.add("Origin", "http://h")
        request.headers.add("Origin", "http://h")
        router = serving(websocket("/ws")(silent))
        assert router.dispatch(request).status_code == 403

    @pytest.mark.parametrize("origin", ["http://evil.example", "null", "file://", "???"])
    def test_any_may_be_let_in(self, origin: str) -> None:
        assert self.status("*", origin) == 101
        assert self.status([SAME_ORIGIN, "*"], origin) == 101

    def test_a_list_lets_in_those_and_no_others(self) -> None:
        origins = ("https://App.example:443", "http://[::1]:5000", "app://notes", "null")
        for origin in (
            "https://app.example",
            "https://APP.EXAMPLE:443",
            "http://[::1]:5000",
            "app://notes",
            "null",
        ):
            assert self.status(origins, origin) == 101
        for origin in ("http://app.example", "https://app.example:80", "app://other", "http://h"):
            assert self.status(origins, origin) == 403
        assert self.status([SAME_ORIGIN, "https://app.example"], "http://h") == 101
        assert self.status([SAME_ORIGIN, "https://app.example"], "https://app.example") == 101
        assert self.status([], "http://h") == 403
        assert self.status("file://", "file://") == 101

    @pytest.mark.parametrize(
        "wrong",
        [
            "app.example",
            "https://app.example/",
            "https://*.example",
            "https://bücher.example",
            "same_origin",
            "",
            ["https://ok.example", "https://bad.example/x"],
        ],
    )
    def test_what_is_no_origin_is_refused_with_advice(self, wrong: Any) -> None:
        with pytest.raises(
            ValueError, match=r"websocket\('/ws'\): .* is not an origin: .*https://"
        ):
            websocket("/ws", origins=wrong)

    @pytest.mark.parametrize("wrong", [None, 5, [None], b"https://a", True])
    def test_what_is_no_text_is_refused(self, wrong: Any) -> None:
        with pytest.raises(TypeError, match="origin"):
            websocket("/ws", origins=wrong)


class TestOptions:
    def test_without_any_they_are_the_usual_ones(self) -> None:
        for decorated in (websocket("/ws")(silent), ("WEBSOCKET", "/ws", silent)):
            route = route_of(decorated)
            assert route.subprotocols == ()
            assert (route.max_message_size, route.max_buffered) == (1_048_576, 1_048_576)
            assert (route.ping_interval, route.ping_timeout) == (20.0, 20.0)
            assert (route.compression, route.pings, route.session) == (True, False, False)
            assert (route.overflow, route.blocking) == ("block", None)
            assert (route.mean, route.slow, route.sessions) == (0.0, False, 0)

    def test_the_engine_is_told_each(self) -> None:
        decorated = websocket(
            "/ws",
            subprotocols=["chat.v2", "chat.v1"],
            max_message_size=100,
            compression=False,
            ping_interval=None,
            ping_timeout=5,
            pings=True,
            max_buffered=200,
            overflow="drop",
            name="ws",
            blocking=True,
        )(silent)
        route = route_of(decorated)
        assert route.subprotocols == ("chat.v2", "chat.v1")
        assert (route.max_message_size, route.max_buffered) == (100, 200)
        assert (route.ping_interval, route.ping_timeout) == (None, 5.0)
        assert (route.compression, route.pings, route.session) == (False, True, False)
        assert (route.overflow, route.blocking) == ("drop", True)
        router = serving(decorated)
        assert router.url_for("ws") == "/ws"
        assert router.resolve(asking()).blocking is True

    def test_those_of_a_session(self) -> None:
        route = route_of(websocket_session("/ws", overflow="close")(silent))
        assert (route.session, route.max_sessions, route.overflow) == (True, 256, "close")
        route = route_of(websocket_session("/ws", max_sessions=3, ping_timeout=None)(silent))
        assert (route.max_sessions, route.ping_timeout, route.blocking) == (3, None, None)

    @pytest.mark.parametrize(
        ("options", "advice"),
        [
            ({"subprotocols": "chat"}, r"subprotocols is a list, as"),
            ({"subprotocols": 5}, r"subprotocols is a list, as"),
            ({"subprotocols": [5]}, "a subprotocol is a str, not 5"),
            ({"subprotocols": ["a", ""]}, "'' cannot name a subprotocol"),
            ({"subprotocols": ["a b"]}, "'a b' cannot name a subprotocol"),
            ({"subprotocols": ["a", "b", "a"]}, "subprotocols has one of them twice"),
            ({"max_message_size": 0}, "max_message_size is at least 1, not 0"),
            ({"max_message_size": True}, "max_message_size is a number of bytes, not True"),
            ({"max_message_size": "1"}, "max_message_size is a number of bytes, not '1'"),
            ({"max_buffered": -1}, "max_buffered is at least 1, not -1"),
            ({"max_buffered": 1.5}, r"max_buffered is a number of bytes, not 1\.5"),
            ({"compression": 1}, "compression is True or False, not 1"),
            ({"pings": None}, "pings is True or False, not None"),
            ({"ping_interval": 0}, "ping_interval is a number of seconds above 0, or None"),
            ({"ping_timeout": -1}, "ping_timeout is a number of seconds above 0, or None"),
            ({"ping_timeout": float("inf")}, "ping_timeout is a number of seconds above 0"),
            ({"ping_timeout": float("nan")}, "ping_timeout is a number of seconds above 0"),
            ({"ping_interval": "20"}, "ping_interval is a number of seconds, or None"),
            ({"ping_interval": True}, "ping_interval is a number of seconds, or None"),
            ({"check": True}, "check is a function that takes the request, not True"),
            ({"overflow": "wait"}, 'overflow is "block", "drop" or "close", not \'wait\''),
            ({"overflow": None}, 'overflow is "block"'),
            ({"blocking": 1}, "blocking is True, False or None"),
            ({"name": ""}, "name is a str"),
            ({"middlewares": "x"}, "middlewares is a list"),
            ({"stream": True}, "there is no option 'stream'; the options are subprotocols, "),
            ({"max_content_length": 5}, "there is no option 'max_content_length'"),
            ({"max_sessions": 5}, "there is no option 'max_sessions'; .* pings"),
            ({"session": True}, "there is no option 'session'"),
        ],
    )
    def test_wrong_ones_are_refused_with_advice(self, options: dict[str, Any], advice: str) -> None:
        with pytest.raises((TypeError, ValueError), match=r"^websocket\('/ws'\): " + advice):
            websocket("/ws", **options)

    @pytest.mark.parametrize(
        ("options", "advice"),
        [
            ({"max_sessions": 0}, "max_sessions is at least 1, not 0"),
            ({"max_sessions": None}, "max_sessions is a number of sessions, not None"),
            ({"pings": True}, "there is no option 'pings'; the options are .*, max_sessions"),
            ({"blocking": True}, "there is no option 'blocking'"),
        ],
    )
    def test_wrong_ones_of_a_session_too(self, options: dict[str, Any], advice: str) -> None:
        with pytest.raises(
            (TypeError, ValueError), match=r"^websocket_session\('/ws'\): " + advice
        ):
            websocket_session("/ws", **options)

    def test_a_type_is_a_type_error_and_a_value_a_value_error(self) -> None:
        with pytest.raises(TypeError):
            websocket("/ws", max_buffered="1")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="at least 1"):
            websocket("/ws", max_buffered=0)

    def test_the_decorator_takes_a_path_and_a_function(self) -> None:
        with pytest.raises(TypeError, match=r'websocket takes a path, as in @websocket\("'):
            websocket(silent)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="decorates a function or method"):
            websocket_session("/ws")(Resource)

    def test_coroutines_are_refused(self) -> None:
        async def later(*_: object) -> None: ...

        with pytest.raises(TypeError, match=r"check .*later is written with async"):
            websocket("/ws", check=later)
        with pytest.raises(RegistrationError, match="later is written with async"):
            serving(websocket("/ws")(later))

    def test_stacked_decorators_each_have_their_own(self) -> None:
        @websocket("/a", subprotocols=["a"])
        @websocket("/b", subprotocols=["b"])
        @get("/a")
        def both(request: Request, *_: object) -> str:
            return "page"

        assert route_of(both, "/a").subprotocols == ("a",)
        assert route_of(both, "/b").subprotocols == ("b",)
        assert ask(serving(both), "/a").body == b"page"


class TestRunning:
    """How the engine calls the application's code."""

    @staticmethod
    def socket() -> WebSocketRequest:
        return WebSocketRequest.of(asking(), FakeConnection())

    def test_an_event_is_what_the_handler_is_called_with(self) -> None:
        calls: list[Any] = []
        route = route_of(websocket("/ws")(lambda *event: calls.append(event)))
        calls.clear()
        socket = self.socket()
        assert route(socket, Text, "a") is True
        assert route(socket, WebSocketOpCode.Binary, b"b") is True
        assert route(socket, Close, "") is True
        assert calls == [
            (socket, Text, "a"),
            (socket, WebSocketOpCode.Binary, b"b"),
            (socket, Close, ""),
        ]

    def test_what_a_handler_returns_for_a_message_says_nothing(self) -> None:
        def handler(request: Request, opcode: int, payload: str) -> object:
            return None if opcode == Open else Forbidden()

        assert route_of(websocket("/ws")(handler))(self.socket(), Text, "a") is True

    @pytest.mark.parametrize(
        "error", [ValueError("x"), Forbidden(), HTTPError(), SystemExit(1), KeyboardInterrupt()]
    )
    def test_a_failure_is_logged_and_told(
        self, error: BaseException, caplog: pytest.LogCaptureFixture
    ) -> None:
        def handler(request: Request, opcode: int, payload: str) -> None:
            if opcode != Open:
                raise error

        def converse(session: WebSocketSession) -> None:
            raise error

        assert route_of(websocket("/ws")(handler))(self.socket(), Text, "a") is False
        (record,) = caplog.records
        assert record.getMessage() == "GET /ws: the WebSocket's handler failed"
        assert record.exc_info is not None
        assert record.exc_info[1] is error
        session = WebSocketSession(asking(), FakeConnection())
        assert route_of(websocket_session("/ws")(converse)).converse(session) is False
        assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2

    @pytest.mark.parametrize("error", [WebSocketClosed(1001), Disconnected("left")])
    def test_that_a_client_has_left_is_no_failure(
        self, error: BaseException, caplog: pytest.LogCaptureFixture
    ) -> None:
        def handler(request: Request, opcode: int, payload: str) -> None:
            if opcode != Open:
                raise error

        def converse(session: WebSocketSession) -> None:
            raise error

        with caplog.at_level(logging.DEBUG, "resource_server"):
            assert route_of(websocket("/ws")(handler))(self.socket(), Text, "a") is True
            session = WebSocketSession(asking(), FakeConnection())
            assert route_of(websocket_session("/ws")(converse)).converse(session) is True
        assert [record.levelno for record in caplog.records] == [logging.DEBUG] * 2

    def test_a_session_is_given_to_the_function(self) -> None:
        class Echo(Resource):
            @websocket_session("/ws")
            def echo(self, socket: WebSocketSession) -> None:
                for message in socket:
                    socket.send(message)

        connection = FakeConnection()
        connection.received.extend(["a", b"b"])
        session = WebSocketSession(asking(), connection)
        assert route_of(Echo).converse(session) is False
        assert [entry for entry in connection.log if entry[0] == "send"] == [
            ("send", "a"),
            ("send", b"b"),
        ]
        connection.end(1001)
        assert route_of(Echo).converse(session) is True
