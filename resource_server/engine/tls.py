"""TLS: contexts, and a socket whose handshake, reads and writes never block.

The ``ssl`` module is imported on first use, so that a server without TLS does not pay for it.
"""

from __future__ import annotations

import os
import selectors
import socket

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    import ssl
    from typing import NoReturn


def server_context(privkey: str | os.PathLike[str], cert: str | os.PathLike[str]) -> ssl.SSLContext:
    """A context for a server with this certificate: TLS 1.2 or newer, offering HTTP/1.1 by ALPN.

    :param privkey: path of the private key (PEM).
    :param cert: path of the certificate, followed by those that signed it (PEM).
    :raises OSError: naming the file, when one cannot be read, or is not what it should be
        (``ssl.SSLError`` is an OSError).
    """
    import ssl

    for path in (privkey, cert):
        with open(path, "rb"):
            pass
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(os.fspath(cert), os.fspath(privkey), password="")
    except ssl.SSLError as error:
        files = f"certificate {os.fspath(cert)!r} and key {os.fspath(privkey)!r}"
        raise ssl.SSLError(error.errno, f"the {files} do not work: {error}") from error
    return context


#: The most that a record of TLS holds (RFC 8446 §5.1).
RECORD_SIZE = 16384


class TLSSocket:
    """A non-blocking TLS connection with the part of ``socket.socket`` that a connection uses.

    What TLS wants in the meantime shows as ``BlockingIOError``, as with a plain socket; ``wants``
    tells which readiness to wait for, as a TLS write may have to read first and the other way
    round.
    """

    __slots__ = ("_sock", "_ssl", "send_wants", "wants")

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        import ssl

        self._ssl = ssl
        self.wants = selectors.EVENT_READ
        #: the same of the last `send` that took nothing, for one who reads in between
        self.send_wants = selectors.EVENT_WRITE
        # Asked here: with a peer that has gone, wrap_socket() fails without closing what it made.
        sock.getpeername()
        self._sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)

    def handshake(self) -> None:
        """Take the handshake a step further.

        :raises BlockingIOError: when it needs the socket to become ready for ``wants``.
        :raises OSError: when it failed.
        """
        try:
            self._sock.do_handshake()
        except self._ssl.SSLWantReadError:
            self._block(selectors.EVENT_READ)
        except self._ssl.SSLWantWriteError:
            self._block(selectors.EVENT_WRITE)

    def recv(self, size: int) -> bytes:
        """Everything that has been decrypted, about ``size`` bytes at most; b"" at the end."""
        try:
            data: bytes = self._sock.recv(size)
        except self._ssl.SSLWantReadError:
            self._block(selectors.EVENT_READ)
        except self._ssl.SSLWantWriteError:
            self._block(selectors.EVENT_WRITE)
        # What OpenSSL has decrypted already makes no socket readable again.
        while data and len(data) < size and (pending := self._sock.pending()):
            data += self._sock.recv(min(pending, size - len(data)))
        return data

    def discard(self, size: int) -> bytes:
        """What the peer still sends after ``shutdown``, as it is: nobody wants to read it."""
        return socket.socket.recv(self._sock, size)

    def send(self, data: bytes | memoryview) -> int:
        """Send what can be sent; the number of bytes taken.

        What was not taken has to be tried again unchanged. It is sent record by record, as OpenSSL
        tells of no progress within what it was given at once.
        """
        view = memoryview(data)
        sent = 0
        try:
            while sent < len(view):
                sent += self._sock.send(view[sent : sent + RECORD_SIZE])
        except self._ssl.SSLWantReadError:
            self.send_wants = selectors.EVENT_READ
        except self._ssl.SSLWantWriteError:
            self.send_wants = selectors.EVENT_WRITE
        if not sent:
            self._block(self.send_wants)
        return sent

    def _block(self, wants: int) -> NoReturn:
        self.wants = wants
        raise BlockingIOError("TLS needs the socket to become ready") from None

    def shutdown(self, how: int) -> None:
        """Tell the peer that nothing more will come (RFC 8446 §6.1), then shut the socket down."""
        if how == socket.SHUT_WR:
            try:
                self._sock.unwrap()
            except (OSError, ValueError):
                # The peer's own closing alert has not come yet; ours has been sent.
                pass
        # SSLSocket.shutdown() would forget the TLS state; the transport below is what is meant.
        socket.socket.shutdown(self._sock, how)

    def setsockopt(self, level: int, option: int, value: int) -> None:
        """Set an option of the socket below."""
        self._sock.setsockopt(level, option, value)

    def fileno(self) -> int:
        """The descriptor, -1 when closed."""
        return self._sock.fileno()

    def close(self) -> None:
        """Release the descriptor."""
        self._sock.close()
