"""resource_server with its defaults, through a Router and a Resource."""

from __future__ import annotations

import gc
import os
import time
from typing import Any

from resource_server import (
    FileResource,
    HTTPServer,
    Request,
    Resource,
    Response,
    Router,
    WebSocketOpCode,
    WebSocketRequest,
    WebSocketSession,
    get,
    post,
    websocket,
    websocket_session,
)
from resource_server.protocol.limits import Limits
from scripts.bench.peers.apps import work


class Bench(Resource):
    @get("/")
    def hello(self, request: Request) -> Response:
        return Response("Hello, World!")

    @get("/user/:name/item/:item")
    def user(self, request: Request) -> dict[str, str]:
        return work.user(request.matches["name"], request.matches["item"])

    @post("/total")
    def total(self, request: Request) -> dict[str, Any]:
        return work.total(request.json())

    @get("/page")
    def page(self, request: Request) -> Response:
        return Response(work.PAGE, content_type=work.TEXT)

    @get("/slow")
    def slow(self, request: Request) -> Response:
        time.sleep(work.SLEEP)
        return Response("slept")

    @get("/memory")
    def memory(self, request: Request) -> Response:
        """Python's own memory in bytes, if it is traced."""
        import tracemalloc

        gc.collect()
        return Response(str(tracemalloc.get_traced_memory()[0]))


class Echo(Resource):
    @websocket("/ws", compression=False, ping_interval=None)
    def echo(self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: Any) -> None:
        if opcode is WebSocketOpCode.Text or opcode is WebSocketOpCode.Binary:
            request.send(payload)


class SessionEcho(Resource):
    @websocket_session("/ws", compression=False, ping_interval=None, max_sessions=10_000)
    def echo(self, socket: WebSocketSession) -> None:
        for message in socket:
            socket.send(message)


def main() -> None:
    router = Router()
    router.register_routes(Bench())
    router.register_routes(SessionEcho() if "BENCH_SESSIONS" in os.environ else Echo())
    router.mount("/files", FileResource(work.FILES))
    key, certificate = work.TLS or (None, None)
    if "BENCH_TRACE" in os.environ:
        # Imported when it is wanted: who measures the start of a server does not.
        import tracemalloc

        tracemalloc.start()
    HTTPServer(
        (work.HOST, work.PORT),
        key,
        certificate,
        router=router,
        limits=Limits(keep_alive=work.KEEP_ALIVE),
        max_connections=work.CONNECTIONS,
        backlog=work.BACKLOG,
    ).run()


if __name__ == "__main__":
    main()
