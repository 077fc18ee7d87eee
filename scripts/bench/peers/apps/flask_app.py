"""The application in flask."""

from __future__ import annotations

import os
import time
from typing import Any

from flask import Flask, Response, request, send_from_directory

from scripts.bench.peers.apps import work

app = Flask(__name__)

if "BENCH_DATE" in os.environ:

    @app.after_request
    def tell_date(response: Response) -> Response:
        response.headers["Date"] = work.date()
        return response


@app.get("/")
def hello() -> Response:
    return Response(work.HELLO, content_type=work.TEXT)


@app.get("/user/<name>/item/<item>")
def user(name: str, item: str) -> dict[str, str]:
    return work.user(name, item)


@app.post("/total")
def total() -> dict[str, Any]:
    return work.total(request.get_json())


@app.get("/page")
def page() -> Response:
    return Response(work.PAGE, content_type=work.TEXT)


@app.get("/slow")
def slow() -> Response:
    time.sleep(work.SLEEP)
    return Response(work.SLEPT, content_type=work.TEXT)


@app.get("/files/<name>")
def file(name: str) -> Any:
    return send_from_directory(work.FILES, name)
