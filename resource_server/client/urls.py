"""Where requests go: an origin, and a target there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import quote, unquote, urlencode, urljoin, urlsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    #: A query as text, or its names and values; a list, tuple or set stands for several of one
    #: name.
    Query: TypeAlias = str | Mapping[str, object] | Iterable[tuple[str, object]]

_PORTS = {"http": 80, "https": 443}
# What may stand in a target (RFC 3986 §3.3, §3.4); all else is percent-encoded.
_TARGET = "/?:@!$&'()*+,;=[]~-._%"
_is_plain_target = re.compile(r"/[A-Za-z0-9/?:@!$&'()*+,;=\[\]~\-._]*").fullmatch
_bare_percent = re.compile(r"%(?![0-9A-Fa-f]{2})")
_find_control = re.compile(r"[\x00-\x1f\x7f]").search
# In an address: what ends a host, or would be cut off without a word.
_find_misplaced = re.compile(r"[\x00-\x20\x7f/?#@\\]").search
# RFC 3986 §3.2.2: a name or an address; what is not ASCII is encoded before.
_is_host = re.compile(
    r"[A-Za-z0-9\-._~!$&'()*+,;=]+|[0-9A-Fa-f:.]+(?:%[A-Za-z0-9\-._~]+)?"
).fullmatch


@dataclass(frozen=True, eq=True)
class Origin:
    """A server: scheme ("http" or "https"), host (str, IPv6 without brackets) and port (int).

    `path` is that of a UNIX socket, or "": host and port are then for the Host field only.
    """

    scheme: str
    host: str
    port: int
    path: str = ""

    @cached_property
    def authority(self) -> str:
        """What the Host field says (RFC 9110 §7.2)."""
        host = f"[{self.host.partition('%')[0]}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @cached_property
    def text(self) -> str:
        """The beginning of its URLs."""
        if self.path:
            return f"{self.scheme}+unix://{quote(self.path, safe='')}"
        return f"{self.scheme}://{self.authority}"


def origin_of(addr: object, protocol: str) -> Origin:
    """Return the origin at an address: (host, port), "host", "host:port" or "unix:/path".

    Raises TypeError or ValueError for anything else.
    """
    if protocol not in _PORTS:
        raise ValueError(f'the protocol is "http" or "https", not {protocol!r}')
    if isinstance(addr, str):
        if addr.startswith("unix:"):
            return _unix(protocol, addr[5:])
        if _find_misplaced(addr):
            raise ValueError(f"{addr!a} is not an address: use HTTPClient.from_url for a URL")
        if addr.count(":") > 1 and not addr.startswith("["):
            return _origin(protocol, addr, None)
        parts = urlsplit(f"//{addr}")
        return _origin(protocol, parts.hostname or "", parts.port)
    if isinstance(addr, tuple) and len(addr) >= 2:
        host, port = addr[:2]
        if isinstance(host, str) and isinstance(port, int):
            return _origin(protocol, host, port)
    raise TypeError(f'an address is (host, port), "host:port" or "unix:/path", not {addr!r}')


def parse_url(url: str) -> tuple[Origin, str, str]:
    """Return a URL's origin, target and userinfo; raises ValueError for one that is not HTTP's."""
    if _find_control(url):
        raise ValueError("a URL has no control characters")
    parts = urlsplit(url.strip(" "))
    scheme = parts.scheme.lower()
    user, _, authority = parts.netloc.rpartition("@")
    if scheme in ("http+unix", "https+unix"):
        origin = _unix(scheme.partition("+")[0], unquote(authority))
    elif scheme in _PORTS:
        origin = _origin(scheme, parts.hostname or "", parts.port)
    else:
        # No more of it is shown: it may be a password.
        raise ValueError(f"the URL begins with http:// or https://, not with {scheme[:20]!a}")
    return origin, target_of(f"{parts.path or '/'}{f'?{parts.query}' if parts.query else ''}"), user


def joined(origin: Origin, target: str, location: str) -> tuple[Origin, str]:
    """Return where a Location leads that came from there (RFC 9110 §10.2.2); raises ValueError."""
    if _find_control(location):
        raise ValueError("a URL has no control characters")
    location = _as_sent(location.strip(" \t").partition("#")[0])
    parts = urlsplit(location)
    if parts.scheme and not parts.netloc:
        raise ValueError("a URL of http has a host")
    # OPTIONS may have asked for all of the server, which has no path.
    target = "/" if target == "*" else target
    # The name of a UNIX socket's origin means nothing to others: it knows itself by its Host.
    base = f"{origin.scheme}://{origin.authority}"
    found, wanted, _ = parse_url(urljoin(f"{base}{target}", location))
    if origin.path and found.text == base:
        return origin, wanted
    if found.path:
        raise ValueError("a redirect may not lead to a UNIX socket")
    return found, wanted


def _as_sent(text: str) -> str:
    """Return a field's value, of which each byte is a character, as the UTF-8 that many send."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def target_of(path: str, query: Query | None = None) -> str:
    """Return what the request line names: a path and a query, percent-encoded where needed.

    Escapes that are already there stay. Raises ValueError for control characters and for a URL.
    """
    if query is not None:
        if isinstance(query, str):
            # All of it is the query, which a # would end.
            text = query.removeprefix("?").replace("#", "%23")
        else:
            text = encoded(query)
        path = path.partition("#")[0]
        if text:
            path = f"{path}{'&' if '?' in path else '?'}{text}"
    if _is_plain_target(path):
        return path
    if _find_control(path):
        raise ValueError(f"a path has no control characters: {path[:80]!a}")
    if path.startswith(("http://", "https://")):
        raise ValueError(
            f"{path[:80]!a} is a URL: give the path on this client's server, or make another client"
            " with HTTPClient.from_url"
        )
    path = path.partition("#")[0]
    if path == "*":
        return path
    if not path.startswith("/"):
        path = f"/{path}"
    return _bare_percent.sub("%25", quote(path, safe=_TARGET))


def encoded(query: Mapping[str, object] | Iterable[tuple[str, object]]) -> str:
    """Return the names and values of a query as text; None is left out, a bool is true or false."""
    pairs = query.items() if isinstance(query, Mapping) else query
    flat: list[tuple[str, str | bytes]] = []
    for name, values in pairs:
        many = values if isinstance(values, list | tuple | set | frozenset) else (values,)
        for value in many:
            if value is None:
                continue
            text: str | bytes = value if isinstance(value, bytes) else str(value)
            if isinstance(value, bool):
                text = str(value).lower()
            flat.append((str(name), text))
    return urlencode(flat)


def _unix(scheme: str, path: str) -> Origin:
    if not path:
        raise ValueError('the address of a UNIX socket is "unix:/path"')
    return Origin(scheme, "localhost", _PORTS[scheme], path)


def _origin(scheme: str, host: str, port: int | None) -> Origin:
    host = host.strip("[]")
    if not host.isascii():
        host = host.encode("idna").decode("ascii")
    if not _is_host(host):
        raise ValueError(f"{host[:80]!a} is not a host")
    if port is None:
        port = _PORTS[scheme]
    if not 0 < port < 65536:
        raise ValueError(f"a port is a number from 1 to 65535, not {port}")
    return Origin(scheme, host.lower(), port)
