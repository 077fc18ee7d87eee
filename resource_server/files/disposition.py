"""The field that makes a browser save what it gets, under a name."""

from __future__ import annotations

import re
from urllib.parse import quote

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
