"""CPU time of each layer alone, so that a regression is found where it is: see --help.

The lowest of the repeats is what the code costs, the median what it costs on this machine now.
Instructions (`valgrind --tool=callgrind`) are steadier than time: they tell a change of one per
cent on a busy machine, too; and say nothing of caches.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench.layers import ALONE, SERVED, Case, served

#: Seconds of CPU time that are measured for each repeat, about.
REPEAT = 0.005
#: Operations that are prepared, and then run, at a time: no more than the processor's cache holds.
BATCH = 200
#: Exchanges of one repeat, and of one with take-overs.
EXCHANGES, TAKE_OVERS = 400, 20

#: By what is measured: µs at the lowest and at the median, or instructions.
Costs = dict[str, dict[str, float]]


def timed(case: Case) -> float:
    """CPU µs of an operation, the mean of many batches."""
    used, count = 0.0, 0
    while used < REPEAT:
        run = case.prepare(BATCH)
        gc.collect()
        gc.disable()
        try:
            start = time.process_time()
            run()
            used += time.process_time() - start
        finally:
            gc.enable()
        count += BATCH
    return used / count * 1e6


def measure(case: Case, repeats: int) -> dict[str, float]:
    times = [timed(case) for _ in range(repeats)]
    return {"lowest": min(times), "median": statistics.median(times)}


def exchanges(repeats: int) -> Costs:
    """What an exchange costs: client and server, with all their threads."""
    times: dict[str, list[float]] = {name: [] for name, _, _ in SERVED}
    for _ in range(repeats):
        with served(TAKE_OVERS) as ask:
            for name, path, few in SERVED:
                count = TAKE_OVERS if few else EXCHANGES
                start = time.process_time()
                ask(path, count)
                times[name].append((time.process_time() - start) / count * 1e6)
    costs: Costs = {
        name: {"lowest": min(found), "median": statistics.median(found)}
        for name, found in times.items()
    }
    inline, handed, taken = (name for name, _, _ in SERVED)
    for title, name in (("hand-over", handed), ("take-over", taken)):
        costs[f"{title} (the difference)"] = {
            key: costs[name][key] - costs[inline][key] for key in ("lowest", "median")
        }
    return costs


# -- instructions --------------------------------------------------------------------------------


def run_to_be_counted(names: list[str]) -> None:
    """In the process that valgrind watches: its counts are told apart by calls of getppid."""
    for case in ALONE:
        if case.name in names:
            case.prepare(BATCH)()
            run = case.prepare(BATCH)
            gc.collect()
            gc.disable()
            os.getppid()
            run()
            os.getppid()
            gc.enable()


def instructions(cases: list[Case]) -> dict[str, float]:
    """Instructions of one operation of each case."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        sys.exit("valgrind is missing; Debian and Ubuntu have it as the package valgrind")
    with tempfile.TemporaryDirectory() as directory:
        command = [valgrind, "--tool=callgrind", f"--callgrind-out-file={directory}/out"]
        command += ["--dump-before=getppid", sys.executable, __file__, "--counted"]
        command += [case.name for case in cases]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            # The same hashes each time, so the same collisions.
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
        if done.returncode:
            sys.exit(f"valgrind failed: {done.stderr[-2000:]}")
        counts = []
        for number in range(len(cases)):
            # Before each run, and after it: every second dump has a run.
            text = Path(directory, f"out.{2 * number + 2}").read_text()
            match = re.search(r"^totals: (\d+)", text, re.MULTILINE)
            if match is None:
                sys.exit("valgrind's dump has no totals")
            counts.append(int(match[1]) / BATCH)
    return {case.name: count for case, count in zip(cases, counts, strict=True)}


# -- the report ----------------------------------------------------------------------------------

COLUMNS = {"lowest": "lowest µs", "median": "median µs", "instructions": "instructions"}


def table(costs: Costs, before: Costs) -> str:
    keys = [key for key in COLUMNS if any(key in cost for cost in costs.values())]
    # What is steadiest tells whether something has changed.
    steadiest = "instructions" if "instructions" in keys else "lowest"
    heads = [COLUMNS[key] for key in keys] + (["change"] if before else [])
    lines = ["| layer | " + " | ".join(heads) + " |", "|:--|" + "--:|" * len(heads)]
    for name, cost in costs.items():
        cells = [cell(cost, key) for key in keys]
        if before:
            cells.append(change(cost, before.get(name, {}), steadiest))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(cost: dict[str, float], key: str) -> str:
    if key not in cost:
        return "–"
    return f"{cost[key]:,.{0 if key == 'instructions' else 2}f}"


def change(cost: dict[str, float], before: dict[str, float], key: str) -> str:
    key = key if key in cost and key in before else "lowest"
    if not before.get(key) or key not in cost:
        return "–"
    return f"{100 * (cost[key] / before[key] - 1):+.1f} %"


def read(path: Path) -> Costs:
    try:
        costs: Costs = json.loads(path.read_text())["costs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"{path} has no earlier figures of scripts/bench/micro --out: {error}")
    return costs


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench/micro",
        description="CPU time of each layer of the server alone, as a Markdown table.",
    )
    parser.add_argument("--only", default="", help="layers whose name has this in it")
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument(
        "--instructions",
        action="store_true",
        help="count instructions by valgrind, too, where there are no threads; takes minutes",
    )
    parser.add_argument("--out", type=Path, help="a file to keep the figures in")
    parser.add_argument("--compare", type=Path, help="such a file, of an earlier run")
    parser.add_argument("--counted", nargs="+", default=[], help=argparse.SUPPRESS)
    return parser


def progress(what: str) -> None:
    """Tell, on a terminal, what is measured now."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def main() -> None:
    options = arguments().parse_args()
    if options.counted:
        run_to_be_counted(options.counted)
        return
    before = read(options.compare) if options.compare else {}
    cases = [case for case in ALONE if options.only in case.name]
    costs: Costs = {}
    for case in cases:
        progress(case.name)
        costs[case.name] = measure(case, options.repeats)
    if any(options.only in name for name, _, _ in SERVED):
        progress("exchanges")
        costs |= exchanges(max(3, options.repeats // 3))
    if options.instructions and cases:
        progress("instructions")
        for name, count in instructions(cases).items():
            costs[name]["instructions"] = count
    progress("")
    print(table(costs, before))
    if options.out:
        made = {"made": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "python": sys.version}
        options.out.write_text(json.dumps({**made, "costs": costs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
