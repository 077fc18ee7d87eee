"""The life of an HTTP/1.x connection, as the server sees it.

It is two small state machines that run beside each other, once per request:

====================  ================================================  ==========================
reading (§ RFC 9112)  moves on by                                       to
====================  ================================================  ==========================
HEAD (§2–§5)          a complete head: no body / counted / chunked      DONE / LENGTH / CHUNK_SIZE
LENGTH (§6.2)         the last byte                                     DONE
CHUNK_SIZE (§7.1)     a size line: not zero / zero                      CHUNK_DATA / TRAILERS
CHUNK_DATA (§7.1)     the chunk's last byte                             CHUNK_END
CHUNK_END (§7.1)      CRLF                                              CHUNK_SIZE
TRAILERS (§7.1.2)     the empty line                                    DONE
any of these          a rule broken, or ``finish`` without keep-alive   CLOSED
DONE                  ``finish`` with keep-alive                        HEAD
====================  ================================================  ==========================

=========  =================================  =======
answering  moves on by                        to
=========  =================================  =======
NOTHING    a complete head, or a rule broken  AWAITED
AWAITED    ``start``                          STARTED
STARTED    ``finish``                         NOTHING
=========  =================================  =======

Once CLOSED, no byte is looked at any more: nothing pipelined behind an error is ever executed.
"""

from __future__ import annotations

import enum


class Reading(enum.Enum):
    """Where the request side of a connection stands."""

    HEAD = enum.auto()
    LENGTH = enum.auto()
    CHUNK_SIZE = enum.auto()
    CHUNK_DATA = enum.auto()
    CHUNK_END = enum.auto()
    TRAILERS = enum.auto()
    DONE = enum.auto()
    CLOSED = enum.auto()


class Answering(enum.Enum):
    """Where the response side of a connection stands."""

    NOTHING = enum.auto()
    AWAITED = enum.auto()
    STARTED = enum.auto()


class Payload(enum.Enum):
    """How the content of the response under way is delimited (RFC 9112 §6.3)."""

    NONE = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    UNTIL_CLOSE = enum.auto()
