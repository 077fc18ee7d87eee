"""The grammar of RFC 9110 and RFC 9112 as this server accepts it, and every limit it sets.

The patterns are strict where leniency becomes request smuggling: two programs that read the same
bytes differently are what an attacker needs. They use possessive quantifiers, so that a match takes
time linear in its input whatever that is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# RFC 9110 §5.6.2
_TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TOKEN = re.compile(_TCHAR + rb"++")

# RFC 9112 §3. A request target is visible US-ASCII and never holds a fragment. Some characters that
# RFC 3986 would have escaped ("|", "^", "{" …) are sent raw by browsers (WHATWG URL) and are harmless.
_TARGET = rb"[!-\"$-~]"
REQUEST_LINE = re.compile(rb"(" + _TCHAR + rb"++) (" + _TARGET + rb"++) HTTP/1\.([01])")
# The same line, loosely, to tell which rule it broke.
ANY_REQUEST_LINE = re.compile(rb"([^ ]*+) ([^ ]*+) ([^ ]*+)")
HTTP_VERSION = re.compile(rb"HTTP/([0-9])\.([0-9])")

# RFC 9112 §5, each line preceded by its CRLF. Field values hold no control character but HTAB
# (RFC 9110 §5.5); a name is followed by its colon at once (§5.1); no line begins with white space
# (obs-fold, §5.2).
FIELD_BLOCK = re.compile(rb"(?:\r\n" + _TCHAR + rb"++:[\t -~\x80-\xff]*+)*+")
FIELD_LINE = re.compile(_TCHAR + rb"++:[\t -~\x80-\xff]*+")

# Every field that framing and routing need, found in one pass over a validated block.
FRAMING_FIELDS = re.compile(
    rb"\r\n((?i:host|content-length|transfer-encoding|connection|expect)):([^\r]*+)"
)

# RFC 9110 §7.2 and RFC 3986 §3.2.2: no userinfo, no empty label tricks that a URL could be built of.
HOST = re.compile(
    rb"(?P<name>\[[0-9A-Za-z:.!$&'()*+,;=\-_~]++\]|(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*+)"
    rb"(?::(?P<port>[0-9]*+))?"
)
IPV_FUTURE = re.compile(rb"[vV][0-9A-Fa-f]++\.[A-Za-z0-9\-._~!$&'()*+,;=:]++")
ABSOLUTE_FORM = re.compile(rb"(?i:https?)://([^/?]*+)(.*+)")

# RFC 9112 §7.1: the size, then extensions by their grammar (BWS is tolerated as §7.1.1 demands).
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+"'
CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15}+)(?:[ \t]*+;[ \t]*+" + _TCHAR + rb"++"
    rb"(?:[ \t]*+=[ \t]*+(?:" + _TCHAR + rb"++|" + _QUOTED + rb"))?+)*+"
)
HEX_DIGITS = b"0123456789ABCDEFabcdef"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Every size (bytes or counts) and deadline (seconds) that bounds what a client may do.

    How large a body may be is a route's own setting (``max_content_length``).
    """

    #: Bytes of the request line; more is 414. RFC 9112 §3 recommends at least 8000.
    request_line: int = 8192
    #: Header fields of one request; more is 431. Browsers send about 15, proxies add a few.
    header_fields: int = 100
    #: Bytes of all header fields together; more is 431. Cookies are what fills them.
    header_bytes: int = 32768
    #: Empty lines before a request line; more is 400. RFC 9112 §2.2 wants at least one ignored.
    empty_lines: int = 4
    #: Bytes of a chunk's size line with its extensions; more is 400. Nobody sends extensions.
    chunk_line: int = 256
    #: Bytes of chunk framing beyond what small chunks need (16 + 2 per byte of data); more is 400.
    chunk_overhead: int = 16384
    #: Trailer fields after a chunked body; more is 431.
    trailer_fields: int = 32
    #: Bytes of all trailer fields together; more is 431.
    trailer_bytes: int = 8192
    #: Bytes of a body kept in memory; what is longer goes to a temporary file.
    body_memory: int = 65536

    #: From the first byte of a request (or from the connection's opening) to the end of its head; then 408.
    head: float = 10.0
    #: Longest silence within a body; then 408.
    body_idle: float = 20.0
    #: Bytes per second that a body must average once ``body_idle`` seconds have passed; below it 408.
    body_rate: float = 240.0
    #: An idle connection is kept this long for its next request.
    keep_alive: float = 75.0
    #: A client that takes no byte of its response for this long is cut off.
    write: float = 30.0
    #: For the whole TLS handshake.
    handshake: float = 10.0
    #: After a refused request the connection is read this long, so that the client sees the answer.
    closing: float = 2.0

    def __post_init__(self) -> None:
        """Refuse limits that would let nothing through.

        :raises ValueError: for one that is not positive.
        """
        for name in self.__slots__:
            if not getattr(self, name) > 0:
                raise ValueError(f"Limits.{name} must be positive, not {getattr(self, name)!r}")
