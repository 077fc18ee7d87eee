"""A record in Markdown: all beside ours at a glance, then each workload with all its figures."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from scripts.bench.record import FIGURES, Record, Result, compare

if TYPE_CHECKING:
    from scripts.bench.record import Change

#: From this per cent of a core on, taken by other programs, a figure is marked.
DISTURBED = 10.0
OURS = "ours"


def number(value: float, figure: str) -> str:
    return f"{value:,.{FIGURES[figure].digits}f}"


def markdown(record: Record, before: Record | None = None) -> str:
    """The whole report; with an earlier record, what has changed since."""
    parts = [_title(record), _overview(record)]
    if before is not None:
        parts.append(changes_table(before, record))
    parts += [_workload(record, name) for name in record.workloads]
    parts += [_absent(record), _peers(record)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _table(head: list[str], rows: list[list[str]], left: int = 1) -> str:
    lines = [_row(head), "|" + ":--|" * left + "--:|" * (len(head) - left)]
    return "\n".join([*lines, *map(_row, rows)])


def _title(record: Record) -> str:
    machine = "; ".join(f"{name}: {value}" for name, value in record.machine.items())
    settings = ", ".join(f"{name} {value}" for name, value in record.settings.items())
    return (
        f"# Servers side by side, {record.made}\n\n{machine}.\n\nSettings: {settings}. Medians of"
        " the rounds; after ± half of what lies between the lowest and the highest round. CPU time"
        " is user and system time of the server and its children, for each request; ~ marks what"
        f" was disturbed: other programs took over {DISTURBED:.0f} % of a core."
    )


def _overview(record: Record) -> str:
    """The main figure of each peer at each workload, and how it stands beside ours."""
    names = list(record.workloads)
    rows = []
    for peer in record.peers:
        cells = []
        for name in names:
            result = record.result(name, peer)
            main = record.main_figure(name)
            median = result.median(main)
            if median is None:
                cells.append("n/a" if result.absent else "failed" if result.problem else "–")
                continue
            ours = record.result(name, OURS).median(main)
            beside = f" ({median / ours:.2f})" if ours and peer != OURS else ""
            cells.append(number(median, main) + beside)
        rows.append([peer, *cells])
    heads = [f"{name}, {FIGURES[record.main_figure(name)].unit}" for name in names]
    text = "## Overview\n\nIn parentheses: divided by ours.\n\n"
    return text + _table(["", *heads], rows)


def _workload(record: Record, name: str) -> str:
    ranked = record.ranked(name)
    if not ranked:
        return ""
    figures = [
        figure
        for figure in FIGURES
        if figure != "others" and any(result.values(figure) for result in ranked)
    ]
    heads = [", ".join(filter(None, (FIGURES[key].title, FIGURES[key].unit))) for key in figures]
    rows = [[_name(result), *(_cell(result, key) for key in figures)] for result in ranked]
    return f"## {name}: {record.workloads[name]['title']}\n\n" + _table(["", *heads], rows)


def _name(result: Result) -> str:
    name = f"**{result.peer}**" if result.peer.startswith(OURS) else result.peer
    disturbed = (result.median("others") or 0.0) > DISTURBED
    return name + " ~" * disturbed + " (not in all rounds)" * bool(result.problem)


def _cell(result: Result, figure: str) -> str:
    median = result.median(figure)
    if median is None:
        return "–"
    spread = f" ± {100 * result.spread(figure):.0f} %" if len(result.values(figure)) > 1 else ""
    return number(median, figure) + spread


def _absent(record: Record) -> str:
    """Who did not take part where, and why: nobody is left out silently."""
    lines: list[str] = []
    for peer in record.peers:
        reasons: dict[str, list[str]] = {}
        for result in record.results:
            reason = result.problem or (f"n/a, {result.absent}" if result.absent else "")
            if result.peer == peer and reason:
                reasons.setdefault(reason, []).append(result.workload)
        lines += [f"- {peer}: {', '.join(names)}: {why}" for why, names in reasons.items()]
    return "## Who did not take part, or failed\n\n" + "\n".join(lines) if lines else ""


def _peers(record: Record) -> str:
    lines = [f"- {name}: {what}" for name, what in record.peers.items()]
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    return "## Set-ups\n\n" + "\n".join(lines) + f"\n\nVersions: {versions}."


# -- comparison ----------------------------------------------------------------------------------


def changes_table(before: Record, after: Record) -> str:
    """What has changed of ours, beside what has changed of all others, which shows the machine."""
    changes = compare(before, after)
    ours = [change for change in changes if change.peer.startswith(OURS)]
    if not ours:
        return f"## Since {before.made}\n\nThe records have nothing of ours in common."
    rows = [
        [
            change.workload,
            change.peer,
            FIGURES[change.figure].title,
            number(change.before, change.figure),
            number(change.after, change.figure),
            f"{100 * (change.ratio - 1):+.1f} %",
            _others(changes, change),
            _verdict(change),
        ]
        for change in ours
    ]
    heads = ["workload", "", "figure", "before", "after", "change", "of the others", ""]
    text = f"## Since {before.made}\n\nA change counts that is more than both spreads explain.\n\n"
    return text + _table(heads, rows, left=3)


def _others(changes: list[Change], ours: Change) -> str:
    """The median change of everybody else."""
    ratios = [
        change.ratio
        for change in changes
        if (change.workload, change.figure) == (ours.workload, ours.figure)
        and not change.peer.startswith(OURS)
    ]
    return f"{100 * (statistics.median(ratios) - 1):+.1f} %" if ratios else "–"


def _verdict(change: Change) -> str:
    if not change.certain:
        return "as before"
    return "better" if change.better else "**worse**"
