"""WebSocket echoes per second and CPU time per message, beside other servers.

    python scripts/bench/websocket.py [--seconds 2] [--rounds 3] [--sizes 16,1024,65536]
        [--connections 1,50,500] [--servers NAME,NAME] [--attempts 3] [--text]
        [--environment DIRECTORY]

Needs Linux. The other servers are installed into a virtual environment of their own, which is kept
in the directory for temporary files (or DIRECTORY); what cannot run is said and left out. Every
server runs with that Python, on a core of its own, without compression and keep-alive pings, else
with its defaults. The load (`crowd.py`) has another core and keeps one message in flight on each
connection; the first echo of each is compared byte by byte, the others are counted. Servers take
turns, each time as new processes; medians of the rounds are shown. CPU time is user and system
time of the server and its children. Where other programs take much of a core, a measurement is made
again, up to the number of attempts; rounds where it was in vain count only if all were so.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench.compare import cpu_seconds, free_port
from scripts.bench.peers import (
    CROWD,
    ENVIRONMENT,
    Program,
    busy_seconds,
    cores,
    peers_python,
    raise_descriptors,
)

OURS = """
from resource_server import HTTPServer, Resource, WebSocketOpCode, websocket
class Echo(Resource):
    @websocket("/", compression=False, ping_interval=None)
    def echo(self, request, opcode, payload):
        if opcode is WebSocketOpCode.Text or opcode is WebSocketOpCode.Binary:
            request.send(payload)
server = HTTPServer(("127.0.0.1", PORT))
server.registerRoutes(Echo())
server.run()
"""
SESSIONS = """
from resource_server import HTTPServer, Resource, websocket_session
class Echo(Resource):
    @websocket_session("/", compression=False, ping_interval=None, max_sessions=10_000)
    def echo(self, socket):
        for message in socket:
            socket.send(message)
server = HTTPServer(("127.0.0.1", PORT))
server.registerRoutes(Echo())
server.run()
"""
WEBSOCKETS_SYNC = """
from websockets.sync.server import serve
def echo(socket):
    for message in socket:
        socket.send(message)
with serve(echo, "127.0.0.1", PORT, compression=None, ping_interval=None) as server:
    server.serve_forever()
"""
WEBSOCKETS_ASYNCIO = """
import asyncio
from websockets.asyncio.server import serve
async def echo(socket):
    async for message in socket:
        await socket.send(message)
async def main():
    async with serve(echo, "127.0.0.1", PORT, compression=None, ping_interval=None) as server:
        await server.serve_forever()
asyncio.run(main())
"""
AIOHTTP = """
from aiohttp import WSMsgType, web
async def echo(request):
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
        elif message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket
app = web.Application()
app.router.add_get("/", echo)
web.run_app(app, host="127.0.0.1", port=PORT, access_log=None, print=None)
"""
SIMPLE_WEBSOCKET = """
from simple_websocket import ConnectionClosed, Server
from werkzeug.serving import make_server
def app(environ, start_response):
    socket = Server.accept(environ)
    try:
        while True:
            socket.send(socket.receive())
    except ConnectionClosed:
        return []
make_server("127.0.0.1", PORT, app, threaded=True).serve_forever()
"""
SERVERS = {
    "resource_server": OURS,
    "resource_server session": SESSIONS,
    "websockets sync": WEBSOCKETS_SYNC,
    "websockets asyncio": WEBSOCKETS_ASYNCIO,
    "aiohttp": AIOHTTP,
    "simple-websocket": SIMPLE_WEBSOCKET,
}
#: Messages per second, CPU µs of the server per message, the share of its core that the load used,
#: and the share of either core that other programs took.
Figures = tuple[float, float, float, float]
#: From this share on, a measurement is made again, or marked.
DISTURBED = 0.1


def measure(command: list[str], connections: int, load: list[str]) -> Figures:
    """Echo with a new process of a server; `command` has the word PORT in its last argument."""
    server_core, load_core = cores()
    port = free_port()
    with Program([*command[:-1], command[-1].replace("PORT", str(port))], server_core) as server:
        server.wait_until_it_listens(port)
        arguments = ["echo", str(port), str(connections), *load]
        with Program([*CROWD, *arguments], load_core) as crowd:
            crowd.hear()
            time.sleep(0.1)
            before = [busy_seconds(core) for core in (server_core, load_core)]
            used = -cpu_seconds(server.pid)
            result = crowd.ask("go")
            used += cpu_seconds(server.pid)
            busy = [busy_seconds(core) for core in (server_core, load_core)]
    messages, seconds, load_used = result["messages"], result["seconds"], result["cpu"]
    if messages <= 0:
        raise RuntimeError("not one message came back")
    others = max(0.0, busy[0] - before[0] - used, busy[1] - before[1] - load_used)
    return messages / seconds, used / messages * 1e6, load_used / seconds, others / seconds


def measure_undisturbed(
    command: list[str], connections: int, load: list[str], attempts: int
) -> Figures:
    """Measure again while other programs take much of a core; the attempt with the least counts."""
    best = measure(command, connections, load)
    for _ in range(attempts - 1):
        if best[3] <= DISTURBED:
            break
        best = min(best, measure(command, connections, load), key=lambda figures: figures[3])
    return best


def named(size: int) -> str:
    return f"{size} B" if size < 1024 or size % 1024 else f"{size // 1024} KiB"


def table(results: dict[tuple[int, int], dict[str, list[Figures]]], names: list[str]) -> None:
    """In Markdown: medians of what was undisturbed, or with a mark of all."""
    print("\nmessages/s, CPU µs per message (medians; * the load used over 95 % of its core;")
    print("~ other programs used over 10 % of a core, so that the rate says little)\n")
    print("| size | connections |", " | ".join(names), "|")
    print("|--:|--:|" + "--:|" * len(names))
    for (size, connections), by_name in results.items():
        cells = []
        for name in names:
            if by_name[name]:
                quiet = [figures for figures in by_name[name] if figures[3] <= DISTURBED]
                columns = zip(*(quiet or by_name[name]), strict=True)
                rate, micros, load, others = map(statistics.median, columns)
                marks = " *" * (load > 0.95) + " ~" * (others > DISTURBED)
                cells.append(f"{rate:,.0f}, {micros:.1f}{marks}")
            else:
                cells.append("–")
        print(f"| {named(size)} | {connections} |", " | ".join(cells), "|")


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=numbers, default=[16, 1024, 65536])
    parser.add_argument("--connections", type=numbers, default=[1, 50, 500])
    parser.add_argument("--servers", type=lambda text: text.split(","), default=list(SERVERS))
    parser.add_argument("--attempts", type=int, default=3, help="while other programs disturb")
    parser.add_argument("--text", action="store_true", help="Text messages in place of Binary")
    parser.add_argument("--environment", type=Path, default=ENVIRONMENT)
    options = parser.parse_args()
    if unknown := set(options.servers) - set(SERVERS):
        parser.error(f"no server {', '.join(unknown)}; there are {', '.join(SERVERS)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # with what was started
    python = peers_python(options.environment)
    raise_descriptors(4096 + max(options.connections))
    names: list[str] = options.servers
    results: dict[tuple[int, int], dict[str, list[Figures]]] = {
        (size, connections): {name: [] for name in names}
        for size in options.sizes
        for connections in options.connections
    }
    for number in range(options.rounds):
        for (size, connections), by_name in results.items():
            load = [str(size), str(options.seconds), "text" if options.text else "binary"]
            for name in names:
                start = f"round {number + 1}: {named(size):>7} x {connections:<4} {name:23}"
                try:
                    command = [python, "-c", SERVERS[name]]
                    figures = measure_undisturbed(command, connections, load, options.attempts)
                except RuntimeError as error:
                    print(start, error, flush=True)
                    continue
                by_name[name].append(figures)
                rate, micros, busy, others = figures
                shown = f"{rate:9.0f}/s {micros:7.1f} µs  load {busy:.0%}, others {others:.0%}"
                print(start, shown, flush=True)
    table(results, names)


if __name__ == "__main__":
    main()
