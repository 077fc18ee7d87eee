"""What the loop waits on tells the same by every system's means."""

from __future__ import annotations

import contextlib
import select
import selectors
import socket
from collections.abc import Iterator

import pytest

from resource_server.engine.selector import MAX_EVENTS, EpollSelector, Selector, open_selector

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
PATIENCE = 20.0

needs_epoll = pytest.mark.skipif(not hasattr(select, "epoll"), reason="epoll is Linux's")


class Source:
    """What is told of; nothing is served here."""

    def on_event(self, mask: int) -> bool:
        raise NotImplementedError


Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(params=[Selector, pytest.param(EpollSelector, marks=needs_epoll)])
def selector(request: pytest.FixtureRequest) -> Iterator[Selector]:
    with contextlib.closing(request.param()) as made:
        yield made


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_it_tells_whose_socket_is_ready_and_for_what(selector: Selector, pair: Pair) -> None:
    source = Source()
    selector.register(pair[0], READ, source)
    assert selector.select(0) == []
    pair[1].send(b"x")
    assert selector.select(PATIENCE) == [(source, READ)]
    assert selector.select(PATIENCE) == [(source, READ)], "until it has been read"
    pair[0].recv(1)
    assert selector.select(0.001) == []


def test_what_is_waited_for_can_be_changed(selector: Selector, pair: Pair) -> None:
    one, other = Source(), Source()
    selector.register(pair[0].fileno(), READ, one)
    selector.modify(pair[0].fileno(), WRITE, other)
    assert selector.select(PATIENCE) == [(other, WRITE)]
    pair[1].send(b"x")
    selector.modify(pair[0], READ | WRITE, one)
    assert selector.select() == [(one, READ | WRITE)]


def test_the_end_of_the_other_side_is_told_as_what_is_waited_for(
    selector: Selector, pair: Pair
) -> None:
    source = Source()
    selector.register(pair[0], READ, source)
    pair[1].close()
    assert selector.select(PATIENCE) == [(source, READ)]
    selector.modify(pair[0], WRITE, source)
    assert selector.select(PATIENCE) == [(source, WRITE)]


def test_it_knows_what_it_watches(selector: Selector, pair: Pair) -> None:
    assert pair[0] not in selector
    selector.register(pair[0], READ, Source())
    assert pair[0] in selector
    assert pair[0].fileno() in selector
    pair[1].send(b"x")
    selector.unregister(pair[0].fileno())
    assert pair[0] not in selector
    assert selector.select(0) == []
    selector.register(pair[0], READ, Source())
    assert len(selector.select(PATIENCE)) == 1


def test_nothing_is_watched_twice_or_taken_off_twice(selector: Selector, pair: Pair) -> None:
    selector.register(pair[0], READ, Source())
    with pytest.raises(KeyError):
        selector.register(pair[0], WRITE, Source())
    selector.unregister(pair[0])
    with pytest.raises(KeyError):
        selector.unregister(pair[0])


def test_what_cannot_be_watched_is_refused(selector: Selector, pair: Pair) -> None:
    descriptor = pair[0].fileno()
    pair[0].close()
    with pytest.raises(ValueError):  # noqa: PT011 - the system's words differ
        selector.register(pair[0], READ, Source())
    assert descriptor not in selector


def test_a_socket_that_was_closed_before_can_be_taken_off(selector: Selector, pair: Pair) -> None:
    descriptor = pair[0].fileno()
    selector.register(descriptor, READ, Source())
    pair[0].close()
    selector.unregister(descriptor)
    assert descriptor not in selector


@needs_epoll
def test_many_events_are_told_of_in_rounds() -> None:
    with contextlib.ExitStack() as stack:
        selector = stack.enter_context(contextlib.closing(EpollSelector()))
        sources = {}
        for _ in range(MAX_EVENTS + 20):
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            stack.enter_context(theirs)
            selector.register(ours, WRITE, source := Source())
            sources[source] = ours
        first = [source for source, _ in selector.select(PATIENCE)]
        assert len(first) == MAX_EVENTS
        told = {*first, *[source for source, _ in selector.select(PATIENCE)]}
        assert told == set(sources)


@needs_epoll
def test_an_event_of_what_is_no_longer_watched_is_nobodys(pair: Pair) -> None:
    with contextlib.closing(EpollSelector()) as selector:
        selector.register(pair[0], WRITE, Source())
        with socket.fromfd(pair[0].fileno(), socket.AF_UNIX, socket.SOCK_STREAM):
            # The system goes on telling of it, as another descriptor of it is open.
            descriptor = pair[0].fileno()
            pair[0].close()
            selector.unregister(descriptor)
            assert selector.select(0.01) == []


@needs_epoll
def test_epoll_is_used_where_it_is_the_best_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selectors, "DefaultSelector", selectors.EpollSelector)
    with contextlib.closing(open_selector()) as best:
        assert isinstance(best, EpollSelector)
        assert not best.is_limited
    monkeypatch.setattr(selectors, "DefaultSelector", selectors.SelectSelector)
    with contextlib.closing(open_selector()) as best:
        assert type(best) is Selector
        assert best.is_limited
