"""What every application of the benchmark does, so that all do the same; and where they serve it.

The harness says the place by the environment. Servers without a Date field of their own get one
from `date`, made once a second as theirs is.
"""

from __future__ import annotations

import os
import time
from typing import Any

HOST = "127.0.0.1"
PORT = int(os.environ.get("BENCH_PORT", "8000"))
#: PEM files of key and certificate, or None for plain HTTP.
TLS = (os.environ["BENCH_KEY"], os.environ["BENCH_CERT"]) if "BENCH_KEY" in os.environ else None
#: The directory with the files to serve.
FILES = os.environ.get("BENCH_FILES", ".")
#: For those that have a pool of threads.
THREADS = int(os.environ.get("BENCH_THREADS", "4"))
#: Whether all requests ask for the end of their connection.
CLOSE = "BENCH_CLOSE" in os.environ
#: A pause between requests that no server may take for the end of a connection.
KEEP_ALIVE = 300
#: More than the connections of any workload.
CONNECTIONS = 16_000
BACKLOG = 4096

TEXT, JSON, BINARY = "text/plain; charset=utf-8", "application/json", "application/octet-stream"
HELLO = b"Hello, World!"
SLEPT = b"slept"
SLEEP = 0.010
#: 10 KiB.
PAGE = b"".join(
    b"Line %4d of a page of plain text, no two of them are the same.\n" % n for n in range(160)
)


def user(name: str, item: str) -> dict[str, str]:
    """The answer to /user/NAME/item/ITEM."""
    return {"name": name, "item": item}


def total(order: dict[str, Any]) -> dict[str, Any]:
    """The answer to an order that was posted to /total."""
    items = order["items"]
    return {
        "order": order["order"],
        "count": sum(item["count"] for item in items),
        "names": [item["name"] for item in items],
    }


_date = (0, "")


def date() -> str:
    """The value of a Date field sent now (RFC 9110 §6.6.1)."""
    global _date  # noqa: PLW0603 - two threads at worst make it twice
    second, text = _date
    now = int(time.time())
    if now != second:
        text = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now))
        _date = (now, text)
    return text
