"""Answers that a server of `misbehaving` gives, and what a request of them ends in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resource_server import HTTPClient, Timeout
from resource_server.client import (
    ClientError,
)
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer

if TYPE_CHECKING:
    from tests.client.misbehaving import Script

# What is only there to end a test that would hang.


LONG = Timeout(PATIENCE, PATIENCE)


def replying(*answers: bytes) -> Script:
    """A script that answers each request of a connection with the next of some bytes."""

    def script(peer: Peer) -> None:
        for answer in answers:
            peer.read_request()
            peer.send(answer)

    return script


def ok(body: bytes = b"ok", *fields: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


def redirect(location: str, status: int = 302, *fields: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", "Content-Length: 0", f"Location: {location}", *fields, "", ""]
    return "\r\n".join(lines).encode()


def ends(server: Misbehaving, *, timeout: Timeout = LONG, **options: Any) -> BaseException:
    """Return what a GET ends in, and see that its thread and connection are free after it."""
    with HTTPClient(server.address, timeout=timeout, retries=0, **options) as client:
        error = client.get("/it?token=secret").exception(PATIENCE)
        assert error is not None
        assert isinstance(error, ClientError)
        assert error.method == "GET"
        assert error.url == f"{server.url}/it?token=***"
        assert str(error).startswith(f"GET {server.url}/it?token=***: ")
        assert error.__cause__ is error.cause
        assert server.wait_gone()
        client.stop()
        assert client._transport.pool.count == (0, 0)
    return error
