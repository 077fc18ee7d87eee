"""Conformance to RFC 6455 §5.5.1 and §7 (Autobahn's group 7): Close frames, codes and reasons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.rawclient import PATIENCE
from tests.wsclient import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    Frame,
    WSClient,
    close_frame,
    fragments,
    frame,
)
from tests.wsconformance import AFTERWARDS, Delivery, Echo

if TYPE_CHECKING:
    from tests.conftest import Serve

#: RFC 6455 §7.4.1 and what IANA has registered since; §7.4.2 for libraries and applications.
VALID = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000]
VALID.append(4999)
#: Reserved, not registered, never on the wire, or in no range.
INVALID = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 9999, 32768, 65535]
#: Paths of the echo in each of its styles.
STYLES = ["/", "/learned", "/worker", "/session"]


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def address(echo: Echo, serve: Serve) -> tuple[str, int]:
    return serve(echo).address


def play(
    address: tuple[str, int],
    echo: Echo,
    delivery: Delivery,
    path: str,
    payload: bytes,
    answered: int | None,
    told: tuple[int, str],
) -> None:
    """Send a Close frame: how it is answered, and what the handler is told."""
    with WSClient(address, path) as client:
        delivery.send(client, [frame(CLOSE, payload), AFTERWARDS])
        assert client.read_close()[0] == answered
        assert client.is_ended()
    end = echo.ends.get(timeout=PATIENCE)
    # The reason of a broken rule is the server's own.
    assert (end[0], told[1] and end[1]) == told
    assert (echo.opened, echo.ends.qsize()) == (1, 0)


@pytest.mark.parametrize("path", STYLES)
@pytest.mark.parametrize("delivery", list(Delivery))
@pytest.mark.parametrize("code", VALID)
def test_a_valid_code_is_echoed(
    address: tuple[str, int], echo: Echo, delivery: Delivery, path: str, code: int
) -> None:
    """7.7."""
    play(address, echo, delivery, path, code.to_bytes(2, "big"), code, (code, ""))


@pytest.mark.parametrize("path", STYLES)
@pytest.mark.parametrize("delivery", list(Delivery))
@pytest.mark.parametrize("code", INVALID)
@pytest.mark.parametrize("reason", [b"", b"a reason"])
def test_an_invalid_code_is_a_protocol_error(
    address: tuple[str, int], echo: Echo, delivery: Delivery, path: str, code: int, reason: bytes
) -> None:
    """7.9 and 7.13."""
    play(address, echo, delivery, path, code.to_bytes(2, "big") + reason, 1002, (1002, ""))


@pytest.mark.parametrize("path", STYLES)
@pytest.mark.parametrize("delivery", list(Delivery))
class TestPayloads:
    def test_none(
        self, address: tuple[str, int], echo: Echo, delivery: Delivery, path: str
    ) -> None:
        """7.3.1."""
        play(address, echo, delivery, path, b"", None, (1005, ""))

    def test_one_byte(
        self, address: tuple[str, int], echo: Echo, delivery: Delivery, path: str
    ) -> None:
        """7.3.2."""
        play(address, echo, delivery, path, b"\x03", 1002, (1002, ""))

    @pytest.mark.parametrize(
        "reason", ["Hello World!", "x" * 123, "ß" * 61, "κόσμε 😀", "€" * 41], ids=len
    )
    def test_a_reason(
        self, address: tuple[str, int], echo: Echo, delivery: Delivery, path: str, reason: str
    ) -> None:
        """7.3.4 and 7.3.5."""
        play(address, echo, delivery, path, b"\x03\xe8" + reason.encode(), 1000, (1000, reason))

    def test_a_reason_that_is_too_long(
        self, address: tuple[str, int], echo: Echo, delivery: Delivery, path: str
    ) -> None:
        """7.3.6."""
        play(address, echo, delivery, path, b"\x03\xe8" + b"*" * 124, 1002, (1002, ""))

    @pytest.mark.parametrize(
        "reason",
        [
            b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
            b"\xff",
            b"cut: \xe2\x82",
            b"\xc0\x80",
        ],
        ids=["surrogate", "impossible", "cut", "overlong"],
    )
    def test_a_reason_that_is_not_utf_8(
        self, address: tuple[str, int], echo: Echo, delivery: Delivery, path: str, reason: bytes
    ) -> None:
        """7.5.1."""
        play(address, echo, delivery, path, b"\x03\xe8" + reason, 1007, (1007, ""))


@pytest.mark.parametrize("path", STYLES)
@pytest.mark.parametrize("delivery", list(Delivery))
class TestOrder:
    def test_a_message_and_a_close(
        self, address: tuple[str, int], echo: Echo, delivery: Delivery, path: str
    ) -> None:
        """7.1.1: the message is still answered."""
        with WSClient(address, path) as client:
            delivery.send(client, [frame(TEXT, b"Hello World!"), close_frame()])
            assert client.read_text() == "Hello World!"
            assert client.read_close() == (1000, "")
            assert client.is_ended()

    def test_a_large_message_and_a_close(
        self, address: tuple[str, int], echo: Echo, delivery: Delivery, path: str
    ) -> None:
        """7.1.6: here it is answered in whole."""
        payload = b"BAsd7&jh23" * 26215
        with WSClient(address, path) as client:
            delivery.send(client, [frame(TEXT, payload), close_frame(), frame(PING)])
            assert client.read_text().encode() == payload
            assert client.read_close() == (1000, "")
            assert client.is_ended()

    def test_many_messages_and_a_close(
        self, address: tuple[str, int], echo: Echo, delivery: Delivery, path: str
    ) -> None:
        with WSClient(address, path) as client:
            sent = [frame(TEXT, b"%d" % number) for number in range(200)]
            delivery.send(client, [*sent, close_frame(1001, "that is all")])
            assert [client.read_text() for _ in sent] == [str(number) for number in range(200)]
            assert client.read_close()[0] == 1001
            assert client.is_ended()
        assert echo.ends.get(timeout=PATIENCE) == (1001, "that is all")

    @pytest.mark.parametrize(
        "behind",
        [
            [close_frame()],
            [close_frame(1001), close_frame(1002)],
            [frame(PING)],
            [frame(TEXT, b"Hello World!")],
            fragments(BINARY, [b"a", b"b"]),
            [frame(3)],
            [b"\x00" * 100],
            [frame(TEXT, b"x" * 300_000)],
        ],
        ids=["close", "closes", "ping", "text", "fragments", "bad opcode", "zeros", "large"],
    )
    def test_what_comes_behind_a_close_is_not_looked_at(
        self,
        address: tuple[str, int],
        echo: Echo,
        delivery: Delivery,
        path: str,
        behind: list[bytes],
    ) -> None:
        """7.1.2 to 7.1.4."""
        with WSClient(address, path) as client:
            delivery.send(client, [close_frame(1000, "bye"), *behind])
            assert client.read_close()[0] == 1000
            assert client.is_ended()
        assert echo.ends.get(timeout=PATIENCE) == (1000, "bye")
        assert echo.ends.empty()

    def test_a_close_within_a_message(
        self, address: tuple[str, int], echo: Echo, delivery: Delivery, path: str
    ) -> None:
        """7.1.5: half a message is no message."""
        first, second = fragments(TEXT, [b"fragment1", b"fragment2"])
        with WSClient(address, path) as client:
            delivery.send(client, [first, close_frame(), second])
            assert client.read_close() == (1000, "")
            assert client.is_ended()

    def test_a_close_within_a_message_that_would_be_bad(
        self, address: tuple[str, int], echo: Echo, delivery: Delivery, path: str
    ) -> None:
        with WSClient(address, path) as client:
            delivery.send(client, [frame(TEXT, b"\xe2\x82", final=False), close_frame(4000)])
            assert client.read_close() == (4000, "")
            assert client.is_ended()


@pytest.mark.parametrize("path", STYLES)
def test_the_answer_is_read_although_the_client_goes_on_sending(
    address: tuple[str, int], echo: Echo, path: str
) -> None:
    """RFC 6455 §7.1.1: the connection is ended so that what was sent last arrives."""
    for last, code in ((close_frame(1000), 1000), (frame(3), 1002), (frame(TEXT, b"\xff"), 1007)):
        with WSClient(address, path) as client:
            client.send(last)
            for _ in range(20):
                client.send(frame(BINARY, bytes(65_000)))
            assert client.read_close()[0] == code
            assert client.is_ended()


def test_a_close_frame_without_the_end_of_the_connection_is_enough(
    address: tuple[str, int], echo: Echo
) -> None:
    """§7.1.1: the server ends it first; the client may leave its side open."""
    with WSClient(address) as client:
        client.send_close(1000)
        assert client.read_frame() == Frame(CLOSE, b"\x03\xe8")
        assert client.is_ended()
        # Nothing that comes now does any harm.
        client.send_text("still here?")
        assert echo.ends.get(timeout=PATIENCE) == (1000, "")
