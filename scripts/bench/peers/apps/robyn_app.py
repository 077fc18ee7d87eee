"""The application in robyn, one process with one worker."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from robyn import Headers, Response, Robyn, WebSocketDisconnect, serve_file

from scripts.bench.peers.apps import work

app = Robyn(__file__)
TEXT, JSON = Headers({"Content-Type": work.TEXT}), Headers({"Content-Type": work.JSON})


@app.get("/")
def hello(request: Any) -> Any:
    return Response(200, TEXT, work.HELLO)


@app.get("/user/:name/item/:item")
def user(request: Any) -> Any:
    values = request.path_params
    return Response(200, JSON, json.dumps(work.user(values["name"], values["item"])))


@app.post("/total")
def total(request: Any) -> Any:
    return Response(200, JSON, json.dumps(work.total(json.loads(request.body))))


@app.get("/page")
def page(request: Any) -> Any:
    return Response(200, TEXT, work.PAGE)


@app.get("/slow")
async def slow(request: Any) -> Any:
    await asyncio.sleep(work.SLEEP)
    return Response(200, TEXT, work.SLEPT)


@app.get("/files/:name")
def file(request: Any) -> Any:
    return serve_file(os.path.join(work.FILES, request.path_params["name"]))


@app.websocket("/ws")
async def echo(websocket: Any) -> None:
    try:
        while True:
            await websocket.send_bytes(await websocket.receive_bytes())
    except WebSocketDisconnect:
        pass


if __name__ == "__main__":
    app.start(host=work.HOST, port=work.PORT, _check_port=False, keep_alive_timeout=work.KEEP_ALIVE)
