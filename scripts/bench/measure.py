"""How each kind of workload is measured: one peer, one round, a new process, some figures.

Server and load have a core each, unless `pinned` is False. CPU time is user and system time of all
that belongs to the server. Figures are named and explained in `record.py`.
"""

from __future__ import annotations

import json
import math
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from scripts.bench.launch import Running, ask, serving
from scripts.bench.peers.catalog import OURS
from scripts.bench.process import LOAD, Program, busy_seconds, cores, surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scripts.bench.environment import Environment
    from scripts.bench.peers.catalog import Peer
    from scripts.bench.workloads import Workload

Figures = dict[str, float]

WRK = "wrk is missing; Debian and Ubuntu have it as the package wrk (apt-get install wrk)"
#: Slow requests that `mixed` has in flight, and milliseconds that each sleeps.
SLOW, SLEEP = 32, 10.0
#: Processes that `start` starts for each figure.
STARTS = 3


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and where to measure.

    :ivar seconds: of one measurement.
    :ivar warm_up: seconds of load before it.
    :ivar settle: seconds until a server with idle connections has come to rest.
    """

    seconds: float = 2.0
    warm_up: float = 0.5
    settle: float = 6.0
    pinned: bool = True


def measure(
    peer: Peer, workload: Workload, environment: Environment, settings: Settings
) -> Figures:
    """One round.

    :raises RuntimeError: telling what went wrong with the peer, or with the load.
    """
    if workload.kind == "start":
        return start(peer, workload, environment, settings)
    how: Callable[[Running, Workload, Settings], Figures] = {
        "wrk": by_wrk,
        "mixed": mixed,
        "burst": burst,
        "idle": idle,
        "ws": echo,
    }[workload.kind]
    with serving(peer, workload, environment, pinned=settings.pinned) as running:
        try:
            figures = how(running, workload, settings)
        except RuntimeError:
            if running.program.ended:
                raise running.program.failure("the server ended under load") from None
            raise
    if workload.kind == "idle" and peer.name == OURS:
        figures["python_bytes"] = traced(peer, workload, environment, settings)
    return figures


# -- the load ------------------------------------------------------------------------------------


def load_core(settings: Settings) -> int | None:
    return cores()[1] if settings.pinned else None


class Watch:
    """What a server uses while something is done, and what others take from it meanwhile.

    :param loads: processes of the load that outlive the watch.
    """

    def __init__(self, server: Program, settings: Settings, *loads: Program) -> None:
        self._server = server
        self._loads = loads
        self._cores = sorted(set(cores()))
        self._pinned = settings.pinned and len(self._cores) > 1
        self._before = self._look()

    def _look(self) -> tuple[float, float, float, list[float]]:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        load = children.ru_utime + children.ru_stime + time.process_time()
        return (
            time.monotonic(),
            self._server.cpu_seconds(),
            load + sum(program.cpu_seconds() for program in self._loads),
            [busy_seconds(core) for core in self._cores],
        )

    def end(self) -> tuple[float, float]:
        """CPU seconds of the server, and per cent of a core that others took."""
        start, server_before, load_before, busy_before = self._before
        now, server, load, busy = self._look()
        server -= server_before
        load -= load_before
        others = [after - before for after, before in zip(busy, busy_before, strict=True)]
        share = 100 / max(now - start, 1e-3)
        if self._pinned:
            return server, share * max(0.0, others[0] - server, others[-1] - load)
        return server, share * max(0.0, sum(others) - server - load)


class Load:
    """wrk at work, until it is asked what it counted."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def harvest(self) -> dict[str, int]:
        # Once more as long as it goes on: it misses a signal that comes just before it sleeps.
        for _ in range(20):
            self.program.interrupt()
            if self.program.speaks_within(0.5):
                break
        while not (line := self.program.hear_line(20)).startswith(b"{"):
            pass
        counts: dict[str, int] = json.loads(line)
        return counts


@contextmanager
def wrk(
    port: int, workload: Workload, connections: int, settings: Settings, path: str | None = None
) -> Iterator[Load]:
    """A load that begins here, and ends when it is harvested."""
    command = shutil.which("wrk")
    if command is None:
        raise RuntimeError(WRK)
    scheme = "https" if workload.tls else "http"
    words = [command, "-t1", f"-c{connections}", f"-d{math.ceil(settings.seconds) + 60}"]
    words += [f"--script={LOAD / ('varied.lua' if workload.varied else 'wrk.lua')}"]
    words += ["--timeout", "10s", "--latency"]
    for field in workload.fields:
        words += ["-H", field]
    with tempfile.NamedTemporaryFile() as body:
        if workload.body is not None:
            body.write(workload.body)
            body.flush()
        url = f"{scheme}://127.0.0.1:{port}{path or workload.path}"
        words += [url, "--", body.name if workload.body is not None else "-"]
        with Program(words, load_core(settings)) as program:
            yield Load(program)


def loaded(
    running: Running,
    workload: Workload,
    settings: Settings,
    *others: Program,
) -> tuple[dict[str, int], float, float]:
    """Counts of a load by wrk; CPU seconds of the server meanwhile, and the share of others."""
    watch = Watch(running.program, settings, *others)
    with wrk(running.port, workload, workload.connections, settings) as load:
        time.sleep(settings.seconds)
        counts = load.harvest()
    used, disturbance = watch.end()
    if counts["status"]:
        raise RuntimeError(f"{counts['status']} answers of {counts['requests']} tell an error")
    return counts, used, disturbance


def warm_up(running: Running, workload: Workload, settings: Settings) -> None:
    with wrk(running.port, workload, workload.connections, settings) as load:
        time.sleep(settings.warm_up)
        load.harvest()


def rates(running: Running, counts: dict[str, int]) -> Figures:
    if not counts["requests"]:
        raise running.program.failure("not one request was answered")
    figures = {
        "rate": counts["requests"] / counts["microseconds"] * 1e6,
        "p50": counts["p50"] / 1000,
        "p99": counts["p99"] / 1000,
    }
    lost = sum(counts[name] for name in ("connect", "read", "write", "timeout"))
    if lost:
        figures["failed"] = 100 * lost / (lost + counts["requests"])
    return figures


# -- kinds of workloads --------------------------------------------------------------------------


def by_wrk(running: Running, workload: Workload, settings: Settings) -> Figures:
    warm_up(running, workload, settings)
    counts, used, others = loaded(running, workload, settings)
    return {
        **rates(running, counts),
        "cpu": used / counts["requests"] * 1e6,
        "memory": running.program.memory() / 2**20,
        "others": others,
    }


def mixed(running: Running, workload: Workload, settings: Settings) -> Figures:
    """First quick requests alone; then the slow ones begin, and both are counted."""
    warm_up(running, workload, settings)
    alone, _, _ = loaded(running, workload, settings)
    alone_rate = rates(running, alone)["rate"]
    with wrk(running.port, workload, SLOW, settings, "/slow") as sleeping:
        time.sleep(settings.warm_up)
        counts, used, others = loaded(running, workload, settings, sleeping.program)
        slow = sleeping.harvest()
    figures = rates(running, counts)
    slow_rate = slow["requests"] / slow["microseconds"] * 1e6
    return {
        **figures,
        "kept": 100 * figures["rate"] / alone_rate,
        "slow_ideal": 100 * slow_rate / (SLOW * 1000 / SLEEP),
        "cpu": used / (counts["requests"] + slow_rate * counts["microseconds"] / 1e6) * 1e6,
        "memory": running.program.memory() / 2**20,
        "others": others,
    }


def many(job: str, port: int, workload: Workload, *more: str) -> list[str]:
    return [sys.executable, str(LOAD / "many.py"), job, str(port), str(workload.connections), *more]


def burst(running: Running, workload: Workload, settings: Settings) -> Figures:
    watch = Watch(running.program, settings)
    command = many("burst", running.port, workload, str(settings.seconds))
    with Program(command, load_core(settings)) as crowd:
        result = crowd.hear(60 + settings.seconds)
    used, others = watch.end()
    requests = result["requests"]
    asked = requests + result["failed"]
    if not requests:
        raise running.program.failure("not one of the connections was answered")
    return {
        "rate": requests / result["seconds"],
        "p50": result["p50"],
        "p99": result["p99"],
        **({"failed": 100 * result["failed"] / asked} if result["failed"] else {}),
        "cpu": used / requests * 1e6,
        "memory": running.program.memory() / 2**20,
        "others": others,
    }


def idle(running: Running, workload: Workload, settings: Settings) -> Figures:
    server = running.program
    before = server.memory()
    with Program(many("park", running.port, workload), load_core(settings)) as crowd:
        opened = crowd.hear(150)["parked"]
        if not opened:
            raise server.failure("not one connection was kept")
        time.sleep(settings.settle)
        used, start = server.cpu_seconds(), time.monotonic()
        time.sleep(settings.seconds)
        used, took = server.cpu_seconds() - used, time.monotonic() - start
        grown = server.memory() - before
        threads = server.threads()
        closed = crowd.ask("who is alive?")["closed"]
    return {
        "parked_kib": grown / opened / 1024,
        "parked": opened - closed,
        "threads": threads,
        "idle_cpu": 1000 * used / took,
        "memory": (before + grown) / 2**20,
    }


def traced(peer: Peer, workload: Workload, environment: Environment, settings: Settings) -> float:
    """Bytes that Python allocates for each parked connection, in a server that counts them."""
    with serving(peer, workload, environment, more={"BENCH_TRACE": "1"}) as running:

        def memory() -> int:
            return int(ask(replace(workload, path="/memory"), running.port)[1])

        memory()
        before = memory()
        with Program(many("park", running.port, workload), load_core(settings)) as crowd:
            opened = crowd.hear(150)["parked"]
            if not opened:
                raise running.program.failure("not one connection was kept")
            return (memory() - before) / int(opened)


def echo(running: Running, workload: Workload, settings: Settings) -> Figures:
    words = ["echo", str(running.port), str(workload.connections)]
    words += [str(workload.size), str(settings.seconds)]
    with Program([sys.executable, str(LOAD / "crowd.py"), *words], load_core(settings)) as crowd:
        crowd.hear()
        watch = Watch(running.program, settings, crowd)
        result = crowd.ask("go")
        used, others = watch.end()
    messages = result["messages"]
    if messages <= 0:
        raise running.program.failure("not one message came back")
    return {
        "rate": messages / result["seconds"],
        "cpu": used / messages * 1e6,
        "memory": running.program.memory() / 2**20,
        "others": others,
    }


def start(peer: Peer, workload: Workload, environment: Environment, settings: Settings) -> Figures:
    """Medians of some processes: until it answers, and what its import takes."""
    answers = []
    for _ in range(STARTS):
        with serving(peer, workload, environment, pinned=settings.pinned) as running:
            answers.append(1000 * running.answered_after)
            memory = running.program.memory()
    figures = {"first_answer": statistics.median(answers), "memory": memory / 2**20}
    if peer.imports:
        bare = importing("pass", environment, settings)
        figures["import"] = importing(peer.imports, environment, settings) - bare
    return figures


def importing(statement: str, environment: Environment, settings: Settings) -> float:
    """Milliseconds of a new interpreter that runs a statement and ends."""
    times = []
    for _ in range(STARTS + 1):
        begin = time.perf_counter()
        command = [environment.python, "-c", statement]
        subprocess.run(command, check=True, env=surroundings())
        times.append(1000 * (time.perf_counter() - begin))
    return statistics.median(times[1:])
