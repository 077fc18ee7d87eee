"""RFC 9112 §7.1: chunked bodies and their trailers."""

from __future__ import annotations

import pytest

from resource_server.protocol.http1 import HTTP1
from resource_server.protocol.limits import Limits
from resource_server.protocol.states import Reading
from tests.protocol.feeding import CLIENT, NEXT, Outcome, Received, feed, head, outcome_of

POST = head("Transfer-Encoding: chunked", line="POST / HTTP/1.1")
LAST = b"0\r\n\r\n"


def chunked(body: bytes, limits: Limits | None = None) -> Received:
    """The request with this body as it was understood."""
    return outcome_of(POST + body, limits).request


def refused(body: bytes, limits: Limits | None = None) -> int | None:
    """The status that refuses this body, if one does; whatever is pipelined behind it."""
    outcome = outcome_of(POST + body, limits)
    if outcome.error is not None:
        assert len(outcome.requests) == 1
        assert outcome.closed
    return outcome.error


def awaited(body: bytes) -> bool:
    """Whether more is waited for."""
    outcome: Outcome = outcome_of(POST + body)
    return outcome.error is None and not outcome.requests[0].complete


def test_chunks_are_joined() -> None:
    request = chunked(b"5\r\nhello\r\n1\r\n,\r\n7\r\n world!\r\n" + LAST)
    assert request.body == b"hello, world!"
    assert request.trailers == []


def test_an_empty_body() -> None:
    assert chunked(LAST).body == b""


def test_data_may_look_like_framing() -> None:
    body = b"\r\n0\r\n\r\n" + NEXT
    assert chunked(b"%x\r\n%b\r\n" % (len(body), body) + LAST).body == body


@pytest.mark.parametrize("size", [b"a", b"A", b"0a", b"00A", b"0" * 14 + b"a"])
def test_a_size_is_hexadecimal(size: bytes) -> None:
    assert chunked(size + b"\r\n0123456789\r\n" + LAST).body == b"0123456789"


@pytest.mark.parametrize("zero", [b"0", b"00", b"0" * 15])
def test_the_last_chunk_has_size_zero(zero: bytes) -> None:
    assert chunked(b"1\r\na\r\n" + zero + b"\r\n\r\n").body == b"a"


@pytest.mark.parametrize(
    "size",
    [
        b"", b" ", b"x", b"g", b"0x5", b"+5", b"-5", b"-0", b"5_0", b"5.0", b"5h", b" 5", b"\t5",
        b"5 ", b"5\t", b"5,", b"5 5", b"\xb2", "５".encode(), b"5\x00", b"5\x0b",
        b"0" * 15 + b"5", b"f" * 16, b"1" + b"0" * 16, b"5\r", b"5\r\r", b'"5"',
    ],
)  # fmt: skip
def test_a_size_is_nothing_else(size: bytes) -> None:
    assert refused(size + b"\r\nhello\r\n" + LAST) == 400


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r \n"])
def test_a_size_line_ends_with_crlf(end: bytes) -> None:
    assert refused(b"5" + end + b"hello\r\n" + LAST) == 400
    assert refused(b"5\r\nhello\r\n0" + end + b"\r\n") == 400


@pytest.mark.parametrize(
    "end", [b"", b"\n", b"\r", b"xx", b"\r\r\n", b"\n\n", b"  ", b"\r\x00", b"0\r\n"]
)
def test_a_chunk_is_as_long_as_it_says(end: bytes) -> None:
    assert refused(b"5\r\nhello" + end + b"5\r\nhello\r\n" + LAST) == 400


def test_a_huge_chunk_is_taken_as_it_arrives() -> None:
    http = HTTP1(Limits())
    http.receive(POST + b"f" * 15 + b"\r\n")
    http.next_request(CLIENT)
    assert http.framing.length is None
    for _ in range(3):
        http.receive(b"a" * 1000)
        assert http.read_body() == b"a" * 1000
        assert http.buffered == 0


def test_a_body_ends_with_the_empty_line() -> None:
    outcome = outcome_of(POST + b"1\r\na\r\n" + LAST + POST + b"1\r\nb\r\n" + LAST + NEXT)
    assert [request.body for request in outcome.requests] == [b"a", b"b", b""]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"5",
        b"5\r",
        b"5;a",
        b"5\r\n",
        b"5\r\nhell",
        b"5\r\nhello",
        b"5\r\nhello\r",
        b"0",
        b"0\r\n",
        b"0\r\n\r",
        b"0\r\nA: b\r\n",
    ],
)
def test_an_incomplete_body_is_waited_for(body: bytes) -> None:
    assert awaited(body)


def test_the_size_line_of_a_body_in_pieces_is_refused_at_its_first_wrong_byte() -> None:
    assert feed([POST + b"x"]).error == 400
    assert feed([POST + b"5\x00"]).error == 400
    assert feed([POST + b"5\rx"]).error == 400
    assert feed([POST + b"5\r\nhellox"]).error == 400


class TestExtensions:
    """RFC 9112 §7.1.1"""

    @pytest.mark.parametrize(
        "extension",
        [
            b";a", b";a=b", b";a=b;c=d;e", b" ; a = b ; c", b"\t;\ta\t=\tb", b';a="b"', b';a=""',
            b';a="b;c=d\\"\\\\"', b';a="\t \xff"', b';a="\\\xff"', b";" + b"a" * 250,
        ],
    )  # fmt: skip
    def test_they_are_ignored(self, extension: bytes) -> None:
        assert (
            chunked(b"5" + extension + b"\r\nhello\r\n0" + extension + b"\r\n\r\n").body == b"hello"
        )

    @pytest.mark.parametrize(
        "extension",
        [
            b";", b";;", b";a;", b";=", b";a=", b";a= ", b";a ", b";a=b ", b";a=b c", b";a b",
            b"; ", b" a", b';a="', b';a="b', b';a="b"c', b';a="\x00"', b';a="\\\x00"',
            b';a="\x7f"', b";a=\x80", b";\x80", b";a=b=c", b"=a", b",a", b";a=(b)", b';"a"',
            b";a\x00", b";a\x0b=b", b';a="\\"',
        ],
    )  # fmt: skip
    def test_they_follow_their_grammar(self, extension: bytes) -> None:
        assert refused(b"5" + extension + b"\r\nhello\r\n" + LAST) == 400
        assert refused(b"0" + extension + b"\r\n\r\n") == 400

    @pytest.mark.parametrize(
        "extension", [b";a\nX", b";\n", b';a="\n"', b';a="\r"', b";a\rb", b";a\r\r"]
    )
    def test_no_line_ends_within_them(self, extension: bytes) -> None:
        # One of two servers may take the bare LF for the line's end.
        assert refused(b"5" + extension + b"\r\nhello\r\n" + LAST) == 400

    def test_a_size_line_is_bounded(self) -> None:
        limits = Limits(chunk_line=20)
        assert chunked(b"1;" + b"a" * 18 + b"\r\na\r\n" + LAST, limits).body == b"a"
        assert refused(b"1;" + b"a" * 19 + b"\r\na\r\n" + LAST, limits) == 400
        assert feed([POST + b"1;" + b"a" * 19], limits).error is None
        assert feed([POST + b"1;" + b"a" * 20], limits).error == 400
        assert feed([POST + b"0" * 300]).error == 400

    def test_framing_out_of_proportion_to_the_content_is_bounded(self) -> None:
        limits = Limits(chunk_overhead=1000)
        one = b"1;" + b"a" * 116 + b"\r\na\r\n"  # 118 bytes of line; 18 are granted
        assert chunked(one * 10 + LAST, limits).body == b"a" * 10
        assert refused(one * 11 + LAST, limits) == 400

    def test_content_makes_up_for_framing(self) -> None:
        limits = Limits(chunk_overhead=150)
        one = b"1;" + b"a" * 116 + b"\r\na\r\n"
        large = b"32\r\n" + b"b" * 50 + b"\r\n"
        assert len(chunked((one + large) * 10 + LAST, limits).body) == 510

    def test_small_chunks_are_taken_without_end(self) -> None:
        limits = Limits(chunk_overhead=1)
        assert feed([POST + b"1\r\na\r\n" * 5000 + LAST], limits).request.body == b"a" * 5000

    def test_each_body_counts_for_itself(self) -> None:
        limits = Limits(chunk_overhead=150)
        data = POST + b"1;" + b"a" * 116 + b"\r\na\r\n" + LAST
        assert len(feed([data * 5], limits).requests) == 5


class TestTrailers:
    """RFC 9112 §7.1.2, RFC 9110 §6.5"""

    def test_they_are_kept_apart_from_the_header_fields(self) -> None:
        request = chunked(b"1\r\na\r\n0\r\nDigest: x\r\nX:  y \r\n\r\n")
        assert request.trailers == [("Digest", "x"), ("X", "y")]
        assert request.fields == [("Host", "a.example"), ("Transfer-Encoding", "chunked")]

    @pytest.mark.parametrize(
        "field",
        [
            b"Content-Length: 99",
            b"Transfer-Encoding: gzip",
            b"Host: b",
            b"Connection: close",
            b"Expect: x",
        ],
    )
    def test_they_frame_nothing(self, field: bytes) -> None:
        outcome = outcome_of(POST + b"0\r\n" + field + b"\r\n\r\n" + NEXT)
        assert [request.target for request in outcome.requests] == ["/", "/next"]
        assert outcome.requests[0].host == "a.example"
        assert outcome.requests[0].keep_alive

    @pytest.mark.parametrize(
        "lines",
        [
            b"X : y\r\n", b": y\r\n", b"X\r\n", b"X: y\n", b"X: y\r", b" X: y\r\n",
            b"X: y\r\n z\r\n", b"X: \x00\r\n", b"X: y\rZ: 1\r\n", b"\x80: y\r\n",
            b"GET / HTTP/1.1\r\n", b"X: y\r\n\n", b"\n", b"\r", b"X: y\r\n\r",
        ],
    )  # fmt: skip
    def test_they_are_as_strict_as_header_fields(self, lines: bytes) -> None:
        assert refused(b"0\r\n" + lines + b"\r\n") == 400 or lines in (b"\r", b"X: y\r\n\r")
        assert refused(b"0\r\n" + lines + b"X: y\r\n\r\n") == 400

    def test_their_number_is_bounded(self) -> None:
        limits = Limits(trailer_fields=3)
        request = chunked(b"0\r\n" + b"X: y\r\n" * 3 + b"\r\n", limits)
        assert request.trailers is not None
        assert len(request.trailers) == 3
        assert refused(b"0\r\n" + b"X: y\r\n" * 4 + b"\r\n", limits) == 431
        assert feed([POST + b"0\r\n" + b"X: y\r\n" * 33]).error == 431

    def test_their_bytes_are_bounded(self) -> None:
        limits = Limits(trailer_bytes=30)
        assert chunked(b"0\r\nX:" + b"a" * 26 + b"\r\n\r\n", limits).trailers
        for beyond in (1, 2, 3, 4, 99):
            assert refused(b"0\r\nX:" + b"a" * (26 + beyond) + b"\r\n\r\n", limits) == 431
        assert feed([POST + b"0\r\nX:" + b"a" * 8192]).error is None
        assert feed([POST + b"0\r\nX:" + b"a" * 8193]).error == 431

    def test_the_first_fault_is_the_one_told(self) -> None:
        limits = Limits(trailer_bytes=30)
        assert refused(b"0\r\nX:\x00" + b"a" * 99 + b"\r\n\r\n", limits) == 400
        assert refused(b"0\r\nX:" + b"a" * 99 + b"\x00\r\n\r\n", limits) == 431

    def test_they_do_not_outlast_their_request(self) -> None:
        outcome = outcome_of(POST + b"0\r\nX: y\r\n\r\n" + NEXT)
        assert [request.trailers for request in outcome.requests] == [[("X", "y")], None]


def test_a_fault_ends_reading() -> None:
    outcome = outcome_of(POST + b"1\r\na\r\nx" + NEXT)
    assert (len(outcome.requests), outcome.error, outcome.closed) == (1, 400, True)
    http = HTTP1(Limits())
    http.receive(POST + b"x")
    http.next_request(CLIENT)
    with pytest.raises(Exception, match="chunk"):
        http.read_body()
    assert http.reading is Reading.CLOSED
    http.receive(LAST)
    assert (http.read_body(), http.buffered, http.body_complete) == (b"", 0, False)
