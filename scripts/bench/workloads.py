"""What is measured: each workload with what its clients send and what has to come back."""

from __future__ import annotations

import json
from dataclasses import dataclass

from scripts.bench.peers.apps import work

_AGENT = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/140.0.0.0 Safari/537.36"
)
_ACCEPT = (
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
    "image/apng,*/*;q=0.8"
)
#: What Chromium sends with a navigation, beside Host and Cookie: with these, 14 fields.
BROWSER = (
    "Connection: keep-alive",
    'sec-ch-ua: "Chromium";v="140", "Not=A?Brand";v="24", "Google Chrome";v="140"',
    "sec-ch-ua-mobile: ?0",
    'sec-ch-ua-platform: "Linux"',
    "Upgrade-Insecure-Requests: 1",
    _AGENT,
    _ACCEPT,
    "Sec-Fetch-Site: same-origin",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Dest: document",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
)
_COOKIE = "Cookie: theme=dark; session=1000000000"


def _order() -> bytes:
    """An order of exactly 1 KiB, as JSON."""
    order = {
        "order": 4711,
        "items": [
            {"name": f"article number {number}", "count": number + 1, "price": 9.5 * number}
            for number in range(12)
        ],
        "note": "",
    }
    missing = 1024 - len(json.dumps(order))
    order["note"] = "-" * missing
    return json.dumps(order).encode()


ORDER = _order()


@dataclass(frozen=True, slots=True)
class Workload:
    """One way to use a server.

    :ivar kind: how it is measured: `wrk`, `mixed`, `burst`, `idle`, `start` or `ws`.
    :ivar needs: what the server must be able to do (see `catalog.ABILITIES`).
    :ivar main: the figure that peers are ranked by.
    :ivar answer: the content that has to come back; None if it is not looked at.
    :ivar threads: as many as suit a server with a pool of them.
    :ivar size: bytes of a WebSocket's message.
    """

    name: str
    title: str
    kind: str = "wrk"
    needs: tuple[str, ...] = ("http",)
    path: str = "/"
    fields: tuple[str, ...] = ()
    body: bytes | None = None
    answer: bytes | None = work.HELLO
    tls: bool = False
    varied: bool = False
    connections: int = 32
    threads: int = 4
    size: int = 0
    main: str = "rate"


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


_USER = "/user/ann/item/1234"
_FOUND = _json(work.user("ann", "1234"))
_FILE_4K, _FILE_1M = bytes(range(256)) * 16, bytes(range(256)) * 4096
_TOTAL = _json(work.total(json.loads(ORDER)))

WORKLOADS = (
    Workload("hello", '"Hello, World!", the fields that wrk sends'),
    Workload(
        "browser",
        "a route with two wildcards, JSON, 14 fields as Chromium sends them",
        needs=("route",),
        path=_USER,
        fields=(*BROWSER, _COOKIE),
        answer=_FOUND,
    ),
    Workload(
        "browser-varied",
        "as browser, but one field is another one each time",
        needs=("route",),
        path=_USER,
        fields=BROWSER,
        answer=_FOUND,
        varied=True,
    ),
    Workload(
        "post",
        "1 KiB of JSON in, JSON out",
        needs=("post",),
        path="/total",
        fields=("Content-Type: application/json",),
        body=ORDER,
        answer=_TOTAL,
    ),
    Workload("page", "10 KiB of text", needs=("page",), path="/page", answer=work.PAGE),
    Workload("close", "a connection per request", needs=("close",), fields=("Connection: close",)),
    Workload("tls", "TLS, kept alive", needs=("tls",), tls=True),
    Workload(
        "handshake",
        "a TLS connection per request, its session resumed if the server lets wrk do so",
        needs=("tls", "close"),
        tls=True,
        fields=("Connection: close",),
    ),
    Workload("file-4k", "a file of 4 KiB", needs=("file",), path="/files/4k.bin", answer=_FILE_4K),
    Workload("file-1m", "a file of 1 MiB", needs=("file",), path="/files/1m.bin", answer=_FILE_1M),
    Workload(
        "mixed",
        "quick requests, while 32 that sleep 10 ms are always in flight",
        "mixed",
        needs=("slow",),
        threads=64,
    ),
    Workload("burst", "2,000 connections at once, a request on each", "burst", connections=2000),
    Workload(
        "idle",
        "10,000 connections, or as many as two minutes allow, idle after a request",
        "idle",
        connections=10_000,
        main="parked_kib",
    ),
    Workload(
        "start",
        "a new process: import, and until it answers",
        "start",
        needs=("http", "start"),
        main="first_answer",
        connections=1,
    ),
    Workload("ws", "WebSocket echoes of 16 bytes", "ws", needs=("ws",), answer=None, size=16),
    Workload(
        "ws-64k",
        "WebSocket echoes of 64 KiB",
        "ws",
        needs=("ws",),
        answer=None,
        size=65536,
    ),
    Workload(
        "ws-500",
        "WebSocket echoes of 16 bytes on 500 connections",
        "ws",
        needs=("ws",),
        answer=None,
        size=16,
        connections=500,
    ),
)

BY_NAME = {workload.name: workload for workload in WORKLOADS}


def named(names: str) -> list[Workload]:
    """The workloads of a comma-separated list.

    :raises ValueError: for a name that none has.
    """
    chosen = names.split(",")
    for name in chosen:
        if name not in BY_NAME:
            raise ValueError(f"no workload {name!r}; there are {', '.join(BY_NAME)}")
    return [BY_NAME[name] for name in dict.fromkeys(chosen)]
