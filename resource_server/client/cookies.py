"""The cookies of a client: `http.cookiejar`, given what it wants to know of ours.

A server may set them for its own host and the domains above, as RFC 6265 tells; there is no list of
public suffixes here, but a domain of one label (com) gets none, nor does one of the kind co.uk.
"""

from __future__ import annotations

from http.cookiejar import Cookie, CookieJar, DefaultCookiePolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..headers import Headers
    from .urls import Origin

# RFC 6265 §6.1 asks for 3000 in all. A server that sets more gets none of them back.
MAX_COOKIES = 3000
# Characters of a name and value: RFC 6265 §6.1 asks for 4096, and browsers keep no longer one.
MAX_COOKIE = 4096


class _Policy(DefaultCookiePolicy):
    """What is kept."""

    def __init__(self) -> None:
        super().__init__(strict_domain=True)

    def set_ok(self, cookie: Cookie, request: Any) -> bool:
        if len(cookie.name) + len(cookie.value or "") > MAX_COOKIE:
            return False
        return super().set_ok(cookie, request)


class _Request:
    """A request, as a CookieJar asks it."""

    unverifiable = False

    def __init__(self, origin: Origin, target: str) -> None:
        self.type = origin.scheme
        self.host = origin.host
        self.origin_req_host = origin.host
        target = "/" if target == "*" else target
        self._url = f"{origin.scheme}://{origin.authority}{target}"
        self.cookie: str | None = None

    def get_full_url(self) -> str:
        return self._url

    def has_header(self, name: str) -> bool:
        return False

    def get_header(self, name: str, default: str | None = None) -> str | None:
        return default

    def add_unredirected_header(self, name: str, value: str) -> None:
        if name == "Cookie":
            self.cookie = value


class _Answer:
    """An answer, as a CookieJar asks it."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers

    def info(self) -> _Answer:
        return self

    def get_all(self, name: str, default: list[str]) -> list[str]:
        return self._headers.get_all(name) or default


class Cookies:
    """What servers have set, for those it was set for (RFC 6265); any thread may use it."""

    def __init__(self) -> None:
        self.jar = CookieJar(_Policy())
        # Asking the jar takes 20 µs, even an empty one.
        self._any = False

    def keep(self, origin: Origin, target: str, headers: Headers) -> None:
        """Keep the cookies that an answer sets."""
        self.jar.extract_cookies(_Answer(headers), _Request(origin, target))  # type: ignore[arg-type]
        if len(self.jar) > MAX_COOKIES:
            self.jar.clear()
        self._any = True

    def of(self, origin: Origin, target: str) -> str | None:
        """Return the value of Cookie for a request, None for none."""
        if not self._any and not len(self.jar):
            return None
        request = _Request(origin, target)
        self.jar.add_cookie_header(request)  # type: ignore[arg-type]
        return request.cookie
