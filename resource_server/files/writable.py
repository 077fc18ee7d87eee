"""A directory of files that clients may write: PUT, uploads by form, DELETE.

A file is written under a hidden name and takes its own when it is complete, so nobody ever reads
half of one, and an upload that is cut leaves nothing. The directory it goes to is reached without
following a link that was put there meanwhile, and held open until the file has its name.

**Threads.** Each request runs in its own. `_lock` guards the count of bytes, and is held from the
last look at what has a name until the new file has it: of two clients that both replace what they
know, by If-Match, the second is told that it knows it no more. It is held for a few calls of the
system, never while a client is waited for.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import threading
from contextlib import ExitStack, contextmanager
from urllib.parse import quote

from ..errors import (
    BadRequest,
    Conflict,
    ContentTooLarge,
    Forbidden,
    HTTPError,
    NotFound,
    PreconditionFailed,
)
from ..fieldvalues import accepts
from ..forms.filename import safe_file_name
from ..newfile import Directory, NewFile, remove_abandoned
from ..preconditions import failed_condition
from ..response import JsonResponse, Redirect, Response
from ..routing.options import SAME_ORIGIN
from ..routing.origins import Origins
from ..routing.resource import delete, post, put
from .paths import has_hidden, path_join_safe, split_name
from .representation import represent
from .resource import FileResource

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Self

    from ..forms.parts import Part
    from ..request import Request

#: Bytes of one file, and of all files of one form together, if it is not said otherwise: 100 MiB.
MAX_FILE_SIZE = 104_857_600
#: Files of one form; each holds a descriptor until all have come.
MAX_FILES = 20
#: Bytes of a form besides its files.
FORM_OVERHEAD = 1_048_576
#: Bytes read at once.
PIECE = 262_144
#: The route takes what the resource takes, which each of them says by itself.
_ANY_LENGTH = 2**63 - 1
#: Names that are tried for a file whose own is taken.
_MAX_RENAMES = 1000

_REFUSE, _RENAME, _OVERWRITE = "refuse", "rename", "overwrite"
_ALIASED = re.compile(r"//|\\|%2f|%5c", re.IGNORECASE)
_FULL = frozenset((errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)))
# What the system says where there is no directory to write to, or one that must not be written to.
_NO_DIRECTORY = frozenset((errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG))
_NOT_PERMITTED = frozenset((errno.EACCES, errno.EPERM, errno.EROFS))


class WritableFileResource(FileResource):
    """A FileResource whose files clients may write, at any prefix it is mounted under.

    PUT writes the file that the path names. POST of a form (``multipart/form-data``) writes its
    files into the directory that the path names, under safe names. DELETE removes a file. All of
    them are answered 201 (with Location) or 204, keep to the conditions If-Match and If-None-Match,
    and make no directories.

    ``max_file_size``: bytes of one file, and of all files of one form together; more is 413.
    ``quota``: bytes of all files below the root together, None for no bound; more is 507. They are
    counted when the resource is made; what others write afterwards is not seen.
    ``collision``: what happens to a file whose name is taken. ``"refuse"``: 409, but PUT may
    replace the one that its If-Match names. ``"rename"``: POST gives it a free name, ``"name
    (1).txt"``; PUT as before. ``"overwrite"``: it replaces the other.
    ``origins``: of the pages that may write, as those of a WebSocket; others get 403, lest a page
    of some other site writes here with the rights of its visitor.
    ``sync``: answer only when the disk has it. The other arguments are those of FileResource.

    Nobody is asked who they are: put a middleware around it that does. To forbid one of the
    methods, subclass it with ``delete_file = None`` (``put_file``, ``upload``).

    Raises ValueError for arguments that cannot be, and as FileResource. Files that a process has
    left unfinished are removed when it is made.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        max_file_size: int = MAX_FILE_SIZE,
        quota: int | None = None,
        collision: str = _REFUSE,
        origins: str | Iterable[str] = SAME_ORIGIN,
        sync: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        if collision not in (_REFUSE, _RENAME, _OVERWRITE):
            raise ValueError(f'collision is "refuse", "rename" or "overwrite", not {collision!r}')
        if max_file_size < 1 or (quota is not None and quota < 1):
            raise ValueError("max_file_size and quota are numbers of bytes, at least 1")
        self.max_file_size = max_file_size
        self.quota = quota
        self.collision = collision
        self._origins = Origins(origins)
        self._sync = sync
        self._lock = threading.Lock()
        self._used = _clean_and_count(self.root)

    @put("/:path*", max_content_length=_ANY_LENGTH, stream=True)
    def put_file(self, request: Request) -> Response:
        """Write the file that the path names: 201 if it is new, else 204."""
        self._check_origin(request)
        if "content-range" in request.headers:
            # RFC 9110 §14.5: a part must not be taken for the whole.
            raise BadRequest("a file is written as a whole, without Content-Range")
        if (request.content_length or 0) > self.max_file_size:
            raise self._too_large()
        *parents, name = self._components(request)
        with _answered(), self._open(parents) as directory:
            # Before the content is asked for, which may be long.
            self._may_replace(request, _status_of(directory, name))
            with _Upload(self, directory) as upload:
                while piece := request.stream.read(PIECE):
                    upload.write(piece)
                upload.complete()
                with self._lock:
                    old = _status_of(directory, name)
                    status = upload.publish(name, self._may_replace(request, old), old)
        fields = {"ETag": represent(status, "").etag}
        if old is not None:
            return Response(None, 204, fields)
        return Response(None, 201, {"Location": request.raw_path, **fields})

    @post("/:path*", max_content_length=_ANY_LENGTH, stream=True)
    def upload(self, request: Request) -> Response:
        """Write the files of a form into the directory that the path names.

        All of them or, if one cannot be written, none. A browser's form is answered by a redirect
        to the directory, other clients by JSON: name, size and URL of each file.
        """
        self._check_origin(request)
        components = self._components(request, directory=True)
        parts = request.parts(max_bytes=self.max_file_size + FORM_OVERHEAD)
        base = request.raw_path.rstrip("/") + "/"
        with _answered(), self._open(components) as directory, ExitStack() as stack:
            uploads: list[tuple[str, _Upload]] = []
            size = 0
            for part in parts:
                if part.filename is not None:
                    if len(uploads) == MAX_FILES:
                        raise ContentTooLarge(f"No more than {MAX_FILES} files are taken at once.")
                    upload = self._receive(stack, directory, part, size)
                    if upload is not None:
                        uploads.append((safe_file_name(part.filename), upload))
                        size += upload.size
            if not uploads:
                raise BadRequest("the form has no file")
            names = self._publish_all(directory, uploads)
        if accepts(request.headers.get("accept"), ["application/json", "text/html"]) == "text/html":
            return Redirect(base, 303)
        made = [
            {"name": name, "size": upload.size, "url": base + quote(name, safe="")}
            for name, (_, upload) in zip(names, uploads, strict=True)
        ]
        return JsonResponse(made, 201, {"Location": str(made[0]["url"])})

    @delete("/:path*", blocking=True)
    def delete_file(self, request: Request) -> Response:
        """Remove the file that the path names."""
        self._check_origin(request)
        *parents, name = self._components(request)
        with _answered(), self._open(parents) as directory, self._lock:
            status = _status_of(directory, name)
            failed = _failed_condition(request, status)
            if status is None:
                raise PreconditionFailed if failed else NotFound
            if failed:
                raise PreconditionFailed
            directory.remove(name)
            self._used -= status.st_size
        return Response(None, 204)

    # What a request asks for.

    def _check_origin(self, request: Request) -> None:
        """Refuse what a page of another site has a browser send."""
        # Browsers tell the origin of a page that writes; where one does not, by the newer field.
        site = request.headers.get("sec-fetch-site", "none")
        told = "origin" in request.headers
        if not self._origins.allow(request) or (not told and site not in ("same-origin", "none")):
            raise Forbidden("Pages of another origin may not write here.")

    def _components(self, request: Request, *, directory: bool = False) -> list[str]:
        """Return the components of the path; raises Forbidden for a name that is never written."""
        name = str(request.matches["path"])
        raw_path = request.raw_path
        try:
            components = split_name(name)
        except ValueError as error:
            raise Forbidden("There is no such name here.") from error
        if directory:
            raw_path = raw_path.rstrip("/")
        elif not components or raw_path.endswith("/"):
            raise Conflict("This names a directory, not a file.")
        if _ALIASED.search(raw_path) or has_hidden(components):
            raise Forbidden("There is no such name here.")
        return components

    def _open(self, components: list[str]) -> Directory:
        """Return a directory below the root, held open; raises Conflict where there is none."""
        try:
            root = os.path.realpath(self.root)
            path = path_join_safe(root, "/".join(components))
            below = path[len(root) :].strip(os.sep)
            # Links inside the root have been resolved; one that is met now was put there since.
            names = below.split(os.sep) if below else []
            if has_hidden(names):
                raise Forbidden("There is no such name here.")
            return Directory(root, below=names)
        except ValueError as error:
            raise Forbidden("There is no such name here.") from error
        except OSError as error:
            if error.errno in _NO_DIRECTORY:
                raise Conflict("There is no such directory.") from error
            raise

    def _may_replace(self, request: Request, status: os.stat_result | None) -> bool:
        """Tell whether the file may take the place of another; raises what refuses it."""
        if _failed_condition(request, status):
            raise PreconditionFailed
        if status is None:
            return False
        if self.collision != _OVERWRITE and "if-match" not in request.headers:
            raise Conflict("There is a file of this name; If-Match may tell which to replace.")
        return True

    def _too_large(self) -> ContentTooLarge:
        return ContentTooLarge(f"No more than {self.max_file_size} bytes are taken here.")

    # Writing.

    def _receive(
        self, stack: ExitStack, directory: Directory, part: Part, before: int
    ) -> _Upload | None:
        """Return what a part holds, written; None for a field in which no file was chosen."""
        upload = _Upload(self, directory, before)
        stack.enter_context(upload)
        for piece in part:
            upload.write(piece)
        if not part.filename and not upload.size:
            upload.__exit__()
            return None
        upload.complete()
        return upload

    def _publish_all(self, directory: Directory, uploads: list[tuple[str, _Upload]]) -> list[str]:
        """Give all files their names, or none if one is refused; return the names."""
        names: list[str] = []
        with self._lock:
            try:
                for name, upload in uploads:
                    names.append(self._publish_one(directory, name, upload))
            except BaseException:
                if self.collision != _OVERWRITE:
                    for name, (_, upload) in zip(names, uploads, strict=False):
                        directory.remove(name)
                        self._used -= upload.size
                raise
        return names

    def _publish_one(self, directory: Directory, name: str, upload: _Upload) -> str:
        """Give a file its name, or another; return it. Holds the lock."""
        if self.collision == _OVERWRITE:
            upload.publish(name, True, _status_of(directory, name))
            return name
        stem, dot, extension = name.rpartition(".")
        if not stem:
            stem, dot, extension = name, "", ""
        for number in range(_MAX_RENAMES if self.collision == _RENAME else 1):
            candidate = f"{stem} ({number}){dot}{extension}" if number else name
            try:
                upload.publish(candidate, False, None)
                return candidate
            except FileExistsError:
                pass
        raise Conflict(f"There is a file {name!a} already.")

    def take(self, size: int) -> None:
        """Count bytes before they are written; raises HTTPError with 507 beyond the quota."""
        with self._lock:
            if self.quota is not None and self._used + size > self.quota:
                raise _no_space()
            self._used += size

    def give(self, size: int) -> None:
        """Count bytes no more."""
        with self._lock:
            self._used -= size


class _Upload:
    """A file on its way, and its bytes in the count of its resource."""

    def __init__(
        self, resource: WritableFileResource, directory: Directory, before: int = 0
    ) -> None:
        self._resource = resource
        self._file = NewFile(directory)
        self._before = before
        self._published = False

    @property
    def size(self) -> int:
        return self._file.size

    def write(self, piece: bytes) -> None:
        """Add bytes; raises ContentTooLarge, or HTTPError beyond the quota."""
        resource = self._resource
        if self._before + self._file.size + len(piece) > resource.max_file_size:
            raise resource._too_large()
        before = self._file.size
        resource.take(len(piece))
        try:
            self._file.write(piece)
        except BaseException:
            resource.give(before + len(piece) - self._file.size)
            raise

    def complete(self) -> None:
        """Learn that this was all."""
        if self._resource._sync:
            self._file.sync()

    def publish(self, name: str, overwrite: bool, old: os.stat_result | None) -> os.stat_result:
        """Give the file its name, in place of `old`; by who holds the resource's lock."""
        status = self._file.publish(name, overwrite=overwrite, sync=self._resource._sync)
        self._published = True
        if old is not None:
            self._resource._used -= old.st_size
        return status

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        size = self._file.size
        self._file.discard()
        if not self._published:
            self._published = True
            self._resource.give(size)


@contextmanager
def _answered() -> Iterator[None]:
    """Answer trouble of the system as a client can understand it."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise _no_space() from error
        if error.errno in _NOT_PERMITTED:
            raise Forbidden("This cannot be written.") from error
        if isinstance(error, FileExistsError | IsADirectoryError):
            raise Conflict("There is something of this name already.") from error
        raise


def _no_space() -> HTTPError:
    # RFC 4918 §11.5.
    return HTTPError("There is no room for this file.", status_code=507)


def _status_of(directory: Directory, name: str) -> os.stat_result | None:
    """Return the state of a file, None if there is none; raises Conflict for what is no file."""
    try:
        status = directory.status(name)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise Forbidden("There is no such name here.") from error
        raise
    if not stat.S_ISREG(status.st_mode):
        raise Conflict("This names no file.")
    return status


def _failed_condition(request: Request, status: os.stat_result | None) -> bool:
    """Tell whether a condition of the request is false."""
    etag, modified = None, None
    if status is not None:
        told = represent(status, "")
        etag, modified = told.etag, told.modified
    exists = status is not None
    return bool(failed_condition(request.method, request.headers, etag, modified, exists=exists))


def _clean_and_count(root: str) -> int:
    """Remove what crashed processes have left unfinished; return the bytes of all files."""
    used = 0
    for path, _, names in os.walk(root):
        try:
            with Directory(path) as directory:
                if remove_abandoned(directory):
                    names = os.listdir(path)
        except OSError:
            continue
        for name in names:
            try:
                status = os.lstat(os.path.join(path, name))
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                used += status.st_size
    return used
