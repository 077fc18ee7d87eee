"""Requests per second and CPU time per request of small GETs, beside other HTTP clients.

    python scripts/bench/client.py [--seconds 1] [--rounds 7] [--threads 1,8] [--server ours|nginx]
        [--environment DIRECTORY]

Needs Linux. The other clients are installed into a virtual environment of their own, which is kept
in the directory for temporary files (or DIRECTORY); what cannot run is said and left out. Every
client is a process with that Python, on one core; the server has another core. The clients take
turns of some seconds, each in all rounds with the connections that it had before, so that what else
the machine does meets all of them; medians of the rounds are shown. With several threads these
share one client (requests.Session as well, which works for this). Each answer is read and compared.
CPU time is user and system time of the client's process, all its threads.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench.compare import OURS, free_port
from scripts.bench.peers import Program, cores

ENVIRONMENT = Path(tempfile.gettempdir()) / "resource_server-client-peers"
PEERS = ("requests", "httpx", "urllib3", "certifi")
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
NGINX = """
daemon off; master_process off; pid DIRECTORY/pid;
events { worker_connections 1024; }
http {
    access_log off; default_type text/plain; keepalive_requests 100000000;
    client_body_temp_path DIRECTORY/body; proxy_temp_path DIRECTORY/proxy;
    fastcgi_temp_path DIRECTORY/fastcgi; uwsgi_temp_path DIRECTORY/uwsgi;
    scgi_temp_path DIRECTORY/scgi;
    server { listen 127.0.0.1:PORT; location = / { return 200 "Hello, World!"; } }
}
"""

Figures = tuple[float, float]


def peers_python(directory: Path) -> str:
    """The Python of a virtual environment that has the peers; it is made where there is none."""
    python = str(directory / "bin" / "python")
    versions = [python, "-c", "from importlib.metadata import version as v; import sys\n"]
    versions[2] += f"print('Python', sys.version.split()[0], *(p+' '+v(p) for p in {PEERS}))"
    if not os.path.exists(python):
        venv.create(directory, with_pip=True)
    if subprocess.run(versions, capture_output=True, check=False).returncode:
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PEERS], check=False)  # what is missing is left out, and said
    subprocess.run(versions, check=False, stderr=subprocess.DEVNULL)
    return python


def server_command(kind: str, port: int, directory: str) -> list[str]:
    if kind == "ours":
        return [sys.executable, "-c", OURS.replace("PORT", str(port))]
    nginx = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if nginx is None:
        sys.exit("nginx is missing; Debian has it as the package nginx-light")
    configuration = Path(directory, "nginx.conf")
    configuration.write_text(NGINX.replace("PORT", str(port)).replace("DIRECTORY", directory))
    return [nginx, "-p", directory, "-c", str(configuration), "-e", f"{directory}/error.log"]


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
    parser.add_argument("--environment", type=Path, default=ENVIRONMENT)
    options = parser.parse_args()
    python = peers_python(options.environment)
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        command = server_command(options.server, port, directory)
        with Program(command, cores()[0]) as server:
            server.wait_until_it_listens(port)
            for threads in map(int, options.threads.split(",")):
                show(threads, measure(python, port, threads, options.rounds, options.seconds))


if __name__ == "__main__":
    main()
