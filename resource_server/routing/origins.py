"""Which pages may open a WebSocket (RFC 6455 §10.2).

A browser opens a WebSocket for a page of any site, with the user's cookies, and only tells in
Origin where the page is from; so it is the server that has to refuse pages of others. What is no
browser need not send the field, and could send anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .options import SAME_ORIGIN

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import TypeAlias

    from ..request import Request

    #: Scheme, host and port; None is a port that the scheme has no default for.
    Origin: TypeAlias = tuple[str, str, int | None]

_ANY = "*"
# That of pages without one: from a sandbox, a data URL or, in some browsers, a file.
_NULL = "null"
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
# RFC 3986 §3.2.2 host, but for what no name has: sub-delims and escapes.
_HOST = r"(\[[0-9a-f:.]+\]|[a-z0-9\-._~]*)"
_match_authority = re.compile(_HOST + r"(?::([0-9]{0,5}))?").fullmatch
# RFC 6454 §6.2: a scheme (RFC 3986 §3.1), a host and maybe a port, and nothing behind them.
_match_origin = re.compile(r"([a-z][a-z0-9+.\-]*)://" + _HOST + r"(?::([0-9]{1,5}))?").fullmatch


class Origins:
    """The origins of pages that may open a WebSocket.

    `given` is SAME_ORIGIN, ``"*"`` for all, ``"null"``, an origin as a browser sends it, for
    instance ``"https://app.example:8443"``, or an iterable of these. Raises TypeError or ValueError
    for anything else.
    """

    __slots__ = ("_any", "_known", "_null", "_same")

    def __init__(self, given: str | Iterable[str]) -> None:
        if not isinstance(given, Iterable):
            raise TypeError(f"origins is SAME_ORIGIN, an origin or a list of them, not {given!r}")
        origins = [given] if isinstance(given, str) else list(given)
        for origin in origins:
            if not isinstance(origin, str):
                raise TypeError(f"an origin is a str, not {origin!r}")
        self._any = _ANY in origins
        self._null = _NULL in origins
        self._same = SAME_ORIGIN in origins
        words = (_ANY, _NULL, SAME_ORIGIN)
        self._known = frozenset(_checked(origin) for origin in origins if origin not in words)

    def allow(self, request: Request) -> bool:
        """Tell whether the request comes from such a page, or from no browser."""
        values = request.headers.get_all("origin")
        if not values or self._any:
            return True
        if len(values) > 1:
            return False
        if values[0] == _NULL:
            return self._null
        origin = _parsed(values[0])
        if origin is None:
            return False
        return origin in self._known or (self._same and _is_same(origin, request))


def _checked(text: str) -> Origin:
    """Return a configured origin; raises ValueError with advice."""
    origin = _parsed(text)
    if origin is None:
        raise ValueError(
            f"{text!r} is not an origin: that is a scheme and a host, maybe a port, and nothing"
            ' more, as "https://app.example:8443"; a host in other letters is written as xn--…'
        )
    return origin


def _parsed(text: str) -> Origin | None:
    match = _match_origin(text.lower())
    if match is None:
        return None
    scheme, host, digits = match.groups()
    port = int(digits) if digits else _DEFAULT_PORTS.get(scheme)
    return None if port is not None and port > 65535 else (scheme, host, port)


def _is_same(origin: Origin, request: Request) -> bool:
    """Tell whether an origin is that of the host that the request asks.

    Behind a proxy that ends TLS the request's own scheme is unknown: then the Origin's decides
    what port Host means.
    """
    scheme, host, port = origin
    if not host or scheme not in ("http", "https"):
        return False
    if request.scheme == "https" and scheme != "https":
        return False
    match = _match_authority(request.host.lower())
    if match is None:
        return False
    asked, digits = match.groups()
    return asked == host and port == (int(digits) if digits else _DEFAULT_PORTS[scheme])
