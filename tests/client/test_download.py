"""Content that is written to a file: whole or not at all, and gone on with later."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import (
    FileResource,
    Headers,
    HTTPClient,
    Request,
    Resource,
    Response,
    get,
)
from resource_server.client import ProtocolError
from resource_server.client.download import Download
from tests.client.downloads import (
    CONTENT,
    TAG,
    Steps,
    cutting,
    fetched,
    field,
    left,
    names,
    partial,
    replying,
    whole,
)
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import Serve


class Ranges(Resource):
    """Answers with what a Range asks for, as nginx does with a file."""

    @get("/ranges")
    def content(self, request: Request) -> Response:
        start = 0
        fields = {"ETag": '"v1"', "Content-Type": "application/octet-stream"}
        if request.headers.get("if-range") == '"v1"':
            start = int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))
            fields["Content-Range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        return Response(CONTENT[start:], 206 if start else 200, headers=fields)


class TestOurServer:
    @pytest.fixture
    def site(self, tmp_path: Path) -> Path:
        site = tmp_path / "site"
        site.mkdir()
        (site / "file").write_bytes(CONTENT)
        (site / "empty").touch()
        # Long enough ago for its date to be a strong validator.
        os.utime(site / "file", (1_600_000_000, 1_600_000_000))
        return site

    def test_a_file_is_fetched(self, serve: Serve, site: Path, tmp_path: Path) -> None:
        steps = Steps()
        with HTTPClient(serve(FileResource(site)).address) as client:
            for target in (tmp_path / "a", str(tmp_path / "b")):
                response = client.get("/file", stream_to=target, progress=steps).result(PATIENCE)
                assert (response.status_code, response.body) == (200, b"")
                assert response.headers["content-length"] == str(len(CONTENT))
                assert steps.last == (len(CONTENT), len(CONTENT))
        assert steps.told[0][0] < len(CONTENT)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == CONTENT
        assert names(tmp_path) == ["a", "b", "site"]

    def test_an_empty_one_too(self, serve: Serve, site: Path, tmp_path: Path) -> None:
        steps = Steps()
        with HTTPClient(serve(FileResource(site)).address) as client:
            client.get("/empty", stream_to=tmp_path / "a", progress=steps).result(PATIENCE)
        assert (tmp_path / "a").read_bytes() == b""
        assert steps.told == [(0, 0)]
        assert names(tmp_path) == ["a", "site"]

    def test_what_was_there_is_replaced(self, serve: Serve, site: Path, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"old" * 200_000)
        (tmp_path / "link").symlink_to("a")
        with HTTPClient(serve(FileResource(site)).address) as client:
            client.get("/file", stream_to=tmp_path / "link").result(PATIENCE)
        assert (tmp_path / "a").read_bytes() == CONTENT
        assert (tmp_path / "link").is_symlink()

    def test_but_not_by_an_error(self, serve: Serve, site: Path, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"old")
        with HTTPClient(serve(FileResource(site)).address) as client:
            response = client.get("/none", stream_to=tmp_path / "a").result(PATIENCE)
        assert response.status_code == 404
        assert response.body
        assert (tmp_path / "a").read_bytes() == b"old"
        assert names(tmp_path) == ["a", "site"]

    @pytest.mark.parametrize("size", [2, 100_000, len(CONTENT)])
    def test_a_part_is_gone_on_with(self, serve: Serve, tmp_path: Path, size: int) -> None:
        server = serve(Ranges())
        steps = Steps()
        with HTTPClient(server.address) as client:
            (tmp_path / "name.part").write_bytes(CONTENT[:size])
            note = {"validator": '"v1"', "total": len(CONTENT)}
            note["url"] = hashlib.sha256(f"{server.url}/ranges".encode()).hexdigest()
            (tmp_path / "name.part-of").write_text(json.dumps(note))
            handle = client.get("/ranges", stream_to=tmp_path / "name", progress=steps)
            response = handle.result(PATIENCE)
        assert response.status_code == 206
        assert response.headers["content-range"].startswith(f"bytes {size - 1}-")
        assert steps.last == (len(CONTENT), len(CONTENT))
        assert (tmp_path / "name").read_bytes() == CONTENT
        assert names(tmp_path) == ["name"]

    def test_many_at_once_to_one_name(self, serve: Serve, site: Path, tmp_path: Path) -> None:
        with HTTPClient(serve(FileResource(site)).address) as client:
            handles = [client.get("/file", stream_to=tmp_path / "a") for _ in range(24)]
            assert {each.result(PATIENCE).status_code for each in handles} == {200}
        assert (tmp_path / "a").read_bytes() == CONTENT
        assert names(tmp_path) == ["a", "site"]


class TestParts:
    @pytest.mark.parametrize(
        ("fields", "validator"),
        [
            ((TAG,), '"v1"'),
            ((TAG, "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT"), '"v1"'),
            (
                (
                    "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT",
                    "Date: Wed, 01 Jan 2020 00:00:01 GMT",
                ),
                "Wed, 01 Jan 2020 00:00:00 GMT",
            ),
        ],
    )
    def test_what_was_cut_off_is_gone_on_with(
        self, tmp_path: Path, fields: tuple[str, ...], validator: str
    ) -> None:
        target = left(tmp_path, cutting(100_000, *fields))
        assert names(tmp_path) == ["name.part", "name.part-of"]
        size = (tmp_path / "name.part").stat().st_size
        assert size == 100_000
        steps = Steps()
        with Misbehaving(replying(partial(size - 1))) as server:
            # Of the same URL: the port is another one.
            renamed(tmp_path, server)
            response = fetched(server, target, progress=steps)
            assert field(server.requests[0], "Range") == f"bytes={size - 1}-"
            assert field(server.requests[0], "If-Range") == validator
            assert field(server.requests[0], "Accept-Encoding") == "identity"
        assert response.status_code == 206
        assert target.read_bytes() == CONTENT
        assert steps.told[0][0] > size - 1
        assert steps.last == (len(CONTENT), len(CONTENT))
        assert names(tmp_path) == ["name"]

    @pytest.mark.parametrize(
        "fields",
        [
            (),
            ('ETag: W/"v1"',),
            ("ETag: v1",),
            ('ETag: W/"v1"', "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT"),
            ("Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT",),
            (
                "Last-Modified: Wed, 01 Jan 2020 00:00:00 GMT",
                "Date: Wed, 01 Jan 2020 00:00:00 GMT",
            ),
            ("Last-Modified: lately", "Date: Wed, 01 Jan 2020 00:00:00 GMT"),
        ],
    )
    def test_nothing_is_left_of_what_cannot_be_told_apart(
        self, tmp_path: Path, fields: tuple[str, ...]
    ) -> None:
        left(tmp_path, cutting(100_000, *fields))
        assert names(tmp_path) == []

    def test_nor_of_what_has_not_begun(self, tmp_path: Path) -> None:
        left(tmp_path, cutting(0, TAG))
        assert names(tmp_path) == []

    def test_content_that_has_changed_is_fetched_anew(self, tmp_path: Path) -> None:
        target = left(tmp_path)
        with Misbehaving(whole('ETag: "v2"', content=b"new")) as server:
            renamed(tmp_path, server)
            assert fetched(server, target).status_code == 200
            assert field(server.requests[0], "Range") is not None
        assert target.read_bytes() == b"new"
        assert names(tmp_path) == ["name"]

    def test_also_if_it_has_no_validator_any_more(self, tmp_path: Path) -> None:
        target = left(tmp_path)
        with Misbehaving(cutting(10)) as server:
            renamed(tmp_path, server)
            assert isinstance(fetched(server, target), ProtocolError)
        assert names(tmp_path) == []

    def test_a_part_may_be_cut_off_again(self, tmp_path: Path) -> None:
        target = left(tmp_path)

        def script(peer: Peer) -> None:
            peer.read_request()
            status, body, (span,) = partial(99_999)
            head = f"HTTP/1.1 {status}\r\n{span}\r\nContent-Length: {len(body)}\r\n\r\n"
            peer.send(head.encode() + body[:100_000])

        with Misbehaving(script, replying(partial(199_998, total="*"))) as server:
            renamed(tmp_path, server)
            assert isinstance(fetched(server, target), ProtocolError)
            assert names(tmp_path) == ["name.part", "name.part-of"]
            assert fetched(server, target).status_code == 206
        assert target.read_bytes() == CONTENT

    def test_a_part_of_the_rest_is_not_taken_for_all(self, tmp_path: Path) -> None:
        target = left(tmp_path)
        answers = replying(partial(99_999, end=200_000)), replying(partial(200_000))
        with Misbehaving(*answers) as server:
            renamed(tmp_path, server)
            error = fetched(server, target)
            assert isinstance(error, ProtocolError)
            assert f"GET {server.url}/file: 200001 bytes came of 300000" in str(error)
            assert fetched(server, target).status_code == 206
        assert target.read_bytes() == CONTENT

    def test_an_error_leaves_the_part(self, tmp_path: Path) -> None:
        target = left(tmp_path)
        with Misbehaving(replying(("404 Not Found", b"no", ()))) as server:
            renamed(tmp_path, server)
            assert fetched(server, target).status_code == 404
        assert names(tmp_path) == ["name.part", "name.part-of"]

    def test_a_total_may_come_with_the_rest(self, tmp_path: Path) -> None:
        def endless(peer: Peer) -> None:
            peer.read_request()
            peer.send(f"HTTP/1.1 200 OK\r\n{TAG}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
            peer.send(b"%x\r\n%b\r\n" % (1000, CONTENT[:1000]))

        target = left(tmp_path, endless)
        steps = Steps()
        with Misbehaving(replying(partial(999, total="*"))) as server:
            renamed(tmp_path, server)
            assert fetched(server, target, progress=steps).status_code == 206
        assert steps.last == (len(CONTENT), len(CONTENT))
        assert target.read_bytes() == CONTENT

    def test_a_part_that_nobody_asked_for_is_refused(self, tmp_path: Path) -> None:
        with Misbehaving(replying(partial(5))) as server:
            error = fetched(server, tmp_path / "name")
            assert isinstance(error, ProtocolError)
            assert error.url == f"{server.url}/file"
        assert names(tmp_path) == []

    @pytest.mark.parametrize("fields", [{"Range": "bytes=5-"}, {"range": "bytes=5-"}])
    def test_unless_the_caller_did(self, tmp_path: Path, fields: dict[str, str]) -> None:
        target = left(tmp_path)
        with Misbehaving(replying(partial(5, TAG))) as server:
            renamed(tmp_path, server)
            assert fetched(server, target, headers=fields).status_code == 206
            assert field(server.requests[0], "If-Range") is None
        assert target.read_bytes() == CONTENT[5:]

    def test_a_redirect_is_followed_with_the_range(self, tmp_path: Path) -> None:
        target = left(tmp_path)
        moved = ("302 Found", b"", ("Location: /elsewhere?signature=1",))
        with Misbehaving(replying(moved, partial(99_999))) as server:
            renamed(tmp_path, server)
            assert fetched(server, target).status_code == 206
            assert field(server.requests[1], "Range") == "bytes=99999-"
        assert target.read_bytes() == CONTENT


def renamed(folder: Path, server: Misbehaving, path: str = "/file") -> None:
    """Make a note one of the same path on another server."""
    note = json.loads((folder / "name.part-of").read_text())
    note["url"] = hashlib.sha256(f"{server.url}{path}".encode()).hexdigest()
    (folder / "name.part-of").write_text(json.dumps(note))


class TestMisfits:
    """What a server may answer to a Range, which is not what was asked for."""

    #: an answer each
    ANSWERS = (
        partial(100),
        partial(100_000),
        partial(99_999, total=400_000),
        partial(99_999, 'ETag: "v2"'),
        partial(99_999, "Content-Encoding: gzip"),
        ("206 Partial Content", b"x", ()),
        ("206 Partial Content", b"x", ("Content-Range: bytes */5",)),
        ("206 Partial Content", b"x", ("Content-Type: multipart/byteranges; boundary=b",)),
        ("416 Range Not Satisfiable", b"", ("Content-Range: bytes */10",)),
    )

    @pytest.mark.parametrize("answer", ANSWERS)
    def test_the_part_is_forgotten(self, tmp_path: Path, answer: Any) -> None:
        left(tmp_path)
        download = Download(tmp_path / "name")
        headers = Headers()
        note = json.loads((tmp_path / "name.part-of").read_text())
        note["url"] = hashlib.sha256(b"http://h/").hexdigest()
        (tmp_path / "name.part-of").write_text(json.dumps(note))
        download.begin(headers, "GET", "http://h/")
        assert headers["range"] == "bytes=99999-"
        status, _, fields = answer
        given = Headers(
            [(name, value) for name, _, value in (each.partition(": ") for each in fields)]
        )
        assert download.again(int(status[:3]), given)
        headers = Headers()
        download.begin(headers, "GET", "http://h/")
        assert "range" not in headers
        assert not download.again(200, Headers())
        assert download.accept(200, Headers({"ETag": '"v2"', "Content-Length": "3"}))
        download.write(b"new")
        download.finish()
        assert (tmp_path / "name").read_bytes() == b"new"
        assert names(tmp_path) == ["name"]

    def test_what_fits_is_gone_on_with(self, tmp_path: Path) -> None:
        target = left(tmp_path)
        with Misbehaving(replying(partial(99_999, TAG))) as server:
            renamed(tmp_path, server)
            assert fetched(server, target).status_code == 206
        assert target.read_bytes() == CONTENT

    @pytest.mark.parametrize("answer", ANSWERS)
    def test_never_is_it_written_to_the_part(self, tmp_path: Path, answer: Any) -> None:
        target = left(tmp_path)
        new = ("200 OK", b"new", ())
        # Much that is not wanted is not read: its connection is closed.
        with Misbehaving(replying(answer, new), replying(new)) as server:
            renamed(tmp_path, server)
            assert fetched(server, target).status_code == 200
            assert [field(each, "Range") for each in server.requests] == ["bytes=99999-", None]
        assert target.read_bytes() == b"new"
        assert names(tmp_path) == ["name"]
