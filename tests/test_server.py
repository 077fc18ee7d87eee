"""HTTPServer as an object: what it is given, what it tells."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from resource_server import (
    HTTPServer,
    Limits,
    RegistrationError,
    Request,
    Resource,
    Response,
    Router,
    get,
)
from tests.rawclient import Client

if TYPE_CHECKING:
    from tests.conftest import Serve


class Hello(Resource):
    @get("/hello")
    def hello(self, request: Request) -> str:
        return "hello"


def answer(_: Request) -> Response:
    return Response("answer")


def is_running(server: HTTPServer) -> bool:
    """Whether it runs now: a type checker takes a property to stay as it was asserted."""
    return server.running


def test_nothing_is_decided_before_the_start() -> None:
    server = HTTPServer(("127.0.0.1", 0))
    assert not server.running
    assert repr(server) == "<HTTPServer not running>"
    assert server.wait(0)
    for name in ("url", "address"):
        with pytest.raises(RuntimeError, match="before it is started"):
            getattr(server, name)


def test_it_tells_where_it_is(serve: Serve) -> None:
    server = serve()
    assert is_running(server)
    assert repr(server) == f"<HTTPServer serving on {server.url}>"
    url = server.url
    server.stop()
    assert not is_running(server)
    # Still known, for messages.
    assert server.url == url


@pytest.mark.parametrize("routes", [Hello(), Hello, [("GET", "/hello", answer)]])
def test_routes_are_registered_in_any_form(serve: Serve, routes: object) -> None:
    server = serve()
    server.registerRoutes(routes)
    assert [route[:2] for route in server.routes()] == [("GET", "/hello")]
    with Client(server.address) as client:
        assert client.get("/hello").status == 200


def test_what_are_no_routes_is_an_error() -> None:
    with pytest.raises(RegistrationError):
        HTTPServer(("127.0.0.1", 0)).register_routes(3)


def test_a_router_may_be_given(serve: Serve) -> None:
    router = Router()
    router.register_routes(Hello())
    server = serve(router)
    assert server.router is router
    with Client(server.address) as client:
        assert client.get("/hello").body == b"hello"


def test_an_empty_router_answers_404(serve: Serve) -> None:
    with Client(serve().address) as client:
        assert client.get("/").status == 404


def test_it_is_a_context_manager() -> None:
    with HTTPServer(("127.0.0.1", 0)) as server:
        server.register_routes(Hello())
        with server as same:
            assert same is server
        assert not server.running
    with server, Client(server.address) as client:
        assert client.get("/hello").status == 200


@pytest.mark.parametrize("options", [{"threads": 0}, {"max_connections": -1}])
def test_impossible_numbers_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        HTTPServer(("127.0.0.1", 0), **options)  # type: ignore[arg-type]


def test_limits_are_those_given() -> None:
    limits = Limits(head=3)
    assert HTTPServer(("127.0.0.1", 0), limits=limits).limits is limits
    assert HTTPServer(("127.0.0.1", 0)).limits == Limits()


def test_on_windows_a_wait_without_end_is_one_of_many_short_ones(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There nothing interrupts a wait, Ctrl-C included."""
    server = serve(Hello)
    monkeypatch.setattr("resource_server.server.os.name", "nt")
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    assert server.wait()
    stopping.join()


def test_the_main_thread_waits_for_the_end_and_leaves_signals_as_they_were(serve: Serve) -> None:
    assert threading.current_thread() is threading.main_thread()  # where pytest runs tests
    for _ in range(3):
        server = serve()
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert server.wait()
        assert server.wait()
        stopping.join()
    assert signal.set_wakeup_fd(-1) == -1
