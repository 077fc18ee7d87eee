"""The messages that the tests of Serializable share; skips them where msgspec is not installed."""

from __future__ import annotations

import enum
import os
import subprocess
import sys
import typing
import uuid
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Optional, Union

import pytest
from hypothesis import strategies as st

msgspec = pytest.importorskip("msgspec", "0.20")

from resource_server.serializable import (  # noqa: E402
    Serializable,
    SerializableEnum,
    SerializableError,
)

PROJECT = Path(__file__).parents[1]


class Color(SerializableEnum):
    RED = "red"
    GREEN = "green"


class Level(SerializableEnum, type_id=12):
    LOW = 1
    HIGH = 2

    @property
    def label(self) -> str:
        return self.name.lower()


class Plain(enum.Enum):
    A = "a"
    B = "b"


class Point(Serializable):
    x: int
    y: int = 0


class Circle(Serializable, type_id=7):
    center: Point
    radius: float = 1.0


class Tagged(Serializable):
    type_id = 8
    name: str = ""


class Node(Serializable):
    name: str
    items: list[Node] = []  # noqa: RUF012 - each message gets its own
    parent: Node | None = None


class Point3(Point):
    z: int = 0


class Named(Serializable, kw_only=True):
    name: str = "?"


class Ship(Named, kw_only=True):
    tons: int


class Strict(Serializable, forbid_unknown_fields=True):
    x: int = 0


class Even(Serializable):
    number: int

    def __post_init__(self) -> None:
        if self.number % 2:
            raise ValueError("the number is odd")


class Everything(Serializable):
    flag: bool
    number: int
    ratio: float
    text: str
    data: bytes
    when: datetime
    id: uuid.UUID
    price: Decimal
    color: Color
    level: Level
    plain: Plain
    kind: Literal["one", "two"]
    point: Point
    shape: Union[Point, Circle]  # noqa: UP007
    old_list: typing.List[int]  # noqa: UP006 - both spellings are the interface
    new_list: list[Point]
    old_dict: typing.Dict[str, int]  # noqa: UP006
    by_number: dict[int, str]
    nested: dict[str, list[dict[str, Point]]]
    old_pair: typing.Tuple[int, str]  # noqa: UP006
    many: tuple[float, ...]
    unique: frozenset[int]
    maybe: Optional[Point] = None  # noqa: UP045
    number_or_text: int | str | None = None
    anything: Any = None


class Empty(Serializable):
    pass


class Loose(Serializable):
    keys: set[Any] = set()  # noqa: RUF012
    anything: Any = None


int64 = st.integers(-(2**63), 2**63 - 1)
texts = st.text()
points = st.builds(Point, int64, int64)
circles = st.builds(Circle, points, st.floats(allow_nan=False))
nodes: st.SearchStrategy[Node] = st.recursive(
    st.builds(Node, texts),
    lambda inner: st.builds(Node, texts, st.lists(inner, max_size=3), st.none() | inner),
    max_leaves=10,
)
# Of bytes, times and the like only the annotation knows, so Any holds what JSON has.
values = st.recursive(
    st.none() | st.booleans() | int64 | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
finite = st.floats(allow_nan=False, allow_infinity=False)
everything = st.builds(
    Everything,
    flag=st.booleans(),
    number=int64,
    ratio=finite,
    text=texts,
    data=st.binary(),
    when=st.datetimes(timezones=st.just(UTC)),
    id=st.uuids(),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    color=st.sampled_from(Color),
    level=st.sampled_from(Level),
    plain=st.sampled_from(Plain),
    kind=st.sampled_from(["one", "two"]),
    point=points,
    shape=points | st.builds(Circle, points, finite),
    old_list=st.lists(int64),
    new_list=st.lists(points),
    old_dict=st.dictionaries(texts, int64),
    by_number=st.dictionaries(int64, texts),
    nested=st.dictionaries(texts, st.lists(st.dictionaries(texts, points, max_size=2), max_size=2)),
    old_pair=st.tuples(int64, texts),
    many=st.lists(finite).map(tuple),
    unique=st.frozensets(int64),
    maybe=st.none() | points,
    number_or_text=st.none() | int64 | texts,
    anything=values,
)


def packed(obj: object) -> bytes:
    result: bytes = msgspec.msgpack.encode(obj)
    return result


def refused(data: object, cls: Any = Serializable) -> str:
    """Return the text of the error with which bytes, text or a dict are refused."""
    loaders: dict[type, Any] = {dict: cls.from_json, str: cls.loads}
    load = loaders.get(type(data), cls.loadb)
    with pytest.raises(SerializableError) as caught:
        load(data)
    return str(caught.value)


def run(code: str, *paths: Path, **environment: str) -> str:
    """Run code in an interpreter of its own, and return its output."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [PROJECT, *paths]))}
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout
