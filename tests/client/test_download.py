"""Content that is written to a file: whole or not at all, and gone on with later."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import threading
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pytest

from resource_server import (
    FileResource,
    Headers,
    HTTPClient,
    Request,
    Resource,
    Response,
    Timeout,
    get,
)
from resource_server.client import Cancelled, ProtocolError
from resource_server.client import download as download_module
from resource_server.client.download import Download
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.client.misbehaving import Script
    from tests.conftest import Serve

LONG = Timeout(PATIENCE, PATIENCE)
CONTENT = random.Random(7).randbytes(300_000)
TAG = 'ETag: "v1"'


class Steps:
    """A `progress` that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int | None]] = []

    def __call__(self, done: int, total: int | None) -> None:
        self.told.append((done, total))

    @property
    def last(self) -> tuple[int, int | None]:
        return self.told[-1]


def cutting(at: int, *fields: str, content: bytes = CONTENT) -> Script:
    """A script that sends a part of what it has promised."""

    def script(peer: Peer) -> None:
        peer.read_request()
        lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(content)}", *fields, "", ""]
        peer.send("\r\n".join(lines).encode() + content[:at])

    return script


def replying(*answers: tuple[str, bytes, tuple[str, ...]]) -> Script:
    """A script that answers the requests of a connection: status, content, fields."""

    def script(peer: Peer) -> None:
        for status, body, fields in answers:
            peer.read_request()
            peer.answer(body, *fields, status=status)

    return script


def whole(*fields: str, content: bytes = CONTENT) -> Script:
    return replying(("200 OK", content, fields))


def partial(start: int, *fields: str, total: object = len(CONTENT), end: int | None = None) -> Any:
    """The answer of a server that goes on."""
    last = len(CONTENT) - 1 if end is None else end
    span = f"Content-Range: bytes {start}-{last}/{total}"
    return ("206 Partial Content", CONTENT[start : last + 1], (span, *fields))


def fetched(server: Misbehaving, target: Any, path: str = "/file", **options: Any) -> Any:
    """The exception or the response of one download."""
    with HTTPClient(server.address, timeout=LONG, retries=0) as client:
        handle = client.get(path, stream_to=target, **options)
        return handle.exception(PATIENCE) or handle.result(PATIENCE)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def left(folder: Path, script: Script | None = None, path: str = "/file") -> Path:
    """Where a download that was cut off has left a part."""
    target = folder / "name"
    with Misbehaving(script or cutting(100_000, TAG)) as server:
        assert isinstance(fetched(server, target, path), ProtocolError)
    assert not target.exists()
    return target


def field(request: bytes, name: str) -> str | None:
    """The value of a field of a request."""
    for line in request.decode().split("\r\n")[1:]:
        if line.lower().startswith(name.lower() + ":"):
            return line.partition(":")[2].strip()
    return None


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


class TestNotes:
    """What tells what a part is part of."""

    def test_the_same_validator_elsewhere_is_another_thing(self, tmp_path: Path) -> None:
        target = left(tmp_path)
        with Misbehaving(whole(TAG, content=b"other")) as server:
            assert fetched(server, target, "/other").status_code == 200
            assert field(server.requests[0], "Range") is None
        assert target.read_bytes() == b"other"

    def begun(self, folder: Path, url: str = "http://h/file", method: str = "GET") -> Headers:
        headers = Headers()
        download = Download(folder / "name")
        download.begin(headers, method, url)
        download.begin(headers, method, "http://h/elsewhere")
        download.fail()
        return headers

    def note(self, folder: Path, **changes: object) -> None:
        note = {"url": hashlib.sha256(b"http://h/file").hexdigest(), "validator": '"v1"'}
        (folder / "name.part-of").write_text(json.dumps({**note, "total": 9, **changes}))
        (folder / "name.part").write_bytes(b"12345")

    def test_the_same_url_is_gone_on_with(self, tmp_path: Path) -> None:
        self.note(tmp_path)
        assert self.begun(tmp_path)["range"] == "bytes=4-"
        assert names(tmp_path) == ["name.part", "name.part-of"]

    def test_another_url_or_method_is_not(self, tmp_path: Path) -> None:
        self.note(tmp_path)
        assert "range" not in self.begun(tmp_path, "http://h/other")
        assert "range" not in self.begun(tmp_path, method="POST")
        assert names(tmp_path) == ["name.part", "name.part-of"]

    def test_one_byte_is_not_worth_it(self, tmp_path: Path) -> None:
        self.note(tmp_path)
        (tmp_path / "name.part").write_bytes(b"1")
        assert "range" not in self.begun(tmp_path)

    def test_a_total_of_another_type_is_none(self, tmp_path: Path) -> None:
        self.note(tmp_path, total="9")
        assert "range" in self.begun(tmp_path)

    @pytest.mark.parametrize("content", ["", "[]", "{}", "null", "[" * 100_000, "\udcff"])
    def test_a_part_with_no_note_is_somebody_elses(self, tmp_path: Path, content: str) -> None:
        self.note(tmp_path)
        (tmp_path / "name.part-of").write_bytes(content.encode(errors="surrogateescape"))
        assert "range" not in self.begun(tmp_path)
        with Misbehaving(whole(TAG)) as server:
            assert fetched(server, tmp_path / "name").status_code == 200
        assert (tmp_path / "name").read_bytes() == CONTENT
        assert (tmp_path / "name.part").read_bytes() == b"12345"

    @pytest.mark.parametrize("changes", [{"validator": 'W/"1"'}, {"validator": 5}, {"url": 5}])
    def test_a_note_of_nonsense_is_none(self, tmp_path: Path, changes: Any) -> None:
        self.note(tmp_path, **changes)
        assert "range" not in self.begun(tmp_path)

    def test_the_url_is_not_in_it(self, tmp_path: Path) -> None:
        left(tmp_path, path="/file?token=secret")
        assert "secret" not in (tmp_path / "name.part-of").read_text()

    def test_without_a_note_nothing_is_left(self, tmp_path: Path) -> None:
        (tmp_path / "name.part-of").mkdir()
        headers = Headers({"ETag": '"v1"', "Content-Length": "5"})
        download = Download(tmp_path / "name")
        with pytest.raises(OSError, match=r".+"):
            # It is in the way, and not a note.
            download.accept(200, headers)
        with pytest.raises(OSError, match=r".+"):
            download.fail()
        assert not (tmp_path / "name").exists()

    def test_a_note_that_cannot_be_written_is_done_without(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(download_module._Part, "_write_note", lambda *_: False)
        left(tmp_path)
        assert names(tmp_path) == []

    def test_a_link_is_not_followed(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        victim = tmp_path / "victim"
        victim.write_bytes(b"precious")
        (folder / "name.part").symlink_to(victim)
        with Misbehaving(whole(TAG)) as server:
            assert fetched(server, folder / "name").status_code == 200
        assert victim.read_bytes() == b"precious"
        assert (folder / "name").read_bytes() == CONTENT
        assert not (folder / "name").is_symlink()

    def test_who_comes_second_has_a_file_of_its_own(self, tmp_path: Path) -> None:
        left(tmp_path)
        first, second = Download(tmp_path / "name"), Download(tmp_path / "name")
        fields = Headers({"ETag": '"v1"', "Content-Length": "3"})
        for each, content in ((first, b"one"), (second, b"two")):
            each.begin(Headers(), "GET", "http://h/")
            assert each.accept(200, fields)
            each.write(content)
        first.finish()
        assert (tmp_path / "name").read_bytes() == b"one"
        second.fail()
        assert names(tmp_path) == ["name"]

    def test_a_part_that_was_renamed_meanwhile_is_not_written_to(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fcntl = pytest.importorskip("fcntl")
        self.note(tmp_path)
        lock, tries = fcntl.flock, []

        def late(file: Any, operation: int) -> None:
            tries.append(operation)
            if len(tries) == 1:
                # Its owner has just finished.
                os.replace(tmp_path / "name.part", tmp_path / "name")
            elif len(tries) == 2:
                os.unlink(tmp_path / "name.part")
                (tmp_path / "name.part").touch()
            lock(file, operation)

        monkeypatch.setattr(fcntl, "flock", late)
        download = Download(tmp_path / "name")
        assert download.accept(200, Headers({"ETag": '"v2"', "Content-Length": "3"}))
        assert len(tries) == 3
        assert (tmp_path / "name").read_bytes() == b"12345"
        download.write(b"new")
        download.finish()
        assert (tmp_path / "name").read_bytes() == b"new"

    def test_where_there_are_no_locks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(download_module, "_LOCKS", False)
        left(tmp_path)
        assert names(tmp_path) == []
        with Misbehaving(whole(TAG)) as server:
            assert fetched(server, tmp_path / "name").status_code == 200
        assert (tmp_path / "name").read_bytes() == CONTENT
        assert names(tmp_path) == ["name"]


class TestCancel:
    def test_nothing_is_left_under_the_name(self, tmp_path: Path) -> None:
        reached = threading.Event()

        def script(peer: Peer) -> None:
            peer.read_request()
            peer.send(f"HTTP/1.1 200 OK\r\n{TAG}\r\nContent-Length: 9\r\n\r\n12345".encode())
            peer.hang()

        with (
            Misbehaving(script) as server,
            HTTPClient(server.address, timeout=LONG) as client,
        ):
            handle = client.get(
                "/", stream_to=tmp_path / "name", progress=lambda done, total: reached.set()
            )
            assert reached.wait(PATIENCE)
            assert handle.cancel()
            assert server.wait_gone()
            client.stop(PATIENCE)
            with pytest.raises(Cancelled):
                handle.result()
        assert names(tmp_path) == ["name.part", "name.part-of"]
        assert (tmp_path / "name.part").read_bytes() == b"12345"

    def test_nor_if_it_comes_with_the_last_byte(self, tmp_path: Path) -> None:
        handles: list[Any] = []
        ready = threading.Event()

        def progress(done: int, total: int | None) -> None:
            assert ready.wait(PATIENCE)
            if done == total:
                assert handles[0].cancel()

        with (
            Misbehaving(whole(TAG)) as server,
            HTTPClient(server.address, timeout=LONG) as client,
        ):
            handles.append(client.get("/", stream_to=tmp_path / "name", progress=progress))
            ready.set()
            with pytest.raises(Cancelled):
                handles[0].result(PATIENCE)
            client.stop(PATIENCE)
        assert names(tmp_path) == ["name.part", "name.part-of"]

    def test_nor_by_an_error_of_progress(self, tmp_path: Path) -> None:
        def progress(done: int, total: int | None) -> None:
            raise ConnectionError("mine")

        with Misbehaving(whole()) as server:
            error = fetched(server, tmp_path / "name", progress=progress)
        assert repr(error) == "ConnectionError('mine')"
        assert names(tmp_path) == []

    def test_nor_by_content_that_cannot_be_decoded(self, tmp_path: Path) -> None:
        with Misbehaving(whole("Content-Encoding: gzip", TAG)) as server:
            assert isinstance(fetched(server, tmp_path / "name"), ProtocolError)
        assert names(tmp_path) == []

    def test_a_disk_that_is_full_is_told(self, tmp_path: Path) -> None:
        class Full(io.FileIO):
            def write(self, data: Any) -> int:
                raise OSError(28, "full")

        download = Download(tmp_path / "name")
        assert download.accept(200, Headers())
        place: Any = download._place
        place._file.close()
        place._file = io.BufferedWriter(Full(place._name, "r+"))
        download.write(b"x")
        with pytest.raises(OSError, match="full"):
            download.finish()
        download.fail()
        assert names(tmp_path) == []
        download.fail()


class TestContent:
    def test_what_is_compressed_is_written_as_it_is_meant(self, tmp_path: Path) -> None:
        steps = Steps()
        packed = gzip.compress(bytes(200_000))
        with Misbehaving(whole("Content-Encoding: gzip", TAG, content=packed)) as server:
            fetched(server, tmp_path / "name", progress=steps)
        assert (tmp_path / "name").read_bytes() == bytes(200_000)
        assert steps.last == (200_000, None)

    def test_a_length_that_is_not_known_is_not_told(self, tmp_path: Path) -> None:
        def script(peer: Peer) -> None:
            peer.read_request()
            peer.send(b"HTTP/1.1 200 OK\r\n\r\n12345")

        steps = Steps()
        with Misbehaving(script) as server:
            fetched(server, tmp_path / "name", progress=steps)
        assert (tmp_path / "name").read_bytes() == b"12345"
        assert steps.last == (5, None)

    def test_more_than_would_go_into_memory(self, tmp_path: Path) -> None:
        with (
            Misbehaving(whole()) as server,
            HTTPClient(server.address, max_response_size=1000) as client,
        ):
            client.get("/", stream_to=tmp_path / "name").result(PATIENCE)
        assert (tmp_path / "name").read_bytes() == CONTENT

    @pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "500 Oh"])
    def test_no_content_is_not_an_empty_one(self, tmp_path: Path, status: str) -> None:
        (tmp_path / "name").write_bytes(b"old")
        with Misbehaving(replying((status, b"", ()))) as server:
            fetched(server, tmp_path / "name")
        assert (tmp_path / "name").read_bytes() == b"old"

    def test_nor_is_that_of_head(self, tmp_path: Path) -> None:
        download = Download(tmp_path / "name")
        download.begin(Headers(), "HEAD", "http://h/")
        assert not download.accept(200, Headers())
        assert names(tmp_path) == []

    def test_what_is_answered_to_a_post(self, tmp_path: Path) -> None:
        with (
            Misbehaving(replying(("201 Created", b"made", ()))) as server,
            HTTPClient(server.address) as client,
        ):
            client.post("/", b"x", stream_to=tmp_path / "name").result(PATIENCE)
        assert (tmp_path / "name").read_bytes() == b"made"


class TestFiles:
    def test_an_open_file_is_written_to_and_stays_open(self, tmp_path: Path) -> None:
        with Misbehaving(whole(TAG)) as server, open(tmp_path / "name", "wb") as file:
            file.write(b"before ")
            response = fetched(server, file)
            assert response.body == b""
            # What it may be compressed by is no matter, as it is not gone on with.
            assert field(server.requests[0], "Accept-Encoding") != "identity"
            assert (tmp_path / "name").read_bytes() == b"before " + CONTENT
            assert not file.closed
        assert names(tmp_path) == ["name"]

    def test_an_error_is_not_written_to_it(self) -> None:
        file = io.BytesIO()
        with Misbehaving(replying(("404 Not Found", b"no", ()))) as server:
            assert fetched(server, file).body == b"no"
        assert file.getvalue() == b""

    def test_it_has_what_came_before_the_end(self) -> None:
        file = io.BytesIO()
        with Misbehaving(cutting(1000)) as server:
            assert isinstance(fetched(server, file), ProtocolError)
        assert file.getvalue() == CONTENT[:1000]

    def test_it_may_take_less_than_it_is_given(self) -> None:
        class Slow(io.RawIOBase):
            def __init__(self) -> None:
                self.taken = b""

            def write(self, data: Any) -> int:
                self.taken += bytes(data[:1000])
                return min(len(data), 1000)

        file = Slow()
        with Misbehaving(whole()) as server:
            fetched(server, file)
        assert file.taken == CONTENT

    def test_or_nothing_any_more(self) -> None:
        class Stuck(io.RawIOBase):
            def write(self, data: Any) -> int:
                return 0

        with Misbehaving(whole()) as server:
            assert "takes no more" in str(fetched(server, Stuck()))

    def test_it_may_have_no_number_to_tell(self) -> None:
        class Plain:
            def __init__(self) -> None:
                self.pieces: list[bytes] = []

            def write(self, data: Any) -> None:
                self.pieces.append(bytes(data))

        file = Plain()
        with Misbehaving(whole()) as server:
            fetched(server, file)
        assert b"".join(file.pieces) == CONTENT

    @pytest.mark.parametrize("make", [io.StringIO, object, lambda: 5])
    def test_what_is_no_binary_file_is_refused_at_once(self, make: Callable[[], Any]) -> None:
        with pytest.raises(TypeError, match="a path or a binary file"):
            Download(cast("BinaryIO", make()))

    def test_nothing_is_asked_of_it_but_to_take_content(self) -> None:
        download = Download(io.BytesIO())
        assert download._place.resume("http://h/") == 0
        download._place.drop()
        download.fail()


class TestPaths:
    def test_a_directory_is_refused_at_once(self, tmp_path: Path) -> None:
        for path in (tmp_path, f"{tmp_path}/none/"):
            with pytest.raises(IsADirectoryError, match="names a directory"):
                Download(path)

    def test_a_device_is_not_replaced(self) -> None:
        with pytest.raises(ValueError, match="no regular file"):
            Download(os.devnull)

    def test_a_directory_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with Misbehaving(whole(TAG)) as server:
            error = fetched(server, tmp_path / "none" / "name")
        assert isinstance(error, FileNotFoundError)

    def test_a_directory_that_came_in_the_way_is_told(self, tmp_path: Path) -> None:
        download = Download(tmp_path / "name")
        (tmp_path / "name").mkdir()
        assert download.accept(200, Headers({"ETag": '"v1"'}))
        download.write(b"x")
        with pytest.raises(OSError, match=r".+"):
            download.finish()
        download.fail()

    def test_a_name_of_bytes(self, tmp_path: Path) -> None:
        with Misbehaving(whole()) as server:
            fetched(server, os.fsencode(tmp_path / "name"))
        assert (tmp_path / "name").read_bytes() == CONTENT
