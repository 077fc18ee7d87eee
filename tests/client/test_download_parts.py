"""What is left of a download that did not come to its end."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import (
    Headers,
    HTTPClient,
)
from resource_server.client import Cancelled, ProtocolError
from resource_server.client import download as download_module
from resource_server.client.download import Download
from tests.client.downloads import (
    CONTENT,
    LONG,
    TAG,
    fetched,
    field,
    left,
    names,
    whole,
)
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer

if TYPE_CHECKING:
    from pathlib import Path


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
