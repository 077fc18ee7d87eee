"""Nothing beside the root is ever given away, and every refusal looks like a missing file."""

from __future__ import annotations

import gzip
import os
import socket
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import FileResource, Router
from tests.rawclient import Answer, Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Serve

SECRET = b"TOP-SECRET"

_UP = [
    "../secret.txt",
    "..%2fsecret.txt",
    "..%2Fsecret.txt",
    "%2e%2e/secret.txt",
    "%2E%2E/secret.txt",
    "%2e%2e%2fsecret.txt",
    ".%2e/secret.txt",
    "%2e./secret.txt",
    "..%5csecret.txt",
    "..\\secret.txt",
    "%2e%2e\\secret.txt",
    "%2e%2e%5csecret.txt",
    "..;/secret.txt",
    "..%3b/secret.txt",
    ".../secret.txt",
    "..../secret.txt",
    "....//secret.txt",
    "..%00/secret.txt",
    "..%0a/secret.txt",
    "..%20/secret.txt",
    "..%09/secret.txt",
    "..//secret.txt",
    "../\\secret.txt",
    "..%c0%afsecret.txt",
    "%c0%ae%c0%ae/secret.txt",
    "%c0%2e%c0%2e/secret.txt",
    "%e0%80%ae%e0%80%ae/secret.txt",
    "%f0%80%80%ae%f0%80%80%ae/secret.txt",
    "..%e0%80%afsecret.txt",
    "..%c1%9csecret.txt",
    "..%ef%bc%8fsecret.txt",
    "%ef%bc%8e%ef%bc%8e/secret.txt",
    "%e2%80%a5/secret.txt",
    "%252e%252e/secret.txt",
    "%252e%252e%252fsecret.txt",
    "..%252fsecret.txt",
    "..%25%32%66secret.txt",
    "%25%32%65%25%32%65/secret.txt",
    "..%255csecret.txt",
    "..%u2215secret.txt",
    "%u002e%u002e/secret.txt",
    "%%32%65%%32%65/secret.txt",
    "%2%65%2%65/secret.txt",
    ".\\.\\..\\secret.txt",
    "./../secret.txt",
    "%2e/%2e%2e/secret.txt",
]
_PATHS = [
    *_UP,
    *(f"docs/{name}" for name in _UP[:12]),
    *(f"docs/../{name}" for name in _UP[:4]),
    *("../" * depth + "etc/passwd" for depth in (3, 8, 40)),
    *("%2e%2e/" * depth + "etc/passwd" for depth in (3, 8)),
    "/etc/passwd",
    "//etc/passwd",
    "%2fetc%2fpasswd",
    "/%2fetc/passwd",
    "%5cetc%5cpasswd",
    "\\etc\\passwd",
    "C:/Windows/win.ini",
    "C:%5cWindows%5cwin.ini",
    "c:secret.txt",
    "docs/c:secret.txt",
    "C%3a/Windows/win.ini",
    "file:///etc/passwd",
    "\\\\host\\share\\secret.txt",
    "%5c%5chost%5cshare",
    "//host/share/secret.txt",
    "%2f%2fhost/share",
    "%5c%5c%3f%5cC:%5csecret.txt",
    "%5c%5c.%5cpipe%5cx",
    "%3f%3f/secret.txt",
    "docs/index.html::$DATA",
    "docs/index.html:stream",
    "docs%3a%3a$INDEX_ALLOCATION/index.html",
    "CON",
    "con.txt",
    "NUL",
    "nul.",
    "NUL%20.txt",
    "aux.html",
    "PRN",
    "COM1",
    "com1.log",
    "COM%c2%b9",
    "LPT1",
    "lpt9.txt",
    "CONIN$",
    "conout$.txt",
    "docs/CON/x",
    "docs/index.html.",
    "docs/index.html%20",
    "docs/index.html...",
    "docs./index.html",
    "docs%20/index.html",
    "docs/index.html%00",
    "docs/index.html%00.png",
    "%00",
    "%00/etc/passwd",
    "docs/%00../secret.txt",
    "docs/index.html%0d%0aX:y",
    "docs/%7f",
    "docs/%c2%85",
    "docs/%ed%a0%80",
    "%ff%fe",
    ".htpasswd",
    "%2ehtpasswd",
    "%2Ehtpasswd",
    ".git/config",
    ".git/",
    ".git",
    "docs/.env",
    "docs/%2eenv",
    "%e2%80%8c.htpasswd",
    "%ef%bb%bf.htpasswd",
    "tohidden",
    "tohidden/config",
    "out.txt",
    "outside/secret.txt",
    "outside/",
    "outside",
    "outside/../docs/index.html",
    "deep/link/secret.txt",
    "circle",
    "circle/x",
    "dangling",
    "absolute",
    "absolute/passwd",
    "proc",
    "proc/self/environ",
    "fifo",
    "fifo/",
    "socket",
    "device",
    "locked.txt",
    "index.html.d",
    "docs/index.html/",
    "docs/index.html/x",
    "docs//index.html",
    "./docs/index.html",
    "docs/./index.html",
    "docs/%2e/index.html",
    "docs%2findex.html",
    "docs%5cindex.html",
    "docs\\index.html",
    "empty",
    "empty/",
    "a" * 256,
    "a/" * 3000,
    "%61" * 300,
    "docs/" + "x" * 5000,
    "~root",
    "~/.ssh/id_rsa",
    "$HOME/secret.txt",
    "%24%7bHOME%7d",
    "docs/*",
    "docs/index.htm?",
    "docs/INDEX.HTM~1",
    "GIT~1/config",
]
assert len(_PATHS) >= 120


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "root"
    for name, content in {
        "secret.txt": SECRET,
        "share/secret.txt": SECRET,
        "root/docs/index.html": b"the docs",
        "root/deep/x": b"deep",
        "root/.htpasswd": SECRET,
        "root/.git/config": SECRET,
        "root/docs/.env": SECRET,
        "root/locked.txt": SECRET,
        "root-beside/secret.txt": SECRET,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (root / "empty").mkdir()
    for name, target in {
        "out.txt": "../secret.txt",
        "outside": "..",
        "deep/link": "../../share",
        "tohidden": ".git",
        "circle": "circle",
        "dangling": "nothing",
        "absolute": "/etc",
        "proc": "/proc",
        "device": "/dev/zero",
    }.items():
        (root / name).symlink_to(target)
    (root / "locked.txt").chmod(0)
    if os.geteuid() == 0:
        # Who may read everything is given a file that cannot be.
        (root / "locked.txt").unlink()
    os.mkfifo(root / "fifo")
    here = os.open(root, os.O_RDONLY)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"/proc/self/fd/{here}/socket" if os.path.isdir("/proc/self/fd") else "socket")
    os.close(here)
    yield root
    listener.close()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX files")
@pytest.mark.parametrize("prefix", ["", "/files"])
def test_attacks_find_nothing(
    serve: Serve, root: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = set()
    system_open = os.open

    def watched(*arguments: Any, **named: Any) -> int:
        descriptor = system_open(*arguments, **named)
        kinds.add(stat.S_IFMT(os.fstat(descriptor).st_mode))
        return descriptor

    monkeypatch.setattr(os, "open", watched)
    router = Router()
    router.mount(prefix or "/", FileResource(root))
    address = serve(router).address

    def ask(target: str, method: str) -> tuple[int, dict[str, str], bytes]:
        with Client(address) as client:
            client.ask(target, "Accept: text/html", method=method)
            answer = client.read(head_only=method == "HEAD")
        answer.fields.pop("date")
        return answer.status, answer.fields, answer.body

    assert ask(f"{prefix}/docs/index.html", "GET")[2] == b"the docs"
    missing = {method: ask(f"{prefix}/missing", method) for method in ("GET", "HEAD")}
    assert missing["GET"][0] == 404
    for path in _PATHS:
        for method in ("GET", "HEAD"):
            target = f"{prefix}/{path}"
            status, fields, body = ask(target, method)
            assert SECRET not in body, target
            assert b"root:" not in body, target
            if status != 404:
                # No request at all: the syntax is wrong, whatever there is on the disk.
                assert status in (400, 414), target
                continue
            assert (status, fields, body) == missing[method], target
    # No FIFO, device or socket was opened to find out what it is.
    assert kinds <= {stat.S_IFREG, stat.S_IFDIR}


# Puts a directory or a file and a link to what is outside in turn at the same place, as fast as it
# can: in a process of its own, that the server is interrupted anywhere.
_SWAPPER = """
import os, sys
places = sys.argv[1:]
print("ready", flush=True)
while True:
    for place in places:
        os.rename(place, place + ".plain")
        os.rename(place + ".link", place)
        os.rename(place, place + ".link")
        os.rename(place + ".plain", place)
"""


def _contents(answer: Answer) -> bytes:
    if answer.fields.get("content-encoding") == "gzip" and answer.body[:2] == b"\x1f\x8b":
        return gzip.decompress(answer.body)
    return answer.body


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX files")
@pytest.mark.parametrize("listing", [False, True])
def test_links_that_are_swapped_meanwhile_leak_nothing(
    serve: Serve, tmp_path: Path, listing: bool
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for place, content in ((root / "sub" / "deep", b"public"), (outside / "deep", SECRET)):
        place.mkdir(parents=True)
        for name in ("file.txt", "file.txt.gz", "index.html"):
            (place / name).write_bytes(content)
            (place.parent / name).write_bytes(content)
    # For listings to tell.
    (outside / "TOP-SECRET-name").touch()
    (outside / "deep" / "TOP-SECRET-name").touch()
    (root / "sub.link").symlink_to(outside)
    (root / "sub" / "deep.link").symlink_to(outside / "deep")
    (root / "file.txt").write_bytes(b"public")
    (root / "file.txt.link").symlink_to(outside / "file.txt")
    (root / "always").symlink_to("sub/deep")
    statuses = set()
    resource = FileResource(root, listing=listing, index="" if listing else "index.html")
    targets = ["/file.txt", "/sub/file.txt", "/sub/deep/file.txt", "/sub/", "/sub/deep/"]
    targets += ["/always/file.txt", "/always/"]
    places = [root / "sub", root / "file.txt"]
    with (
        Client(serve(resource).address) as client,
        subprocess.Popen(
            [sys.executable, "-c", _SWAPPER, *map(str, places)], stdout=subprocess.PIPE
        ) as swapper,
    ):
        assert swapper.stdout is not None
        swapper.stdout.readline()
        try:
            end = time.monotonic() + 2
            while time.monotonic() < end:
                for target in targets:
                    answer = client.get(target, "Accept-Encoding: gzip")
                    statuses.add(answer.status)
                    assert SECRET not in _contents(answer), target
        finally:
            swapper.kill()
    assert 200 in statuses
    assert statuses <= {200, 404}
