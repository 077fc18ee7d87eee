"""Cookies, read and made: RFC 6265, with SameSite and the name prefixes of its revision."""

from __future__ import annotations

import re

from .dates import format_date
from .errors import FieldError

# RFC 6265 §6.1: browsers need not keep more, and drop a larger cookie without a word.
MAX_COOKIE_BYTES = 4096

# What a server may set (RFC 6265 §4.1.1): a token, and cookie-octets with or without quotes.
_is_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_is_cookie_value = re.compile(
    r'[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*|"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*"'
).fullmatch
# What is read may have been set by somebody else: cookies are shared by all ports of a host, and
# browsers keep names like a[b]. Only what no reader could agree on is refused.
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
    longest. Quotes around a value are taken off; a pair without a name or ``=`` is left out. Raises
    FieldError for control characters and for a name with spaces, quotes or commas in it.
    """
    if _has_control(value.replace("\t", " ")):
        raise FieldError("a cookie holds control characters")
    cookies: dict[str, str] = {}
    for pair in value.split(";"):
        name, equals, text = pair.partition("=")
        name = name.strip(" \t")
        if not equals or not name:
            continue
        if not _is_readable_name(name):
            raise FieldError(f"{name[:80]!a} is not the name of a cookie")
        text = text.strip(" \t")
        if len(text) >= 2 and text[0] == text[-1] == '"':
            text = text[1:-1]
        cookies.setdefault(name, text)
    return cookies


def format_cookie(
    name: str,
    value: str,
    *,
    max_age: int | None = None,
    expires: float | None = None,
    domain: str | None = None,
    path: str | None = "/",
    secure: bool = False,
    http_only: bool = False,
    same_site: str | None = "Lax",
) -> str:
    """Return the value of a Set-Cookie field (RFC 6265 §4.1).

    `max_age` is in seconds, `expires` in seconds since 1970; without either the cookie lives as
    long as the browser. `same_site` is "Strict", "Lax", "None" or None for no such attribute.
    Raises FieldError for a name, value or attribute that is not plain cookie text, and for a cookie
    that browsers would drop: larger than 4096 bytes, SameSite=None without `secure`, or a
    ``__Secure-`` or ``__Host-`` name that does not keep its promise (RFC 6265bis §4.1.3).
    """
    _check_pair(name, value)
    parts = [f"{name}={value}"]
    if max_age is not None:
        if not isinstance(max_age, int) or isinstance(max_age, bool):
            raise FieldError(f"max_age is a whole number of seconds, not {max_age!r}")
        parts.append(f"Max-Age={max_age}")
    if expires is not None:
        parts.append(f"Expires={format_date(expires)}")
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


def _check_pair(name: str, value: str) -> None:
    if not isinstance(name, str) or not _is_token(name):
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
