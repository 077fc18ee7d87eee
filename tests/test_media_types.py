from __future__ import annotations

import re
import subprocess
import sys

import pytest

from resource_server import media_types
from resource_server.media_types import DEFAULT_TYPE, content_type_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("INDEX.HTM", "text/html; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("app.mjs", "text/javascript; charset=utf-8"),
        ("style.css", "text/css; charset=utf-8"),
        ("notes.txt", "text/plain; charset=utf-8"),
        ("main.py", "text/plain; charset=utf-8"),
        ("data.json", "application/json"),
        ("feed.xml", "application/xml"),
        ("code.wasm", "application/wasm"),
        ("drawing.svg", "image/svg+xml"),
        ("photo.JPEG", "image/jpeg"),
        ("film.mp4", "video/mp4"),
        ("piece.ts", "video/mp2t"),
        ("list.m3u8", "application/vnd.apple.mpegurl"),
        ("song.mp3", "audio/mpeg"),
        ("font.woff2", "font/woff2"),
        ("backup.tar.gz", "application/gzip"),
        ("page.html.exe", "application/vnd.microsoft.portable-executable"),
    ],
)
def test_type_follows_the_last_extension(name: str, expected: str) -> None:
    assert content_type_of(name) == expected


@pytest.mark.parametrize("name", ["", "noextension", "x.", "x.unheard-of", ".html", "dir.html/x"])
def test_unknown_names_are_octet_streams(name: str) -> None:
    assert content_type_of(name) == DEFAULT_TYPE


@pytest.mark.parametrize("name", ["README", "a/b/LICENSE", "a\\b\\Makefile"])
def test_well_known_names_without_extension_are_text(name: str) -> None:
    assert content_type_of(name) == "text/plain; charset=utf-8"


def test_the_table_is_well_formed() -> None:
    seen: set[str] = set()
    for media_type, extensions in media_types._EXTENSIONS_OF_TYPE.items():
        assert re.fullmatch(r"[a-z]+/[a-z0-9.+-]+", media_type)
        for extension in extensions.split():
            assert re.fullmatch(r"[a-z0-9]+", extension)
            assert extension not in seen, f"{extension} stands twice in the table"
            seen.add(extension)


def test_the_tables_of_the_system_are_not_used() -> None:
    code = "import sys, resource_server.media_types; sys.exit('mimetypes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
