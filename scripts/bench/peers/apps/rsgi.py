"""A bare RSGI application, granian's own interface."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from scripts.bench.peers.apps import work

TEXT, JSON = [("content-type", work.TEXT)], [("content-type", work.JSON)]
BINARY = [("content-type", work.BINARY)]


async def app(scope: Any, protocol: Any) -> Any:
    if scope.proto == "ws":
        return await echo(protocol)
    path = scope.path
    if path == "/":
        return protocol.response_bytes(200, TEXT, work.HELLO)
    parts = path.split("/")
    if len(parts) == 5 and parts[1] == "user" and parts[3] == "item":
        return protocol.response_str(200, JSON, json.dumps(work.user(parts[2], parts[4])))
    if path == "/total":
        order = json.loads(await protocol())
        return protocol.response_str(200, JSON, json.dumps(work.total(order)))
    if path == "/page":
        return protocol.response_bytes(200, TEXT, work.PAGE)
    if path == "/slow":
        await asyncio.sleep(work.SLEEP)
        return protocol.response_bytes(200, TEXT, work.SLEPT)
    if len(parts) == 3 and parts[1] == "files":
        return protocol.response_file(200, BINARY, os.path.join(work.FILES, parts[2]))
    return protocol.response_empty(404, [])


async def echo(protocol: Any) -> None:
    transport = await protocol.accept()
    while True:
        message = await transport.receive()
        if message.kind == 0:
            break
        if message.kind == 1:
            await transport.send_bytes(message.data)
        else:
            await transport.send_str(message.data)
    protocol.close()
