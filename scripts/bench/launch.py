"""A peer as a running server: started on its core, and asked once whether it does the work."""

from __future__ import annotations

import http.client
import json
import ssl
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scripts.bench.peers.catalog import Site
from scripts.bench.process import Program, cores, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.bench.environment import Environment
    from scripts.bench.peers.catalog import Peer
    from scripts.bench.workloads import Workload

#: Seconds until a server that was started has to answer.
PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers."""

    program: Program
    port: int
    #: seconds from the start of its process to its first answer
    answered_after: float


@contextmanager
def serving(
    peer: Peer,
    workload: Workload,
    environment: Environment,
    *,
    pinned: bool = True,
    more: dict[str, str] | None = None,
) -> Iterator[Running]:
    """Start a peer for a workload; it is ended when the context is left.

    :param more: further variables of its environment.
    :raises RuntimeError: if it does not start, or does not answer as it should.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        site = Site(
            environment.python,
            port,
            environment.certificate() if workload.tls else None,
            environment.files(),
            scratch,
            workload.threads,
        )
        variables = {**peer.surroundings(site), **(more or {})}
        if "close" in workload.needs:
            variables["BENCH_CLOSE"] = "1"
        core = cores()[0] if pinned else None
        begin = time.perf_counter()
        with Program(peer.start(site), core, variables) as program:
            program.wait_until_it_listens(port, PATIENCE)
            if workload.answer is not None:
                check(program, workload, port)
            yield Running(program, port, time.perf_counter() - begin)


def check(program: Program, workload: Workload, port: int) -> None:
    """Have one request answered, and compare.

    :raises RuntimeError: for an answer that is not what the workload is about.
    """
    end = time.monotonic() + PATIENCE
    while True:
        try:
            status, content = ask(workload, port)
            break
        except (OSError, http.client.HTTPException) as error:
            # Some listen before they serve.
            if time.monotonic() > end:
                raise program.failure(f"it does not answer ({error!r})") from error
            time.sleep(0.002)
    if status != 200:
        raise RuntimeError(f"it answers with {status}: {content[:60]!r}")
    if not same(content, workload.answer or b""):
        raise RuntimeError(
            f"a wrong answer: {content[:60]!r}, not {(workload.answer or b'')[:60]!r}"
        )


def ask(workload: Workload, port: int) -> tuple[int, bytes]:
    """Status and content of one answer."""
    connection: http.client.HTTPConnection
    if workload.tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=context)
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    fields = dict(field.split(": ", 1) for field in workload.fields)
    try:
        method = "GET" if workload.body is None else "POST"
        connection.request(method, workload.path, workload.body, fields)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def same(content: bytes, expected: bytes) -> bool:
    """Whether an answer is the expected one; JSON may be written in any way."""
    if content == expected:
        return True
    try:
        return bool(json.loads(content) == json.loads(expected))
    except ValueError:
        return False
