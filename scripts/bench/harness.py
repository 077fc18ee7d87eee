"""Our server beside every other one, fairly: see --help, and `scripts/bench/run`.

Each measurement is a new process of a server on a core of its own, and a load on another core.
Servers take turns within each round, another one beginning each time, so that what else the machine
does meets all of them. What a peer cannot do, or fails at, is said in the report.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench import chart, table, workloads
from scripts.bench.environment import CACHE, Environment, pins
from scripts.bench.measure import WRK, Settings, measure
from scripts.bench.peers import catalog
from scripts.bench.process import ROOT, cores, raise_descriptors
from scripts.bench.record import FIGURES, Record, RecordError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from scripts.bench.peers.catalog import Peer
    from scripts.bench.record import Figures
    from scripts.bench.workloads import Workload

#: Rounds in a row that a peer may fail at a workload before it is left alone.
PATIENCE = 2


class Progress:
    """A line on standard error for what is being measured; rewritten on a terminal."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._done = 0
        self._start = time.monotonic()
        self._live = sys.stderr.isatty()

    def begin(self, what: str) -> None:
        if self._live:
            left = ""
            if self._done:
                each = (time.monotonic() - self._start) / self._done
                left = f", {each * (self._steps - self._done) / 60:.0f} min left"
            text = f"[{self._done + 1}/{self._steps}{left}] {what} …"
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def end(self, what: str) -> None:
        self._done += 1
        start = "\r\x1b[K" if self._live else ""
        print(f"{start}[{self._done}/{self._steps}] {what}", file=sys.stderr, flush=True)


class Run:
    """Everything that one call of the harness measures, into one record."""

    def __init__(self, options: argparse.Namespace, environment: Environment) -> None:
        self.rounds: int = options.rounds
        self.attempts: int = options.attempts
        self.peers: list[Peer] = options.peers
        self.workloads: list[Workload] = options.only
        self.settings = Settings(
            seconds=options.seconds,
            warm_up=min(0.5, options.seconds / 2),
            settle=1.0 if options.quick else 6.0,
            pinned=not options.unpinned and len(set(cores())) > 1,
        )
        self.environment = environment
        self.path: Path = options.out / "record.json"
        self.record = Record(
            made=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            machine=machine(),
            settings={
                "rounds": self.rounds,
                "seconds": self.settings.seconds,
                "pinned": "yes" if self.settings.pinned else "no",
            },
            workloads={
                each.name: {"title": each.title, "main": each.main} for each in options.only
            },
            peers={peer.name: peer.what for peer in options.peers},
        )

    def prepare(self) -> None:
        """Install what the peers need, and note who cannot take part where."""
        needs = {name for peer in self.peers for name in peer.needs}
        self.environment.install(needs)
        installed = self.environment.versions()
        self.record.versions = versions() | {
            name: installed[name] for name in pins() if name in needs and name in installed
        }
        for workload in self.workloads:
            for peer in self.peers:
                result = self.record.result(workload.name, peer.name)
                reasons = [peer.without[need] for need in workload.needs if need in peer.without]
                missing = [name for name in peer.needs if name in self.environment.missing]
                if reasons:
                    result.absent = reasons[0]
                elif missing:
                    result.problem = (
                        f"{missing[0]} cannot be installed: {self.environment.missing[missing[0]]}"
                    )

    def run(self) -> None:
        pairs = [
            (workload, peer)
            for workload in self.workloads
            for peer in self.peers
            if not self._is_out(workload, peer)
        ]
        progress = Progress(len(pairs) * self.rounds)
        for number in range(self.rounds):
            for workload in self.workloads:
                turns = [peer for each, peer in pairs if each is workload]
                shift = number * 7 % max(1, len(turns))
                for peer in turns[shift:] + turns[:shift]:
                    what = f"round {number + 1}: {workload.name:14} {peer.name:22}"
                    progress.begin(what)
                    progress.end(f"{what} {self._round(workload, peer, number)}")
                    self.record.write(self.path)

    def _is_out(self, workload: Workload, peer: Peer) -> bool:
        result = self.record.result(workload.name, peer.name)
        return bool(result.absent or result.problem)

    def _round(self, workload: Workload, peer: Peer, number: int) -> str:
        """Measure once, and again while others disturb it; what came of it, in words."""
        result = self.record.result(workload.name, peer.name)
        if number >= PATIENCE and not result.rounds:
            return "left out, as it failed before"
        best: Figures | None = None
        for _ in range(self.attempts):
            try:
                figures = measure(peer, workload, self.environment, self.settings)
            except RuntimeError as error:
                result.problem = str(error)
                break
            if best is None or figures.get("others", 0.0) < best.get("others", 0.0):
                best = figures
            if best.get("others", 0.0) <= table.DISTURBED:
                break
        if best is None:
            return result.problem
        result.rounds.append(best)
        return ", ".join(
            f"{FIGURES[name].title} {table.number(value, name)} {FIGURES[name].unit}".strip()
            for name, value in best.items()
        )


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass
    return {
        "processor": f"{model}, {len(os.sched_getaffinity(0))} cores",
        "system": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
    }


def versions() -> dict[str, str]:
    """Ours, and of what is no distribution."""
    from resource_server import __version__

    found = {"resource_server": __version__}
    revision = _last_words("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    if revision:
        found["revision"] = revision
    if command := catalog.nginx():
        found["nginx"] = _last_words(command, "-v").rpartition("/")[2]
    if wrk := shutil.which("wrk"):
        found["wrk"] = _last_words(wrk, "-v").removeprefix("wrk").partition("[")[0].strip()
    return found


def _last_words(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout + done.stderr).strip().partition("\n")[0]


def report(record: Record, out: Path, before: Record | None) -> None:
    """Write the table and the chart beside the record, and print the table."""
    text = table.markdown(record, before)
    (out / "table.md").write_text(text)
    (out / "chart.svg").write_text(chart.svg(record))
    print(text)
    print(f"{out / 'record.json'}, {out / 'table.md'} and {out / 'chart.svg'} have this.")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench/run",
        description="Our server beside every other one: requests per second, latency, CPU time and"
        " memory, as a JSON record, a Markdown table and an SVG chart. Needs Linux and wrk;"
        " the other servers are installed into .bench/ of the project.",
        epilog="workloads: "
        + ", ".join(workloads.BY_NAME)
        + ". peers: "
        + ", ".join(catalog.BY_NAME)
        + ". A name before a slash or blank stands for all of its: granian.",
    )
    parser.add_argument("--quick", action="store_true", help="one round of a second each")
    parser.add_argument("--only", metavar="WORKLOADS", help="comma-separated; all by default")
    parser.add_argument("--peers", metavar="PEERS", help="comma-separated; all by default")
    parser.add_argument("--rounds", type=int, metavar="N", help="5 by default")
    parser.add_argument("--seconds", type=float, metavar="S", help="each measurement; 2 by default")
    parser.add_argument(
        "--attempts",
        type=int,
        metavar="N",
        help="how often to measure again while other programs disturb; 3 by default",
    )
    parser.add_argument("--unpinned", action="store_true", help="let all run on any core")
    parser.add_argument("--out", type=Path, help="the folder to write to; one of .bench by default")
    parser.add_argument(
        "--environment",
        type=Path,
        default=CACHE,
        metavar="FOLDER",
        help="where the other servers are installed; .bench by default",
    )
    parser.add_argument("--compare", type=Path, metavar="RECORD", help="an earlier record.json")
    parser.add_argument(
        "--report", type=Path, metavar="RECORD", help="measure nothing, and report this record"
    )
    return parser


def parse(words: list[str] | None = None) -> argparse.Namespace:
    parser = arguments()
    options = parser.parse_args(words)
    try:
        options.only = workloads.named(options.only) if options.only else list(workloads.WORKLOADS)
        options.peers = catalog.named(options.peers) if options.peers else list(catalog.PEERS)
    except ValueError as error:
        parser.error(str(error))
    defaults = {"rounds": 1, "seconds": 1.0, "attempts": 1}
    if not options.quick:
        defaults = {"rounds": 5, "seconds": 2.0, "attempts": 3}
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
        if getattr(options, name) <= 0:
            parser.error(f"--{name} must be more than 0")
    if options.out is None:
        options.out = CACHE / time.strftime("%Y%m%d-%H%M%S")
    return options


def main(words: list[str] | None = None) -> int:
    options = parse(words)
    try:
        before = Record.read(options.compare) if options.compare else None
        if options.report:
            record = Record.read(options.report)
            options.out.mkdir(parents=True, exist_ok=True)
            record.write(options.out / "record.json")
            report(record, options.out, before)
            return 0
    except RecordError as error:
        print(error, file=sys.stderr)
        return 2
    if not sys.platform.startswith("linux"):
        print("The harness needs Linux: it measures by /proc.", file=sys.stderr)
        return 2
    if shutil.which("wrk") is None and {each.kind for each in options.only} & {"wrk", "mixed"}:
        print(WRK, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # with what was started
    raise_descriptors(16_000)
    options.out.mkdir(parents=True, exist_ok=True)
    run = Run(options, Environment(options.environment))
    run.prepare()
    try:
        run.run()
    except KeyboardInterrupt:
        print("\ninterrupted; what was measured is reported", file=sys.stderr)
    run.record.write(run.path)
    report(run.record, options.out, before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
