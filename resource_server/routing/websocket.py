"""Routes of WebSockets: how they are told from others, and what answers them while none is opened.

They have a method of their own, which no client may send: a WebSocket is opened by a GET that asks
for the upgrade (RFC 6455 §4.1), so a path may have a route for that and one for other GETs.
"""

from __future__ import annotations

from ..errors import HTTPError, HTTPNotImplemented, UpgradeRequired

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from ..request import Request

#: What the route of a WebSocket has in place of a method.
WEBSOCKET = "WEBSOCKET"


def refuse(request: Request) -> HTTPError:
    """Return the answer to a GET for a path where there is only a WebSocket."""
    if "websocket" in request.upgrade:
        return HTTPNotImplemented("WebSocket is not served yet")
    return UpgradeRequired("websocket")
