"""What requests of a client have in common, and what an exchange is given by others."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from ..headers import Headers
    from .answer import Outgoing
    from .cookies import Cookies

    #: Sets fields of a request that prove who asks.
    Auth = Callable[[Outgoing], object]
    #: Is told bytes that are done, and bytes in all or None.
    Progress = Callable[[int, int | None], object]

    class Sink(Protocol):
        """Where the content of an answer goes instead of into memory."""

        def begin(self, headers: Headers, method: str, url: str, /) -> None:
            """Set fields of the request, for each attempt: which part is wanted."""

        def again(self, status: int, headers: Headers, /) -> bool:
            """Tell whether to ask anew, as this answer does not fit what was asked for."""

        def accept(self, status: int, headers: Headers, /) -> bool:
            """Tell whether the content of this answer is wanted; others are read into memory."""

        def write(self, piece: bytes, /) -> None:
            """Take a piece."""

        def finish(self) -> None:
            """Take notice that all has been written."""

        def fail(self) -> None:
            """Take notice that no more will come."""


class Rules:
    """What a client has set for all of its requests."""

    __slots__ = ("cookies", "downgrade", "max_redirects", "max_response_size", "retries")

    def __init__(
        self,
        *,
        retries: int,
        max_redirects: int,
        max_response_size: int | None,
        downgrade: bool,
        cookies: Cookies | None,
    ) -> None:
        self.retries = retries
        self.max_redirects = max_redirects
        self.max_response_size = max_response_size
        self.downgrade = downgrade
        self.cookies = cookies
