"""The server of the standard library: threads, HTTP/1.1, one write for each answer."""

from __future__ import annotations

import json
import os
import shutil
import ssl
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

from scripts.bench.peers.apps import work


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Without a buffer each answer is two packets, and waits 40 ms for a delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path = self.path
        if path == "/":
            return self.answer(work.TEXT, work.HELLO)
        parts = path.split("/")
        if len(parts) == 5 and parts[1] == "user" and parts[3] == "item":
            return self.answer(work.JSON, json.dumps(work.user(parts[2], parts[4])).encode())
        if path == "/page":
            return self.answer(work.TEXT, work.PAGE)
        if path == "/slow":
            time.sleep(work.SLEEP)
            return self.answer(work.TEXT, work.SLEPT)
        if len(parts) == 3 and parts[1] == "files":
            return self.file(os.path.join(work.FILES, parts[2]))
        return self.send_error(404)

    def do_POST(self) -> None:
        order = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(work.JSON, json.dumps(work.total(order)).encode())

    def answer(self, content_type: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            # Else the client sends another request (RFC 9112 §9.6).
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def file(self, path: str) -> None:
        with open(path, "rb") as content:
            self.send_response(200)
            self.send_header("Content-Type", work.BINARY)
            self.send_header("Content-Length", str(os.fstat(content.fileno()).st_size))
            self.end_headers()
            shutil.copyfileobj(content, self.wfile, 65536)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = work.BACKLOG


def main() -> None:
    server = Server((work.HOST, work.PORT), Handler)
    if work.TLS is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(work.TLS[1], work.TLS[0])
        # Shaken hands in the connection's own thread, at its first read.
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
    server.serve_forever()


if __name__ == "__main__":
    main()
