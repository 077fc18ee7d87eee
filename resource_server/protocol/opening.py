"""The opening handshake of a WebSocket (RFC 6455 §4): the fields of an HTTP request and its answer.

`accept` is the server's side, `Offer` the client's. Neither sends anything: the request has been
read as any other, and the fields returned go into a response with status 101.
"""

from __future__ import annotations

import binascii
import hashlib
import os
import re

from ..errors import BadRequest, HandshakeError, UpgradeRequired, is_token
from . import deflate

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..headers import Headers
    from ..request import Request

VERSION = "13"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
# 16 bytes in base64 (RFC 6455 §4.1). The four bits that are over may have any value, as a server
# need not decode the key (§4.2.2).
_is_key = re.compile(r"[A-Za-z0-9+/]{22}==").fullmatch

# RFC 6455 §9.1, with the white space and the empty elements that RFC 9110 §5.6.1 lets a list have.
_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_extension = re.compile(rf"[ \t]*+({_NAME})[ \t]*+").match
_parameter = re.compile(
    rf';[ \t]*+({_NAME})[ \t]*+(?:=[ \t]*+(?:({_NAME})|"((?:[^"\\]++|\\.)*)")[ \t]*+)?'
).match
_separator = re.compile(r",[ \t,]*+|\Z").match
_escape = re.compile(r"\\(.)")


class Accepted:
    """A handshake that succeeded.

    `headers` are the fields of the response besides Connection (none in the client role),
    `subprotocol` is the one chosen or None, `deflate` what was agreed on compression or None.
    """

    __slots__ = ("deflate", "headers", "subprotocol")

    def __init__(
        self,
        headers: list[tuple[str, str]],
        subprotocol: str | None,
        deflate: deflate.Parameters | None,
    ) -> None:
        self.headers = headers
        self.subprotocol = subprotocol
        self.deflate = deflate


def accept(
    request: Request,
    *,
    subprotocols: Sequence[str] = (),
    compression: bool = True,
    context_takeover: bool = True,
) -> Accepted:
    """Return the answer of a server to an opening handshake (RFC 6455 §4.2).

    `subprotocols` are those the server speaks, the best first. Without `context_takeover` each
    message is compressed on its own. Raises UpgradeRequired for what is no handshake or has another
    version, with the fields that tell what would be, and BadRequest for a malformed one.
    """
    headers = request.headers
    if request.method != "GET" or request.version < 11 or "websocket" not in request.upgrade:
        raise _upgrade_required("this is a WebSocket: open it with GET and Upgrade: websocket")
    if headers.get("sec-websocket-version") != VERSION:
        raise _upgrade_required(f"Sec-WebSocket-Version must be {VERSION}")
    key = headers.get("sec-websocket-key", "")
    if not _is_key(key):
        raise BadRequest("Sec-WebSocket-Key must be 16 bytes in base64, once")
    fields = [("Upgrade", "websocket"), ("Sec-WebSocket-Accept", accept_key(key))]
    subprotocol = None
    offered = headers.get("sec-websocket-protocol")
    if offered is not None:
        subprotocol = _chosen(_offered_subprotocols(offered), subprotocols)
        if subprotocol is not None:
            fields.append(("Sec-WebSocket-Protocol", subprotocol))
    agreed = None
    extensions = headers.get("sec-websocket-extensions")
    if extensions is not None:
        answer = _answered(extensions, context_takeover)
        if answer is not None and compression:
            agreed, text = answer
            fields.append(("Sec-WebSocket-Extensions", text))
    return Accepted(fields, subprotocol, agreed)


class Offer:
    """The opening handshake of a client (RFC 6455 §4.1); made anew for each connection.

    `headers` are the fields that its GET request has, besides Host, Origin and whatever the
    application adds. Raises ValueError for subprotocols that are not distinct tokens.
    """

    __slots__ = ("compression", "headers", "key", "subprotocols")

    def __init__(self, *, subprotocols: Sequence[str] = (), compression: bool = True) -> None:
        self.subprotocols = tuple(subprotocols)
        self.compression = compression
        self.key = binascii.b2a_base64(os.urandom(16), newline=False).decode("ascii")
        self.headers = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", self.key),
            ("Sec-WebSocket-Version", VERSION),
        ]
        if isinstance(subprotocols, str) or not all(map(is_token, self.subprotocols)):
            raise ValueError(f"subprotocols is a list of tokens, not {subprotocols!a}")
        if len(set(self.subprotocols)) != len(self.subprotocols):
            raise ValueError(f"a subprotocol is offered twice: {subprotocols!a}")
        if self.subprotocols:
            self.headers.append(("Sec-WebSocket-Protocol", ", ".join(self.subprotocols)))
        if compression:
            self.headers.append(("Sec-WebSocket-Extensions", deflate.OFFER))

    def check(self, status_code: int, headers: Headers) -> Accepted:
        """Return what the server has agreed on; `headers` are the fields of its response.

        Raises HandshakeError for a response that a client must refuse (RFC 6455 §4.1).
        """
        if status_code != 101:
            raise HandshakeError(
                f"the server did not open a WebSocket: expected status 101, got {status_code}"
            )
        upgrade = headers.get("upgrade", "")
        if upgrade.lower() != "websocket":
            raise _wrong("Upgrade", "websocket", upgrade)
        connection = headers.get("connection", "")
        if "upgrade" not in [option.strip(" \t") for option in connection.lower().split(",")]:
            raise _wrong("Connection", "Upgrade", connection)
        expected, answer = accept_key(self.key), headers.get("sec-websocket-accept", "")
        if answer != expected:
            raise _wrong("Sec-WebSocket-Accept", expected, answer)
        return Accepted([], self._checked_subprotocol(headers), self._checked_extensions(headers))

    def _checked_subprotocol(self, headers: Headers) -> str | None:
        subprotocol = headers.get("sec-websocket-protocol")
        if subprotocol is not None and subprotocol not in self.subprotocols:
            offered = f"one of those offered ({', '.join(self.subprotocols) or 'none'})"
            raise _wrong("Sec-WebSocket-Protocol", offered, subprotocol)
        return subprotocol

    def _checked_extensions(self, headers: Headers) -> deflate.Parameters | None:
        lines = headers.get_all("sec-websocket-extensions")
        if not lines:
            return None
        if len(lines) > 1:
            # RFC 6455 §11.3.2
            raise HandshakeError("the server sent Sec-WebSocket-Extensions more than once")
        try:
            extensions = parse_extensions(lines[0])
        except ValueError as error:
            raise HandshakeError(f"malformed Sec-WebSocket-Extensions: {error}") from None
        for name, _ in extensions:
            if name != deflate.NAME or not self.compression:
                raise HandshakeError(
                    f"the server uses the extension {name[:80]!a}, which was not offered"
                )
        if len(extensions) > 1:
            raise HandshakeError(f"the server accepted {deflate.NAME} more than once")
        return deflate.check_answer(extensions[0][1])


def accept_key(key: str) -> str:
    """Return the value of Sec-WebSocket-Accept for a key (RFC 6455 §4.2.2)."""
    # Nothing secret is protected by this digest, which systems in FIPS mode want to be told.
    digest = hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False).decode("ascii")


def parse_extensions(value: str) -> list[tuple[str, list[tuple[str, str | None]]]]:
    """Return the extensions of a field value with their parameters, in order (RFC 6455 §9.1).

    Names come in lower case, values without quotes, None where there is no value. Raises ValueError
    for anything malformed.

    >>> parse_extensions('permessage-deflate; server_max_window_bits="10", foo')
    [('permessage-deflate', [('server_max_window_bits', '10')]), ('foo', [])]
    """
    extensions = []
    position = len(value) - len(value.lstrip(" \t,"))
    while match := _extension(value, position):
        name, position = match[1].lower(), match.end()
        parameters = []
        while match := _parameter(value, position):
            position = match.end()
            parameters.append((match[1].lower(), _value(match)))
        extensions.append((name, parameters))
        match = _separator(value, position)
        if match is None:
            break
        position = match.end()
        if position == len(value):
            return extensions
    raise ValueError(f"expected a token at {value[position : position + 40]!a}")


def _value(match: re.Match[str]) -> str | None:
    """Return the value of a parameter; raises ValueError for quotes around what is no token."""
    token: str | None = match[2]
    quoted: str | None = match[3]
    if quoted is None:
        return token
    unquoted = _escape.sub(r"\1", quoted)
    if not is_token(unquoted):
        raise ValueError(f"the value of {match[1][:40]} is no token")
    return unquoted


def _upgrade_required(message: str) -> UpgradeRequired:
    """Return the error that tells which version is spoken (RFC 6455 §4.2.2, §4.4)."""
    error = UpgradeRequired("websocket", message)
    error.headers.append(("Sec-WebSocket-Version", VERSION))
    return error


def _offered_subprotocols(value: str) -> list[str]:
    """Return the elements of Sec-WebSocket-Protocol: distinct tokens (RFC 6455 §4.1)."""
    offered = [item for part in value.split(",") if (item := part.strip(" \t"))]
    if not offered or not all(map(is_token, offered)):
        raise BadRequest("Sec-WebSocket-Protocol must be a list of tokens")
    if len(set(offered)) != len(offered):
        raise BadRequest("Sec-WebSocket-Protocol names a subprotocol twice")
    return offered


def _chosen(offered: Sequence[str], spoken: Sequence[str]) -> str | None:
    """Return the first that the server speaks of those offered, or None (RFC 6455 §4.2.2)."""
    for subprotocol in spoken:
        if subprotocol in offered:
            return subprotocol
    return None


def _answered(value: str, context_takeover: bool) -> tuple[deflate.Parameters, str] | None:
    """Return the answer to the first offer of compression that can be accepted, or None.

    Extensions that are not known are declined by saying nothing of them (RFC 6455 §9.1). Raises
    BadRequest for a malformed field.
    """
    try:
        offers = parse_extensions(value)
    except ValueError as error:
        raise BadRequest(f"malformed Sec-WebSocket-Extensions: {error}") from None
    for name, parameters in offers:
        if name == deflate.NAME:
            answer = deflate.answer_offer(parameters, context_takeover=context_takeover)
            if answer is not None:
                return answer
    return None


def _wrong(name: str, expected: str, got: str) -> HandshakeError:
    told = f"got {got[:80]!a}" if got else "got none"
    return HandshakeError(f"wrong {name} in the server's answer: expected {expected}, {told}")
