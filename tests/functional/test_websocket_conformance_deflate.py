"""Conformance to RFC 7692 (Autobahn's groups 12 and 13): the agreement, and what comes of it."""

from __future__ import annotations

import json
import random
import tracemalloc
import zlib
from typing import TYPE_CHECKING

import pytest

from tests.rawclient import PATIENCE
from tests.wsclient import (
    BINARY,
    CLOSE,
    COMPRESSED,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    WSClient,
    fragments,
    frame,
    split,
)
from tests.wsconformance import AFTERWARDS, Delivery, Echo

if TYPE_CHECKING:
    from tests.conftest import Serve

EXTENSIONS = "Sec-WebSocket-Extensions: "
DEFLATE = "permessage-deflate"


def _text(size: int) -> bytes:
    """Text as programs send it, with a character of two bytes here and there."""
    chance = random.Random(size)
    rows = [
        {"id": number, "name": chance.choice(["Zoë", "Jürgen", "Ada"]), "value": chance.random()}
        for number in range(size // 40 + 1)
    ]
    return json.dumps(rows, ensure_ascii=False).encode()[:size].decode(errors="ignore").encode()


#: Groups 12.1 to 12.5: readable, repetitive, incompressible.
DATA = {
    "json": (TEXT, _text(140_000)),
    "zeros": (BINARY, bytes(140_000)),
    "random": (BINARY, random.Random(1).randbytes(140_000)),
    "mixed": (BINARY, b"".join([random.Random(2).randbytes(700), _text(3000)] * 38)),
}
SIZES = [0, 1, 16, 64, 255, 256, 257, 1024, 4096, 8192, 16384, 32768, 65536, 131072]

#: What clients offer, and what has to be in the answer or may not be.
OFFERS = [
    "",
    "client_max_window_bits",
    *[f"client_max_window_bits={bits}" for bits in range(8, 16)],
    *[f"server_max_window_bits={bits}" for bits in range(8, 16)],
    "client_no_context_takeover",
    "server_no_context_takeover",
    "client_no_context_takeover; server_no_context_takeover",
    "server_no_context_takeover; server_max_window_bits=9",
    "client_no_context_takeover; client_max_window_bits=9",
    "server_no_context_takeover; server_max_window_bits=15",
    "server_max_window_bits=10; client_max_window_bits=11",
    "server_no_context_takeover; server_max_window_bits=8; client_max_window_bits=8",
    'server_max_window_bits="9"; client_max_window_bits="9"',
]


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def address(echo: Echo, serve: Serve) -> tuple[str, int]:
    return serve(echo).address


def offer(*parameters: str) -> str:
    return EXTENSIONS + ", ".join(f"{DEFLATE}; {text}".rstrip("; ") for text in parameters)


def parameters_of(text: str) -> dict[str, str | None]:
    parts = [part.strip().partition("=") for part in text.split(";") if part.strip()]
    return {name: value.strip('"') or None for name, _, value in parts}


class TestNegotiation:
    @pytest.mark.parametrize("parameters", OFFERS)
    def test_the_answer_is_one_to_the_offer(
        self, address: tuple[str, int], parameters: str
    ) -> None:
        offered = parameters_of(parameters)
        with WSClient(address, "/", offer(parameters)) as client:
            assert client.deflate is not None
            agreed = client.deflate.agreed
            for name, value in agreed.items():
                if name.endswith("bits"):
                    assert value in [str(bits) for bits in range(8, 16)]
                else:
                    assert value is None
            # §7.1.1.1
            assert client.deflate.server_forgets or "server_no_context_takeover" not in offered
            # §7.1.2.1
            assert client.deflate.server_bits <= int(offered.get("server_max_window_bits") or 15)
            # §7.1.2.2
            assert client.deflate.client_bits <= int(offered.get("client_max_window_bits") or 15)
            assert "client_max_window_bits" in offered or "client_max_window_bits" not in agreed

    @pytest.mark.parametrize(
        "parameters",
        [
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=09",
            "server_max_window_bits=+9",
            "server_max_window_bits=9.0",
            "server_max_window_bits=many",
            "client_max_window_bits=0",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=015",
            "client_no_context_takeover=1",
            "server_no_context_takeover=true",
            "client_max_window_bits; client_max_window_bits=10",
            "server_no_context_takeover; server_no_context_takeover",
            "server_max_window_bits=10; server_max_window_bits=10",
            "unknown",
            "client_max_window_bits; x=y",
        ],
    )
    def test_an_offer_that_is_not_valid_is_declined(
        self, address: tuple[str, int], parameters: str
    ) -> None:
        """§7.1: and the next one is looked at (13.7)."""
        with WSClient(address, "/", offer(parameters)) as client:
            assert client.deflate is None
            assert client.echo("plain") == "plain"
        second = offer(parameters, "server_no_context_takeover", "server_max_window_bits=9")
        with WSClient(address, "/", second) as client:
            assert client.deflate is not None
            assert client.deflate.server_forgets
            assert client.echo("plain") == "plain"

    @pytest.mark.parametrize(
        "fields",
        [
            (EXTENSIONS + "x-webkit-deflate-frame, permessage-deflate",),
            (EXTENSIONS + "foo; bar=1", EXTENSIONS + "permessage-deflate"),
            (EXTENSIONS + "permessage-bzip2; level=9;a, permessage-deflate, foo",),
            ("SEC-WEBSOCKET-EXTENSIONS:permessage-deflate",),
        ],
    )
    def test_other_extensions_are_passed_over(
        self, address: tuple[str, int], fields: tuple[str, ...]
    ) -> None:
        with WSClient(address, "/", *fields) as client:
            assert client.deflate is not None

    def test_without_an_offer_there_is_none(self, address: tuple[str, int]) -> None:
        for fields in ((), (EXTENSIONS + "foo",)):
            with WSClient(address, "/", *fields) as client:
                assert "sec-websocket-extensions" not in client.answer.fields
                text = "a" * 5000
                assert client.echo(text) == text


class TestMessages:
    """12 and 13."""

    @pytest.mark.parametrize("parameters", OFFERS)
    @pytest.mark.parametrize("data", ["json", "mixed"])
    def test_of_each_size_under_each_agreement(
        self, address: tuple[str, int], parameters: str, data: str
    ) -> None:
        opcode, source = DATA[data]
        with WSClient(address, "/", offer(parameters)) as client:
            for size in [*SIZES, *reversed(SIZES)]:
                payload = (
                    source[:size].decode(errors="ignore").encode()
                    if data == "json"
                    else (source[-size:] if size else b"")
                )
                client.send_compressed(opcode, payload)
                assert client.read_message() == (opcode, payload)
            assert client.leave() == (1000, "")

    @pytest.mark.parametrize("data", DATA)
    @pytest.mark.parametrize("size", [1, 256, 1024, 4096, 32768])
    def test_in_fragments(self, address: tuple[str, int], data: str, size: int) -> None:
        opcode, source = DATA[data]
        source = source if size > 1 else _text(3000)
        with WSClient(address, "/", offer("client_max_window_bits")) as client:
            for _ in range(3):
                client.send_compressed(opcode, source, size)
                assert client.read_message() == (opcode, source)

    @pytest.mark.parametrize("bits", range(8, 16))
    @pytest.mark.parametrize("data", ["json", "mixed", "zeros"])
    def test_nothing_refers_back_beyond_the_window(
        self, address: tuple[str, int], bits: int, data: str
    ) -> None:
        opcode, source = DATA[data]
        with WSClient(address, "/", offer(f"server_max_window_bits={bits}")) as client:
            for payload in (source[:9000], source[9000:18_000], source[:9000]):
                payload = payload.decode(errors="ignore").encode()
                client.send(frame(opcode, payload))
                assert client.read_message(strictly=True) == (opcode, payload)

    @pytest.mark.parametrize("path", ["/", "/worker", "/session"])
    def test_many(self, address: tuple[str, int], path: str) -> None:
        texts = [_text(300 + number) for number in range(300)]
        with WSClient(address, path, offer("client_max_window_bits")) as client:
            for text in texts:
                client.send_compressed(TEXT, text)
                assert client.read_message() == (TEXT, text)
            assert client.leave() == (1000, "")

    @pytest.mark.parametrize("delivery", list(Delivery))
    def test_however_they_are_cut(self, address: tuple[str, int], delivery: Delivery) -> None:
        with WSClient(address, "/", offer("")) as client:
            deflate = client.deflate
            assert deflate is not None
            texts = [_text(size) for size in (0, 10, 500, 0, 500, 500)]
            sent = []
            for text in texts:
                pieces = split(deflate.compress(text), 50)
                sent += fragments(TEXT, pieces, rsv=COMPRESSED)
                sent.append(frame(TEXT, text))
            delivery.send(client, sent)
            for text in texts:
                assert client.read_message() == (TEXT, text)
                assert client.read_message() == (TEXT, text)

    def test_pings_between_fragments(self, address: tuple[str, int]) -> None:
        with WSClient(address, "/", offer("")) as client:
            assert client.deflate is not None
            text = _text(1000)
            sent = fragments(TEXT, split(client.deflate.compress(text), 30), rsv=COMPRESSED)
            for number, data in enumerate(sent[:-1]):
                client.send(data)
                client.ping(b"%d" % number)
            client.send(sent[-1])
            assert client.read_message() == (TEXT, text)

    def test_the_server_refers_back_to_earlier_messages_or_not(
        self, address: tuple[str, int]
    ) -> None:
        text = random.Random(3).randbytes(700).hex().encode()
        for parameters, again in (("", True), ("server_no_context_takeover", False)):
            with WSClient(address, "/", offer(parameters)) as client:
                client.send(frame(TEXT, text) * 2)
                first, second = client.read_frame(), client.read_frame()
                assert first.rsv == second.rsv == COMPRESSED
                assert (len(second.payload) < len(first.payload) // 4) is again
                assert client.deflate is not None
                assert client.deflate.decompress(first.payload) == text
                assert client.deflate.decompress(second.payload) == text

    def test_a_control_frame_is_never_compressed(self, address: tuple[str, int]) -> None:
        with WSClient(address, "/", offer("")) as client:
            client.send(frame(PING, b"a" * 125))
            assert client.read_frame() == Frame(PONG, b"a" * 125)


def blocks(payload: bytes, flush: int, *, wbits: int = -15) -> bytes:
    """The payload with a flush of that kind after each 100 bytes; how a message ends (§7.2.1)."""
    compressor = zlib.compressobj(wbits=wbits)
    data = b"".join(
        compressor.compress(piece) + compressor.flush(flush) for piece in split(payload, 100)
    )
    return (data + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


def final(payload: bytes) -> bytes:
    """The payload in a final block, and the byte that follows then (§7.2.3.4)."""
    return zlib.compressobj(wbits=-15).compress(b"") + zlib.compress(payload, wbits=-15) + b"\x00"


TEXT_1000 = _text(1000)
#: Ways to write the same message, RFC 7692 §7.2.3.
WRITTEN = {
    "hello of 7.2.3.1": (bytes.fromhex("f248cdc9c90700"), b"Hello"),
    "hello again of 7.2.3.2": (bytes.fromhex("f248cdc9c90700"), b"Hello"),
    "stored of 7.2.3.3": (bytes.fromhex("000500faff48656c6c6f00"), b"Hello"),
    "final of 7.2.3.4": (bytes.fromhex("f348cdc9c9070000"), b"Hello"),
    "two blocks of 7.2.3.5": (
        bytes.fromhex("f248050000 00ffffcac9c90700".replace(" ", "")),
        b"Hello",
    ),
    "empty of 7.2.3.6": (b"\x00", b""),
    "empty without that byte": (b"", b""),
    "sync flushes": (blocks(TEXT_1000, zlib.Z_SYNC_FLUSH), TEXT_1000),
    "full flushes": (blocks(TEXT_1000, zlib.Z_FULL_FLUSH), TEXT_1000),
    "partial flushes": (blocks(TEXT_1000, zlib.Z_PARTIAL_FLUSH), TEXT_1000),
    "small window": (blocks(TEXT_1000, zlib.Z_NO_FLUSH, wbits=-9), TEXT_1000),
    "a final block": (final(TEXT_1000), TEXT_1000),
}


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("size", [0, 1, 7])
@pytest.mark.parametrize("parameters", ["", "client_no_context_takeover"])
def test_any_way_to_write_a_message_is_read(
    address: tuple[str, int], name: str, size: int, parameters: str
) -> None:
    data, payload = WRITTEN[name]
    with WSClient(address, "/", offer(parameters)) as client:
        for _ in range(3):
            client.send(b"".join(fragments(TEXT, split(data, size), rsv=COMPRESSED)))
            assert client.read_message() == (TEXT, payload)
        assert client.echo("plain") == "plain"


def test_a_reference_into_the_message_before_is_read(address: tuple[str, int]) -> None:
    """§7.2.3.2: the example with the window taken over."""
    with WSClient(address, "/", offer("")) as client:
        for data in ("f248cdc9c90700", "f200110000"):
            client.send(frame(TEXT, bytes.fromhex(data), rsv=COMPRESSED))
            assert client.read_text() == "Hello"


GOOD = bytes.fromhex("f248cdc9c90700")
#: What breaks a rule when compression has been agreed on.
BROKEN = {
    "a ping with RSV1": ([frame(PING, GOOD, rsv=4)], 1002),
    "a close with RSV1": ([frame(CLOSE, GOOD, rsv=4)], 1002),
    "a continuation with RSV1": (
        [frame(TEXT, GOOD[:3], final=False, rsv=4), frame(CONTINUATION, GOOD[3:], rsv=4)],
        1002,
    ),
    "a plain message continued with RSV1": (
        [frame(TEXT, b"a", final=False), frame(CONTINUATION, GOOD, rsv=4)],
        1002,
    ),
    **{f"RSV {rsv}": ([frame(TEXT, GOOD, rsv=rsv)], 1002) for rsv in (1, 2, 3, 5, 6, 7)},
    "no deflate data": ([frame(TEXT, b"\xff" * 10, rsv=4)], 1007),
    "a block of no type": ([frame(BINARY, b"\x06", rsv=4)], 1007),
    "a stored block with a wrong length": (
        [frame(BINARY, b"\x00\x05\x00\x00\x00abcde", rsv=4)],
        1007,
    ),
    "a reference to before the beginning": (
        [frame(TEXT, bytes.fromhex("f200110000"), rsv=4)],
        1007,
    ),
    "cut off": ([frame(TEXT, GOOD[:3], rsv=4)], 1007),
    "text that is not UTF-8": ([frame(TEXT, final(b"abc\xff"), rsv=4)], 1007),
    "text that is cut": ([frame(TEXT, final("€".encode()[:2]), rsv=4)], 1007),
    "zlib's own head": ([frame(TEXT, zlib.compress(b"hello"), rsv=4)], 1007),
    "gzip": ([frame(TEXT, zlib.compress(b"hello", wbits=31), rsv=4)], 1007),
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("delivery", list(Delivery))
def test_what_is_broken_is_refused(
    address: tuple[str, int], echo: Echo, name: str, delivery: Delivery
) -> None:
    sent, code = BROKEN[name]
    with WSClient(address, "/", offer("client_no_context_takeover")) as client:
        delivery.send(client, [*sent, AFTERWARDS])
        assert client.read_close()[0] == code
        assert client.is_ended()
    assert echo.ends.get(timeout=PATIENCE)[0] == code
    assert (echo.opened, echo.ends.qsize()) == (1, 0)


def test_bad_text_is_found_in_the_first_fragment(address: tuple[str, int], echo: Echo) -> None:
    with WSClient(address, "/", offer("")) as client:
        data = blocks(b"abc\xff", zlib.Z_SYNC_FLUSH)
        client.send(frame(TEXT, data, final=False, rsv=COMPRESSED))
        assert client.read_close()[0] == 1007
        assert client.is_ended()


@pytest.mark.parametrize("size", [0, 1, 5])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_the_limit_is_one_of_what_is_inflated(
    address: tuple[str, int], echo: Echo, size: int, opcode: int
) -> None:
    with WSClient(address, "/small", offer("")) as client:
        client.send_compressed(opcode, b"x" * 1000, size)
        assert client.read_message() == (opcode, b"x" * 1000)
        client.send_compressed(opcode, b"x" * 1001, size)
        assert client.read_close()[0] == 1009
        assert client.is_ended()
    assert echo.ends.get(timeout=PATIENCE)[0] == 1009


def test_data_that_does_not_compress_is_allowed_up_to_the_limit(address: tuple[str, int]) -> None:
    """Compressed, it is larger than the limit."""
    payload = random.Random(4).randbytes(1000)
    with WSClient(address, "/small", offer("")) as client:
        assert client.deflate is not None
        data = client.deflate.compress(payload)
        assert len(data) > 1000
        client.send(frame(BINARY, data, rsv=COMPRESSED))
        assert client.read_message() == (BINARY, payload)


@pytest.mark.parametrize("fragment", [0, 100])
def test_a_bomb_is_not_inflated(address: tuple[str, int], fragment: int) -> None:
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(bytes(30_000_000)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    sent = b"".join(fragments(BINARY, split(data[:-4], fragment), rsv=COMPRESSED))
    assert len(sent) < 60_000
    with WSClient(address, "/small", offer("")) as client:
        tracemalloc.start()
        try:
            client.send(sent)
            assert client.read_close()[0] == 1009
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1_000_000
        assert client.is_ended()
