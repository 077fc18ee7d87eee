from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin

import pytest
from hypothesis import strategies as st

from resource_server.files import FileResource, opening
from resource_server.files import response as response_module
from resource_server.files.response import SMALL_FILE
from resource_server.request import Request
from resource_server.response import Response
from resource_server.routing.router import Router

ANY_TEXT = st.text(st.characters(exclude_categories=()))


def header(response: Response, name: str) -> str | None:
    value = response.headers.get(name)
    assert value is None or isinstance(value, str)
    return value


def ask(router: Router, path: str, method: str = "GET") -> Response:
    return router.dispatch(Request(("127.0.0.1", 1), method, path))


def serve(root: Path, prefix: str = "", **options: Any) -> Router:
    router = Router()
    if prefix:
        router.mount(prefix, FileResource(root, **options))
    else:
        router.register_routes(FileResource(root, **options))
    return router


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, "trouble")

    return fail


def lowest_free_descriptor() -> int:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with files of all kinds, beside a secret that must not be reached from it."""
    (tmp_path / "secret.txt").write_text("the secret")
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "secret.txt").write_text("public")
    (root / "docs").mkdir()
    (root / "docs" / "index.html").write_text("the docs")
    (root / "docs" / "a b ü.txt").write_text("spaced")
    (root / "empty").mkdir()
    (root / "big.bin").write_bytes(b"x" * (SMALL_FILE + 1))
    (root / ".hidden").write_text("hidden")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("hidden")
    (root / "out").symlink_to(root.parent / "secret.txt")
    (root / "up").symlink_to(root.parent)
    (root / "in").symlink_to("docs/index.html")
    (root / "circle").symlink_to("circle")
    return root


@pytest.mark.parametrize("prefix", ["", "/static", "/deep/er"])
class TestUnderAnyPrefix:
    def test_file(self, site: Path, prefix: str) -> None:
        response = ask(serve(site, prefix), f"{prefix}/docs/a%20b%20%C3%BC.txt?v=1")
        assert (response.status_code, response.body) == (200, b"spaced")
        assert header(response, "content-type") == "text/plain; charset=utf-8"
        assert header(response, "last-modified")

    def test_index(self, site: Path, prefix: str) -> None:
        response = ask(serve(site, prefix), f"{prefix}/docs/")
        assert (response.status_code, response.body) == (200, b"the docs")
        assert header(response, "content-type") == "text/html; charset=utf-8"

    def test_listing_of_the_root(self, site: Path, prefix: str) -> None:
        response = ask(serve(site, prefix, listing=True), f"{prefix}/")
        assert response.status_code == 200
        assert response.body is not None
        assert b'href="./docs/"' in response.body

    @pytest.mark.parametrize("query", ["", "?x=1&y=%20//evil"])
    def test_directory_without_slash_is_redirected(
        self, site: Path, prefix: str, query: str
    ) -> None:
        response = ask(serve(site, prefix), f"{prefix}/docs{query}")
        assert response.status_code == 301
        assert header(response, "location") == f"./docs/{query}"
        target = urljoin(f"http://host{prefix}/docs{query}", header(response, "location"))
        assert target == f"http://host{prefix}/docs/{query}"

    def test_missing(self, site: Path, prefix: str) -> None:
        assert ask(serve(site, prefix), f"{prefix}/none").status_code == 404


def test_mount_point_without_slash_is_redirected_to_itself(site: Path) -> None:
    response = ask(serve(site, "/static", listing=True), "/static?q")
    assert (response.status_code, header(response, "location")) == (301, "./static/?q")


@pytest.mark.parametrize(
    "name", ["javascript", "a%3Fb", "a%23b", "a%26b", "%22%3E", "%E2%82%AC", "100%25", "a;b"]
)
def test_redirect_spells_the_name_so_that_it_stays_a_name(site: Path, name: str) -> None:
    decoded = unquote(name)
    (site / decoded).mkdir()
    response = ask(serve(site, listing=True), f"/{name}")
    location = header(response, "location") or ""
    target = urljoin(f"http://host/{name}", location)
    assert response.status_code == 301
    assert unquote(target) == f"http://host/{decoded}/"
    assert ask(serve(site, listing=True), target.removeprefix("http://host")).status_code == 200


@pytest.mark.parametrize(
    "target",
    [
        "//docs",
        "//evil.example/docs",
        "//evil.example/..",
        "///docs",
        "/docs//",
        "//",
        "/\\docs",
        "/\\evil.example",
        "/%5Cevil.example/%2e%2e",
        "/%2Fdocs",
        "/%2fevil.example%2f..",
        "/evil.example%2F%2e%2e",
        "/docs/..",
        "/docs/%2e%2e",
        "/./docs",
    ],
)
def test_no_target_becomes_an_open_redirect(site: Path, target: str) -> None:
    for listing in (False, True):
        response = ask(serve(site, listing=listing), target)
        assert response.status_code == 404
        assert header(response, "location") is None


def test_every_refusal_looks_like_a_missing_file(site: Path) -> None:
    router = serve(site)

    def seen(target: str) -> tuple[int, bytes, bytes | None]:
        response = ask(router, target)
        return response.status_code, response.section()[0], response.body

    missing = seen("/none")
    assert missing[0] == 404
    for target in (
        *("/out", "/up", "/up/", "/up/secret.txt", "/up/root/..", "/circle", "/circle/x"),
        *("/.hidden", "/.git", "/.git/", "/.git/config", "/docs/.x", "/.%67it/config"),
        *("/empty", "/empty/", "/", "/secret.txt/", "/in/", "/secret.txt/x"),
        *("/..", "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/..%5csecret.txt"),
        *("/docs%2Findex.html", "/docs%5Cindex.html", "/docs\\index.html", "/docs//index.html"),
        *("/con", "/docs/nul.txt", "/secret.txt.", "/secret.txt%20", "/secret.txt%00", "/%0a"),
        *("/secret.txt::$DATA", "/C:/x", "/c:x", "//server/share", "/%E2%80%8D.hidden"),
        *("/" + "a" * 300, "/" + "a/" * 3000 + "a"),
    ):
        assert seen(target) == missing, target


@pytest.mark.parametrize("target", ["/%ff", "/docs/%C0%AE%C0%AE/secret.txt", "/%zz", "/%"])
def test_path_that_is_no_utf8_is_a_bad_request(site: Path, target: str) -> None:
    assert ask(serve(site), target).status_code == 400


class TestHead:
    @pytest.mark.parametrize("target", ["/docs/index.html", "/docs/", "/big.bin", "/in"])
    def test_fields_are_those_of_get_and_nothing_is_read(
        self, site: Path, target: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        router = serve(site)
        with closing(ask(router, target)) as response:
            fields = response.section()[0]
            length = response.content_length or len(response.body or b"")

        def read(*_: object) -> bytes:
            raise AssertionError("read")

        monkeypatch.setattr(response_module, "read_at", read)
        with closing(ask(router, target, "HEAD")) as response:
            assert response.status_code == 200
            assert response.section()[0] == fields
            assert response.content_length == length
            assert not response.body

    @pytest.mark.parametrize("target", ["/none", "/docs", "/"])
    def test_other_answers_are_those_of_get(self, site: Path, target: str) -> None:
        router = serve(site, listing=True)
        get, head = ask(router, target), ask(router, target, "HEAD")
        assert head.status_code == get.status_code
        assert head.section()[0] == get.section()[0]


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
def test_other_methods_are_not_allowed(site: Path, method: str) -> None:
    response = ask(serve(site), "/secret.txt", method)
    assert response.status_code == 405
    assert "GET" in (header(response, "allow") or "")


def test_link_inside_the_root_is_served_with_the_type_of_its_own_name(site: Path) -> None:
    (site / "latest.txt").symlink_to("docs/index.html")
    response = ask(serve(site), "/latest.txt")
    assert response.body == b"the docs"
    assert header(response, "content-type") == "text/plain; charset=utf-8"


@pytest.mark.parametrize("walks", [True, False])
def test_link_put_in_place_of_a_resolved_file_is_not_followed(
    site: Path, monkeypatch: pytest.MonkeyPatch, walks: bool
) -> None:
    monkeypatch.setattr(opening, "WALKS", walks and opening.WALKS)
    monkeypatch.setattr(opening, "path_join_safe", os.path.join)
    assert ask(serve(site), "/out").status_code == 404


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_fifo_is_not_found_and_not_listed(site: Path) -> None:
    os.mkfifo(site / "empty" / "fifo")
    router = serve(site, listing=True)
    assert ask(router, "/empty/fifo").status_code == 404
    assert b"fifo" not in (ask(router, "/empty/").body or b"fifo")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_file_not_permitted_looks_missing(site: Path) -> None:
    (site / "secret.txt").chmod(0)
    assert ask(serve(site), "/secret.txt").status_code == 404


def test_trouble_of_the_system_is_a_server_error(
    site: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "open", failing(errno.EMFILE))
    assert ask(serve(site), "/secret.txt").status_code == 500
    assert "trouble" in caplog.text


def test_file_that_vanishes_between_two_looks_is_missing(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", failing(errno.ENOENT))
    assert ask(serve(site), "/secret.txt").status_code == 404


def test_short_name_of_a_hidden_file_is_hidden_on_windows(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "WALKS", False)
    (site / "GIT~1").symlink_to(".git")
    router = serve(site, listing=True)
    assert ask(router, "/GIT~1/config").status_code == 404
    assert ask(router, "/docs/index.html").status_code == 200
    assert ask(router, "/").status_code == 200


class TestIndex:
    def test_own_name(self, site: Path) -> None:
        (site / "default.htm").write_text("default")
        assert ask(serve(site, index="default.htm"), "/").body == b"default"

    def test_none(self, site: Path) -> None:
        assert ask(serve(site, index=""), "/docs/").status_code == 404
        listing = ask(serve(site, index="", listing=True), "/docs/").body
        assert listing is not None
        assert b"index.html" in listing

    def test_wins_over_the_listing(self, site: Path) -> None:
        assert ask(serve(site, listing=True), "/docs/").body == b"the docs"

    def test_that_leaves_the_root_is_not_served(self, site: Path) -> None:
        (site / "empty" / "index.html").symlink_to(site.parent / "secret.txt")
        assert ask(serve(site), "/empty/").status_code == 404
        assert ask(serve(site), "/empty").status_code == 404

    def test_that_is_a_directory_is_none(self, site: Path) -> None:
        (site / "empty" / "index.html").mkdir()
        assert ask(serve(site), "/empty/").status_code == 404

    @pytest.mark.parametrize("index", ["../secret.txt", "/etc/passwd", "a/b", ".", "con"])
    def test_has_to_be_a_plain_name(self, site: Path, index: str) -> None:
        with pytest.raises(ValueError, match="file name"):
            FileResource(site, index=index)


class TestListing:
    def names(self, router: Router, target: str) -> list[str]:
        body = ask(router, target).body
        assert body is not None
        return [unquote(link) for link in re.findall(r'<li><a href="\./([^"]*)"', body.decode())]

    def test_shows_what_would_be_served_and_nothing_else(self, site: Path) -> None:
        for name in ("con", "a:b", "back\\slash", "dot.", "new\nline"):
            (site / name).touch()
        with contextlib.suppress(OSError):
            (site / os.fsdecode(b"undecodable-\xff")).touch()
        assert self.names(serve(site, listing=True), "/") == [
            *("a/", "docs/", "empty/", "big.bin", "in", "secret.txt"),
        ]

    def test_every_link_is_answered(self, site: Path) -> None:
        for name in ("<b>&amp;'\"", "100%", "a?b#c", "javascript x", "日本", "%2e%2e"):
            (site / "a" / name).write_text(name)
        router = serve(site, "/static", listing=True)
        names = self.names(router, "/static/a/")
        assert len(names) == 6
        for name in names:
            response = ask(router, f"/static/a/{quote(name)}")
            assert response.body == name.encode()

    def test_fields(self, site: Path) -> None:
        response = ask(serve(site, listing=True), "/")
        assert header(response, "content-type") == "text/html; charset=utf-8"
        assert header(response, "x-content-type-options") == "nosniff"
        policy = header(response, "content-security-policy") or ""
        assert policy.startswith("default-src 'none'; style-src 'sha256-")

    def test_breadcrumbs_lead_to_directories_of_the_resource(self, site: Path) -> None:
        (site / "docs" / "x" / "y").mkdir(parents=True)
        router = serve(site, "/static", listing=True)
        body = ask(router, "/static/docs/x/y/").body
        assert body is not None
        links = re.findall(r'<a href="([^"]*)"', body.decode())
        here = "http://host/static/docs/x/y/"
        assert [urljoin(here, link) for link in links] == [
            "http://host/static/",
            "http://host/static/docs/",
            "http://host/static/docs/x/",
            "http://host/static/docs/x/",
        ]

    def test_directory_that_cannot_be_read_is_missing(
        self, site: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        router = serve(site, listing=True)
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", failing(errno.EACCES))
            assert ask(router, "/empty/").status_code == 404
        monkeypatch.setattr(os, "open", failing(errno.EACCES))
        assert ask(router, "/empty").status_code == 404
        monkeypatch.setattr(opening, "WALKS", False)
        assert ask(router, "/empty").status_code == 301
        monkeypatch.setattr(os, "access", lambda *_: False)
        assert ask(router, "/empty").status_code == 404

    def test_is_off_by_default(self, site: Path) -> None:
        assert ask(serve(site), "/empty/").status_code == 404
        assert ask(serve(site), "/empty").status_code == 404


class TestRoot:
    def test_stays_when_the_process_changes_its_directory(
        self, site: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(site.parent)
        router = serve(Path("root"))
        monkeypatch.chdir("/")
        assert ask(router, "/docs/").body == b"the docs"

    def test_may_be_a_link_that_is_changed_later(self, site: Path) -> None:
        current = site.parent / "current"
        current.symlink_to("root")
        router = serve(current)
        assert ask(router, "/docs/").body == b"the docs"
        current.unlink()
        (site.parent / "next" / "docs").mkdir(parents=True)
        (site.parent / "next" / "docs" / "index.html").write_text("newer")
        current.symlink_to("next")
        assert ask(router, "/docs/").body == b"newer"

    @pytest.mark.parametrize("name", ["none", "secret.txt", ""])
    def test_has_to_be_a_directory(self, site: Path, name: str) -> None:
        root = str(site / name) if name else ""
        with pytest.raises(NotADirectoryError):
            FileResource(root)

    def test_that_vanishes_is_missing(self, site: Path) -> None:
        router = serve(site / "empty", listing=True)
        (site / "empty").rmdir()
        assert ask(router, "/").status_code == 404
