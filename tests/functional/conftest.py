"""What tests with real servers share: what was logged, and that nothing was."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


class Records(logging.Handler):
    """Keeps what is logged, whatever thread logs it."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def at_least(self, level: int) -> list[str]:
        return [record.getMessage() for record in self.records if record.levelno >= level]


@pytest.fixture
def logged() -> Iterator[Records]:
    """What the server logs during the test."""
    logger = logging.getLogger("resource_server")
    level = logger.level
    handler = Records()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    # The access log is for those who want it.
    access = logging.getLogger("resource_server.access")
    access_level = access.level
    access.setLevel(logging.WARNING)
    yield handler
    access.setLevel(access_level)
    logger.setLevel(level)
    logger.removeHandler(handler)


@pytest.fixture
def quiet(logged: Records) -> Iterator[None]:
    """Fail if anything above DEBUG is logged, also while the server stops."""
    yield
    messages = logged.at_least(logging.INFO)
    assert [text for text in messages if not text.startswith("Serving on")] == []
