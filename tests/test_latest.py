"""The newest frame, without a server."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import FieldError, LatestFrame, Request
from resource_server.errors import Gone
from resource_server.streams import Source
from tests.rawclient import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable


def view(frames: LatestFrame, wake: Callable[[], None] = lambda: None) -> Source:
    source = frames.stream().source
    assert isinstance(source, Source)
    source.open(Request(("127.0.0.1", 1), "GET", "/"), wake)
    return source


def boundary(frames: LatestFrame) -> bytes:
    return frames.stream().headers["Content-Type"].partition("boundary=")[2].encode()


def part(frames: LatestFrame, data: bytes, content_type: str = "image/jpeg") -> bytes:
    head = f"Content-Type: {content_type}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    return head + data + b"\r\n--" + boundary(frames) + b"\r\n"


class TestViewers:
    def test_get_the_newest_frame_and_only_that(self) -> None:
        frames = LatestFrame()
        frames.publish(b"before")
        source = view(frames)
        assert source.take() == b"--" + boundary(frames) + b"\r\n"
        frames.publish(b"newest")
        assert source.take() == part(frames, b"newest")
        assert source.take() is None
        for data in (b"1", b"2", b"3"):
            frames.publish(data)
        assert source.take() == part(frames, b"3")

    def test_are_sent_the_same_bytes(self) -> None:
        frames = LatestFrame()
        sources = [view(frames), view(frames)]
        frames.publish(bytes(1000))
        for source in sources:
            source.take()
        first, second = [source.take() for source in sources]
        assert first is second

    def test_are_sent_a_frame_that_stays_once_more(self) -> None:
        """Or a browser would show it when it is not the newest any more."""
        frames = LatestFrame()
        source = view(frames)
        assert source.idle() == b""
        source.take()
        assert (source.idle(), source.keep_alive) == (b"", 0.5)
        for data in (b"1", b"2"):
            frames.publish(data)
            assert source.idle() == b""
            assert source.take() == part(frames, data)
            assert source.idle() == part(frames, data)
            assert source.idle() == b""

    def test_are_woken_when_they_wait(self) -> None:
        frames = LatestFrame()
        wakes: list[int] = []
        source = view(frames, lambda: wakes.append(1))
        frames.publish(b"1")
        assert wakes == []
        while source.take():
            pass
        frames.publish(b"2")
        frames.publish(b"3")
        assert wakes == [1]
        source.close()
        source.close()
        frames.publish(b"4")
        assert wakes == [1]

    def test_are_counted(self) -> None:
        frames = LatestFrame()
        source = view(frames)
        assert len(frames) == 1
        assert repr(frames) == "<LatestFrame 1 viewers>"
        source.close()
        assert len(frames) == 0
        assert frames
        frames.stream().close()
        assert len(frames) == 0

    def test_end_when_it_is_closed(self) -> None:
        frames = LatestFrame()
        wakes: list[int] = []
        behind, waiting = view(frames), view(frames, lambda: wakes.append(1))
        frames.publish(b"last")
        while waiting.take():
            pass
        behind.take()
        frames.close()
        frames.close()
        assert wakes == [1]
        assert behind.take() == part(frames, b"last")
        assert behind.take() == b""
        assert waiting.take() == b""
        with pytest.raises(Gone):
            view(frames)

    def test_end_when_the_server_stops(self) -> None:
        frames = LatestFrame()
        source = view(frames)
        frames.publish(b"1")
        source.take()
        source.stop()
        assert source.take() == b""

    def test_may_be_sent_frames_of_other_types(self) -> None:
        frames = LatestFrame("image/png")
        source = view(frames)
        source.take()
        frames.publish(b"png")
        assert source.take() == part(frames, b"png", "image/png")
        frames.publish(b"webp", "image/webp")
        assert source.take() == part(frames, b"webp", "image/webp")

    def test_have_fields_that_nobody_keeps(self) -> None:
        headers = LatestFrame().stream({"X": "y"}).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Accel-Buffering"] == "no"
        assert headers["X"] == "y"
        assert headers["Content-Type"].startswith("multipart/x-mixed-replace; boundary=")


class TestProducers:
    def test_may_use_their_buffer_again(self) -> None:
        frames = LatestFrame()
        buffer = bytearray(b"abc")
        frames.publish(memoryview(buffer)[1:])
        buffer[1] = 0
        assert frames.latest == b"bc"
        assert frames.publish(b"next")

    @pytest.mark.parametrize("frame", ["text", 7, None])
    def test_of_what_is_no_frame_are_told(self, frame: Any) -> None:
        with pytest.raises(TypeError, match="bytes"):
            LatestFrame().publish(frame)

    def test_of_nothing_are_told(self) -> None:
        with pytest.raises(ValueError, match="empty"):
            LatestFrame().publish(b"")

    def test_of_another_content_type_are_told(self) -> None:
        with pytest.raises(FieldError):
            LatestFrame("a\r\nb")
        with pytest.raises(FieldError):
            LatestFrame().publish(b"x", "a\r\nb")

    def test_are_told_when_it_is_closed(self) -> None:
        frames = LatestFrame()
        frames.close()
        assert not frames.publish(b"x")
        assert frames.latest is None

    def test_wait_for_somebody_to_look(self) -> None:
        frames = LatestFrame()
        assert not frames.wait_for_viewers(0.01)
        worked: list[int] = []
        looked = threading.Event()

        def produce() -> None:
            while frames.wait_for_viewers():
                frames.publish(b"%d" % len(worked))
                worked.append(1)
                looked.set()

        thread = threading.Thread(target=produce)
        thread.start()
        source = view(frames)
        assert looked.wait(PATIENCE)
        source.close()
        frames.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert not frames.wait_for_viewers()


class TestOtherThreads:
    def test_wait_for_the_next(self) -> None:
        frames = LatestFrame()
        frames.publish(b"old")
        with pytest.raises(TimeoutError):
            frames.wait(0.01)

        def produce() -> None:
            assert frames.wait_for_viewers(PATIENCE)
            frames.publish(b"new")

        thread = threading.Thread(target=produce)
        thread.start()
        assert frames.wait(PATIENCE) == b"new"
        thread.join(PATIENCE)
        assert len(frames) == 0
        frames.close()
        assert frames.wait() is None

    def test_iterate_over_the_newest(self) -> None:
        frames = LatestFrame()
        frames.publish(b"1")
        iterator = iter(frames)
        assert next(iterator) == b"1"
        assert len(frames) == 1
        frames.publish(b"2")
        frames.publish(b"3")
        assert next(iterator) == b"3"
        frames.publish(b"4")
        frames.close()
        assert list(iterator) == [b"4"]
        assert len(frames) == 0

    def test_stop_iterating_when_they_like(self) -> None:
        frames = LatestFrame()
        frames.publish(b"1")
        for frame in frames:
            assert frame == b"1"
            break
        assert len(frames) == 0
