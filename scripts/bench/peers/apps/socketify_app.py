"""The application in socketify, on its own loop."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from socketify import App, AppListenOptions, AppOptions, sendfile

from scripts.bench.peers.apps import work


def answer(response: Any, content_type: str, content: bytes | str) -> None:
    response.write_header("Content-Type", content_type)
    response.write_header("Date", work.date())
    if work.CLOSE:
        # Else the client sends another request (RFC 9112 §9.6).
        response.write_header("Connection", "close")
    response.end(content)


def hello(response: Any, request: Any) -> None:
    answer(response, work.TEXT, work.HELLO)


def user(response: Any, request: Any) -> None:
    found = work.user(request.get_parameter(0), request.get_parameter(1))
    answer(response, work.JSON, json.dumps(found))


def total(response: Any, request: Any) -> None:
    pieces: list[bytes] = []

    def on_data(response: Any, chunk: bytes, is_end: bool) -> None:
        if chunk:
            pieces.append(chunk)
        if is_end:
            answer(response, work.JSON, json.dumps(work.total(json.loads(b"".join(pieces)))))

    response.on_aborted(lambda response: None)
    response.on_data(on_data)


def page(response: Any, request: Any) -> None:
    answer(response, work.TEXT, work.PAGE)


async def slow(response: Any, request: Any) -> None:
    await asyncio.sleep(work.SLEEP)
    response.cork(lambda response: answer(response, work.TEXT, work.SLEPT))


async def file(response: Any, request: Any) -> None:
    await sendfile(response, request, os.path.join(work.FILES, request.get_parameter(0)))


def echo(socket: Any, message: bytes | str, opcode: Any) -> None:
    socket.send(message, opcode)


def main() -> None:
    options = None
    if work.TLS is not None:
        options = AppOptions(key_file_name=work.TLS[0], cert_file_name=work.TLS[1])
    app = App(options)
    app.get("/", hello)
    app.get("/user/:name/item/:item", user)
    app.post("/total", total)
    app.get("/page", page)
    app.get("/slow", slow)
    app.get("/files/:name", file)
    limits = {"max_payload_length": 1 << 20, "idle_timeout": 0}
    app.ws("/ws", {"compression": 0, "message": echo, **limits})
    app.listen(AppListenOptions(port=work.PORT, host=work.HOST))
    app.run()


if __name__ == "__main__":
    main()
