"""Signals as something that a selector can wait for."""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from types import FrameType


class Waker:
    """Signals, and what other threads tell, as bytes in a pipe. Made in the main thread."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self._writer, False)
        self._before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def tell(self, number: int) -> None:
        """Tell a number, from any thread."""
        os.write(self._writer, bytes([number]))

    def take(self) -> list[int]:
        """The numbers that have come, each once."""
        try:
            return sorted(set(os.read(self.reader, 65536)))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Report no more signals."""
        signal.set_wakeup_fd(self._before)
        os.close(self.reader)
        os.close(self._writer)


def note(_number: int, _frame: FrameType | None) -> None:
    """Handle a signal: the waker has it."""
