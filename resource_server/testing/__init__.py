"""Tests of applications: without a socket, on a server in a block, or in a process of its own.

::

    client = TestClient(Notes())
    assert client.notes_read(7).json() == {"text": "milk"}    # by the resource's method
    assert client.get("/notes/7").status_code == 200          # by the path

`TestClient` runs handlers in the thread of the test, with what the server does around them, and
raises in the test what they raise. `running` starts a server for as long as a block lasts,
`ServerProcess` one in an interpreter of its own. Fixtures for pytest are in `pytest_plugin`.
"""

from __future__ import annotations

from .client import TestClient
from .cookies import CookieJar
from .failures import ProcessFailed, RedirectLoop, ThreadsLeft, WebSocketRefused
from .process import ServerProcess
from .response import TestResponse
from .server import running
from .websocket import TestWebSocket

__all__ = [
    "CookieJar",
    "ProcessFailed",
    "RedirectLoop",
    "ServerProcess",
    "TestClient",
    "TestResponse",
    "TestWebSocket",
    "ThreadsLeft",
    "WebSocketRefused",
    "running",
]
