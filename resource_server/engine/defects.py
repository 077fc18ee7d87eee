"""Telling of an exception that should not have been, without making it worse."""

from __future__ import annotations

import logging

log = logging.getLogger("resource_server")


def log_exception(message: str, *arguments: object) -> None:
    """Log the exception that is being handled; never raises.

    A logging handler of the application may raise, and there may be no memory left: neither may end
    a thread that others wait for.
    """
    try:
        log.exception(message, *arguments)  # noqa: LOG004 - the caller handles one
    except BaseException:  # noqa: BLE001 - there is nobody left to tell
        pass
