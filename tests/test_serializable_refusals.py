"""Typed messages: which classes are refused, which data, and where the error says it is."""

from __future__ import annotations

import math
import struct
import threading
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("msgspec", "0.20")

from msgspec import Meta

from resource_server.serializable import (
    Serializable,
    SerializableEnum,
    SerializableError,
    load_message,
)
from tests.messages import (
    Circle,
    Color,
    Empty,
    Even,
    Everything,
    Level,
    Loose,
    Node,
    Point,
    Strict,
    Tagged,
    everything,
    packed,
    refused,
    run,
)


class TestTypeIds:
    def test_fixed_in_the_head_or_the_body(self) -> None:
        assert (Circle.type_id, Tagged.type_id, Level.type_id) == (7, 8, 12)
        assert Circle(Point(1)).type_id == 7
        assert Level.LOW.type_id == 12

    def test_fixed_with_the_annotation_of_a_constant(self) -> None:
        class Constant(Serializable):
            type_id: ClassVar[int] = 21

        assert Serializable.loadb(Constant().dumpb()) == Constant()
        assert Constant.type_id == 21

    def test_derived_from_the_name_for_ever(self) -> None:
        # The value itself: data that was stored stays readable.
        meta: Any = type(Point)
        cls = meta("Fixture", (Serializable,), {"__module__": "app", "__qualname__": "F.G"})
        assert cls.type_id == 3987405121769397

    def test_not_inherited(self) -> None:
        class Disc(Circle):
            pass

        assert Disc.type_id != Circle.type_id

    def test_exact_in_javascript(self) -> None:
        for cls in (Point, Node, Everything, Color, Empty):
            assert 0 <= cls.type_id < 2**53

    def test_two_classes_with_one_id_are_refused_by_name(self) -> None:
        with pytest.raises(TypeError, match=r"\.Second has the type_id 7 of .*Circle: give one"):

            class Second(Serializable, type_id=7):
                pass

        with pytest.raises(TypeError, match=r"\.Third has the type_id 7 of .*Circle"):

            class Third(SerializableEnum, type_id=7):
                A = 1

        assert Serializable.loadb(Circle(Point(1)).dumpb()) == Circle(Point(1))

    def test_a_class_defined_again_replaces_the_first(self) -> None:
        def define(default: int) -> type[Serializable]:
            class Again(Serializable, type_id=22):
                x: int = default

            return Again

        first, second = define(1), define(2)
        assert type(Serializable.from_json({"type_id": 22})) is second
        assert type(first.from_json({"type_id": 22})) is first

    @pytest.mark.parametrize("wrong", [-1, 2**53, True, "7", 7.0])
    def test_an_id_is_a_number_that_javascript_has(self, wrong: Any) -> None:
        with pytest.raises(TypeError, match=r"type_id of .*Wrong is not an int from 0"):

            class Wrong(Serializable, type_id=wrong):
                pass

        with pytest.raises(TypeError, match=r"type_id of .*WrongEnum is not"):

            class WrongEnum(SerializableEnum, type_id=wrong):
                A = 1

    def test_as_a_field_it_is_refused_with_advice(self) -> None:
        with pytest.raises(TypeError, match="without annotation"):

            class Annotated(Serializable):
                type_id: int = 7  # type: ignore[misc]

    @pytest.mark.parametrize("name", ["dumpb", "loads", "to_json", "fromJson"])
    def test_a_field_cannot_hide_a_method(self, name: str) -> None:
        meta: Any = type(Point)
        with pytest.raises(TypeError, match=f"Hiding cannot have a field {name}"):
            meta("Hiding", (Serializable,), {"__annotations__": {name: "int"}})

    @pytest.mark.parametrize("option", [{"tag": 1}, {"tag_field": "t"}, {"array_like": True}])
    def test_options_that_change_the_form_are_refused(self, option: Any) -> None:
        with pytest.raises(TypeError, match=f"Other cannot have the option {next(iter(option))}"):

            class Other(Serializable, **option):
                pass

    def test_other_errors_of_a_definition_are_those_of_msgspec(self) -> None:
        with pytest.raises(ValueError, match="frozen"):

            class Odd(Serializable, frozen=False, cache_hash=True):
                pass

        with pytest.raises(TypeError, match="default_factory"):

            class Shared(Serializable):
                items: list[int] = [1]  # noqa: RUF012

    def test_stable_in_every_process_and_order_of_imports(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            (tmp_path / f"{name}.py").write_text(
                "from resource_server import Serializable, SerializableEnum\n"
                "class Message(Serializable):\n"
                "    x: int = 0\n"
                "    class Inner(Serializable):\n"
                "        y: int = 0\n"
                "class Kind(SerializableEnum):\n"
                "    A = 1\n"
            )
        names = "one.Message", "one.Message.Inner", "one.Kind", "two.Message", "two.Kind"
        show = f"print({', '.join(f'{name}.type_id' for name in names)})"
        outputs = {
            run(f"import {order}\n{show}", tmp_path, PYTHONHASHSEED=seed)
            for order in ("one, two", "two, one")
            for seed in ("0", "1", "random")
        }
        (ids,) = outputs
        assert len(set(ids.split())) == len(names)


class TestChange:
    """Two versions of a program understand each other."""

    def test_what_is_unknown_is_ignored(self) -> None:
        data = packed({"x": 1, "new": {"deep": [1, {"a": b""}]}, "y": 2})
        assert Point.loadb(data) == Point(1, 2)
        assert Point.loads('{"x": 1, "new": [null], "y": 2}') == Point(1, 2)
        assert Point.from_json({"x": 1, "new": object, "y": 2}) == Point(1, 2)

    def test_unless_the_class_is_strict(self) -> None:
        assert refused({"x": 1, "new": 2}, Strict) == "$: object contains unknown field new"

    def test_what_is_missing_takes_its_default(self) -> None:
        assert Node.from_json({"name": "a"}) == Node("a")

    def test_what_is_missing_without_default_is_refused(self) -> None:
        assert refused({"y": 1}, Point) == "$: object missing required field x"
        assert refused({"name": "a", "items": [{"name": "b"}, {}]}, Node) == (
            "$.items[1]: object missing required field name"
        )


class TestHostileData:
    @pytest.mark.parametrize(
        ("cls", "data", "text"),
        [
            (Point, [1], "$: expected object, got array"),
            (Point, 5, "$: expected object, got int"),
            (Point, {"x": "1"}, "$.x: expected int, got str"),
            (Point, {"x": 1.5}, "$.x: expected int, got float"),
            (Point, {"x": True}, "$.x: expected int, got bool"),
            (Point, {"x": "\0" * 1000}, "$.x: expected int, got str"),
            (Point, {1: 2}, "key in $: expected str, got int"),
            (Circle, {"center": {"x": []}}, "$.center.x: expected int, got array"),
            (
                Node,
                {"name": "a", "items": [{"name": "b"}] * 3 + [{"name": 5}]},
                "$.items[3].name: expected str, got int",
            ),
            (
                Node,
                {"name": "a", "parent": {"name": b"b"}},
                "$.parent.name: expected str, got bytes",
            ),
        ],
    )
    def test_the_error_tells_where(self, cls: Any, data: object, text: str) -> None:
        assert refused(packed(data), cls) == text

    def test_of_text_and_plain_values_too(self) -> None:
        assert refused('{"name":"a","items":[{"name":3}]}', Node) == (
            "$.items[0].name: expected str, got int"
        )
        assert refused({"name": "a", "items": [{"name": 3}]}, Node) == (
            "$.items[0].name: expected str, got int"
        )
        assert refused('{"x": 1', Point) == "$: input data was truncated"
        assert refused('{"x": 1}}', Point).startswith("$: JSON is malformed: trailing characters")
        assert refused("", Point) == "$: input data was truncated"

    def test_enumerations_take_their_values_only(self) -> None:
        class Paint(Serializable):
            color: Color = Color.RED
            level: Level = Level.LOW

        assert refused({"color": "blue"}, Paint) == "$.color: invalid enum value 'blue'"
        assert refused({"color": 1}, Paint) == "$.color: expected str, got int"
        assert refused({"level": 3}, Paint) == "$.level: invalid enum value 3"

    def test_a_quotation_is_short_and_printable(self) -> None:
        class Choice(Serializable):
            color: Color

        text = refused(packed({"color": "\r\n\x1b[0m\N{SNOWMAN} - at `$" + "z" * 100_000}), Choice)
        assert text.isprintable()
        assert text.startswith("$.color: ")
        assert len(text) < 1000

    def test_a_path_is_short(self) -> None:
        data: dict[str, object] = {"name": 1}
        for _ in range(100):
            data = {"name": "a", "items": [data]}
        text = refused(data, Node)
        assert text.startswith("$.items[0].items[0]")
        assert text.endswith(".items[0].name: expected str, got int")
        assert len(text) < 200

    @given(everything, st.data())
    def test_each_truncation_is_refused(self, message: Everything, data: st.DataObject) -> None:
        whole = message.dumpb()
        refused(whole[: data.draw(st.integers(0, len(whole) - 1))], Everything)
        refused(whole + b"\x00", Everything)

    @given(st.binary())
    @example(b"\x81\x80\x01")
    @example(b"\xc1")
    def test_no_bytes_raise_anything_else(self, data: bytes) -> None:
        for cls in (Serializable, Everything, Loose, Color):
            try:
                found = cls.loadb(data)
            except SerializableError:
                continue
            assert isinstance(found, cls)

    @given(st.text())
    def test_nor_does_text(self, text: str) -> None:
        for cls in (Serializable, Everything, Loose, Level):
            try:
                found = cls.loads(text)
            except SerializableError:
                continue
            assert isinstance(found, cls)

    @given(everything, st.data())
    def test_nor_do_changed_bytes(self, message: Everything, data: st.DataObject) -> None:
        changed = bytearray(message.dumpb())
        for _ in range(data.draw(st.integers(1, 4))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        try:
            found = load_message(changed)
        except SerializableError:
            return
        assert isinstance(found, Serializable)

    def test_a_length_that_is_announced_allocates_nothing(self) -> None:
        import tracemalloc

        heads = [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff"]
        heads += [b"\xdb\xff\xff\xff\xff", b"\xc9\xff\xff\xff\xff\x05", b"\xdd\x00\x40\x00\x00"]
        tracemalloc.start()
        try:
            for head in heads:
                for start in (b"", b"\x81\xa8anything", b"\x81\xa4keys", b"\x81\xa7unknown"):
                    text = refused(start + head * 300, Loose)
                    assert "truncated" in text or "expected" in text or "nested" in text
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert most < 1_000_000

    def test_what_is_nested_deeply_is_refused(self) -> None:
        depth = 1_000_000
        texts: list[str] = []

        def load() -> None:
            for start in (b"\x81\xa8anything", b"\x81\xa7unknown", b"\x82\xa7type_id\x08\xa1z"):
                data = start + b"\x91" * depth + b"\xc0"
                texts.append(refused(data, Loose))
            texts.append(refused(b"\x82\xa4name\xa0\xa5items\x91" * (depth // 10), Node))
            texts.append(refused('{"name":"","items":[' * (depth // 20), Node))
            texts.append(refused('{"anything":' + "[" * depth, Loose))

        size = threading.stack_size(4 * 1024 * 1024)
        try:
            thread = threading.Thread(target=load)
            thread.start()
        finally:
            threading.stack_size(size)
        thread.join()
        assert texts == ["$: nested too deeply"] * 6

    def test_a_list_can_be_bounded(self) -> None:
        class Short(Serializable):
            points: Annotated[list[Point], Meta(max_length=2)]

        assert refused({"points": [{"x": 1}] * 3}, Short) == (
            "$.points: expected array of length <= 2"
        )

    def test_plain_values_in_a_circle_are_refused(self) -> None:
        circle: dict[str, Any] = {"name": "a"}
        circle["parent"] = circle
        assert refused(circle, Node) == "$: nested too deeply"

    def test_text_that_is_not_utf_8(self) -> None:
        assert refused(b"\x82\xa1y\x01\xa4name\xa2a\xff", Tagged) == "byte 11: not UTF-8"
        assert refused(memoryview(b"\x81\xa4name\xa1\xff"), Tagged) == "$: not UTF-8"
        assert refused(b"\x81\xa4name\xa3\xed\xa0\x80", Tagged) == "byte 7: not UTF-8"

    def test_surrogates_in_text(self) -> None:
        refused('{"name": "\\ud800"}', Tagged)
        refused('{"name": "\ud800"}', Tagged)
        assert Tagged.loads('{"name": "\\ud83d\\ude00"}') == Tagged("\N{GRINNING FACE}")

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "0x1", "01"])
    def test_numbers_that_json_has_not(self, number: str) -> None:
        refused(f'{{"center": {{"x": 1}}, "radius": {number}}}', Circle)

    def test_an_int_of_too_many_digits(self) -> None:
        assert refused('{"x": ' + "1" * 5000 + "}", Point) == "$.x: integer value out of range"

    def test_keys_that_cannot_be(self) -> None:
        text = "$: an item of a set, or a key, is an array or map"
        assert refused({"keys": [{}]}, Loose) == refused(packed({"keys": [{}]}), Loose) == text
        assert "key" in refused(b"\x81\xa8anything\x81\x80\x01", Loose)

    def test_a_second_type_id_is_checked_as_well(self) -> None:
        twice = b"\x83\xa7type_id\x08\xa7type_id\x07\xa4name\xa0"
        assert refused(twice, Tagged) == "$.type_id: expected Tagged, got Circle"

    def test_what_a_class_checks_itself(self) -> None:
        assert Even.loadb(Even(2).dumpb()) == Even(2)
        assert refused({"number": 3}, Even) == "$: the number is odd"
        with pytest.raises(ValueError, match="odd"):
            Even(3)

    def test_the_error_is_one_of_the_package_and_a_value_error(self) -> None:
        from resource_server import ResourceServerError

        assert issubclass(SerializableError, ResourceServerError)
        assert issubclass(SerializableError, ValueError)


class TestSize:
    def test_five_mebibytes_unless_told(self) -> None:
        message = Tagged("x" * (5 * 1024 * 1024))
        data = message.dumpb()
        assert refused(data, Tagged) == f"$: {len(data)} bytes, where 5242880 are allowed"
        assert refused(memoryview(data), Tagged) == refused(data)
        refused(message.dumps(), Tagged)
        assert Tagged.loadb(data, max_size=None) == message
        assert Tagged.loads(message.dumps(), max_size=6_000_000) == message

    def test_the_limit_is_exact(self) -> None:
        data = Color.RED.dumpb()
        assert Color.loadb(data, max_size=len(data)) is Color.RED
        assert load_message(data, max_size=len(data)) is Color.RED
        with pytest.raises(SerializableError, match="allowed"):
            load_message(data, max_size=len(data) - 1)

    def test_bytes_of_a_view_are_counted(self) -> None:
        view = memoryview(struct.pack("4I", 1, 2, 3, 4)).cast("I")
        with pytest.raises(SerializableError, match="16 bytes"):
            Point.loadb(view, max_size=15)


class TestDumpingWhatCannotBe:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_numbers_that_json_has_not(self, value: float) -> None:
        with pytest.raises(SerializableError, match=r"Circle: .*JSON"):
            Circle(Point(1), value).dumps()
        found = Circle.loadb(Circle(Point(1), value).dumpb()).radius
        assert math.copysign(1, found) == math.copysign(1, value)
        assert math.isnan(found) == math.isnan(value)

    def test_none_is_no_such_number(self) -> None:
        assert Loose.loads(Loose(anything=[None, "null"]).dumps()).anything == [None, "null"]

    def test_surrogates_objects_and_long_ints(self) -> None:
        with pytest.raises(SerializableError, match=r"Tagged: .*surrogates"):
            Tagged("\ud800").dumpb()
        with pytest.raises(SerializableError, match=r"Tagged: .*surrogates"):
            Tagged("\ud800").dumps()
        with pytest.raises(SerializableError, match=r"Loose: .*type object is unsupported"):
            Loose(anything=object()).to_json()
        with pytest.raises(SerializableError, match=r"Point: .*64"):
            Point(2**64).dumpb()

    def test_a_message_that_holds_itself(self) -> None:
        node = Node("a")
        node.items.append(node)
        for dump in (node.dumpb, node.dumps, node.to_json):
            with pytest.raises(SerializableError, match="Node: nested too deeply"):
                dump()
        node.items.clear()


class TestMistakesOfTheProgram:
    """They are no SerializableError, which would blame the client."""

    def test_an_annotation_that_names_nothing(self) -> None:
        class Lost(Serializable):
            x: Nowhere  # type: ignore[name-defined] # noqa: F821

        with pytest.raises(NameError, match="Nowhere") as caught:
            Lost.loadb(Lost(1).dumpb())
        assert "Lost" in caught.value.__notes__[0]

    def test_a_type_that_no_data_can_have(self) -> None:
        class Unclear(Serializable):
            x: list[int] | set[int]

        with pytest.raises(TypeError, match="more than one array-like"):
            Unclear.loadb(packed({"x": []}))

    def test_text_is_no_bytes(self) -> None:
        with pytest.raises(TypeError, match="bytes"):
            Point.loadb("text")  # type: ignore[arg-type]
