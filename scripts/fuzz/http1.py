"""Fuzz the HTTP/1.x parser.

Invariant: whatever the bytes and however they are cut, nothing but HTTPError is raised, the same
requests are read, the same refusal is made, and each request, written down again, reads the same.

    python scripts/fuzz/http1.py [seconds]

Needs nothing; where atheris is installed, it guides the search. Prints the input that breaks the
invariant and exits with 1.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import TypeAlias

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from resource_server.errors import HTTPError
from resource_server.protocol.http1 import HTTP1
from resource_server.protocol.limits import Limits
from resource_server.protocol.states import Reading
from resource_server.response import Response, error_response

Fields: TypeAlias = list[tuple[str, str]]
# method, target, host, version, fields, body, trailers
Request: TypeAlias = tuple[str, str, str, int, Fields, bytes, Fields]

# Small ones, so that they are met.
LIMITS = Limits(
    request_line=200,
    header_fields=10,
    header_bytes=400,
    empty_lines=2,
    chunk_line=40,
    chunk_overhead=100,
    trailer_fields=3,
    trailer_bytes=100,
)
SEEDS = [
    b"GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a:80\r\nContent-Length: 5\r\n\r\nhello",
    b"PUT / HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\n\r\n",
    b'X / HTTP/1.1\r\nHost:\r\nTransfer-Encoding: chunked\r\n\r\n1;a="b"\r\n!\r\n0\r\nX: y\r\n\r\n',
    b"HEAD http://b.example/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"OPTIONS * HTTP/1.2\r\nhost:a\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n",
    b"CONNECT b:443 HTTP/1.1\r\nHost: b\r\n\r\n\r\n\r\n",
]
TOKENS = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b" ", b"\t", b":", b",", b";", b"=", b'"', b"\\", b"#",
    b"\0", b"\x7f", b"\xff", b"0", b"1", b"f", b"0x", b"+", b"_", b"0\r\n\r\n", b"HTTP/1.0",
    b"HTTP/1.1", b"HTTP/2.0", b"GET ", b"Host: b\r\n", b"Content-Length: 3\r\n",
    b"Content-Length: 3, 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: x\r\n",
    b"transfer-encoding : chunked\r\n", b" folded\r\n", b"Connection: close\r\n",
    b"Connection: keep-alive\r\n", b"Expect: x\r\n", b"http://c/", b"*", b"%41", b"[::1]",
    b"X: y\r\n", *SEEDS,
]  # fmt: skip


def read(pieces: list[bytes]) -> tuple[list[Request], int | None]:
    """Return the complete requests that the pieces hold, and the status of the refusal if any."""
    http = HTTP1(LIMITS)
    requests: list[Request] = []
    head: tuple[str, str, str, int, Fields] | None = None
    body = b""
    for piece in pieces:
        http.receive(piece)
        try:
            while http.reading is not Reading.CLOSED:
                if head is None:
                    request = http.next_request(("", 0))
                    if request is None:
                        break
                    fields = request.headers.fields()
                    head = (request.method, request.target, request.host, request.version, fields)
                    body = b""
                body += http.read_body()
                if not http.body_complete:
                    break
                trailers = http.trailers.fields() if http.trailers is not None else []
                requests.append((*head, body, trailers))
                head = None
                http.start(Response(), b"")
                http.finish()
        except HTTPError as error:
            http.start(error_response(error, "text/plain"), b"")
            http.finish()
            assert http.next_request(("", 0)) is None
            assert http.buffered == 0
            return requests, error.status_code
    return requests, None


def write(request: Request) -> bytes:
    """Write a request down."""
    method, target, host, version, fields, body, trailers = request
    if target == "*" or method == "CONNECT":
        line = f"{method} {target} HTTP/1.{version - 10}"
    else:
        line = f"{method} {f'http://{host}' if host else ''}{target} HTTP/1.{version - 10}"
    chunked = any(name.lower() == "transfer-encoding" for name, _ in fields)
    parts = [line, *[f"{name}: {value}" for name, value in fields], "", ""]
    data = "\r\n".join(parts).encode("latin-1")
    if not chunked:
        return data + body
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    end = "".join([f"{name}: {value}\r\n" for name, value in trailers]).encode("latin-1")
    return data + chunk + b"0\r\n" + end + b"\r\n"


def check(data: bytes) -> None:
    """Raise AssertionError, or whatever the parser raised, if the invariant does not hold."""
    expected = read([data])
    assert read([data[at : at + 1] for at in range(len(data))]) == expected
    choose = random.Random(data)
    places = sorted(choose.randrange(len(data) + 1) for _ in range(choose.randrange(1, 6)))
    ends = zip([0, *places], [*places, len(data)], strict=True)
    assert read([data[start:end] for start, end in ends]) == expected
    for request in expected[0]:
        again = write(request)
        # OPTIONS for a server as a whole loses the authority that its URL had.
        if len(again.partition(b"\r\n")[0]) <= LIMITS.request_line and request[1] != "*":
            assert read([again]) == ([request], None), again


def mutation(choose: random.Random) -> bytes:
    """Return something like HTTP."""
    data = b"".join(choose.choices(SEEDS, k=choose.randrange(1, 4)))
    for _ in range(choose.randrange(6)):
        start = choose.randrange(len(data) + 1)
        end = min(len(data), start + choose.choice([0, 0, 1, 2, 10]))
        inserted = choose.choice(
            [b"", choose.choice(TOKENS), choose.choice(TOKENS), choose.randbytes(1)]
        )
        data = data[:start] + inserted * choose.choice([1, 1, 1, 2, 30]) + data[end:]
    return data


def search(seconds: float) -> int:
    """Check mutations for that long; return the exit code."""
    seed = random.SystemRandom().getrandbits(64)
    choose = random.Random(seed)
    deadline = time.monotonic() + seconds
    count = 0
    while time.monotonic() < deadline:
        data = mutation(choose)
        try:
            check(data)
        except Exception:
            print(f"Seed {seed}, input {count}:\n{data!r}", file=sys.stderr)
            raise
        count += 1
    print(f"{count} inputs, nothing found (seed {seed}).")
    return 0


def main() -> int:
    """Fuzz for the seconds given as argument (10)."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    try:
        import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        return search(seconds)
    atheris.instrument_all()
    atheris.Setup([sys.argv[0], f"-max_total_time={max(1, round(seconds))}"], check)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
