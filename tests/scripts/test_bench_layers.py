"""The micro-benchmarks: each layer does its work, and their table tells what has changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from resource_server.protocol.http1 import HTTP1
from scripts.bench import layers, micro

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("case", layers.ALONE, ids=lambda case: case.name)
def test_a_layer_does_its_work(case: layers.Case) -> None:
    case.prepare(3)()


@pytest.mark.parametrize("fields", [1, 14, 60])
def test_a_head_has_as_many_fields_as_it_says(fields: int) -> None:
    connection = HTTP1(layers.LIMITS)
    connection.receive(layers.head(fields))
    request = connection.next_request(layers.ADDRESS)
    assert request is not None
    assert len(list(request.headers.items())) == fields
    assert layers.head(fields, number=1) != layers.head(fields, number=2) or fields == 1


@pytest.mark.parametrize(("name", "path", "few"), layers.SERVED)
def test_a_served_exchange_is_answered(name: str, path: str, few: bool) -> None:
    with layers.served(2) as ask:
        ask(path, 2)


def test_the_table_tells_what_has_changed_by_what_is_steadiest() -> None:
    costs = {
        "parse": {"lowest": 2.0, "median": 2.5, "instructions": 1100.0},
        "hand-over": {"lowest": 30.0, "median": 40.0},
        "new": {"lowest": 1.0, "median": 1.0},
    }
    before = {
        "parse": {"lowest": 1.0, "median": 1.0, "instructions": 1000.0},
        "hand-over": {"lowest": 40.0, "median": 40.0},
    }
    text = micro.table(costs, before)
    assert "| parse | 2.00 | 2.50 | 1,100 | +10.0 % |" in text
    assert "| hand-over | 30.00 | 40.00 | – | -25.0 % |" in text
    assert "| new | 1.00 | 1.00 | – | – |" in text


def test_a_file_without_figures_is_told(tmp_path: Path) -> None:
    path = tmp_path / "micro.json"
    path.write_text("{}")
    with pytest.raises(SystemExit, match="has no earlier figures"):
        micro.read(path)
