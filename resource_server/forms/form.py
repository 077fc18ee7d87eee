"""What a form holds: its fields and files, by name and in order."""

from __future__ import annotations

from ..errors import BadRequest, ContentTooLarge
from .upload import Spool, Store, UploadedFile

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from .parts import Part, Parts

# The name of the field in which a page tells the encoding of the others (RFC 7578 §4.6).
_CHARSET_FIELD = "_charset_"


class Form(dict[str, list[str]]):
    """The values of each field of a form, by its name, in the order in which they were sent.

    `files` are the files of each field; `entries` all fields and files as pairs, in order.

    >>> form = request.form()
    >>> form["title"], form.files["photo"][0].safe_name
    (['Holiday'], 'beach.jpg')
    """

    def __init__(
        self,
        entries: Iterable[tuple[str, str | UploadedFile]] = (),
        store: Store | None = None,
    ) -> None:
        super().__init__()
        self.files: dict[str, list[UploadedFile]] = {}
        self.entries: list[tuple[str, str | UploadedFile]] = list(entries)
        self._store = store
        for name, value in self.entries:
            if isinstance(value, str):
                self.setdefault(name, []).append(value)
            else:
                self.files.setdefault(name, []).append(value)

    def close(self) -> None:
        """Remove temporary files. A server does it when the request has been answered."""
        if self._store is not None:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Memory:
    """What the names and fields of a form take, which stay in memory."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    def take(self, size: int) -> None:
        self._taken += size
        if self._taken > self._limit:
            raise ContentTooLarge(f"The fields of the form are longer than {self._limit} bytes.")


def read_multipart(parts: Parts, store: Store, max_field_bytes: int) -> Form:
    """Return the form whose parts these are.

    Its files are written to `store`, if it is a Spool; else they stay where they are read, there.
    """
    memory = _Memory(max_field_bytes)
    fields: list[tuple[str, UploadedFile | tuple[bytes, str]]] = []
    charset = "utf-8"
    for part in parts:
        memory.take(len(part.name) + len(part.filename or ""))
        if part.filename is not None:
            file = _stored(parts, part, store)
            # Browsers send a field for files in which none was chosen as a file without a name.
            if part.filename or file.size:
                fields.append((part.name, file))
            continue
        # Not a list: a client may send bytes one by one.
        content = bytearray()
        for piece in part:
            memory.take(len(piece))
            content += piece
        if part.name == _CHARSET_FIELD:
            charset = _named_charset(content)
        fields.append((part.name, (bytes(content), part.charset)))
    entries: list[tuple[str, str | UploadedFile]] = [
        (name, value if isinstance(value, UploadedFile) else _text(name, *value, charset))
        for name, value in fields
    ]
    return Form(entries, store)


def _stored(parts: Parts, part: Part, store: Store) -> UploadedFile:
    """Return the file that a part is, with its content stored, or found where it is."""
    start = store.size if isinstance(store, Spool) else None
    size = 0
    for piece in part:
        if isinstance(store, Spool):
            store.write(piece)
        elif start is None:
            start = parts.parser.offset
        size += len(piece)
    assert part.filename is not None
    return UploadedFile(part.filename, part.content_type, store, start or 0, size)


def _named_charset(content: bytes | bytearray) -> str:
    from ..charsets import CHARSETS

    charset = content.decode("latin-1").lower()
    if charset not in CHARSETS:
        raise BadRequest(f"unknown charset {charset[:40]!a} of the form")
    return charset


def _text(name: str, content: bytes, own_charset: str, charset: str) -> str:
    try:
        return content.decode(own_charset or charset)
    except UnicodeDecodeError as error:
        raise BadRequest(
            f"the field {name[:40]!a} of the form is not {own_charset or charset}"
        ) from error
