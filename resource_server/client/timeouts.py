"""How long a request may take."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite


@dataclass(frozen=True, slots=True)
class Timeout:
    """Seconds (int or float) that a request may take; None for no limit.

    `connect` is for a new connection: name, TCP, proxy and TLS together. `read` is the longest
    silence of the server, also while it takes the request. `total` is from the call to the last
    byte, and includes waiting for a thread and a connection, redirects, and retries. Raises
    TypeError and ValueError for what is no such number.
    """

    connect: float | None = 10.0
    read: float | None = 30.0
    total: float | None = None

    def __post_init__(self) -> None:
        for name in ("connect", "read", "total"):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} is a number of seconds or None, not {value!r}")
            if not (isfinite(value) and value > 0):
                raise ValueError(f"{name} is a positive number of seconds, not {value!r}")

    @classmethod
    def of(cls, value: Timeout | float) -> Timeout:
        """Return a Timeout as it is, or one that has a number of seconds as its total."""
        if isinstance(value, Timeout):
            return value
        return cls(total=value)
