"""What holds for every request, and for whatever else is sent."""

from __future__ import annotations

import string
import subprocess
import sys
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from resource_server.protocol.http1 import HTTP1
from resource_server.protocol.limits import Limits
from resource_server.protocol.states import Payload
from resource_server.streams import StreamResponse
from tests.protocol.feeding import CLIENT, Received, feed, head

ROOT = Path(__file__).resolve().parents[2]

_TOKEN = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=12)
_TARGET = st.text([chr(code) for code in range(0x21, 0x7F) if chr(code) != "#"], max_size=30)
_HOST = st.from_regex(r"[a-z0-9.-]{1,20}(:[0-9]{1,4})?", fullmatch=True)
_CHARACTERS = [chr(code) for code in (0x09, *range(0x20, 0x7F), *range(0x80, 0x100))]
_VALUE = st.text(_CHARACTERS, max_size=20).map(lambda value: value.strip(" \t"))
_FRAMING = {"host", "content-length", "transfer-encoding", "connection", "expect"}
_FIELDS = st.lists(
    st.tuples(_TOKEN.filter(lambda name: name.lower() not in _FRAMING), _VALUE), max_size=6
)


@st.composite
def requests(draw: st.DrawFn) -> tuple[Received, bytes]:
    """A valid request, and what it may look like."""
    version = draw(st.sampled_from([10, 11]))
    host, body = draw(_HOST), draw(st.binary(max_size=60))
    chunked = version == 11 and draw(st.booleans())
    fields = [("Host", host), *draw(_FIELDS)]
    options = draw(st.sampled_from(["", "close", "keep-alive", "x, Keep-Alive"]))
    if options:
        fields.append(("Connection", options))
    if chunked:
        fields.append(("Transfer-Encoding", "chunked"))
    elif body or draw(st.booleans()):
        fields.append(("Content-Length", str(len(body))))
    fields = draw(st.permutations(fields))
    alive = "keep-alive" in options.lower() or (version == 11 and options != "close")
    method = draw(_TOKEN.filter(lambda name: name != "CONNECT"))
    target = "/" + draw(_TARGET)
    trailers = draw(_FIELDS) if chunked else None
    parts = [f"{method} {target} HTTP/1.{version - 10}"]
    parts += [f"{name}:{draw(_SPACE)}{value}{draw(_SPACE)}" for name, value in fields]
    data = "".join([part + "\r\n" for part in [*parts, ""]]).encode("latin-1")
    if trailers is None:
        data += body
    else:
        data += draw(_chunks(body)) + b"".join(
            f"{name}:{value}\r\n".encode("latin-1") for name, value in trailers
        )
        data += b"\r\n"
    return Received(method, target, host, version, fields, alive, body, trailers, True), data


_SPACE = st.sampled_from(["", " ", "\t", "  "])
_EXTENSION = st.sampled_from([b"", b";a", b"; a = b", b';a="\\""'])


@st.composite
def _chunks(draw: st.DrawFn, body: bytes) -> bytes:
    """A body in chunks, to the line of the last."""
    data = b""
    while body:
        size = draw(st.integers(1, len(body)))
        data += b"%x%b\r\n%b\r\n" % (size, draw(_EXTENSION), body[:size])
        body = body[size:]
    return data + b"0" + draw(_EXTENSION) + b"\r\n"


@st.composite
def _cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@given(st.lists(requests(), min_size=1, max_size=4), st.data())
def test_a_valid_request_is_read_as_it_was_meant(
    sent: list[tuple[Received, bytes]], data: st.DataObject
) -> None:
    expected: list[Received] = []
    for request, _ in sent:
        expected.append(request)
        if not request.keep_alive:
            break
    outcome = feed(data.draw(_cut(b"".join(raw for _, raw in sent))))
    assert outcome.error is None
    assert outcome.requests == expected
    assert outcome.left == 0


_PIECES = st.sampled_from(
    [
        head(), head("Content-Length: 3", line="POST / HTTP/1.1"),
        head("Transfer-Encoding: chunked"), b"GET / HTTP/1.1\r\n", b"Host: a\r\n", b"\r\n",
        b"\n", b"\r", b" ", b":", b"0\r\n", b"3\r\nabc\r\n", b"abc", b"X: y\r\n",
        b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"HTTP/1.0", b"\x00", b";",
        b'"', b"Connection: close\r\n", b"#", b"\xff",
    ]
)  # fmt: skip
_TIGHT = Limits(
    request_line=30,
    header_fields=4,
    header_bytes=60,
    chunk_line=10,
    trailer_fields=2,
    trailer_bytes=20,
)


@given(st.lists(_PIECES | st.binary(max_size=4), max_size=12).map(b"".join), st.data())
@example(b"GET /\x01 HTTP/2.0\r\n\r\n", None)
def test_cuts_make_no_difference(sent: bytes, data: st.DataObject | None) -> None:
    pieces = (
        [sent[at : at + 1] for at in range(len(sent))] if data is None else data.draw(_cut(sent))
    )
    for limits in (Limits(), _TIGHT):
        assert feed(pieces, limits) == feed([sent], limits)


@given(st.lists(st.binary(max_size=40), max_size=6), st.booleans())
def test_a_streamed_response_can_be_read_again(pieces: list[bytes], known: bool) -> None:
    content = b"".join(pieces)
    http = HTTP1(Limits())
    http.receive(head())
    http.next_request(CLIENT)
    http.start(StreamResponse(iter(pieces), content_length=len(content) if known else None), b"")
    sent = b"".join([*map(http.encode, pieces), http.end()])
    if http.payload is Payload.CHUNKED:
        sent = feed([head("Transfer-Encoding: chunked"), sent]).request.body
    assert sent == content


def test_the_fuzz_target_finds_nothing_in_a_moment() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "fuzz" / "http1.py"), "0.5"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
