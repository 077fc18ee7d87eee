"""A request under way, as a future.

A handle ends once, in one of three ways: a worker ends it with a response or an error, the watchdog
ends it when its total time has passed, or somebody cancels it. Whoever calls `_end` first wins;
`_ended` is set under the guard and never cleared, so the two others find it set and drop what they
have. That is why a worker's late result is no error. A worker that has all of an answer claims the
end beforehand, by `settle`: a file that gets its name then is never that of a cancelled request.

The state of the future underneath stays PENDING until the end, for a RUNNING one cannot be
cancelled: ``PENDING → FINISHED``, or ``PENDING → CANCELLED → CANCELLED_AND_NOTIFIED``, both steps
by the one who won. Only the last of these lets `concurrent.futures.wait` see the end.

While a worker waits for something, it leaves here what frees it: `held` takes a callable that shuts
a socket down or wakes a waiting thread. It is called under the guard, so that a connection that was
given back, which takes the guard too, is never cut for a request that had it before.
"""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from time import monotonic

from .errors import Cancelled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from .answer import ClientResponse

    class Owner(Protocol):
        """What a handle tells its end and its delivery to."""

        def ended(self, handle: RequestHandle, /) -> None:
            """The handle is about to be done."""

        def delivered(self, handle: RequestHandle, /) -> None:
            """Somebody has got the result."""


class Ended(Exception):  # noqa: N818 - it is what happened, and no error
    """The handle was ended by somebody else: its worker has nothing more to do."""


class RequestHandle(Future["ClientResponse"]):
    """A request that was asked for; any thread may use it.

    `method`, `path` and `url` (str) are the request's, `callback` is what `update` will call with
    the handle. It is a `concurrent.futures.Future`: ``result(timeout)`` waits for the response and
    returns it, whatever its status, or raises the ClientError instead of which there is none;
    `concurrent.futures.wait` and `as_completed` take it. What `add_done_callback` is given is
    called in a thread of the client, where it must not block, or by `cancel`.
    """

    def __init__(
        self,
        owner: Owner,
        method: str,
        path: str,
        url: str,
        callback: Callable[[RequestHandle], object] | None = None,
    ) -> None:
        super().__init__()
        self.method = method
        self.path = path
        self.url = url
        self.callback = callback
        self.started = monotonic()
        self._owner = owner
        self._guard = threading.Lock()  # of the next four
        self._ended = False
        # By the worker, which has yet to tell what in.
        self._settled = False
        self._working = False
        self._free: Callable[[], object] | None = None
        self._response: ClientResponse | None = None

    # For everybody.

    @property
    def response(self) -> ClientResponse | None:
        """The response, or an error response whose `error` is the ClientError; None until done."""
        if not self.done():
            return None
        if self._response is None:
            from .answer import response_of_error

            try:
                self._response = super().result()
            except CancelledError:
                self._response = response_of_error(self._cancellation())
            except Exception as error:  # noqa: BLE001 - whatever the request ended in
                self._response = response_of_error(error, self.method, self.url)
        return self._response

    def running(self) -> bool:
        """Whether a thread is at work on it."""
        return self._working and not self.done()

    def cancel(self) -> bool:
        """Cancel the request, also in mid-transfer: its connection is cut and its thread freed.

        Returns False if it was done before.
        """
        if not self._end():
            return self.cancelled()
        super().cancel()
        self.set_running_or_notify_cancel()
        return True

    def result(self, timeout: float | None = None) -> ClientResponse:
        """Return the response; waits for it up to `timeout` seconds (None for ever).

        Raises the ClientError instead of which there is none, Cancelled if it was cancelled, and
        the built-in TimeoutError if it is not done in time; it then goes on.
        """
        try:
            result = super().result(timeout)
        except CancelledError:
            self._owner.delivered(self)
            raise self._cancellation() from None
        except BaseException:
            if self.done():
                self._owner.delivered(self)
            raise
        else:
            self._owner.delivered(self)
            return result
        finally:
            # The error, which this has, has got this frame.
            del self

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the request ended in instead of a response, or None; waits as `result`."""
        try:
            error = super().exception(timeout)
        except CancelledError:
            self._owner.delivered(self)
            raise self._cancellation() from None
        self._owner.delivered(self)
        return error

    def wait(self) -> None:
        """Wait until it is done, which is not to take its result."""
        with suppress(CancelledError):
            super().exception()

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "pending"
        return f"<RequestHandle {self.method} {self.path} {state}>"

    def _cancellation(self) -> Cancelled:
        return Cancelled("the request was cancelled", method=self.method, url=self.url)

    # For its worker and the watchdog.

    @property
    def over(self) -> bool:
        """Whether it has ended, or is about to."""
        return self._ended

    def begin(self) -> bool:
        """Tell that a worker begins; False if there is nothing to do any more."""
        with self._guard:
            self._working = not self._ended
            return self._working

    def held(self, free: Callable[[], object] | None) -> None:
        """Leave what frees the worker if the handle is ended meanwhile; None takes it back.

        Raises Ended if that has happened already.
        """
        with self._guard:
            if self._ended:
                raise Ended
            self._free = free

    def pause(self, seconds: float) -> None:
        """Wait, unless the handle is ended meanwhile, which raises Ended."""
        woken = threading.Event()
        self.held(woken.set)
        woken.wait(seconds)
        self.held(None)

    def settle(self) -> None:
        """Claim the end for the worker, who calls `succeed` or `fail` then, whatever others do.

        Raises Ended if somebody else has ended it.
        """
        with self._guard:
            if self._ended:
                raise Ended
            self._ended = self._settled = True
            self._free = None
        self._owner.ended(self)

    def succeed(self, response: ClientResponse) -> None:
        """End with a response, unless it has ended: the worker's call."""
        if self._settled or self._end():
            self.set_result(response)

    def fail(self, error: BaseException) -> None:
        """End with an error, unless it has ended: the worker's call."""
        if self._settled or self._end():
            self.set_exception(error)

    def expire(self, error: BaseException) -> None:
        """End with an error, unless it has ended: the watchdog's call."""
        if self._end():
            self.set_exception(error)

    def _end(self) -> bool:
        with self._guard:
            if self._ended:
                return False
            self._ended = True
            free, self._free = self._free, None
            if free is not None:
                free()
        self._owner.ended(self)
        return True
