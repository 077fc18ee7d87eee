"""What all tests share: the selector under test, a server in a fixture, and no leaks."""

from __future__ import annotations

import gc
import os
import selectors
import stat
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from resource_server import HTTPServer

if os.environ.get("RESOURCE_SERVER_SELECTOR") == "select":
    # Before anything of the package is imported, so that it meets only this one.
    selectors.DefaultSelector = selectors.SelectSelector  # type: ignore[misc,assignment]

hypothesis.settings.register_profile("project", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("project")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the collector what lives until the end: more than a million objects of 14,000 tests.

    It would find nothing to free among them, time and again, while they are made and ever after.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


#: Seconds that a thread of a stopped server may take to be gone from the list of threads.
THREADS_END_WITHIN = 5.0


class Serve(Protocol):
    """The type of the ``serve`` fixture."""

    def __call__(
        self, routes: object = None, *, address: Any = ("127.0.0.1", 0), **options: Any
    ) -> HTTPServer: ...


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers on free ports of 127.0.0.1; they are stopped when the test ends.

    ``serve(resource_or_class_or_list_or_router, **options_of_HTTPServer) -> HTTPServer``
    """
    from resource_server import HTTPServer, Router

    with ExitStack() as servers:

        def start(
            routes: object = None, *, address: Any = ("127.0.0.1", 0), **options: Any
        ) -> HTTPServer:
            if isinstance(routes, Router):
                server = HTTPServer(address, router=routes, **options)
            else:
                server = HTTPServer(address, **options)
                if routes is not None:
                    server.register_routes(routes)
            server.start()
            servers.callback(server.stop)
            return server

        yield start


def server_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("resource_server")]


def open_sockets() -> set[str]:
    """Return the identity of each open socket of this process; empty where the system hides it."""
    sockets: set[str] = set()
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return sockets
    for name in names:
        try:
            status = os.fstat(int(name))
        except OSError:
            continue  # the descriptor of the listing itself
        if stat.S_ISSOCK(status.st_mode):
            sockets.add(os.readlink(f"/proc/self/fd/{name}"))
    return sockets


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """Fail a test that leaves a thread of a server, unless one of a wider fixture was running."""
    shared = server_threads()
    yield
    if shared:
        return
    deadline = time.monotonic() + THREADS_END_WITHIN
    for thread in server_threads():
        thread.join(max(0.0, deadline - time.monotonic()))
    assert server_threads() == []


@pytest.fixture(autouse=True, scope="session")
def nothing_left() -> Iterator[None]:
    """Fail the session if a thread of a server or a socket is left when all tests have run."""
    before = open_sockets()
    yield
    gc.collect()
    assert server_threads() == []
    assert open_sockets() - before == set()
