"""Files over real sockets: conditions, ranges, codings, and clients of others."""

from __future__ import annotations

import email.parser
import email.policy
import os
import shutil
import ssl
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests
import trustme

from resource_server import (
    FileResource,
    FileResponse,
    HTTPServer,
    Request,
    Resource,
    Response,
    Router,
    get,
)
from tests.rawclient import PATIENCE, Answer, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Serve

SMALL = bytes(range(256)) * 4
BIG = os.urandom(1 << 20) + b"end"
MODIFIED = 783_459_811
DATE = "Sat, 29 Oct 1994 19:43:31 GMT"


class Downloads(Resource):
    def __init__(self, root: Path) -> None:
        self.root = root

    @get("/own/:name", blocking=False)
    def own(self, request: Request) -> Response:
        return FileResponse(self.root / request.matches["name"], filename="né.bin", cache=60)

    @get("/worker/:name", blocking=True)
    def worker(self, request: Request) -> Response:
        response = FileResponse(self.root / request.matches["name"])
        response.headers["ETag"] = '"mine"'
        response.headers["X-Extra"] = "kept"
        return response


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    for name, content in [("small.txt", SMALL), ("big.bin", BIG), ("empty.txt", b"")]:
        (root / name).write_bytes(content)
        os.utime(root / name, (0, MODIFIED))
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[HTTPServer]:
    router = Router()
    router.mount("/files", FileResource(root, cache=3600))
    router.register_routes(Downloads(root))
    with HTTPServer(("127.0.0.1", 0), router=router) as server:
        yield server


@pytest.fixture
def client(server: HTTPServer) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


def parts_of(answer: Answer) -> list[tuple[str, str, bytes]]:
    """Return type, Content-Range and content of each part, as the stdlib's e-mail parser has it."""
    head = f"Content-Type: {answer.fields['content-type']}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + answer.body)
    assert message.is_multipart()
    assert message.defects == []
    assert not message.preamble
    assert not message.epilogue
    found = []
    for part in message.iter_parts():
        assert sorted(key.lower() for key in part) == ["content-range", "content-type"]
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        found.append((str(part["content-type"]), str(part["content-range"]), content))
    return found


class TestWhole:
    def test_fields(self, client: Client) -> None:
        answer = client.get("/files/small.txt")
        assert (answer.status, answer.body) == (200, SMALL)
        fields = answer.fields
        assert fields.pop("date")
        tag = fields.pop("etag")
        assert tag[0] == tag[-1] == '"'
        assert fields == {
            "content-type": "text/plain; charset=utf-8",
            "content-length": str(len(SMALL)),
            "x-content-type-options": "nosniff",
            "cache-control": "max-age=3600",
            "vary": "Accept-Encoding",
            "last-modified": DATE,
            "accept-ranges": "bytes",
        }

    def test_a_big_file(self, client: Client) -> None:
        for _ in range(3):
            answer = client.get("/files/big.bin")
            assert answer.body == BIG
            assert answer.fields["content-length"] == str(len(BIG))

    def test_an_empty_file(self, client: Client) -> None:
        answer = client.get("/files/empty.txt")
        assert (answer.status, answer.body, answer.fields["content-length"]) == (200, b"", "0")

    @pytest.mark.parametrize("name", ["small.txt", "big.bin", "empty.txt", "none"])
    @pytest.mark.parametrize("prefix", ["files", "own", "worker"])
    @pytest.mark.parametrize("field", ["A: b", "Range: bytes=0-1", "Range: bytes=99999999-"])
    def test_head_has_the_fields_of_get(
        self, client: Client, prefix: str, name: str, field: str
    ) -> None:
        got = client.get(f"/{prefix}/{name}")
        # RFC 9110 §14.2: a Range with HEAD means nothing.
        head = client.get(f"/{prefix}/{name}", field, method="HEAD")
        assert head.status == got.status
        del got.fields["date"], head.fields["date"]
        assert head.fields == got.fields
        assert client.get("/files/small.txt").body == SMALL

    def test_a_download_of_an_application(self, client: Client) -> None:
        for name, content in [("small.txt", SMALL), ("big.bin", BIG)]:
            answer = client.get(f"/own/{name}")
            assert answer.body == content
            assert answer.fields["content-disposition"] == (
                "attachment; filename=\"n_.bin\"; filename*=UTF-8''n%C3%A9.bin"
            )
            assert answer.fields["cache-control"] == "max-age=60"

    def test_http_1_0(self, client: Client) -> None:
        answer = client.get("/files/big.bin", "Range: bytes=1-2", version="1.0")
        assert (answer.status, answer.body) == (206, BIG[1:3])


class TestConditions:
    @pytest.mark.parametrize("name", ["small.txt", "big.bin", "empty.txt"])
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_not_modified(self, client: Client, name: str, method: str) -> None:
        whole = client.get(f"/files/{name}")
        tag = whole.fields["etag"]
        for field in (
            f"If-None-Match: {tag}",
            f"If-None-Match: W/{tag}",
            "If-None-Match: *",
            f"If-Modified-Since: {DATE}",
        ):
            answer = client.get(f"/files/{name}", field, method=method)
            assert answer.status == 304
            assert answer.fields.pop("date")
            kept = {"etag": tag, "cache-control": "max-age=3600"}
            if name != "big.bin" or "vary" in whole.fields:
                kept["vary"] = "Accept-Encoding"
            assert answer.fields == kept

    @pytest.mark.parametrize("name", ["small.txt", "big.bin"])
    def test_precondition_failed(self, client: Client, name: str) -> None:
        for field in ('If-Match: "other"', "If-Unmodified-Since: Sat, 29 Oct 1994 19:43:30 GMT"):
            for prefix in ("files", "own"):
                assert client.get(f"/{prefix}/{name}", field).status == 412
                assert client.get(f"/{prefix}/{name}", field, "Range: bytes=0-1").status == 412
        assert client.get(f"/files/{name}", f"If-Unmodified-Since: {DATE}").status == 200

    @pytest.mark.parametrize("name", ["small.txt", "big.bin"])
    def test_of_an_application_with_a_tag_of_its_own(self, client: Client, name: str) -> None:
        content = SMALL if name == "small.txt" else BIG
        path = f"/worker/{name}"
        answer = client.get(path, 'If-None-Match: "mine"')
        assert (answer.status, answer.fields["etag"]) == (304, '"mine"')
        assert answer.fields["x-extra"] == "kept"
        assert "content-type" not in answer.fields
        assert client.get(path, 'If-Match: "theirs"').status == 412
        answer = client.get(path, "Range: bytes=-3", 'If-Range: "mine"')
        assert (answer.status, answer.body) == (206, content[-3:])
        assert answer.fields["x-extra"] == "kept"
        answer = client.get(path, "Range: bytes=-3,0-1", f"If-Range: {DATE}")
        assert [part[2] for part in parts_of(answer)] == [content[-3:], content[:2]]
        assert client.get(path).body == content

    def test_the_tag_is_another_after_each_change(self, serve: Serve, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        tags = set()
        with Client(serve(FileResource(tmp_path)).address) as client:
            for content, modified in [("one", 1), ("two", 2), ("three", 2), ("four!", 1)]:
                path.write_text(content)
                os.utime(path, (0, modified))
                tags.add(client.get("/a.txt").fields["etag"])
            (tmp_path / "b").write_text("five!")
            os.utime(tmp_path / "b", (0, 1))
            os.replace(tmp_path / "b", path)
            tags.add(client.get("/a.txt").fields["etag"])
        assert len(tags) == 5


class TestRanges:
    @pytest.mark.parametrize("prefix", ["files", "own", "worker"])
    @pytest.mark.parametrize(
        ("value", "start", "stop"),
        [("0-0", 0, 1), ("1-1000000", 1, 1_000_001), ("-70000", -70_000, None), ("5-", 5, None)],
    )
    def test_one(
        self, client: Client, prefix: str, value: str, start: int, stop: int | None
    ) -> None:
        for name, content in [("small.txt", SMALL), ("big.bin", BIG)]:
            answer = client.get(f"/{prefix}/{name}", f"Range: bytes={value}")
            wanted = content[start:stop]
            assert (answer.status, answer.body) == (206, wanted)
            first = content.index(wanted) if start else 0
            assert answer.fields["content-range"] == (
                f"bytes {first}-{first + len(wanted) - 1}/{len(content)}"
            )
            assert answer.fields["etag"]
            assert answer.fields["content-type"]

    @pytest.mark.parametrize("prefix", ["files", "own", "worker"])
    @pytest.mark.parametrize("value", ["0-0,5-6,-1", "0-99999,200000-499999,-3", "9-9, 0-70000"])
    def test_several(self, client: Client, prefix: str, value: str) -> None:
        answer = client.get(f"/{prefix}/big.bin", f"Range: bytes={value}")
        if value.startswith("9-9"):
            assert answer.fields["content-range"] == f"bytes 0-70000/{len(BIG)}"
            assert answer.body == BIG[:70001]
            return
        assert answer.status == 206
        assert "content-range" not in answer.fields
        spans = [(0, 1), (5, 7), (len(BIG) - 1, len(BIG))]
        if value.startswith("0-99999"):
            spans = [(0, 100_000), (200_000, 500_000), (len(BIG) - 3, len(BIG))]
        whole_type = client.get(f"/{prefix}/big.bin", method="HEAD").fields["content-type"]
        raw = answer.body
        boundary = answer.fields["content-type"].partition("boundary=")[2].encode()
        assert answer.fields["content-type"].startswith("multipart/byteranges; boundary=")
        expected = b""
        for start, stop in spans:
            expected += b"\r\n" if expected else b""
            expected += b"--%b\r\nContent-Type: %b\r\n" % (boundary, whole_type.encode())
            expected += b"Content-Range: bytes %d-%d/%d\r\n\r\n" % (start, stop - 1, len(BIG))
            expected += BIG[start:stop]
        assert raw == expected + b"\r\n--%b--\r\n" % boundary

    def test_several_as_others_read_them(self, client: Client) -> None:
        answer = client.get("/files/small.txt", "Range: bytes=65-67,97-99,300-")
        assert parts_of(answer)[:2] == [
            ('text/plain; charset="utf-8"', "bytes 65-67/1024", b"ABC"),
            ('text/plain; charset="utf-8"', "bytes 97-99/1024", b"abc"),
        ]

    @pytest.mark.parametrize("prefix", ["files", "own"])
    def test_not_satisfiable(self, client: Client, prefix: str) -> None:
        for name, size in [("small.txt", len(SMALL)), ("big.bin", len(BIG)), ("empty.txt", 0)]:
            answer = client.get(f"/{prefix}/{name}", "Range: bytes=2000000-")
            assert answer.status == 416
            assert answer.fields["content-range"] == f"bytes */{size}"
            assert "etag" not in answer.fields

    @pytest.mark.parametrize("value", ["lines=0-1", "bytes=", "none"])
    def test_not_understood(self, client: Client, value: str) -> None:
        assert client.get("/files/small.txt", f"Range: {value}").status == 200

    def test_if_range(self, client: Client) -> None:
        tag = client.get("/files/big.bin").fields["etag"]
        for validator in (tag, DATE):
            answer = client.get("/files/big.bin", "Range: bytes=-3", f"If-Range: {validator}")
            assert (answer.status, answer.body) == (206, b"end")
            # RFC 9110 §15.3.7: who continues knows the rest.
            assert "last-modified" not in answer.fields
            assert answer.fields["etag"] == tag
        for validator in (f"W/{tag}", '"other"', "Sat, 29 Oct 1994 19:43:32 GMT"):
            for value in ("-3", "99999999-"):
                answer = client.get(
                    "/files/big.bin", f"Range: bytes={value}", f"If-Range: {validator}"
                )
                assert (answer.status, answer.body) == (200, BIG)

    def test_very_many(self, client: Client) -> None:
        value = ",".join(f"{n}-" for n in range(2000))
        started = time.process_time()
        assert client.get("/files/big.bin", f"Range: bytes={value}").status == 416
        assert time.process_time() - started < 5


class TestCodings:
    @pytest.fixture
    def site(self, tmp_path: Path) -> Path:
        for name, content in [
            ("app.js", b"plain"),
            ("app.js.gz", b"gzipped"),
            ("app.js.br", b"brotli"),
            ("app.js.zst", b"zstandard"),
            ("old.js", b"plain"),
            ("old.js.gz", b"older"),
            ("odd.js", b"plain"),
            ("photo.png", b"plain"),
            ("photo.png.gz", b"gzipped"),
        ]:
            (tmp_path / name).write_bytes(content)
            os.utime(tmp_path / name, (0, MODIFIED))
        os.utime(tmp_path / "old.js.gz", (0, MODIFIED - 1))
        (tmp_path / "odd.js.br").mkdir()
        (tmp_path / "secret").write_bytes(b"secret")
        (tmp_path / "odd.js.gz").symlink_to("secret")
        return tmp_path

    def test_by_preference(self, serve: Serve, site: Path) -> None:
        with Client(serve(FileResource(site)).address) as client:
            tags = {}
            for accepted, coding, content in [
                ("gzip, br, zstd", "br", b"brotli"),
                ("gzip, br;q=0, zstd;q=0.9", "gzip", b"gzipped"),
                ("zstd", "zstd", b"zstandard"),
                ("deflate", None, b"plain"),
                ("identity, gzip;q=0.5", None, b"plain"),
            ]:
                answer = client.get("/app.js", f"Accept-Encoding: {accepted}")
                assert answer.body == content
                assert answer.fields.get("content-encoding") == coding
                assert answer.fields["content-type"] == "text/javascript; charset=utf-8"
                assert answer.fields["vary"] == "Accept-Encoding"
                tags[coding] = answer.fields["etag"]
            assert len(set(tags.values())) == 4
            answer = client.get("/app.js", "Accept-Encoding: br", f"If-None-Match: {tags['br']}")
            assert answer.status == 304
            assert answer.fields["vary"] == "Accept-Encoding"
            answer = client.get("/app.js", "Accept-Encoding: gzip", f"If-None-Match: {tags['br']}")
            assert answer.status == 200

    def test_ranges_are_of_the_coding(self, serve: Serve, site: Path) -> None:
        with Client(serve(FileResource(site)).address) as client:
            answer = client.get("/app.js", "Accept-Encoding: gzip", "Range: bytes=1-2")
            assert (answer.status, answer.body) == (206, b"zi")
            assert answer.fields["content-range"] == "bytes 1-2/7"
            assert answer.fields["content-encoding"] == "gzip"

    def test_what_is_no_fit_form_is_not_sent(self, serve: Serve, site: Path) -> None:
        with Client(serve(FileResource(site)).address) as client:
            for name in ("old.js", "odd.js", "photo.png"):
                answer = client.get(f"/{name}", "Accept-Encoding: gzip, br")
                assert answer.body == b"plain"
                assert "content-encoding" not in answer.fields
            assert client.get("/app.js.gz").fields["content-type"] == "application/gzip"

    def test_off(self, serve: Serve, site: Path) -> None:
        with Client(serve(FileResource(site, precompressed=False)).address) as client:
            answer = client.get("/app.js", "Accept-Encoding: gzip, br")
            assert answer.body == b"plain"
            assert "vary" not in answer.fields


def test_over_tls(serve: Serve, root: Path, tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "pem"))
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    pem = str(tmp_path / "pem")
    server = serve(FileResource(root), privkey=pem, cert=pem)
    with Client(server.address, tls=trust) as client:
        assert client.get("/big.bin").body == BIG
        assert client.get("/small.txt").body == SMALL
        assert client.get("/big.bin", "Range: bytes=9-900008").body == BIG[9:900_009]
        answer = client.get("/big.bin", "Range: bytes=0-99999,-3")
        assert len(answer.body) > 100_003
        assert b"\r\n\r\nend\r\n--" in answer.body


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
class TestCurl:
    def run(self, *arguments: str) -> bytes:
        return subprocess.run(
            ["curl", "--silent", "--show-error", "--fail", *arguments],
            check=True,
            capture_output=True,
            timeout=PATIENCE,
        ).stdout

    def test_range(self, server: HTTPServer) -> None:
        assert self.run("-r", "100-70199", f"{server.url}/files/big.bin") == BIG[100:70200]
        assert self.run("-r", "-3", f"{server.url}/files/big.bin") == b"end"

    def test_continue(self, server: HTTPServer, tmp_path: Path) -> None:
        target = tmp_path / "part"
        for have in (0, 1, 400_000, len(BIG) - 1):
            target.write_bytes(BIG[:have])
            self.run("-C", "-", "-o", str(target), f"{server.url}/files/big.bin")
            assert target.read_bytes() == BIG

    def test_time_condition(self, server: HTTPServer, tmp_path: Path) -> None:
        kept = tmp_path / "kept"
        kept.touch()
        assert self.run("-z", str(kept), f"{server.url}/files/big.bin") == b""

    def test_etag(self, server: HTTPServer, tmp_path: Path) -> None:
        tag = str(tmp_path / "tag")
        url = f"{server.url}/files/small.txt"
        assert self.run("--etag-save", tag, url) == SMALL
        assert self.run("--etag-compare", tag, url) == b""


def test_requests(server: HTTPServer) -> None:
    with requests.Session() as session:
        url = f"{server.url}/files/big.bin"
        answer = session.get(url, timeout=PATIENCE)
        assert answer.content == BIG
        again = session.get(url, headers={"If-None-Match": answer.headers["ETag"]}, timeout=30)
        assert (again.status_code, again.content) == (304, b"")
        part = session.get(url, headers={"Range": "bytes=10-19"}, timeout=PATIENCE)
        assert (part.status_code, part.content) == (206, BIG[10:20])


def test_many_at_once_and_a_slow_one(server: HTTPServer) -> None:
    with Client(server.address, receive_buffer=4096) as slow:
        slow.ask("/files/big.bin")
        clients = [Client(server.address) for _ in range(8)]
        for each in clients:
            each.ask("/files/big.bin", "Range: bytes=5-900000,900010-")
        for each in clients:
            assert each.read().status == 206
            each.sock.close()
        assert slow.read().body == BIG
