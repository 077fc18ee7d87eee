"""The states of a connection in the loop.

============  ==========================================================  ==================
state         the loop waits for                                          it owns the socket
============  ==========================================================  ==================
HANDSHAKE     TLS                                                         yes
READING       a request's head; idle if nothing of it has come            yes
RESUMING      its turn: another request has been received already         yes
COLLECTING    a request's body                                            yes
WORKING       the thread that runs the handler to give it back            no
WRITING       the socket to take the rest of a response                   yes
FEEDING       the source of a response to wake it, the socket to take     yes
              the rest of a piece, the client to leave
CLOSING       the client to read the last response and leave              yes
CLOSED        nothing                                                     no more
============  ==========================================================  ==================
"""

from __future__ import annotations

import enum


class State(enum.Enum):
    """Where a connection stands."""

    HANDSHAKE = enum.auto()
    READING = enum.auto()
    RESUMING = enum.auto()
    COLLECTING = enum.auto()
    WORKING = enum.auto()
    WRITING = enum.auto()
    FEEDING = enum.auto()
    CLOSING = enum.auto()
    CLOSED = enum.auto()
