"""WebSocket clients for the benches, in a process of their own: raw sockets, little work a message.

    python scripts/bench/load/crowd.py echo PORT CONNECTIONS SIZE SECONDS [text]
    python scripts/bench/load/crowd.py wait PORT CONNECTIONS SOURCE-ADDRESS SIZE

`measure.py` and `broadcast.py` run it. It prints a line when all connections are open, obeys
lines on its standard input, and answers by lines of JSON. Neither extensions nor subprotocols are
offered. Frames are masked before anything is measured, and `select.epoll` is used as it is:
`selectors` would add a quarter to what a message costs here.
"""

from __future__ import annotations

import json
import os
import random
import select
import socket
import sys
import time

TEXT, BINARY, PING, PONG = 0x81, 0x82, 0x89, 0x8A  # of a whole message, FIN set
#: The key and the answer to it that RFC 6455 §1.3 shows.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#: Seconds for any single step of opening; a server that needs longer does not work.
PATIENCE = 30.0


def frame(opening: int, payload: bytes, *, masked: bool = True) -> bytes:
    """A whole message in one frame (RFC 6455 §5.2)."""
    size, bit = len(payload), 0x80 if masked else 0
    if size < 126:
        head = bytes((opening, bit | size))
    elif size < 65536:
        head = bytes((opening, bit | 126)) + size.to_bytes(2, "big")
    else:
        head = bytes((opening, bit | 127)) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    key = bytes(random.randrange(1, 256) for _ in range(4))
    stream = (key * (size // 4 + 1))[:size]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")
    return head + key + mixed.to_bytes(size, "big")


def open_websocket(port: int, source: str) -> socket.socket:
    """Connect and shake hands; whatever the server does wrong is a RuntimeError."""
    sock = socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {KEY}\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = sock.recv(4096)
        if not piece:
            raise RuntimeError(f"closed after {answer!r}")
        answer += piece
    head, _, rest = answer.partition(b"\r\n\r\n")
    if b" 101 " not in head[:13] or ACCEPT not in head or b"extensions:" in head.lower() or rest:
        raise RuntimeError(f"no WebSocket as it was asked for: {answer!r}")
    return sock


def check_echo(sock: socket.socket, sent: bytes, expected: bytes) -> None:
    sock.sendall(sent)
    answer = b""
    while len(answer) < len(expected):
        piece = sock.recv(len(expected) - len(answer))
        if not piece:
            raise RuntimeError("closed within an echo")
        answer += piece
    if answer != expected:
        raise RuntimeError(f"not an echo: {answer[:40]!r}, expected {expected[:40]!r}")


class Echo:
    """Connections that have one message in flight each, for a number of seconds."""

    def __init__(self, port: int, connections: int, size: int, opening: int) -> None:
        payload = bytes(random.choices(range(32, 127), k=size))
        self.frame = frame(opening, payload)
        self.echo = frame(opening, payload, masked=False)
        self.poll = select.epoll()
        self.socks: dict[int, socket.socket] = {}
        for _ in range(connections):
            sock = open_websocket(port, "127.0.0.1")
            # So that a message goes out whole, and one call reads the echo.
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                sock.setsockopt(socket.SOL_SOCKET, option, 2 * len(self.frame) + 65536)
            check_echo(sock, self.frame, self.echo)
            sock.setblocking(False)
            self.socks[sock.fileno()] = sock
            self.poll.register(sock, select.EPOLLOUT)
        #: Bytes of each connection's echo that have not come yet.
        self.missing = dict.fromkeys(self.socks, len(self.echo))
        #: Bytes sent of the messages that are not wholly sent.
        self.sent = dict.fromkeys(self.socks, 0)

    def run(self, seconds: float) -> dict[str, float]:
        """Echo that long: messages that came back, seconds they took, CPU seconds used here."""
        poll, buffer = self.poll, bytearray(2 * len(self.echo) + 65536)
        echo, whole, view = len(self.echo), len(self.frame), memoryview(self.frame)
        missing, sent = self.missing, self.sent
        receive = {fd: sock.recv_into for fd, sock in self.socks.items()}
        send = {fd: sock.send for fd, sock in self.socks.items()}
        # Counted by bytes: many connections may have a large message under way.
        messages = -sum(echo - left for left in missing.values()) / echo
        clock = time.perf_counter
        cpu, start = time.process_time(), clock()
        end = start + seconds
        while clock() < end:
            for fd, _ in poll.poll(max(0.0, end - clock())):
                if fd in sent:
                    sent[fd] += send[fd](view[sent[fd] :])
                    if sent[fd] == whole:
                        del sent[fd]
                        poll.modify(fd, select.EPOLLIN)
                    continue
                count = receive[fd](buffer)
                left = missing[fd] - count
                if left > 0 < count:
                    missing[fd] = left
                    continue
                if left or not count:
                    raise RuntimeError("the server closed, or sent what is no echo")
                messages += 1
                missing[fd] = echo
                taken = send[fd](view)
                if taken < whole:
                    sent[fd] = taken
                    poll.modify(fd, select.EPOLLOUT)
        took = clock() - start
        messages += sum(echo - left for left in missing.values()) / echo
        return {
            "messages": messages,
            "seconds": took,
            "cpu": time.process_time() - cpu,
        }


class Waiting:
    """Idle connections that answer pings, and tell when all of them have got a message."""

    def __init__(self, port: int, connections: int, source: str, message: bytes) -> None:
        self.expected = frame(BINARY, message, masked=False)
        self.poll = select.epoll()
        self.socks: dict[int, socket.socket] = {}
        self.partial: dict[int, bytes] = {}
        self.pings = self.messages = 0
        for _ in range(connections):
            sock = open_websocket(port, source)
            sock.setblocking(False)
            self.socks[sock.fileno()] = sock
            self.poll.register(sock, select.EPOLLIN)

    def run(self) -> None:
        """Until standard input ends. Each time that all have got a message, tell when it was."""
        self.poll.register(0, select.EPOLLIN)
        receive = {fd: sock.recv for fd, sock in self.socks.items()}
        expected, everybody = self.expected, len(self.socks)
        while True:
            for fd, _ in self.poll.poll():
                if fd == 0:
                    if not os.read(0, 100):
                        return
                    tell({"pings": self.pings, "messages": self.messages})
                    continue
                data, before = receive[fd](65536), self.messages
                if data == expected and fd not in self.partial:
                    self.messages += 1
                else:
                    self.read(fd, data)
                if self.messages > before and self.messages % everybody == 0:
                    tell({"at": time.monotonic_ns(), "messages": self.messages})

    def read(self, fd: int, data: bytes) -> None:
        """Take what came otherwise than as one whole message, and answer pings."""
        if not data:
            raise RuntimeError("the server closed an idle connection")
        data = self.partial.pop(fd, b"") + data
        while len(data) > 1:
            size = 2 + data[1] if data[0] == PING else len(self.expected)
            if len(data) < size:
                break
            one, data = data[:size], data[size:]
            if one[0] == PING:
                self.pings += 1
                self.socks[fd].send(frame(PONG, one[2:]))
            elif one == self.expected:
                self.messages += 1
            else:
                raise RuntimeError(f"not what was sent to all: {one[:40]!r}")
        if data:
            self.partial[fd] = data


def tell(result: dict[str, float] | dict[str, int]) -> None:
    print(json.dumps(result), flush=True)


def main() -> None:
    job, port, connections = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    start = time.perf_counter()
    if job == "echo":
        echo = Echo(port, connections, int(sys.argv[4]), TEXT if "text" in sys.argv else BINARY)
        echo.run(0.5)  # so that everything has been imported, started and grown
        tell({"opened": time.perf_counter() - start})
        if os.read(0, 100):
            tell(echo.run(float(sys.argv[5])))
            os.read(0, 100)  # the connections stay until nobody looks any more
    else:
        crowd = Waiting(port, connections, sys.argv[4], b"x" * int(sys.argv[5]))
        tell({"opened": time.perf_counter() - start})
        crowd.run()


if __name__ == "__main__":
    main()
