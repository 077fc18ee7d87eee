"""Files that appear at once and complete, or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from resource_server.newfile import ABANDONED, Directory, NewFile, remove_abandoned

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with Directory(tmp_path) as directory:
        yield directory


def hidden(path: Path) -> list[str]:
    return [name for name in os.listdir(path) if name.startswith(".upload-")]


def no_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "no links here")


def test_it_has_no_name_until_it_is_complete(directory: Directory, tmp_path: Path) -> None:
    with NewFile(directory) as file:
        file.write(b"abc")
        assert not (tmp_path / "a").exists()
        assert len(hidden(tmp_path)) == 1
        file.write(memoryview(b"def"))
        assert file.size == 6
        status = file.publish("a", overwrite=False, sync=True)
    assert (tmp_path / "a").read_bytes() == b"abcdef"
    assert os.path.samestat(status, (tmp_path / "a").stat())
    assert os.listdir(tmp_path) == ["a"]


def test_what_is_not_published_leaves_nothing(directory: Directory, tmp_path: Path) -> None:
    with NewFile(directory) as file:
        file.write(b"abc")
    file.discard()
    assert os.listdir(tmp_path) == []


def test_one_that_somebody_has_removed_is_gone(directory: Directory, tmp_path: Path) -> None:
    with NewFile(directory):
        (tmp_path / hidden(tmp_path)[0]).unlink()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("links", [True, False])
def test_nothing_is_replaced_unasked(
    directory: Directory, tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "a").write_text("old")
    (tmp_path / "dangling").symlink_to("nowhere")
    with NewFile(directory) as file:
        file.write(b"new")
        for name in ("a", "dangling"):
            with pytest.raises(FileExistsError):
                file.publish(name, overwrite=False)
        file.publish("b", overwrite=False)
    assert (tmp_path / "a").read_text() == "old"
    assert (tmp_path / "b").read_text() == "new"
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "dangling"]


def test_where_there_are_no_links_a_name_is_given_back_when_it_cannot_be_used(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "replace", no_links)
    with NewFile(directory) as file, pytest.raises(PermissionError):
        file.publish("a", overwrite=False)
    assert os.listdir(tmp_path) == []


def test_other_trouble_is_told(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "a failing disk")

    monkeypatch.setattr(os, "link", fail)
    with NewFile(directory) as file, pytest.raises(OSError, match="failing"):
        file.publish("a", overwrite=False)
    assert os.listdir(tmp_path) == []


def test_asked_for_it_replaces(directory: Directory, tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "a").symlink_to("target")
    with NewFile(directory) as file:
        file.publish("a", overwrite=True)
    assert not (tmp_path / "a").is_symlink()
    assert (tmp_path / "target").read_text() == "old"
    (tmp_path / "directory").mkdir()
    with NewFile(directory) as file, pytest.raises(IsADirectoryError):
        file.publish("directory", overwrite=True)


def test_a_directory_is_held_whatever_takes_its_place(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    with Directory(tmp_path, below=["in"]) as directory, NewFile(directory) as file:
        inside.rename(tmp_path / "moved")
        inside.symlink_to(outside)
        file.publish("a", overwrite=False)
    assert os.listdir(outside) == []
    assert os.listdir(tmp_path / "moved") == ["a"]


def test_no_link_leads_to_a_directory_below(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "link").symlink_to("d")
    (tmp_path / "file").touch()
    for below in (["link"], ["file"]):
        with pytest.raises(NotADirectoryError):
            Directory(tmp_path, below=below)
    with pytest.raises(FileNotFoundError):
        Directory(tmp_path, below=["d", "missing"])
    with pytest.raises(NotADirectoryError):
        Directory(tmp_path / "file")


def test_its_permissions_are_those_of_a_new_file(directory: Directory, tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        with NewFile(directory) as file:
            status = file.publish("a", overwrite=False)
    finally:
        os.umask(mask)
    assert status.st_mode & 0o777 == 0o640


CRASH = """
import os, sys
from resource_server.newfile import Directory, NewFile
file = NewFile(Directory(sys.argv[1]))
file.write(b"x")
os._exit(0)
"""


def test_what_a_crashed_process_leaves_is_removed(directory: Directory, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", CRASH, tmp_path], check=True)
    (left,) = hidden(tmp_path)
    assert remove_abandoned(directory) == 0, "it may be about to be locked"
    long_ago = os.stat(tmp_path).st_mtime - 2 * ABANDONED
    os.utime(tmp_path / left, (long_ago, long_ago))
    with NewFile(directory) as file:
        (mine,) = set(hidden(tmp_path)) - {left}
        os.utime(tmp_path / mine, (long_ago, long_ago))
        others = [".upload-x.part", left + "x", "a"]
        for name in others:
            (tmp_path / name).touch()
            os.utime(tmp_path / name, (long_ago, long_ago))
        (tmp_path / f".upload-{'0' * 32}.part").mkdir()
        assert remove_abandoned(directory) == 1
        assert set(hidden(tmp_path)) == {mine, *others[:2], f".upload-{'0' * 32}.part"}
        file.publish("b", overwrite=False)


def test_locks_are_not_everywhere(
    directory: Directory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", fail)
    with NewFile(directory) as file:
        file.publish("a", overwrite=False)
    assert os.listdir(tmp_path) == ["a"]
