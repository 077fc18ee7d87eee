"""Requests per second and CPU time per request for "Hello, World!", beside other threaded servers.

    python scripts/bench/compare.py [seconds per measurement] [rounds]

Needs `wrk`, and `waitress`, `cheroot` and `gunicorn` in the Python that runs it; what is missing is
said and left out. Server and load have a core each; servers take turns, and medians of the rounds
are shown.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONNECTIONS = 32

OURS = """
import sys
from resource_server import HTTPServer, Resource, Response, get
class Hello(Resource):
    @get("/")
    def hello(self, request):
        return Response("Hello, World!")
server = HTTPServer(("127.0.0.1", PORT))
server.registerRoutes(Hello())
server.run()
"""
WSGI = """
def app(environ, start_response):
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", "13")]
    start_response("200 OK", headers)
    return [b"Hello, World!"]
"""
GUNICORN = """
from gunicorn.app.base import BaseApplication
class Run(BaseApplication):
    def load_config(self):
        options = dict(worker_class="gthread", threads=10, workers=1, keepalive=75)
        for key, value in dict(bind="127.0.0.1:%d" % PORT, **options).items():
            self.cfg.set(key, value)
    def load(self):
        return app
Run().run()
"""
SERVERS = {
    "resource_server": OURS,
    "waitress": WSGI
    + "import waitress\nwaitress.serve(app, host='127.0.0.1', port=PORT, threads=8)",
    "cheroot": WSGI
    + "from cheroot.wsgi import Server\nServer(('127.0.0.1', PORT), app, numthreads=10).start()",
    "gunicorn gthread": WSGI + GUNICORN,
}


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and of the children it still has."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat.parent.name) == pid or int(fields[1]) == pid:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def wait_until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        if process.poll() is not None:
            raise RuntimeError("it ended at once; is it installed?")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("it does not answer")


def measure(program: str, seconds: int) -> tuple[float, float, float]:
    """Requests per second, CPU µs per request, and the p99 latency in ms as wrk saw it."""
    cores = sorted(os.sched_getaffinity(0))
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", program.replace("PORT", str(port))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    os.sched_setaffinity(process.pid, {cores[0]})
    try:
        wait_until_it_answers(port, process)
        load = ["wrk", "-t1", f"-c{CONNECTIONS}", "--latency", f"http://127.0.0.1:{port}/"]
        subprocess.run([*load, "-d1"], stdout=subprocess.DEVNULL, check=True)
        before = cpu_seconds(process.pid)
        os.sched_setaffinity(0, {cores[-1]})  # inherited by the load
        output = subprocess.run(
            [*load, f"-d{seconds}"], capture_output=True, text=True, check=True
        ).stdout
        used = cpu_seconds(process.pid) - before
    finally:
        os.sched_setaffinity(0, cores)
        process.terminate()
        process.wait(10)
    for trouble in re.findall(r"(Socket errors.*|Non-2xx.*)", output):
        print("   ", trouble)
    requests = int(re.search(r"(\d+) requests in", output)[1])  # type: ignore[index]
    rate = float(re.search(r"Requests/sec:\s*([\d.]+)", output)[1])  # type: ignore[index]
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", output).groups()  # type: ignore[union-attr]
    return rate, used / requests * 1e6, float(number) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def main() -> None:
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing; Debian has it as the package wrk")
    results: dict[str, list[tuple[float, float, float]]] = {name: [] for name in SERVERS}
    for number in range(rounds):
        for name, program in SERVERS.items():
            try:
                results[name].append(measure(program, seconds))
            except (RuntimeError, subprocess.CalledProcessError) as error:
                print(f"{name}: {error}")
                continue
            rate, micros, p99 = results[name][-1]
            print(
                f"round {number + 1}: {name:18} {rate:9.0f}/s {micros:6.1f} µs {p99:6.2f} ms",
                flush=True,
            )
    print(f"\nmedian of {rounds:<8} requests/s  CPU µs/request  p99 ms   times ours is faster")
    ours = statistics.median(rate for rate, _, _ in results["resource_server"])
    for name, measured in results.items():
        if measured:
            rate, micros, p99 = (
                statistics.median(column) for column in zip(*measured, strict=True)
            )
            print(f"{name:18} {rate:10.0f} {micros:15.1f} {p99:7.2f} {ours / rate:10.1f}")


if __name__ == "__main__":
    main()
