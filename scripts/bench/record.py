"""What was measured, to be kept: figures of every round, and what they were made with.

A record is a JSON file. It has all rounds, so that medians and spreads can be told again later, and
be compared with those of another record.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Figure:
    """What is measured of each round: its unit, decimals, and whether more of it is better."""

    title: str
    unit: str
    digits: int
    more_is_better: bool = False


#: In the order of a table's columns.
FIGURES = {
    "rate": Figure("per second", "/s", 0, more_is_better=True),
    "p50": Figure("p50", "ms", 2),
    "p99": Figure("p99", "ms", 2),
    "cpu": Figure("CPU each", "µs", 1),
    "kept": Figure("of the rate alone", "%", 0, more_is_better=True),
    "slow_ideal": Figure("slow ones, of their ideal", "%", 0, more_is_better=True),
    "failed": Figure("failed", "%", 1),
    "parked": Figure("connections", "", 0, more_is_better=True),
    "parked_kib": Figure("memory of each", "KiB", 2),
    "python_bytes": Figure("by Python", "B", 0),
    "threads": Figure("threads", "", 0),
    "idle_cpu": Figure("CPU while idle", "ms/s", 1),
    "first_answer": Figure("first answer after", "ms", 0),
    "import": Figure("import", "ms", 1),
    "memory": Figure("memory", "MiB", 1),
    "others": Figure("taken by others", "%", 0),
}

Figures = dict[str, float]


class RecordError(Exception):
    """A file is no record that this version can read."""


@dataclass(slots=True)
class Result:
    """One peer at one workload: rounds with figures, or why there are none.

    :ivar absent: why the peer cannot take part; "" if it can.
    :ivar problem: what went wrong, in the last round that failed; "" if none did.
    """

    workload: str
    peer: str
    rounds: list[Figures] = field(default_factory=list)
    absent: str = ""
    problem: str = ""

    def median(self, figure: str) -> float | None:
        values = self.values(figure)
        return statistics.median(values) if values else None

    def spread(self, figure: str) -> float:
        """Half of what lies between the lowest and the highest round, as a share of the median."""
        values = self.values(figure)
        middle = statistics.median(values) if values else 0.0
        return (max(values) - min(values)) / 2 / abs(middle) if middle else 0.0

    def values(self, figure: str) -> list[float]:
        return [figures[figure] for figures in self.rounds if figure in figures]


@dataclass(slots=True)
class Record:
    """One run of the harness.

    :ivar made: when it began, ISO 8601.
    :ivar machine: what it ran on, by name.
    :ivar settings: seconds, rounds and so on.
    :ivar versions: of everybody that took part.
    :ivar workloads: title and main figure of each, in order.
    :ivar peers: what each is, in order.
    """

    made: str
    machine: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    workloads: dict[str, dict[str, str]] = field(default_factory=dict)
    peers: dict[str, str] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)

    def result(self, workload: str, peer: str) -> Result:
        """The one of a workload and a peer; a new one if there is none yet."""
        for result in self.results:
            if result.workload == workload and result.peer == peer:
                return result
        self.results.append(Result(workload, peer))
        return self.results[-1]

    def of(self, workload: str) -> list[Result]:
        return [result for result in self.results if result.workload == workload]

    def main_figure(self, workload: str) -> str:
        return self.workloads[workload]["main"]

    def ranked(self, workload: str) -> list[Result]:
        """Those with figures, the best first."""
        main = self.main_figure(workload)
        with_figures = [result for result in self.of(workload) if result.values(main)]
        return sorted(
            with_figures,
            key=lambda result: result.median(main) or 0.0,
            reverse=FIGURES[main].more_is_better,
        )

    def write(self, path: Path) -> None:
        # Beside its place first: a record that was there is never lost to an interruption.
        part = path.with_suffix(".part")
        part.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")
        part.replace(path)

    @classmethod
    def read(cls, path: Path) -> Record:
        """A record that was written.

        :raises RecordError: if there is none at this path.
        """
        try:
            content = json.loads(path.read_text())
            if content.pop("format") != FORMAT:
                raise RecordError(f"{path} is of another version of the harness; make it again")
            results = [Result(**each) for each in content.pop("results")]
            return cls(**content, results=results)
        except OSError as error:
            raise RecordError(f"no record can be read from {path}: {error.strerror}") from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise RecordError(
                f"{path} is no record; give the record.json of an earlier --out"
            ) from error


@dataclass(frozen=True, slots=True)
class Change:
    """How a median has changed from one record to another.

    :ivar certain: whether it is more than both spreads together explain, and more than 3 %.
    """

    workload: str
    peer: str
    figure: str
    before: float
    after: float
    certain: bool

    @property
    def ratio(self) -> float:
        return self.after / self.before

    @property
    def better(self) -> bool:
        return (self.after > self.before) == FIGURES[self.figure].more_is_better


#: Figures that are compared.
COMPARED = ("rate", "p99", "cpu", "parked_kib", "python_bytes", "first_answer", "import", "memory")
#: A smaller change is never called certain.
LEAST_CHANGE = 0.03


def compare(before: Record, after: Record) -> list[Change]:
    """The changes of all that both records have, in the order of the later one."""
    changes = []
    earlier = {(result.workload, result.peer): result for result in before.results}
    for result in after.results:
        old = earlier.get((result.workload, result.peer))
        if old is None:
            continue
        for figure in COMPARED:
            old_median, median = old.median(figure), result.median(figure)
            if not old_median or median is None:
                continue
            noise = max(LEAST_CHANGE, old.spread(figure) + result.spread(figure))
            certain = abs(median / old_median - 1) > noise
            changes.append(
                Change(result.workload, result.peer, figure, old_median, median, certain)
            )
    return changes
