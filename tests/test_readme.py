"""The README says what is true: its examples run, and its first app answers as it shows."""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from websocket import create_connection

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).parents[1]
README = (PROJECT / "README.rst").read_text(encoding="utf-8")
_BLOCK = re.compile(
    r"^\.\. code-block:: (?P<kind>\w+)\n(?P<options>(?: +:.*\n)*)\n(?P<text>(?:(?:    .*)?\n)+)",
    re.MULTILINE,
)
#: Blocks of code in their order: the kind, the name or "", and the text.
BLOCKS = [
    (
        found["kind"],
        "".join(re.findall(r":name: (.*)", found["options"])),
        textwrap.dedent(found["text"]).strip("\n") + "\n",
    )
    for found in _BLOCK.finditer(README)
]


def test_the_examples_run_in_their_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(PROJECT)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names: dict[str, Any] = {"__name__": "readme"}
    shown = 0
    for kind, _, text in BLOCKS:
        if kind == "python":
            exec(compile(text, "README.rst", "exec"), names)
        elif kind == "pycon":
            test = doctest.DocTestParser().get_doctest(text, names, text, "README.rst", 0)
            result = doctest.DocTestRunner(verbose=False).run(test, clear_globs=False)
            assert result.failed == 0, capsys.readouterr().out
            names = test.globs
            shown += result.attempted
    assert shown >= 10
    assert re.search(r"^http://127\.0\.0\.1:\d+$", capsys.readouterr().out, re.MULTILINE)


def test_the_first_app_answers_as_shown(tmp_path: Path) -> None:
    console = next(text for kind, _, text in BLOCKS if kind == "console")
    with running("hello.py", tmp_path) as url:
        for command, expected in re.findall(
            r"^\$ (curl .*)\n((?:[^$].*\n)*)", console, re.MULTILINE
        ):
            assert curl(command.replace("http://127.0.0.1:8000", url)) == expected.strip()


def test_the_chat_chats(tmp_path: Path) -> None:
    with running("chat.py", tmp_path) as url, ExitStack() as people:
        assert "new WebSocket" in requests.get(url, timeout=30).text
        address = url.replace("http", "ws") + "/chat"
        ann, ben = [
            people.enter_context(closing(create_connection(address, timeout=30, origin=url)))
            for _ in range(2)
        ]
        for speaker, said in ((ann, "Hello!"), (ben, "Hi.")):
            speaker.send(said)
            assert [ann.recv(), ben.recv()] == [said, said]


@contextmanager
def running(name: str, directory: Path) -> Iterator[str]:
    """Save an app of the README, start it as told there, and yield its URL."""
    text = next(text for _, title, text in BLOCKS if title == name)
    (directory / name).write_text(text, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "resource_server", name, "--port", "0", "--no-access-log"],
        cwd=directory,
        env={"PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://[^/\s]+", process.stdout.readline())
        assert found
        yield found[0]
    finally:
        process.terminate()
        process.communicate()


def curl(command: str) -> str:
    """Do what a command of curl would, and return what it would print."""
    words = shlex.split(command)
    if words[1] == "--json":
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        return requests.post(words[3], words[2], headers=headers, timeout=30).text.strip()
    return requests.get(words[1], timeout=30).text.strip()


def test_the_scripts_it_names_exist() -> None:
    for script in set(re.findall(r"(?:scripts|\.ci)/[\w/.]+", README)):
        assert (PROJECT / script).exists(), script
