"""What others install: the distributions, and what an import costs them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from urllib.request import urlopen

import pytest

import resource_server

PROJECT = Path(__file__).parents[1]

#: Modules that the server must not import: they are slow, or only some users need them.
HEAVY = {
    "argparse", "asyncio", "certifi", "email", "gzip", "html", "http.client", "http.cookies",
    "inspect", "json", "mimetypes", "ssl", "tempfile", "urllib.request", "urllib3", "uuid",
}  # fmt: skip


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command in a clean environment, and return its output."""
    kept = {"PATH", "HOME", "SYSTEMROOT", "TEMP", "TMP"}
    environment = {name: value for name, value in os.environ.items() if name in kept}
    result = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def serves(python: Path | str, *options: str, cwd: Path) -> None:
    """Have an interpreter serve a directory, ask for a file in it, and stop it."""
    (cwd / "page.txt").write_text("served")
    process = subprocess.Popen(
        [python, *options, "-m", "resource_server", "--port", "0", "--no-access-log"],
        cwd=cwd,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found
        with urlopen(f"{found[0]}/page.txt", timeout=30) as answer:
            assert answer.read() == b"served"
        process.terminate()
        assert process.communicate(timeout=30)[0] == "Stopped.\n"
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist, and the wheel that was built from it."""
    source = tmp_path_factory.mktemp("source") / "resource_server"
    ignored = shutil.ignore_patterns(".*", "*.egg-info", "__pycache__", "build", "dist")
    shutil.copytree(PROJECT, source, ignore=ignored)
    shutil.copy(PROJECT / ".ruff.toml", source)
    shutil.copytree(PROJECT / ".ci", source / ".ci")
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source, cwd=source)
    return out


def test_the_wheel_holds_the_package_and_nothing_else(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    assert wheel.name == f"resource_server-{resource_server.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        text = archive.read(metadata).decode()
    package = PROJECT / "resource_server"
    expected = {path.relative_to(PROJECT).as_posix() for path in package.rglob("*.py")}
    assert names == expected | {"resource_server/py.typed"}
    assert "Requires-Python: >=3.11" in text
    assert set(re.findall(r"^Requires-Dist: (\w+)[^;\n]*$", text, re.MULTILINE)) == {
        "certifi",
        "urllib3",
    }


def test_the_sdist_holds_what_its_tests_need(distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = ["LICENSE", "README.rst", "CHANGELOG.rst", "setup.cfg", "setup.py", ".ruff.toml"]
    needed += ["tests/conftest.py", "tests/test_packaging.py", "scripts/test", "scripts/check"]
    needed += [
        ".ci/run",
        "scripts/environment.sh",
        "scripts/demo/app.py",
        "scripts/demo/static/index.html",
    ]
    assert [name for name in needed if name not in names] == []
    assert not [name for name in names if name.endswith((".pyc", "__pycache__"))]


def test_the_wheel_serves_in_an_empty_environment(distributions: Path, tmp_path: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=False, symlinks=os.name != "nt")
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    install = ["install", "--quiet", "--no-index", "--no-deps", str(wheel)]
    run(sys.executable, "-m", "pip", "--python", python, *install, cwd=tmp_path)
    version = run(scripts / "resource_server", "--version", cwd=tmp_path)
    assert version == f"resource_server {resource_server.__version__}\n"
    folder = tmp_path / "folder"
    folder.mkdir()
    serves(python, "-I", "-W", "error", cwd=folder)


def test_the_package_serves_without_site_packages(tmp_path: Path) -> None:
    shutil.copytree(
        PROJECT / "resource_server",
        tmp_path / "resource_server",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    serves(sys.executable, "-S", "-E", "-W", "error", cwd=tmp_path)


def test_an_import_of_the_server_imports_nothing_heavy() -> None:
    code = f"import sys; sys.path.insert(0, {str(PROJECT)!r}); import resource_server"
    code += "; print(*sys.modules)"
    loaded = set(run(sys.executable, "-I", "-S", "-c", code, cwd=PROJECT).split())
    assert loaded & HEAVY == set()
    assert not {name for name in loaded if name.startswith("resource_server.cli")}
