"""The access log: logger ``resource_server.access``, one line per response, at level INFO."""

from __future__ import annotations

import logging
import re

from .defects import log_exception

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from ..request import Request
    from ..response import Response

_access = logging.getLogger("resource_server.access")
# What a terminal or a log viewer could take for a command, or for the end of the line.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\"\\]")


def is_logged() -> bool:
    """Whether anybody wants access lines."""
    return _access.isEnabledFor(logging.INFO)


def log_access(
    client_address: tuple[str, int],
    request: Request | None,
    response: Response,
    sent: int,
    seconds: float,
) -> None:
    """Write a line like the combined log format's, with milliseconds at its end.

    :param request: None when what came was no request.
    :param sent: bytes of content.
    :param seconds: from the handler's start to the response's end, or to its hand-over to the
        system.
    """
    line = referer = agent = "-"
    if request is not None:
        line = f"{request.method} {request.target} HTTP/{request.http_version}"
        referer = request.headers.get("referer", "-")
        agent = request.headers.get("user-agent", "-")
    try:
        _access.info(
            '%s "%s" %d %d "%s" "%s" %.1f',
            client_address[0] or "-",
            _escape(line),
            response.status_code,
            sent,
            _escape(referer),
            _escape(agent),
            seconds * 1000,
        )
    except Exception:  # noqa: BLE001 - a logging handler of the application may raise anything
        log_exception("An access line could not be written.")


def _escape(text: str) -> str:
    return _UNPRINTABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
