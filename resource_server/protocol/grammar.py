"""The grammar of RFC 9110 and RFC 9112 as this server accepts it.

The patterns are strict where leniency becomes request smuggling: two programs that read the same
bytes differently are what an attacker needs. A match takes time linear in its input whatever that
is: runs of characters are possessive, and a repeated group has one way only to match. Groups are
not possessive, because Python before 3.11.5 then accepts an incomplete last repetition
(``"5;"`` for a chunk's size line).
"""

from __future__ import annotations

import re

# RFC 9110 §5.6.2
_TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TOKEN = re.compile(_TCHAR + rb"++")

# RFC 9112 §3. A request target is visible US-ASCII and never holds a fragment. Some characters
# that RFC 3986 would have escaped ("|", "^", "{" …) are sent raw by browsers (WHATWG URL) and are
# harmless.
_TARGET = rb"[!-\"$-~]"
REQUEST_LINE = re.compile(rb"(" + _TCHAR + rb"++) (" + _TARGET + rb"++) HTTP/1\.([01])\r\n")
TARGET = re.compile(_TARGET + rb"++")
# The same line, loosely, to tell which rule it broke.
ANY_REQUEST_LINE = re.compile(rb"([^ ]*+) ([^ ]*+) ([^ ]*+)")
HTTP_VERSION = re.compile(rb"HTTP/([0-9])\.([0-9])")

# RFC 9112 §5, each line preceded by its CRLF. Field values hold no control character but HTAB
# (RFC 9110 §5.5); a name is followed by its colon at once (§5.1); no line begins with white space
# (obs-fold, §5.2).
FIELD_BLOCK = re.compile(rb"(?:\r\n" + _TCHAR + rb"++:[\t -~\x80-\xff]*+)*")
FIELD_LINE = re.compile(_TCHAR + rb"++:[\t -~\x80-\xff]*+")

# What a line may consist of, as far as it has arrived, with its CRLF; both end a line only together
# (RFC 9112 §2.2).
PARTIAL_REQUEST_LINE = re.compile(rb"[ -~]*+(?:\r\n?)?")
PARTIAL_LINE = re.compile(rb"[\t -~\x80-\xff]*+(?:\r\n?)?")

# Every field that framing and routing need, found in one pass over a validated block. Looking at
# the first letter, and at common beginnings once, halves the time of that.
_OF_FRAMING = rb"(?i:host|con(?:nection|tent-(?:length|encoding))|transfer-encoding|expect)"
FRAMING_FIELDS = re.compile(rb"\r\n((?=[CEHTceht])" + _OF_FRAMING + rb"):([^\r]*+)")

# RFC 9110 §7.2 and RFC 3986 §3.2.2, §3.2.3; no userinfo.
HOST = re.compile(
    rb"(?P<name>\[[0-9A-Za-z:.!$&'()*+,;=\-_~]++\]"
    rb"|(?:[A-Za-z0-9\-._~!$&'()*+,;=]++|%[0-9A-Fa-f]{2})*)"
    rb"(?::(?P<port>[0-9]*+))?"
)
IPV_FUTURE = re.compile(rb"[vV][0-9A-Fa-f]++\.[A-Za-z0-9\-._~!$&'()*+,;=:]++")
ABSOLUTE_FORM = re.compile(rb"((?i:https?))://([^/?]*+)(.*+)")

# RFC 9112 §7.1: the size, then extensions by their grammar (BWS is tolerated as §7.1.1 demands).
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]++|\\[\t -~\x80-\xff])*"'
CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15}+)(?:[ \t]*+;[ \t]*+" + _TCHAR + rb"++"
    rb"(?:[ \t]*+=[ \t]*+(?:" + _TCHAR + rb"++|" + _QUOTED + rb"))?)*"
)
HEX_DIGITS = b"0123456789ABCDEFabcdef"
