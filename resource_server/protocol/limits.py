"""The sizes and deadlines of the protocol, each with its reason."""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass
    from typing import NoReturn
else:

    def dataclass(**_: bool) -> Callable[[type], type]:
        """Leave a class as it is: importing `dataclasses` takes a fifth of a server's start.

        Type checkers and editors read what the class says, and its own methods have it behave so;
        but the functions of `dataclasses` do not take it.
        """
        return lambda cls: cls


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The sizes (bytes or counts) and deadlines (seconds) of the protocol, for what clients do.

    How large a body may be is a route's own setting (``max_content_length``).

    :param request_line: bytes of the request line; more is 414. RFC 9112 §3 recommends at least
        8000.
    :param header_fields: header fields of one request; more is 431. Browsers send about 15,
        proxies add a few.
    :param header_bytes: bytes of all header fields together; more is 431. Cookies are what
        fills them.
    :param empty_lines: empty lines before a request line; more is 400. RFC 9112 §2.2 wants at
        least one ignored.
    :param chunk_line: bytes of a chunk's size line with its extensions; more is 400. Nobody
        sends extensions.
    :param chunk_overhead: bytes of chunk framing beyond what small chunks need (16 + 2 per byte
        of data); more is 400.
    :param trailer_fields: trailer fields after a chunked body; more is 431.
    :param trailer_bytes: bytes of all trailer fields together; more is 431.
    :param body_memory: bytes of a body kept in memory; what is longer goes to a temporary file.
    :param bodies_memory: bytes of all bodies together that are kept in memory while the loop
        collects them; beyond it also short ones go to temporary files. 1024 of the longest that
        stay in memory.
    :param spooled_bodies: bodies that are in temporary files at a time, each with a descriptor;
        further ones are answered 503.
    :param head: from a request's first byte (or the connection's opening) to the end of its
        head; then 408, or nothing to a connection that sent nothing.
    :param body_idle: longest silence within a body; then 408. A worker that reads a body
        (``stream=True``) waits no longer than 1 second while more than 256 workers wait for
        their clients.
    :param body_rate: bytes per second that a body must average after ``body_idle`` seconds;
        below it 408.
    :param keep_alive: an idle connection is kept this long for its next request.
    :param write: a client that takes no byte of its response for this long is cut off. A worker
        that sends a stream waits no longer than 1 second while more than 256 wait for their
        clients.
    :param handshake: for the whole TLS handshake.
    :param closing: after a refusal the connection is read this long, so that the client sees
        the answer.
    :raises ValueError: for one that is not positive, and would let nothing through.
    :raises TypeError: for a name that is none of these.
    """

    request_line: int = 8192
    header_fields: int = 100
    header_bytes: int = 32768
    empty_lines: int = 4
    chunk_line: int = 256
    chunk_overhead: int = 16384
    trailer_fields: int = 32
    trailer_bytes: int = 8192
    body_memory: int = 65536
    bodies_memory: int = 67_108_864
    spooled_bodies: int = 512
    head: float = 10.0
    body_idle: float = 20.0
    body_rate: float = 240.0
    keep_alive: float = 75.0
    write: float = 30.0
    handshake: float = 10.0
    closing: float = 2.0

    if not TYPE_CHECKING:  # pragma: no branch

        def __init__(self, **limits: float) -> None:
            for name, value in limits.items():
                if name not in _NAMES:
                    raise TypeError(f"Limits has no {name!r}; it has {', '.join(_NAMES)}")
                if not value > 0:
                    raise ValueError(f"Limits.{name} must be positive, not {value!r}")
            self.__dict__.update(limits)

        def __setattr__(self, name: str, value: object) -> NoReturn:
            raise AttributeError(f"Limits never change: make others to set {name}")

        def __delattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"Limits never change: make others to reset {name}")

        def __repr__(self) -> str:
            return f"Limits({', '.join(f'{name}={getattr(self, name)!r}' for name in _NAMES)})"

        def __eq__(self, other: object) -> bool:
            return _values(self) == _values(other) if isinstance(other, Limits) else NotImplemented

        def __hash__(self) -> int:
            return hash(_values(self))


_NAMES = tuple(Limits.__annotations__)


def _values(limits: Limits) -> tuple[float, ...]:
    return tuple(getattr(limits, name) for name in _NAMES)
