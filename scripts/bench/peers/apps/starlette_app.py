"""The application in starlette."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles

from scripts.bench.peers.apps import work

TEXT = {"content-type": work.TEXT}


async def hello(request: Any) -> Any:
    return Response(work.HELLO, headers=TEXT)


async def user(request: Any) -> Any:
    return JSONResponse(work.user(request.path_params["name"], request.path_params["item"]))


async def total(request: Any) -> Any:
    return JSONResponse(work.total(await request.json()))


async def page(request: Any) -> Any:
    return Response(work.PAGE, headers=TEXT)


async def slow(request: Any) -> Any:
    await asyncio.sleep(work.SLEEP)
    return Response(work.SLEPT, headers=TEXT)


async def echo(socket: Any) -> None:
    await socket.accept()
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        if message.get("bytes") is not None:
            await socket.send_bytes(message["bytes"])
        else:
            await socket.send_text(message["text"])


app = Starlette(
    routes=[
        Route("/", hello),
        Route("/user/{name}/item/{item}", user),
        Route("/total", total, methods=["POST"]),
        Route("/page", page),
        Route("/slow", slow),
        WebSocketRoute("/ws", echo),
        Mount("/files", StaticFiles(directory=work.FILES)),
    ]
)
