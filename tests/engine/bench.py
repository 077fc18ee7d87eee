"""A loop with stub endpoints, for tests to lead themselves, or to have led."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from resource_server import Limits, Response
from resource_server.engine.connection import Connection
from resource_server.engine.crew import Crew
from resource_server.engine.listener import Listener, bind
from resource_server.engine.loop import Loop
from resource_server.engine.state import State
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from resource_server import HTTPError, Request, UploadProgress


class Stub:
    """An endpoint without a Router."""

    def __init__(self, answer: Callable[[Request], Any], **options: Any) -> None:
        self.answer = answer
        self.max_content_length = 1000
        self.stream = False
        self.decode: bool | None = False
        self.progress: UploadProgress | None = None
        self.blocking: bool | None = None
        self.expect: Callable[[Request], object] | None = None
        self.error: HTTPError | None = None
        self.mean = 0.0
        self.slow = False
        for name, value in options.items():
            setattr(self, name, value)

    def __call__(self, request: Request) -> Response:
        answer = self.answer(request)
        return answer if isinstance(answer, Response) else Response(answer)

    def fail(self, request: Request, error: BaseException) -> Response:
        return Response(str(error), getattr(error, "status_code", 500))


class Bench:
    """A loop that listens, and that nobody leads until a test does."""

    def __init__(self, limits: Limits | None = None, **options: Any) -> None:
        self.endpoints: dict[str, Stub] = {"/": Stub(lambda _: "hello")}
        self.crew = Crew(4)
        self.loop = Loop(
            lambda request: self.endpoints[request.raw_path],
            limits or Limits(),
            self.crew,
            **{"max_connections": 100, **options},
        )
        self.listener = Listener(bind(("127.0.0.1", 0), 10)[0], self.loop)
        self.loop.listen([self.listener])
        self.address = self.listener.address
        self.leading = False

    def lead(self) -> None:
        self.leading = True
        self.crew.submit(self.loop.stand_by, role=True)
        self.crew.submit(self.loop.lead, role=True)

    def turn(self) -> None:
        """One round of the loop: wait, then serve what is ready."""
        self.loop._wait()
        ready = self.loop._ready
        while ready:
            source, mask = ready.popleft()
            assert source.on_event(mask)
        self.loop._send_gathered()

    @property
    def connections(self) -> list[Connection]:
        """Those that speak HTTP."""
        return [each for each in self.loop.connections if isinstance(each, Connection)]

    def connect(self) -> Client:
        client = Client(self.address)
        if not self.leading:
            before = len(self.loop.connections)
            while len(self.loop.connections) == before:
                self.turn()
        return client

    def stop(self) -> None:
        if self.leading:
            self.loop.stop(time.monotonic())
            assert self.loop.ended.wait(PATIENCE)
        else:
            for connection in self.connections:
                connection.close()
            self.loop.give_up()
        assert self.crew.join(time.monotonic() + PATIENCE)


def state_of(connection: Connection) -> State:
    """The state as it is now: a type checker takes an attribute to stay as it was compared."""
    return connection.state


def is_paused(loop: Loop) -> bool:
    """Whether accepting is paused now; a function as `state_of` is."""
    return loop._paused
