"""Event streams to very many: what each event costs, how late it comes, and whether any is lost.

    python scripts/bench/events.py [--subscribers 1000] [--slow 0] [--rate 10] [--seconds 10]
        [--size 100] [--rounds 1]

Needs Linux. The server has a core of its own, its subscribers, raw sockets in another process,
share another. An event has `size` bytes of data, and tells its number and when it was published;
`slow` subscribers more read nothing at all. Told are: threads, resident memory per subscriber, CPU
time per second while idle and while publishing, how long one call of publish takes, how many events
those who read have missed, and how many milliseconds an event takes from publish to a subscriber.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import select
import signal
import socket
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench.process import Program, cores, free_port, raise_descriptors

#: Seconds until threads without work have ended.
SETTLED = 7.0
#: Seconds for any single step of a subscriber's opening.
PATIENCE = 30.0

# PORT is replaced. Answers to lines: "subscribers", "cpu", and "publish RATE SECONDS SIZE".
SERVER = """
import json, sys, time
from resource_server import EventChannel, EventStream, HTTPServer, Resource, get
channel = EventChannel()
class Everyone(Resource):
    @get("/")
    def events(self, request):
        return EventStream(channel)
def publish(rate, seconds, size):
    calls, start, count = [], time.monotonic(), int(rate * seconds)
    for number in range(count):
        time.sleep(max(0.0, start + number / rate - time.monotonic()))
        before = time.monotonic_ns()
        channel.publish(f"{number} {before} ".ljust(int(size), "x"))
        calls.append(time.monotonic_ns() - before)
    return sorted(calls)[len(calls) // 2] / 1e6, max(calls) / 1e6
with HTTPServer(("127.0.0.1", PORT), max_connections=1_000_000) as server:
    server.register_routes(Everyone())
    for line in sys.stdin:
        name, *numbers = line.split()
        result = 0
        if name == "subscribers":
            result = len(channel)
        elif name == "cpu":
            result = time.process_time()
        elif name == "publish":
            result = publish(*map(float, numbers))
        print(json.dumps(result), flush=True)
"""

_find_event = re.compile(rb"data: (\d+) (\d+) x*\n\n").finditer


def subscribe(port: int) -> socket.socket:
    """Ask for the events, and read the head of the answer."""
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
    sock.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = sock.recv(4096)
        if not piece:
            raise RuntimeError(f"closed after {answer!r}")
        answer += piece
    if b" 200 " not in answer[:13]:
        raise RuntimeError(f"no stream of events: {answer!r}")
    return sock


def crowd(port: int, readers: int, slow: int) -> None:
    """Subscribers, in a process of their own; each line that it is told asks for what it has."""
    poll, socks, pending = select.epoll(), {}, {}
    idle = [subscribe(port) for _ in range(slow)]
    for _ in range(readers):
        sock = subscribe(port)
        sock.setblocking(False)
        socks[sock.fileno()], pending[sock.fileno()] = sock, b""
        poll.register(sock, select.EPOLLIN)
    tell(len(socks) + len(idle))
    poll.register(0, select.EPOLLIN)
    next_numbers = dict.fromkeys(socks, 0)
    late: list[float] = []
    while True:
        for fd, _ in poll.poll():
            if fd == 0:
                if not os.read(0, 100):
                    return
                tell(sorted(late))
                next_numbers, late = dict.fromkeys(socks, 0), []
                continue
            data = socks[fd].recv(65536)
            if not data:
                raise RuntimeError("the server closed a stream")
            now = time.monotonic_ns()
            # What comes in two pieces is put together; the rest is framing, and of no use.
            data, end = pending[fd] + data, 0
            for event in _find_event(data):
                number, end = int(event[1]), event.end()
                if number < next_numbers[fd]:
                    raise RuntimeError("an event came twice, or too late")
                next_numbers[fd] = number + 1
                late.append((now - int(event[2])) / 1e6)
            pending[fd] = data[end:]


def tell(result: object) -> None:
    print(json.dumps(result), flush=True)


def measure(options: argparse.Namespace) -> dict[str, float]:
    server_core, load_core = cores()
    port = free_port()
    everybody = options.subscribers + options.slow
    figures: dict[str, float] = {}
    with ExitStack() as stack:
        command = [sys.executable, "-c", SERVER.replace("PORT", str(port))]
        server = stack.enter_context(Program(command, server_core))
        server.wait_until_it_listens(port)
        subscribe(port).close()
        before = 1024 * server.status("VmRSS")
        numbers = map(str, (port, options.subscribers, options.slow))
        command = [sys.executable, __file__, "--crowd", *numbers]
        clients = stack.enter_context(Program(command, load_core))
        clients.hear()
        time.sleep(SETTLED)
        if (found := server.ask("subscribers")) != everybody:
            raise RuntimeError(f"there are {found} subscribers, not {everybody}")
        figures["RSS bytes"] = (1024 * server.status("VmRSS") - before) / everybody
        figures["threads"] = server.status("Threads")
        used, start = server.ask("cpu"), time.monotonic()
        time.sleep(3)
        figures["idle CPU ms/s"] = 1000 * (server.ask("cpu") - used) / (time.monotonic() - start)
        used, start = server.ask("cpu"), time.monotonic()
        line = f"publish {options.rate} {options.seconds} {options.size}"
        calls = server.ask(line, options.seconds + 60)
        took = time.monotonic() - start
        figures["CPU ms/s"] = 1000 * (server.ask("cpu") - used) / took
        figures["threads then"] = server.status("Threads")
        figures["publish ms"], figures["slowest publish ms"] = calls
        time.sleep(2)
        late, count = clients.ask("tell"), int(options.rate * options.seconds)
        figures["events"] = len(late)
        figures["lost"] = count * options.subscribers - len(late)
        for percent in (50, 90, 99, 100):
            figures[f"late ms {percent} %"] = late[min(len(late) * percent // 100, len(late) - 1)]
    return figures


def main() -> None:
    if sys.argv[1:2] == ["--crowd"]:
        raise_descriptors(100_000)
        crowd(*map(int, sys.argv[2:]))
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--slow", type=int, default=0)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # with what was started
    room = raise_descriptors(options.subscribers + options.slow + 2000) - 300
    if options.subscribers + options.slow > room:
        parser.error(f"the system allows only {room} connections")
    results = []
    for _ in range(options.rounds):
        figures = measure(options)
        print(", ".join(f"{key} {value:,.6g}" for key, value in figures.items()), flush=True)
        results.append(figures)
    print("\n| figure | median |\n|:--|--:|")
    for key in results[0]:
        print(f"| {key} | {statistics.median(one[key] for one in results):,.6g} |")


if __name__ == "__main__":
    main()
