"""What a test sends: JSON, forms, files and anything else, as the content of a request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO

from ..content import Pieces, json_bytes
from ..response import BINARY, JSON, SERIALIZABLE, TEXT

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import IO, Any, TypeAlias

    Scalar: TypeAlias = str | int | float
    #: Names with a value or values; as a Mapping's type may not vary, Any stands for these.
    Pairs: TypeAlias = Mapping[str, Any] | Iterable[tuple[str, Scalar]]
    FileContent: TypeAlias = bytes | str | IO[bytes]
    #: A content, or (file name, content), or (file name, content, content type).
    File: TypeAlias = FileContent | tuple[str, FileContent] | tuple[str, FileContent, str]
    Files: TypeAlias = Mapping[str, Any] | Iterable[tuple[str, File]]

#: For json=, where None is a value.
ABSENT = object()
FORM = "application/x-www-form-urlencoded"


class Content:
    """The content of a request: `body`, or an iterator of `pieces`; and its media type or ""."""

    __slots__ = ("body", "content_type", "pieces")

    def __init__(
        self, body: bytes = b"", content_type: str = "", pieces: Iterator[bytes] | None = None
    ) -> None:
        self.body = body
        self.content_type = content_type
        self.pieces = pieces


def make_content(
    json: object = ABSENT, form: Pairs | None = None, files: Files | None = None, body: Any = None
) -> Content:
    """Return the content that one of the arguments gives; `form` may go with `files`.

    Raises TypeError for more than one, and for what cannot be sent.
    """
    if (json is not ABSENT) + (form is not None or files is not None) + (body is not None) > 1:
        raise TypeError("give one of json=, body= and form= (which may go with files=)")
    if json is not ABSENT:
        return Content(json_bytes(json), JSON)
    if files is not None:
        return _multipart(form, files)
    if form is not None:
        return Content(encode_pairs(form).encode("ascii"), FORM)
    return Content() if body is None else _from_body(body)


def encode_pairs(pairs: Pairs) -> str:
    """Return names and values as a query or form has them."""
    from urllib.parse import urlencode

    return urlencode(pairs if isinstance(pairs, Mapping) else list(pairs), doseq=True)


def _from_body(body: Any) -> Content:
    if isinstance(body, str):
        return Content(body.encode(), TEXT)
    if isinstance(body, (bytes, bytearray, memoryview)):
        return Content(bytes(body), BINARY)
    if isinstance(body, (dict, list)):
        return Content(json_bytes(body), JSON)
    if hasattr(body, "dumpb"):
        return Content(body.dumpb(), SERIALIZABLE)
    if hasattr(body, "read"):
        return Content(_read(body), BINARY)
    if isinstance(body, Iterable) and not isinstance(body, tuple):
        return Content(b"", BINARY, Pieces(body))
    raise TypeError(
        f"a {type(body).__name__} cannot be sent: give bytes, str, dict, list, a Serializable, a"
        " file or an iterator of bytes"
    )


def _read(file: FileContent) -> bytes:
    if isinstance(file, bytes):
        return file
    if isinstance(file, str):
        return file.encode()
    data: bytes | str = file.read()
    return data.encode() if isinstance(data, str) else data


def _multipart(form: Pairs | None, files: Files) -> Content:
    """Return a form with files (RFC 7578), written as browsers do (WHATWG HTML §4.10.21.8)."""
    import os

    boundary = os.urandom(16).hex()
    out = BytesIO()

    def add(name: str, content: bytes, extra: str = "") -> None:
        out.write(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"{extra}'
            "\r\n\r\n".encode()
        )
        out.write(content + b"\r\n")

    for name, value in _each_pair(form or {}):
        add(name, str(value).encode())
    for name, file in files.items() if isinstance(files, Mapping) else files:
        file_name, content, content_type = _named(name, file)
        quoted = f'; filename="{_quoted(file_name)}"\r\nContent-Type: {content_type}'
        add(name, _read(content), quoted)
    out.write(f"--{boundary}--\r\n".encode())
    return Content(out.getvalue(), f"multipart/form-data; boundary={boundary}")


def _each_pair(pairs: Pairs) -> Iterator[tuple[str, object]]:
    for name, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
        if isinstance(value, Sequence) and not isinstance(value, str):
            for each in value:
                yield name, each
        else:
            yield name, value


def _named(name: str, file: File) -> tuple[str, FileContent, str]:
    """Return file name, content and media type; without a name that of the field is taken."""
    if not isinstance(file, tuple):
        path = getattr(file, "name", None)
        if isinstance(path, str):
            name = path.replace("\\", "/").rpartition("/")[2]
        return name, file, _type_of(name)
    if len(file) == 2:
        return file[0], file[1], _type_of(file[0])
    return file


def _type_of(file_name: str) -> str:
    from ..media_types import content_type_of

    return content_type_of(file_name)


def _quoted(text: str) -> str:
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
