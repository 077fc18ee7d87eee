"""What goes wrong in a test: the exceptions of this room, and those of the application."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager

from ..engine.defects import log_exception
from ..errors import HandshakeError, ResourceServerError
from ..routing.endpoint import witness

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .response import TestResponse


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


@contextmanager
def watch() -> Iterator[list[BaseException]]:
    """Gather the failures of the application in this thread, which an endpoint answers with 500."""
    outer = getattr(witness, "errors", None)
    errors: list[BaseException] = []
    witness.errors = errors
    try:
        yield errors
    finally:
        witness.errors = outer


def note_exception(message: str, *arguments: object) -> None:
    """Log the exception that is being handled, as the engine does, for those who watch as well."""
    log_exception(message, *arguments)
    error = sys.exception()
    errors: list[BaseException] | None = getattr(witness, "errors", None)
    if errors is not None and error is not None and all(error is not each for each in errors):
        errors.append(error)
