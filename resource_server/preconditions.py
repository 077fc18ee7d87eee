"""Conditional requests (RFC 9110 §13): what a request's conditions make of a representation.

Pure: field values and validators in, a decision out. `conditional` applies it to the response of a
handler that knows an entity-tag or a date of its content.
"""

from __future__ import annotations

import re

from .dates import parse_date
from .errors import PreconditionFailed
from .response import Response

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from .headers import Headers
    from .request import Request

# RFC 9110 §8.8.3. A quote that is never closed can only be the last, so the work is linear.
_tags = re.compile(r'(W/)?("[!#-~\x80-\xff]*+")').findall

# What describes the content that a 304 does not have. ETag tells which it is, and so makes
# Last-Modified superfluous (§15.4.5).
_OF_CONTENT = frozenset(
    (
        "accept-ranges",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-length",
        "content-range",
        "content-type",
        "x-content-type-options",
    )
)


def failed_condition(
    method: str,
    fields: Headers,
    etag: str | None,
    modified: float | None,
    *,
    exists: bool = True,
) -> int | None:
    """Return the status that a false condition answers with, 304 or 412; None to go on (§13.2.2).

    `etag` is the entity-tag of the representation that GET would give now, as ETag has it, and
    `modified` its modification date, seconds since 1970; None for what is not known. `exists` tells
    whether there is such a representation at all.
    """
    value = fields.get("if-match")
    if value is not None:
        if not (exists if value == "*" else exists and _matches_strongly(value, etag)):
            return 412
    elif modified is not None and exists:
        unmodified_since = _date(fields.get("if-unmodified-since"))
        if unmodified_since is not None and int(modified) > unmodified_since:
            return 412
    reads = method in ("GET", "HEAD")
    value = fields.get("if-none-match")
    if value is not None:
        if exists if value == "*" else exists and _matches_weakly(value, etag):
            return 304 if reads else 412
    elif reads and modified is not None and exists:
        modified_since = _date(fields.get("if-modified-since"))
        if modified_since is not None and int(modified) <= modified_since:
            return 304
    return None


def range_applies(fields: Headers, etag: str | None, modified: float | None) -> bool:
    """Tell whether If-Range, if there is one, lets a Range have its way (§13.1.5).

    An entity-tag has to be the same and strong; a date has to be the very one of Last-Modified.
    """
    value = fields.get("if-range")
    if value is None:
        return True
    if value.startswith(('"', "W/")):
        return value == etag and value[0] == '"'
    return modified is not None and _date(value) == int(modified)


def conditional(request: Request, response: Response) -> Response:
    """Return `response`, or a 304 in its place if the client has that content already.

    The validators are the ETag and the Last-Modified of the response, which a handler has set. A
    304 keeps the fields that a cache needs, and whatever does not describe the content. Raises
    PreconditionFailed for a condition that is false. A status that is not 2xx has no conditions
    (RFC 9110 §13.2.1).

    >>> return conditional(request, JsonResponse(board, headers={"ETag": f'"{board.version}"'}))
    """
    if not 200 <= response.status_code <= 299:
        return response
    headers = response.headers
    etag = headers.get("etag")
    modified = _date(headers.get("last-modified"))
    status = failed_condition(request.method, request.headers, etag, modified)
    if status is None:
        return response
    response.close()
    if status == 412:
        raise PreconditionFailed
    return Response(None, 304, kept_fields(headers))


def kept_fields(headers: Headers) -> list[tuple[str, str]]:
    """Return the fields that stay when the content is left out (RFC 9110 §15.4.5)."""
    dropped = _OF_CONTENT | {"last-modified"} if "etag" in headers else _OF_CONTENT
    return [line for line in headers.fields() if line[0].lower() not in dropped]


def _date(value: str | None) -> float | None:
    return None if value is None else parse_date(value)


def _matches_strongly(value: str, etag: str | None) -> bool:
    return etag is not None and any(not weak and tag == etag for weak, tag in _tags(value))


def _matches_weakly(value: str, etag: str | None) -> bool:
    if etag is None:
        return False
    opaque = etag.removeprefix("W/")
    return any(tag == opaque for _, tag in _tags(value))
