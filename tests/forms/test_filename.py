"""Safe names: whatever a client sends, the result is one plain name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server import path_join_safe
from resource_server.forms.filename import MAX_SAFE_NAME, safe_file_name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("a.txt", "a.txt"),
        ("Grüße 日本.tar.gz", "Grüße 日本.tar.gz"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("C:\\fakepath\\a.txt", "a.txt"),
        ("C:a.txt", "C_a.txt"),
        ("\\\\server\\share\\a", "a"),
        ("/", "file"),
        ("", "file"),
        (".", "file"),
        ("..", "file"),
        ("...", "file"),
        (" . .", "file"),
        ("a/..", "file"),
        (".htaccess", "htaccess"),
        ("..a..", "a"),
        ("\u200b.htaccess", "htaccess"),
        ("a/", "a"),
        ("a.txt ", "a.txt"),
        ("a.txt...", "a.txt"),
        ("con", "_con"),
        ("CON.txt", "_CON.txt"),
        ("nul .txt", "_nul .txt"),
        ("COM¹", "_COM¹"),
        ("lpt9.a.b", "_lpt9.a.b"),
        (".con", "_con"),
        ("console.txt", "console.txt"),
        ("a\0b\r\nc\x1bd\x7f\x85", "abcd"),
        ('a<b>c:d"e|f?g*h', "a_b_c_d_e_f_g_h"),
        ("x::$DATA", "x__$DATA"),
        ("photo\u202egpj.exe", "photogpj.exe"),
        ("\ud800a", "a"),
        ("~", "~"),
        ("-rf", "-rf"),
        ("%2e%2e%2fa", "%2e%2e%2fa"),
    ],
)
def test_a_safe_name(name: str, safe: str) -> None:
    assert safe_file_name(name) == safe


def test_a_long_name_keeps_its_extension() -> None:
    assert safe_file_name("é" * 300 + ".jpeg") == "é" * 97 + ".jpeg"
    assert safe_file_name("x" * 300) == "x" * MAX_SAFE_NAME
    assert safe_file_name("x" + "." + "y" * 300) == ("x." + "y" * 300)[:MAX_SAFE_NAME]


@given(st.text(st.characters(), max_size=400))
def test_every_name_is_plain_and_stays_so(name: str) -> None:
    safe = safe_file_name(name)
    assert safe
    assert len(safe.encode()) <= MAX_SAFE_NAME
    assert not safe.startswith(".")
    assert "/" not in safe
    assert path_join_safe("/srv", safe) == f"/srv/{safe}"
    assert safe_file_name(safe) == safe


@given(st.text(st.sampled_from("./\\: ~conNUL1¹\x00\u202e%é"), max_size=300))
def test_every_name_of_an_attack_is_plain(name: str) -> None:
    test_every_name_is_plain_and_stays_so.hypothesis.inner_test(name)  # type: ignore[attr-defined]
