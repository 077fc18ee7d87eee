"""What downloads are written to."""

from __future__ import annotations

import gzip
import io
import os
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import pytest

from resource_server import (
    Headers,
    HTTPClient,
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
    names,
    replying,
    whole,
)
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
