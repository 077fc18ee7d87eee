"""What FileResource can be told: hidden files, links, caches, fallbacks."""

from __future__ import annotations

import errno
import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from resource_server import (
    FieldError,
    FileResource,
    FileResponse,
    NotFound,
    Request,
    Response,
    Router,
    path_join_safe,
)
from resource_server.files import opening

HTML = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "assets").mkdir(parents=True)
    (root / ".well-known").mkdir()
    for name, content in {
        "index.html": "app",
        "assets/a.js": "script",
        ".well-known/x": "known",
        ".env": "hidden",
        "../outside.txt": "outside",
    }.items():
        (root / name).write_text(content)
    (root / "in").symlink_to("assets")
    (root / "out.txt").symlink_to("../outside.txt")
    (root / "up").symlink_to("..")
    (root / "self").symlink_to(".")
    (root / "known").symlink_to(".well-known")
    return root


@pytest.fixture(params=[True, False], ids=["walking", "by path"])
def walks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param and not opening.WALKS:
        pytest.skip("this system cannot walk")
    monkeypatch.setattr(opening, "WALKS", request.param)
    return bool(request.param)


def ask(
    root: Path, path: str, method: str = "GET", accept: str = "*/*", **options: Any
) -> Response:
    router = Router()
    router.mount("/", FileResource(root, **options))
    fields = {"Accept": accept, "Accept-Encoding": "gzip"}
    return router.dispatch(Request(("127.0.0.1", 1), method, path, headers=fields))


@pytest.mark.usefixtures("walks")
class TestLinks:
    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/in/a.js", b"script"),
            ("/self/assets/a.js", b"script"),
            ("/self/", b"app"),
            ("/in/a.js/", None),
            ("/in/none", None),
            ("/out.txt", None),
            ("/up/outside.txt", None),
            ("/known/x", None),
            ("/index.html/x", None),
        ],
    )
    def test_count_inside_the_root(self, site: Path, path: str, body: bytes | None) -> None:
        response = ask(site, path)
        assert response.status_code == (404 if body is None else 200)
        if body is not None:
            assert response.body == body

    def test_lead_anywhere_if_that_is_wanted(self, site: Path) -> None:
        for path, body in [
            ("/out.txt", b"outside"),
            ("/up/outside.txt", b"outside"),
            ("/known/x", b"known"),
            ("/in/a.js", b"script"),
        ]:
            assert ask(site, path, follow_links=True).body == body
        assert ask(site, "/up/../outside.txt", follow_links=True).status_code == 404
        assert ask(site, "/.env", follow_links=True).status_code == 404

    def test_compressed_forms_are_found_by_links(self, site: Path) -> None:
        (site / "assets" / "b.js.gz").write_text("packed")
        (site / "assets" / "a.js.gz").symlink_to("b.js.gz")
        assert ask(site, "/assets/a.js").body == b"script"
        assert ask(site, "/assets/a.js", follow_links=True).body == b"packed"

    def test_listing_shows_those_that_count(self, site: Path) -> None:
        cases: list[tuple[dict[str, Any], set[str]]] = [
            ({}, {"in/", "self/"}),
            ({"follow_links": True}, {"in/", "self/", "up/", "out.txt", "known/"}),
            ({"dotfiles": True}, {"in/", "self/", "known/", ".env", ".well-known/"}),
        ]
        for options, shown in cases:
            body = gzip.decompress(ask(site, "/", index="", listing=True, **options).body or b"")
            for name in ("in/", "self/", "up/", "out.txt", "known/", ".env", ".well-known/"):
                assert (f'href="./{name}"'.encode() in body) is (name in shown), name

    def test_a_file_replaced_before_it_is_opened(
        self, site: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look = os.lstat

        def swapped(path: Any, **named: Any) -> os.stat_result:
            status = look(path, **named)
            if str(path).endswith("a.js"):
                (site / "assets" / "a.js").unlink(missing_ok=True)
                (site / "assets" / "a.js").symlink_to("../../outside.txt")
            return status

        monkeypatch.setattr(os, "lstat", swapped)
        assert ask(site, "/assets/a.js").status_code == 404


def test_directory_swapped_after_it_was_resolved(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve = path_join_safe

    def swapped(root: str, name: str) -> str:
        path = resolve(root, name)
        os.rename(site / "assets", site / "parked")
        (site / "assets").symlink_to("..")
        return path

    (site.parent / "a.js").write_text("outside")
    monkeypatch.setattr(opening, "path_join_safe", swapped)
    assert ask(site, "/in/a.js").status_code == 404


def test_a_path_that_leads_elsewhere_after_opening(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "WALKS", False)
    resolve = os.path.realpath
    calls = []

    def moved(path: str, **named: Any) -> str:
        calls.append(path)
        there = resolve(path, **named)
        return there + ".moved" if str(path).endswith("a.js") and len(calls) > 3 else there

    monkeypatch.setattr(os.path, "realpath", moved)
    assert ask(site, "/assets/a.js").status_code == 404
    assert len(calls) > 3


def test_a_compressed_form_that_cannot_be_opened_is_none(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site / "assets" / "a.js.gz").write_text("packed")
    system_open = os.open

    def refused(path: Any, *arguments: Any, **named: Any) -> int:
        if str(path).endswith(".gz"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return system_open(path, *arguments, **named)

    monkeypatch.setattr(os, "open", refused)
    response = ask(site, "/assets/a.js")
    assert response.body == b"script"
    assert "content-encoding" not in response.headers


def test_a_compressed_form_that_vanishes_is_none(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: True)
    assert ask(site, "/assets/a.js").body == b"script"


def test_trouble_on_the_way_is_a_server_error(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (site / "assets" / "deep").mkdir()
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    system_open = os.open

    def used_up(path: Any, *arguments: Any, **named: Any) -> int:
        if path == "deep":
            raise OSError(errno.EMFILE, "trouble")
        return system_open(path, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", used_up)
        assert ask(site, "/assets/deep/x").status_code == 500
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


class TestDotfiles:
    @pytest.mark.parametrize("path", ["/.env", "/.well-known/x", "/known/x"])
    def test_are_served_if_that_is_wanted(self, site: Path, path: str) -> None:
        assert ask(site, path).status_code == 404
        assert ask(site, path, dotfiles=True).status_code == 200

    def test_dots_are_no_files(self, site: Path) -> None:
        for path in ("/..", "/../outside.txt", "/.", "/assets/../.env"):
            assert ask(site, path, dotfiles=True).status_code == 404


class TestCache:
    @pytest.mark.parametrize(
        ("cache", "value"),
        [
            ("no-cache", "no-cache"),
            ("public, max-age=31536000, immutable", "public, max-age=31536000, immutable"),
            (0, "max-age=0"),
            (86400, "max-age=86400"),
            (None, None),
        ],
    )
    def test_is_told(self, site: Path, cache: str | int | None, value: str | None) -> None:
        assert ask(site, "/assets/a.js", cache=cache).headers.get("cache-control") == value
        response = FileResponse(site / "index.html", cache=cache)
        assert response.headers.get("cache-control") == value

    def test_asks_again_by_default(self, site: Path) -> None:
        assert ask(site, "/assets/a.js").headers["cache-control"] == "no-cache"
        assert FileResponse(site / "index.html").headers["cache-control"] == "no-cache"

    def test_by_name(self, site: Path) -> None:
        def policy(path: str) -> int | None:
            return 3600 if path.startswith("assets/") else None

        assert ask(site, "/assets/a.js", cache=policy).headers["cache-control"] == "max-age=3600"
        assert "cache-control" not in ask(site, "/", cache=policy).headers

    @pytest.mark.parametrize(
        ("cache", "error"),
        [("a\r\nb: c", FieldError), (-1, ValueError), (True, TypeError), (1.5, TypeError)],
    )
    def test_that_cannot_be_told_is_refused(self, site: Path, cache: Any, error: type) -> None:
        with pytest.raises(error):
            FileResource(site, cache=cache)
        with pytest.raises(error):
            FileResponse(site / "index.html", cache=cache)


class TestFallback:
    @pytest.mark.parametrize("path", ["/board/7", "/none.html", "/assets/", "/.env", "/%2e%2e"])
    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_is_what_a_navigation_finds(self, site: Path, path: str, method: str) -> None:
        response = ask(site, path, method, HTML, fallback="index.html")
        assert response.status_code == 200
        assert response.body == (b"app" if method == "GET" else b"")
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["vary"] == "Accept, Accept-Encoding"

    @pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html;q=0", "text/*", ""])
    def test_is_for_navigations_alone(self, site: Path, accept: str) -> None:
        assert ask(site, "/none", accept=accept, fallback="index.html").status_code == 404

    def test_leaves_what_is_there(self, site: Path) -> None:
        response = ask(site, "/assets/a.js", accept=HTML, fallback="index.html")
        assert response.body == b"script"

    def test_that_is_missing_is_missing(self, site: Path) -> None:
        for fallback in ("gone.html", "assets", ""):
            assert ask(site, "/none", accept=HTML, fallback=fallback).status_code == 404

    def test_has_to_be_a_safe_name(self, site: Path) -> None:
        with pytest.raises(ValueError, match="unsafe"):
            FileResource(site, fallback="../outside.txt")


def test_index_that_cannot_be_opened_is_missing_with_and_without_slash(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (site / "assets" / "index.html").touch()
    assert ask(site, "/assets").status_code == 301
    system_open = os.open

    def refused(path: Any, *arguments: Any, **named: Any) -> int:
        if str(path).endswith("index.html"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return system_open(path, *arguments, **named)

    monkeypatch.setattr(os, "open", refused)
    assert ask(site, "/assets").status_code == 404
    assert ask(site, "/assets/").status_code == 404


def test_fields_are_remembered_within_bounds(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from resource_server.files import representation

    monkeypatch.setattr(representation, "MAX_KNOWN", 2)
    representation._known.clear()
    for number in range(5):
        os.utime(site / "index.html", (0, number))
        assert ask(site, "/").headers["last-modified"].startswith("Thu, 01 Jan 1970")
    assert len(representation._known) <= 2


def test_content_type_may_be_changed(site: Path) -> None:
    response = FileResponse(site / "index.html")
    assert response.content_type == "text/html; charset=utf-8"
    response.content_type = "text/x-own"
    assert b"Content-Type: text/x-own\r\n" in response.section()[0]
    response.content_type = ""
    assert "content-type" not in response.headers


def test_a_response_may_answer_many_requests(site: Path) -> None:
    response = FileResponse(site / "index.html")
    for value, body in [("bytes=0-0", b"a"), ("bytes=1-", b"pp"), ("bytes=0-0,2-2", None)]:
        request = Request(("127.0.0.1", 1), "GET", "/", headers={"Range": value})
        answer = response.negotiate(request)
        assert answer.status_code == 206
        if body is not None:
            assert answer.body == body
    assert (response.status_code, response.body) == (200, b"app")
    response.status_code = 404
    assert response.negotiate(request) is response


def test_directories_are_no_files(site: Path) -> None:
    with pytest.raises(NotFound):
        FileResponse(site)
