"""The page that shows a directory: read from the disk, then written as HTML.

The page needs no script and loads nothing. Names are data of strangers: they are escaped as text,
percent-encoded as links, and isolated so that right-to-left characters cannot rearrange the row.
"""

from __future__ import annotations

import heapq
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from html import escape
from typing import NamedTuple
from urllib.parse import quote

#: Entries on one page; more are counted but not shown, so that a page stays some 200 KiB.
LISTING_LIMIT = 1000

# Rows are links as wide as the page and at least 3 rem high: a thumb hits them.
_STYLE = """
:root{color-scheme:light dark;
--ink:#1b1b1f;--paper:#fff;--soft:#5c5f66;--line:#dfe1e6;--link:#0b57d0}
@media(prefers-color-scheme:dark){
:root{--ink:#e6e6ea;--paper:#16171a;--soft:#a0a4ad;--line:#33363d;--link:#8ab4f8}}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:.5rem 1rem 2rem;
background:var(--paper);color:var(--ink);font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.1rem;margin:0}
h1 a,h1 span{display:inline-block;padding:.6rem .3rem}
a{color:var(--link);text-decoration:none}
a:hover,a:focus-visible{text-decoration:underline}
ul{list-style:none;margin:0;padding:0;border-top:1px solid var(--line)}
li a{display:flex;flex-wrap:wrap;align-items:baseline;gap:0 1rem;
min-height:3rem;padding:.7rem .3rem;border-bottom:1px solid var(--line)}
bdi{flex:1 1 16rem;text-align:left}
li span,time{color:var(--soft);font-size:.85rem;font-variant-numeric:tabular-nums}
p,nav{color:var(--soft);padding:0 .3rem}
nav a{display:inline-block;padding:.6rem .4rem}
"""

# Controls and noncharacters, which HTML does not allow in text.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ufffe\uffff]")

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header><h1>{crumbs}</h1></header>
<main>
{rows}
</main>
</body>
</html>
"""


class Entry(NamedTuple):
    """One row: ``size`` in bytes, ``modified`` in seconds of Unix time."""

    name: str
    is_directory: bool
    size: int
    modified: float


@cache
def content_security_policy() -> str:
    """Return the Content-Security-Policy of the page: its own style, and nothing else."""
    from base64 import b64encode
    from hashlib import sha256

    digest = b64encode(sha256(_STYLE.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


class Order(NamedTuple):
    """How rows are sorted, directories first in any case: by "name", "size" or "time"."""

    by: str = "name"
    descending: bool = False

    @classmethod
    def asked_for(cls, query: Mapping[str, str]) -> Order:
        """Return the order that ``?sort=size&order=desc`` asks for; what is unknown is ignored."""
        by = query.get("sort", "name")
        return cls(by if by in _COLUMNS else "name", query.get("order") == "desc")

    def query(self) -> str:
        """Return the query that asks for it, "" for the order of a page that nobody has sorted."""
        if self == Order():
            return ""
        return f"?sort={self.by}&order={'desc' if self.descending else 'asc'}"

    def key(self, entry: Entry) -> tuple[bool, float, str, str]:
        """Return what is compared; directories are first in both directions."""
        number = 0.0
        if self.by == "size":
            number = entry.size
        elif self.by == "time":
            number = entry.modified
        return entry.is_directory == self.descending, number, entry.name.casefold(), entry.name


_COLUMNS = {"name": "Name", "size": "Size", "time": "Time"}


def read_directory(
    directory: int | str,
    look: Callable[[os.DirEntry[str]], os.stat_result | None],
    order: Order,
) -> tuple[list[Entry], int]:
    """Return the first ``LISTING_LIMIT`` entries in an order, and the number of the others.

    ``directory`` is a path or a descriptor. Only entries of which ``look`` returns a state, that of
    a directory or a regular file, are counted. Raises OSError when the directory cannot be read.
    """
    total = 0

    def entries() -> Iterator[Entry]:
        nonlocal total
        with os.scandir(directory) as found:
            for each in found:
                status = look(each)
                if status is not None:
                    total += 1
                    is_directory = stat.S_ISDIR(status.st_mode)
                    size = 0 if is_directory else status.st_size
                    yield Entry(each.name, is_directory, size, status.st_mtime)

    choose = heapq.nlargest if order.descending else heapq.nsmallest
    first = choose(LISTING_LIMIT, entries(), key=order.key)
    return first, total - len(first)


def render_listing(
    components: Sequence[str], entries: Sequence[Entry], more: int = 0, order: Order | None = None
) -> str:
    """Return the HTML of a directory.

    ``components`` are the names from the root of the resource down to this directory; the links
    are relative, so the page must be served under a path that ends with a slash. ``more`` is the
    number of entries that are not shown. ``order``, which the entries are in, is kept by the links
    to other directories.
    """
    order = order or Order()
    query = escape(order.query())
    rows = [_row(entry, query) for entry in entries]
    if components:
        rows.insert(0, f'<li><a href="../{query}"><bdi>Parent directory</bdi></a></li>')
    body = "<ul>\n{}\n</ul>".format("\n".join(rows)) if rows else ""
    if entries:
        body = f"{_sorting(order)}\n{body}"
    else:
        body += "<p>Nothing to see here.</p>"
    if more:
        body += f"<p>… and {more:,} more. A page shows at most {LISTING_LIMIT:,}.</p>"
    return _PAGE.format(
        title="Index of /" + "".join(f"{_text(name)}/" for name in components),
        style=_STYLE,
        crumbs=_crumbs(components, query),
        rows=body,
    )


def _sorting(order: Order) -> str:
    """Return the links that sort the page: by another column, or the same in the other direction.

    A name is looked for from A on; of sizes and times the greatest are asked for first.
    """
    links = []
    for by, title in _COLUMNS.items():
        current = by == order.by
        descending = not order.descending if current else by != "name"
        link = Order(by, descending)
        arrow = " ↓" if order.descending else " ↑"
        href = escape(link.query() or "./")
        links.append(f'<a href="{href}">{title}{arrow if current else ""}</a>')
    return "<nav>Sort by {}</nav>".format(" ".join(links))


def _crumbs(components: Sequence[str], query: str) -> str:
    names = ["Files", *components]
    depth = len(components)
    crumbs = [
        f'<a href="{"../" * (depth - level)}{query}"><bdi>{_text(name)}</bdi></a>'
        for level, name in enumerate(names[:-1])
    ]
    crumbs.append(f'<span aria-current="page"><bdi>{_text(names[-1])}</bdi></span>')
    return "/".join(crumbs)


def _row(entry: Entry, query: str) -> str:
    # "./" keeps a name such as "javascript:x" from being read as a scheme (RFC 3986 §4.2).
    end = f"/{query}" if entry.is_directory else ""
    href = "./" + quote(os.fsencode(entry.name), safe="") + end
    slash = "/" if entry.is_directory else ""
    size = "" if entry.is_directory else f"<span>{format_size(entry.size)}</span>"
    return (
        f'<li><a href="{href}"><bdi>{_text(entry.name)}{slash}</bdi>'
        f"{size}{_time(entry.modified)}</a></li>"
    )


def _text(name: str) -> str:
    readable = os.fsencode(name).decode("utf-8", "replace")
    return escape(_UNPRINTABLE.sub("\ufffd", readable))


def _time(timestamp: float) -> str:
    try:
        when = time.gmtime(timestamp)
    except (OverflowError, OSError, ValueError):
        return ""
    if not 0 < when.tm_year < 10_000:
        return ""
    date = f"{when.tm_year:04}-{when.tm_mon:02}-{when.tm_mday:02}"
    clock = f"{when.tm_hour:02}:{when.tm_min:02}"
    return f'<time datetime="{date}T{clock}Z">{date} {clock} UTC</time>'


def format_size(size: int) -> str:
    """Return a number of bytes for people: ``"512 B"``, ``"1.5 MiB"``."""
    if size < 1024:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        amount /= 1024
        if amount < 1023.95:  # what would be shown as 1024.0 belongs to the next unit
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} PiB"
