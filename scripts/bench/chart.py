"""A record as a picture: an SVG with a panel for each workload, and a bar for each peer."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from scripts.bench.record import FIGURES
from scripts.bench.table import OURS, number

if TYPE_CHECKING:
    from scripts.bench.record import Record, Result

WIDTH, NAMES, VALUES = 460, 150, 90
ROW, HEAD, GAP, MARGIN = 18, 44, 28, 24
COLUMNS = 2
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-weight: 600; font-size: 13px; } .note { fill: #6e7781; font-size: 11px; }
.page { fill: #ffffff; } .bar { fill: #afb8c1; } .ours { fill: #0969da; }
.ceiling { fill: #d8dee4; }
.range { stroke: #57606a; stroke-width: 1; } .name { text-anchor: end; }
.strong { font-weight: 600; }
"""
#: Bars of those that are no servers one would choose, but what there is to reach.
CEILINGS = ("epoll loop", "nginx")


def svg(record: Record) -> str:
    """The picture, as a whole document."""
    panels = [name for name in record.workloads if record.ranked(name)]
    tops = [MARGIN + 30] * COLUMNS
    drawn = []
    for name in panels:
        column = tops.index(min(tops))
        left = MARGIN + column * (WIDTH + GAP)
        drawn.append(_panel(record, name, left, tops[column]))
        tops[column] += HEAD + ROW * len(record.ranked(name)) + GAP
    width = 2 * MARGIN + COLUMNS * WIDTH + (COLUMNS - 1) * GAP
    height = max(tops) + MARGIN
    title = f"Servers side by side, {record.made}"
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}"'
                f' viewBox="0 0 {width} {height}" role="img">'
            ),
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="page" width="{width}" height="{height}"/>',
            f'<text class="title" x="{MARGIN}" y="{MARGIN}">{escape(title)}</text>',
            *drawn,
            "</svg>\n",
        ]
    )


def _panel(record: Record, name: str, left: int, top: int) -> str:
    main = record.main_figure(name)
    figure = FIGURES[main]
    ranked = record.ranked(name)
    longest = max(max(result.values(main)) for result in ranked)
    scale = (WIDTH - NAMES - VALUES) / longest if longest > 0 else 0.0
    better = "more is better" if figure.more_is_better else "less is better"
    note = f"{record.workloads[name]['title']}; {figure.unit or figure.title}, {better}"
    parts = [
        f'<text class="title" x="{left}" y="{top + 14}">{escape(name)}</text>',
        f'<text class="note" x="{left}" y="{top + 30}">{escape(note)}</text>',
    ]
    for index, result in enumerate(ranked):
        parts.append(_bar(result, main, left, top + HEAD + ROW * index, scale))
    return "\n".join(parts)


def _bar(result: Result, main: str, left: int, top: int, scale: float) -> str:
    start = left + NAMES
    median = result.median(main) or 0.0
    lowest, highest = (edge(result.values(main)) * scale for edge in (min, max))
    is_ours = result.peer.startswith(OURS)
    kind = "ours" if is_ours else "ceiling" if result.peer in CEILINGS else "bar"
    strong = " strong" if is_ours else ""
    length, middle = max(0.0, median * scale), top + ROW / 2
    unit = FIGURES[main].unit
    return (
        f'<text class="name{strong}" x="{start - 6}" y="{top + 13}">{escape(result.peer)}</text>'
        f'<rect class="{kind}" x="{start}" y="{top + 3}" width="{length:.1f}" height="{ROW - 6}"/>'
        f'<line class="range" x1="{start + lowest:.1f}" x2="{start + highest:.1f}"'
        f' y1="{middle:.1f}" y2="{middle:.1f}"/>'
        f'<text class="{strong.strip() or "value"}" x="{start + max(length, highest) + 6:.1f}"'
        f' y="{top + 13}">{number(median, main)} {escape(unit)}</text>'
    )
