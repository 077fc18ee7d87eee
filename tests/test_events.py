"""Events as they are written, and channels, without a server."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server import Event, EventChannel, EventStream, Request
from resource_server.errors import Gone
from resource_server.streams import Source
from tests.eventsource import Dispatched, Parser, parse
from tests.rawclient import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator


def request(last_event_id: str | None = None) -> Request:
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    return Request(("127.0.0.1", 1), "GET", "/", headers=headers)


class Subscriber:
    """What a server does with a channel's stream."""

    def __init__(
        self, channel: EventChannel, last_event_id: str | None = None, **options: Any
    ) -> None:
        source = EventStream(channel, **options).source
        assert isinstance(source, Source)
        self.source = source
        self.wakes = 0
        self.parser = Parser()
        self.ended = False
        source.open(request(last_event_id), self.wake)

    def wake(self) -> None:
        self.wakes += 1

    def read(self) -> list[Dispatched]:
        """All that is there now."""
        while piece := self.source.take():
            self.parser.feed(piece)
        self.ended = piece == b""
        events, self.parser.events = self.parser.events, []
        return events

    def data(self) -> list[str]:
        return [event.data for event in self.read()]


class TestEvents:
    @pytest.mark.parametrize(
        ("event", "expected"),
        [
            (Event("hello"), Dispatched("hello")),
            (Event(""), Dispatched("")),
            (Event(" two  spaces "), Dispatched(" two  spaces ")),
            (Event(":colon"), Dispatched(":colon")),
            (Event("a\nb\n"), Dispatched("a\nb\n")),
            (Event("a\rb\r\nc\n\rd"), Dispatched("a\nb\nc\n\nd")),
            (Event("a\x0bb\x0c\x1c\x1d\x1e\x85\u2028\u2029c"),) * 2,
            (Event("data: x\n\nevent: forged"), Dispatched("data: x\n\nevent: forged")),
            (Event({"a": [1, "ü\n"]}), Dispatched('{"a":[1,"ü\\n"]}')),
            (Event(0), Dispatched("0")),
            (Event(False), Dispatched("false")),
            (Event("x", event="tick", id="7"), Dispatched("x", "tick", "7")),
            (Event("x", event=" tick", id=" 7"), Dispatched("x", " tick", " 7")),
            (Event("x", id=""), Dispatched("x")),
            (Event("x", id="ü"), Dispatched("x", last_event_id="ü")),
        ],
    )
    def test_arrive_as_they_are(self, event: Event, expected: Dispatched | Event) -> None:
        if isinstance(expected, Event):
            expected = Dispatched(str(expected.data))
        assert parse(event.encode()).events == [expected]

    @given(st.text(), st.text().filter(lambda text: not set(text) & set("\0\r\n")))
    def test_any_text_arrives_with_its_lines(self, data: str, name: str) -> None:
        lines = data.replace("\r\n", "\n").replace("\r", "\n")
        encoded = Event(data, id=name, event=name).encode()
        assert parse(encoded * 2).events == [Dispatched(lines, name or "message", name)] * 2

    def test_without_data_dispatch_nothing(self) -> None:
        parser = parse(Event(id="7", retry=2500).encode())
        assert (parser.events, parser.last_event_id, parser.retry) == ([], "7", 2500)

    @pytest.mark.parametrize("field", ["id", "event"])
    @pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "\n", b"bytes", 7])
    def test_of_a_name_that_is_no_line_are_refused(self, field: str, value: Any) -> None:
        with pytest.raises(ValueError, match=f"the {field} of an event"):
            Event("x", **{field: value})

    @pytest.mark.parametrize("retry", [-1, 1.5, True, "1000"])
    def test_of_another_retry_are_refused(self, retry: Any) -> None:
        with pytest.raises(ValueError, match="milliseconds"):
            Event("x", retry=retry)

    def test_of_what_cannot_be_sent_are_refused(self) -> None:
        with pytest.raises(ValueError, match="surrogate"):
            Event("\ud800")
        with pytest.raises(TypeError):
            Event(object())
        with pytest.raises(TypeError):
            Event(b"bytes")

    def test_can_be_looked_at(self) -> None:
        assert repr(Event("x")) == "<Event message >"
        assert repr(Event("x", event="tick", id="7")) == "<Event tick 7>"


class TestStreams:
    def test_of_an_iterable_have_all_that_it_yields(self) -> None:
        events = ["text", {"a": 1}, None, Event("x", event="tick", id="7"), 5]
        stream = EventStream(events, retry=100)
        assert stream.iterator is not None
        parser = parse(b"".join(stream.iterator))
        assert parser.events == [
            Dispatched("text"),
            Dispatched('{"a":1}'),
            Dispatched("x", "tick", "7"),
            Dispatched("5", "message", "7"),
        ]
        assert (parser.comments, parser.retry) == ([""], 100)

    def test_of_an_iterable_begin_before_the_first_event(self) -> None:
        begun = []

        def events() -> Iterator[str]:
            begun.append(True)
            yield ""

        stream = EventStream(events())
        assert stream.iterator is not None
        assert next(iter(stream.iterator)) == b""
        assert begun == []

    def test_close_what_they_are_made_of(self) -> None:
        closed = []

        class Events(list[str]):
            def close(self) -> None:
                closed.append(True)

        EventStream(Events()).close()
        assert closed == [True]
        EventStream(["no close"]).close()

    def test_tell_everybody_not_to_keep_them(self) -> None:
        fields = dict(EventStream([]).headers)
        assert fields == {
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            "Content-Type": "text/event-stream",
        }

    def test_may_have_other_fields(self) -> None:
        stream = EventStream([], {"cache-control": "no-cache", "X": "y"})
        assert stream.headers["Cache-Control"] == "no-cache"
        assert stream.headers["X"] == "y"

    @pytest.mark.parametrize("source", ["text", b"bytes", {"a": 1}, 7])
    def test_of_what_is_no_stream_are_refused(self, source: Any) -> None:
        with pytest.raises(TypeError):
            EventStream(source)

    @pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
    def test_of_another_keep_alive_are_refused(self, seconds: float) -> None:
        with pytest.raises(ValueError, match="keep_alive"):
            EventStream(EventChannel(), keep_alive=seconds)


class TestChannels:
    def test_send_everybody_what_is_published_from_now_on(self) -> None:
        channel = EventChannel()
        channel.publish("before")
        one, other = Subscriber(channel), Subscriber(channel)
        assert one.data() == other.data() == []
        assert len(channel) == 2
        channel.publish("a")
        channel.publish({"b": 1}, event="tick", id="mine", retry=5)
        expected = [("a", "message"), ('{"b":1}', "tick")]
        assert [(event.data, event.type) for event in one.read()] == expected
        events = other.read()
        assert [(event.data, event.type) for event in events] == expected
        assert events[1].last_event_id == "mine"
        assert other.parser.retry == 5

    def test_wake_those_who_wait_once(self) -> None:
        channel = EventChannel()
        subscriber = Subscriber(channel)
        channel.publish("not waiting yet")
        assert subscriber.wakes == 0
        subscriber.read()
        channel.publish("a")
        channel.publish("b")
        assert subscriber.wakes == 1
        assert subscriber.data() == ["a", "b"]

    def test_give_ids_that_nobody_has_had(self) -> None:
        ids = [channel.publish("x") for channel in (EventChannel(), EventChannel()) for _ in "12"]
        assert len(set(ids)) == 4

    def test_replay_what_was_missed(self) -> None:
        channel = EventChannel()
        ids = [channel.publish(str(number)) for number in range(5)]
        assert Subscriber(channel, ids[2]).data() == ["3", "4"]
        assert Subscriber(channel, ids[4]).data() == []
        assert Subscriber(channel, "").data() == []

    def test_replay_all_to_who_had_something_unknown(self) -> None:
        channel = EventChannel(replay=3)
        ids = [channel.publish(str(number)) for number in range(5)]
        assert Subscriber(channel, "of another life").data() == ["2", "3", "4"]
        assert Subscriber(channel, ids[0]).data() == ["2", "3", "4"]

    def test_find_the_application_s_own_ids(self) -> None:
        channel = EventChannel(replay=3)
        for number, name in enumerate(["a", "ü", "a", "c"]):
            channel.publish(str(number), id=name)
        # As the client sends it, in UTF-8.
        assert Subscriber(channel, "ü".encode().decode("latin-1")).data() == ["2", "3"]
        assert Subscriber(channel, "a").data() == ["3"]
        channel.publish("4")
        channel.publish("5")
        assert Subscriber(channel, "a").data() == ["3", "4", "5"]

    def test_keep_no_more_bytes_than_they_may(self) -> None:
        channel = EventChannel(replay_bytes=1000)
        subscriber = Subscriber(channel)
        for _ in range(10):
            channel.publish("x" * 400)
        assert len(subscriber.data()) == 2
        channel.publish("y" * 5000)
        assert subscriber.data() == ["y" * 5000]
        assert repr(channel) == "<EventChannel 1 subscribed, 1 kept>"

    def test_tell_a_slow_one_how_many_it_missed(self) -> None:
        channel = EventChannel(replay=3)
        subscriber = Subscriber(channel)
        for number in range(10):
            channel.publish(str(number))
        assert subscriber.data() == ["7", "8", "9"]
        assert subscriber.parser.comments == ["7 events were missed"]
        assert not subscriber.ended

    def test_end_the_stream_of_a_slow_one(self) -> None:
        channel = EventChannel(replay=3, slow="close")
        subscriber = Subscriber(channel)
        seen = channel.publish("0")
        assert subscriber.data() == ["0"]
        for number in range(1, 5):
            channel.publish(str(number))
        assert subscriber.data() == []
        assert subscriber.ended
        subscriber.source.close()
        assert len(channel) == 0
        assert Subscriber(channel, seen).data() == ["2", "3", "4"]

    def test_are_patient_until_they_have_sent_something(self) -> None:
        """Who comes back and is sent all there is has the oldest of it in danger at once."""
        channel = EventChannel(replay=3, slow="close")
        for number in range(5):
            channel.publish(str(number))
        subscriber = Subscriber(channel, "of another life")
        channel.publish("5")
        assert subscriber.data() == ["3", "4", "5"]
        assert not subscriber.ended

    def test_join_small_events_and_send_large_ones_alone(self) -> None:
        channel = EventChannel()
        subscriber = Subscriber(channel)
        for size in (10, 10, 40_000, 20_000, 20_000, 10):
            channel.publish("x" * size)
        sizes = []
        while piece := subscriber.source.take():
            sizes.append(len(piece) // 1000)
        assert sizes == [0, 40, 20, 20]

    def test_are_left_once(self) -> None:
        channel = EventChannel()
        one, other = Subscriber(channel), Subscriber(channel)
        one.read()
        one.source.close()
        one.source.close()
        assert len(channel) == 1
        channel.publish("a")
        assert one.wakes == 0
        assert other.data() == ["a"]

    def test_that_nobody_opened_are_left_as_well(self) -> None:
        channel = EventChannel()
        EventStream(channel).close()
        assert len(channel) == 0
        assert channel

    def test_end_behind_what_was_published(self) -> None:
        channel = EventChannel()
        behind, waiting = Subscriber(channel), Subscriber(channel)
        channel.publish("a")
        waiting.read()
        channel.close()
        channel.close()
        assert waiting.wakes == 1
        assert behind.data() == ["a"]
        assert waiting.data() == []
        assert behind.ended
        assert waiting.ended
        with pytest.raises(RuntimeError, match="closed"):
            channel.publish("b")
        with pytest.raises(Gone):
            Subscriber(channel)
        assert len(channel) == 2

    def test_a_subscriber_that_is_stopped_ends_behind_what_was_published(self) -> None:
        channel = EventChannel(replay=2)
        near, far = Subscriber(channel, retry=7), Subscriber(channel)
        channel.publish("a")
        near.source.stop()
        far.source.stop()
        near.source.stop()
        channel.publish("b")
        assert near.data() == ["a"]
        assert near.ended
        assert near.parser.retry == 7
        channel.publish("c")
        assert far.data() == []
        assert far.ended

    def test_send_a_comment_when_there_is_nothing(self) -> None:
        subscriber = Subscriber(EventChannel(), keep_alive=3)
        assert subscriber.source.keep_alive == 3
        assert parse(subscriber.source.idle()).comments == [""]

    @pytest.mark.parametrize(
        "options", [{"replay": 0}, {"replay_bytes": 0}, {"slow": "drop"}, {"slow": None}]
    )
    def test_of_other_settings_are_refused(self, options: Any) -> None:
        with pytest.raises(ValueError, match=r"channel keeps|slow is"):
            EventChannel(**options)

    def test_keep_the_order_of_many_publishers(self) -> None:
        """Each event once, to all in the same order, and each publisher's in its own."""
        channel = EventChannel(replay=10_000)
        subscribers = [Subscriber(channel) for _ in range(3)]
        begin = threading.Barrier(5)

        def publish(name: str) -> None:
            begin.wait(PATIENCE)
            for number in range(500):
                channel.publish(f"{name} {number}")

        threads = [threading.Thread(target=publish, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        begin.wait(PATIENCE)
        got: list[list[str]] = [[] for _ in subscribers]
        while any(thread.is_alive() for thread in threads):
            for index, subscriber in enumerate(subscribers):
                got[index] += subscriber.data()
        for index, subscriber in enumerate(subscribers):
            got[index] += subscriber.data()
        assert got[0] == got[1] == got[2]
        for name in "abcd":
            mine = [text for text in got[0] if text.startswith(name)]
            assert mine == [f"{name} {number}" for number in range(500)]
