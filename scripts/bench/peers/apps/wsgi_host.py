"""Serves a WSGI application by one of the servers that have no command of their own for it.

python wsgi_host.py SERVER MODULE
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from scripts.bench.peers.apps import work


def waitress(app: Any) -> None:
    from waitress import serve

    serve(
        app,
        host=work.HOST,
        port=work.PORT,
        threads=work.THREADS,
        connection_limit=work.CONNECTIONS,
        backlog=work.BACKLOG,
        channel_timeout=work.KEEP_ALIVE,
        # Its select() takes no more than 1024 descriptors.
        asyncore_use_poll=True,
    )


def cheroot(app: Any) -> None:
    from cheroot.ssl.builtin import BuiltinSSLAdapter
    from cheroot.wsgi import Server

    server = Server(
        (work.HOST, work.PORT),
        app,
        numthreads=work.THREADS,
        timeout=work.KEEP_ALIVE,
        request_queue_size=work.BACKLOG,
    )
    server.keep_alive_conn_limit = work.CONNECTIONS
    if work.TLS is not None:
        server.ssl_adapter = BuiltinSSLAdapter(work.TLS[1], work.TLS[0])
    server.start()


def werkzeug(app: Any) -> None:
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Handler(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def log_request(self, code: object = "-", size: object = "-") -> None:
            pass

    server = make_server(
        work.HOST,
        work.PORT,
        app,
        threaded=True,
        request_handler=Handler,
        ssl_context=None if work.TLS is None else (work.TLS[1], work.TLS[0]),
    )
    server.socket.listen(work.BACKLOG)
    server.serve_forever()


def bjoern(app: Any) -> None:
    from bjoern import run

    run(app, work.HOST, work.PORT)


def fastwsgi(app: Any) -> None:
    from fastwsgi import run, server

    server.backlog = work.BACKLOG
    run(wsgi_app=app, host=work.HOST, port=work.PORT, loglevel=0)


def main() -> None:
    app = importlib.import_module(f"scripts.bench.peers.apps.{sys.argv[2]}").app
    for serve in (waitress, cheroot, werkzeug, bjoern, fastwsgi):
        if serve.__name__ == sys.argv[1]:
            serve(app)


if __name__ == "__main__":
    main()
