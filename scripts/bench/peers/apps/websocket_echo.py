"""Echoes of servers that know WebSockets alone.

python websocket_echo.py sync|asyncio|simple
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from scripts.bench.peers.apps import work


def websockets_sync() -> None:
    from websockets.sync.server import serve

    def echo(socket: Any) -> None:
        for message in socket:
            socket.send(message)

    with serve(echo, work.HOST, work.PORT, compression=None, ping_interval=None) as server:
        server.serve_forever()


async def websockets_asyncio() -> None:
    from websockets.asyncio.server import serve

    async def echo(socket: Any) -> None:
        async for message in socket:
            await socket.send(message)

    async with serve(echo, work.HOST, work.PORT, compression=None, ping_interval=None) as server:
        await server.serve_forever()


def simple_websocket() -> None:
    from simple_websocket import ConnectionClosed, Server
    from werkzeug.serving import make_server

    def app(environ: dict[str, Any], _start: Any) -> list[bytes]:
        socket = Server.accept(environ)
        try:
            while True:
                socket.send(socket.receive())
        except ConnectionClosed:
            return []

    make_server(work.HOST, work.PORT, app, threaded=True).serve_forever()


def main() -> None:
    if sys.argv[1] == "sync":
        websockets_sync()
    elif sys.argv[1] == "asyncio":
        asyncio.run(websockets_asyncio())
    else:
        simple_websocket()


if __name__ == "__main__":
    main()
