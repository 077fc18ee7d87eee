"""Connections: urllib3's, made so that another thread can cut them at any stage.

urllib3 opens them, with TLS, tunnels through proxies, and verification. Its classes are given two
things by ours: where the socket comes from, and who is told of it before it connects.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
from contextlib import suppress
from time import monotonic

from urllib3.connection import HTTPConnection, HTTPSConnection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .urls import Origin

    #: Is given what cuts the connection that is being made, or None when that is over.
    Held = Callable[[Callable[[], object] | None], None]

# Bytes asked for at once.
RECEIVE = 65536


def _lowest(sock: Any) -> socket.socket:
    while not isinstance(sock, socket.socket):
        sock = sock.socket  # TLS within TLS
    return sock


def shut(sock: Any) -> None:
    """Shut a socket down in both directions, so that whoever waits for it is woken.

    Not by SSLSocket's own method, which drops the TLS state a reader in another thread is using.
    """
    try:
        socket.socket.shutdown(_lowest(sock), socket.SHUT_RDWR)
    except OSError:
        pass  # it is closed, or was never connected


def _let_go(held: Held | None) -> None:
    """Have nobody cut what is about to be closed: its number may be that of another then."""
    if held is not None:
        with suppress(Exception):  # it tells that somebody has ended it, as he may have
            held(None)


def dial(
    host: str,
    port: int,
    timeout: float | None,
    options: list[tuple[int, int, int]],
    held: Held | None,
) -> socket.socket:
    """Return a socket connected to one of the addresses of a name, tried in order; raises OSError.

    `timeout` (seconds or None) is for all of them; each is given its share of what is left.
    """
    ends = None if timeout is None else monotonic() + timeout
    addresses = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    for left, (family, kind, protocol, _, address) in zip(
        range(len(addresses), 0, -1), addresses, strict=True
    ):
        sock = socket.socket(family, kind, protocol)
        try:
            for option in options:
                sock.setsockopt(*option)
            if held is not None:
                held(lambda sock=sock: shut(sock))  # type: ignore[misc]
            # A time that has passed would make the socket non-blocking.
            sock.settimeout(None if ends is None else max((ends - monotonic()) / left, 0.001))
            sock.connect(address)
        except OSError:
            _let_go(held)
            sock.close()
            if left == 1:
                raise
        except BaseException:
            _let_go(held)
            sock.close()
            raise
        else:
            return sock
    raise OSError(f"{host} has no address")


def _dial_path(path: str, timeout: float | None, held: Held | None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        if held is not None:
            held(lambda: shut(sock))
        sock.settimeout(timeout)
        sock.connect(path)
    except BaseException:
        _let_go(held)
        sock.close()
        raise
    return sock


class _Reported:
    """What both kinds have in common: how the socket is made."""

    #: the path of a UNIX socket, or ""
    path = ""
    held: Held | None = None
    #: a second descriptor of the connection, to cut it with while TLS has the first
    spare: socket.socket | None = None

    if TYPE_CHECKING:
        _dns_host: str
        port: int
        timeout: float | None

    def _new_conn(self) -> socket.socket:
        """Make the socket; urllib3's place to do so differently."""
        if self.path:
            sock = _dial_path(self.path, self.timeout, self.held)
        else:
            nodelay = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
            sock = dial(self._dns_host, self.port, self.timeout, nodelay, self.held)
        if self.held is not None and isinstance(self, HTTPSConnection):
            try:
                self.spare = spare = sock.dup()
                self.held(lambda: shut(spare))
            except BaseException:
                _let_go(self.held)
                sock.close()
                raise
        return sock


class PlainConnection(_Reported, HTTPConnection):
    """To an HTTP server, or a proxy for it."""


class TLSConnection(_Reported, HTTPSConnection):
    """To an HTTPS server, through a proxy's tunnel or not, or to an HTTPS proxy."""


class Connection:
    """A connection that is open: bytes go out and come in; one thread at a time uses it."""

    __slots__ = ("_link", "_timeout", "buffer", "forwarding", "origin", "ragged", "reused", "sock")

    def __init__(
        self, link: PlainConnection | TLSConnection, origin: Origin, forwarding: bool
    ) -> None:
        self._link = link
        self.origin = origin
        #: whether a proxy takes the requests, and wants whole URLs
        self.forwarding = forwarding
        self.sock: Any = link.sock
        #: whether it has ended without TLS having been closed: somebody may have cut it
        self.ragged = False
        if isinstance(link, TLSConnection):
            # Both kinds of TLS sockets would tell of that as of an end.
            sock: Any = link.sock
            sock.suppress_ragged_eofs = False
        self.reused = False
        #: what was received and not yet used
        self.buffer = b""
        self._timeout: float | None = -1.0

    def set_timeout(self, seconds: float | None) -> None:
        """Set the longest silence."""
        if seconds != self._timeout:
            self.sock.settimeout(seconds)
            self._timeout = seconds

    def receive(self) -> bytes:
        """Wait for bytes; b"" at the end of the stream."""
        try:
            data: bytes = self.sock.recv(RECEIVE)
        except ssl.SSLEOFError:
            self.ragged = True
            return b""
        return data

    def send(self, data: bytes | memoryview) -> None:
        """Send all of it; the timeout is for all of it too."""
        self.sock.sendall(data)

    @property
    def usable(self) -> bool:
        """Whether it is open and silent, as it must be between requests."""
        return not self.buffer and self._link.is_connected

    @property
    def readable(self) -> bool:
        """Whether there is something to receive, or an end, without waiting."""
        return bool(self.buffer) or not self._link.is_connected

    def cut(self) -> None:
        """Wake whoever uses it, with an error; any thread may call this."""
        shut(self.sock)

    def close(self) -> None:
        """Close it."""
        self._link.close()

    def reset(self) -> None:
        """Close it so that the server knows at once that nobody reads any more.

        After an ordinary close with unread data a server may go on waiting for room to send.
        """
        with suppress(OSError):
            pair = "hh" if os.name == "nt" else "ii"
            _lowest(self.sock).setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack(pair, 1, 0)
            )
        self.close()


def opened(
    link: PlainConnection | TLSConnection, held: Held, tunnel: Callable[[], None] | None
) -> None:
    """Connect, so that what `held` was given last cuts it at every step.

    Raises whatever urllib3, ssl and socket raise; nothing is left open then.
    """
    link.held = held
    try:
        if tunnel is not None:
            tunnel()
        link.connect()
        held(None)
    except BaseException:
        _let_go(held)
        link.close()
        raise
    finally:
        link.held = None
        if link.spare is not None:
            link.spare.close()
            link.spare = None


__all__ = ["Connection", "PlainConnection", "TLSConnection", "dial", "opened", "shut"]
