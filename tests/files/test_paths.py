from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server.files import FileResource, path_join_safe
from resource_server.files.paths import MAX_NAME_LENGTH, MAX_PATH_LENGTH
from resource_server.request import Request
from resource_server.routing.router import Router

CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]

TRAVERSALS = [
    "..",
    "../",
    "../etc/passwd",
    "../../../../etc/passwd",
    "a/..",
    "a/../",
    "a/../b",
    "a/../../b",
    "a/b/..",
    "..\\",
    "..\\..\\windows\\win.ini",
    "a\\..\\b",
    "a/..\\b",
    "a\\../b",
    ".",
    "./",
    "./a",
    "a/.",
    "a/./b",
    ".\\a",
    "a\\.\\b",
    "...",
    ".../a",
    "a/.../b",
    "....//a",
    "....\\\\a",
    ".. /a",
    ". ./..",
    ".. .",
]

ABSOLUTES = [
    "/",
    "/etc/passwd",
    "//",
    "//etc/passwd",
    "///etc/passwd",
    "\\",
    "\\etc\\passwd",
    "\\\\",
    "//server/share",
    "//server/share/file.txt",
    "\\\\server\\share",
    "\\\\server\\share\\file.txt",
    "\\\\127.0.0.1\\c$\\windows",
    "/\\server/share",
    "\\/server\\share",
    "\\\\?\\C:\\windows\\win.ini",
    "\\\\?\\UNC\\server\\share",
    "\\\\?\\GLOBALROOT\\Device\\HarddiskVolume1",
    "\\\\.\\C:",
    "\\\\.\\PhysicalDrive0",
    "\\\\.\\pipe\\name",
    "//?/C:/windows",
    "//./C:/windows",
    "\\??\\C:\\windows",
]

COLONS = [
    "C:",
    "C:\\",
    "C:/",
    "C:\\windows\\win.ini",
    "c:foo",
    "c:foo/bar",
    "a/C:/b",
    "a/c:b",
    "file:///etc/passwd",
    "index.html::$DATA",
    "index.html:stream",
    "index.html:stream:$DATA",
    "a::$INDEX_ALLOCATION",
    "a:$i30:$INDEX_ALLOCATION/b",
    ":",
    ":a",
]

DEVICES = [
    "CON",
    "con",
    "Con",
    "PRN",
    "AUX",
    "NUL",
    "nul",
    "CONIN$",
    "conout$",
    *(f"COM{digit}" for digit in "0123456789¹²³"),
    *(f"lpt{digit}" for digit in "0123456789¹²³"),
    "con.txt",
    "CON.",
    "aux.",
    "NUL .txt",
    "nul   .tar.gz",
    "nul ",
    "NUL..",
    "prn.a.b",
    "com1.log",
    "COM¹.txt",
    "LPT9 .x",
    "conin$.txt",
    "a/con",
    "a/nul/b",
    "a/aux.c/b",
    "a\\com7\\b",
]

ALIASES = [
    "a.",
    "a..",
    "a ",
    "a. ",
    "a .",
    " ",
    "a./b",
    "a /b",
    "a/b.",
    "a/b ",
    "a/ /b",
    "secret.txt.",
    "secret.txt ",
    "secret.txt . .",
    "secret.txt./",
    "secret.txt \\",
]

EMPTIES = ["a//b", "a///b", "a//", "a\\\\b", "a/\\b", "a\\/b", "a\\\\"]

SURROGATES = ["\ud800", "a\udc80b", "\udcff/x", "a/\udfff", "\udc2e\udc2e/etc", "\udc2f"]

LONG = [
    "a" * (MAX_NAME_LENGTH + 1),
    "é" * 200,
    "a/" + "b" * 1000,
    "a/" * MAX_PATH_LENGTH + "a",
    "a" * 100_000,
]

ATTACKS = [
    *TRAVERSALS,
    *ABSOLUTES,
    *COLONS,
    *DEVICES,
    *ALIASES,
    *EMPTIES,
    *SURROGATES,
    *(f"a{chr(code)}b" for code in CONTROLS),
    "\0",
    "index.html\0.png",
    "a/\n/b",
]


ANY_TEXT = st.text(st.characters(exclude_categories=()))


def outcome(root: str, name: str) -> str | ValueError:
    try:
        return path_join_safe(root, name)
    except ValueError as error:
        return error


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with files, beside a secret that must not be reached from it."""
    (tmp_path / "secret.txt").write_text("the secret")
    inside = tmp_path / "root"
    (inside / "a").mkdir(parents=True)
    (inside / "a" / "b").write_text("b")
    (inside / "index.html").write_text("index")
    (inside / "secret.txt").write_text("public")
    return inside


def test_there_are_enough_attacks() -> None:
    assert len(set(ATTACKS)) >= 200


@pytest.mark.parametrize("name", ATTACKS, ids=ascii)
def test_attack_is_refused(root: Path, name: str) -> None:
    with pytest.raises(ValueError, match="unsafe file name") as caught:
        path_join_safe(str(root), name)
    text = str(caught.value)
    assert text.isprintable()
    assert str(root) not in text


@pytest.mark.parametrize("name", LONG, ids=len)
def test_name_that_is_too_long_is_refused(root: Path, name: str) -> None:
    with pytest.raises(ValueError, match="unsafe file name") as caught:
        path_join_safe(str(root), name)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ATTACKS, ids=ascii)
def test_attack_is_refused_by_syntax_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(*_: object, **__: object) -> str:
        raise AssertionError("the disk was touched")

    monkeypatch.setattr(os.path, "realpath", touched)
    monkeypatch.setattr(os, "lstat", touched)
    with pytest.raises(ValueError, match="unsafe file name"):
        path_join_safe("/srv", name)


@pytest.mark.parametrize(
    "name",
    [
        "index.html",
        "a/b",
        "a/new",
        "missing/deep/file",
        "%2e%2e/etc/passwd",
        "~root",
        "$HOME",
        "..a",
        "a..b",
        ".hidden",
        " a",
        "a b",
        "CONSOLE",
        "contact.html",
        "COM10",
        "nul_.txt",
        "<a>&'\"*?|",
        "．．",
        "‥",
        "a／b",
        "\u202egnp.exe",
        "日本語.txt",
        "😀",
        "a" * MAX_NAME_LENGTH,
    ],
    ids=ascii,
)
def test_plain_name_is_joined(root: Path, name: str) -> None:
    assert path_join_safe(str(root), name) == os.path.join(root, name)


def test_backslash_separates_on_every_system(root: Path) -> None:
    assert path_join_safe(str(root), "a\\b") == str(root / "a" / "b")


@pytest.mark.parametrize("name", ["a/", "a\\"])
def test_one_separator_at_the_end_is_tolerated(root: Path, name: str) -> None:
    assert path_join_safe(str(root), name) == str(root / "a")


def test_empty_name_is_the_root(root: Path) -> None:
    assert path_join_safe(str(root), "") == str(root)


def test_root_with_separator_at_its_end(root: Path) -> None:
    assert path_join_safe(f"{root}{os.sep}", "a/b") == str(root / "a" / "b")


def test_relative_root_gives_an_absolute_path(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root.parent)
    assert path_join_safe("root", "a/b") == str(root / "a" / "b")
    assert path_join_safe(".", "root/a") == str(root / "a")


def test_root_with_parent_components_is_trusted(root: Path) -> None:
    assert path_join_safe(f"{root}/a/..", "a/b") == str(root / "a" / "b")


def test_root_of_the_file_system() -> None:
    top = os.path.abspath(os.sep)
    assert path_join_safe(top, "no-such-file") == os.path.join(top, "no-such-file")
    assert path_join_safe(top, "") == top


def test_root_that_does_not_exist(tmp_path: Path) -> None:
    assert path_join_safe(str(tmp_path / "none"), "x") == str(tmp_path / "none" / "x")


def test_sibling_that_begins_like_the_root_is_outside(root: Path) -> None:
    (root.parent / "root-secret").mkdir()
    (root / "link").symlink_to(root.parent / "root-secret")
    with pytest.raises(ValueError, match="leads out"):
        path_join_safe(str(root), "link")


def test_empty_root_is_refused() -> None:
    with pytest.raises(ValueError, match="root directory is empty"):
        path_join_safe("", "a")


@pytest.mark.parametrize(
    ("directory", "name"),
    [("/srv", b"a"), ("/srv", None), ("/srv", 1), ("/srv", Path("a")), (Path("/srv"), "a")],
)
def test_only_str_is_taken(directory: object, name: object) -> None:
    with pytest.raises(TypeError):
        path_join_safe(directory, name)  # type: ignore[arg-type]


class TestLinks:
    def test_root_that_is_a_link_is_resolved(self, root: Path) -> None:
        link = root.parent / "link"
        link.symlink_to(root)
        assert path_join_safe(str(link), "a/b") == str(root / "a" / "b")

    @pytest.mark.parametrize("target", ["a/b", "a/../a/b", "{root}/a/b", "../root/a/b", "b", "new"])
    def test_link_that_stays_inside_is_followed(self, root: Path, target: str) -> None:
        (root / "a" / "b").replace(root / "b")
        (root / "a" / "b").symlink_to("../b")
        (root / "link").symlink_to(target.format(root=root))
        expected = os.path.realpath(root / "link")
        assert path_join_safe(str(root), "link") == expected
        assert expected.startswith(str(root))

    @pytest.mark.parametrize(
        "target", ["..", "../secret.txt", "/etc/passwd", "/", "../none", "a/../.."]
    )
    def test_link_that_leaves_the_root_is_refused(self, root: Path, target: str) -> None:
        (root / "link").symlink_to(target)
        with pytest.raises(ValueError, match="leads out"):
            path_join_safe(str(root), "link")

    def test_directory_link_that_leaves_the_root_is_refused(self, root: Path) -> None:
        (root / "up").symlink_to("..")
        for name in ("up/secret.txt", "up/none/new", "up/"):
            with pytest.raises(ValueError, match="leads out"):
                path_join_safe(str(root), name)

    def test_out_and_in_again_is_inside(self, root: Path) -> None:
        (root / "up").symlink_to("..")
        assert path_join_safe(str(root), "up/root/a") == str(root / "a")

    def test_chain_of_links_that_leaves_is_refused(self, root: Path) -> None:
        (root / "a" / "one").symlink_to("../two")
        (root / "two").symlink_to("a/three")
        (root / "a" / "three").symlink_to("../../secret.txt")
        with pytest.raises(ValueError, match="leads out"):
            path_join_safe(str(root), "a/one")

    def test_circles_of_links_are_refused(self, root: Path) -> None:
        (root / "self").symlink_to("self")
        (root / "ping").symlink_to("pong")
        (root / "pong").symlink_to("ping")
        (root / "deeper").symlink_to("deeper/deeper")
        for name in ("self", "self/x", "ping", "pong/a/b", "deeper"):
            with pytest.raises(ValueError, match="unsafe file name"):
                path_join_safe(str(root), name)

    def test_circle_does_not_hide_a_link_that_leaves(self, root: Path) -> None:
        (root / "self").symlink_to("self")
        (root / "up").symlink_to("..")
        (root / "sly").symlink_to("self/../up/secret.txt")
        with pytest.raises(ValueError, match="unsafe file name"):
            path_join_safe(str(root), "sly")

    @pytest.mark.skipif(sys.platform == "win32", reason="needs thousands of links")
    def test_very_long_chain_of_links_is_an_ordinary_refusal_or_inside(self, root: Path) -> None:
        for number in range(2000):
            (root / f"link{number}").symlink_to(f"link{number + 1}")
        result = outcome(str(root), "link0")
        if isinstance(result, ValueError):
            assert "unsafe file name" in str(result)
        else:
            assert result == str(root / "link2000")

    def test_name_below_a_file_is_inside_and_missing(self, root: Path) -> None:
        path = path_join_safe(str(root), "index.html/x")
        assert path == str(root / "index.html" / "x")
        assert not os.path.exists(path)

    def test_link_replaced_while_it_is_read_is_a_refusal(
        self, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def vanished(*_: object) -> str:
            raise OSError(22, "Invalid argument")

        (root / "link").symlink_to("a")
        monkeypatch.setattr(os, "readlink", vanished)
        with pytest.raises(ValueError, match="unsafe file name"):
            path_join_safe(str(root), "link")


@given(st.text(st.sampled_from("ab./\\: \0\n~CON%é\udc80")) | ANY_TEXT)
def test_any_name_is_inside_or_refused(name: str) -> None:
    root = os.path.realpath(os.curdir)
    result = outcome(root, name)
    if isinstance(result, ValueError):
        assert str(result).isprintable()
    else:
        assert result == root or result.startswith(root + os.sep)
        assert os.path.normpath(result) == result


@pytest.mark.parametrize("name", ATTACKS, ids=ascii)
def test_attack_through_the_router_leaks_nothing(root: Path, name: str) -> None:
    router = Router()
    router.register_routes(FileResource(root, listing=True))
    target = "/" + quote(name.encode("utf-8", "surrogatepass"), safe="")
    for path in (target, f"{target}/secret.txt", "/" + quote(name, safe="/\\", errors="replace")):
        response = router.dispatch(Request(("127.0.0.1", 1), "GET", path))
        assert response.status_code in (400, 404)
        assert b"the secret" not in (response.body or b"")
