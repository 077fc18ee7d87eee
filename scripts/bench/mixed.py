"""A minute of everything at once: does the quick route stay quick, and is anything left behind?

    python scripts/bench/mixed.py [seconds]

Starts the server as a process of its own (with the switch interval that the command line sets,
1 ms), and loads it from this one: quick routes, routes that sleep 50 ms, routes that burn CPU,
uploads, and clients that leave at any moment. Prints latencies of the quick route, and the server's
threads, descriptors and memory before and after.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
SERVER = """
import gc, os, sys, time
sys.setswitchinterval(0.001)
from resource_server import HTTPServer, Resource, Response, StreamResponse, get, post
class Mixed(Resource):
    @get("/quick")
    def quick(self, request):
        return Response("Hello, World!")
    @get("/sleep")
    def sleep(self, request):
        time.sleep(0.05)
        return Response("slept")
    @get("/burn")
    def burn(self, request):
        end = time.thread_time() + 0.03
        while time.thread_time() < end:
            sum(range(200))
        return Response("burnt")
    @post("/upload")
    def upload(self, request):
        return {"size": sum(len(piece) for piece in iter(lambda: request.stream.read(65536), b""))}
    @get("/stream")
    def stream(self, request):
        return StreamResponse(b"x" * 8192 for _ in range(100))
    @get("/collect")
    def collect(self, request):
        gc.collect()
        return {"objects": len(gc.get_objects())}
server = HTTPServer(("127.0.0.1", 0))
server.registerRoutes(Mixed())
server.start()
print(server.url, flush=True)
server.run()
"""


def threads_descriptors_memory(pid: int) -> tuple[int, int, float]:
    status = Path(f"/proc/{pid}/status").read_text()
    memory = int(status.split("VmRSS:")[1].split()[0]) / 1024
    threads = int(status.split("Threads:")[1].split()[0])
    return threads, len(os.listdir(f"/proc/{pid}/fd")), memory


class Load:
    """Clients of one server, each a thread, until the time is over."""

    def __init__(self, port: int, seconds: float) -> None:
        self.port = port
        self.end = time.monotonic() + seconds
        self.counts: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.quick: list[float] = []

    def keep_alive(self, path: str, pause: float) -> None:
        """Ask for a path again and again over one connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while time.monotonic() < self.end:
            start = time.perf_counter()
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.errors[f"{path} {answer.status}"] += 1
            except OSError as error:
                self.errors[f"{path} {error!r}"] += 1
                connection.close()
            if path == "/quick":
                self.quick.append(time.perf_counter() - start)
            self.counts[path] += 1
            time.sleep(pause)
        connection.close()

    def upload(self) -> None:
        """Send bodies of up to 2 MiB, counted and chunked."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        while time.monotonic() < self.end:
            size = random.choice((100, 50_000, 300_000, 2_000_000))
            pieces = [b"x" * min(65536, size - at) for at in range(0, size, 65536)]
            body = b"".join(pieces) if random.random() < 0.5 else iter(pieces)
            try:
                connection.request(
                    "POST", "/upload", body, encode_chunked=not isinstance(body, bytes)
                )
                answer = connection.getresponse().read()
                if answer != b'{"size": %d}' % size and answer != b'{"size":%d}' % size:
                    self.errors[f"upload {answer[:60]!r}"] += 1
            except OSError as error:
                self.errors[f"upload {error!r}"] += 1
                connection.close()
            self.counts["/upload"] += 1
            time.sleep(0.01)
        connection.close()

    def vanish(self) -> None:
        """Leave at any moment: within a head, a body or the answer; often by a reset."""
        whole = (
            b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
        )
        stream = b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"
        while time.monotonic() < self.end:
            with socket.create_connection(("127.0.0.1", self.port), 30) as sock:
                try:
                    if random.random() < 0.5:
                        sock.sendall(whole[: random.randrange(len(whole))])
                    else:
                        sock.sendall(random.choice((stream, stream.replace(b"stream", b"sleep"))))
                        sock.recv(random.choice((1, 1000)))
                except OSError:
                    pass
                if random.random() < 0.5:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.counts["vanished"] += 1
            time.sleep(0.02)

    def run(self) -> None:
        jobs: list[tuple[int, Callable[[], None]]] = [
            (4, partial(self.keep_alive, "/quick", 0.002)),
            (8, partial(self.keep_alive, "/sleep", 0.0)),
            (2, partial(self.keep_alive, "/burn", 0.1)),
            (2, partial(self.keep_alive, "/stream", 0.05)),
            (2, self.upload),
            (2, self.vanish),
        ]
        threads = [threading.Thread(target=job) for count, job in jobs for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    body = connection.getresponse().read()
    connection.close()
    return body


def main() -> int:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        Load(port, min(5.0, seconds)).run()  # everything has been imported and grown once
        print("before: objects", get(port, "/collect").decode(), end="; ")
        print("threads, descriptors, MiB:", threads_descriptors_memory(process.pid))
        load = Load(port, seconds)
        load.run()
        time.sleep(7)  # longer than a thread waits for work
        print("after:  objects", get(port, "/collect").decode(), end="; ")
        print("threads, descriptors, MiB:", threads_descriptors_memory(process.pid))
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)
    quick = sorted(load.quick)
    shown = {
        f"p{p:g}": round(quick[int(len(quick) * p / 100)] * 1000, 2) for p in (50, 90, 99, 99.9)
    }
    print("requests:", dict(load.counts), "errors:", dict(load.errors))
    print("quick route, ms:", shown, "max:", round(quick[-1] * 1000, 2))
    print("exit code of the server:", process.returncode)
    return 1 if load.errors else 0


if __name__ == "__main__":
    sys.exit(main())
