"""The application in tornado."""

from __future__ import annotations

import asyncio
import json
import logging

from tornado.web import Application, RequestHandler, StaticFileHandler
from tornado.websocket import WebSocketHandler

from scripts.bench.peers.apps import work


class Plain(RequestHandler):
    def compute_etag(self) -> None:
        """None: nobody else computes one for each answer."""


class Hello(Plain):
    def get(self) -> None:
        self.set_header("Content-Type", work.TEXT)
        self.finish(work.HELLO)


class User(Plain):
    def get(self, name: str, item: str) -> None:
        self.finish(work.user(name, item))


class Total(Plain):
    def post(self) -> None:
        self.finish(work.total(json.loads(self.request.body)))


class Page(Plain):
    def get(self) -> None:
        self.set_header("Content-Type", work.TEXT)
        self.finish(work.PAGE)


class Slow(Plain):
    async def get(self) -> None:
        await asyncio.sleep(work.SLEEP)
        self.set_header("Content-Type", work.TEXT)
        self.finish(work.SLEPT)


class Echo(WebSocketHandler):
    def on_message(self, message: str | bytes) -> None:
        self.write_message(message, isinstance(message, bytes))


async def main() -> None:
    logging.getLogger("tornado.access").setLevel(logging.ERROR)
    app = Application(
        [
            ("/", Hello),
            ("/user/([^/]+)/item/([^/]+)", User),
            ("/total", Total),
            ("/page", Page),
            ("/slow", Slow),
            ("/ws", Echo),
            ("/files/(.*)", StaticFileHandler, {"path": work.FILES}),
        ]
    )
    tls = None if work.TLS is None else {"certfile": work.TLS[1], "keyfile": work.TLS[0]}
    app.listen(work.PORT, work.HOST, ssl_options=tls, backlog=work.BACKLOG)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
