"""What a request carries, and how often it can be carried."""

from __future__ import annotations

import gzip
import io
import os
from typing import TYPE_CHECKING, Any

import pytest

from resource_server.client.payload import PIECE, Payload

if TYPE_CHECKING:
    from pathlib import Path


class Message:
    def dumpb(self) -> bytes:
        return b"dumped"


class Untold:
    """A file that does not tell where it is."""

    def __init__(self, content: bytes) -> None:
        self._file = io.BytesIO(content)

    def read(self, size: int) -> bytes:
        return self._file.read(size)


def sent(payload: Payload) -> bytes:
    return b"".join(payload.pieces())


class TestPayload:
    def test_a_serializable(self) -> None:
        payload = Payload(Message())
        assert (sent(payload), payload.content_type) == (b"dumped", "application/x-serializable")

    def test_large_content_is_sent_in_pieces_each_time(self) -> None:
        content = os.urandom(PIECE * 2 + 1)
        for value in (content, io.BytesIO(content)):
            payload = Payload(value)
            assert payload.repeatable
            assert payload.length == len(content)
            for _ in range(2):
                assert [len(piece) for piece in payload.pieces()] == [PIECE, PIECE, 1]
                assert sent(payload) == content

    def test_large_pieces_of_an_iterator_are_cut(self) -> None:
        payload = Payload(iter([bytes(PIECE + 1), "x"]))
        assert [len(piece) for piece in payload.pieces()] == [PIECE, 1, 1]
        assert (payload.repeatable, payload.length) == (False, None)

    def test_a_list_of_pieces_is_json_but_a_generator_is_none(self) -> None:
        assert sent(Payload(["a"])) == b'["a"]'
        assert sent(Payload(piece for piece in ["a"])) == b"a"

    def test_a_compressed_file_is_as_long_as_what_is_in_it(self, tmp_path: Path) -> None:
        content = bytes(PIECE * 2)
        (tmp_path / "file.gz").write_bytes(gzip.compress(content))
        with gzip.open(tmp_path / "file.gz") as file:
            payload = Payload(file)
            assert payload.length in (len(content), None)
            assert sent(payload) == content

    def test_a_file_that_does_not_tell_where_it_is(self) -> None:
        payload = Payload(Untold(b"content"))
        assert (payload.repeatable, payload.length) == (False, None)
        assert sent(payload) == b"content"

    def test_a_pipe_has_no_length(self) -> None:
        reading, writing = os.pipe()
        os.write(writing, b"piped")
        os.close(writing)
        with os.fdopen(reading, "rb") as file:
            payload = Payload(file)
            assert (payload.repeatable, payload.length) == (False, None)
            assert sent(payload) == b"piped"

    def test_a_device_has_no_length(self) -> None:
        with open(os.devnull, "rb") as file:
            assert Payload(file).length is None

    def test_a_file_without_a_descriptor_or_an_end(self) -> None:
        class Odd(io.BytesIO):
            def seek(self, offset: int, whence: int = 0, /) -> int:
                raise OSError("no")

        assert Payload(Odd(b"x")).length is None

    def test_text_files_are_sent_from_where_they_are_each_time(self, tmp_path: Path) -> None:
        path = tmp_path / "text"
        path.write_text("ä\nb\n", encoding="utf-8")
        with path.open(encoding="utf-8") as file:
            file.readline()
            payload = Payload(file)
            assert (payload.length, payload.content_type) == (None, "text/plain; charset=utf-8")
            assert [sent(payload), sent(payload)] == [b"b\n", b"b\n"]

    def test_a_file_that_shrinks_is_an_error(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(bytes(100))
        with path.open("rb") as file:
            payload = Payload(file)
            os.truncate(path, 40)
            with pytest.raises(ValueError, match="60 bytes before"):
                sent(payload)

    def test_a_file_that_grows_is_sent_as_long_as_it_was(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(bytes(100))
        with path.open("rb") as file:
            payload = Payload(file)
            with path.open("ab") as more:
                more.write(b"more")
            assert sent(payload) == bytes(100)

    @pytest.mark.parametrize("piece", [1, None, ["x"]])
    def test_other_pieces_are_an_error(self, piece: Any) -> None:
        with pytest.raises(TypeError, match="bytes or str"):
            sent(Payload(iter([piece])))
