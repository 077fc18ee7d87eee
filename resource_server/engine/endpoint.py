"""What the engine knows of a route: what it must ask beforehand, and how long its handler takes."""

from __future__ import annotations

from ..errors import HTTPError

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from ..request import Request
    from ..response import Response

    class Timed(Protocol):
        """Code that is run by the leader or by a worker, as its average has it."""

        #: seconds that its runs take (an average that the engine keeps; a lost update does no harm)
        mean: float
        #: whether its runs are handed to a worker for being slow
        slow: bool

    class Follower(Protocol):
        """What follows bodies as they arrive."""

        def begin(self, request: Request, /) -> None:
            """Learn of a body that is about to come; by the leader, so it returns at once."""

    class Endpoint(Timed, Protocol):
        """What answers a request, and what the engine must know beforehand."""

        max_content_length: int
        stream: bool
        #: whether content codings of the body are undone; False refuses them, None leaves them
        decode: bool | None
        blocking: bool | None
        expect: Callable[[Request], object] | None
        #: an error that this endpoint merely tells: no body is read for it
        error: HTTPError | None

        @property
        def progress(self) -> Follower | None:
            """What is told of each body that begins."""

        def __call__(self, request: Request) -> Response:
            """Answer; never raises."""

        def fail(self, request: Request, error: BaseException) -> Response:
            """Answer an error that was found before the handler ran; never raises."""


#: Seconds of handler time, on average, beyond which a route is handed to a worker before it runs …
HAND_OVER = 0.002
#: … and below which it comes back. Between the two it stays where it is.
TAKE_BACK = 0.0005
#: How much the newest run counts in a route's average.
_WEIGHT = 0.125


class Refusal:
    """An endpoint that answers an error in the place, and in the manner, of another one.

    It takes its time as that one does: they share middlewares and error handlers.
    """

    __slots__ = (
        "_endpoint",
        "_error",
        "blocking",
        "decode",
        "error",
        "expect",
        "max_content_length",
        "mean",
        "progress",
        "stream",
    )

    def __init__(self, endpoint: Endpoint, error: BaseException) -> None:
        self._endpoint = endpoint
        self._error = error
        self.error = error if isinstance(error, HTTPError) else None
        self.max_content_length = 0
        self.stream = False
        self.decode: bool | None = None
        self.progress: Follower | None = None
        self.blocking = endpoint.blocking
        self.expect: Callable[[Request], object] | None = None
        # Of its own: that an error is told quickly says nothing of the handler.
        self.mean = endpoint.mean

    @property
    def slow(self) -> bool:
        """Whether the endpoint is."""
        return self._endpoint.slow

    @slow.setter
    def slow(self, slow: bool) -> None:
        if slow:
            self._endpoint.slow = True

    def __call__(self, request: Request) -> Response:
        """Answer."""
        return self._endpoint.fail(request, self._error)

    def fail(self, request: Request, error: BaseException) -> Response:
        """Answer another error."""
        return self._endpoint.fail(request, error)


def learn(endpoint: Timed, elapsed: float) -> None:
    """Count a run in the route's average, and decide by it who makes the next."""
    mean = endpoint.mean = endpoint.mean + (elapsed - endpoint.mean) * _WEIGHT
    if endpoint.slow:
        endpoint.slow = mean > TAKE_BACK
    elif mean > HAND_OVER:
        endpoint.slow = True
