"""Servers of a file, and downloads from them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from resource_server import (
    HTTPClient,
    Timeout,
)
from resource_server.client import ProtocolError
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.client.misbehaving import Script


LONG = Timeout(PATIENCE, PATIENCE)
CONTENT = random.Random(7).randbytes(300_000)
TAG = 'ETag: "v1"'


class Steps:
    """A `progress` that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, int | None]] = []

    def __call__(self, done: int, total: int | None) -> None:
        self.told.append((done, total))

    @property
    def last(self) -> tuple[int, int | None]:
        return self.told[-1]


def cutting(at: int, *fields: str, content: bytes = CONTENT) -> Script:
    """A script that sends a part of what it has promised."""

    def script(peer: Peer) -> None:
        peer.read_request()
        lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(content)}", *fields, "", ""]
        peer.send("\r\n".join(lines).encode() + content[:at])

    return script


def replying(*answers: tuple[str, bytes, tuple[str, ...]]) -> Script:
    """A script that answers the requests of a connection: status, content, fields."""

    def script(peer: Peer) -> None:
        for status, body, fields in answers:
            peer.read_request()
            peer.answer(body, *fields, status=status)

    return script


def whole(*fields: str, content: bytes = CONTENT) -> Script:
    return replying(("200 OK", content, fields))


def partial(start: int, *fields: str, total: object = len(CONTENT), end: int | None = None) -> Any:
    """The answer of a server that goes on."""
    last = len(CONTENT) - 1 if end is None else end
    span = f"Content-Range: bytes {start}-{last}/{total}"
    return ("206 Partial Content", CONTENT[start : last + 1], (span, *fields))


def fetched(server: Misbehaving, target: Any, path: str = "/file", **options: Any) -> Any:
    """The exception or the response of one download."""
    with HTTPClient(server.address, timeout=LONG, retries=0) as client:
        handle = client.get(path, stream_to=target, **options)
        return handle.exception(PATIENCE) or handle.result(PATIENCE)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def left(folder: Path, script: Script | None = None, path: str = "/file") -> Path:
    """Where a download that was cut off has left a part."""
    target = folder / "name"
    with Misbehaving(script or cutting(100_000, TAG)) as server:
        assert isinstance(fetched(server, target, path), ProtocolError)
    assert not target.exists()
    return target


def field(request: bytes, name: str) -> str | None:
    """The value of a field of a request."""
    for line in request.decode().split("\r\n")[1:]:
        if line.lower().startswith(name.lower() + ":"):
            return line.partition(":")[2].strip()
    return None
