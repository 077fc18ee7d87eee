"""The ceiling for any server in Python: one epoll loop that answers fixed bytes, unread."""

from __future__ import annotations

import select
import socket

from scripts.bench.peers.apps import work


def answer() -> bytes:
    head = f"HTTP/1.1 200 OK\r\nDate: {work.date()}\r\nContent-Type: {work.TEXT}\r\n"
    return head.encode() + b"Content-Length: 13\r\n\r\n" + work.HELLO


def main() -> None:
    listener = socket.create_server((work.HOST, work.PORT), backlog=work.BACKLOG)
    listener.setblocking(False)
    door = listener.fileno()
    poll = select.epoll()
    poll.register(door, select.EPOLLIN)
    clients: dict[int, socket.socket] = {}
    fixed = answer()
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == door:
                try:
                    client, _ = listener.accept()
                except BlockingIOError:
                    continue
                client.setblocking(False)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[client.fileno()] = client
                poll.register(client, select.EPOLLIN)
                continue
            client = clients[descriptor]
            try:
                if client.recv(65536):
                    client.send(fixed)
                    continue
            except OSError:
                pass
            poll.unregister(client)
            del clients[descriptor]
            client.close()


if __name__ == "__main__":
    main()
