"""Where a server listens: addresses made into bound sockets, and those into connections."""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .loop import Loop

Address = tuple[str, int] | str | socket.socket

#: Connections accepted before others get their turn.
ACCEPT_BATCH = 64
#: The machine is out of something; trying again at once would spin.
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_FAMILY_UNIX = getattr(socket, "AF_UNIX", None)


def bind(address: Address, backlog: int) -> list[socket.socket]:
    """Listening sockets for an address, non-blocking.

    :param address: ``(host, port)`` where host "" means every interface and port 0 any free one; the path of
        a UNIX socket, written ``unix:/path`` or with a slash in it; or a socket that is bound already.
    :raises OSError: with the address in its text, if it cannot be had.
    :raises TypeError: if it is none of these.
    """
    if isinstance(address, socket.socket):
        address.listen(backlog)
        address.setblocking(False)
        return [address]
    if isinstance(address, str) and (address.startswith("unix:") or "/" in address):
        return [_bind_unix(address.removeprefix("unix:"), backlog)]
    if not isinstance(address, tuple) or len(address) < 2:
        raise TypeError(
            f"an address is (host, port), 'unix:/path' or a bound socket, not {address!r}"
        )
    return _bind_tcp(str(address[0] or ""), int(address[1]), backlog)


def _bind_tcp(host: str, port: int, backlog: int) -> list[socket.socket]:
    try:
        if host:
            found = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            targets = list(dict.fromkeys((info[0], info[4][:2]) for info in found))
        elif socket.has_dualstack_ipv6():
            targets = [(socket.AF_INET6, ("::", port))]
        else:
            targets = [(socket.AF_INET, ("0.0.0.0", port))]  # noqa: S104
    except (OSError, UnicodeError) as error:
        raise _named(error, f"{host}:{port}") from error
    sockets: list[socket.socket] = []
    try:
        for family, (name, number) in targets:
            # All of a host's addresses share the port that the first one got.
            number = number or (sockets[0].getsockname()[1] if sockets else 0)
            try:
                sockets.append(_listen(family, (str(name), int(number)), backlog))
            except OSError as error:
                # "localhost" may name ::1 on a machine without IPv6.
                if not sockets or error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise _named(error, f"{name}:{number}") from error
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _listen(family: int, address: tuple[str, int], backlog: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "nt":
            # There SO_REUSEADDR would let any program take the port over.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)  # type: ignore[attr-defined,unused-ignore]
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(
                socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1
            )
        sock.bind(address)
        sock.listen(backlog)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_unix(path: str, backlog: int) -> socket.socket:
    if _FAMILY_UNIX is None:
        raise OSError(errno.EAFNOSUPPORT, f"cannot listen on {path}: no UNIX sockets here")
    sock = socket.socket(_FAMILY_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        sock.bind(path)
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise _named(error, path) from error
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket that a program left behind; one that answers, or another kind of file, stays."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(_FAMILY_UNIX or 0, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except BlockingIOError:
            return


def _named(error: OSError | UnicodeError, address: str) -> OSError:
    number = error.errno if isinstance(error, OSError) and error.errno else errno.EINVAL
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return OSError(number, f"cannot listen on {address}: {reason}")


class Listener:
    """A listening socket in the loop. Used by the thread that leads, but for its construction."""

    def __init__(self, sock: socket.socket, loop: Loop) -> None:
        self.sock = sock
        self._loop = loop
        name = sock.getsockname()
        self._path = name if isinstance(name, str) and name else None
        self._inode = os.stat(self._path).st_ino if self._path else 0
        self.is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
        #: host and port that clients of this listener reached, for URLs
        self.address: tuple[str, int] = (
            (name[0], name[1]) if self.is_tcp else (str(self._path or ""), 0)
        )

    def on_event(self, _mask: int) -> bool:
        """Accept what has arrived. Always True: the lead stays with the caller."""
        for _ in range(ACCEPT_BATCH):
            try:
                sock, peer = self.sock.accept()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._loop.pause_accepting(error)
                    break
                # The client has gone before it was accepted (ECONNABORTED and its like).
                continue
            self._loop.admit(sock, self._peer_address(peer), self)
        return True

    def _peer_address(self, peer: object) -> tuple[str, int]:
        if not self.is_tcp or not isinstance(peer, tuple):
            return ("", 0)
        host, port = peer[0], peer[1]
        # An IPv4 client of a dual-stack socket.
        return (host.removeprefix("::ffff:") if "." in host else host, port)

    def close(self) -> None:
        """Stop listening; remove a UNIX socket's path unless another program has taken it."""
        self.sock.close()
        if self._path:
            try:
                if os.stat(self._path).st_ino == self._inode:
                    os.unlink(self._path)
            except OSError:
                pass
