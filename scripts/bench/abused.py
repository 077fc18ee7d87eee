"""The server that `abuse.py` abuses, with a ledger of all that its handlers are called for."""

from __future__ import annotations

import gc
import logging
import os
import struct
import sys
import threading
import time
import tracemalloc
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from resource_server import (
    HTTPServer,
    Resource,
    WebSocketClosed,
    WebSocketGroup,
    WebSocketOpCode,
    get,
    websocket,
    websocket_session,
)
from resource_server.protocol.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resource_server import Request, WebSocketRequest, WebSocketSession

#: Seconds, so short that all that is given up on ends within the minute.
LIMITS = Limits(head=2.0, write=4.0, closing=1.0, keep_alive=30.0)
PINGS = 2.0
#: How many threads send into one connection.
THREADS = 200
#: What a message begins with that has a number.
NUMBER = struct.Struct("!Q")


class Ledger:
    """What has been called for each connection, and what should not have been."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, int] = {}
        self._inside: set[str] = set()
        self.opened = 0
        self.closed = 0
        self.faults: list[str] = []

    def open(self, uid: str) -> None:
        with self._lock:
            self.opened += 1
            if uid in self._open:
                self.faults.append("a second Open")
            self._open[uid] = 0

    def close(self, uid: str) -> None:
        with self._lock:
            self.closed += 1
            if self._open.pop(uid, None) is None:
                self.faults.append("a Close without Open, or a second one")

    @contextmanager
    def call(self, uid: str) -> Iterator[None]:
        """Within a call of a handler."""
        with self._lock:
            if uid in self._inside:
                self.faults.append("calls overlap")
            self._inside.add(uid)
        try:
            yield
        finally:
            with self._lock:
                self._inside.discard(uid)

    def number(self, uid: str, payload: bytes) -> None:
        """A message that begins with its number in its connection."""
        (number,) = NUMBER.unpack_from(payload)
        with self._lock:
            if self._open.get(uid) != number:
                self.faults.append(f"message {number} came as {self._open.get(uid)}")
            self._open[uid] = number + 1


class Abused(Resource):
    """What is abused; each handler takes what it is asked for from the message."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.group = WebSocketGroup()
        self.threads: Counter[str] = Counter()

    def _told(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: object) -> bool:
        """Keep the ledger; tell whether it is a message."""
        if opcode is WebSocketOpCode.Open:
            self.ledger.open(request.uid)
        elif opcode is WebSocketOpCode.Close:
            self.ledger.close(request.uid)
        elif isinstance(payload, bytes) and len(payload) >= 8 and opcode is WebSocketOpCode.Binary:
            self.ledger.number(request.uid, payload)
        return opcode in (WebSocketOpCode.Text, WebSocketOpCode.Binary)

    @websocket("/echo", ping_interval=PINGS, ping_timeout=PINGS)
    def echo(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str) -> None:
        with self.ledger.call(request.uid):
            if self._told(request, opcode, payload):
                request.send(payload)

    @websocket("/sink", pings=True, max_message_size=100_000)
    def sink(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str) -> None:
        with self.ledger.call(request.uid):
            self._told(request, opcode, payload)

    @websocket("/sleep", pings=True)
    def sleep(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str) -> None:
        with self.ledger.call(request.uid):
            if self._told(request, opcode, payload):
                time.sleep(0.02)

    @websocket("/group", ping_interval=PINGS, ping_timeout=PINGS)
    def members(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str) -> None:
        with self.ledger.call(request.uid):
            if opcode is WebSocketOpCode.Open:
                self.group.add(request)
            if self._told(request, opcode, payload):
                self.group.send(payload)

    @websocket("/rude")
    def rude(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str) -> None:
        with self.ledger.call(request.uid):
            message = self._told(request, opcode, payload)
            if message and payload == "close":
                request.close(4000, "as asked")
            elif message or request.target.endswith(opcode.name):
                raise ValueError("as asked")

    def _feed(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str) -> None:
        with self.ledger.call(request.uid):
            if self._told(request, opcode, payload):
                for _ in range(100):
                    request.send(b"fed." * 8192)

    @websocket("/block", max_buffered=100_000, ping_interval=PINGS, ping_timeout=PINGS)
    def block(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str) -> None:
        self._feed(request, opcode, payload)

    @websocket("/drop", overflow="drop", max_buffered=100_000)
    def drop(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str) -> None:
        self._feed(request, opcode, payload)

    @websocket("/cut", overflow="close", max_buffered=100_000)
    def cut(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str) -> None:
        self._feed(request, opcode, payload)

    @websocket("/threads", max_buffered=50_000)
    def many(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str) -> None:
        with self.ledger.call(request.uid):
            if self._told(request, opcode, payload):
                for number in range(THREADS):
                    threading.Thread(target=self._say, args=(request, number), daemon=True).start()

    def _say(self, request: WebSocketRequest, number: int) -> None:
        try:
            for count in range(20):
                request.send(f"{number} {count} ".ljust(600, "."))
        except WebSocketClosed:
            pass
        except BaseException as error:
            self.ledger.faults.append(f"send raised {error!r}")
            raise

    @websocket_session("/session", max_sessions=64, ping_interval=PINGS, ping_timeout=PINGS)
    def converse(self, socket: WebSocketSession) -> None:
        self.ledger.open(socket.uid)
        try:
            with self.ledger.call(socket.uid):
                for message in socket:
                    if message == "raise":
                        raise ValueError("as asked")
                    if message == "leave":
                        return
                    socket.send(message)
        finally:
            self.ledger.close(socket.uid)

    @get("/quick")
    def quick(self, _request: Request) -> str:
        return "Hello, World!"

    @get("/slow", blocking=True)
    def slow(self, _request: Request) -> str:
        time.sleep(0.001)
        return "Hello, World!"

    @get("/report")
    def report(self, _request: Request) -> dict[str, object]:
        for _ in range(3):
            gc.collect()
        kinds = Counter(type(each).__name__ for each in gc.get_objects())
        return {
            "opened": self.ledger.opened,
            "closed": self.ledger.closed,
            "faults": self.ledger.faults[:10],
            "members": len(self.group),
            "threads": threading.active_count(),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "objects": sum(kinds.values()),
            "sockets": kinds["WebSocketConnection"] + kinds["WebSocketRequest"],
            "KiB": tracemalloc.get_traced_memory()[0] // 1024,
        }


def serve() -> None:
    """Be the server; until the standard input ends."""
    sys.setswitchinterval(0.001)  # as the command line does
    only_log_news()
    tracemalloc.start()
    with HTTPServer(("127.0.0.1", 0), limits=LIMITS) as server:
        server.register_routes(Abused())
        print(server.address[1], flush=True)
        sys.stdin.read()


def only_log_news() -> None:
    """Leave out of the log what was asked for."""
    logging.getLogger("resource_server").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    return not (record.exc_info and "as asked" in str(record.exc_info[1]))
