"""What goes wrong in a test: the exceptions of this room, and those that the server would log."""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import contextmanager

from ..errors import HandshakeError, ResourceServerError

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .response import TestResponse

#: Where the server tells of every exception of the application that nobody took.
_logger = logging.getLogger("resource_server")


class RedirectLoop(ResourceServerError):  # noqa: N818 - named as its siblings in `errors`
    """One redirect led to the next, more often than a browser would follow.

    `response` is the last of them.
    """

    def __init__(self, response: TestResponse) -> None:
        self.response = response
        super().__init__(
            f"{len(response.history)} redirects lead from {response.history[0].url}"
            f" to {response.url} and on to {response.headers['location']}"
        )


class WebSocketRefused(HandshakeError):  # noqa: N818 - named as its siblings in `errors`
    """The application answered something else than a WebSocket; `response` is that answer."""

    def __init__(self, response: TestResponse) -> None:
        self.response = response
        told = response.text[:200].strip() if response.is_text else f"{len(response.body)} bytes"
        super().__init__(
            f"{response.url} opened no WebSocket: {response.status_code} {response.reason}"
            + (f": {told}" if told else "")
        )


class ThreadsLeft(ResourceServerError):  # noqa: N818 - named as its siblings in `errors`
    """Threads still run that should have ended; the text tells where each of them is."""


class ProcessFailed(ResourceServerError):  # noqa: N818 - named as its siblings in `errors`
    """The process of a server did not start, or ended too early; its `log` is in the text."""

    def __init__(self, what: str, log: str) -> None:
        self.log = log
        shown = log.rstrip() or "(it wrote nothing)"
        super().__init__(f"{what}; its output:\n{shown}")


def threads_left(what: str, threads: Iterable[threading.Thread]) -> ThreadsLeft:
    """Return the exception that tells where these threads are now."""
    import traceback

    frames = sys._current_frames()
    lines = [what]
    for thread in threads:
        lines.append(f"\nThe thread {thread.name} is here:")
        frame = frames.get(thread.ident or 0)
        if frame is not None:
            lines.append("".join(traceback.format_stack(frame)).rstrip())
    return ThreadsLeft("\n".join(lines))


class _Tap(logging.Filter):
    """Notes the exceptions that are logged as errors in a thread that watches; lets all pass."""

    def __init__(self) -> None:
        super().__init__()
        self.local = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        errors: list[BaseException] | None = getattr(self.local, "errors", None)
        if errors is not None and record.levelno >= logging.ERROR and record.exc_info:
            error = record.exc_info[1]
            if error is not None and not any(each is error for each in errors):
                errors.append(error)
        return True


_tap = _Tap()


@contextmanager
def watch() -> Iterator[list[BaseException]]:
    """Gather what the server's code logs as failures of the application, in this thread.

    An endpoint answers 500 whatever its handler raises, so the log is where the exception goes. If
    the application has switched that off, there is nothing to be gathered.
    """
    _logger.addFilter(_tap)  # which does nothing the second time
    outer = getattr(_tap.local, "errors", None)
    errors: list[BaseException] = []
    _tap.local.errors = errors
    try:
        yield errors
    finally:
        _tap.local.errors = outer
