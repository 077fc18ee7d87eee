"""An HTTP client that is nothing but a socket: a test decides on each byte and each moment."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

#: Seconds to wait for what has to come; far more than it takes, as the machine may be busy.
PATIENCE = 30.0


@dataclass
class Answer:
    """A response as received."""

    status: int
    fields: dict[str, str]
    body: bytes = b""
    trailers: bytes = b""
    #: the pieces as the chunks came
    chunks: list[bytes] = field(default_factory=list)


class Client:
    """A connection to a server."""

    def __init__(
        self,
        address: tuple[str, int],
        *,
        receive_buffer: int | None = None,
        tls: ssl.SSLContext | None = None,
        handshake: bool = True,
    ) -> None:
        sock: Any
        if address[0].startswith("/"):
            sock = socket.socket(socket.AF_UNIX)
            target: Any = address[0]
        else:
            sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
            target = address
        sock.settimeout(PATIENCE)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            sock.connect(target)
            if tls is not None:
                sock = tls.wrap_socket(
                    sock, server_hostname="localhost", do_handshake_on_connect=handshake
                )
        except BaseException:
            sock.close()
            raise
        self.sock = sock
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(
        self, path: str = "/", *fields: str, method: str = "GET", version: str = "1.1"
    ) -> Answer:
        """Ask and read the answer."""
        self.ask(path, *fields, method=method, version=version)
        return self.read(head_only=method == "HEAD")

    def ask(self, path: str = "/", *fields: str, method: str = "GET", version: str = "1.1") -> None:
        lines = [f"{method} {path} HTTP/{version}", "Host: test", *fields, "", ""]
        self.send("\r\n".join(lines).encode())

    def post(self, path: str, body: bytes, *fields: str) -> Answer:
        lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *fields]
        self.send("\r\n".join([*lines, "", ""]).encode() + body)
        return self.read()

    def read(self, *, head_only: bool = False) -> Answer:
        """The next response, final or not."""
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, _ = head[0].split(" ", 2)
        assert version == "HTTP/1.1"
        fields = {}
        for line in head[1:-2]:
            name, _, value = line.partition(":")
            assert name.lower() not in fields, f"{name} comes twice"
            fields[name.lower()] = value.strip()
        answer = Answer(int(status), fields)
        if head_only or answer.status < 200 or answer.status in (204, 304):
            return answer
        if fields.get("transfer-encoding") == "chunked":
            assert "content-length" not in fields
            self._read_chunks(answer)
        elif "content-length" in fields:
            answer.body = self._exactly(int(fields["content-length"]))
        else:
            assert fields["connection"] == "close"
            answer.body = self.rest()
        return answer

    def _read_chunks(self, answer: Answer) -> None:
        while size := int(self._until(b"\r\n"), 16):
            answer.chunks.append(self._exactly(size))
            assert self._exactly(2) == b"\r\n"
        while (line := self._until(b"\r\n")) != b"\r\n":
            answer.trailers += line
        answer.body = b"".join(answer.chunks)

    def head(self) -> bytes:
        """A response's head, and nothing more."""
        return self._until(b"\r\n\r\n")

    def some(self, size: int = 65536) -> bytes:
        """What is there, at least a byte; b"" at the end."""
        data: bytes
        if self._buffer:
            data, self._buffer = self._buffer[:size], self._buffer[size:]
        else:
            data = self.sock.recv(size)
        return data

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"the server closed after {self._buffer!r}")
            self._buffer += data
        end = self._buffer.index(mark) + len(mark)
        data, self._buffer = self._buffer[:end], self._buffer[end:]
        return data

    def _exactly(self, size: int) -> bytes:
        pieces = []
        while size:
            data = self.some(size)
            if not data:
                raise EOFError(f"the server closed {size} bytes early")
            pieces.append(data)
            size -= len(data)
        return b"".join(pieces)

    def rest(self) -> bytes:
        """Everything until the server closes."""
        pieces = []
        while data := self.some():
            pieces.append(data)
        return b"".join(pieces)

    def is_closed(self) -> bool:
        """Wait for the server to close, or to reset; False if it sends something instead."""
        try:
            return self.some() == b""
        except ConnectionError:
            return True

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanish: the server gets a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
