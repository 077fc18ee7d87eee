"""RFC 7692 §5 to §7: permessage-deflate, what is agreed on and what becomes of the messages."""

from __future__ import annotations

import itertools
import time
import tracemalloc
import zlib
from random import Random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server.errors import HandshakeError
from resource_server.protocol import deflate
from resource_server.protocol.deflate import Deflate, Parameters, answer_offer, check_answer
from resource_server.protocol.frames import Violation

if TYPE_CHECKING:
    from resource_server.protocol.deflate import ExtensionParameters

LIMIT = 1_000_000
BITS = range(8, 16)
NOT_BITS = ["", "0", "7", "16", "08", "012", "+9", "-9", " 9", "9 ", "9.0", "1e1", "0x9", "٩", "a"]
FLAGS = ["server_no_context_takeover", "client_no_context_takeover"]
WINDOWS = ["server_max_window_bits", "client_max_window_bits"]
COMBINATIONS = list(itertools.product([False, True], [False, True], BITS, BITS))


def agreed(
    server_forgets: bool = False,
    client_forgets: bool = False,
    server_bits: int = 15,
    client_bits: int = 15,
) -> Parameters:
    return Parameters(
        server_no_context_takeover=server_forgets,
        client_no_context_takeover=client_forgets,
        server_max_window_bits=server_bits,
        client_max_window_bits=client_bits,
    )


def pair(parameters: Parameters) -> tuple[Deflate, Deflate]:
    return Deflate(parameters, client=False), Deflate(parameters, client=True)


def read(reader: Deflate, *pieces: bytes, limit: int = LIMIT) -> bytes:
    """Return the message that consists of these pieces."""
    message = bytearray()
    for piece in pieces:
        message += reader.decompress(piece, limit - len(message))
    return bytes(message + reader.end_message(limit - len(message)))


def answer(*parameters: tuple[str, str | None], context_takeover: bool = True) -> str | None:
    """Return the text of the server's response to an offer; None when it is declined."""
    found = answer_offer(list(parameters), context_takeover=context_takeover)
    if found is None:
        return None
    assert str(found[0]) == found[1]
    return found[1]


def raw(payload: bytes, bits: int = 15, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    """Return the payload as another compressor might send it."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -bits)
    data = compressor.compress(payload) + compressor.flush(flush)
    return data.removesuffix(deflate.TAIL) if flush == zlib.Z_SYNC_FLUSH else data


class TestServer:
    """RFC 7692 §5.1, §7.1: how a server answers an offer."""

    def test_a_bare_offer_is_accepted_with_a_window_of_its_own_choice(self) -> None:
        """§7.1.2.1: server_max_window_bits may be told unasked."""
        assert answer() == "permessage-deflate; server_max_window_bits=12"

    def test_what_browsers_offer(self) -> None:
        assert answer(("client_max_window_bits", None)) == (
            "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12"
        )

    def test_server_no_context_takeover_is_accepted_by_including_it(self) -> None:
        """§7.1.1.1."""
        assert answer(("server_no_context_takeover", None)) == (
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=12"
        )

    def test_server_no_context_takeover_may_be_told_unasked(self) -> None:
        """§7.1.1.1: also when the offer has not got it."""
        assert answer(context_takeover=False) == (
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=12"
        )

    def test_client_no_context_takeover_is_agreed_to(self) -> None:
        """§7.1.1.2: the hint lets the server save the window."""
        assert answer(("client_no_context_takeover", None)) == (
            "permessage-deflate; client_no_context_takeover; server_max_window_bits=12"
        )

    @pytest.mark.parametrize("bits", BITS)
    def test_server_max_window_bits_is_answered_with_the_same_or_less(self, bits: int) -> None:
        """§7.1.2.1: the response includes it, no larger than it was offered."""
        expected = f"permessage-deflate; server_max_window_bits={min(bits, 12)}"
        assert answer(("server_max_window_bits", str(bits))) == expected

    @pytest.mark.parametrize("bits", BITS)
    def test_client_max_window_bits_is_answered_with_the_same_or_less(self, bits: int) -> None:
        """§7.1.2.2."""
        expected = "permessage-deflate; server_max_window_bits=12; client_max_window_bits="
        assert answer(("client_max_window_bits", str(bits))) == expected + str(min(bits, 12))

    def test_client_max_window_bits_is_told_only_if_offered(self) -> None:
        """§7.1.2.2: otherwise the client may use 15 bits, and is understood."""
        found = answer_offer([("server_max_window_bits", "9")])
        assert found is not None
        assert "client_max_window_bits" not in found[1]
        assert found[0].client_max_window_bits == 15
        text = bytes(range(256)) * 200
        assert read(Deflate(found[0], client=False), raw(text, 15)) == text

    def test_all_four_at_once_in_any_order(self) -> None:
        offer: list[tuple[str, str | None]] = [
            (FLAGS[0], None), (FLAGS[1], None), (WINDOWS[0], "10"), (WINDOWS[1], "9"),
        ]  # fmt: skip
        for parameters in itertools.permutations(offer):
            assert answer(*parameters) == (
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover;"
                " server_max_window_bits=10; client_max_window_bits=9"
            )

    @pytest.mark.parametrize("name", ["foo", "max_window_bits", "", "server_max_window_bits "])
    def test_an_unknown_parameter_declines_the_offer(self, name: str) -> None:
        """§7.1: a parameter not defined for use in an offer."""
        assert answer((name, None)) is None
        assert answer((name, "10")) is None
        assert answer((FLAGS[0], None), (name, None)) is None

    @pytest.mark.parametrize("name", FLAGS + WINDOWS)
    def test_a_parameter_that_comes_twice_declines_the_offer(self, name: str) -> None:
        """§7.1: multiple parameters with the same name, be they alike."""
        value = "10" if name in WINDOWS else None
        assert answer((name, value)) is not None
        assert answer((name, value), (name, value)) is None
        assert answer(("client_max_window_bits", None), ("client_max_window_bits", "10")) is None

    @pytest.mark.parametrize("name", WINDOWS)
    @pytest.mark.parametrize("value", NOT_BITS)
    def test_bits_that_are_none_decline_the_offer(self, name: str, value: str) -> None:
        """§7.1.2: a decimal integer from 8 to 15 without leading zeros."""
        assert answer((name, value)) is None

    def test_server_max_window_bits_needs_a_value(self) -> None:
        """§7.1.2.1."""
        assert answer(("server_max_window_bits", None)) is None

    @pytest.mark.parametrize("name", FLAGS)
    @pytest.mark.parametrize("value", ["", "true", "1", "10"])
    def test_a_flag_with_a_value_declines_the_offer(self, name: str, value: str) -> None:
        """§7.1.1.1, §7.1.1.2: the parameters have no value."""
        assert answer((name, value)) is None


class TestClient:
    """RFC 7692 §5.1, §7.1: which answers a client fails the connection for."""

    def test_its_offer_is_that_of_browsers(self) -> None:
        """§5.1, §7.1.2.2: the parameter without value says that a limit would be respected."""
        assert deflate.OFFER == "permessage-deflate; client_max_window_bits"

    def test_an_answer_without_parameters(self) -> None:
        """§7.1: windows of 15 bits, and contexts taken over."""
        assert str(check_answer([])) == "permessage-deflate"

    @pytest.mark.parametrize(("server", "client", "server_bits", "client_bits"), COMBINATIONS)
    def test_every_legal_answer_is_understood(
        self, server: bool, client: bool, server_bits: int, client_bits: int
    ) -> None:
        """§7.1.1, §7.1.2: the server may ask for any of the four, asked or not."""
        told: list[tuple[str, str | None]] = [
            (WINDOWS[0], str(server_bits)), (WINDOWS[1], str(client_bits)),
        ]  # fmt: skip
        told += [(name, None) for name, there in zip(FLAGS, [server, client], strict=True) if there]
        result = check_answer(told)
        assert result.server_no_context_takeover is server
        assert result.client_no_context_takeover is client
        assert result.server_max_window_bits == server_bits
        assert result.client_max_window_bits == client_bits

    @pytest.mark.parametrize(
        ("parameters", "told"),
        [
            ([("foo", None)], "'foo' is unknown"),
            ([("server_max_window_bits", None)], "server_max_window_bits has no value"),
            ([("client_max_window_bits", None)], "client_max_window_bits has no value"),
            ([("server_no_context_takeover", "1")], "takes no value, got '1'"),
            ([("client_no_context_takeover", "")], "takes no value"),
            ([("server_no_context_takeover", None)] * 2, "comes twice"),
            ([("client_no_context_takeover", None)] * 2, "comes twice"),
            ([("server_max_window_bits", "9")] * 2, "comes twice"),
            ([("client_max_window_bits", "9"), ("client_max_window_bits", "8")], "comes twice"),
        ],
    )
    def test_an_illegal_answer_is_refused(self, parameters: ExtensionParameters, told: str) -> None:
        """§7.1: unknown, invalid and repeated parameters; §7.1.2: both windows with values."""
        with pytest.raises(HandshakeError, match=told):
            check_answer(parameters)

    @pytest.mark.parametrize("name", WINDOWS)
    @pytest.mark.parametrize("value", NOT_BITS)
    def test_bits_that_are_none_are_refused(self, name: str, value: str) -> None:
        """§7.1.2."""
        with pytest.raises(HandshakeError, match="a number from 8 to 15"):
            check_answer([(name, value)])

    def test_client_max_window_bits_only_if_offered(self) -> None:
        """§7.1.2.2: a server must not tell it to a client that has not offered it."""
        with pytest.raises(HandshakeError, match="was not offered"):
            check_answer([("client_max_window_bits", "15")], [])

    @pytest.mark.parametrize("name", WINDOWS)
    def test_no_window_may_be_larger_than_offered(self, name: str) -> None:
        """§7.1.2.1, §7.1.2.2: the same or smaller."""
        assert getattr(check_answer([(name, "10")], [(name, "10")]), name) == 10
        assert getattr(check_answer([(name, "9")], [(name, "10")]), name) == 9
        with pytest.raises(HandshakeError, match="is 11, 10 at most was offered"):
            check_answer([(name, "11")], [(name, "10")])

    def test_what_was_asked_of_the_server_must_be_accepted(self) -> None:
        """§7.1.1.1, §7.1.2.1: the server accepts these by including them."""
        with pytest.raises(HandshakeError, match="server_max_window_bits=10 was offered"):
            check_answer([], [("server_max_window_bits", "10")])
        with pytest.raises(HandshakeError, match="without server_no_context_takeover"):
            check_answer([], [("server_no_context_takeover", None)])
        flag = [("server_no_context_takeover", None)]
        assert check_answer(flag, flag).server_no_context_takeover

    def test_what_was_a_hint_need_not_be_accepted(self) -> None:
        """§7.1.1.2, §7.1.2.2."""
        result = check_answer(
            [], [("client_no_context_takeover", None), ("client_max_window_bits", "10")]
        )
        assert str(result) == "permessage-deflate"

    @given(
        st.lists(
            st.tuples(
                st.sampled_from([*FLAGS, *WINDOWS, "foo"]),
                st.none() | st.sampled_from([str(bits) for bits in range(7, 17)]),
            )
        ),
        st.booleans(),
    )
    def test_what_the_server_answers_any_client_accepts(
        self, offer: list[tuple[str, str | None]], context_takeover: bool
    ) -> None:
        """§7.1: an answer is legal for the very offer it was given to."""
        text = answer(*offer, context_takeover=context_takeover)
        if text is not None:
            told: list[tuple[str, str | None]] = []
            for part in text.split("; ")[1:]:
                name, _, value = part.partition("=")
                told.append((name, value or None))
            assert str(check_answer(told, offer)) == text


class TestExamples:
    """RFC 7692 §7.2.3."""

    HELLO = bytes.fromhex("f248cdc9c90700")

    def test_7_2_3_1_a_message_in_one_frame(self) -> None:
        server, client = pair(agreed())
        assert server.compress(b"Hello") == self.HELLO
        assert read(client, self.HELLO) == b"Hello"

    def test_7_2_3_1_a_message_in_fragments(self) -> None:
        """Also §6.1: fragments are cut from the compressed message, wherever."""
        for cut in range(len(self.HELLO) + 1):
            client = Deflate(agreed(), client=True)
            assert read(client, self.HELLO[:cut], self.HELLO[cut:]) == b"Hello"

    def test_7_2_3_2_sharing_the_window(self) -> None:
        client = Deflate(agreed(), client=True)
        assert read(client, self.HELLO) == b"Hello"
        assert read(client, bytes.fromhex("f200110000")) == b"Hello"

    def test_7_2_3_2_a_window_that_is_not_shared(self) -> None:
        """§7.1.1.1: the receiver has dropped it, too."""
        client = Deflate(agreed(server_forgets=True), client=True)
        assert read(client, self.HELLO) == b"Hello"
        with pytest.raises(Violation):
            read(client, bytes.fromhex("f200110000"))

    def test_7_2_3_3_a_block_without_compression(self) -> None:
        client = Deflate(agreed(), client=True)
        assert read(client, bytes.fromhex("000500faff48656c6c6f00")) == b"Hello"

    def test_7_2_3_4_a_final_block(self) -> None:
        client = Deflate(agreed(), client=True)
        for _ in range(3):
            assert read(client, bytes.fromhex("f348cdc9c9070000")) == b"Hello"
        assert read(client, self.HELLO) == b"Hello"

    def test_7_2_3_5_two_blocks(self) -> None:
        client = Deflate(agreed(), client=True)
        assert read(client, bytes.fromhex("f248050000 00ffff cac9c90700")) == b"Hello"

    def test_7_2_3_6_an_empty_message(self) -> None:
        for forgets in (False, True):
            server, client = pair(agreed(forgets))
            for text in (b"", b"", b"Hello", b"", b"Hello", b""):
                data = server.compress(text)
                assert text or data == b"\x00"
                assert read(client, data) == text
            assert server.compress_alone(b"") == b"\x00"


class TestCompressing:
    """RFC 7692 §7.2.1."""

    def test_the_tail_is_left_out(self) -> None:
        server = Deflate(agreed(), client=False)
        for text in (b"Hello", b"x" * 100_000, bytes(range(256)) * 100):
            for data in (server.compress(text), server.compress_alone(text)):
                assert data.endswith(b"\x00")
                assert not data.endswith(deflate.TAIL)

    def test_what_is_incompressible_survives(self) -> None:
        """A block without compression ends with the octets of the tail."""
        server, client = pair(agreed())
        for text in (deflate.TAIL, deflate.TAIL * 3, b"\x00", b"\xff" * 4):
            assert read(client, server.compress(text)) == text

    def test_the_context_is_taken_over(self) -> None:
        """§7.1.1: unless agreed otherwise, a message may refer to those before it."""
        text = bytes(range(256))
        server = Deflate(agreed(), client=False)
        assert len(server.compress(text)) > 200
        assert len(server.compress(text)) < 20

    @pytest.mark.parametrize("client", [False, True])
    def test_the_context_is_not_taken_over_when_that_is_agreed(self, client: bool) -> None:
        """§7.1.1.1, §7.1.1.2: for the side that it names, and only for that one."""
        text = bytes(range(256))
        for parameters, alike in ((agreed(True, False), not client), (agreed(False, True), client)):
            writer = Deflate(parameters, client=client)
            assert (writer.compress(text) == writer.compress(text)) is alike

    @pytest.mark.parametrize("bits", BITS)
    @pytest.mark.parametrize("client", [False, True])
    def test_the_window_is_no_larger_than_agreed(self, bits: int, client: bool) -> None:
        """§7.1.2.1, §7.1.2.2: what lies further back than the window is not referred to."""
        parameters = agreed(client_bits=bits) if client else agreed(server_bits=bits)
        other = agreed(server_bits=bits) if client else agreed(client_bits=bits)
        data = Deflate(parameters, client=client).compress(DISTANT)
        assert narrow_read(data, bits) == DISTANT
        if bits < 12:  # and the limit of the other direction is none for this one
            wide = Deflate(other, client=client).compress(DISTANT)
            with pytest.raises(zlib.error):
                narrow_read(wide, bits)

    @given(st.lists(st.sampled_from([b"a", b"bc", b"def", bytes(130), bytes(range(250))])))
    def test_a_window_of_8_bits_is_respected(self, parts: list[bytes]) -> None:
        """§7.1.2: zlib itself has no raw stream of 8 bits."""
        text = b"".join(parts)
        server = Deflate(agreed(server_bits=8), client=False)
        first, second = server.compress(text), server.compress(text)
        assert narrow_read(first + deflate.TAIL + second, 8) == text * 2

    def test_alone_a_message_refers_to_nothing(self) -> None:
        server = Deflate(agreed(), client=False)
        text = bytes(range(256))
        first = server.compress_alone(text)
        server.compress(text)
        assert (
            server.compress_alone(text) == first == Deflate(agreed(), client=False).compress(text)
        )

    def test_the_setting_tells_whose_message_can_be_shared(self) -> None:
        """One direction's window is all that it depends on, whatever the context."""
        text = bytes(range(256)) * 30
        made: dict[object, set[bytes]] = {}
        for server, client, server_bits, client_bits in COMBINATIONS:
            writer = Deflate(agreed(server, client, server_bits, client_bits), client=False)
            made.setdefault(writer.setting, set()).add(writer.compress_alone(text))
        assert len(made) == 4  # 9 (for 8, too), 10, 11 and 12 bits
        assert all(len(results) == 1 for results in made.values())

    def test_after_a_shared_message_the_window_is_forgotten(self) -> None:
        """§7.2.2: the receiver's window has moved on, the compressor's has not."""
        server, client = pair(agreed())
        shared = Deflate(agreed(), client=False).compress_alone(b"shared " * 10)
        for text in (b"Hello, Hello", b"shared Hello", b"Hello"):
            assert read(client, server.compress(text)) == text
            assert read(client, shared) == b"shared " * 10
            server.forget()
        assert read(client, server.compress(b"Hello")) == b"Hello"


# Repeats itself at distances from 4 to 8000 bytes, each time with something new in between.
DISTANT = b"".join(
    b"%d:%s;" % (number * number * 7919, b"begin" + bytes([65 + number % 40]) * (number % 7))
    for number in range(900)
) * 2  # fmt: skip


def narrow_read(data: bytes, bits: int) -> bytes:
    """Decompress with no more of what came before than the window holds.

    zlib reads from its output, too, as far back as it goes: so that is taken byte by byte.
    """
    reader = zlib.decompressobj(-bits)
    rest, output = data + deflate.TAIL, bytearray()
    while rest:
        output += reader.decompress(rest, 1)
        rest = reader.unconsumed_tail
    while more := reader.decompress(b"", 1):
        output += more
    return bytes(output)


class TestDecompressing:
    """RFC 7692 §7.2.2."""

    @pytest.mark.parametrize("bits", [9, 10, 11, 12, 13, 14, 15])
    @pytest.mark.parametrize("client", [False, True])
    def test_a_compressor_that_uses_the_whole_window_is_understood(
        self, bits: int, client: bool
    ) -> None:
        """§7.1.2.1, §7.1.2.2."""
        parameters = agreed(server_bits=bits) if client else agreed(client_bits=bits)
        reader = Deflate(parameters, client=client)
        data = raw(DISTANT, bits)
        assert read(reader, *[data[at : at + 1] for at in range(len(data))]) == DISTANT
        assert read(reader, data) == DISTANT

    def test_8_bits_are_read_as_zlib_writes_them(self) -> None:
        """§7.1.2: a zlib that is asked for 8 bits takes 9."""
        reader = Deflate(agreed(client_bits=8), client=False)
        data = raw(DISTANT, 9)
        assert read(reader, *[data[at : at + 1] for at in range(len(data))]) == DISTANT

    @pytest.mark.parametrize("level", range(10))
    @pytest.mark.parametrize(
        "strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY]
    )
    @pytest.mark.parametrize("size", [0, 1, 100, 70_000])
    def test_every_kind_of_block_is_read(self, level: int, strategy: int, size: int) -> None:
        """§7.2.1: the sender may use any blocks, and several of them."""
        text = (b"the quick brown fox %d " * (size // 20 + 1))[:size]
        compressor = zlib.compressobj(level, zlib.DEFLATED, -15, 8, strategy)
        reader = Deflate(agreed(), client=False)
        for flush in (zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH, zlib.Z_SYNC_FLUSH):
            data = compressor.compress(text + b".") + compressor.flush(flush)
            assert read(reader, data.removesuffix(deflate.TAIL)) == text + b"."

    def test_a_tail_that_was_sent_all_the_same_does_no_harm(self) -> None:
        """§7.2.1: blocks may follow one another; the empty one is such a block."""
        reader = Deflate(agreed(), client=False)
        for _ in range(2):
            assert read(reader, raw(b"Hello") + deflate.TAIL + b"\x00") == b"Hello"

    @pytest.mark.parametrize("ends", [b"", b"\x00"])
    def test_final_blocks_anywhere_in_a_message(self, ends: bytes) -> None:
        """§7.2.1, §7.2.3.4: what follows begins at the next byte; the last may be the end."""
        stream = raw(b"abc" * 50, flush=zlib.Z_FINISH)
        data = stream * 3 + raw(b"middle") + deflate.TAIL + stream * 2 + ends
        expected = b"abc" * 150 + b"middle" + b"abc" * 100
        for size in (1, 2, 7, 64, len(data)):
            reader = Deflate(agreed(), client=False)
            pieces = [data[at : at + size] for at in range(0, len(data), size)]
            assert read(reader, *pieces) == expected
            assert read(reader, raw(b"Hello")) == b"Hello"

    def test_long_streams_between_final_blocks(self) -> None:
        """§7.2.3.4."""
        text = bytes(range(256)) * 100
        stream = raw(text, flush=zlib.Z_FINISH)
        assert len(stream) > 3 * deflate.FIRST_STEP
        assert read(Deflate(agreed(), client=False), stream * 3 + raw(text)) == text * 4

    def test_a_message_of_nothing_but_final_blocks_takes_linear_time(self) -> None:
        begin = time.process_time()
        assert read(Deflate(agreed(), client=False), b"\x03\x00" * 200_000) == b""
        assert time.process_time() - begin < 5  # 0.3 s; 40 GB would be copied in quadratic time

    def test_a_compressed_message_of_no_octets_is_empty(self) -> None:
        """§7.2.3.6: not what a sender should send, but it can mean nothing else."""
        reader = Deflate(agreed(), client=False)
        for pieces in ([], [b""], [raw(b"Hello")], [b"", b""], [raw(b"Hello")]):
            assert read(reader, *pieces) == (b"Hello" if any(pieces) else b"")

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_a_piece_is_any_bytes(self, kind: type) -> None:
        data = raw(b"Hello", flush=zlib.Z_FINISH) + raw(b"Hello")
        assert read(Deflate(agreed(), client=False), kind(data)) == b"HelloHello"

    @pytest.mark.parametrize(
        "data",
        [
            b"\x07",  # a block of the reserved type
            b"\x00\x05\x00\x00\x00Hello",  # a length and a complement that differ
            b"\xf2\x00\x11\x00\x00",  # a reference to what never was
            b"\xf3\x48\xcd\xc9\xc9\x07\x00\x07",  # rubbish behind a final block
        ],
    )
    def test_what_is_not_deflate_data_is_a_violation(self, data: bytes) -> None:
        """RFC 6455 §7.4.1: 1007, data that is not consistent with the type of the message."""
        with pytest.raises(Violation) as caught:
            read(Deflate(agreed(), client=False), data)
        assert caught.value.code == 1007

    @pytest.mark.parametrize(
        "data",
        [
            b"\xf2\x48",  # cut within codes
            b"\xf2",
            b"\x05",
            b"\x00\x05\x00\xfa\xff",  # cut within a block without compression
            b"\x00\x0a\x00\xf5\xffHello",
            b"\x01\x05\x00\xfa\xffH",  # the tail makes up for what is missing of a final block
            b"\x03",
            b"\xf2\x48\xcd\xc9\xc9\x07\x00\x00",  # half a header
        ],
    )
    def test_a_message_that_is_cut_off_is_a_violation(self, data: bytes) -> None:
        """§7.2.2: with the tail it must be whole blocks."""
        with pytest.raises(Violation) as caught:
            read(Deflate(agreed(), client=False), data)
        assert caught.value.code == 1007

    @given(st.binary(max_size=300), st.integers(0, 400))
    def test_rubbish_gives_bytes_or_a_violation(self, data: bytes, limit: int) -> None:
        reader = Deflate(agreed(), client=False)
        violation = None
        try:
            assert len(read(reader, data, limit=limit)) <= limit
        except Violation as caught:
            violation = caught
        assert violation is None or violation.code in (1007, 1009)
        assert violation is None or len(violation.reason.encode("ascii")) <= 123


class TestLimit:
    """RFC 6455 §10.4, §7.4.1: a message may be as large as the limit and no larger."""

    @pytest.mark.parametrize("size", [1, 100, 5000])
    @pytest.mark.parametrize("step", [1, 3, 10_000])
    @pytest.mark.parametrize("flush", [zlib.Z_SYNC_FLUSH, zlib.Z_FINISH])
    def test_it_is_exact(self, size: int, step: int, flush: int) -> None:
        data = raw(b"a" * size, flush=flush)
        pieces = [data[at : at + step] for at in range(0, len(data), step)]
        assert len(read(Deflate(agreed(), client=False), *pieces, limit=size)) == size
        with pytest.raises(Violation) as caught:
            read(Deflate(agreed(), client=False), *pieces, limit=size - 1)
        assert caught.value.code == 1009

    def test_nothing_fits_into_nothing(self) -> None:
        assert read(Deflate(agreed(), client=False), b"\x00", limit=0) == b""

    @pytest.mark.parametrize("begin", ["", "final block", "final block and more"])
    def test_a_bomb_is_not_inflated_whole(self, begin: str) -> None:
        """A thousandfold one, 100 MB; also behind a final block, at once and much later."""
        before = raw(b"abc", flush=zlib.Z_FINISH) if begin else b""
        if begin.endswith("more"):
            before += raw(Random(1).randbytes(60_000)) + deflate.TAIL
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = b"".join([compressor.compress(bytes(1_000_000)) for _ in range(100)])
        bomb += compressor.flush(zlib.Z_SYNC_FLUSH)
        assert len(bomb) < 110_000
        reader = Deflate(agreed(), client=False)
        tracemalloc.start()
        try:
            with pytest.raises(Violation) as caught:
                reader.decompress(before + bomb, 100_000)
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()
        assert caught.value.code == 1009

    def test_final_blocks_do_not_add_up_past_it(self) -> None:
        stream = raw(b"a" * 60, flush=zlib.Z_FINISH)
        reader = Deflate(agreed(), client=False)
        assert read(reader, stream * 5, limit=300) == b"a" * 300
        with pytest.raises(Violation) as caught:
            read(reader, stream * 5, limit=299)
        assert caught.value.code == 1009


class TestConversation:
    """RFC 7692 §6, §7.2: what one side compresses the other one reads."""

    @pytest.mark.parametrize(("server", "client", "server_bits", "client_bits"), COMBINATIONS)
    def test_with_all_parameters(
        self, server: bool, client: bool, server_bits: int, client_bits: int
    ) -> None:
        """§7.1: each combination of the four, in both directions."""
        sides = pair(agreed(server, client, server_bits, client_bits))
        for text in (b"Hello", DISTANT, b"", b"Hello" * 100, DISTANT[::-1], b"Hello"):
            for writer, reader in (sides, sides[::-1]):
                data = writer.compress(text)
                assert read(reader, data[:7], data[7:]) == text

    @given(
        st.sampled_from(COMBINATIONS),
        st.lists(
            st.tuples(
                st.booleans(),
                st.booleans(),
                st.binary(max_size=600) | st.text(max_size=200).map(str.encode),
                st.integers(1, 3),
                st.lists(st.integers(0, 700), max_size=4).map(sorted),
            ),
            max_size=12,
        ),
    )
    def test_any_arrives_unchanged(
        self,
        combination: tuple[bool, bool, int, int],
        messages: list[tuple[bool, bool, bytes, int, list[int]]],
    ) -> None:
        """§6.1, §6.2: messages both ways, shared ones among them, cut into fragments anywhere."""
        sides = pair(agreed(*combination))
        for from_client, alone, text, times, cuts in messages:
            writer, reader = sides[::-1] if from_client else sides
            for _ in range(times):
                if alone:
                    data = writer.compress_alone(text)
                    writer.forget()
                else:
                    data = writer.compress(text)
                edges = [0, *cuts, len(data) + 700]
                pieces = [data[at:end] for at, end in itertools.pairwise(edges)]
                assert read(reader, *pieces, limit=len(text)) == text


def test_nothing_is_made_before_it_is_needed() -> None:
    tracemalloc.start()
    try:
        idle = [Deflate(agreed(), client=False) for _ in range(100)]
        assert tracemalloc.get_traced_memory()[0] < 100 * 200
        assert len(idle) == 100
    finally:
        tracemalloc.stop()
