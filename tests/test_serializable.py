"""Typed messages: made, dumped and loaded, found by their type, sent and received."""

from __future__ import annotations

import copy
import pickle
import threading
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, ClassVar, assert_type

import pytest
from hypothesis import given

from resource_server import BadRequest, Request, SerializableResponse, UnsupportedMediaType

pytest.importorskip("msgspec", "0.20")

from resource_server.serializable import Serializable, SerializableEnum, field, load_message
from tests.messages import (
    Circle,
    Color,
    Empty,
    Everything,
    Level,
    Node,
    Point,
    Point3,
    Ship,
    Tagged,
    circles,
    everything,
    msgspec,
    nodes,
    packed,
    refused,
    run,
)


class TestMaking:
    def test_by_position_and_by_name(self) -> None:
        assert_type(Point(1, y=2), Point)
        assert Point(1, 2) == Point(x=1, y=2) == Point(y=2, x=1)
        assert Point(1) == Point(1, 0)

    def test_a_missing_or_unknown_argument_is_a_type_error(self) -> None:
        with pytest.raises(TypeError, match="x"):
            Point()  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="z"):
            Point(1, z=2)  # type: ignore[call-arg]

    def test_equality_is_of_class_and_fields(self) -> None:
        assert Point(1, 2) != Point(1, 3)
        other: object = (1, 2)
        assert Point(1, 2) != other
        assert Node("a", [Node("b")]) == Node("a", [Node("b")])

    def test_the_repr_shows_the_fields(self) -> None:
        assert repr(Circle(Point(1, 2))) == "Circle(center=Point(x=1, y=2), radius=1.0)"

    def test_each_message_has_a_list_of_its_own(self) -> None:
        Node("a").items.append(Node("b"))
        assert Node("c").items == []

    def test_a_default_made_by_a_function(self) -> None:
        class Deck(Serializable):
            cards: list[int] = field(default_factory=lambda: [1, 2])

        assert Deck() == Deck([1, 2])
        assert Deck().cards is not Deck().cards

    def test_fields_are_inherited(self) -> None:
        assert Point3(1, 2, 3) == Point3(x=1, y=2, z=3)
        assert isinstance(Point3(1), Point)
        assert Ship(tons=5) == Ship(name="?", tons=5)

    def test_options_of_msgspec(self) -> None:
        class Frozen(Serializable, frozen=True, order=True, rename="camel"):
            long_name: int = 1

        assert hash(Frozen()) == hash(Frozen(1))
        assert Frozen(1) < Frozen(2)
        assert Frozen().to_json() == {"type_id": Frozen.type_id, "longName": 1}
        with pytest.raises(AttributeError):
            Frozen().long_name = 2  # type: ignore[misc]

    def test_copies_and_pickles(self) -> None:
        node = Node("a", [Node("b")])
        assert copy.deepcopy(node) == copy.copy(node) == node
        assert pickle.loads(pickle.dumps(node)) == node

    def test_constants_of_the_class_are_no_fields(self) -> None:
        class Limited(Serializable):
            most: ClassVar[int] = 3
            x: int = 1

        assert Limited(2).to_json() == {"type_id": Limited.type_id, "x": 2}


class TestForms:
    def test_bytes_are_a_map_in_messagepack(self) -> None:
        assert msgspec.msgpack.decode(Circle(Point(1)).dumpb()) == {
            "type_id": 7,
            "center": {"type_id": Point.type_id, "x": 1, "y": 0},
            "radius": 1.0,
        }

    def test_text_is_json(self) -> None:
        assert Tagged("é\n").dumps() == '{"type_id":8,"name":"é\\n"}'

    def test_plain_values_are_those_of_json(self) -> None:
        class Mixed(Serializable, type_id=20):
            color: Color = Color.RED
            when: datetime = datetime(2024, 1, 2, tzinfo=UTC)
            data: bytes = b"\xff"
            pair: tuple[int, Level] = (1, Level.HIGH)
            by_number: dict[int, int] = field(default_factory=lambda: {1: 2})

        plain = Mixed().to_json()
        assert plain == {
            "type_id": 20,
            "color": "red",
            "when": "2024-01-02T00:00:00Z",
            "data": "/w==",
            "pair": (1, 2),
            "by_number": {"1": 2},
        }
        assert Mixed.from_json(plain) == Mixed()

    def test_the_spellings_of_the_reference(self) -> None:
        assert Point.fromJson(Point(1, 2).toJson()) == Point(1, 2)
        assert Color.fromJson(Color.RED.toJson()) is Color.RED

    def test_any_buffer_is_loaded(self) -> None:
        data = Point(1, 2).dumpb()
        assert Point.loadb(bytearray(data)) == Point.loadb(memoryview(data)) == Point(1, 2)
        assert Point.loads(Point(1, 2).dumps().encode()) == Point(1, 2)

    def test_what_is_loaded_has_the_type_of_the_class(self) -> None:
        assert_type(Point.loadb(Point(1).dumpb()), Point)
        assert_type(Color.loads(Color.RED.dumps()), Color)

    @given(everything)
    def test_everything_survives_all_three(self, message: Everything) -> None:
        assert Everything.loadb(message.dumpb()) == message
        assert Everything.loads(message.dumps()) == message
        assert Everything.from_json(message.to_json()) == message
        assert Serializable.loadb(message.dumpb()) == message

    @given(nodes)
    def test_so_do_recursive_messages(self, node: Node) -> None:
        assert Node.loadb(node.dumpb()) == node
        assert Serializable.loads(node.dumps()) == node
        assert Serializable.from_json(node.to_json()) == node

    @given(circles)
    def test_infinity_survives_in_bytes(self, circle: Circle) -> None:
        assert Circle.loadb(circle.dumpb()) == circle

    def test_a_long_int_survives_in_text(self) -> None:
        assert Point.loads(Point(2**70).dumps()) == Point(2**70)

    def test_a_message_without_fields(self) -> None:
        assert Serializable.loadb(Empty().dumpb()) == Empty()

    def test_threads_load_for_the_first_time_together(self) -> None:
        class Fresh(Serializable):
            points: list[Point] = []  # noqa: RUF012

        data = Fresh([Point(1)]).dumpb()
        start = threading.Barrier(8)
        found: list[Fresh] = []

        def load() -> None:
            start.wait()
            found.append(Fresh.loadb(data))

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [Fresh([Point(1)])] * 8


class TestFindingTheClass:
    @pytest.mark.parametrize("message", [Point(1, 2), Circle(Point(3)), Empty(), Node("a")])
    def test_serializable_finds_it_by_its_id(self, message: Serializable) -> None:
        for found in (
            Serializable.loadb(message.dumpb()),
            Serializable.loads(message.dumps()),
            Serializable.from_json(message.to_json()),
            load_message(message.dumpb()),
        ):
            assert type(found) is type(message)
            assert found == message

    def test_a_class_loads_those_derived_from_it(self) -> None:
        found = Point.loadb(Point3(1, 2, 3).dumpb())
        assert isinstance(found, Point3)
        assert found == Point3(1, 2, 3)
        assert Point.from_json(Point3(1, 2, 3).to_json()) == found

    def test_a_derived_class_does_not_load_its_base(self) -> None:
        assert refused(Point(1, 2).dumpb(), Point3) == "$.type_id: expected Point3, got Point"

    def test_a_class_loads_no_other(self) -> None:
        assert refused(Circle(Point(1)).dumpb(), Point) == "$.type_id: expected Point, got Circle"
        assert refused(Level.LOW.dumpb(), Point) == "$.type_id: expected Point, got Level"
        assert refused({"type_id": 99, "x": 1}, Point) == (
            "$.type_id: expected Point, got the unknown 99"
        )

    def test_the_error_of_a_derived_class_tells_its_own_place(self) -> None:
        data = {"type_id": Point3.type_id, "x": 1, "z": "?"}
        assert refused(data, Point) == "$.z: expected int, got str"

    def test_a_field_holds_its_class_alone(self) -> None:
        data = Circle(Point3(1)).dumpb()
        assert refused(data, Circle) == "$.center.type_id: expected another class, got Point3"

    def test_the_order_of_the_fields_does_not_matter(self) -> None:
        assert Serializable.loadb(packed({"name": "x", "type_id": 8})) == Tagged("x")
        assert Serializable.loads('{"name": "x", "type_id": 8}') == Tagged("x")

    def test_a_class_needs_no_id_in_the_data(self) -> None:
        assert Point.from_json({"x": 1}) == Point.loads('{"x": 1}') == Point(1)
        assert Point.loadb(packed({"x": 1})) == Point(1)

    def test_serializable_needs_one_that_is_known(self) -> None:
        assert refused({"x": 1}) == "$: the map has no type_id"
        assert refused({"type_id": -5}) == "$: the map has no type_id"
        assert refused({"type_id": 99}) == "$.type_id: 99 is of no class that has been imported"
        assert refused({"type_id": "7"}) == "$.type_id: expected int, got str"
        assert refused('{"type_id": 7.5}') == "$.type_id: expected int, got float"
        assert refused({"type_id": 2**64}).startswith("$.type_id: ")

    def test_a_union_needs_one_too(self) -> None:
        class Holder(Serializable):
            shape: Point | Circle

        assert refused({"shape": {"x": 1}}, Holder) == (
            "$.shape: object missing required field type_id"
        )
        assert refused({"shape": {"type_id": 8}}, Holder) == (
            "$.shape.type_id: expected another class, got Tagged"
        )


class TestEnumerations:
    @pytest.mark.parametrize("member", [*Color, *Level])
    def test_a_member_is_a_message(self, member: Any) -> None:
        cls = type(member)
        for found in (
            cls.loadb(member.dumpb()),
            cls.loads(member.dumps()),
            cls.from_json(member.to_json()),
            SerializableEnum.loadb(member.dumpb()),
            load_message(member.dumpb()),
        ):
            assert found is member

    def test_its_form(self) -> None:
        assert Level.HIGH.to_json() == {"type_id": 12, "value": 2}
        assert Level.HIGH.dumps() == '{"type_id":12,"value":2}'
        assert msgspec.msgpack.decode(Level.HIGH.dumpb()) == {"type_id": 12, "value": 2}

    def test_it_is_an_enum_all_the_same(self) -> None:
        assert list(Level) == [Level.LOW, Level.HIGH]
        assert Level(2) is Level["HIGH"] is Level.HIGH
        assert Level.HIGH.label == "high"
        assert pickle.loads(pickle.dumps(Color.RED)) is Color.RED

    def test_members_of_another_type(self) -> None:
        class Bits(int, SerializableEnum):
            ONE = 1
            TWO = 2

        assert Bits.loadb(Bits.TWO.dumpb()) is Bits.TWO
        assert Bits.TWO + 1 == 3

    def test_a_base_without_members(self) -> None:
        class Shown(SerializableEnum):
            def shown(self) -> str:
                return f"<{self.value}>"

        class Mood(Shown):
            GOOD = "good"

        assert Shown.loadb(Mood.GOOD.dumpb()).shown() == "<good>"
        assert refused(Color.RED.dumpb(), Shown) == (
            f"$.type_id: expected {Shown.__qualname__}, got Color"
        )

    def test_serializable_and_the_enum_do_not_load_each_other(self) -> None:
        assert refused(Color.RED.dumpb()) == "$.type_id: expected Serializable, got Color"
        assert refused(Point(1).dumpb(), SerializableEnum) == (
            "$.type_id: expected SerializableEnum, got Point"
        )
        assert refused(Color.RED.dumpb(), Level) == "$.type_id: expected Level, got Color"

    def test_values_are_checked(self) -> None:
        assert refused({"value": "blue"}, Color) == "$.value: invalid enum value 'blue'"
        assert refused({}, Color) == "$: object missing required field value"

    def test_values_are_all_int_or_all_str(self) -> None:
        with pytest.raises(TypeError, match="neither all int nor all str"):

            class Mixed(SerializableEnum):
                A = 1
                B = "b"

        with pytest.raises(TypeError, match="neither"):

            class Floats(SerializableEnum):
                A = 1.5

    def test_its_id_is_fixed_in_the_head(self) -> None:
        with pytest.raises(TypeError, match="fix it in the head"):

            class Body(SerializableEnum):
                type_id = 9  # type: ignore[misc,assignment]
                A = 1


class TestRequests:
    def request(self, body: bytes, content_type: str = "application/x-serializable") -> Request:
        return Request(
            ("127.0.0.1", 1),
            "POST",
            "/",
            headers={"Content-Type": content_type},
            stream=BytesIO(body),
        )

    def test_a_response_comes_back_as_a_request(self) -> None:
        for message in (Circle(Point(1, 2)), Color.GREEN):
            response = SerializableResponse(message)
            assert response.headers["Content-Type"] == "application/x-serializable"
            assert isinstance(response.body, bytes)
            assert self.request(response.body).message() == message

    def test_what_is_malformed_is_a_bad_request(self) -> None:
        for body in (b"", b"\x80", b"\xc1", packed({"type_id": 99}), b"\x91" * 100_000):
            with pytest.raises(BadRequest):
                self.request(body).message()

    def test_another_type_is_unsupported(self) -> None:
        with pytest.raises(UnsupportedMediaType):
            self.request(b"{}", "application/json").message()

    def test_the_limit_is_that_of_the_route(self) -> None:
        message = Tagged("x" * (6 * 1024 * 1024))
        assert self.request(message.dumpb()).message() == message

    def test_over_the_wire(self, serve: Any) -> None:
        import requests

        from resource_server import Resource, post

        class Shapes(Resource):
            @post("/grow")
            def grow(self, request: Request) -> SerializableResponse:
                circle = request.message()
                return SerializableResponse(Circle(circle.center, circle.radius * 2))

        server = serve(Shapes)
        kind = {"Content-Type": "application/x-serializable"}
        with requests.Session() as session:
            body = Circle(Point(1), 2.0).dumpb()
            answer = session.post(f"{server.url}/grow", body, headers=kind, timeout=30)
            assert (answer.status_code, answer.headers["Content-Type"]) == (
                200,
                kind["Content-Type"],
            )
            assert Circle.loadb(answer.content) == Circle(Point(1), 4.0)
            answer = session.post(f"{server.url}/grow", b"\xc1", headers=kind, timeout=30)
            assert answer.status_code == 400

    def test_to_define_a_class_is_enough(self) -> None:
        output = run(
            "from io import BytesIO\n"
            "from resource_server import Request, Serializable\n"
            "class Message(Serializable):\n"
            "    x: int = 0\n"
            "    others: 'list[Message] | None' = None\n"
            "kind = {'Content-Type': 'application/x-serializable'}\n"
            "body = BytesIO(Message(5, [Message(6)]).dumpb())\n"
            "print(Request(('', 1), 'POST', '/', headers=kind, stream=body).message())\n"
        )
        assert output == "Message(x=5, others=[Message(x=6, others=None)])\n"


class TestWithoutMsgspec:
    HIDDEN = "import sys; sys.modules['msgspec'] = None\nimport resource_server\n"

    @pytest.mark.parametrize(
        "statement",
        [
            "from resource_server import Serializable",
            "import resource_server.serializable",
            "resource_server.SerializableError",
        ],
    )
    def test_one_error_tells_the_command(self, statement: str) -> None:
        code = f"{self.HIDDEN}try: {statement}\nexcept ImportError as error: print(error)"
        assert run(code) == (
            "Serializable needs msgspec 0.20 or newer:"
            " pip install 'resource_server[serializable]'\n"
        )

    def test_everything_else_works(self) -> None:
        run(f"{self.HIDDEN}from resource_server import *\nprint(HTTPServer)")

    def test_an_old_one_is_the_same_error(self) -> None:
        code = "import sys, types; sys.modules['msgspec'] = types.ModuleType('msgspec')\n"
        code += (
            "try: import resource_server.serializable\nexcept ImportError as error: print(error)"
        )
        assert "0.20 or newer" in run(code)

    def test_importing_the_server_does_not_import_it(self) -> None:
        assert run("import sys, resource_server; print('msgspec' in sys.modules)") == "False\n"
