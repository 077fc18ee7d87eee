"""A bare ASGI application: no framework, as little as the answers need."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from scripts.bench.peers.apps import work

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

TEXT, JSON = work.TEXT.encode(), work.JSON.encode()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        return await echo(receive, send)
    if scope["type"] == "lifespan":
        return await live(receive, send)
    path = scope["path"]
    if path == "/":
        return await answer(send, TEXT, work.HELLO)
    parts = path.split("/")
    if len(parts) == 5 and parts[1] == "user" and parts[3] == "item":
        return await answer(send, JSON, json.dumps(work.user(parts[2], parts[4])).encode())
    if path == "/total":
        order = json.loads(await body(receive))
        return await answer(send, JSON, json.dumps(work.total(order)).encode())
    if path == "/page":
        return await answer(send, TEXT, work.PAGE)
    if path == "/slow":
        await asyncio.sleep(work.SLEEP)
        return await answer(send, TEXT, work.SLEPT)
    return await answer(send, TEXT, b"not found", 404)


async def live(receive: Receive, send: Send) -> None:
    for stage in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{stage}.complete"})


async def answer(send: Send, content_type: bytes, content: bytes, status: int = 200) -> None:
    fields = [(b"content-type", content_type), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": content})


async def body(receive: Receive) -> bytes:
    pieces = []
    while True:
        message = await receive()
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(pieces)


async def echo(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        if message["type"] == "websocket.connect":
            await send({"type": "websocket.accept"})
        elif message["type"] == "websocket.disconnect":
            return
        elif message.get("bytes") is not None:
            await send({"type": "websocket.send", "bytes": message["bytes"]})
        else:
            await send({"type": "websocket.send", "text": message["text"]})
