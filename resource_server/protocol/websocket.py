"""The WebSocket protocol (RFC 6455)."""

from __future__ import annotations

from enum import IntEnum


class WebSocketOpCode(IntEnum):
    """What a message on a WebSocket is: the opcodes of RFC 6455 §11.8.

    `Open` is the library's own, and no frame has it: it tells a handler that the WebSocket is open.
    """

    Text = 1
    Binary = 2
    Close = 8
    Ping = 9
    Pong = 10
    Open = 255
