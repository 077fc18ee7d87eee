"""Clients by the thousand, in a process of their own: raw sockets, little work for each.

    python scripts/bench/load/many.py burst PORT CONNECTIONS SECONDS
    python scripts/bench/load/many.py park PORT CONNECTIONS

`burst` connects all at once, asks on each connection once, closes them, and does so again until the
seconds are over. `park` asks once on each connection, and keeps it until standard input ends.
Each tells what came of it by a line of JSON.
"""

from __future__ import annotations

import errno
import json
import os
import select
import socket
import struct
import sys
import time

REQUEST = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUser-Agent: bench\r\n\r\n"
BODY = b"Hello, World!"
#: Seconds for a whole burst, and for a single answer to a parked connection.
PATIENCE = 20.0
#: Seconds that parking may take in all.
PARKING = 120.0
#: Closed by a reset, so that the ports are free again at once.
RESET = struct.pack("ii", 1, 0)


class Burst:
    """One burst: how long each of its clients waited for its answer."""

    def __init__(self, port: int, connections: int) -> None:
        self.port = port
        self.connections = connections
        self.request = REQUEST % port
        self.poll = select.epoll()
        self.socks: dict[int, socket.socket] = {}
        self.received: dict[int, bytes] = {}
        self.waited: list[float] = []

    def run(self) -> None:
        start = time.perf_counter()
        for _ in range(self.connections):
            sock = socket.socket()
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            trouble = sock.connect_ex(("127.0.0.1", self.port))
            if trouble not in (0, errno.EINPROGRESS):
                sock.close()
                continue
            self.socks[sock.fileno()] = sock
            self.poll.register(sock, select.EPOLLOUT)
        end = start + PATIENCE
        while self.socks and time.perf_counter() < end:
            for descriptor, mask in self.poll.poll(max(0.0, end - time.perf_counter())):
                try:
                    self.serve(descriptor, mask, start)
                except OSError:
                    self.close(descriptor)
        for descriptor in list(self.socks):
            self.close(descriptor)
        self.poll.close()

    def serve(self, descriptor: int, mask: int, start: float) -> None:
        sock = self.socks[descriptor]
        if mask & select.EPOLLOUT:
            sock.send(self.request)
            self.poll.modify(sock, select.EPOLLIN)
            return
        data = self.received.get(descriptor, b"") + sock.recv(65536)
        if data.endswith(BODY):
            self.waited.append(time.perf_counter() - start)
            self.close(descriptor)
        elif data == self.received.get(descriptor, b""):
            self.close(descriptor)  # it has ended
        else:
            self.received[descriptor] = data

    def close(self, descriptor: int) -> None:
        self.received.pop(descriptor, None)
        sock = self.socks.pop(descriptor)
        self.poll.unregister(sock)
        sock.close()


def burst(port: int, connections: int, seconds: float) -> dict[str, float]:
    waited: list[float] = []
    asked, start, cpu = 0, time.perf_counter(), time.process_time()
    while not asked or time.perf_counter() < start + seconds:
        one = Burst(port, connections)
        one.run()
        asked += connections
        waited += one.waited
        if len(one.waited) < connections / 2:
            break  # it does not become better
    took = time.perf_counter() - start
    waited.sort()
    return {
        "requests": len(waited),
        "failed": asked - len(waited),
        "seconds": took,
        "cpu": time.process_time() - cpu,
        "p50": 1000 * waited[len(waited) // 2] if waited else 0.0,
        "p99": 1000 * waited[len(waited) * 99 // 100] if waited else 0.0,
    }


def park(port: int, connections: int) -> list[socket.socket]:
    """Connections that have had an answer each; fewer if the server has no more of them."""
    parked: list[socket.socket] = []
    end = time.monotonic() + PARKING
    while len(parked) < connections and time.monotonic() < end:
        sock = socket.socket()
        sock.settimeout(PATIENCE)
        try:
            sock.connect(("127.0.0.1", port))
            sock.sendall(REQUEST % port)
            answer = b""
            while not answer.endswith(BODY):
                piece = sock.recv(65536)
                if not piece:
                    raise ConnectionError("closed")
                answer += piece
        except OSError:
            sock.close()
            break
        parked.append(sock)
    return parked


def main() -> None:
    job, port, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if job == "burst":
        print(json.dumps(burst(port, connections, float(sys.argv[4]))), flush=True)
        return
    parked = park(port, connections)
    print(json.dumps({"parked": len(parked)}), flush=True)
    os.read(0, 100)
    alive = select.poll()
    for sock in parked:
        alive.register(sock, select.POLLIN)
    print(json.dumps({"closed": len(alive.poll(0))}), flush=True)
    os.read(0, 100)


if __name__ == "__main__":
    main()
