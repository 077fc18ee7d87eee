"""The application in falcon, for WSGI."""

from __future__ import annotations

import os
import time
from typing import Any

import falcon

from scripts.bench.peers.apps import work


class Hello:
    def on_get(self, request: Any, response: Any) -> None:
        response.content_type = work.TEXT
        response.data = work.HELLO


class User:
    def on_get(self, request: Any, response: Any, name: str, item: str) -> None:
        response.media = work.user(name, item)


class Total:
    def on_post(self, request: Any, response: Any) -> None:
        response.media = work.total(request.media)


class Page:
    def on_get(self, request: Any, response: Any) -> None:
        response.content_type = work.TEXT
        response.data = work.PAGE


class Slow:
    def on_get(self, request: Any, response: Any) -> None:
        time.sleep(work.SLEEP)
        response.content_type = work.TEXT
        response.data = work.SLEPT


class Date:
    def process_response(self, request: Any, response: Any, resource: Any, succeeded: bool) -> None:
        response.set_header("Date", work.date())


app = falcon.App(middleware=[Date()] if "BENCH_DATE" in os.environ else [])
for pattern, resource in (
    ("/", Hello()),
    ("/user/{name}/item/{item}", User()),
    ("/total", Total()),
    ("/page", Page()),
    ("/slow", Slow()),
):
    app.add_route(pattern, resource)
app.add_static_route("/files", os.path.abspath(work.FILES))
