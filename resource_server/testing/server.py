"""A server for as long as a block lasts."""

from __future__ import annotations

import threading
from contextlib import contextmanager

from ..routing.router import Router
from ..server import HTTPServer
from .failures import threads_left

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


@contextmanager
def running(app: object, *, timeout: float = 5.0, **options: Any) -> Iterator[HTTPServer]:
    """Start a server on a free port of 127.0.0.1, and stop it at the end of the block.

    ::

        with running(Notes()) as server:
            requests.get(f"{server.url}/notes/7", timeout=10)

    `app` is a Router or anything that `Router.register_routes` takes, and `options` are those of
    HTTPServer; or it is an HTTPServer of your own that does not run, with its own address.
    `timeout` is how many seconds handlers may take to end.

    Raises ThreadsLeft at the end if a thread of the server is left then; OSError if it cannot
    start; TypeError for options of a server that was made already.
    """
    server = _server_of(app, options)
    before = set(threading.enumerate())
    server.start()
    try:
        yield server
    except BaseException as error:
        if not server.stop(timeout):
            error.add_note(str(_left(server, timeout, before)))
        raise
    if not server.stop(timeout):
        raise _left(server, timeout, before)


def _server_of(app: object, options: dict[str, Any]) -> HTTPServer:
    if isinstance(app, HTTPServer):
        if options:
            names = ", ".join(options)
            raise TypeError(f"the server is made already: give it {names} when you make it")
        return app
    if isinstance(app, Router):
        return HTTPServer(("127.0.0.1", 0), router=app, **options)
    server = HTTPServer(("127.0.0.1", 0), **options)
    server.register_routes(app)
    return server


def _left(server: HTTPServer, timeout: float, before: set[threading.Thread]) -> Exception:
    threads = [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("resource_server") and thread not in before
    ]
    return threads_left(
        f"{server.url} was told to stop, but after {timeout} seconds a handler still runs", threads
    )
