from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server.files.disposition import content_disposition

ANY_TEXT = st.text(st.characters(exclude_categories=()))


class TestContentDisposition:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("", "attachment"),
            ("a.txt", 'attachment; filename="a.txt"'),
            ("my file (1).txt", 'attachment; filename="my file (1).txt"'),
            ("naïve.txt", "attachment; filename=\"na_ve.txt\"; filename*=UTF-8''na%C3%AFve.txt"),
            ("€", "attachment; filename=\"_\"; filename*=UTF-8''%E2%82%AC"),
            ('a"b', "attachment; filename=\"a_b\"; filename*=UTF-8''a%22b"),
            ("50%41.txt", "attachment; filename=\"50_41.txt\"; filename*=UTF-8''50%2541.txt"),
            ("../../etc/passwd", 'attachment; filename=".._.._etc_passwd"'),
            ("..\\a", 'attachment; filename=".._a"'),
            (
                "a\r\nSet-Cookie: x",
                "attachment; filename=\"a__Set-Cookie_ x\"; filename*=UTF-8''a__Set-Cookie%3A%20x",
            ),
            ("\0\x7f\x85\ud800", 'attachment; filename="____"'),
        ],
        ids=ascii,
    )
    def test_value(self, name: str, value: str) -> None:
        assert content_disposition(name) == value

    @given(ANY_TEXT)
    def test_no_name_ends_the_parameter(self, name: str) -> None:
        value = content_disposition(name)
        assert value.isascii()
        assert value.isprintable()
        assert value.count('"') in (0, 2)
