"""Fixtures for pytest, which finds them by itself where the package is installed.

::

    def test_it_answers(http_client):
        client = http_client(Notes())
        assert client.get("/notes/7").result().json() == {"text": "milk"}

Of the package only what a test uses is imported, when it uses it.
"""

from __future__ import annotations

import pytest

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Protocol

    from .client import HTTPClient
    from .server import HTTPServer

    class ServerFactory(Protocol):
        """The type of the fixture `http_server`."""

        def __call__(self, app: object, **options: Any) -> HTTPServer:
            """Start a server, as `testing.running` does."""

    class ClientFactory(Protocol):
        """The type of the fixture `http_client`."""

        def __call__(self, app: object, **options: Any) -> HTTPClient:
            """Return a client of a server."""


@pytest.fixture
def http_server() -> Iterator[ServerFactory]:
    """Start servers on free ports of 127.0.0.1; each is stopped when the test ends.

    ``http_server(app, **options) -> HTTPServer``, as `resource_server.testing.running` has them;
    the test fails if a server leaves threads behind.
    """
    from contextlib import ExitStack

    with ExitStack() as servers:

        def start(app: object, **options: Any) -> HTTPServer:
            from .testing.server import running

            return servers.enter_context(running(app, **options))

        yield start


@pytest.fixture
def http_client(http_server: ServerFactory) -> Iterator[ClientFactory]:
    """Make clients of servers; each is stopped when the test ends, before the servers are.

    ``http_client(app, **options) -> HTTPClient`` with the options of HTTPClient. `app` is a server
    that runs, or what `http_server` starts.
    """
    from contextlib import ExitStack

    with ExitStack() as clients:

        def connect(app: object, **options: Any) -> HTTPClient:
            from .client import HTTPClient
            from .server import HTTPServer

            running = isinstance(app, HTTPServer) and app.running
            server = app if running and isinstance(app, HTTPServer) else http_server(app)
            return clients.enter_context(HTTPClient.from_url(server.url, **options))

        yield connect
