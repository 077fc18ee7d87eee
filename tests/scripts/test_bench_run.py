"""The benchmark harness at work: small runs with our own server, and how it ends what it starts."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if not sys.platform.startswith("linux"):
    pytest.skip("the harness measures by /proc", allow_module_level=True)

from scripts.bench import harness, launch
from scripts.bench.environment import Environment
from scripts.bench.process import Program
from scripts.bench.record import Record

if TYPE_CHECKING:
    Output = pytest.CaptureFixture[str]

PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
for line in sys.stdin:
    print(line.strip() * 2, flush=True)
"""


def test_a_run_is_recorded_and_reported(tmp_path: Path, capsys: Output) -> None:
    with_wrk = shutil.which("wrk") is not None
    only = "hello,burst" if with_wrk else "burst"
    words = ["--only", only, "--peers", "ours", "--rounds", "1", "--seconds", "0.3"]
    words += ["--attempts", "1", "--environment", str(tmp_path / "cache")]
    out = tmp_path / "out"
    assert harness.main([*words, "--out", str(out)]) == 0
    record = Record.read(out / "record.json")
    for workload in only.split(","):
        result = record.result(workload, "ours")
        assert result.problem == ""
        assert (result.median("rate") or 0) > 0
        assert (result.median("memory") or 0) > 1
        assert "failed" not in result.rounds[0] or result.rounds[0]["failed"] == 0
    assert "| **ours**" in (out / "table.md").read_text()
    assert "</svg>" in (out / "chart.svg").read_text()
    assert f"] round 1: {only.split(',')[0]}" in capsys.readouterr().err

    again = tmp_path / "again"
    earlier = str(out / "record.json")
    assert harness.main(["--report", earlier, "--compare", earlier, "--out", str(again)]) == 0
    assert "as before" in (again / "table.md").read_text()


def test_without_wrk_it_says_how_to_get_it(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert harness.main(["--only", "hello", "--out", str(tmp_path / "out")]) == 2
    assert "apt-get install wrk" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_record_to_compare_with_is_read_before_anything_is_measured(
    tmp_path: Path, capsys: Output
) -> None:
    missing = str(tmp_path / "no.json")
    assert harness.main(["--compare", missing, "--out", str(tmp_path / "out")]) == 2
    assert "no record can be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "hallo"], "no workload 'hallo'"),
        (["--peers", "apache"], "no peer 'apache'"),
        (["--rounds", "0"], "--rounds must be more than 0"),
        (["--seconds", "-1"], "--seconds must be more than 0"),
    ],
)
def test_a_wrong_option_is_told(words: list[str], said: str, capsys: Output) -> None:
    with pytest.raises(SystemExit):
        harness.parse(words)
    assert said in capsys.readouterr().err


def test_what_a_peer_cannot_do_and_what_is_not_installed_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["--only", "hello,tls", "--peers", "waitress", "--out", str(tmp_path)]
    environment = Environment(tmp_path / "cache")
    environment.missing["waitress"] = "no such version"
    monkeypatch.setattr(environment, "install", lambda _names: None)
    monkeypatch.setattr(environment, "versions", dict)
    run = harness.Run(harness.parse(words), environment)
    run.prepare()
    run.run()
    assert run.record.result("tls", "waitress").absent == "it has no TLS"
    hello = run.record.result("hello", "waitress")
    assert hello.problem == "waitress cannot be installed: no such version"
    assert hello.rounds == []


def test_what_is_not_pinned_is_never_installed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not in requirements.txt: leftpad"):
        Environment(tmp_path).install({"leftpad"})


def test_a_program_ends_with_all_that_it_started() -> None:
    with Program([sys.executable, "-c", PARENT], None) as program:
        child = program.hear(20)
        assert program.ask("7", 20) == 77
        assert program.memory() > 0
        assert program.threads() == 2
        assert program.cpu_seconds() >= 0
    end = time.monotonic() + 20
    while os.path.exists(f"/proc/{child}") and not _is_zombie(child):
        assert time.monotonic() < end


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_program_that_fails_is_told_by_its_last_words() -> None:
    command = [sys.executable, "-c", "raise SystemExit('no licence found')"]
    with Program(command, None) as program, pytest.raises(RuntimeError, match="no licence found"):
        program.hear(20)
    with pytest.raises(RuntimeError, match="it cannot be started"):
        Program(["/no/such/program"], None)


@pytest.mark.parametrize(
    ("content", "expected", "equal"),
    [
        (b"Hello", b"Hello", True),
        (b'{"b":1,"a":2}', b'{"a": 2, "b": 1}', True),
        (b'{"a": 3}', b'{"a": 2}', False),
        (b"Hello?", b"Hello", False),
    ],
)
def test_json_may_be_written_in_any_way(content: bytes, expected: bytes, equal: bool) -> None:
    assert launch.same(content, expected) is equal


def test_files_to_serve_are_made_once(tmp_path: Path) -> None:
    directory = Path(Environment(tmp_path).files())
    made = (directory / "1m.bin").stat()
    assert made.st_size == 1 << 20
    Environment(tmp_path).files()
    assert (directory / "1m.bin").stat().st_mtime_ns == made.st_mtime_ns
    assert sorted(each.name for each in directory.iterdir()) == ["1m.bin", "4k.bin"]
