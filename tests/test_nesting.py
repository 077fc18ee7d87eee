"""Nesting that is too deep is told before it is decoded, and nothing else is taken for it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server.nesting import MAX_DEPTH, json_is_too_deep, msgpack_is_too_deep

msgspec = pytest.importorskip("msgspec")

#: Seconds for what takes some hundred milliseconds.
SOON = 15.0


def nested(depth: int, kind: str = "list") -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"key": value}
    return value


@pytest.mark.parametrize("kind", ["list", "dict"])
@pytest.mark.parametrize("others", [0, 1000])
class TestDepth:
    def test_of_json(self, kind: str, others: int) -> None:
        flat = [[], {}, "[[[{", '"[', "\\", [["]"]]] * others
        for depth, refused in ((MAX_DEPTH - 1, False), (MAX_DEPTH, True)):
            text = json.dumps([*flat, nested(depth, kind), *flat])
            assert json_is_too_deep(text) is json_is_too_deep(text.encode()) is refused

    def test_of_msgpack(self, kind: str, others: int) -> None:
        flat = [[], {}, "text", b"\x91\x91", 1.5, None, "x" * 300, 2**40, {"a": [1] * 20}] * others
        for depth, refused in ((MAX_DEPTH - 1, False), (MAX_DEPTH, True)):
            data = msgspec.msgpack.encode([*flat, nested(depth, kind), *flat])
            assert msgpack_is_too_deep(data) is refused


class TestAnyData:
    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.floats(allow_nan=False)
            | st.text()
            | st.integers(0, 2**63),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_what_is_shallow_passes_with_any_number_of_brackets(self, value: Any) -> None:
        many = [value, *([[]] * (MAX_DEPTH + 1))]
        assert not json_is_too_deep(json.dumps(many))
        assert not msgpack_is_too_deep(msgspec.msgpack.encode(many))

    @given(st.binary(max_size=300))
    def test_garbage_is_left_to_the_decoder(self, garbage: bytes) -> None:
        filler = b"\x90" * (MAX_DEPTH + 1)
        assert not msgpack_is_too_deep(filler + garbage)
        msgpack_is_too_deep(garbage + filler)
        json_is_too_deep(b"[" * (MAX_DEPTH // 2) + garbage + b"]{" * MAX_DEPTH)

    def test_every_kind_of_value_is_stepped_over(self) -> None:
        ext = [b"\xd4", b"\xd5", b"\xd6", b"\xd7", b"\xd8"]
        kinds = [
            *(head + b"\x05" + b"\x91" * 2**at for at, head in enumerate(ext)),
            b"\xc7\x03\x05\x91\x91\x91",
            b"\xc8\x00\x03\x05\x91\x91\x91",
            b"\xc9\x00\x00\x00\x03\x05\x91\x91\x91",
            b"\xc4\x02\x91\x91",
            b"\xc5\x00\x02\x91\x91",
            b"\xc6\x00\x00\x00\x02\x91\x91",
            b"\xd9\x02\x91\x91",
            b"\xda\x00\x02\x91\x91",
            b"\xdb\x00\x00\x00\x02\x91\x91",
            b"\xca\x91\x91\x91\x91",
            b"\xcb" + b"\x91" * 8,
            *(bytes([0xCC + at]) + b"\x91" * 2**at for at in range(4)),
            *(bytes([0xD0 + at]) + b"\x91" * 2**at for at in range(4)),
            b"\xdc\x00\x01\xc0",
            b"\xdd\x00\x00\x00\x01\xc2",
            b"\xde\x00\x01\xa1x\xc3",
            b"\xdf\x00\x00\x00\x01\xa1x\xff",
        ]
        count = len(kinds) * 40
        data = b"\xdd" + (count + 1).to_bytes(4, "big") + b"".join(kinds) * 40
        assert not msgpack_is_too_deep(data + b"\x91" * (MAX_DEPTH - 1) + b"\xc0")
        assert msgpack_is_too_deep(data + b"\x91" * MAX_DEPTH + b"\xc0")


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 5_000_000,
        b"[{}," * 1_000_000,
        b"[" * 200 + b"[]," * 1_500_000,
        (b"[" * 30 + b"]" * 30 + b",") * 80_000,
        b'"' * 5_000_000 + b"[" * 300,
        b'["\\' * 1_500_000,
    ],
)
def test_json_is_linear_work(data: bytes) -> None:
    begun = time.monotonic()
    json_is_too_deep(data)
    assert time.monotonic() - begun < SOON


def test_decoding_does_not_end_a_program_whose_threads_have_small_stacks() -> None:
    program = """
import sys, threading
from resource_server import Headers, Request
from resource_server.client import ClientResponse, Outgoing, ProtocolError
from resource_server.errors import BadRequest
from resource_server.serializable import Serializable, SerializableError
from io import BytesIO

sys.setrecursionlimit(100_000)
deep = b"[" * 20_000 + b"]" * 20_000

def refuses(error, call, *arguments):
    try:
        call(*arguments)
    except error as found:
        print("refused")

def run():
    request = Request(("", 0), "POST", "/", headers={"Content-Type": "application/json"})
    request.stream = BytesIO(deep)
    refuses(BadRequest, request.json)
    outgoing = Outgoing("GET", "http://h/", Headers())
    refuses(ProtocolError, ClientResponse.received(200, Headers(), deep, outgoing, 0.0).json)
    refuses(SerializableError, Serializable.loads, deep)
    refuses(SerializableError, Serializable.loadb, b"\\x91" * 20_000)

threading.stack_size(131_072)
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["refused"] * 4
