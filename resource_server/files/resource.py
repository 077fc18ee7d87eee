"""A directory of files as a resource."""

from __future__ import annotations

import errno
import os
import re
import stat
from functools import cache, lru_cache
from urllib.parse import quote, unquote_to_bytes

from ..errors import NotFound
from ..fieldvalues import accepts
from ..media_types import content_type_of
from ..response import HTMLResponse, Redirect, Response
from ..routing.resource import Resource, get
from .encodings import SUFFIXES, accepted_codings, may_be_encoded
from .listing import Order, content_security_policy, read_directory, render_listing
from .opening import WALKS, Place, find, not_found
from .paths import HIDDEN, has_hidden, split_name
from .response import ServedFile, cache_policy

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..request import Request

_PAGE = ("text/html",)
# Spellings that decoding would turn into a separator, or into another spelling of the same path.
_ALIASED = re.compile(r"//|\\|%2f|%5c", re.IGNORECASE)


class FileResource(Resource):
    """A directory of files for GET and HEAD, at any prefix it is mounted under.

    ``root``: the directory. ``index``: the file shown for a directory; ``""`` for none.
    ``listing``: show directories that have no index. ``dotfiles``: serve names that begin with a
    dot as well. ``follow_links``: let links lead out of the root; without it only those count that
    lead to a place inside. ``cache``: what Cache-Control says, as `FileResponse` has it, or a
    function that tells it for each path below the root (``"css/site.css"``). ``precompressed``:
    send ``site.css.br``, ``.zst`` or ``.gz`` in place of ``site.css`` to who accepts that, if it is
    not older. ``fallback``: the file below the root that a navigation gets (GET or HEAD that asks
    for HTML) where there is nothing else, for applications that do their routing in the browser.

    A directory without the slash at its end is redirected to the one with it. What is missing,
    hidden (a name that begins with a dot), refused by ``path_join_safe``, not a regular file or not
    permitted is 404, one like the other. Links that are changed while a request is answered lead
    nowhere.

    Raises ``NotADirectoryError`` when ``root`` is not a directory; ``ValueError`` when ``index`` is
    not a plain name or ``fallback`` not a safe one; and what `FileResponse` raises for ``cache``.

    >>> router.mount("/static", FileResource("/srv/www"))
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        index: str = "index.html",
        listing: bool = False,
        dotfiles: bool = False,
        follow_links: bool = False,
        cache: str | int | Callable[[str], str | int | None] | None = "no-cache",
        precompressed: bool = True,
        fallback: str | None = None,
    ) -> None:
        if not os.path.isdir(root):
            raise NotADirectoryError(errno.ENOTDIR, "The root is not a directory", os.fspath(root))
        if len(split_name(index)) > 1:
            raise ValueError(f"the index {index!r} is not a plain file name")
        self.root = os.path.abspath(root)
        self.index = index
        self.listing = listing
        self.dotfiles = dotfiles
        self.follow_links = follow_links
        self.precompressed = precompressed
        self.fallback = None if fallback is None else tuple(split_name(fallback))
        self._cache = cache
        self._policy = () if callable(cache) else cache_policy(cache)

    @get("/:path*")
    def get_file(self, request: Request) -> Response:
        """Answer with the file, the index, the listing, a redirect to the slash, or NotFound."""
        try:
            return self._answer(request)
        except NotFound:
            if self.fallback is None or not _navigates(request):
                raise
        return self._file(request, self.fallback, "Accept")

    def _answer(self, request: Request) -> Response:
        raw_path = request.raw_path
        if _ALIASED.search(raw_path):
            raise NotFound
        components = _components(str(request.matches["path"]))
        if components is None or (not self.dotfiles and has_hidden(components)):
            raise NotFound
        with self._find(components) as place:
            if place.is_directory:
                return self._directory(request, components, place)
            if raw_path.endswith("/"):
                raise NotFound
            return self._serve(request, components, place)

    def _find(self, components: Sequence[str]) -> Place:
        return find(self.root, components, follow_links=self.follow_links, hidden=self.dotfiles)

    def _file(self, request: Request, components: Sequence[str], *vary: str) -> Response:
        with self._find(components) as place:
            if place.is_directory:
                raise NotFound
            return self._serve(request, components, place, *vary)

    def _serve(
        self, request: Request, components: Sequence[str], place: Place, *vary: str
    ) -> Response:
        """Answer with a regular file, in the best form that the client accepts."""
        # The name that was asked for tells the type, not that of the file a link leads to.
        content_type, encodable = _type_of(components[-1])
        policy = self._policy
        if callable(self._cache):
            policy = cache_policy(self._cache("/".join(components)))
        description: tuple[str, ...] = ()
        opened = None
        if encodable and self.precompressed:
            vary += ("Accept-Encoding",)
            opened, description = _open_encoded(request, place)
        if vary:
            policy += (_vary_line(vary),)
        return ServedFile(request, opened or place.open(), content_type, description, policy)

    def _directory(self, request: Request, components: Sequence[str], place: Place) -> Response:
        """Answer with the index or the listing, behind the slash; NotFound if there is neither."""
        slash = request.raw_path.endswith("/")
        index = self._index(components)
        if index is None:
            if not self.listing:
                raise NotFound
            with place.open_directory() as directory:
                if slash:
                    return self._listing(request, components, directory)
        else:
            with index:
                if slash:
                    return self._serve(request, (*components, self.index), index)
                # One that is not permitted is none: that tells no more than a missing one.
                os.close(index.open()[0])
        return _redirect_to_slash(request)

    def _index(self, components: Sequence[str]) -> Place | None:
        """Return the index of a directory, if it has one."""
        if not self.index:
            return None
        try:
            place = self._find((*components, self.index))
        except NotFound:
            return None
        if place.is_directory:
            place.close()
            return None
        return place

    def _listing(
        self, request: Request, components: Sequence[str], directory: int | str
    ) -> Response:
        order = Order.asked_for(request.query)
        try:
            entries, more = read_directory(
                directory, lambda entry: self._look(components, entry), order
            )
        except OSError as error:
            raise not_found(error) from error
        fields = [
            ("Cache-Control", "no-cache"),
            ("Content-Security-Policy", content_security_policy()),
            ("X-Content-Type-Options", "nosniff"),
        ]
        page = render_listing(components, entries, more, order)
        return HTMLResponse(page, headers=fields, compress=True)

    def _look(self, components: Sequence[str], entry: os.DirEntry[str]) -> os.stat_result | None:
        """Return the state of an entry, None if a request for it would not be answered."""
        name = entry.name
        try:
            if split_name(name) != [name] or (not self.dotfiles and HIDDEN.match(name)):
                return None
            if not WALKS or entry.is_symlink():
                with self._find((*components, name)) as place:
                    return place.status
            status = entry.stat(follow_symlinks=False)
        except (NotFound, OSError, ValueError):
            return None
        return status if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) else None


@lru_cache(maxsize=512)
def _components(name: str) -> tuple[str, ...] | None:
    """Return the components of a relative name, None for one that is refused."""
    try:
        return tuple(split_name(name))
    except ValueError:
        return None


@lru_cache(maxsize=512)
def _type_of(name: str) -> tuple[str, bool]:
    """Return the content type of a name, and whether a compressed form is to be looked for."""
    content_type = content_type_of(name)
    return content_type, may_be_encoded(content_type)


@cache
def _vary_line(names: tuple[str, ...]) -> str:
    return f"Vary: {', '.join(names)}"


def _navigates(request: Request) -> bool:
    """Tell whether a browser asks for a page: HTML is named, not only ``*/*``."""
    accept = request.headers.get("accept")
    return accept is not None and "text/html" in accept.lower() and bool(accepts(accept, _PAGE))


def _open_encoded(
    request: Request, place: Place
) -> tuple[tuple[int, os.stat_result] | None, tuple[str, ...]]:
    """Return the best compressed form that is accepted and not older, and the line that tells it.

    None if there is none.
    """
    value = request.headers.get("accept-encoding")
    for coding in accepted_codings(value) if value else ():
        sibling = place.sibling(SUFFIXES[coding])
        if sibling is None or sibling.status.st_mtime_ns < place.status.st_mtime_ns:
            continue
        try:
            return sibling.open(), (f"Content-Encoding: {coding}",)
        except NotFound:
            continue
    return None, ()


def _redirect_to_slash(request: Request) -> Redirect:
    """Redirect to the same path with a slash at its end, and the same query.

    The target is relative to the last component, so it holds under every prefix, of a mount or of a
    proxy; it begins with "./", so nothing in it can be read as a scheme or as another host.
    """
    last = quote(unquote_to_bytes(request.raw_path.rpartition("/")[2]), safe="")
    query = request.query_string
    return Redirect(f"./{last}/?{query}" if query else f"./{last}/", 301)
