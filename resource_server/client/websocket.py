"""WebSockets of the client: sessions that any thread may use, each with a thread that reads.

A session's connection is a `Link`, over all its reconnects; the `Wire` it has at a time is one
connection. Its thread, the reader, alone receives, keeps the connection alive, connects again and
closes sockets. Who sends does so in the own thread as far as the socket takes it; the rest waits in
the outbox, and the reader sends it when the socket has room. So the reader waits for nothing but
its selector, and reads on while a peer does not: two sides that both send cannot block each other.
`line` argues the locks.
"""

from __future__ import annotations

from ..request import Request
from ..websockets import WebSocketSession
from .reader import INTERNAL_ERROR, Link, Reconnect, check_seconds
from .upgrade import Opener, WebSocketRefused
from .urls import parse_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .answer import Outgoing
    from .timeouts import Timeout
    from .transport import Transport
    from .watchdog import Watchdog
    from .wire import Answer

__all__ = ["ClientWebSocket", "Reconnect", "WebSocketRefused", "connect"]

#: Bytes that a message may have, if nothing else is said.
MAX_MESSAGE_SIZE = 1_048_576


class ClientWebSocket(WebSocketSession):
    """A WebSocket to a server; any thread may use it.

    Iterating over it gives the messages until it is closed, whatever the code; as a context manager
    it is closed at the end of the block. `close` waits for the server's answer, 5 seconds at most.
    It is closed, too, when its client is stopped or nothing refers to it any more.

    With `reconnect` it goes on over several connections: `receive` and iteration wait for the next
    one, while `send` raises WebSocketClosed when there is none. `closed`, `close_code` and
    `close_reason` tell of its end, not that of one connection.
    """

    __slots__ = ("_at_close",)

    connection: Link

    def __init__(self, request: Request, connection: Link) -> None:
        super().__init__(request, connection)
        # Kept here, as they may refer to the session, and the reader must not; guarded by the
        # link's _io. None when they have been called.
        self._at_close: list[Callable[[], None]] | None = []

    @property
    def connected(self) -> bool:
        """Whether something can be sent at present."""
        return self.connection.connected

    def __repr__(self) -> str:
        return f"<ClientWebSocket {ascii(self.request.target)[1:-1]} {self.uid}>"


def connect(
    transport: Transport,
    opening: Callable[[], Outgoing],
    timeout: Timeout,
    *,
    subprotocols: Sequence[str] = (),
    compression: bool = True,
    max_message_size: int = MAX_MESSAGE_SIZE,
    ping_interval: float | None = 20.0,
    ping_timeout: float | None = 20.0,
    reconnect: Reconnect | None = None,
    on_open: Callable[[ClientWebSocket], object] | None = None,
    watchdog: Watchdog | None = None,
    links: set[Link] | None = None,
    answered: Callable[[Outgoing, Answer], object] | None = None,
) -> ClientWebSocket:
    """Open a WebSocket, and return it when it is open.

    `opening` returns the request for each try, whose fields the handshake completes; `timeout` is
    for the opening. `subprotocols` are offered, the best first; `compression` tells whether
    permessage-deflate is. A larger message than `max_message_size` bytes closes it with 1009. After
    `ping_interval` seconds of silence a ping is sent, and the connection is lost if nothing comes
    within `ping_timeout` seconds more; None for neither. With `reconnect` it connects again, but
    this first connection is tried once. `on_open` is called with the session when it is open: here
    the first time, later in the thread that reads, where it must not block and cannot receive.
    `watchdog` bounds the time of connecting; `links` has those whose threads run, to be stopped;
    `answered` is called with each request and its answer, whatever that is.

    Raises ClientError (WebSocketRefused for another answer than 101), TypeError and ValueError.
    """
    if not isinstance(max_message_size, int) or max_message_size < 1:
        raise ValueError(f"max_message_size is a number of bytes, not {max_message_size!r}")
    for name, value in (("ping_interval", ping_interval), ("ping_timeout", ping_timeout)):
        if value is not None:
            check_seconds(name, value)
    if reconnect is not None and not isinstance(reconnect, Reconnect):
        raise TypeError(f"reconnect is a Reconnect or None, not {reconnect!r}")
    opener = Opener(
        transport,
        timeout,
        watchdog,
        subprotocols=subprotocols,
        compression=compression,
        max_message_size=max_message_size,
        answered=answered,
    )
    link = Link(
        opener,
        opening,
        _made,
        ping_interval=ping_interval,
        ping_timeout=ping_timeout,
        reconnect=reconnect,
        on_open=on_open,
        links=links,
    )
    session = link.open()
    if on_open is not None:
        try:
            on_open(session)
        except BaseException:
            session.close(INTERNAL_ERROR)
            raise
    return session


def _made(outgoing: Outgoing, link: Link) -> ClientWebSocket:
    """Return the session of a link, with what was asked."""
    origin, target, _ = parse_url(outgoing.url)
    request = Request(("", 0), "GET", target, headers=outgoing.headers)
    request.scheme = origin.scheme
    request.server_address = (origin.host, origin.port)
    return ClientWebSocket(request, link)
