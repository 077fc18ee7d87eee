"""The application in bottle."""

from __future__ import annotations

import os
import time
from typing import Any

from bottle import Bottle, request, response, static_file

from scripts.bench.peers.apps import work

app = Bottle()
#: Whether the server sends no Date itself.
DATELESS = "BENCH_DATE" in os.environ


if DATELESS:

    @app.hook("after_request")
    def tell_date() -> None:
        response.set_header("Date", work.date())


@app.get("/")
def hello() -> bytes:
    response.content_type = work.TEXT
    return work.HELLO


@app.get("/user/<name>/item/<item>")
def user(name: str, item: str) -> dict[str, str]:
    return work.user(name, item)


@app.post("/total")
def total() -> dict[str, Any]:
    return work.total(request.json)


@app.get("/page")
def page() -> bytes:
    response.content_type = work.TEXT
    return work.PAGE


@app.get("/slow")
def slow() -> bytes:
    time.sleep(work.SLEEP)
    response.content_type = work.TEXT
    return work.SLEPT


@app.get("/files/<name>")
def file(name: str) -> Any:
    return static_file(name, root=work.FILES)
