from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from resource_server.errors import NotFound, ServiceUnavailable
from resource_server.files import FileResponse, representation
from resource_server.files.response import SMALL_FILE
from resource_server.headers import parse_date
from resource_server.response import Response

ANY_TEXT = st.text(st.characters(exclude_categories=()))


def header(response: Response, name: str) -> str | None:
    value = response.headers.get(name)
    assert value is None or isinstance(value, str)
    return value


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "trouble")

    return fail


def lowest_free_descriptor() -> int:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor


class TestFileResponse:
    def test_small_file_is_the_body(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_bytes(b"hello\r\n\x1a\xff")
        response = FileResponse(tmp_path / "a.txt")
        assert response.status_code == 200
        assert response.body == b"hello\r\n\x1a\xff"
        assert response.file is None
        assert header(response, "content-type") == "text/plain; charset=utf-8"
        assert header(response, "x-content-type-options") == "nosniff"
        response.close()

    def test_limit_of_small_files(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_bytes(b"x" * SMALL_FILE)
        assert FileResponse(path).body == b"x" * SMALL_FILE
        path.write_bytes(b"x" * (SMALL_FILE + 1))
        with closing(FileResponse(path)) as response:
            assert response.body is None

    def test_large_file_is_left_to_the_server(self, tmp_path: Path) -> None:
        content = os.urandom(SMALL_FILE * 3)
        (tmp_path / "a.bin").write_bytes(content)
        response = FileResponse(str(tmp_path / "a.bin"))
        assert response.body is None
        assert response.content_length == len(content)
        assert response.file is not None
        assert response.file.read() == content
        assert not os.get_inheritable(response.file.fileno())
        response.close()
        assert response.file is None or response.file.closed

    def test_empty_file(self, tmp_path: Path) -> None:
        (tmp_path / "a").touch()
        assert FileResponse(tmp_path / "a").body == b""

    def test_last_modified_is_that_of_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "a").touch()
        os.utime(tmp_path / "a", (0, 784111777))
        assert header(FileResponse(tmp_path / "a"), "last-modified") == (
            "Sun, 06 Nov 1994 08:49:37 GMT"
        )

    def test_last_modified_is_never_in_the_future(self, tmp_path: Path) -> None:
        (tmp_path / "a").touch()
        os.utime(tmp_path / "a", (0, time.time() + 100_000))
        date = header(FileResponse(tmp_path / "a"), "last-modified")
        assert date is not None
        modified = parse_date(date)
        assert modified is not None
        assert modified <= time.time()

    def test_a_time_that_is_no_date_is_left_out(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def beyond(_: float) -> str:
            raise ValueError("year is out of range")

        (tmp_path / "a").touch()
        monkeypatch.setattr(representation, "format_date", beyond)
        assert header(FileResponse(tmp_path / "a"), "last-modified") is None

    def test_content_type_as_given(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").touch()
        response = FileResponse(tmp_path / "a.txt", content_type="application/x-own")
        assert header(response, "content-type") == "application/x-own"

    def test_type_follows_the_name_of_the_download(self, tmp_path: Path) -> None:
        (tmp_path / "4711").touch()
        response = FileResponse(tmp_path / "4711", filename="report.pdf")
        assert header(response, "content-type") == "application/pdf"
        assert header(response, "content-disposition") == 'attachment; filename="report.pdf"'

    def test_links_are_followed(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_text("content")
        (tmp_path / "link").symlink_to("a")
        assert FileResponse(tmp_path / "link").body == b"content"

    @pytest.mark.parametrize("name", ["none", "a/below", "", ".", "nul\0", "x" * 300, "circle"])
    def test_what_is_no_file_is_not_found(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "a").touch()
        (tmp_path / "circle").symlink_to("circle")
        with pytest.raises(NotFound):
            FileResponse(os.path.join(tmp_path, name))

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
    def test_fifo_socket_and_device_are_never_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def opened(*_: object) -> int:
            raise AssertionError("opened")

        os.mkfifo(tmp_path / "fifo")
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("socket")
            monkeypatch.setattr(os, "open", opened)
            for name in ("fifo", "socket", "/dev/null", "/dev/tty"):
                with pytest.raises(NotFound):
                    FileResponse(name)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
    def test_fifo_put_in_place_of_the_file_is_closed_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look = os.stat
        os.mkfifo(tmp_path / "a")
        (tmp_path / "regular").touch()
        monkeypatch.setattr(os, "stat", lambda *_, **__: look(tmp_path / "regular"))
        before = lowest_free_descriptor()
        with pytest.raises(NotFound):
            FileResponse(tmp_path / "a")
        assert lowest_free_descriptor() == before

    def test_not_permitted_is_not_found(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a").touch()
        monkeypatch.setattr(os, "open", failing(errno.EACCES))
        with pytest.raises(NotFound):
            FileResponse(tmp_path / "a")

    @pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO])
    def test_trouble_of_the_system_is_not_hidden(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
    ) -> None:
        (tmp_path / "a").touch()
        monkeypatch.setattr(os, "open", failing(number))
        with pytest.raises(OSError, match="trouble"):
            FileResponse(tmp_path / "a")

    def test_bad_argument_leaves_nothing_open(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(b"x" * (SMALL_FILE + 1))
        before = lowest_free_descriptor()
        with pytest.raises(ValueError, match=r"(?i)field|control|character"):
            FileResponse(tmp_path / "a", content_type="text/plain\r\nX: y")
        assert lowest_free_descriptor() == before

    def test_file_that_grows_all_the_time_is_as_long_as_its_tag_says(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look = os.fstat

        def grown(descriptor: int) -> os.stat_result:
            status = look(descriptor)
            with (tmp_path / "a").open("ab") as more:
                more.write(b"more")
            return status

        (tmp_path / "a").write_text("content")
        monkeypatch.setattr(os, "fstat", grown)
        response = FileResponse(tmp_path / "a")
        assert response.body == b"content" + b"more" * 2
        assert f"-{len(response.body):x}-" in (header(response, "etag") or "")

    def test_file_that_is_changed_while_it_is_read_is_read_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look = os.fstat
        changes = [b"con", b"CONTENT", b"else"]

        def changed(descriptor: int) -> os.stat_result:
            status = look(descriptor)
            if changes:
                (tmp_path / "a").write_bytes(changes.pop(0))
            os.utime(tmp_path / "a", (0, len(changes)))
            return status

        (tmp_path / "a").write_text("content")
        monkeypatch.setattr(os, "fstat", changed)
        with pytest.raises(ServiceUnavailable):
            FileResponse(tmp_path / "a")
        response = FileResponse(tmp_path / "a")
        assert response.body == b"else"
        monkeypatch.undo()
        assert header(response, "etag") == header(FileResponse(tmp_path / "a"), "etag")
