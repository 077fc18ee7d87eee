"""A bare WSGI application (PEP 3333): no framework, as little as the answers need."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO

from scripts.bench.peers.apps import work

Environ = dict[str, Any]
Start = Callable[[str, list[tuple[str, str]]], object]

#: Whether the server sends no Date itself.
DATELESS = "BENCH_DATE" in os.environ


def app(environ: Environ, start: Start) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/":
        return answer(start, work.TEXT, work.HELLO)
    parts = path.split("/")
    if len(parts) == 5 and parts[1] == "user" and parts[3] == "item":
        return answer(start, work.JSON, json.dumps(work.user(parts[2], parts[4])).encode())
    if path == "/total" and environ["REQUEST_METHOD"] == "POST":
        order = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        return answer(start, work.JSON, json.dumps(work.total(order)).encode())
    if path == "/page":
        return answer(start, work.TEXT, work.PAGE)
    if path == "/slow":
        time.sleep(work.SLEEP)
        return answer(start, work.TEXT, work.SLEPT)
    if len(parts) == 3 and parts[1] == "files":
        return file(environ, start, os.path.join(work.FILES, parts[2]))
    start("404 Not Found", [("Content-Length", "0")])
    return [b""]


def answer(start: Start, content_type: str, body: bytes) -> Iterable[bytes]:
    fields = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
    if DATELESS:
        fields.append(("Date", work.date()))
    start("200 OK", fields)
    return [body]


def file(environ: Environ, start: Start, path: str) -> Iterable[bytes]:
    content = open(path, "rb")  # noqa: SIM115 - the server closes it
    fields = [
        ("Content-Type", work.BINARY),
        ("Content-Length", str(os.fstat(content.fileno()).st_size)),
    ]
    if DATELESS:
        fields.append(("Date", work.date()))
    start("200 OK", fields)
    wrapper = environ.get("wsgi.file_wrapper", pieces)
    wrapped: Iterable[bytes] = wrapper(content, 65536)
    return wrapped


def pieces(content: BinaryIO, size: int) -> Iterator[bytes]:
    """In place of a file wrapper, for servers that have none."""
    with content:
        while piece := content.read(size):
            yield piece
