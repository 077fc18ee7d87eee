"""A directory of files as a resource."""

from __future__ import annotations

import errno
import os
import re
import stat
from urllib.parse import quote, unquote_to_bytes

from ..errors import NotFound
from ..media_types import content_type_of
from ..response import HTMLResponse, Redirect, Response
from ..routing.resource import Resource, get
from .listing import content_security_policy, read_directory, render_listing
from .opening import not_found
from .paths import HIDDEN, WINDOWS, has_hidden, path_join_safe, split_name
from .response import FileResponse, HeadFile, ServedFile

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from ..request import Request

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
        if len(split_name(index)) > 1:
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
            raise not_found(error) from error
        if stat.S_ISDIR(mode):
            return self._directory(request, name, path)
        if request.raw_path.endswith("/"):
            raise NotFound
        return _file(request, name, path)

    def _locate(self, name: str, raw_path: str) -> str:
        """Return the resolved path of what is asked for, or raise NotFound."""
        if _ALIASED.search(raw_path) or has_hidden(name.split("/")):
            raise NotFound
        try:
            path = path_join_safe(self.root, name)
        except ValueError as error:
            raise NotFound from error
        if WINDOWS:
            # Resolving turned short names into long ones: HTACCE~1 may be .htaccess.
            root = os.path.realpath(self.root)
            if has_hidden(path[len(root) :].split(os.sep)):
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
            raise not_found(error) from error
        fields = [
            ("Content-Security-Policy", content_security_policy()),
            ("X-Content-Type-Options", "nosniff"),
        ]
        page = render_listing(name.split("/") if name else [], entries, more)
        return HTMLResponse(page, headers=fields, compress=True)

    def _is_served(self, directory: str, entry: os.DirEntry[str]) -> bool:
        """Tell whether a request for this entry of ``directory`` could be answered."""
        if HIDDEN.match(entry.name):
            return False
        try:
            if split_name(entry.name) != [entry.name]:
                return False
            if WINDOWS or entry.is_symlink():
                path_join_safe(self.root, f"{directory}/{entry.name}" if directory else entry.name)
        except ValueError:
            return False
        return True


def _file(request: Request, name: str, path: str) -> FileResponse:
    kind = HeadFile if request.method == "HEAD" else ServedFile
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
