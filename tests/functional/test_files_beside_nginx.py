"""One directory served by FileResource and by nginx: they answer alike, or it is listed why not.

What is compared: the status; of content its bytes, length, type and range; where a redirect leads;
and the validators: the same date, and a strong entity-tag from both.
"""

from __future__ import annotations

import os
import random
import re
import socket
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urljoin, urlsplit

import pytest

from resource_server import FileResource, HTTPServer, Router
from tests.nginx import EXECUTABLE, Nginx
from tests.rawclient import Answer, Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="nginx is not installed")

LARGE = random.Random(3).randbytes(300_000)
SMALL = b"abcdefghijklmnopqrstuvwxyz"
MODIFIED = 1_700_000_000  # Tue, 14 Nov 2023 22:13:20 GMT
DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
EARLIER, LATER = "Tue, 14 Nov 2023 22:13:19 GMT", "Tue, 14 Nov 2023 22:13:21 GMT"

TYPES = ("html", "css", "js", "json", "svg", "jpg")

HTTP = """
    access_log off;
    types {{
        text/plain txt; text/html html; text/css css; text/javascript js; application/json json;
        image/svg+xml svg; image/jpeg jpg;
    }}
    default_type application/octet-stream;
    charset utf-8;
    charset_types text/plain text/css text/javascript;
    if_modified_since before;
    absolute_redirect off;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            root {www};
            autoindex on;
        }}
    }}
"""


def get(path: str, *fields: str) -> tuple[str, ...]:
    return ("GET", path, *fields)


def head(path: str, *fields: str) -> tuple[str, ...]:
    return ("HEAD", path, *fields)


def ranges(*values: str) -> list[tuple[str, ...]]:
    return [get("/small.txt", f"Range: {value}") for value in values]


def conditions(*fields: str) -> list[tuple[str, ...]]:
    """Each for content, for its fields alone, and for a range of it."""
    requests = []
    for field in fields:
        lines = field.split("\n")
        requests += [
            get("/small.txt", *lines),
            head("/small.txt", *lines),
            get("/small.txt", *lines, "Range: bytes=1-2"),
        ]
    return requests


#: ``{etag}`` is the entity-tag that the same server gave.
REQUESTS: list[tuple[str, ...]] = [
    # Whole files.
    *[get(f"/{name}") for name in ("small.txt", "large.bin", "empty.txt", "noextension")],
    *[get(f"/types/{name}") for name in ("a.html", "a.css", "a.js", "a.json", "a.svg", "a.jpg")],
    *[head(f"/{name}") for name in ("small.txt", "large.bin", "empty.txt", "types/a.html")],
    # Ranges: one, several, and what is none.
    *ranges("bytes=0-0", "bytes=0-9", "bytes=5-", "bytes=-3", "bytes=0-", "bytes=25-25"),
    *ranges("bytes=0-25", "bytes=20-1000", "bytes=-26", "bytes=-1000", "bytes=0-99999999999999"),
    *ranges("bytes=26-", "bytes=26-30", "bytes=-0", "bytes=1000-", "bytes=99999999999999999999-"),
    *ranges("bytes=0-1,5-6", "bytes=0-1, 5-6, -2", "bytes=5-6,0-1", "bytes=0-1,,5-6"),
    *ranges("bytes=0-1,100-", "bytes=100-,200-", "bytes=0-5,3-9", "bytes=0-25,0-25,0-25"),
    *ranges("bytes=9-5", "bytes=a-b", "bytes=1", "bytes=", "bytes=-", "bytes=1-2-3", "bytes=0x1-2"),
    *ranges("bytes = 0-1", "bytes=0 - 1", "BYTES=0-1", "lines=0-1", "bytes:0-1", "bytes=+1-2"),
    get("/large.bin", "Range: bytes=100000-199999"),
    get("/large.bin", "Range: bytes=-1"),
    get("/large.bin", "Range: bytes=0-0,299999-"),
    get("/large.bin", "Range: bytes=300000-"),
    get("/empty.txt", "Range: bytes=0-"),
    get("/empty.txt", "Range: bytes=-5"),
    head("/small.txt", "Range: bytes=0-9"),
    head("/small.txt", "Range: bytes=0-1,5-6"),
    head("/small.txt", "Range: bytes=100-"),
    # Conditions.
    *conditions("If-None-Match: {etag}", "If-None-Match: W/{etag}", 'If-None-Match: "x"'),
    *conditions('If-None-Match: "x", {etag}', "If-None-Match: *", "If-None-Match: x"),
    *conditions("If-Match: {etag}", "If-Match: W/{etag}", 'If-Match: "x"', "If-Match: *"),
    *conditions('If-Match: "x", {etag}'),
    *conditions(*[f"If-Modified-Since: {date}" for date in (EARLIER, DATE, LATER, "yesterday")]),
    *conditions("If-Modified-Since: Tuesday, 14-Nov-23 22:13:20 GMT"),
    *conditions("If-Modified-Since: Tue Nov 14 22:13:20 2023"),
    *conditions(*[f"If-Unmodified-Since: {date}" for date in (EARLIER, DATE, LATER, "never")]),
    *conditions(f"If-None-Match: {{etag}}\nIf-Modified-Since: {EARLIER}"),
    *conditions(f'If-None-Match: "x"\nIf-Modified-Since: {LATER}'),
    *conditions(f"If-Match: {{etag}}\nIf-Unmodified-Since: {EARLIER}"),
    *conditions("If-Match: {etag}\nIf-None-Match: {etag}"),
    *conditions("If-Range: {etag}", 'If-Range: "x"', "If-Range: W/{etag}"),
    *conditions(*[f"If-Range: {date}" for date in (EARLIER, DATE, LATER, "yesterday")]),
    get("/small.txt", "If-Range: {etag}", "Range: bytes=100-"),
    get("/small.txt", 'If-Range: "x"', "Range: bytes=100-"),
    get("/missing", "If-None-Match: *"),
    get("/missing", "If-Match: *"),
    # Directories, and what is not there.
    *[get(path) for path in ("/", "/below", "/below/", "/below?a=b", "/listed", "/listed/")],
    *[head(path) for path in ("/", "/below", "/below/", "/missing")],
    *[get(path) for path in ("/missing", "/missing/", "/below/missing", "/small.txt/")],
    *[get(path) for path in ("/small.txt/x", "/SMALL.TXT", "/fifo")],
    get("/below/", "Range: bytes=0-3"),
    # Paths with something about them.
    *[get(path) for path in ("/small.txt?", "/small.txt?a=b", "/%73mall.txt", "/small%2Etxt")],
    *[get(path) for path in ("/a%20b&c.txt", "/a+b&c.txt", "/gr%C3%B6%C3%9Fe.txt")],
    *[get(path) for path in ("/gr%F6%DFe.txt", "/small.txt%00", "/small.txt%20", "/small.txt;v=1")],
    *[get(path) for path in ("//small.txt", "/./small.txt", "/below/../small.txt")],
    *[get(path) for path in ("/%2E/small.txt", "/below/%2E%2E/small.txt", "/below%2Findex.html")],
    *[get(path) for path in ("/../small.txt", "/%2E%2E/small.txt", "/below/..%2Fsmall.txt")],
    *[
        get(path)
        for path in ("/below\\index.html", "/below%5Cindex.html", "/%", "/%zz", "small.txt")
    ],
    *[get(path) for path in ("/" + "a" * 300, "/" + "a/" * 1000, "/.hidden", "/.dot/file.txt")],
    *[get(path) for path in ("/link.txt", "/out.txt", "/circle.txt", "http://test/small.txt")],
    # Methods and codings.
    *[(method, "/small.txt") for method in ("OPTIONS", "POST", "PUT", "DELETE", "PATCH", "TRACE")],
    *[(method, "/small.txt") for method in ("BREW", "get")],
    ("POST", "/missing"),
    ("PUT", "/below/"),
    *[
        get("/types/a.html", f"Accept-Encoding: {value}")
        for value in ("gzip", "br;q=0.5, identity", "identity;q=0", "*")
    ],
]

SMALL_TXT = "/small.txt"

#: Reason, what is different (`Facts.beside`: our status for nginx's), and of which requests.
REASONS: list[tuple[str, str, list[tuple[str, ...]]]] = [
    (
        "RFC 9110 §14.2: of the methods, only GET is defined to have ranges",
        "200 for 206",
        [head(SMALL_TXT, "Range: bytes=0-9"), head(SMALL_TXT, "Range: bytes=0-1,5-6")],
    ),
    ("the same", "200 for 416", [head(SMALL_TXT, "Range: bytes=100-")]),
    (
        "RFC 9110 §5.6.1.2: empty elements of a list are to be ignored",
        "206 for 416",
        ranges("bytes=0-1,,5-6"),
    ),
    (
        "RFC 9110 §15.3.7.2: ranges that overlap may be sent as one",
        "content_range, content_type, length, content",
        ranges("bytes=0-5,3-9"),
    ),
    (
        "the same; nginx sends the whole file if the ranges are longer than that",
        "206 for 200",
        ranges("bytes=0-25,0-25,0-25"),
    ),
    (
        "RFC 9110 §14.1.2: there is no whitespace within a range",
        "416 for 206",
        ranges("bytes=0 - 1"),
    ),
    (
        "RFC 9110 §14.1.2: of an empty file, no first position is satisfiable",
        "416 for 200",
        [get("/empty.txt", "Range: bytes=0-")],
    ),
    (
        "RFC 9110 §13.1.4: a field that is no date is ignored",
        "200 for 412",
        conditions("If-Unmodified-Since: never")[:2],
    ),
    ("the same", "206 for 412", conditions("If-Unmodified-Since: never")[2:]),
    (
        "RFC 9110 §13.1.3: with If-None-Match, If-Modified-Since is ignored",
        "304 for 200",
        conditions(f"If-None-Match: {{etag}}\nIf-Modified-Since: {EARLIER}")[:2],
    ),
    (
        "the same",
        "304 for 206",
        conditions(f"If-None-Match: {{etag}}\nIf-Modified-Since: {EARLIER}")[2:],
    ),
    (
        "RFC 9110 §13.1.4: with If-Match, If-Unmodified-Since is ignored",
        "200 for 412",
        conditions(f"If-Match: {{etag}}\nIf-Unmodified-Since: {EARLIER}")[:2],
    ),
    (
        "the same",
        "206 for 412",
        conditions(f"If-Match: {{etag}}\nIf-Unmodified-Since: {EARLIER}")[2:],
    ),
    (
        "RFC 9110 §15.3.7: who asked with If-Range has the other fields already",
        "modified",
        [get(SMALL_TXT, f"If-Range: {value}", "Range: bytes=1-2") for value in ("{etag}", DATE)],
    ),
    ("a path that is not in UTF-8 is malformed", "400 for 404", [get("/gr%F6%DFe.txt")]),
    ("all that a file cannot be called is not there", "404 for 400", [get("/small.txt%00")]),
    (
        "a file has one path: other spellings, which clients resolve themselves, are not there",
        "404 for 200",
        [
            get(path)
            for path in (
                "//small.txt",
                "/./small.txt",
                "/below/../small.txt",
                "/%2E/small.txt",
                "/below/%2E%2E/small.txt",
                "/below%2Findex.html",
                "/below/..%2Fsmall.txt",
            )
        ],
    ),
    ("the same", "404 for 400", [get("/../small.txt"), get("/%2E%2E/small.txt")]),
    ("hidden files are not served", "404 for 200", [get("/.hidden"), get("/.dot/file.txt")]),
    ("links do not lead out of the directory", "404 for 200", [get("/out.txt")]),
    ("what cannot be read is not there, and nobody sees why", "404 for 403", [get("/circle.txt")]),
    (
        "RFC 9110 §9.3.7: OPTIONS asks which methods there are",
        "204 for 405",
        [("OPTIONS", SMALL_TXT)],
    ),
    ("RFC 9110 §15.6.2: a method that is not known at all", "501 for 405", [("BREW", SMALL_TXT)]),
    ("the same: the case of a method matters", "501 for 400", [("get", SMALL_TXT)]),
    ("the method is judged before the disk is touched", "405 for 404", [("POST", "/missing")]),
]
DIFFERENCES = {request: (what, why) for why, what, requests in REASONS for request in requests}


class Facts(NamedTuple):
    """What of an answer is compared."""

    status: int
    location: str = ""
    content_range: str = ""
    content_type: str = ""
    length: str = ""
    content: object = None
    etag: str = ""
    modified: str = ""

    def beside(self, other: Facts) -> str:
        """What is different: both statuses, or of the same status what is not the same."""
        if self.status != other.status:
            return f"{self.status} for {other.status}"
        pairs = zip(self._fields, self, other, strict=True)
        return ", ".join(name for name, mine, its in pairs if mine != its)


def facts_of(method: str, path: str, answer: Answer) -> Facts:
    fields = answer.fields
    if answer.status == 416:
        return Facts(416, content_range=fields.get("content-range", ""))
    if answer.status >= 400:
        return Facts(answer.status)
    etag = fields.get("etag", "")
    kind = "" if not etag else "strong" if re.fullmatch(r'"[!#-~]+"', etag) else "weak"
    if answer.status == 304:
        return Facts(304, etag=kind)
    if answer.status >= 300:
        where = urlsplit(urljoin(f"http://test{path}", fields["location"]))
        return Facts(answer.status, where._replace(scheme="", netloc="").geturl())
    content_type, length = fields.get("content-type", ""), ""
    content: object = None
    if "listed" in path or path == "/":
        content_type = content_type.partition(";")[0]  # each has its own page
    elif content_type.startswith("multipart/byteranges"):
        content = parts_of(content_type, answer.body)
        content_type = "multipart/byteranges"
    else:
        length, content = fields.get("content-length", ""), answer.body
    modified = fields.get("last-modified", "")
    range_ = fields.get("content-range", "")
    return Facts(answer.status, "", range_, content_type, length, content, kind, modified)


def parts_of(content_type: str, body: bytes) -> list[tuple[str, str, bytes]]:
    """The type, the range and the bytes of each part (RFC 9110 §14.6)."""
    found = re.search(r"boundary=([0-9A-Za-z]+)", content_type)
    assert found
    if not body:
        return []
    mark = b"\r\n--" + found[1].encode()
    first, *pieces, end = (b"\r\n" + body.removeprefix(b"\r\n")).split(mark)
    assert (first, end) == (b"", b"--\r\n")
    parts = []
    for piece in pieces:
        lines, _, content = piece.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in lines.decode().lower().split("\r\n"))
        parts.append((fields["content-type"], fields["content-range"], content))
    return parts


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that are served."""
    outside = tmp_path_factory.mktemp("outside") / "secret.txt"
    outside.write_bytes(b"secret")
    folder = tmp_path_factory.mktemp("www")
    contents = {"small.txt": SMALL, "large.bin": LARGE, "empty.txt": b"", "noextension": SMALL}
    contents |= {"a b&c.txt": SMALL, "größe.txt": SMALL, ".hidden": SMALL, ".dot/file.txt": SMALL}
    contents |= {"below/index.html": b"<p>below", "listed/a.txt": SMALL}
    contents |= {f"types/a.{suffix}": SMALL for suffix in TYPES}
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (MODIFIED, MODIFIED))
    (folder / "link.txt").symlink_to("small.txt")
    (folder / "out.txt").symlink_to(outside)
    (folder / "circle.txt").symlink_to("circle.txt")
    os.mkfifo(folder / "fifo")
    return folder


@pytest.fixture(scope="module")
def nginx(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    home = tmp_path_factory.mktemp("nginx")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address: tuple[str, int] = sock.getsockname()
        http = HTTP.format(port=address[1], www=folder)
        server = Nginx(home, http, [sock])
    try:
        try:
            with Client(address) as client:
                assert client.get("/small.txt").body == SMALL
        except (OSError, EOFError):
            pytest.fail(f"nginx does not run: {server.errors}")
        yield address
    finally:
        server.stop()


@pytest.fixture(scope="module")
def ours(folder: Path) -> Iterator[tuple[str, int]]:
    router = Router()
    router.mount("/", FileResource(folder, listing=True))
    with HTTPServer(("127.0.0.1", 0), router=router) as server:
        yield server.address


def ask(address: tuple[str, int], request: tuple[str, ...]) -> Answer:
    method, path, *fields = request
    if any("{etag}" in field for field in fields):
        with Client(address) as client:
            etag = client.get(path).fields.get("etag", '"none"')
        fields = [field.replace("{etag}", etag) for field in fields]
    with Client(address) as client:
        return client.get(path, *fields, "Connection: close", method=method)


def name_of(request: tuple[str, ...]) -> str:
    return " ".join(request).replace("\\", "%5C")[:90]


def test_there_are_enough_requests_and_no_difference_is_of_another() -> None:
    assert len(set(REQUESTS)) == len(REQUESTS) >= 60
    assert set(DIFFERENCES) <= set(REQUESTS)


def test_an_entity_tag_lasts_and_changes_with_the_file(
    folder: Path, ours: tuple[str, int], tmp_path: Path
) -> None:
    tags = {ask(ours, request).fields["etag"] for request in [get(SMALL_TXT), head(SMALL_TXT)] * 2}
    assert len(tags) == 1
    router = Router()
    router.mount("/", FileResource(folder))
    with HTTPServer(("127.0.0.1", 0), router=router) as restarted:
        assert {ask(restarted.address, get(SMALL_TXT)).fields["etag"]} == tags
    changing = tmp_path / "small.txt"
    router = Router()
    router.mount("/", FileResource(tmp_path))
    with HTTPServer(("127.0.0.1", 0), router=router) as server:
        seen = set()
        for content, time in ((SMALL, 0), (SMALL[:-1], 0), (SMALL, 1)):
            changing.write_bytes(content)
            os.utime(changing, (MODIFIED + time, MODIFIED + time))
            seen.add(ask(server.address, get(SMALL_TXT)).fields["etag"])
        assert len(seen) == 3


@pytest.mark.parametrize("request_", REQUESTS, ids=name_of)
def test_it_is_answered_alike(
    request_: tuple[str, ...], ours: tuple[str, int], nginx: tuple[str, int]
) -> None:
    method, path, *_ = request_
    mine = facts_of(method, path, ask(ours, request_))
    its = facts_of(method, path, ask(nginx, request_))
    difference, why = DIFFERENCES.get(request_, ("", "it is not listed"))
    assert mine.beside(its) == difference, (why, mine, its)
