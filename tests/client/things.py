"""An application whose answers tell what it was asked."""

from __future__ import annotations

import threading
from typing import Any

from resource_server import (
    ErrorResponse,
    Request,
    RequestHandle,
    Resource,
    Response,
    StreamResponse,
    delete,
    get,
    head,
    options,
    patch,
    post,
    put,
)
from resource_server.errors import Conflict, Unauthorized

PATIENCE = 30.0


class Things(Resource):
    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.at_work = threading.Semaphore(0)

    @get("/seen")
    def seen(self, request: Request) -> dict[str, Any]:
        return {
            "target": request.target,
            "params": request.params,
            "headers": request.headers.fields(),
        }

    @post("/seen")
    @put("/seen")
    @patch("/seen")
    def taken(self, request: Request) -> dict[str, Any]:
        return {
            "method": request.method,
            "type": request.content_type,
            "length": request.headers.get("content-length"),
            "coding": request.headers.get("transfer-encoding"),
            "body": request.body().decode(),
        }

    @delete("/seen")
    def gone(self, request: Request) -> None:
        return None

    @head("/only-head")
    def only_head(self, request: Request) -> Response:
        return Response(b"", headers={"X-Length": "none"})

    @options("/seen")
    def can(self, request: Request) -> Response:
        return Response("can", headers={"Allow": "GET"})

    @get("/bytes")
    def octets(self, request: Request) -> bytes:
        return bytes(range(256))

    @get("/latin")
    def latin(self, request: Request) -> Response:
        return Response("caf\xe9".encode("latin-1"), content_type="text/plain; charset=iso-8859-1")

    @get("/odd-charset")
    def odd_charset(self, request: Request) -> Response:
        return Response("\xe9".encode(), content_type="text/plain; charset=rot13")

    @get("/no-json")
    def no_json(self, request: Request) -> Response:
        return Response("{", content_type="application/json")

    @get("/problem")
    def problem(self, request: Request) -> Response:
        return ErrorResponse({"detail": "why"}, 409)

    @get("/conflict")
    def conflict(self, request: Request) -> Response:
        raise Conflict("not twice")

    @get("/login")
    def login(self, request: Request) -> Response:
        raise Unauthorized('Basic realm="x"')

    @get("/strange")
    def strange(self, request: Request) -> Response:
        return Response("strange", 600)

    @get("/cookie")
    def cookie(self, request: Request) -> Response:
        response = Response("set")
        response.set_cookie("c", "1")
        return response

    @get("/pieces")
    def pieces(self, request: Request) -> Response:
        return StreamResponse(f"{number}," for number in range(1000))

    @get("/wait", blocking=True)
    def wait(self, request: Request) -> str:
        self.at_work.release()
        assert self.go_on.wait(PATIENCE)
        return "waited"


def seen(handle: RequestHandle) -> Any:
    return handle.result(PATIENCE).json()
