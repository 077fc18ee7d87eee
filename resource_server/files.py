"""Files of the disk as responses, and the guard that keeps a client inside one directory.

What a client names is judged three times: by its syntax, before the disk is touched and the same on
every system (``path_join_safe``); by where its links lead; and, once open, by its descriptor.
Whatever fails looks the same from outside: 404, as if there were nothing.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import time
from urllib.parse import quote, unquote_to_bytes

from .errors import NotFound
from .headers import format_date
from .listing import content_security_policy, read_directory, render_listing
from .media_types import content_type_of
from .response import HTMLResponse, Redirect, Response
from .routing.resource import Resource, get

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from .request import Request

#: Longest single name, in characters: no file system of a desktop system takes more than 255 units.
MAX_NAME_LENGTH = 255
#: Longest relative path, in characters: PATH_MAX of Linux; bounds the work one name can cause.
MAX_PATH_LENGTH = 4096
#: Files up to this size, in bytes, are read at once, so that one send answers the request.
SMALL_FILE = 64 * 1024

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
    components = _split_name(filename)
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


def _split_name(filename: str) -> list[str]:
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


# What the system says of a name behind which there is nothing for this process to read. All of it
# is one answer, so that the answer tells nothing about what exists.
_MISSING = frozenset(
    (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EACCES,
        errno.EPERM,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,  # a name the file system cannot have
        errno.EISDIR,
        errno.ENXIO,  # a socket, or a FIFO put in place of the file meanwhile
        errno.ENODEV,
    )
)

# Only what POSIX or Windows has: no newline translation; should a FIFO or a terminal have taken the
# place of the file, do not wait for it and do not let it become the controlling terminal.
_OPEN_FLAGS = os.O_RDONLY
for _flag in ("O_BINARY", "O_NONBLOCK", "O_NOCTTY"):
    _OPEN_FLAGS |= getattr(os, _flag, 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def _not_found(error: OSError | ValueError) -> NotFound:
    """Return NotFound for what is missing; raise ``error`` again if it is trouble of the system."""
    if isinstance(error, OSError) and error.errno not in _MISSING:
        raise error
    return NotFound()


def _open_regular(path: str, *, follow_links: bool) -> tuple[io.FileIO, os.stat_result]:
    """Open a regular file for reading, and nothing else; raise NotFound for all the rest.

    Looked at before it is opened, because opening a device or a FIFO can already do something, and
    by its descriptor afterwards, because it may have been replaced in between.
    """
    try:
        if not stat.S_ISREG(os.stat(path, follow_symlinks=follow_links).st_mode):
            raise NotFound
        descriptor = os.open(path, _OPEN_FLAGS if follow_links else _OPEN_FLAGS | _NO_LINK)
    except (OSError, ValueError) as error:
        raise _not_found(error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NotFound
        return io.FileIO(descriptor), status
    except BaseException:
        os.close(descriptor)
        raise


class FileResponse(Response):
    """The content of a regular file, opened when the response is made.

    ``path``: the file; links are followed, so it must come from a trusted place, or from
    ``path_join_safe``. ``content_type``: by default from the name, with ``charset=utf-8`` for text.
    ``filename``: the browser saves the file under this name (``Content-Disposition``).

    What is small is read at once into ``body``; the rest is ``file``, of which the server sends
    ``content_length`` bytes. A response that nobody sends is given back with ``close()``.

    Raises ``NotFound`` for what is missing, not a regular file, or not permitted to be read;
    ``OSError`` when the system is in trouble (descriptors used up, a failing disk).
    """

    _follow_links = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        content_type: str | None = None,
        filename: str | None = None,
    ) -> None:
        name = os.fspath(path)
        fields = [("X-Content-Type-Options", "nosniff")]
        if filename is not None:
            fields.append(("Content-Disposition", content_disposition(filename)))
        content_type = content_type or content_type_of(filename or name)
        file, status = _open_regular(name, follow_links=self._follow_links)
        try:
            fields += _last_modified(status.st_mtime)
            super().__init__(None, 200, fields, content_type=content_type)
            self._take_content(file, status.st_size)
        except BaseException:
            file.close()
            raise

    def _take_content(self, file: io.FileIO, size: int) -> None:
        if size > SMALL_FILE:
            self.body = None
            self.file = file
            self.content_length = size
        else:
            with file:
                self.body = _read(file, size)


class _ServedFile(FileResponse):
    """A file at a path without links; a link found in its place was put there meanwhile."""

    _follow_links = False


class _HeadFile(_ServedFile):
    """The fields of the same file for HEAD: nothing is read, for nothing will be sent."""

    def _take_content(self, file: io.FileIO, size: int) -> None:
        file.close()
        self.content_length = size


def _read(file: io.FileIO, size: int) -> bytes:
    """Read up to ``size`` bytes; less only when the file has become shorter."""
    pieces = []
    while size > 0 and (piece := file.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _last_modified(timestamp: float) -> list[tuple[str, str]]:
    """Return the field Last-Modified, never later than now (RFC 9110 §8.8.2.1)."""
    try:
        return [("Last-Modified", format_date(min(timestamp, time.time())))]
    except (OverflowError, OSError, ValueError):
        return []  # a time no calendar has; a file without a date is still a file


# What RFC 6266 Appendix D advises against in the plain parameter: quotes, backslashes, percent
# signs and whatever is not ASCII; and separators, so that no client takes it for a path.
_NOT_PLAIN = re.compile(r"[^ !#$&'()+,\-.0-9;=@A-Z\[\]^_`a-z{}~]")


def content_disposition(filename: str) -> str:
    """Return the Content-Disposition that makes a browser save under ``filename``.

    RFC 6266 §4.1, with the name in UTF-8 (RFC 8187 §3.2) when it does not fit the plain parameter.
    No name can end the parameter or the field; separators become ``_``, which every system takes.
    """
    if not filename:
        return "attachment"
    name = re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff/\\]", "_", filename)
    plain = _NOT_PLAIN.sub("_", name)
    value = f'attachment; filename="{plain}"'
    if plain != name:
        value += f"; filename*=UTF-8''{quote(name, safe='')}"
    return value


# Hidden files: a dot at the beginning, behind any characters that HFS+ ignores in names.
_HIDDEN = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]*\\.")
# Spellings that decoding would turn into a separator, or into another spelling of the same path.
_ALIASED = re.compile(r"//|\\|%2f|%5c", re.IGNORECASE)


class FileResource(Resource):
    """A directory of files for GET and HEAD, at any prefix it is mounted under.

    ``root``: the directory. ``listing``: show directories that have no index. ``index``: the file
    shown for a directory; ``""`` for none.

    A directory without the slash at its end is redirected to the one with it. What is missing,
    hidden (a name that begins with a dot), refused by ``path_join_safe``, not a regular file or not
    permitted is 404, one like the other.

    Raises ``NotADirectoryError`` when ``root`` is not a directory, ``ValueError`` when ``index`` is
    not a plain name.

    >>> router.mount("/static", FileResource("/srv/www"))
    """

    def __init__(
        self, root: str | os.PathLike[str], *, listing: bool = False, index: str = "index.html"
    ) -> None:
        if not os.path.isdir(root):
            raise NotADirectoryError(errno.ENOTDIR, "The root is not a directory", os.fspath(root))
        if len(_split_name(index)) > 1:
            raise ValueError(f"the index {index!r} is not a plain file name")
        self.root = os.path.abspath(root)
        self.listing = listing
        self.index = index

    @get("/:path*")
    def get_file(self, request: Request) -> Response:
        """Answer with the file, the index, the listing, a redirect to the slash, or NotFound."""
        name = str(request.matches["path"])
        path = self._locate(name, request.raw_path)
        try:
            mode = os.lstat(path).st_mode
        except OSError as error:
            raise _not_found(error) from error
        if stat.S_ISDIR(mode):
            return self._directory(request, name, path)
        if request.raw_path.endswith("/"):
            raise NotFound
        return _file(request, name, path)

    def _locate(self, name: str, raw_path: str) -> str:
        """Return the resolved path of what is asked for, or raise NotFound."""
        if _ALIASED.search(raw_path) or _has_hidden(name.split("/")):
            raise NotFound
        try:
            path = path_join_safe(self.root, name)
        except ValueError as error:
            raise NotFound from error
        if WINDOWS:
            # Resolving turned short names into long ones: HTACCE~1 may be .htaccess.
            root = os.path.realpath(self.root)
            if _has_hidden(path[len(root) :].split(os.sep)):
                raise NotFound
        return path

    def _directory(self, request: Request, name: str, path: str) -> Response:
        index = self._index(name)
        if index is None and not (self.listing and os.access(path, os.R_OK | os.X_OK)):
            raise NotFound
        if not request.raw_path.endswith("/"):
            return _redirect_to_slash(request)
        if index is None:
            return self._listing(name, path)
        return _file(request, self.index, index)

    def _index(self, name: str) -> str | None:
        """Return the path of the index of the directory ``name``, if it has one to be served."""
        if not self.index:
            return None
        try:
            path = path_join_safe(self.root, f"{name}/{self.index}" if name else self.index)
            return path if stat.S_ISREG(os.lstat(path).st_mode) else None
        except (OSError, ValueError):
            return None

    def _listing(self, name: str, path: str) -> Response:
        try:
            entries, more = read_directory(path, lambda entry: self._is_served(name, entry))
        except OSError as error:
            raise _not_found(error) from error
        fields = [
            ("Content-Security-Policy", content_security_policy()),
            ("X-Content-Type-Options", "nosniff"),
        ]
        page = render_listing(name.split("/") if name else [], entries, more)
        return HTMLResponse(page, headers=fields, compress=True)

    def _is_served(self, directory: str, entry: os.DirEntry[str]) -> bool:
        """Tell whether a request for this entry of ``directory`` could be answered."""
        if _HIDDEN.match(entry.name):
            return False
        try:
            if _split_name(entry.name) != [entry.name]:
                return False
            if WINDOWS or entry.is_symlink():
                path_join_safe(self.root, f"{directory}/{entry.name}" if directory else entry.name)
        except ValueError:
            return False
        return True


def _has_hidden(components: list[str]) -> bool:
    return any(map(_HIDDEN.match, components))


def _file(request: Request, name: str, path: str) -> FileResponse:
    kind = _HeadFile if request.method == "HEAD" else _ServedFile
    # The name that was asked for tells the type, not that of the file a link leads to.
    return kind(path, content_type=content_type_of(name))


def _redirect_to_slash(request: Request) -> Redirect:
    """Redirect to the same path with a slash at its end, and the same query.

    The target is relative to the last component, so it holds under every prefix, of a mount or of a
    proxy; it begins with "./", so nothing in it can be read as a scheme or as another host.
    """
    last = quote(unquote_to_bytes(request.raw_path.rpartition("/")[2]), safe="")
    query = request.query_string
    return Redirect(f"./{last}/?{query}" if query else f"./{last}/", 301)
