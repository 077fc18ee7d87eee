"""The guard that keeps what a client names inside one directory."""

from __future__ import annotations

import os
import re
import stat

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Sequence

#: Longest single name, in characters: no file system of a desktop system takes more than 255 units.
MAX_NAME_LENGTH = 255
#: Longest relative path, in characters: PATH_MAX of Linux; bounds the work one name can cause.
MAX_PATH_LENGTH = 4096

WINDOWS = os.name == "nt"

# C0, DEL and C1 controls, lone surrogates (no encoding can write them), and the colon, which on
# Windows makes a drive ("C:", "c:x") or an alternate data stream ("x::$DATA").
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff:]")
# Devices in every directory of Windows, whatever follows the first dot and however many spaces
# stand before it ("NUL .txt"); the superscript digits count as digits there.
_DEVICE = re.compile(
    r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³]) *(?:\.|\Z)", re.IGNORECASE
)


def path_join_safe(root_directory: str, filename: str) -> str:
    """Join a trusted directory and an untrusted relative name; the result is inside the directory.

    ``root_directory`` is trusted; it may be relative, end with a separator or be a link, and need
    not exist. ``filename`` uses ``/`` or ``\\`` as separator on every system; one at its end is
    tolerated, and ``""`` names the root itself. Nothing is decoded or expanded (``%2e``, ``~``).

    Returns the absolute path with all links resolved (``os.path.realpath``), which is
    ``os.path.realpath(root_directory)`` or begins with it. The file need not exist, so that a
    handler can create it; links inside the root may lead anywhere inside the root.

    Raises ``ValueError`` for: absolute paths, drives, UNC and device paths (``\\\\?\\``); empty,
    ``.`` and ``..`` components; control characters, lone surrogates and colons; names that Windows
    takes for a device or for another name (``con.txt``, a dot or space at the end); what is too
    long; links that leave the root or go in circles. ``TypeError`` for what is not ``str``.

    >>> path_join_safe("/srv/www", "css/site.css")
    '/srv/www/css/site.css'
    """
    if not isinstance(root_directory, str) or not isinstance(filename, str):
        raise TypeError("path_join_safe takes two str: a root directory and a relative file name")
    if not root_directory:
        # os.path would take it for the current directory, which nobody meant to give away.
        raise ValueError("the root directory is empty")
    components = split_name(filename)
    try:
        root = os.path.realpath(root_directory)
        path = os.path.realpath(os.path.join(root, *components))
        inside = os.path.normcase(os.path.commonpath((root, path))) == os.path.normcase(root)
        resolved = inside and _is_resolved(root, path)
    except (OSError, ValueError, RecursionError) as error:
        # RecursionError: os.path.realpath follows a long chain of links by calling itself.
        raise _refusal(filename, "the system cannot resolve it") from error
    if not inside:
        raise _refusal(filename, "a link leads out of the root directory")
    if not resolved:
        raise _refusal(filename, "its links go in circles")
    return path


def _refusal(filename: str, reason: str) -> ValueError:
    return ValueError(f"unsafe file name {filename[:80]!r}: {reason}")


def split_name(filename: str) -> list[str]:
    """Split a relative name into its components, or raise ValueError; does not touch the disk."""
    if not filename:
        return []
    if len(filename) > MAX_PATH_LENGTH:
        raise _refusal(filename, "it is too long")
    if _FORBIDDEN.search(filename):
        raise _refusal(filename, "it has a control character, a colon or a lone surrogate")
    components = filename.replace("\\", "/").split("/")
    if not components[0]:
        raise _refusal(filename, "it is an absolute path")
    if not components[-1]:
        components.pop()
    for component in components:
        reason = _fault_of_component(component)
        if reason:
            raise _refusal(filename, reason)
    return components


def _fault_of_component(component: str) -> str | None:
    if not component:
        return "it has an empty component"
    if component[-1] in ". ":
        # ".", ".." and "..." as well as "name." and "name ", which Windows opens as "name".
        return "a component ends with a dot or a space"
    if len(component) > MAX_NAME_LENGTH:
        return "a component is too long"
    if _DEVICE.match(component):
        return "a component is a device name"
    return None


def _is_resolved(root: str, path: str) -> bool:
    """Tell whether no component of ``path`` below ``root`` is a link; both are from realpath.

    realpath leaves a link in its result where links go in circles, and joins what was left of the
    path behind it unchecked, so each component is looked at. Raises OSError for a name too long.
    """
    below = path[len(root) :].strip(os.sep)
    current = root
    for component in below.split(os.sep) if below else ():
        current = os.path.join(current, component)
        try:
            mode = os.lstat(current).st_mode
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return True  # what does not exist, or cannot be reached, has nothing below it
        if stat.S_ISLNK(mode):
            return False
    return True


# Hidden files: a dot at the beginning, behind any characters that HFS+ ignores in names.
HIDDEN = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]*\\.")


def has_hidden(components: Sequence[str]) -> bool:
    """Tell whether one of the names begins with a dot."""
    return any(map(HIDDEN.match, components))
