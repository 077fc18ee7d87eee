"""Where a server listens: addresses made into bound sockets, and those into connections."""

from __future__ import annotations

import errno
import math
import os
import socket
import stat
import sys

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .loop import Loop

Address = tuple[str, int] | str | socket.socket
_Target = tuple[int, "tuple[Any, ...]"]

#: Tries to find a port that is free on all addresses of a host.
PORT_ATTEMPTS = 10
#: Connections accepted before others get their turn.
ACCEPT_BATCH = 64
#: Connections beyond the maximum that are told so; further ones are cut without a word.
MAX_REFUSALS = 64
#: Descriptors that are left to the application, and to those who are turned away.
SPARE_DESCRIPTORS = 64 + 2 * MAX_REFUSALS
#: Errors that mean one connection, which has gone before it was accepted (accept(2) on Linux hands
#: over those of the network, too). After any other, trying again at once would spin.
_GONE = {
    errno.ECONNABORTED,
    errno.ECONNRESET,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    getattr(errno, "ENONET", 0),
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.EPERM,
    errno.EPROTO,
    errno.ETIMEDOUT,
}
_FAMILY_UNIX = getattr(socket, "AF_UNIX", None)
#: The option with which the system spreads connections over the sockets of one port, or None.
#: Where SO_REUSEPORT means something else, one socket gets them all.
_SPREADING: int | None = getattr(socket, "SO_REUSEPORT_LB", None)
if sys.platform == "linux":
    _SPREADING = getattr(socket, "SO_REUSEPORT", None)


def bind(address: Address, backlog: int) -> list[socket.socket]:
    """Listening sockets for an address, non-blocking.

    :param address: ``(host, port)`` where host "" means every interface and port 0 any free one;
        the path of a UNIX socket, written ``unix:/path`` or with a slash in it; or a socket that is
        bound already.
    :raises OSError: with the address in its text, if it cannot be had.
    :raises TypeError: if it is none of these.
    """
    if isinstance(address, socket.socket):
        try:
            address.listen(backlog)
            address.setblocking(False)
        except OSError as error:
            raise named(error, address) from error
        return [address]
    if isinstance(address, str) and (address.startswith("unix:") or "/" in address):
        return [_bind_unix(address.removeprefix("unix:"), backlog)]
    if not isinstance(address, tuple) or len(address) < 2:
        raise TypeError(
            f"an address is (host, port), 'unix:/path' or a bound socket, not {address!r}"
        )
    host, port = str(address[0] or ""), int(address[1])
    if not 0 <= port <= 65535:
        # The system would take its last 16 bits.
        raise named(OSError(errno.EINVAL, "a port is a number from 0 to 65535"), (host, port))
    return _bind_tcp(host, port, backlog)


def bind_for_each(address: Address, backlog: int, count: int) -> list[list[socket.socket]]:
    """Listening sockets for processes that share an address: a list for each of them.

    Where the system can spread the connections, each list has sockets of its own; elsewhere all are
    the same one.

    :raises OSError: as :func:`bind`.
    :raises TypeError: as :func:`bind`.
    """
    # Exclusively at first: that tells whether another program has the port, which could be shared
    # with it unknowingly, and decides on a free one.
    sockets = bind(address, backlog)
    if not isinstance(address, tuple) or _SPREADING is None:
        return [sockets] * count
    targets = [(sock.family, sock.getsockname()) for sock in sockets]
    _close(sockets)
    lists: list[list[socket.socket]] = []
    try:
        for _ in range(count):
            lists.append([])
            for family, name in targets:
                lists[-1].append(_listen(family, name, backlog, _SPREADING))
    except OSError as error:
        for sockets in lists:
            _close(sockets)
        raise named(error, targets[0][1][:2]) from error
    return lists


def _close(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _bind_tcp(host: str, port: int, backlog: int) -> list[socket.socket]:
    try:
        if host:
            flags = socket.AI_PASSIVE
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
            targets = list(dict.fromkeys((info[0], info[4]) for info in found))
        elif socket.has_dualstack_ipv6():
            targets = [(socket.AF_INET6, ("::", port))]
        else:
            targets = [(socket.AF_INET, ("0.0.0.0", port))]  # noqa: S104
    except (OSError, UnicodeError) as error:
        raise named(error, (host, port)) from error
    for _ in range(PORT_ATTEMPTS - 1):
        try:
            return _listen_on_all(targets, backlog)
        except OSError as error:
            # The free port of one address may be in use on another.
            if port or len(targets) == 1 or error.errno != errno.EADDRINUSE:
                raise
    return _listen_on_all(targets, backlog)


def _listen_on_all(targets: Sequence[_Target], backlog: int) -> list[socket.socket]:
    """Sockets for all the addresses of a host, with one port."""
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, target in targets:
            port = target[1] or (sockets[0].getsockname()[1] if sockets else 0)
            # The rest are flow and scope of an IPv6 address.
            name = (target[0], port, *target[2:])
            try:
                sockets.append(_listen(family, name, backlog))
            except OSError as error:
                failure = named(error, name[:2])
                # "localhost" may name ::1 on a machine without IPv6.
                if failure.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise failure from error
                missing = failure
    except BaseException:
        _close(sockets)
        raise
    if not sockets:
        assert missing is not None
        raise missing
    return sockets


def _listen(
    family: int, address: tuple[Any, ...], backlog: int, option: int | None = None
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "nt":
            # There SO_REUSEADDR would let any program take the port over.
            exclusive: int = getattr(socket, "SO_EXCLUSIVEADDRUSE")  # noqa: B009 - Windows only
            sock.setsockopt(socket.SOL_SOCKET, exclusive, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if option is not None:
            sock.setsockopt(socket.SOL_SOCKET, option, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
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
        raise named(error, path) from error
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket that a program left behind; one that answers, or another file, stays."""
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


def _inode(path: str) -> int:
    """What tells a file from another of the same name; 0 if it cannot be had."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def named(error: Exception, address: object) -> OSError:
    """The same error as an OSError that names the address."""
    if isinstance(address, tuple):
        address = f"{address[0]}:{address[1]}"
    number = error.errno if isinstance(error, OSError) and error.errno else errno.EINVAL
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return OSError(number, f"cannot listen on {address}: {reason}")


class Place:
    """Where a listening socket is reached, and the file that a UNIX socket has there."""

    def __init__(self, sock: socket.socket) -> None:
        name = sock.getsockname()
        self._path = name if isinstance(name, str) and name else None
        self._inode = _inode(self._path) if self._path else 0
        self.is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
        #: host and port, or path and 0, for URLs
        self.address: tuple[str, int] = (
            (name[0], name[1]) if self.is_tcp else (str(self._path or ""), 0)
        )

    def clear(self) -> None:
        """Remove a UNIX socket's file, unless another program has taken its path."""
        if self._path:
            try:
                if _inode(self._path) == self._inode:
                    os.unlink(self._path)
            except OSError:
                pass
            # The next file may get the same number.
            self._path = None


class Listener:
    """A listening socket in the loop. Used by the thread that leads, but for its construction.

    :param inherited: whether another process listens on, too, and will clear the place.
    """

    def __init__(self, sock: socket.socket, loop: Loop, *, inherited: bool = False) -> None:
        self.sock = sock
        self._loop = loop
        self._inherited = inherited
        self._place = Place(sock)
        self.is_tcp = self._place.is_tcp
        #: host and port that clients of this listener reached, for URLs
        self.address = self._place.address

    def on_event(self, _mask: int) -> bool:
        """Accept what has arrived. Always True: the lead stays with the caller."""
        # Otherwise it is closed in a moment, or has been since the selector reported it.
        if not self._loop.stopping:
            self.accept(ACCEPT_BATCH)
        return True

    def accept(self, most: int) -> None:
        """Accept up to so many connections of those that have arrived."""
        for _ in range(most):
            try:
                sock, peer = self.sock.accept()
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno in _GONE:
                    continue
                self._loop.pause_accepting(error)
                break
            self._loop.admit(sock, self._peer_address(peer), self)

    def _peer_address(self, peer: object) -> tuple[str, int]:
        if not self.is_tcp or not isinstance(peer, tuple):
            return ("", 0)
        host, port = peer[0], peer[1]
        # An IPv4 client of a dual-stack socket.
        return (host.removeprefix("::ffff:") if "." in host else host, port)

    def close(self) -> None:
        """Stop listening."""
        self.sock.close()
        if not self._inherited:
            self._place.clear()


def descriptors_for_connections() -> float:
    """How many connections there may be without the process running out of descriptors.

    So clients beyond them are told 503, and files can be opened for the others.
    """
    try:
        import resource
    except ImportError:
        return math.inf
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return math.inf
    return max(limit - SPARE_DESCRIPTORS, limit // 2)
