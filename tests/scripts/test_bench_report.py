"""What the benchmark harness makes of its figures: record, table, chart and comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

from scripts.bench import chart, record, table
from scripts.bench.record import Record, RecordError, Result, compare

if TYPE_CHECKING:
    from pathlib import Path

SVG = "{http://www.w3.org/2000/svg}"


def rounds(*rates: float, **more: float) -> list[dict[str, float]]:
    return [{"rate": rate, "cpu": 1e6 / rate, **more} for rate in rates]


@pytest.fixture
def run() -> Record:
    """Three peers and two workloads; one cannot do the second, one fails at it."""
    peers = {"ours": "the one of this project", "waitress": "bare WSGI", "a < b": "bare <WSGI>"}
    return Record(
        "2026-01-02T03:04:05+0000",
        machine={"processor": "a processor, 2 cores"},
        settings={"rounds": 3},
        versions={"waitress": "3.0.2"},
        workloads={
            "hello": {"title": '"Hello"', "main": "rate"},
            "start": {"title": "a new process", "main": "first_answer"},
        },
        peers=peers,
        results=[
            Result("hello", "waitress", rounds(990, 1000, 1030)),
            Result("hello", "ours", rounds(4100, 4000, 3800)),
            Result("hello", "a < b", rounds(2000, others=40.0)),
            Result("start", "ours", [{"first_answer": 80.0}]),
            Result("start", "waitress", absent="it never starts"),
            Result("start", "a < b", problem="it ended at once: No module named 'x'"),
        ],
    )


def test_a_record_is_read_as_it_was_written(run: Record, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    run.write(path)
    assert Record.read(path) == run
    assert [each.name for each in tmp_path.iterdir()] == ["record.json"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("no JSON", "is no record"),
        ("[]", "is no record"),
        ("{}", "is no record"),
        ('{"format": 1, "results": [{"unknown": 1}]}', "is no record"),
        ('{"format": 0, "made": "", "results": []}', "another version"),
    ],
)
def test_what_is_no_record_is_said(content: str | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RecordError, match=said):
        Record.read(path)


def test_a_result_tells_the_median_and_half_the_range() -> None:
    result = Result("hello", "ours", rounds(90, 100, 130))
    assert result.median("rate") == 100
    assert result.spread("rate") == pytest.approx(0.2)
    assert result.median("p99") is None
    assert result.spread("p99") == 0.0


def test_the_best_comes_first_by_rate_or_by_time(run: Record) -> None:
    assert [each.peer for each in run.ranked("hello")] == ["ours", "a < b", "waitress"]
    run.result("start", "waitress").rounds.append({"first_answer": 50.0})
    assert [each.peer for each in run.ranked("start")] == ["waitress", "ours"]


def test_the_table_has_medians_spreads_and_what_others_are_beside_ours(run: Record) -> None:
    text = table.markdown(run)
    assert "| **ours** | 4,000 ± 4 % | 250.0 ± 4 % |" in text
    assert "| a < b ~ | 2,000 | 500.0 |" in text
    assert "| waitress | 1,000 (0.25) | n/a |" in text
    assert "| a < b | 2,000 (0.50) | failed |" in text


def test_the_table_leaves_nobody_out_silently(run: Record) -> None:
    text = table.markdown(run)
    assert "- waitress: start: n/a, it never starts" in text
    assert "- a < b: start: it ended at once: No module named 'x'" in text


def test_a_change_counts_beyond_what_the_spreads_explain(run: Record) -> None:
    later = Record(
        "later",
        workloads=run.workloads,
        peers=run.peers,
        results=[
            Result("hello", "ours", rounds(5000, 5100, 4900)),
            Result("hello", "waitress", rounds(1010, 1030, 1040)),
            Result("start", "ours", [{"first_answer": 100.0}]),
        ],
    )
    changes = {(each.workload, each.peer, each.figure): each for each in compare(run, later)}
    faster = changes["hello", "ours", "rate"]
    assert (faster.certain, faster.better, faster.ratio) == (True, True, 1.25)
    assert changes["hello", "ours", "cpu"].better
    assert not changes["hello", "waitress", "rate"].certain
    slower = changes["start", "ours", "first_answer"]
    assert (slower.certain, slower.better) == (True, False)

    text = table.markdown(later, run)
    assert "| hello | ours | per second | 4,000 | 5,000 | +25.0 % | +3.0 % | better |" in text
    assert "| start | ours | first answer after | 80 | 100 | +25.0 % | – | **worse** |" in text


def test_records_without_anything_in_common_are_told(run: Record) -> None:
    nothing = Record("earlier")
    assert "nothing of ours in common" in table.changes_table(nothing, run)


def test_the_chart_has_a_panel_for_each_workload_and_a_bar_for_each_peer(run: Record) -> None:
    root = ElementTree.fromstring(chart.svg(run))
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert texts.count("ours") == 2
    assert "a < b" in texts
    assert "4,000 /s" in texts
    bars = {
        element.get("class"): float(element.get("width", "0"))
        for element in root.iter(f"{SVG}rect")
        if element.get("class") in ("ours", "bar")
    }
    assert bars["ours"] > 0
    assert len([1 for element in root.iter(f"{SVG}line")]) == 4


def test_the_longest_bar_is_the_best_rate(run: Record) -> None:
    root = ElementTree.fromstring(chart.svg(run))
    widths = [
        float(element.get("width", "0"))
        for element in root.iter(f"{SVG}rect")
        if element.get("class") != "page"
    ]
    assert widths[0] == max(widths[:3])
    assert widths[0] / widths[2] == pytest.approx(4.0, rel=0.01)


def test_every_figure_that_is_compared_is_known() -> None:
    assert set(record.COMPARED) <= record.FIGURES.keys()
