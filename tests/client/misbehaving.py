"""Servers that are nothing but sockets, and do at each stage what a test wants them to.

::

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n123")

    with Misbehaving(script) as server:
        HTTPClient(server.address).get("/").result()

A script is called for each connection, in a thread of its own; when it returns, the connection is
closed in order. Several scripts serve one connection each, the last all that follow. A script that
waits (`hang`, `read…`) is woken when the client closes or cuts the connection, which `gone` tells,
and when the server is closed.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import zlib
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator
    from types import TracebackType

    Script = Callable[["Peer"], object]

#: Seconds to wait for what has to come; far more than it takes, as the machine may be busy.
PATIENCE = 30.0


class Gone(Exception):  # noqa: N818
    """The client has closed the connection."""


class Peer:
    """The server's end of a connection."""

    def __init__(self, sock: socket.socket, server: Misbehaving) -> None:
        self.sock = sock
        self.server = server
        self.buffer = b""

    def read_head(self) -> bytes:
        """The next request's head, up to its empty line."""
        return self.read_until(b"\r\n\r\n")

    def read_request(self) -> tuple[bytes, bytes]:
        """The next request: head and content."""
        head = self.read_head()
        self.server.requests.append(head)
        lower = head.lower()
        body = b""
        if b"\r\ntransfer-encoding: chunked\r\n" in lower:
            while size := int(self.read_until(b"\r\n"), 16):
                body += self.read_exactly(size)
                self.read_exactly(2)
            self.read_exactly(2)
        elif b"\r\ncontent-length:" in lower:
            length = lower.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0]
            body = self.read_exactly(int(length))
        self.server.bodies.append(body)
        return head, body

    def read_until(self, mark: bytes) -> bytes:
        while mark not in self.buffer:
            self._more()
        found, _, self.buffer = self.buffer.partition(mark)
        return found + mark

    def read_exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self._more()
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    def _more(self) -> None:
        try:
            data = self.sock.recv(65536)
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        self.buffer += data

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Gone from error

    def answer(self, body: bytes = b"", *fields: str, status: str = "200 OK") -> None:
        """Send a proper answer."""
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
        self.send("\r\n".join(lines).encode("latin-1") + body)

    def drip(self, data: bytes, pause: float) -> None:
        """Send byte by byte, with a pause (seconds) after each."""
        for at in range(len(data)):
            self.send(data[at : at + 1])
            if self.server.closing.wait(pause):
                raise Gone

    def hang(self) -> None:
        """Do nothing until the client is gone."""
        while True:
            self.buffer = b""
            self._more()

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


class Misbehaving:
    """A server on 127.0.0.1 that follows scripts.

    `requests` and `bodies` are what `Peer.read_request` has read, `connections` how many there
    were, `gone` is released once for each connection that has come to its end.
    """

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address: tuple[str, int] = self._listener.getsockname()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.address[1]}"
        self.requests: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.gone = threading.Semaphore(0)
        self.closing = threading.Event()
        self.errors: list[BaseException] = []
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def _start(self, target: Callable[..., object], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name="misbehaving", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            if self.closing.is_set():
                sock.close()
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            self._start(self._serve, sock, script)

    def _serve(self, sock: socket.socket, script: Script) -> None:
        sock.settimeout(PATIENCE)
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            with self._lock:
                self._sockets.add(sock)
            script(Peer(sock, self))
        except (Gone, OSError):
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            with self._lock:
                self._sockets.discard(sock)
            sock.close()
            self.gone.release()

    def wait_gone(self, connections: int = 1) -> bool:
        """Whether so many (more) connections have come to their end, waiting for it."""
        return all(self.gone.acquire(timeout=PATIENCE) for _ in range(connections))

    def close(self) -> None:
        self.closing.set()
        with contextlib.suppress(OSError):
            # Wakes the thread that waits in accept.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in self._sockets:
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        assert self.errors == []


def free_address() -> tuple[str, int]:
    """An address of 127.0.0.1 that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address: tuple[str, int] = sock.getsockname()
        return address


@contextlib.contextmanager
def unanswering() -> Iterator[tuple[str, int]]:
    """An address where connecting is neither accepted nor refused: its backlog is full."""
    with contextlib.ExitStack() as sockets:
        listener = sockets.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        # The kernel takes one or two more than it was told.
        for _ in range(4):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()


# Scripts that many tests want.


def hang_at_once(peer: Peer) -> None:
    """Accept, and do nothing."""
    peer.hang()


def hang_after_request(peer: Peer) -> None:
    peer.read_request()
    peer.hang()


def hang_in_head(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-")
    peer.hang()


def hang_in_body(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    peer.hang()


def cut_at_once(peer: Peer) -> None:
    peer.reset()


def close_after_request(peer: Peer) -> None:
    peer.read_request()


def reset_after_request(peer: Peer) -> None:
    peer.read_request()
    peer.reset()


def close_in_head(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-")


def close_in_body(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")


def reset_in_body(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
    peer.reset()


def close_in_chunks(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")


def garbage(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"\x00\x01\x02 this is no HTTP \xff\xfe\r\n\r\n")


def drip_forever(peer: Peer) -> None:
    """A body that goes on byte by byte, faster than any silence is noticed."""
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    peer.drip(b"x" * 100000, 0.02)


def redirect_forever(peer: Peer) -> None:
    while True:
        peer.read_request()
        peer.answer(b"", "Location: /again", status="302 Found")


def endless_head(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        peer.send(b"X-More: and more\r\n" * 100)


def endless_body(peer: Peer) -> None:
    peer.read_request()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        peer.send(b"x" * 65536)


def endless_interim(peer: Peer) -> None:
    peer.read_request()
    while True:
        peer.send(b"HTTP/1.1 102 Processing\r\n\r\n")


def bomb(size: int = 1 << 30) -> bytes:
    """`size` zero bytes in gzip: a thousandth of that."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(size >> 20)) + packer.flush()


def bombing(packed: bytes) -> Script:
    """A script that answers with a bomb."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.answer(packed, "Content-Encoding: gzip")

    return script
