"""A source that a test gives the pieces, and an application that answers with it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from resource_server import Request, Resource, Response, get, post
from resource_server.streams import Source

if TYPE_CHECKING:
    from collections.abc import Callable


class Told(Source):
    """A source that a test gives the pieces, and that checks how it is treated."""

    def __init__(self, *pieces: object, keep_alive: float | None = None) -> None:
        self.keep_alive = keep_alive
        self.pieces: list[object] = list(pieces)
        self.requests: list[Request] = []
        self.wake: Callable[[], None] = lambda: None
        self.opened = threading.Event()
        self.stopped = threading.Event()
        self.closed = threading.Event()
        self.closings = 0
        self.taken = 0
        self.on_stop: object = b""
        self.on_open: BaseException | None = None
        self.idle_piece: object = b"."
        self._inside = threading.Lock()

    def give(self, *pieces: object) -> None:
        self.pieces += pieces
        self.wake()

    def open(self, request: Request, wake: Callable[[], None]) -> None:
        assert not self.requests
        self.requests.append(request)
        self.wake = wake
        # It may be woken before anybody listens.
        wake()
        self.opened.set()
        if self.on_open is not None:
            raise self.on_open

    def take(self) -> bytes | None:
        assert self._inside.acquire(blocking=False), "two threads take at once"
        try:
            assert not self.closings
            self.taken += 1
            piece = self.pieces.pop(0) if self.pieces else None
            if isinstance(piece, BaseException):
                raise piece
            return piece  # type: ignore[return-value]
        finally:
            self._inside.release()

    def idle(self) -> bytes:
        if isinstance(self.idle_piece, BaseException):
            raise self.idle_piece
        return self.idle_piece  # type: ignore[return-value]

    def stop(self) -> None:
        self.stopped.set()
        if isinstance(self.on_stop, BaseException):
            raise self.on_stop
        if self.on_stop is not None:
            self.pieces += [b"bye", self.on_stop]

    def close(self) -> None:
        self.closings += 1
        self.closed.set()


class App(Resource):
    """Answers with the source that a test puts in."""

    def __init__(self) -> None:
        super().__init__()
        self.source = Told()
        self.status = 200
        self.headers: dict[str, str] = {}

    @get("/")
    def index(self, request: Request) -> str:
        return "hello"

    @get("/it")
    def it(self, request: Request) -> Response:
        response = Response(None, self.status, self.headers)
        response.body = None
        response.source = self.source
        return response

    @post("/live", stream=True)
    def live(self, request: Request) -> Response:
        return self.it(request)

    @get("/worker", blocking=True)
    def worker(self, request: Request) -> Response:
        return self.it(request)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)
