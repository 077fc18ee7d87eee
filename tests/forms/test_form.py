"""Forms of requests made by hand: fields and files, stored and streamed, within their bounds."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server import Form, Request, UploadedFile, post
from resource_server.errors import BadRequest, ContentTooLarge, UnsupportedMediaType
from resource_server.forms.upload import FILE_MEMORY
from resource_server.testing import TestClient
from resource_server.testing.content import make_content

if TYPE_CHECKING:
    from pathlib import Path

MULTIPART = "multipart/form-data; boundary=B"


class Wire(io.RawIOBase):
    """A body that comes in pieces, once, and tells how much of it has been read."""

    def __init__(self, body: bytes, piece: int = 1000) -> None:
        super().__init__()
        self.taken = 0
        self._body = body
        self._piece = piece

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self._piece, len(self._body) - self.taken)
        buffer[:size] = self._body[self.taken : self.taken + size]
        self.taken += size
        return size


def posted(body: bytes, content_type: str = MULTIPART, stream: Any = None) -> Request:
    return Request(
        ("192.0.2.1", 1),
        "POST",
        "/",
        headers={"Content-Type": content_type},
        stream=io.BytesIO(body) if stream is None else stream,
    )


def part(content: bytes, disposition: str = 'name="a"', *lines: str) -> bytes:
    head = "\r\n".join([f"Content-Disposition: form-data; {disposition}", *lines, "", ""])
    return b"--B\r\n" + head.encode() + content + b"\r\n"


def both(body: bytes, content_type: str = MULTIPART) -> list[Request]:
    """Return a request whose body is stored, and one whose body comes."""
    return [posted(body, content_type), posted(body, content_type, Wire(body))]


END = b"--B--\r\n"


class TestForm:
    def test_fields_and_files_by_name_and_in_order(self) -> None:
        body = (
            part(b"1")
            + part(b"f1", 'name="f"; filename="../x.txt"', "Content-Type: Text/X; y=z")
            + part("ü".encode(), 'name="b"')
            + part(b"2")
            + part(b"f2", 'name="f"; filename="y"')
            + END
        )
        for request in both(body):
            with request.form() as form:
                assert form == {"a": ["1", "2"], "b": ["ü"]}
                assert isinstance(form, Form)
                assert list(form.files) == ["f"]
                first, second = form.files["f"]
                assert [name for name, _ in form.entries] == ["a", "f", "b", "a", "f"]
                assert form.entries[1] == ("f", first)
                assert (first.name, first.safe_name) == ("../x.txt", "x.txt")
                assert (first.content_type, first.size) == ("text/x", 2)
                assert second.content_type == "application/octet-stream"
                assert (first.read(), second.read(), first.read()) == (b"f1", b"f2", b"f1")
                assert request.form() is form
                assert repr(first) == "<UploadedFile '../x.txt' of 2 bytes>"

    def test_a_body_that_is_stored_can_be_read_besides(self) -> None:
        body = part(b"content", 'name="f"; filename="f"') + END
        for first in ("form", "body"):
            request = posted(body)
            getattr(request, first)()
            (file,) = request.form().files["f"]
            assert request.body() == body
            assert file.read() == b"content"
            assert request.body() == body
        request = posted(b"", MULTIPART, io.BytesIO(b"12345" + body))
        request.stream.seek(5)
        (file,) = request.form().files["f"]
        assert file.read() == b"content"
        assert request.stream.read(7) == body[:7]
        assert file.read() == b"content"
        assert request.stream.read() == body[7:]

    def test_a_field_in_which_no_file_was_chosen_is_none(self) -> None:
        body = part(b"", 'name="f"; filename=""') + part(b"x", 'name="g"; filename=""') + END
        for request in both(body):
            with request.form() as form:
                assert list(form.files) == ["g"]
                assert form.files["g"][0].safe_name == "file"

    def test_the_encoding_of_fields(self) -> None:
        latin = part(b"\xe4", 'name="a"', "Content-Type: text/plain; charset=ISO-8859-1")
        assert posted(latin + END).form() == {"a": ["ä"]}
        named = part(b"windows-1252", 'name="_charset_"')
        form = posted(part(b"\x80") + named + latin + END).form()
        assert form == {"a": ["€", "ä"], "_charset_": ["windows-1252"]}

    @pytest.mark.parametrize(
        "body",
        [
            part(b"\xe4") + END,
            part(b"klingon", 'name="_charset_"') + END,
            part(b"\xff", 'name="_charset_"') + END,
            part(b"x"),
            b"",
            b"x",
        ],
    )
    def test_a_malformed_one_is_a_bad_request_each_time(self, body: bytes) -> None:
        for request in both(body):
            for _ in range(2):
                with pytest.raises(BadRequest):
                    request.form()

    def test_one_without_a_boundary_is_a_bad_request(self) -> None:
        with pytest.raises(BadRequest):
            posted(END, "multipart/form-data").form()

    @pytest.mark.parametrize("content_type", ["", "text/plain", "multipart/mixed; boundary=B"])
    def test_of_another_type_it_is_unsupported(self, content_type: str) -> None:
        with pytest.raises(UnsupportedMediaType):
            posted(END, content_type).form()
        with pytest.raises(UnsupportedMediaType):
            posted(END, content_type).parts()
        with pytest.raises(UnsupportedMediaType):
            posted(b"a=1", "application/x-www-form-urlencoded").parts()

    @pytest.mark.parametrize(
        ("bounds", "too_low"),
        [
            ({"max_parts": 4}, {"max_parts": 3}),
            # Names count, as they are kept.
            ({"max_field_bytes": 3000 + 6}, {"max_field_bytes": 3000 + 5}),
            ({"max_header_bytes": 55}, {"max_header_bytes": 54}),
            ({"max_bytes": 23_226}, {"max_bytes": 23_225}),
        ],
    )
    def test_the_bounds(self, bounds: dict[str, int], too_low: dict[str, int]) -> None:
        body = part(b"x" * 1000) * 3 + part(b"y" * 20_000, 'name="f"; filename="gh"') + END
        assert len(body) == 23_226
        for request in both(body):
            request.form(**bounds).close()
        for request in both(body):
            with pytest.raises(ContentTooLarge):
                request.form(**too_low)

    def test_many_fields_byte_by_byte(self) -> None:
        body = part(b"x" * 50_000) + END
        stream = Wire(body, 1)
        assert posted(body, MULTIPART, stream).form() == {"a": ["x" * 50_000]}
        stream = Wire(b"a=" + b"x" * 50_000, 1)
        request = posted(b"", "application/x-www-form-urlencoded", stream)
        assert request.form() == {"a": ["x" * 50_000]}
        assert request.body() == b"a=" + b"x" * 50_000

    def test_what_is_read_of_a_refused_form_is_bounded(self) -> None:
        body = part(b"x" * 10_000_000) + END
        stream = Wire(body, 65536)
        with pytest.raises(ContentTooLarge):
            posted(body, MULTIPART, stream).form(max_field_bytes=1000)
        assert stream.taken <= 65536
        stream = Wire(b"a=" + b"x" * 10_000_000, 65536)
        with pytest.raises(ContentTooLarge):
            posted(b"", "application/x-www-form-urlencoded", stream).form(max_bytes=1000)
        assert stream.taken <= 65536


class TestFiles:
    @pytest.mark.parametrize("size", [0, 1, FILE_MEMORY, FILE_MEMORY + 1, 1_000_000])
    def test_a_file_is_a_file(self, size: int) -> None:
        content = os.urandom(size)
        body = part(b"-" * 10, 'name="g"; filename="g"')
        body += part(content, 'name="f"; filename="f"') + END
        for request in both(body):
            with request.form() as form:
                uploaded = form.files["f"][0]
                file = uploaded.file
                assert file is uploaded.file
                assert file.seekable()
                assert file.read(10) == content[:10]
                assert form.files["g"][0].read() == b"-" * 10
                assert file.read() == content[10:]
                assert file.read() == b""
                assert file.seek(-min(5, size), os.SEEK_END) == max(0, size - 5)
                assert file.read() == content[-5:]
                file.seek(size + 100)
                assert file.read(1) == b""
                file.seek(0)
                assert list(file) == io.BytesIO(content).readlines()
                with pytest.raises((OSError, ValueError)):
                    file.seek(-1)

    def test_large_ones_need_one_descriptor_together(self) -> None:
        one = part(b"x" * 100_000, 'name="f"; filename="f"')
        request = posted(b"", MULTIPART, Wire(one * 20 + END, 65536))
        before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc") else set()
        with request.form() as form:
            if before:
                assert len(os.listdir("/proc/self/fd")) <= len(before) + 1
            assert {file.read() for file in form.files["f"]} == {b"x" * 100_000}
        with pytest.raises(ValueError, match="closed"):
            form.files["f"][0].read()

    def test_a_refused_form_leaves_no_file_open(self) -> None:
        body = part(b"x" * 100_000, 'name="f"; filename="f"')
        with pytest.raises(BadRequest):
            posted(b"", MULTIPART, Wire(body)).form()

    def test_a_body_that_has_been_cut_short_is_noticed(self, tmp_path: Path) -> None:
        stream = io.BytesIO(part(b"x" * 1000, 'name="f"; filename="f"') + END)
        (file,) = posted(b"", MULTIPART, stream).form().files["f"]
        stream.truncate(100)
        with pytest.raises(OSError, match="cut short"):
            file.save(tmp_path)
        assert os.listdir(tmp_path) == []


def uploaded(name: str = "a.txt", content: bytes = b"new") -> UploadedFile:
    body = part(content, f'name="f"; filename="{name}"') + END
    return posted(body).form().files["f"][0]


class TestSaving:
    def test_under_its_safe_name(self, tmp_path: Path) -> None:
        content = os.urandom(600_000)
        path = uploaded("../../a.txt", content).save(tmp_path)
        assert path == str(tmp_path / "a.txt")
        assert (tmp_path / "a.txt").read_bytes() == content
        assert os.listdir(tmp_path) == ["a.txt"]

    def test_nothing_is_replaced_unasked(self, tmp_path: Path) -> None:
        (tmp_path / "a.txt").write_text("old")
        with pytest.raises(FileExistsError):
            uploaded().save(tmp_path)
        assert (tmp_path / "a.txt").read_text() == "old"
        assert uploaded().save(str(tmp_path), overwrite=True, sync=True) == str(tmp_path / "a.txt")
        assert (tmp_path / "a.txt").read_text() == "new"
        assert os.listdir(tmp_path) == ["a.txt"]

    def test_under_a_name_of_the_application(self, tmp_path: Path) -> None:
        assert uploaded().save(tmp_path, "b") == str(tmp_path / "b")
        for name in ("", ".", "..", "a/b", "/a", "a\0"):
            with pytest.raises(ValueError, match="plain"):
                uploaded().save(tmp_path, name)
        assert os.listdir(tmp_path) == ["b"]

    def test_only_into_a_directory(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            uploaded().save(tmp_path / "missing")


class TestParts:
    def test_one_by_one_as_they_are_read(self) -> None:
        body = part(b"1") + part(b"x" * 300_000, 'name="f"; filename="f"', "X: y") + END + b"more"
        stream = Wire(body, 100)
        parts = posted(b"", MULTIPART, stream).parts()
        first = next(parts)
        assert (first.name, first.filename, first.content_type) == ("a", None, "text/plain")
        assert repr(first) == "<Part 'a'>"
        assert first.read() == b"1"
        assert first.read() == b""
        second = next(parts)
        assert (second.filename, second.headers["x"]) == ("f", "y")
        assert stream.taken <= 400
        assert second.read(0) == b""
        assert 0 < len(second.read(10)) <= 10
        assert stream.taken <= 400
        assert next(parts, None) is None
        assert stream.taken == len(body), "the connection can be used again"
        assert next(parts, None) is None

    def test_what_is_not_read_is_skipped(self) -> None:
        body = b"".join(part(b"x" * 1000, f'name="{n}"') for n in range(5)) + END
        for request in both(body):
            seen = []
            for each in request.parts():
                seen.append(each.name)
                if each.name == "1":
                    assert each.read(3) == b"xxx"
                    assert set(next(each)) == set(b"x")
            assert seen == ["0", "1", "2", "3", "4"]

    def test_pieces_make_the_whole(self) -> None:
        content = b"\r\n--" * 1000
        for request in both(part(content) + END):
            (joined,) = (b"".join(each) for each in request.parts())
            assert joined == content
        for request in both(part(content) + END):
            for each in request.parts():
                pieces = []
                while piece := each.read(7):
                    assert len(piece) <= 7
                    pieces.append(piece)
                assert b"".join(pieces) == content

    def test_the_bounds(self) -> None:
        body = part(b"x" * 1000) * 3 + END
        for bounds in ({"max_parts": 2}, {"max_header_bytes": 10}, {"max_bytes": 3000}):
            for request in both(body):
                parts = request.parts(**bounds)
                with pytest.raises(ContentTooLarge):
                    list(parts)

    def test_a_part_that_is_cut_is_a_bad_request(self) -> None:
        for request in both(part(b"x" * 1000)[:-5]):
            (each,) = [next(request.parts())]
            with pytest.raises(BadRequest):
                each.read()


def test_in_the_test_client_files_are_gone_with_the_response() -> None:
    kept: list[Form] = []

    @post("/", stream=True)
    def upload(request: Request) -> str:
        kept.append(request.form())
        return kept[0].files["f"][0].read().decode()

    content = "x" * (FILE_MEMORY + 1)
    response = TestClient(upload).post("/", form={"a": "1"}, files={"f": ("f.txt", content)})
    assert response.text == content
    with pytest.raises(ValueError, match="closed"):
        kept[0].files["f"][0].read()


texts = st.text(st.characters(codec="utf-8"), max_size=30)


@given(
    form=st.lists(st.tuples(texts, texts), max_size=5),
    files=st.lists(st.tuples(texts, texts, st.binary(max_size=300)), max_size=5),
    piece=st.integers(1, 500),
)
def test_what_the_test_client_sends_is_what_a_form_holds(
    form: list[tuple[str, str]], files: list[tuple[str, str, bytes]], piece: int
) -> None:
    plain = st_plain(form, files)
    content = make_content(form=form, files=[(name, (file, data)) for name, file, data in files])
    for stream in (io.BytesIO(content.body), Wire(content.body, piece)):
        request = posted(b"", content.content_type, stream)
        if not plain:
            # Only quotes and line ends can be escaped; other controls cannot be sent in names.
            with pytest.raises(BadRequest):
                request.form()
            continue
        with request.form() as read:
            fields = [(name, value) for name, value in read.entries if isinstance(value, str)]
            assert fields == form
            found = [
                (name, file.name, file.read()) for name, each in read.files.items() for file in each
            ]
            wanted = [(name, file, data) for name, file, data in files if file or data]
            assert sorted(found) == sorted(wanted)


def st_plain(form: list[tuple[str, str]], files: list[tuple[str, str, bytes]]) -> bool:
    """Tell whether all names are of characters that a name can be sent with."""
    names = [name for name, _ in form] + [name for name, _, _ in files]
    names += [file for _, file, _ in files]
    text = "".join(names)
    return not any((ord(c) < 32 and c not in "\r\n\t") or ord(c) == 127 for c in text)
