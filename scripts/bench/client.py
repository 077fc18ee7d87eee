"""Requests per second and CPU time per request of small GETs, beside other HTTP clients.

    python scripts/bench/client.py [--seconds 1] [--rounds 7] [--threads 1,8] [--server ours|nginx]

Needs Linux. The other clients are installed into a virtual environment of their own, which is kept
in `.bench/`; what cannot run is said and left out. Every client is a process with that Python, on
one core; the server has another core. The clients take turns of some seconds, each in all rounds
with the connections that it had before, so that what else the machine does meets all of them;
medians of the rounds are shown. With several threads these share one client (requests.Session as
well, which works for this). Each answer is read and compared. CPU time is user and system time of
the client's process, all its threads.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench.environment import Environment
from scripts.bench.peers.catalog import APPS, nginx
from scripts.bench.process import Program, cores, free_port

PEERS = {"requests", "httpx", "urllib3", "certifi"}
OURSELVES = "resource_server"

CLIENTS = {
    OURSELVES: """
from resource_server import HTTPClient
client = HTTPClient(("127.0.0.1", PORT), threads=8, max_connections=8)
def ask():
    return client.get("/").result().body
""",
    "bare urllib3": """
import urllib3
pool = urllib3.HTTPConnectionPool("127.0.0.1", PORT, maxsize=8, block=True)
def ask():
    return pool.request("GET", "/").data
""",
    "requests.Session": """
import requests
session = requests.Session()
def ask():
    return session.get("http://127.0.0.1:PORT/").content
""",
    "httpx.Client": """
import httpx
client = httpx.Client()
def ask():
    return client.get("http://127.0.0.1:PORT/").content
""",
}
# For each line, which is a number of seconds, it asks for so long and tells how that went.
LOOP = """
import json, sys, threading, time
EXPECTED = b"Hello, World!"
def ask_until(end, counts):
    count = 0
    while time.perf_counter() < end:
        answer = ask()
        if answer != EXPECTED:
            raise SystemExit("an answer is wrong: %r" % answer)
        count += 1
    counts.append(count)
def measure(seconds):
    counts = []
    cpu, begin = time.process_time(), time.perf_counter()
    args = begin + seconds, counts
    others = [threading.Thread(target=ask_until, args=args) for _ in range(THREADS - 1)]
    for each in others: each.start()
    ask_until(*args)
    for each in others: each.join()
    if len(counts) < THREADS:
        raise SystemExit("a thread has failed")
    took = time.perf_counter() - begin
    return sum(counts) / took, (time.process_time() - cpu) / sum(counts) * 1e6
for line in sys.stdin:
    print(json.dumps(measure(float(line))), flush=True)
"""
Figures = tuple[float, float]


def server_command(kind: str, directory: str) -> list[str]:
    if kind == "ours":
        return [sys.executable, str(APPS / "ours.py")]
    command = nginx()
    if command is None:
        sys.exit("nginx is missing; Debian has it as the package nginx-light")
    return [sys.executable, str(APPS / "nginx.py"), command, directory]


def measure(
    python: str, port: int, threads: int, rounds: int, seconds: float
) -> dict[str, list[Figures]]:
    """What each client has done in each round: requests per second and CPU µs per request."""
    results: dict[str, list[Figures]] = {name: [] for name in CLIENTS}
    with ExitStack() as stack:
        running = {}
        for name, text in CLIENTS.items():
            program = (text + LOOP).replace("PORT", str(port)).replace("THREADS", str(threads))
            running[name] = stack.enter_context(Program([python, "-c", program], cores()[1]))
        for number in range(-1, rounds):  # the first to warm up
            # Whoever comes first is not always the same.
            names = list(running)
            turn = max(number, 0) % max(1, len(names))
            for name in names[turn:] + names[:turn]:
                try:
                    rate, micros = running[name].ask(str(seconds), seconds + 30)
                except RuntimeError as error:
                    print(f"{name}: {error}")
                    del running[name]
                    continue
                if number >= 0:
                    results[name].append((rate, micros))
                    print(
                        f"round {number + 1}: {name:18} {rate:9.0f}/s {micros:6.1f} µs", flush=True
                    )
    return results


def show(threads: int, results: dict[str, list[Figures]]) -> None:
    medians = {
        name: [statistics.median(column) for column in zip(*measured, strict=True)]
        for name, measured in results.items()
        if measured
    }
    print(
        f"\n{threads} at a time        requests/s   CPU µs/request   of our rate   of our CPU time"
    )
    ours = medians.get(OURSELVES)
    for name, (rate, micros) in medians.items():
        beside = f"{rate / ours[0]:13.2f} {micros / ours[1]:17.2f}" if ours else ""
        print(f"{name:18} {rate:11.0f} {micros:16.1f} {beside}")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", default="1,8")
    parser.add_argument("--server", choices=["ours", "nginx"], default="ours")
    options = parser.parse_args()
    environment = Environment()
    environment.install(PEERS)
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        command = server_command(options.server, directory)
        with Program(command, cores()[0], {"BENCH_PORT": str(port)}) as server:
            server.wait_until_it_listens(port)
            for threads in map(int, options.threads.split(",")):
                show(
                    threads,
                    measure(environment.python, port, threads, options.rounds, options.seconds),
                )


if __name__ == "__main__":
    main()
