"""Cookies, read and made: RFC 6265, with SameSite and the name prefixes of its revision."""

from __future__ import annotations

import re

from .dates import format_date
from .errors import FieldError, is_token

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from datetime import datetime, timedelta

# RFC 6265 §6.1: browsers need not keep more, and drop a larger cookie without a word.
MAX_COOKIE_BYTES = 4096

# What a server may set (RFC 6265 §4.1.1): a token, and cookie-octets with or without quotes.
_is_cookie_value = re.compile(
    r'[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*|"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"'
).fullmatch
# What is read may have been set by somebody else: cookies are shared by all ports of a host, and
# browsers keep names like a[b]. One that no reader could agree on costs its pair, not the request.
_is_readable_name = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x7e]+").fullmatch
_has_control = re.compile(r"[\x00-\x1f\x7f]").search
# The lengths are those of the Domain Name System (RFC 1035 §2.3.4).
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN = rf"\.?(?:{_LABEL}\.)*{_LABEL}"
_is_path = re.compile(r"/[\x20-\x3a\x3c-\x7e]*").fullmatch
_SAME_SITE = {"strict": "Strict", "lax": "Lax", "none": "None"}


def parse_cookies(value: str) -> dict[str, str]:
    """Return the cookies of a Cookie field by name (RFC 6265 §4.2, §5.4).

    Of several with one name the first wins, which the client puts first because its path is the
    longest. Quotes around a value are taken off; text that was sent as bare UTF-8 is read as such.
    A pair is left out that has no ``=`` or no readable name: empty, not ASCII, or with spaces,
    quotes or commas in it. Raises FieldError for control characters.
    """
    if _has_control(value.replace("\t", " ")):
        raise FieldError("a cookie holds control characters")
    cookies: dict[str, str] = {}
    for pair in value.split(";"):
        name, equals, text = pair.partition("=")
        name = name.strip(" \t")
        if not equals or not _is_readable_name(name):
            continue
        text = text.strip(" \t")
        if len(text) >= 2 and text[0] == text[-1] == '"':
            text = text[1:-1]
        cookies.setdefault(name, text if text.isascii() else _from_utf_8(text))
    return cookies


def _from_utf_8(text: str) -> str:
    """Return text that stands for bytes (Latin-1) as the UTF-8 that they are, if they are."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def format_cookie(
    name: str,
    value: str,
    *,
    max_age: int | timedelta | None = None,
    expires: float | datetime | None = None,
    domain: str | None = None,
    path: str | None = "/",
    secure: bool = False,
    http_only: bool = False,
    same_site: str | None = "Lax",
) -> str:
    """Return the value of a Set-Cookie field (RFC 6265 §4.1).

    `max_age` is in seconds or a timedelta, `expires` in seconds since 1970 or a datetime (UTC if it
    tells no zone); without either the cookie lives as long as the browser. `same_site` is "Strict",
    "Lax", "None" or None for no such attribute.

    Raises FieldError for a name, value or attribute that is not plain cookie text, and for a cookie
    that browsers would drop: larger than 4096 bytes, SameSite=None without `secure`, or a
    ``__Secure-`` or ``__Host-`` name that does not keep its promise (RFC 6265bis §4.1.3).
    """
    _check_pair(name, value)
    parts = [f"{name}={value}"]
    if max_age is not None:
        parts.append(f"Max-Age={_seconds(max_age)}")
    if expires is not None:
        parts.append(f"Expires={format_date(_timestamp(expires))}")
    if domain:
        if len(domain) > 254 or not re.fullmatch(_DOMAIN, domain):
            raise FieldError(f"{domain[:80]!a} is not a domain that a cookie can have")
        parts.append(f"Domain={domain}")
    if path:
        if not _is_path(path):
            raise FieldError(
                f"{path[:80]!a} is not a path for a cookie: it starts with /, has no ;"
            )
        parts.append(f"Path={path}")
    if secure:
        parts.append("Secure")
    if http_only:
        parts.append("HttpOnly")
    if same_site is not None:
        parts.append(f"SameSite={_checked_same_site(same_site, secure)}")
    _check_prefix(name, secure=secure, domain=domain, path=path)
    return "; ".join(parts)


def _seconds(max_age: int | timedelta) -> int:
    """Return whole seconds; a timedelta is rounded up, so that half a second does not delete."""
    if isinstance(max_age, int) and not isinstance(max_age, bool):
        return max_age
    from datetime import timedelta

    if isinstance(max_age, timedelta):
        return -(-max_age // timedelta(seconds=1))
    raise FieldError(f"max_age is a whole number of seconds or a timedelta, not {max_age!r}")


def _timestamp(expires: float | datetime) -> float:
    """Return seconds since 1970."""
    if isinstance(expires, (int, float)):
        return expires
    from datetime import UTC, datetime

    if not isinstance(expires, datetime):
        raise FieldError(f"expires is in seconds since 1970 or a datetime, not {expires!r}")
    return (expires.replace(tzinfo=UTC) if expires.utcoffset() is None else expires).timestamp()


def _check_pair(name: str, value: str) -> None:
    if not isinstance(name, str) or not is_token(name):
        raise FieldError(f"{name!a} is not a cookie name: use letters, digits, - and _")
    if not isinstance(value, str) or not _is_cookie_value(value):
        raise FieldError(
            f"the value of the cookie {name} may hold visible ASCII without comma, semicolon, quote"
            " or backslash: encode it first, for instance with urllib.parse.quote"
        )
    if len(name) + len(value) > MAX_COOKIE_BYTES:
        raise FieldError(f"the cookie {name} is over {MAX_COOKIE_BYTES} bytes: browsers drop it")


def _checked_same_site(same_site: str, secure: bool) -> str:
    spelled = _SAME_SITE.get(same_site.lower())
    if spelled is None:
        raise FieldError(f"same_site is Strict, Lax or None, not {same_site[:80]!a}")
    if spelled == "None" and not secure:
        raise FieldError("browsers drop a cookie with SameSite=None that is not secure")
    return spelled


def _check_prefix(name: str, *, secure: bool, domain: str | None, path: str | None) -> None:
    """Refuse a name that promises what the attributes do not hold; browsers compare in any case."""
    prefix = name.lower()
    if prefix.startswith("__secure-") and not secure:
        raise FieldError(f"browsers drop {name}: a __Secure- cookie needs secure=True")
    if prefix.startswith("__host-") and (not secure or domain or path != "/"):
        raise FieldError(f"browsers drop {name}: __Host- needs secure=True, path='/', no domain")
