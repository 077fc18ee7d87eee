"""Idle WebSockets, and one message to all of them, beside a `websockets` (asyncio) server.

    python scripts/bench/broadcast.py [--connections 10000] [--size 1024] [--repeats 21]
        [--idle 40] [--rounds 1] [--servers NAME,NAME]

Needs Linux. Servers take turns, each time as new processes, with a core of their own; clients
(`load/crowd.py`) share another, come from loopback addresses of their own, and answer pings. Three
runs of each server: "memory" traces what Python allocates, and times nothing; "silent" has no
keep-alive pings, "pings" has one every 20 seconds to each client. These two tell threads, resident
memory per connection, CPU time per second while idle, and for one call that sends a message to all:
the time until it returns, until the last client has the whole message, and the server's CPU time
(medians; the CPU time is a mean). Compression is off.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench.environment import Environment
from scripts.bench.process import LOAD, Program, cores, free_port, raise_descriptors

CROWD = [sys.executable, str(LOAD / "crowd.py")]
#: Clients that one process has; every process has a source address, and so ports, of its own.
CLIENTS = 5000
#: Seconds until threads without work have ended, and connections are left alone.
SETTLED = 7.0

# PORT, PING, SIZE and TRACE are replaced. Answers to lines: members, memory, cpu, send.
CONTROL = """
import gc, json, sys, time, tracemalloc
message = b"x" * SIZE
def answer(line, members, send):
    result = 0
    if line == "members":
        result = len(members)
    elif line == "memory":
        gc.collect()
        result = tracemalloc.get_traced_memory()[0]
    elif line == "cpu":
        result = time.process_time()
    elif line == "send":
        start = time.monotonic_ns()
        send(message)
        result = [start, time.monotonic_ns()]
    print(json.dumps(result), flush=True)
"""
OURS = """
from resource_server import HTTPServer, Resource, WebSocketGroup, WebSocketOpCode, websocket
group = WebSocketGroup()
class Everyone(Resource):
    @websocket("/ws", compression=False, ping_interval=PING)
    def member(self, request, opcode, payload):
        if opcode is WebSocketOpCode.Open:
            group.add(request)
if TRACE:
    tracemalloc.start()
with HTTPServer(("127.0.0.1", PORT), max_connections=1_000_000) as server:
    server.registerRoutes(Everyone())
    for line in sys.stdin:
        answer(line.strip(), group, group.send)
"""
WEBSOCKETS = """
import asyncio
from websockets.asyncio.server import broadcast, serve
async def member(socket):
    await socket.wait_closed()
async def main():
    async with serve(
        member, "127.0.0.1", PORT, compression=None, ping_interval=PING, backlog=1024
    ) as server:
        def told():
            everyone = server.connections
            answer(sys.stdin.readline().strip(), everyone, lambda m: broadcast(everyone, m))
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), told)
        await server.serve_forever()
if TRACE:
    tracemalloc.start()
asyncio.run(main())
"""
SERVERS = {"resource_server": OURS, "websockets asyncio": WEBSOCKETS}


class Run(NamedTuple):
    """One run of the plan: what is measured with which pings, and how often."""

    name: str
    ping: float | None
    trace: bool
    connections: int
    size: int
    idle: float
    repeats: int

    def source(self, program: str, port: int) -> str:
        values = {"PORT": port, "PING": self.ping, "SIZE": self.size, "TRACE": self.trace}
        text = CONTROL + program
        for name, value in values.items():
            text = text.replace(name, repr(value))
        return text


def gather(stack: ExitStack, port: int, run: Run, core: int) -> list[Program]:
    """Processes whose clients, as many as the run wants in all, are connected."""
    crowds = []
    for number, start in enumerate(range(0, run.connections, CLIENTS)):
        count = str(min(CLIENTS, run.connections - start))
        source = f"127.0.0.{number + 2}"
        crowd = Program([*CROWD, "wait", str(port), count, source, str(run.size)], core)
        crowds.append(stack.enter_context(crowd))
    for crowd in crowds:
        crowd.hear(300)
    return crowds


def send_to_all(server: Program, crowds: list[Program]) -> tuple[float, float]:
    """Milliseconds until the call returns, and until the last client has the message."""
    start, returned = server.ask("send")
    last = max(crowd.hear()["at"] for crowd in crowds)
    return (returned - start) / 1e6, (last - start) / 1e6


def settle(server: Program, members: int) -> None:
    end = time.monotonic() + 30
    while (found := server.ask("members")) != members:
        if time.monotonic() > end:
            raise RuntimeError(f"it has {found} members, not {members}")
        time.sleep(0.1)


def measure(python: str, program: str, run: Run) -> dict[str, float]:
    server_core, load_core = cores()
    port = free_port()
    figures: dict[str, float] = {}
    with ExitStack() as stack:
        command = [python, "-c", run.source(program, port)]
        server = stack.enter_context(Program(command, server_core))
        server.wait_until_it_listens(port)
        with ExitStack() as first:  # imports and grows what no connection needs of its own
            gather(first, port, run._replace(connections=10), load_core)
        settle(server, 0)
        name = "Python bytes" if run.trace else "RSS bytes"
        before = server.ask("memory") if run.trace else 1024 * server.status("VmRSS")
        start = time.monotonic()
        crowds = gather(stack, port, run, load_core)
        figures["s to open all"] = time.monotonic() - start
        settle(server, run.connections)
        time.sleep(SETTLED)
        after = server.ask("memory") if run.trace else 1024 * server.status("VmRSS")
        figures[name] = (after - before) / run.connections
        if run.trace:
            return {name: figures[name]}
        figures["threads"] = server.status("Threads")
        used = server.ask("cpu")
        time.sleep(run.idle)
        figures["idle CPU ms/s"] = 1000 * (server.ask("cpu") - used) / run.idle
        send_to_all(server, crowds)  # the first grows buffers
        used = server.ask("cpu")
        times = []
        for _ in range(run.repeats):
            times.append(send_to_all(server, crowds))
            time.sleep(0.2)
        figures["CPU ms"] = 1000 * (server.ask("cpu") - used) / run.repeats
        returned, last = zip(*times, strict=True)
        figures["returns ms"] = statistics.median(returned)
        figures["last has it ms"] = statistics.median(last)
        figures["slowest ms"] = max(last)
        settle(server, run.connections)  # nobody was lost
        figures["pings"] = sum(crowd.ask("told")["pings"] for crowd in crowds)
    return figures


def report(results: dict[str, dict[str, list[dict[str, float]]]]) -> None:
    """Medians of the rounds, in Markdown."""
    names = list(results)
    print("\n| run | figure |", " | ".join(names), "|")
    print("|:--|:--|" + "--:|" * len(names))
    for run in results[names[0]]:
        found = [results[name][run] for name in names]
        for figure in dict.fromkeys(key for rounds in found for one in rounds for key in one):
            cells = [
                f"{statistics.median(one[figure] for one in rounds):,.6g}" if rounds else "–"
                for rounds in found
            ]
            print(f"| {run} | {figure} |", " | ".join(cells), "|")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--idle", type=float, default=40.0)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--servers", type=lambda text: text.split(","), default=list(SERVERS))
    options = parser.parse_args()
    if unknown := set(options.servers) - set(SERVERS):
        parser.error(f"no server {', '.join(unknown)}; there are {', '.join(SERVERS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # with what was started
    environment = Environment()
    environment.install({"websockets"})
    room = raise_descriptors(options.connections + 2000) - 300
    connections = min(options.connections, room)
    if connections < options.connections:
        print(f"only {connections} connections: the system allows no more open files")
    silent = Run("silent", None, False, connections, options.size, options.idle, options.repeats)
    runs = [
        silent._replace(name="memory", ping=20.0, trace=True),
        silent,
        silent._replace(name="pings", ping=20.0),
    ]
    results: dict[str, dict[str, list[dict[str, float]]]] = {
        name: {run.name: [] for run in runs} for name in options.servers
    }
    print(f"{connections} connections, {options.size} bytes to each; one core for the server")
    for _ in range(options.rounds):
        for run in runs:
            for name in options.servers:
                try:
                    figures = measure(environment.python, SERVERS[name], run)
                except RuntimeError as error:
                    print(f"{run.name}: {name}: {error}", flush=True)
                    continue
                results[name][run.name].append(figures)
                shown = ", ".join(f"{key} {value:,.6g}" for key, value in figures.items())
                print(f"{run.name}: {name}: {shown}", flush=True)
    report(results)


if __name__ == "__main__":
    main()
