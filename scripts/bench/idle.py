"""What an idle server costs: import, threads, CPU, and memory per parked connection.

python scripts/bench/idle.py [connections]
"""

from __future__ import annotations

import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVER = """
import gc, resource, tracemalloc
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
from resource_server import HTTPServer, Limits, Resource, Response, get
class Hello(Resource):
    @get("/")
    def hello(self, request):
        return Response("Hello, World!")
    @get("/memory")
    def memory(self, request):
        gc.collect()
        return Response(str(tracemalloc.get_traced_memory()[0]))
server = HTTPServer(("127.0.0.1", 0), limits=Limits(keep_alive=600))
server.registerRoutes(Hello())
tracemalloc.start()
server.start()
print(server.url, flush=True)
server.run()
"""


def milliseconds(code: str) -> float:
    """The median of many runs of a fresh interpreter, without site-packages."""
    times = []
    with tempfile.TemporaryDirectory() as cache:
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": cache}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        for _ in range(26):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-S", "-c", code], env=env, check=True)
            times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times[1:])  # the first run compiles


def ask(sock: socket.socket, path: str) -> str:
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += sock.recv(4096)
    return answer.partition(b"\r\n\r\n")[2].decode()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5000
    bare = milliseconds("pass")
    for module in ("resource_server", "http.server"):
        print(
            f"import {module}: {milliseconds('import ' + module) - bare:.1f} ms above bare Python"
        )

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    parked: list[socket.socket] = []
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        first = socket.create_connection(("127.0.0.1", port))
        ask(first, "/")
        before = int(ask(first, "/memory"))
        for _ in range(count):
            sock = socket.create_connection(("127.0.0.1", port))
            ask(sock, "/")
            parked.append(sock)
        after = int(ask(first, "/memory"))
        print(
            f"{count} idle connections: {(after - before) / count:.0f} bytes of Python memory each"
        )
        time.sleep(7)  # longer than a thread waits for work
        status = Path(f"/proc/{process.pid}/status").read_text()
        stat = Path(f"/proc/{process.pid}/stat")
        ticks = [sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13]))]
        time.sleep(10)
        ticks.append(sum(map(int, stat.read_text().rpartition(")")[2].split()[11:13])))
        used = (ticks[1] - ticks[0]) / os.sysconf("SC_CLK_TCK")
        print(
            f"idle with them: {status.split('Threads:')[1].split()[0]} threads, "
            f"{used * 1000:.0f} ms of CPU in 10 s"
        )
    finally:
        for sock in parked:
            sock.close()
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    main()
