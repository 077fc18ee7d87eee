"""A plain file name made of whatever a client has sent as one."""

from __future__ import annotations

import re

#: Bytes, in UTF-8, of a safe name: file systems take 255, and so it can get a few characters more.
MAX_SAFE_NAME = 200
#: Bytes of what is kept as the extension when a name is cut.
MAX_EXTENSION = 20
#: In place of a name of which nothing is left.
NAMELESS = "file"

# Controls; what is invisible or turns the direction of writing ("gpj.exe" shown as "exe.jpg"); lone
# surrogates, which no encoding can write.
_INVISIBLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff"
    r"\ufeff\ufff9-\ufffb]"
)
# What Windows has in no name, or for streams and drives.
_FORBIDDEN = re.compile(r'[<>:"|?*]')
# Devices in every directory of Windows, whatever follows the first dot; the superscript digits
# count as digits there.
_is_device = re.compile(
    r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|CLOCK\$|(?:COM|LPT)[0-9¹²³]) *(?:\.|\Z)", re.IGNORECASE
).match


def safe_file_name(name: str) -> str:
    """Return a plain name that every system takes, for a name that may be an attack.

    It is the last component of what was sent, never empty, never hidden (no dot at its beginning),
    never a device of Windows, without controls and what no name there may hold, at most
    `MAX_SAFE_NAME` bytes long. Two names may become the same one.

    >>> safe_file_name("../../etc/passwd"), safe_file_name(r"C:\\docs\\.con.txt")
    ('passwd', '_con.txt')
    """
    last = _INVISIBLE.sub("", name).replace("\\", "/").rstrip("/ ").rpartition("/")[2]
    # Windows opens "name." and "name " as "name".
    plain = _FORBIDDEN.sub("_", last).strip(" \t").lstrip(". ").rstrip(". ")
    if _is_device(plain):
        plain = "_" + plain
    return _cut(plain) or NAMELESS


def _cut(name: str) -> str:
    """Return at most `MAX_SAFE_NAME` bytes of the name, with its extension."""
    if len(name.encode()) <= MAX_SAFE_NAME:
        return name
    stem, dot, extension = name.rpartition(".")
    tail = (dot + extension).encode()
    if not stem or len(tail) > MAX_EXTENSION:
        stem, tail = name, b""
    kept = stem.encode()[: MAX_SAFE_NAME - len(tail)].decode(errors="ignore")
    return kept.rstrip(". ") + tail.decode()
