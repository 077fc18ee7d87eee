"""multipart/form-data as bytes come in: the same events however they are cut."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server.errors import BadRequest, ContentTooLarge, HTTPError, UnsupportedMediaType
from resource_server.forms.multipart import (
    MAX_PADDING,
    Mark,
    MultipartParser,
    PartHead,
    boundary_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

NAMED = b'Content-Disposition: form-data; name="a"\r\n'
#: name, file name and content of each part
Parsed = list[tuple[str, str | None, bytes]]


def pieces_of(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def fed(
    pieces: Iterable[bytes], boundary: str = "B", max_parts: int = 10, max_header_bytes: int = 500
) -> Parsed:
    """Return the parts of a form that comes in pieces."""
    parser = MultipartParser(boundary, max_parts=max_parts, max_header_bytes=max_header_bytes)
    parts: Parsed = []
    open_part = ended = False
    received = b""
    for piece in pieces:
        received += piece
        parser.receive(piece)
        while (event := parser.next_event()) is not None:
            assert not ended
            if isinstance(event, PartHead):
                assert not open_part
                open_part = True
                parts.append((event.name, event.filename, b""))
            elif isinstance(event, bytes):
                assert open_part
                assert event
                assert received[parser.offset : parser.offset + len(event)] == event
                parts[-1] = (*parts[-1][:2], parts[-1][2] + event)
            elif event is Mark.PART_END:
                assert open_part
                open_part = False
            else:
                ended = True
    parser.end()
    assert ended
    assert not open_part
    return parts


def parsed(body: bytes, **options: int) -> Parsed:
    """Return the parts of a form, or raise what refuses it: the same whole, in pieces or bytes."""
    results: list[Parsed | type[HTTPError]] = []
    failure: HTTPError | None = None
    for size in (max(1, len(body)), 1, 2, 3, 7, 61):
        try:
            results.append(fed(pieces_of(body, size), **options))  # type: ignore[arg-type]
        except HTTPError as error:
            failure = error
            results.append(type(error))
    assert all(result == results[0] for result in results)
    if failure is not None:
        raise failure
    assert isinstance(results[0], list)
    return results[0]


def part(content: bytes = b"x", head: bytes = NAMED) -> bytes:
    return b"--B\r\n" + head + b"\r\n" + content + b"\r\n"


END = b"--B--\r\n"


class TestParts:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"x",
            b"\r\n",
            b"\r\n" * 100,
            b"\r",
            b"\r\r\r\n-",
            b"\r\n-",
            b"\r\n--",
            b"\r\n--\r\n--b\r\n--C--",
            b"--B",
            b"-\r\n--A",
            b"\n--B--",
            b"\r--B--",
            b"\0" * 300,
        ],
    )
    def test_the_content_is_everything_up_to_the_delimiter(self, content: bytes) -> None:
        if content == b"--B":
            # It would be the delimiter of a part without content.
            with pytest.raises(BadRequest):
                parsed(part(content) + END)
            return
        form = part(content) + part(b"behind") + END
        assert parsed(form) == [("a", None, content), ("a", None, b"behind")]

    def test_no_part_at_all(self) -> None:
        assert parsed(b"--B--") == []

    def test_what_stands_before_and_behind_means_nothing(self) -> None:
        once = [("a", None, b"x")]
        assert parsed(b"preamble\r\n--A\r\n" + part() + END) == once
        assert parsed(part() + b"--B--") == once
        assert parsed(part() + END + b"epilogue\r\n" + part() + END) == once
        assert parsed(part() + b"--B--anything") == once

    def test_a_first_delimiter_has_to_begin_a_line(self) -> None:
        with pytest.raises(BadRequest):
            parsed(b"preamble" + part() + END)
        with pytest.raises(BadRequest):
            parsed(b"\n" + part() + END)

    def test_a_part_without_content_needs_no_empty_line_of_its_own(self) -> None:
        assert parsed(b"--B\r\n" + NAMED + b"\r\n--B--") == [("a", None, b"")]

    def test_whitespace_behind_a_delimiter_is_ignored(self) -> None:
        padding = b" \t" * (MAX_PADDING // 2)
        assert parsed(b"--B" + padding + b"\r\n" + NAMED + b"\r\nx\r\n--B--") == [("a", None, b"x")]
        with pytest.raises(BadRequest):
            parsed(b"--B" + padding + b" \r\n" + NAMED + b"\r\nx\r\n--B--")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\r\n",
            b"--B",
            b"--B-",
            b"--B\r\n",
            b"--Bx\r\n",
            b"--B-\r\n",
            b"--B\n" + NAMED + b"\r\nx\r\n" + END,
            part(),
            part() + b"--B-",
            part() + b"\r\n--B-x",
            part() + b"--BB\r\n" + NAMED,
            part()[:-2],
            b"--B\r\n" + NAMED,
            b"--b--",
        ],
    )
    def test_a_malformed_or_unfinished_form_is_refused(self, body: bytes) -> None:
        with pytest.raises(BadRequest):
            parsed(body)

    def test_their_number_is_bounded(self) -> None:
        assert len(parsed(part() * 10 + END)) == 10
        with pytest.raises(ContentTooLarge):
            parsed(part() * 11 + END)


class TestHeaderSections:
    @pytest.mark.parametrize(
        ("disposition", "name", "filename"),
        [
            ('form-data; name="a"', "a", None),
            ("form-data; name=a", "a", None),
            ('Form-Data;name="a";filename=""', "a", ""),
            ('form-data; name=""', "", None),
            ('form-data; name="a"; filename="b c.txt"', "a", "b c.txt"),
            # Chromium and Firefox: letters as they are, three characters escaped by percent.
            ('form-data; name="ä"; filename="日本.txt"', "ä", "日本.txt"),
            ('form-data; name="a%22b"; filename="c%0D%0Ad%20e%"', 'a"b', "c\r\nd%20e%"),
            (r'form-data; name="a\b"; filename="C:\dir\f.txt"', r"a\b", r"C:\dir\f.txt"),
            ('form-data; name="a\\"; filename="b\\"', "a\\", "b\\"),
            # Older clients: a backslash before quotes and backslashes.
            (r'form-data; name="a\"b\\c"; filename="d"', 'a"b\\c', "d"),
            # RFC 7578 §4.2: filename* must not be used, and means nothing.
            ("form-data; name=a; filename*=UTF-8''evil.txt", "a", None),
            ("form-data; name=a; filename*=UTF-8''evil.txt; filename=b", "a", "b"),
            ('form-data; x="; filename=evil"; name="a"', "a", None),
            ('form-data; name="a";', "a", None),
            ('form-data ; name = "a" ; x=y', "a", None),
        ],
    )
    def test_names_as_clients_send_them(
        self, disposition: str, name: str, filename: str | None
    ) -> None:
        head = f"Content-Disposition: {disposition}\r\n".encode()
        assert parsed(part(head=head) + END) == [(name, filename, b"x")]

    @pytest.mark.parametrize(
        "head",
        [
            b"",
            b"Content-Type: text/plain\r\n",
            b"Content-Disposition: form-data\r\n",
            b"Content-Disposition:\r\n",
            b'Content-Disposition: attachment; name="a"\r\n',
            b'Content-Disposition: form-data; filename="a"\r\n',
            b'Content-Disposition: form-data; name="a"; name="b"\r\n',
            b'Content-Disposition: form-data; name="a"; NAME="b"\r\n',
            b'Content-Disposition: form-data; name="a\r\n',
            b'Content-Disposition: form-data; name="a"b"\r\n',
            b'Content-Disposition: form-data; name="a" filename="b"\r\n',
            b'Content-Disposition: form-data, name="a"\r\n',
            b'Content-Disposition: form-data; name="\xff"\r\n',
            b'Content-Disposition: form-data; name="a\0"\r\n',
            b'Content-Disposition: form-data; name="a\rb"\r\n',
            b'Content-Disposition: form-data; name="a\nb"\r\n',
            b'Content-Disposition: form-data; name="a\x7f"\r\n',
            b'Content-Disposition: form-data;\r\n name="a"\r\n',
            b'Content-Disposition : form-data; name="a"\r\n',
            b"no colon\r\n" + NAMED,
            b": no name\r\n" + NAMED,
            b" folded\r\n" + NAMED,
            NAMED + NAMED,
            NAMED + b"Content-Type: a/b\r\nContent-Type: a/b\r\n",
            NAMED + b"Content-Type: text/plain; charset=klingon\r\n",
        ],
    )
    def test_a_malformed_one_is_refused(self, head: bytes) -> None:
        with pytest.raises(BadRequest):
            parsed(part(head=head) + END)

    def test_a_transfer_encoding_is_not_undone(self) -> None:
        for plain in (b"7bit", b"8BIT", b"binary "):
            parsed(part(head=NAMED + b"Content-Transfer-Encoding: " + plain + b"\r\n") + END)
        with pytest.raises(UnsupportedMediaType):
            parsed(part(head=NAMED + b"Content-Transfer-Encoding: base64\r\n") + END)

    def test_other_fields_are_ignored(self) -> None:
        head = NAMED + b"Content-Length: 99999\r\nX-Y:\r\n"
        assert parsed(part(head=head) + END) == [("a", None, b"x")]

    def test_its_length_is_bounded(self) -> None:
        spare = 500 - len(NAMED) - len(b"X: \r\n") + 2
        longest = NAMED + b"X: " + b"x" * spare + b"\r\n"
        assert parsed(part(head=longest) + END) == [("a", None, b"x")]
        with pytest.raises(ContentTooLarge):
            parsed(part(head=NAMED + b"X: " + b"x" * (spare + 1) + b"\r\n") + END)

    def test_an_endless_one_is_refused_before_it_ends(self) -> None:
        parser = MultipartParser("B", max_parts=1, max_header_bytes=1000)
        parser.receive(b"--B\r\nX: ")
        for _ in range(5):
            assert parser.next_event() is None
            parser.receive(b"x" * 200)
        parser.receive(b"x")
        with pytest.raises(ContentTooLarge):
            parser.next_event()

    @pytest.mark.parametrize(
        ("media_type", "filename", "kind", "charset"),
        [
            (None, False, "text/plain", ""),
            (None, True, "application/octet-stream", ""),
            ("Text/HTML; Charset=UTF-8", False, "text/html", "utf-8"),
            ("anything goes; really", True, "anything goes", ""),
        ],
    )
    def test_the_type(
        self, media_type: str | None, filename: bool, kind: str, charset: str
    ) -> None:
        head = 'Content-Disposition: form-data; name="a"' + '; filename="f"' * filename + "\r\n"
        if media_type is not None:
            head += f"Content-Type: {media_type}\r\n"
        parser = MultipartParser("B", max_parts=1, max_header_bytes=1000)
        parser.receive(part(head=head.encode()))
        event = parser.next_event()
        assert isinstance(event, PartHead)
        assert (event.content_type, event.charset) == (kind, charset)
        assert event.headers["content-disposition"].startswith("form-data")


class TestBoundary:
    @pytest.mark.parametrize(
        ("value", "boundary"),
        [
            ("multipart/form-data; boundary=abc", "abc"),
            ('multipart/form-data; charset=x; boundary="a b?c"', "a b?c"),
            ("multipart/form-data; boundary=" + "x" * 70, "x" * 70),
            (
                "multipart/form-data;boundary=----WebKitFormBoundaryAbC1",
                "----WebKitFormBoundaryAbC1",
            ),
        ],
    )
    def test_valid(self, value: str, boundary: str) -> None:
        assert boundary_of(value) == boundary

    @pytest.mark.parametrize(
        "value",
        [
            "multipart/form-data",
            "multipart/form-data; boundary",
            "multipart/form-data; boundary=",
            'multipart/form-data; boundary=""',
            'multipart/form-data; boundary="a "',
            'multipart/form-data; boundary="a\tb"',
            'multipart/form-data; boundary="ä"',
            'multipart/form-data; boundary="a;b"',
            'multipart/form-data; boundary="a',
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/form-data; boundary=" + "x" * 71,
        ],
    )
    def test_invalid(self, value: str) -> None:
        with pytest.raises(BadRequest):
            boundary_of(value)

    def test_one_that_begins_another(self) -> None:
        body = b"--Bx\r\n" + NAMED + b"\r\n\r\n--B\r\n\r\n--Bx--"
        assert fed([body], boundary="Bx") == [("a", None, b"\r\n--B\r\n")]


names = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters='"%\\'))
contents = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from([b"\r", b"\n", b"-", b"--", b"\r\n--", b"B", b"x"])).map(b"".join),
)
parts_of_forms = st.lists(st.tuples(names, st.none() | names, contents), max_size=6)


@given(parts_of_forms, st.lists(st.integers(1, 40), min_size=1, max_size=50))
def test_any_form_is_read_as_it_was_written(parts: Parsed, sizes: list[int]) -> None:
    boundary = "Bx0"
    body = b"\r\n" if parts else b""
    for name, filename, content in parts:
        if f"--{boundary}".encode() in content:
            return
        file = "" if filename is None else f'; filename="{filename}"'
        body += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}'.encode()
        body += b"\r\n\r\n" + content + b"\r\n"
    body += f"--{boundary}--".encode()
    pieces: list[bytes] = []
    at = 0
    while at < len(body):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(body[at : at + size])
        at += size
    assert fed(pieces, boundary, max_header_bytes=100_000) == parts


@given(st.binary(max_size=400), st.integers(1, 50))
def test_whatever_comes_is_read_the_same_in_pieces_or_refused(body: bytes, size: int) -> None:
    def result(pieces: list[bytes]) -> object:
        try:
            return fed(pieces)
        except HTTPError as error:
            return type(error)

    assert result([part() + body]) == result(pieces_of(part() + body, size))


class TestAbuse:
    """Each byte is looked at a fixed number of times: what grows with the square takes minutes."""

    LIMIT = 20.0

    @pytest.mark.parametrize(
        "unit",
        [
            b"\r\n",
            b"\r",
            b"\r\n--",
            b"\r\n--" + b"B" * 30,
            b"-",
            b"x",
            b"\r\n--B ",
        ],
    )
    @pytest.mark.parametrize(("total", "size"), [(4_000_000, 65536), (200_000, 7)])
    def test_what_looks_like_a_delimiter(self, unit: bytes, total: int, size: int) -> None:
        body = unit * (total // len(unit))
        head = b"--" + b"B" * 31 + b"\r\n" + NAMED + b"\r\n"
        end = b"\r\n--" + b"B" * 31 + b"--"
        started = time.monotonic()
        ((_, _, content),) = fed_counted([head, *pieces_of(body, size), end], "B" * 31)
        assert content == len(body)
        assert time.monotonic() - started < self.LIMIT

    def test_very_many_parts(self) -> None:
        started = time.monotonic()
        body = part() * 10_000 + END
        assert len(fed_counted([body], "B", max_parts=10_000)) == 10_000
        with pytest.raises(ContentTooLarge):
            fed_counted([body], "B", max_parts=1000)
        assert time.monotonic() - started < self.LIMIT

    @pytest.mark.parametrize(
        "value",
        [
            b"form-data" + b";" * 8000,
            b"form-data" + b"; " * 4000,
            b'form-data; name="' + b'\\"' * 4000,
            b'form-data; name="' + b'\\" ' * 2600,
            b"form-data; a" + b" " * 8000,
            b"form-data; " + b"a" * 8000,
            b'form-data; name="' + b"\\" * 8000 + b'"x',
            b"form-data" + b" " * 8000,
        ],
    )
    def test_header_sections(self, value: bytes) -> None:
        started = time.monotonic()
        section = b"--B\r\nContent-Disposition: " + value + b"\r\n\r\n"
        for _ in range(50):
            with pytest.raises(BadRequest):
                fed([section], max_header_bytes=9000)
        assert time.monotonic() - started < self.LIMIT


def fed_counted(
    pieces: list[bytes], boundary: str, max_parts: int = 10
) -> list[tuple[str, str | None, int]]:
    """Return name, file name and length of each part, in time that grows with the form alone."""
    parser = MultipartParser(boundary, max_parts=max_parts, max_header_bytes=500)
    parts: list[tuple[str, str | None, int]] = []
    for piece in pieces:
        parser.receive(piece)
        while (event := parser.next_event()) is not None:
            if isinstance(event, PartHead):
                parts.append((event.name, event.filename, 0))
            elif isinstance(event, bytes):
                parts[-1] = (*parts[-1][:2], parts[-1][2] + len(event))
    parser.end()
    return parts
