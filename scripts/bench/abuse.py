"""A minute of abuse of WebSockets: is everybody else served, and is anything left behind?

    python scripts/bench/abuse.py [seconds] [--stops N]

Needs Linux. The server and those who abuse it are processes of their own; this one has the clients
that behave, which check each answer and how long it took. Before and after, the server's threads,
descriptors, objects and memory (`tracemalloc`) are compared. The server keeps a ledger: each Open
has one Close, and the calls for one connection neither overlap nor come out of order. Then a server
is stopped N times (20) under such load: in time, with 1001 to each client that reads, and each Open
with its Close. Exits with 1 if anything of that does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from resource_server import HTTPServer
from scripts.bench.abused import LIMITS, NUMBER, THREADS, Abused, only_log_news, serve
from tests.wsclient import (
    BINARY,
    CLOSE,
    COMPRESSED,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WSClient,
    close_frame,
    frame,
    opening,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"
#: Seconds without an answer after which a client counts as not served.
PATIENCE = 20.0
#: Seconds that a stop may take in all; and beyond it, on a busy machine.
STOP, LATE = 2.0, 0.5


# -- those who abuse it ------------------------------------------------------------------------


class Abusers:
    """Clients of one server, each a thread, until the time is over."""

    def __init__(self, address: tuple[str, int], seconds: float) -> None:
        self.address = address
        self.end = time.monotonic() + seconds
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.jobs: list[tuple[int, Callable[[], None]]] = [
            (2, self.cut_anywhere),
            (1, self.half_handshake),
            (1, self.half_frame),
            (1, partial(self.flood, "/sink", frame(PING, b"?") * 2000)),
            (1, partial(self.flood, "/sleep", frame(PING, b"?") * 2000)),
            (1, partial(self.flood, "/echo", frame(PING, b"?" * 125) * 500)),
            (1, partial(self.flood, "/sink", frame(TEXT, b"!") * 2000)),
            (1, partial(self.flood, "/sleep", frame(TEXT, b"!" * 60_000) * 4)),
            (1, self.fragments),
            (2, self.bombs),
            (4, self.stop_reading),
            (2, self.read_slowly),
            (2, self.many_threads),
            (3, self.come_and_go),
            (2, self.ask_for_trouble),
            (2, self.numbers),
            (2, self.sessions),
        ]

    def run(self) -> None:
        """Do all of it."""
        threads = [
            threading.Thread(target=self.repeat, args=(job,), daemon=True)
            for count, job in self.jobs
            for _ in range(count)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, self.end + PATIENCE - time.monotonic()))

    def repeat(self, job: Callable[[], None]) -> None:
        """Do it again and again."""
        name = getattr(job, "__name__", "flood")
        while time.monotonic() < self.end:
            try:
                job()
                self.counts[name] += 1
            except (OSError, EOFError, AssertionError):
                # The server has had enough of it, as it should, or is stopping.
                self.counts[f"{name}, cut"] += 1
            time.sleep(0.01)

    def client(self, path: str, *fields: str, buffer: int | None = None) -> WSClient:
        client = WSClient(self.address, path, *fields, receive_buffer=buffer)
        client.sock.settimeout(max(0.5, min(3.0, self.end - time.monotonic())))
        return client

    @contextmanager
    def leaving(self, client: WSClient) -> Iterator[WSClient]:
        """Leave in one of the ways that there are."""
        try:
            yield client
            if random.random() < 0.3:
                client.send(close_frame(1000))
        finally:
            if random.random() < 0.5:
                client.reset()
            client.sock.close()

    def cut_anywhere(self) -> None:
        """Leave at any byte of the opening and of what follows."""
        conversation = b"".join([
            frame(TEXT, b"a" * 200), frame(BINARY, bytes(8) + b"b" * 70_000), frame(PING, b"c"),
            frame(TEXT, b"d", final=False), frame(CONTINUATION, b"e"), close_frame(1000, "f"),
        ])  # fmt: skip
        path = random.choice(["/echo", "/session", "/sink", "/group", "/threads", "/block"])
        data = opening(path, *random.choice([[], [DEFLATE]])) + conversation
        end = random.choice([300, len(data)])
        with socket.create_connection(self.address, 3.0) as sock:
            sock.sendall(data[: random.randrange(end)])
            if random.random() < 0.5:
                sock.recv(random.choice([1, 100, 100_000]))
            if random.random() < 0.5:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def half_handshake(self) -> None:
        with socket.create_connection(self.address, 3.0) as sock:
            data = opening("/echo")
            for byte in data[: random.randrange(1, len(data))]:
                sock.sendall(bytes([byte]))
                time.sleep(0.005)

    def half_frame(self) -> None:
        with self.leaving(self.client("/echo", DEFLATE)) as client:
            data = frame(BINARY, bytes(20), declared=random.choice([21, 126, 1_000_000, 2_000_000]))
            for byte in data[: random.randrange(1, len(data))]:
                client.send(bytes([byte]))
                time.sleep(0.02)

    def flood(self, path: str, data: bytes) -> None:
        """Send as fast as can be; and read the answers in half of the cases."""
        with self.leaving(self.client(path)) as client:
            reads = random.random() < 0.5
            until = time.monotonic() + 2.0
            client.sock.settimeout(0.2)
            # Not without end: what a client that has left has sent is handled all the same.
            for _ in range(60):
                if time.monotonic() > min(until, self.end):
                    return
                try:
                    client.send(data[: random.randrange(len(data))])
                except TimeoutError:
                    return
                if reads:
                    try:
                        client.some()
                    except TimeoutError:
                        pass

    def fragments(self) -> None:
        with self.leaving(self.client("/sink")) as client:
            client.send(frame(TEXT, b"", final=False))
            piece = random.choice([b"", b"x"])
            data = (frame(CONTINUATION, piece, final=False) * 10 + frame(PONG, b"")) * 500
            for _ in range(50):
                client.send(data)

    def bombs(self) -> None:
        """Send what inflates a thousandfold."""
        with self.leaving(self.client("/sink", DEFLATE)) as client:
            assert client.deflate is not None
            data = client.deflate.compress(bytes(random.choice([99_000, 50_000_000])))
            client.send(frame(BINARY, data, rsv=COMPRESSED))
            for _ in range(3):
                client.read_frame()

    def stop_reading(self) -> None:
        """Ask for much, and read nothing."""
        path = random.choice(["/block", "/drop", "/cut", "/group", "/threads", "/echo"])
        fields = random.choice([[], [DEFLATE]])
        with self.leaving(self.client(path, *fields, buffer=4096)) as client:
            for _ in range(random.choice([1, 10])):
                client.send(frame(TEXT, b"x" * random.choice([1, 60_000])))
            time.sleep(random.random() * 3.0)

    def read_slowly(self) -> None:
        path = random.choice(["/block", "/drop", "/cut", "/threads"])
        with self.leaving(self.client(path, buffer=4096)) as client:
            client.send(frame(TEXT, b"x"))
            for _ in range(50):
                client.some(1000)
                time.sleep(0.02)

    def many_threads(self) -> None:
        """Have 200 threads send into one connection, and check what they say."""
        fields = random.choice([[], [DEFLATE]])
        with self.leaving(self.client("/threads", *fields)) as client:
            client.sock.settimeout(PATIENCE)
            client.send(frame(TEXT, b"go"))
            said: Counter[str] = Counter()
            for _ in range(THREADS * 20):
                number, count, _ = client.read_text().split(" ")
                if said[number] != int(count):
                    self.faults.append(f"thread {number} said {count} as {said[number]}")
                said[number] += 1

    def come_and_go(self) -> None:
        with self.leaving(self.client("/group", *random.choice([[], [DEFLATE]]))) as client:
            for _ in range(random.randrange(5)):
                client.send(frame(TEXT, b"hello " * random.choice([1, 100])))
                client.read_frame()

    def ask_for_trouble(self) -> None:
        path = random.choice(["/rude", "/rude?Open", "/rude?Close"])
        with self.leaving(self.client(path)) as client:
            client.send(frame(TEXT, random.choice([b"close", b"raise"])))
            if random.random() < 0.5:
                client.send(frame(TEXT, b"late") * 10)
            while client.read_frame().opcode != CLOSE:
                pass

    def numbers(self) -> None:
        """Send numbered messages without waiting, to handlers that are quick and slow."""
        path = random.choice(["/sink", "/sleep"])
        with self.leaving(self.client(path)) as client:
            for number in range(random.choice([10, 100])):
                client.send(frame(BINARY, NUMBER.pack(number) + b"x" * random.choice([0, 1000])))
            client.send(frame(PING, b""))
            client.read_frame()

    def sessions(self) -> None:
        with self.leaving(self.client("/session", *random.choice([[], [DEFLATE]]))) as client:
            for _ in range(random.randrange(20)):
                client.send(frame(TEXT, b"a" * random.choice([1, 1000])))
            if random.random() < 0.7:
                client.send(frame(TEXT, random.choice([b"raise", b"leave"])))
                while client.read_frame().opcode != CLOSE:
                    pass


# -- those who behave --------------------------------------------------------------------------


class Guests:
    """Clients that ask again and again, check each answer, and take the time."""

    def __init__(self, port: int, seconds: float) -> None:
        self.address = ("127.0.0.1", port)
        self.end = time.monotonic() + seconds
        self.taken: dict[str, list[float]] = {}
        self.errors: Counter[str] = Counter()

    def run(self) -> None:
        jobs = [
            partial(self.ask, "/quick"), partial(self.ask, "/slow"), partial(self.talk, "/echo"),
            partial(self.talk, "/session"), partial(self.talk, "/echo", DEFLATE), self.gather,
        ]  # fmt: skip
        threads = [threading.Thread(target=self.guarded, args=(job,)) for job in jobs * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def guarded(self, job: partial[None] | Callable[[], None]) -> None:
        name = " ".join(map(str, job.args)) if isinstance(job, partial) else "/group"
        name = name.replace(DEFLATE, "compressed")
        self.taken.setdefault(name, [])
        try:
            job()
        except (OSError, EOFError, AssertionError) as error:
            self.errors[f"{name}: {error!r}"[:200]] += 1

    def ask(self, path: str) -> None:
        with WSClient(self.address, None) as client:
            while time.monotonic() < self.end:
                start = time.perf_counter()
                assert client.get(path).body == b"Hello, World!"
                self.taken[path].append(time.perf_counter() - start)
                time.sleep(0.01)

    def talk(self, path: str, *fields: str) -> None:
        taken = self.taken[" ".join((path, *fields)).replace(DEFLATE, "compressed")]
        while time.monotonic() < self.end:
            with WSClient(self.address, path, *fields) as client:
                for number in range(200):
                    text = f"{number} ".ljust(random.choice([10, 300, 10_000]), ".").encode()
                    start = time.perf_counter()
                    client.send(frame(TEXT, text))
                    assert self.message(client) == text
                    taken.append(time.perf_counter() - start)
                    time.sleep(0.01)
                self.leave(client)

    def gather(self) -> None:
        """Say something to the group, and hear it."""
        while time.monotonic() < self.end:
            with WSClient(self.address, "/group") as client:
                for _ in range(100):
                    text = b"guest " + random.randbytes(8).hex().encode()
                    start = time.perf_counter()
                    client.send(frame(TEXT, text))
                    while self.message(client) != text:
                        pass
                    self.taken["/group"].append(time.perf_counter() - start)
                    time.sleep(0.02)
                self.leave(client)

    def message(self, client: WSClient) -> bytes:
        """The next message, with pings answered."""
        while (received := client.read_frame()).opcode == PING:
            client.send(frame(PONG, received.payload))
        assert received.opcode == TEXT, received
        if received.rsv:
            assert client.deflate is not None
            return client.deflate.decompress(received.payload)
        return received.payload

    def leave(self, client: WSClient) -> None:
        client.send(close_frame(1000))
        while (received := client.read_frame()).opcode != CLOSE:
            pass
        assert received.payload == b"\x03\xe8", received

    def show(self) -> None:
        for name, taken in sorted(self.taken.items()):
            if not taken:
                continue
            taken.sort()
            shown = [taken[int(len(taken) * part)] for part in (0.5, 0.99)]
            p50, p99, most = [round(each * 1000, 1) for each in (*shown, taken[-1])]
            print(f"  {name:18} {len(taken):6} answers, ms: p50 {p50}, p99 {p99}, max {most}")


# -- the stops ---------------------------------------------------------------------------------


def stop_again_and_again(cycles: int) -> list[str]:
    """Stop a server under load, in this process; return what went wrong."""
    wrong: list[str] = []
    taken = []
    only_log_news()
    descriptors = len(os.listdir("/proc/self/fd"))
    for cycle in range(cycles):
        abused = Abused()
        server = HTTPServer(("127.0.0.1", 0), limits=LIMITS)
        server.register_routes(abused)
        server.start()
        abusers = Abusers(("127.0.0.1", server.address[1]), 1.0 + STOP)
        load = threading.Thread(target=abusers.run)
        paths = ["/echo", "/session", "/group", "/sink", "/drop"] * 6
        clients = [WSClient(server.address, path) for path in paths]
        told: list[object] = [None] * len(clients)
        readers = [
            threading.Thread(target=_wait_for_close, args=(client, told, number))
            for number, client in enumerate(clients)
        ]
        for thread in (load, *readers):
            thread.start()
        time.sleep(0.5 + random.random() / 2)
        start = time.monotonic()
        stopped = server.stop(STOP)
        taken.append(time.monotonic() - start)
        if taken[-1] > STOP + LATE:
            wrong.append(f"cycle {cycle}: the stop took {taken[-1]:.2f} s")
        for thread in (load, *readers):
            thread.join()
        unlike = [f"{paths[at]} {each}" for at, each in enumerate(told) if each != 1001]
        if unlike:
            wrong.append(f"cycle {cycle}: not told 1001: {unlike}")
        ledger = abused.ledger
        if ledger.opened != ledger.closed or ledger.faults:
            counts = f"{ledger.opened} opened, {ledger.closed} closed"
            wrong.append(f"cycle {cycle}: {counts}, {ledger.faults[:5]}")
        if not stopped:
            wrong.append(f"cycle {cycle}: stop() returned False")
    left = len(os.listdir("/proc/self/fd")) - descriptors
    if left > 0:
        wrong.append(f"{left} descriptors are left behind by the stops")
    print(f"{cycles} stops, seconds: {min(taken):.2f} to {max(taken):.2f}")
    return wrong


def _wait_for_close(client: WSClient, told: list[object], number: int) -> None:
    try:
        with client:
            while (received := client.read_frame()).opcode != CLOSE:
                if received.opcode == PING:
                    client.send(frame(PONG, received.payload))
            told[number] = int.from_bytes(received.payload[:2], "big")
            client.send(frame(CLOSE, received.payload))
    except (OSError, EOFError, AssertionError) as error:
        told[number] = repr(error)


# -- all of it ---------------------------------------------------------------------------------


def report(port: int) -> dict[str, int]:
    with WSClient(("127.0.0.1", port), None) as client:
        found = json.loads(client.get("/report").body)
    assert isinstance(found, dict)
    return found


def settled(port: int) -> dict[str, int]:
    """What the server reports when all connections have come to their ends; wait for that."""
    # What attackers have sent is handled to its end: minutes on a slow machine.
    deadline = time.monotonic() + 15 * PATIENCE
    while (found := report(port))["opened"] != found["closed"] and time.monotonic() < deadline:
        time.sleep(1.0)
    time.sleep(7.0)  # longer than a thread waits for work
    return report(port)


def program(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-X", "faulthandler", "-W", "error", __file__, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def abuse(port: int, seconds: float) -> Guests:
    """Have it abused, and be its guests."""
    guests = Guests(port, seconds)
    abusers = program("--abuse", str(port), str(seconds))
    try:
        guests.run()
        output, _ = abusers.communicate(timeout=3 * PATIENCE)
        print(output, end="")
        if abusers.returncode:
            guests.errors["the abusers failed"] += 1
    finally:
        abusers.kill()
        abusers.wait()
    return guests


def a_minute(seconds: float) -> list[str]:
    """Abuse a server; return what went wrong."""
    server = program("--serve")
    assert server.stdout is not None
    assert server.stdin is not None
    try:
        port = int(server.stdout.readline())
        quiet = Guests(port, 3.0)
        quiet.run()
        print("before the abuse:")
        quiet.show()
        abuse(port, min(5.0, seconds))  # everything has been imported and grown once
        before = settled(port)
        print("before:", before)
        guests = abuse(port, seconds)
        after = settled(port)
        print("after: ", after)
        server.stdin.close()
        code = server.wait(30.0)
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    print("meanwhile:")
    guests.show()
    wrong = [f"not served: {error} ({count})" for error, count in guests.errors.items()]
    if code:
        wrong.append(f"the server's exit code is {code}")
    if after["opened"] != after["closed"] or after["faults"]:
        wrong.append(f"the ledger: {after}")
    slack = {"threads": 0, "descriptors": 0, "members": 0, "sockets": 0, "objects": 500, "KiB": 500}
    for name, allowed in slack.items():
        if after[name] > before[name] + allowed:
            wrong.append(f"{name} leaked: {before[name]} before, {after[name]} after")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", nargs="?", type=float, default=60.0)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--abuse", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
        return 0
    if arguments.abuse:
        port, seconds = arguments.abuse
        abusers = Abusers(("127.0.0.1", int(port)), float(seconds))
        abusers.run()
        print("abuse:", dict(sorted(abusers.counts.items())), *abusers.faults[:5], flush=True)
        return 1 if abusers.faults else 0
    wrong = a_minute(arguments.seconds) if arguments.seconds else []
    if arguments.stops:
        wrong += stop_again_and_again(arguments.stops)
    print("\n".join(wrong) or "Everybody was served, and nothing is left behind.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
