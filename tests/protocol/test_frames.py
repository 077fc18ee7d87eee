"""RFC 6455 §5.2, §5.3: the parts of a frame."""

from __future__ import annotations

import copy
import pickle

import pytest

from resource_server.protocol.frames import Violation, apply_mask, encode_frame, read_length
from tests.protocol.websocket_feeding import BINARY, KEY, PING, TEXT, frame

#: what is masked in one way, in the other, and in between; with every remainder
SIZES = [*range(140), *range(1020, 1030), *range(4090, 4103), 65535, 65536, 65537, 200_003]


def content(size: int) -> bytes:
    return (bytes(range(256)) * (size // 256 + 1))[:size]


@pytest.mark.parametrize(
    "key", [KEY, b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x00\x01\x02\xfe"]
)
def test_each_byte_is_combined_with_one_of_the_key(key: bytes) -> None:
    for size in SIZES:
        data = content(size)
        masked = bytes(byte ^ key[at % 4] for at, byte in enumerate(data))
        assert apply_mask(data, key) == masked, size
        assert apply_mask(masked, key) == data, size


@pytest.mark.parametrize("size", [0, 5, 5000])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_whatever_has_bytes_is_masked(
    size: int, kind: type[bytes | bytearray | memoryview]
) -> None:
    data = content(size)
    masked = apply_mask(kind(data), KEY)
    assert masked == apply_mask(data, KEY)
    # Nobody else's: whoever has asked may keep it and change it.
    assert type(masked) is (bytes if size < 4096 else bytearray)
    assert bytes(kind(data)) == data


def test_a_payload_is_masked_in_parts_by_turning_the_key() -> None:
    data = content(9001)
    for cut in (0, 1, 2, 3, 4, 5, 4095, 4999, 9001):
        turned = KEY[cut % 4 :] + KEY[: cut % 4]
        parts = apply_mask(data[:cut], KEY) + apply_mask(data[cut:], turned)
        assert parts == apply_mask(data, KEY)


@pytest.mark.parametrize(
    ("encoded", "drawn"),
    [
        (encode_frame(TEXT, b"Hello"), b"\x81\x05Hello"),
        (encode_frame(TEXT, b"Hello", mask=KEY), b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
        (encode_frame(TEXT, b"Hel", final=False), b"\x01\x03Hel"),
        (encode_frame(0, b"lo"), b"\x80\x02lo"),
        (encode_frame(PING, b"Hello"), b"\x89\x05Hello"),
        (encode_frame(BINARY, content(256)), b"\x82\x7e\x01\x00" + content(256)),
        (
            encode_frame(BINARY, content(65536)),
            b"\x82\x7f\x00\x00\x00\x00\x00\x01\x00\x00" + content(65536),
        ),
        # RFC 7692 §7.2.3.1, §7.2.3.2
        (
            encode_frame(TEXT, b"\xf2\x48\xcd\xc9\xc9\x07\x00", compressed=True),
            b"\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00",
        ),
        (
            encode_frame(TEXT, b"\xf2\x48\xcd", compressed=True, final=False),
            b"\x41\x03\xf2\x48\xcd",
        ),
    ],
)
def test_the_examples_of_the_specification(encoded: bytes, drawn: bytes) -> None:
    assert encoded == drawn


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 255, 256, 65534, 65535, 65536, 65537])
@pytest.mark.parametrize("key", [b"", KEY])
@pytest.mark.parametrize("final", [True, False])
def test_a_length_takes_the_fewest_bytes(size: int, key: bytes, final: bool) -> None:
    encoded = encode_frame(BINARY, content(size), mask=key, final=final)
    assert encoded == frame(BINARY, content(size), key=key, final=final)
    assert read_length(encoded[1:]) == (size, True)


@pytest.mark.parametrize(
    "size", [126, 127, 255, 256, 65535, 65536, 2**24, 2**32 - 1, 2**32, 2**63 - 1]
)
@pytest.mark.parametrize("mask_bit", [0, 0x80])
def test_a_length_is_approached_from_below(size: int, mask_bit: int) -> None:
    octets = 2 if size < 65536 else 8
    head = bytes([mask_bit | (126 if octets == 2 else 127)]) + size.to_bytes(octets, "big")
    least = 0
    for end in range(1, len(head)):
        length, known = read_length(head[:end])
        assert not known
        assert least <= length <= size
        least = length
    assert read_length(head) == (size, True)
    assert read_length(head + b"what follows") == (size, True)


@pytest.mark.parametrize(
    ("head", "told_by"),
    [
        *[(b"\x7e" + size.to_bytes(2, "big"), 3) for size in (0, 1, 124, 125)],
        *[(b"\x7f" + size.to_bytes(8, "big"), 7) for size in (0, 1, 125, 126, 65534, 65535)],
        *[(b"\x7f" + size.to_bytes(8, "big"), 2) for size in (2**63, 2**64 - 1)],
    ],
)
def test_a_wrong_length_is_found_at_the_first_byte_that_shows_it(head: bytes, told_by: int) -> None:
    for end in range(1, told_by):
        assert not read_length(head[:end])[1]
    for end in range(told_by, len(head) + 1):
        with pytest.raises(Violation) as caught:
            read_length(head[:end])
        assert caught.value.code == 1002


def test_a_violation_tells_its_code_and_reason() -> None:
    violation = Violation(1009, "the message is large")
    assert str(violation) == "the message is large (close code 1009)"
    for twin in (copy.copy(violation), pickle.loads(pickle.dumps(violation))):
        assert (twin.code, twin.reason) == (1009, "the message is large")
