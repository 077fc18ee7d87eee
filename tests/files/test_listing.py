from __future__ import annotations

import base64
import hashlib
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes, urljoin

import pytest

from resource_server.files import listing
from resource_server.files.listing import (
    Entry,
    Order,
    content_security_policy,
    format_size,
    read_directory,
    render_listing,
)


def look(entry: os.DirEntry[str]) -> os.stat_result:
    return entry.stat()


VOID = {"meta", "link", "br"}


class Page(HTMLParser):
    """Collects links and text, and insists that every element is closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.metas: list[dict[str, str | None]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "meta":
            self.metas.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "a":
            assert [name for name, _ in attrs] == ["href"]
            self.links.append((attrs[0][1] or "", ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "bdi" in self.open and "a" in self.open:
            href, text = self.links[-1]
            self.links[-1] = (href, text + data)


def one(name: str, *, is_directory: bool = False, size: int = 1, modified: float = 0.0) -> Entry:
    return Entry(name, is_directory, size, modified)


HOSTILE = [
    "<script>alert(1)</script>",
    "</style><script>x",
    '" onmouseover="alert(1)',
    "' onclick='x",
    "a&b&amp;c",
    "javascript:alert(1)",
    "data:text/html,x",
    "a:b",
    "//evil.example",
    "\\\\evil.example",
    "?query",
    "#fragment",
    "100%",
    "%2e%2e",
    "{title}{0}",
    " spaces ",
    "new\nline\r\n",
    "\x1b[31mred",
    "undecodable-\udcff\udc80",
    "日本語 😀",
    "\u202egnp.exe",
    "-->",
    "..",
]


@pytest.mark.skipif(sys.platform == "win32", reason="surrogates are encoded differently")
@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
@pytest.mark.parametrize("is_directory", [False, True])
def test_link_leads_to_the_name_and_nowhere_else(name: str, is_directory: bool) -> None:
    page = Page(render_listing([], [one(name, is_directory=is_directory)]))
    *sorting, (href, text) = page.links
    assert len(sorting) == 3
    assert href.startswith("./")
    assert re.fullmatch(r"[A-Za-z0-9./%_~-]+", href)
    assert href.endswith("/") is is_directory
    assert unquote_to_bytes(href[2:].removesuffix("/")) == os.fsencode(name)
    if name != "..":
        target = urljoin("http://host/prefix/", href)
        assert target.startswith("http://host/prefix/")
    assert "script" not in page.tags
    shown = re.sub("[\x00-\x1f\x7f-\x9f]", "\ufffd", os.fsencode(name).decode(errors="replace"))
    assert text == shown + ("/" if is_directory else "")


@pytest.mark.skipif(sys.platform == "win32", reason="surrogates are encoded differently")
@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_title_and_breadcrumbs_are_escaped(name: str) -> None:
    html = render_listing([name, "below"], [])
    page = Page(html)
    assert page.tags.count("title") == page.tags.count("style") == 1
    assert "script" not in page.tags
    assert [href for href, _ in page.links] == ["../../", "../", "../"]
    html.encode()


def test_breadcrumbs_are_relative_and_name_each_level() -> None:
    page = Page(render_listing(["a", "b", "c"], []))
    assert page.links == [
        ("../../../", "Files"),
        ("../../", "a"),
        ("../", "b"),
        ("../", "Parent directory"),
    ]
    assert "<title>Index of /a/b/c/</title>" in render_listing(["a", "b", "c"], [])


def test_sorting_is_kept_and_turned_by_links() -> None:
    entries = [one("sub", is_directory=True), one("file")]
    html = render_listing(["up"], entries, order=Order("size", descending=True))
    query = "?sort=size&order=desc"
    assert [href for href, _ in Page(html).links] == [
        f"../{query}",
        "./",
        "?sort=size&order=asc",
        "?sort=time&order=desc",
        f"../{query}",
        f"./sub/{query}",
        "./file",
    ]
    assert "Size ↓" in html


def test_the_root_has_no_parent() -> None:
    html = render_listing([], [])
    assert Page(html).links == []
    assert "Nothing to see here." in html
    assert "<ul>" not in html


def test_page_suits_a_phone_and_needs_no_script() -> None:
    html = render_listing([], [one("a")])
    page = Page(html)
    assert html.startswith("<!DOCTYPE html>\n<html lang=")
    assert {"charset": "utf-8"} in page.metas
    assert any(meta.get("name") == "viewport" for meta in page.metas)
    assert "prefers-color-scheme:dark" in html
    assert "script" not in page.tags
    assert "style=" not in html


def test_policy_allows_exactly_the_style_of_the_page() -> None:
    match = re.search(r"<style>(.*?)</style>", render_listing([], []), re.DOTALL)
    assert match
    digest = base64.b64encode(hashlib.sha256(match[1].encode()).digest()).decode()
    policy = content_security_policy()
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


def test_row_tells_size_and_time() -> None:
    html = render_listing([], [one("a", size=1536, modified=1_714_567_890)])
    assert "<span>1.5 KiB</span>" in html
    assert '<time datetime="2024-05-01T12:51Z">2024-05-01 12:51 UTC</time>' in html


def test_directory_has_no_size() -> None:
    assert "<span>" not in render_listing([], [one("a", is_directory=True, size=4096)])


@pytest.mark.parametrize("modified", [1e30, -1e30, -1e14, 1e12, float("inf"), float("nan")])
def test_time_beyond_the_calendar_is_left_out(modified: float) -> None:
    assert "<time" not in render_listing([], [one("a", modified=modified)])


def test_entries_not_shown_are_told() -> None:
    assert "… and 12,345 more. A page shows at most 1,000." in render_listing([], [], 12_345)
    assert "more" not in render_listing([], [one("a")])


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1024**2, "1.0 MiB"),
        (int(2.5 * 1024**3), "2.5 GiB"),
        (1024**4, "1.0 TiB"),
        (1024**5, "1.0 PiB"),
        (5000 * 1024**5, "5000.0 PiB"),
    ],
)
def test_size_is_written_for_people(size: int, text: str) -> None:
    assert format_size(size) == text


class TestReadDirectory:
    def test_directories_come_first_then_names_in_any_case(self, tmp_path: Path) -> None:
        for name in ("b", "C", "a"):
            (tmp_path / name).write_text("12345")
        for name in ("z", "Y"):
            (tmp_path / name).mkdir()
        entries, more = read_directory(str(tmp_path), look, Order())
        assert [entry.name for entry in entries] == ["Y", "z", "a", "b", "C"]
        assert [entry.is_directory for entry in entries] == [True, True, False, False, False]
        assert entries[2].size == 5
        assert entries[2].modified == (tmp_path / "a").stat().st_mtime
        assert more == 0

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ({}, "z b c D"),
            ({"sort": "name", "order": "desc"}, "z D c b"),
            ({"sort": "size"}, "z c D b"),
            ({"sort": "size", "order": "desc"}, "z b D c"),
            ({"sort": "time"}, "z D b c"),
            ({"sort": "time", "order": "desc"}, "z c b D"),
            ({"sort": "evil", "order": "evil"}, "z b c D"),
        ],
    )
    def test_order(self, tmp_path: Path, query: dict[str, str], names: str) -> None:
        (tmp_path / "z").mkdir()
        for name, size, modified in [("b", 30, 2), ("c", 10, 3), ("D", 20, 1)]:
            (tmp_path / name).write_bytes(bytes(size))
            os.utime(tmp_path / name, (0, modified))
        entries, _ = read_directory(str(tmp_path), look, Order.asked_for(query))
        assert " ".join(entry.name for entry in entries) == names

    def test_what_is_not_accepted_is_not_counted(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / name).touch()
        entries, more = read_directory(
            str(tmp_path), lambda entry: look(entry) if entry.name == "b" else None, Order()
        )
        assert [entry.name for entry in entries] == ["b"]
        assert more == 0

    def test_number_of_entries_is_bounded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(listing, "LISTING_LIMIT", 3)
        for name in "edcba":
            (tmp_path / name).touch()
        entries, more = read_directory(str(tmp_path), look, Order())
        assert [entry.name for entry in entries] == ["a", "b", "c"]
        assert more == 2

    def test_missing_directory_raises(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_directory(str(tmp_path / "none"), look, Order())
