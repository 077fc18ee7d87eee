"""A form read from a request: its parts, or its pairs."""

from __future__ import annotations

from ..errors import BadRequest, ContentTooLarge
from ..query import parse_pairs
from .form import Form, read_multipart
from .upload import Spool, Store

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from typing import IO

    from ..request import Exchange
    from .parts import Parts


def read_parts(parts: Parts, exchange: Exchange | None, max_field_bytes: int) -> Form:
    """Return the form; its files stay in a body that is stored already, else they are spooled."""
    stream = parts.stream
    if stream.seekable():
        start = stream.tell()
        try:
            return read_multipart(parts, Store(stream, start), max_field_bytes)
        finally:
            stream.seek(start)
    spool = Spool(_temporary_file if exchange is None else exchange.temporary_file)
    try:
        return read_multipart(parts, spool, max_field_bytes)
    except BaseException:
        spool.close()
        raise


def _temporary_file() -> IO[bytes]:
    import tempfile

    return tempfile.TemporaryFile()


def read_pairs(stream: IO[bytes], max_pairs: int, max_bytes: int) -> tuple[bytes, Form]:
    """Return the content of an urlencoded form, and the form."""
    # Not bytes: a client may send them one by one.
    content = bytearray()
    while piece := stream.read(max_bytes + 1 - len(content)):
        content += piece
        if len(content) > max_bytes:
            raise ContentTooLarge(f"The form is longer than {max_bytes} bytes.")
    if content.count(b"&") >= max_pairs:
        raise ContentTooLarge(f"The form has more than {max_pairs} fields.")
    try:
        # The form's encoding is UTF-8 whatever its type says (WHATWG URL §5.1).
        return bytes(content), Form(parse_pairs(content.decode("utf-8")))
    except UnicodeDecodeError as error:
        raise BadRequest("the form is not UTF-8") from error
