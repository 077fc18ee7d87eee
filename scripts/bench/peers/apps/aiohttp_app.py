"""The application in aiohttp, on uvloop."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import uvloop
from aiohttp import WSMsgType, web

from scripts.bench.peers.apps import work


async def hello(request: Any) -> Any:
    return web.Response(body=work.HELLO, headers={"Content-Type": work.TEXT})


async def user(request: Any) -> Any:
    return web.json_response(work.user(request.match_info["name"], request.match_info["item"]))


async def total(request: Any) -> Any:
    return web.json_response(work.total(await request.json()))


async def page(request: Any) -> Any:
    return web.Response(body=work.PAGE, headers={"Content-Type": work.TEXT})


async def slow(request: Any) -> Any:
    await asyncio.sleep(work.SLEEP)
    return web.Response(body=work.SLEPT, headers={"Content-Type": work.TEXT})


async def echo(request: Any) -> Any:
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
        elif message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


def main() -> None:
    app = web.Application()
    app.router.add_get("/", hello)
    app.router.add_get("/user/{name}/item/{item}", user)
    app.router.add_post("/total", total)
    app.router.add_get("/page", page)
    app.router.add_get("/slow", slow)
    app.router.add_get("/ws", echo)
    app.router.add_static("/files", work.FILES)
    context = None
    if work.TLS is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(work.TLS[1], work.TLS[0])
    web.run_app(
        app,
        host=work.HOST,
        port=work.PORT,
        ssl_context=context,
        backlog=work.BACKLOG,
        keepalive_timeout=work.KEEP_ALIVE,
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
