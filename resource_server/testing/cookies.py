"""The cookies of a client, kept and sent as RFC 6265 §5 tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, MutableMapping

from ..headers import parse_date

# Browsers take what comes from this machine for as safe as https, so that secure cookies work in
# development (W3C Secure Contexts §3.1).
_LOCAL = ("localhost", "127.0.0.1", "::1")


class _Cookie:
    """A cookie with what decides where it is sent."""

    __slots__ = ("domain", "expires", "host_only", "name", "path", "secure", "value")

    def __init__(self, name: str, value: str, domain: str, path: str) -> None:
        self.name = name
        self.value = value
        self.domain = domain
        self.path = path
        self.host_only = True
        self.secure = False
        self.expires: float | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes it the same as another one (RFC 6265 §5.3, step 11)."""
        return self.name, self.domain, self.path

    def goes_to(self, host: str, path: str, secure: bool) -> bool:
        """Tell whether a request is sent it (RFC 6265 §5.4)."""
        if self.secure and not secure:
            return False
        same_host = host == self.domain if self.host_only else _domain_matches(host, self.domain)
        return same_host and _path_matches(path, self.path)

    def expired(self, now: float) -> bool:
        return self.expires is not None and self.expires <= now


class CookieJar(MutableMapping[str, str]):
    """Cookies by name, for one client; any thread may use it.

    ``jar["name"] = value`` sets one that is sent with every request to `host`. Of several with one
    name, for different paths, the mapping has the one that was set last.
    """

    def __init__(self, host: str) -> None:
        self._host = host.lower()
        self._lock = threading.Lock()  # guards the list
        self._cookies: dict[tuple[str, str, str], _Cookie] = {}

    def take(self, lines: Iterable[str], host: str, path: str, *, secure: bool) -> dict[str, str]:
        """Keep the cookies of Set-Cookie lines, and return those that are kept, by name.

        `host` and `path` are those of the request, `secure` tells whether that was https.
        """
        now = time.time()
        kept: dict[str, str] = {}
        for line in lines:
            cookie = _parsed(line, host.lower(), path, now, secure=_is_safe(host, secure))
            if cookie is None:
                continue
            with self._lock:
                self._cookies.pop(cookie.key, None)
                if not cookie.expired(now):
                    self._cookies[cookie.key] = cookie
                    kept[cookie.name] = cookie.value
        return kept

    def header(self, host: str, path: str, *, secure: bool) -> str:
        """Return the value of the Cookie field of a request, "" for none (RFC 6265 §5.4)."""
        host, safe = host.lower(), _is_safe(host, secure)
        sent = [cookie for cookie in self._alive() if cookie.goes_to(host, path, safe)]
        # The longer path first; the sort keeps the order of those of one length.
        sent.sort(key=lambda cookie: -len(cookie.path))
        return "; ".join([f"{cookie.name}={cookie.value}" for cookie in sent])

    def _alive(self) -> list[_Cookie]:
        now = time.time()
        with self._lock:
            for cookie in list(self._cookies.values()):
                if cookie.expired(now):
                    del self._cookies[cookie.key]
            return list(self._cookies.values())

    def __getitem__(self, name: str) -> str:
        for cookie in reversed(self._alive()):
            if cookie.name == name:
                return cookie.value
        raise KeyError(name)

    def __setitem__(self, name: str, value: str) -> None:
        cookie = _Cookie(name, value, self._host, "/")
        with self._lock:
            self._cookies[cookie.key] = cookie

    def __delitem__(self, name: str) -> None:
        with self._lock:
            keys = [key for key in self._cookies if key[0] == name]
            for key in keys:
                del self._cookies[key]
        if not keys:
            raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([cookie.name for cookie in self._alive()]))

    def __len__(self) -> int:
        return len({cookie.name for cookie in self._alive()})

    def __repr__(self) -> str:
        return f"CookieJar({dict(self)!r})"


def _is_safe(host: str, secure: bool) -> bool:
    return secure or host.lower() in _LOCAL


def _parsed(line: str, host: str, path: str, now: float, *, secure: bool) -> _Cookie | None:
    """Return the cookie of a Set-Cookie line, None for one to be ignored (RFC 6265 §5.2, §5.3)."""
    pair, *attributes = line.split(";")
    name, equals, value = pair.partition("=")
    name = name.strip(" \t")
    if not equals or not name:
        return None
    cookie = _Cookie(name, value.strip(" \t"), host, _default_path(path))
    domain = ""
    max_age = False
    for attribute in attributes:
        key, _, text = attribute.partition("=")
        key, text = key.strip(" \t").lower(), text.strip(" \t")
        if key == "secure":
            cookie.secure = True
        elif key == "domain":
            domain = text.removeprefix(".").lower()
        elif key == "path":
            cookie.path = text if text.startswith("/") else _default_path(path)
        elif key == "max-age" and text.removeprefix("-").isdecimal():
            # It counts before Expires, wherever it stands.
            max_age = True
            cookie.expires = now + int(text)
        elif key == "expires" and not max_age:
            cookie.expires = parse_date(text)
    if domain:
        if not _domain_matches(host, domain):
            return None
        cookie.domain, cookie.host_only = domain, False
    return cookie if _keeps_promise(cookie, bool(domain), secure=secure) else None


def _keeps_promise(cookie: _Cookie, has_domain: bool, *, secure: bool) -> bool:
    """Tell whether a browser would take it (RFC 6265bis §5.7: Secure, and the name prefixes)."""
    if cookie.secure and not secure:
        return False
    prefix = cookie.name.lower()
    if prefix.startswith("__secure-"):
        return cookie.secure
    if prefix.startswith("__host-"):
        return cookie.secure and not has_domain and cookie.path == "/"
    return True


def _default_path(path: str) -> str:
    """Return the path of a cookie that names none: the directory of the request (§5.1.4)."""
    return path[: path.rfind("/")] or "/"


def _domain_matches(host: str, domain: str) -> bool:
    """RFC 6265 §5.1.3: the same host, or below the domain, but for addresses."""
    if host == domain:
        return True
    return host.endswith(f".{domain}") and not host.replace(".", "").isdecimal()


def _path_matches(path: str, cookie_path: str) -> bool:
    """RFC 6265 §5.1.4: the same path, or below it."""
    if path == cookie_path:
        return True
    return path.startswith(cookie_path) and (
        cookie_path.endswith("/") or path[len(cookie_path)] == "/"
    )
