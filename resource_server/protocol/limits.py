"""The sizes and deadlines of the protocol, each with its reason.

In a module of its own, imported when a server is made: `dataclasses` takes a fifth of the time that
importing all the rest does.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The sizes (bytes or counts) and deadlines (seconds) of the protocol, for what clients do.

    How large a body may be is a route's own setting (``max_content_length``).
    """

    #: Bytes of the request line; more is 414. RFC 9112 §3 recommends at least 8000.
    request_line: int = 8192
    #: Header fields of one request; more is 431. Browsers send about 15, proxies add a few.
    header_fields: int = 100
    #: Bytes of all header fields together; more is 431. Cookies are what fills them.
    header_bytes: int = 32768
    #: Empty lines before a request line; more is 400. RFC 9112 §2.2 wants at least one ignored.
    empty_lines: int = 4
    #: Bytes of a chunk's size line with its extensions; more is 400. Nobody sends extensions.
    chunk_line: int = 256
    #: Bytes of chunk framing beyond what small chunks need (16 + 2 per byte of data); more is 400.
    chunk_overhead: int = 16384
    #: Trailer fields after a chunked body; more is 431.
    trailer_fields: int = 32
    #: Bytes of all trailer fields together; more is 431.
    trailer_bytes: int = 8192
    #: Bytes of a body kept in memory; what is longer goes to a temporary file.
    body_memory: int = 65536
    #: Bytes of all bodies together that are kept in memory while the loop collects them; beyond it
    #: also short ones go to temporary files. 1024 of the longest that stay in memory.
    bodies_memory: int = 67_108_864
    #: Bodies that are in temporary files at a time, each with a descriptor; further ones are
    #: answered 503.
    spooled_bodies: int = 512

    #: From a request's first byte (or the connection's opening) to the end of its head; then 408,
    #: or nothing to a connection that sent nothing.
    head: float = 10.0
    #: Longest silence within a body; then 408. A worker that reads a body (``stream=True``) waits
    #: no longer than 1 second while more than 256 workers wait for their clients.
    body_idle: float = 20.0
    #: Bytes per second that a body must average after ``body_idle`` seconds; below it 408.
    body_rate: float = 240.0
    #: An idle connection is kept this long for its next request.
    keep_alive: float = 75.0
    #: A client that takes no byte of its response for this long is cut off. A worker
    #: that sends a stream waits no longer than 1 second while more than 256 wait for their clients.
    write: float = 30.0
    #: For the whole TLS handshake.
    handshake: float = 10.0
    #: After a refusal the connection is read this long, so that the client sees the answer.
    closing: float = 2.0

    def __post_init__(self) -> None:
        """Refuse limits that would let nothing through.

        :raises ValueError: for one that is not positive.
        """
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"Limits.{name} must be positive, not {getattr(self, name)!r}")
