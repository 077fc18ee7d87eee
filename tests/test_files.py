from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server import files
from resource_server.errors import NotFound
from resource_server.files import (
    SMALL_FILE,
    FileResource,
    FileResponse,
    content_disposition,
)
from resource_server.headers import parse_date
from resource_server.request import Request
from resource_server.response import Response
from resource_server.routing.router import Router

ANY_TEXT = st.text(st.characters(exclude_categories=()))


def header(response: Response, name: str) -> str | None:
    value = response.headers.get(name)
    assert value is None or isinstance(value, str)
    return value


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
        monkeypatch.setattr(files, "format_date", beyond)
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

    def test_file_that_grows_while_it_is_read_is_cut(
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
        assert FileResponse(tmp_path / "a").body == b"content"

    def test_file_that_shrinks_while_it_is_read_is_as_long_as_what_was_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        look = os.fstat

        def shrunk(descriptor: int) -> os.stat_result:
            status = look(descriptor)
            os.truncate(tmp_path / "a", 3)
            return status

        (tmp_path / "a").write_text("content")
        monkeypatch.setattr(os, "fstat", shrunk)
        assert FileResponse(tmp_path / "a").body == b"con"


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
        return response.status_code, response.header_lines(), response.body

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
            fields = response.header_lines()
            length = response.content_length or len(response.body or b"")

        def read(*_: object) -> bytes:
            raise AssertionError("read")

        monkeypatch.setattr(files, "_read", read)
        with closing(ask(router, target, "HEAD")) as response:
            assert response.status_code == 200
            assert response.header_lines() == fields
            assert response.content_length == length
            assert not response.body

    @pytest.mark.parametrize("target", ["/none", "/docs", "/"])
    def test_other_answers_are_those_of_get(self, site: Path, target: str) -> None:
        router = serve(site, listing=True)
        get, head = ask(router, target), ask(router, target, "HEAD")
        assert head.status_code == get.status_code
        assert head.header_lines() == get.header_lines()


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


def test_link_put_in_place_of_a_resolved_file_is_not_followed(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "path_join_safe", os.path.join)
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
    monkeypatch.setattr(files, "WINDOWS", True)
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
