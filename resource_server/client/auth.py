"""Who asks: what sets the Authorization field of a client's requests (RFC 9110 §11.6.2).

Each is a callable that is given the request. One that has a method ``answer(response)`` is asked
when a 401 comes, and tells whether it is worth asking again. It is the exchange that keeps them to
the client's own origin: after a redirect to another they are not called any more.

::

    HTTPClient("device.local", auth=digest("admin", "secret"))
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
from base64 import b64encode
from urllib.parse import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..headers import Headers
    from .answer import ClientResponse, Outgoing

_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"  # RFC 9110 §5.6.2 token
_find_control = re.compile(r"[\x00-\x1f\x7f]").search
# RFC 6750 §2.1 b64token.
_is_bearer = re.compile(r"[A-Za-z0-9\-._~+/]+=*").fullmatch
# RFC 9110 §11.2, §11.3: a parameter, or a scheme with or without a token68. What cannot be told by
# commas alone: they separate parameters, and challenges.
_item = re.compile(
    rf"""
    [ \t,]*+
    (?:
        (?P<name>{_WORD}) [ \t]*+ = [ \t]*+
        (?: "(?P<quoted>(?:[^"\\]|\\.)*+)" | (?P<plain>{_WORD}) ) (?= [ \t]*+ (?:,|\Z) )
    |
        (?P<scheme>{_WORD}) (?: [ \t]++ [A-Za-z0-9\-._~+/]++ =*+ (?= [ \t]*+ (?:,|\Z) ) )?
    )
    """,
    re.VERBOSE | re.DOTALL,
).match
# Requests with one nonce: RFC 7616 §3.4 gives the count eight digits.
_MAX_COUNT = 0xFFFFFFFF


class basic:  # noqa: N801 - it is used as a function
    """Sends a user and a password with each request (RFC 7617), in UTF-8.

    Whoever reads the request has both: use it with https. Raises ValueError for what the scheme
    cannot carry, a colon in the user or a control character.
    """

    def __init__(self, user: str, password: str) -> None:
        if ":" in user:
            raise ValueError("basic authentication has no users with a colon in their name")
        _check(user, password)
        self._value = "Basic " + b64encode(f"{user}:{password}".encode()).decode("ascii")

    def __call__(self, request: Outgoing) -> None:
        """Set the field."""
        request.headers["Authorization"] = self._value

    def __repr__(self) -> str:
        return "<basic ***>"


class bearer:  # noqa: N801 - it is used as a function
    """Sends a token with each request (RFC 6750 §2.1); raises ValueError for what is none."""

    def __init__(self, token: str) -> None:
        if not _is_bearer(token):
            # Not shown: it may be a token with a line end.
            raise ValueError("a bearer token is made of letters, digits and -._~+/, then =")
        self._value = f"Bearer {token}"

    def __call__(self, request: Outgoing) -> None:
        """Set the field."""
        request.headers["Authorization"] = self._value

    def __repr__(self) -> str:
        return "<bearer ***>"


class digest:  # noqa: N801 - it is used as a function
    """Proves that it knows a password, without sending it (RFC 7616), once it is challenged.

    MD5 and SHA-256, their -sess forms and ``qop=auth``; challenges for anything else are not
    answered. The nonce is used, and its uses counted, until the server gives another; that takes
    one more request. Any thread may use it. Raises ValueError for a control character.
    """

    def __init__(self, user: str, password: str) -> None:
        _check(user, password)
        self._user = user
        self._password = password
        self._lock = threading.Lock()  # guards the following
        # By origin: a nonce is of use only where it was made.
        self._challenges: dict[str, _Challenge] = {}

    def __call__(self, request: Outgoing) -> None:
        """Set the field, if the server has given a nonce."""
        origin, target = _split(request.url)
        with self._lock:
            challenge = self._challenges.get(origin)
            if challenge is None:
                return
            challenge.count += 1
            count = challenge.count
            if count == _MAX_COUNT:
                del self._challenges[origin]
        request.headers["Authorization"] = challenge.answered(request.method, target, count)

    def answer(self, response: ClientResponse) -> bool:
        """Take note of the challenge of a 401; return whether to ask again."""
        challenge = _chosen(response.headers, self._user, self._password)
        if challenge is None:
            return False
        request = response.request
        # RFC 7616 §3.3: unless it was the nonce that was too old, user or password are wrong. But
        # servers that were started anew know none of their nonces, and not all say "stale".
        if not challenge.stale and _sent(request) == challenge.nonce:
            return False
        origin = _split(request.url)[0]
        with self._lock:
            known = self._challenges.get(origin)
            # A nonce that several requests were given at once is counted on, not anew.
            if known is None or challenge.stale or known.nonce != challenge.nonce:
                self._challenges[origin] = challenge
        return True

    def __repr__(self) -> str:
        return "<digest ***>"


class _Challenge:
    """What a server wants to have proved, and the constant part of the proof."""

    def __init__(self, given: dict[str, str], user: str, password: str) -> None:
        """Raise KeyError for a challenge without realm or nonce, ValueError for an unknown one."""
        algorithm = given.get("algorithm", "MD5")
        name = algorithm.upper().removesuffix("-SESS")
        if name not in ("MD5", "SHA-256"):
            raise ValueError("an unknown algorithm")
        # RFC 7616 §3.3: every implementation gives it. With auth-int the content would be part of
        # the proof, which then could not be streamed.
        if "auth" not in (each.strip() for each in given["qop"].lower().split(",")):
            raise ValueError("an unknown qop")
        self._md5 = name == "MD5"
        realm = given["realm"]
        self.nonce = nonce = given["nonce"]
        self.stale = given.get("stale", "").lower() == "true"
        self.count = 0
        # The same for all uses of the nonce, as the -sess forms demand (RFC 7616 §3.4.2).
        self._cnonce = secrets.token_hex(16)
        self._secret = self._hash(f"{user}:", realm, f":{password}")
        if algorithm.upper().endswith("-SESS"):
            self._secret = self._hash(f"{self._secret}:", nonce, f":{self._cnonce}")
        # The values are sent back as they came, with their backslashes (RFC 7616 §3.4).
        self._begin = f'{self._named(given, user)}, realm="{realm}", nonce="{nonce}"'
        self._end = f"algorithm={algorithm}, qop=auth"
        if "opaque" in given:
            self._end = f'opaque="{given["opaque"]}", {self._end}'

    def _named(self, given: dict[str, str], user: str) -> str:
        """Return the parameter that names the user (RFC 7616 §3.4, §3.4.4)."""
        if given.get("userhash", "").lower() == "true":
            return f'username="{self._hash(f"{user}:", given["realm"], "")}", userhash=true'
        if not user.isascii():
            return f"username*=UTF-8''{quote(user, safe='')}"
        escaped = user.replace("\\", "\\\\").replace('"', '\\"')
        return f'username="{escaped}"'

    def _hash(self, before: str, given: str, after: str) -> str:
        # What the server gave is the bytes it gave; what is ours is UTF-8 (RFC 7616 §4).
        data = before.encode() + given.encode("latin-1") + after.encode()
        made = hashlib.md5(data, usedforsecurity=False) if self._md5 else hashlib.sha256(data)
        return made.hexdigest()

    def answered(self, method: str, target: str, count: int) -> str:
        """Return the value of Authorization (RFC 7616 §3.4.1)."""
        asked = self._hash(f"{method}:{target}", "", "")
        proof = self._hash(
            f"{self._secret}:", self.nonce, f":{count:08x}:{self._cnonce}:auth:{asked}"
        )
        return (
            f'Digest {self._begin}, uri="{target}", response="{proof}", {self._end}, '
            f'nc={count:08x}, cnonce="{self._cnonce}"'
        )


def _check(*texts: str) -> None:
    if any(_find_control(text) for text in texts):
        raise ValueError("a user and a password have no control characters")


def _split(url: str) -> tuple[str, str]:
    """Return the origin and the target of a request's URL; that of a server as a whole is "*"."""
    at = url.find("/", url.index("://") + 3)
    return (url[:-1], "*") if at < 0 else (url[:at], url[at:])


def _chosen(headers: Headers, user: str, password: str) -> _Challenge | None:
    """Return the first challenge that can be answered: the server prefers it (RFC 7616 §3.7)."""
    for scheme, given in _challenges(headers.get("www-authenticate", "")):
        if scheme == "digest":
            try:
                return _Challenge(given, user, password)
            except (KeyError, ValueError):
                continue
    return None


def _challenges(value: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the challenges of a WWW-Authenticate, schemes and names in lower case.

    Quoted values stay as they are between their quotes. What comes after something malformed is
    left out.
    """
    scheme = ""
    given: dict[str, str] = {}
    at = 0
    while item := _item(value, at):
        at = item.end()
        if item["name"] is None:
            if scheme:
                yield scheme, given
            scheme, given = item["scheme"].lower(), {}
        else:
            given[item["name"].lower()] = item["plain"] or item["quoted"] or ""
    if scheme:
        yield scheme, given


def _sent(request: Outgoing) -> str | None:
    """Return the nonce that a request was sent with, None if it had no proof of ours."""
    for scheme, given in _challenges(request.headers.get("authorization", "")):
        if scheme == "digest":
            return given.get("nonce")
    return None
