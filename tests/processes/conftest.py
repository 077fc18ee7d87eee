"""Programs that serve with several processes: real ones, each of which the test ends."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote

import pytest

from tests.command import PATIENCE, PROJECT, Command
from tests.rawclient import Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

if not hasattr(os, "fork"):
    pytest.skip("needs fork", allow_module_level=True)

#: What every program begins with. It logs to standard error, without the times.
BEGINNING = r"""
import atexit, logging, os, random, signal, socket, sys, threading
from resource_server import HTTPServer, Request, Resource, Response, get, post

logging.basicConfig(level=logging.INFO, format="%(message)s")
logging.getLogger("resource_server.access").setLevel(logging.WARNING)

class App(Resource):
    @get("/pid")
    def pid(self, request):
        return str(os.getpid())

    @get("/random")
    def random(self, request):
        return str(random.random())

    @post("/slow", stream=True)
    def slow(self, request):
        yield b"begun"
        yield request.stream.read()

    @get("/stop")
    def stop(self, request):
        server.stop()

def say(*words):
    # In one piece, as several processes write.
    os.write(1, (" ".join(map(str, words)) + "\n").encode())
"""

#: … and what it ends with, if nothing else is given.
ENDING = """\
server = HTTPServer(address)
server.register_routes(App)
server.run(processes=2, ready=lambda: say(server.url))
say("done")
"""


class Program(Protocol):
    """The type of the ``program`` fixture."""

    def __call__(self, ending: str = ENDING, *, address: object = ("127.0.0.1", 0)) -> Command: ...


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """Start a program of `BEGINNING` and an ending of its own; it is ended with the test."""
    with ExitStack() as commands:

        def start(ending: str = ENDING, *, address: object = ("127.0.0.1", 0)) -> Command:
            file = tmp_path / "program.py"
            middle = f"address = {address!r}\n"
            file.write_text(BEGINNING + middle + textwrap.dedent(ending))
            environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
            command = Command([sys.executable, "-W", "error", str(file)], tmp_path, environment)
            commands.callback(command.close)
            return command

        yield start


def address_of(url: str) -> tuple[str, int]:
    scheme, _, place = url.partition("://")
    if "+unix" in scheme:
        return (unquote(place), 0)
    host, _, port = place.rpartition(":")
    return (host, int(port))


def ask(address: tuple[str, int], path: str = "/pid") -> str:
    """Ask once, on a connection of its own."""
    with Client(address) as client:
        answer = client.get(path, "Connection: close")
        assert answer.status == 200
        return answer.body.decode()


def pids_of(address: tuple[str, int], *, but: set[int] | None = None) -> set[int]:
    """Find out the two processes that serve; each has its share of the connections.

    :param but: those that are leaving, and may still take a connection or two.
    """
    found: set[int] = set()
    deadline = time.monotonic() + PATIENCE
    while len(found) < 2:
        assert time.monotonic() < deadline, f"only {found} answer"
        found.add(int(ask(address)))
        found -= but or set()
    return found


def wait_for_answer(address: tuple[str, int], path: str, answer: str) -> None:
    """Ask until both processes answer this, as far as can be told."""
    deadline = time.monotonic() + PATIENCE
    while {ask(address, path) for _ in range(10)} != {answer}:
        assert time.monotonic() < deadline, f"{answer} is not answered"


def begin_slow(client: Client) -> None:
    """Send half of a request that is being answered when this returns."""
    client.send(b"POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
    assert b" 200 " in client.head()
    assert client.some(3) == b"5\r\n"
    begun = b""
    while len(begun) < 7:
        begun += client.some(7 - len(begun))
    assert begun == b"begun\r\n"


def end_slow(client: Client) -> None:
    """Send the other half, and read the answer's end."""
    client.send(b"def")
    end = b""
    while not end.endswith(b"0\r\n\r\n"):
        data = client.some()
        assert data, f"cut after {end!r}"
        end += data
    assert end == b"6\r\nabcdef\r\n0\r\n\r\n"
