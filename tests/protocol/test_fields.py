"""RFC 9112 §5, §3.2 and RFC 9110 §5, §7.2: header fields, and Host among them."""

from __future__ import annotations

import pytest

from resource_server import Response
from resource_server.protocol.http1 import HTTP1
from resource_server.protocol.limits import Limits
from tests.protocol.feeding import CLIENT, feed, head, outcome_of, refusal
from tests.protocol.test_request_line import TCHAR


def test_values_are_taken_without_the_white_space_around_them() -> None:
    request = outcome_of(head("A:1", "B: 2", "C:\t 3 \t", "D:", "E:  ", "F: a  b\tc")).request
    assert request.fields[1:] == [
        ("A", "1"), ("B", "2"), ("C", "3"), ("D", ""), ("E", ""), ("F", "a  b\tc"),
    ]  # fmt: skip


def test_repeated_fields_keep_their_lines_and_order() -> None:
    request = outcome_of(head("Accept: a", "X: 1", "ACCEPT: b")).request
    assert request.fields[1:] == [("Accept", "a"), ("X", "1"), ("ACCEPT", "b")]


def test_a_head_may_have_no_fields_at_all() -> None:
    assert outcome_of(b"GET / HTTP/1.0\r\n\r\n").request.fields == []


@pytest.mark.parametrize("byte", range(256))
def test_a_name_is_a_token(byte: int) -> None:
    data = head(b"X" + bytes([byte]) + b"Y: 1")
    if byte in TCHAR:
        assert outcome_of(data).request.fields[1] == (f"X{chr(byte)}Y", "1")
    elif byte == ord(":"):
        assert outcome_of(data).request.fields[1] == ("X", "Y: 1")
    else:
        assert refusal(data) == 400


@pytest.mark.parametrize("byte", range(256))
def test_a_value_has_no_control_character_but_the_tab(byte: int) -> None:
    data = head(b"X: a" + bytes([byte]) + b"b")
    if (byte >= 0x20 and byte != 0x7F) or byte == 0x09:
        assert outcome_of(data).request.fields[1] == ("X", f"a{chr(byte)}b")
    else:
        assert refusal(data) == 400


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["X : 1"], "white space"),
        (["X\t: 1"], "white space"),
        (["X", "Y: 1"], "no colon"),
        ([": 1"], "token"),
        ([" : 1"], "folded"),
        (["X: 1", " 2"], "folded"),
        (["X: 1", "\t2"], "folded"),
        (["X: 1", " "], "folded"),
        (["X: 1", " Transfer-Encoding: chunked"], "folded"),
        (["X Y: 1"], "token"),
        (['"X": 1'], "token"),
        (["(X): 1"], "token"),
        (["X\xe9: 1"], "token"),
        (["X: 1\rY: 2"], "CR"),
        (["X: 1\nY: 2"], "LF"),
        (["X: 1\r"], "CR"),
        (["X: 1\x00"], "control"),
    ],
)
def test_a_malformed_line_is_refused_and_the_reason_told(lines: list[str], reason: str) -> None:
    outcome = outcome_of(head(*lines))
    assert outcome.error == 400
    assert reason in outcome.message


@pytest.mark.parametrize("space", [" ", "\t", "\x0b", "\xa0"])
def test_white_space_between_request_line_and_fields(space: str) -> None:
    # RFC 9112 §2.2
    assert refusal(f"GET / HTTP/1.1\r\n{space}Host: a\r\n\r\n".encode("latin-1")) == 400
    assert refusal(f"GET / HTTP/1.1\r\n{space}\r\nHost: a\r\n\r\n".encode("latin-1")) == 400


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\n", b"\n\r\n", b"\r\r\n\r\n", b"\r\n\r\r\n"])
def test_lines_end_with_crlf_only(end: bytes) -> None:
    assert refusal(b"GET / HTTP/1.1\r\nHost: a" + end) == 400


class TestHost:
    @pytest.mark.parametrize(
        "host",
        [
            "a", "a.example:8000", "A-b_c~d.example", "192.0.2.1:80", "localhost:", "[::1]",
            "[::1]:8000", "[2001:db8::1.2.3.4]", "[v1.fe80::a+en1]:80", "xn--bcher-kva.example",
            "b%C3%BCcher.example", "a:00080", "a:0", "a:65535", "sub!$&'()*+,;=delims", "",
        ],
    )  # fmt: skip
    def test_a_valid_one_is_taken_as_sent(self, host: str) -> None:
        request = outcome_of(head(f"Host: {host}", host="")).request
        assert request.host == host

    @pytest.mark.parametrize(
        "host",
        [
            "a b", "a\tb", "a/b", "a?b", "a@b", "user:pw@a", "a:b", "a:8 0", "a:80:80", "a:-1",
            "a:+80", "a:65536", "a:99999999999999999999", "a:８０", ":80", ":", "a,b c", "a%",
            "a%4", "a%zz", "[::1", "::1", "[]", "[a]", "[::1]a", "[::1%eth0]", "[1.2.3.4]",
            "[v.a]", "[v1.]", "[:::]", "http://a", "a\\b", 'a"b', "<a>", "a|b", "a^b", "a`b",
            "{a}", "\xe9",
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    def test_a_malformed_one_is_refused(self, host: str, version: str) -> None:
        field = b"Host: " + host.encode("latin-1", "replace")
        assert refusal(head(field, line=f"GET / HTTP/{version}", host="")) == 400

    def test_http_1_1_needs_one(self) -> None:
        assert refusal(head(host="")) == 400
        assert refusal(head("X-Host: a", host="")) == 400
        assert outcome_of(head(line="GET / HTTP/1.0", host="")).request.host == ""

    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    @pytest.mark.parametrize("second", ["Host: a.example", "host: b", "HOST:", "Host: a b"])
    def test_more_than_one_is_refused(self, second: str, version: str) -> None:
        line = f"GET / HTTP/{version}"
        assert refusal(head(second, line=line)) == 400
        assert refusal(head("X: y", second, line=line)) == 400

    @pytest.mark.parametrize("name", ["host", "HOST", "hOsT"])
    def test_its_name_has_no_case(self, name: str) -> None:
        assert outcome_of(head(f"{name}: b", host="")).request.host == "b"


class TestLimits:
    def test_the_number_of_fields(self) -> None:
        limits = Limits(header_fields=3)
        assert len(outcome_of(head("A: 1", "B: 2"), limits).request.fields) == 3
        assert refusal(head("A: 1", "B: 2", "C: 3"), limits) == 431
        assert feed([head(*["A: 1"] * 99)]).error is None
        assert feed([head(*["A: 1"] * 100)]).error == 431

    def test_their_bytes_together(self) -> None:
        limits = Limits(header_bytes=50)
        start = len("Host: a.example\r\n") + len("X: \r\n")
        assert outcome_of(head("X: " + "a" * (50 - start)), limits).request.method == "GET"
        for beyond in (1, 2, 3, 4, 100):
            assert refusal(head("X: " + "a" * (50 - start + beyond)), limits) == 431
            assert refusal(head("X: " + "a" * (45 - start), "Y: " + "b" * beyond), limits) == 431

    def test_the_request_line_does_not_count(self) -> None:
        limits = Limits(header_bytes=17)
        assert outcome_of(head(line="GET /" + "a" * 99 + " HTTP/1.1"), limits).request.host

    def test_the_first_fault_is_the_one_told(self) -> None:
        limits = Limits(header_bytes=30, header_fields=2)
        assert refusal(head("X:\0" + "a" * 99), limits) == 400
        assert refusal(head("X:" + "a" * 99 + "\0"), limits) == 431
        assert refusal(head("X : 1", "Y:" + "a" * 99), limits) == 400
        assert refusal(head("X:1", "Y : 1"), limits) == 431
        assert refusal(head("X:1", "Y\0: 1"), limits) == 400

    def test_an_endless_line_is_refused_before_its_end(self) -> None:
        start = b"GET / HTTP/1.1\r\n"
        for line in (b"A" * 40000, b"A: " + b"b" * 40000, b"A:b\r\n" * 101):
            assert feed([start + line]).error == 431
        assert feed([start + b"A: " + b"b" * 32000]).error is None
        assert feed([start + b"A:b\r\n" * 100]).error is None


class TestRememberedFields:
    """A connection's last fields are not parsed again; nobody may notice."""

    def test_the_same_fields_with_another_version(self) -> None:
        fields = head(host="b")[len("GET / HTTP/1.1") :]
        data = b"GET / HTTP/1.1" + fields + b"GET / HTTP/1.0" + fields
        outcome = outcome_of(data)
        assert [(each.version, each.keep_alive) for each in outcome.requests] == [
            (11, True),
            (10, False),
        ]

    def test_the_same_empty_fields(self) -> None:
        alive = head("Connection: keep-alive", line="GET / HTTP/1.0", host="")
        outcome = outcome_of(alive + b"GET / HTTP/1.1\r\n\r\n")
        assert (len(outcome.requests), outcome.error) == (1, 400)

    def test_the_same_framing(self) -> None:
        data = head("Content-Length: 2", line="POST / HTTP/1.1")
        outcome = outcome_of(data + b"ab" + data + b"cd" + head() + data + b"ef")
        assert [each.body for each in outcome.requests] == [b"ab", b"cd", b"", b"ef"]

    @pytest.mark.parametrize(
        "line", ["GET /a?b=1 HTTP/1.1", "HEAD / HTTP/1.1", "OPTIONS * HTTP/1.1"]
    )
    def test_the_same_head_again_and_again(self, line: str) -> None:
        outcome = outcome_of(head("A: 1", line=line) * 4)
        assert len(outcome.requests) == 4
        assert all(each == outcome.requests[0] for each in outcome.requests)

    def test_a_head_between_others_like_it(self) -> None:
        one, two = head("A: 1"), head("A: 1", line="GET /2 HTTP/1.1")
        post = head("A: 1", "Content-Length: 1", line="POST / HTTP/1.1") + b"x"
        old = head("A: 1", "Connection: keep-alive", line="GET / HTTP/1.0")
        order = [one, one, one, two, one, two, two, two, post, post, one, one, one, old, old, one]
        alone = {each: feed([each]).request for each in order}
        outcome = outcome_of(b"".join(order))
        assert outcome.requests == [alone[each] for each in order]
        assert outcome.error is None

    def test_an_empty_line_before_a_known_head(self) -> None:
        one = head("A: 1")
        outcome = outcome_of(one * 3 + b"\r\n" + one + b"\r\n\r\n" + one * 3)
        assert len(outcome.requests) == 7
        assert outcome.error is None

    def test_the_last_head_is_no_empty_buffer(self) -> None:
        connection = HTTP1(Limits())
        for _ in range(5):
            assert connection.next_request(CLIENT) is None
            connection.receive(head())
            assert connection.next_request(CLIENT) is not None
            connection.start(Response(), b"")
            connection.finish()

    def test_the_same_head_with_bodies(self) -> None:
        post = head("A: 1", "Content-Length: 2", line="POST / HTTP/1.1")
        chunked = head("A: 1", "Transfer-Encoding: chunked", line="POST / HTTP/1.1")
        data = [post + b"%02d" % number for number in range(4)]
        data += [chunked + b"2\r\n%02d\r\n0\r\n\r\n" % number for number in range(4, 8)]
        outcome = outcome_of(b"".join(data))
        assert [each.body for each in outcome.requests] == [b"%02d" % each for each in range(8)]

    def test_the_same_head_again_ends_where_it_ends(self) -> None:
        assert refusal(head() * 3 + b"\0" + head()) == 400
        assert refusal(b"\0" + head()) == 400
        assert refusal(head() * 3 + head()[:-1] + b"x") == 400

    def test_nothing_is_left_of_a_head_in_between(self) -> None:
        connection = HTTP1(Limits())
        short, long = head("A: 1"), head("A: 1", line=f"HEAD /{'a' * 4000} HTTP/1.1")
        for data in (short, short, short, long, short, short, long, short):
            connection.receive(data)
            request = connection.next_request(CLIENT)
            assert request is not None
            assert request.method == data.split()[0].decode()
            assert connection.head_only == (request.method == "HEAD")
            connection.start(Response(), b"")
            connection.finish()

    def test_a_long_request_line_is_not_remembered(self) -> None:
        long = head("A: 1", line=f"GET /{'a' * 4000} HTTP/1.1")
        connection = HTTP1(Limits())
        for _ in range(3):
            connection.receive(long)
            assert connection.next_request(CLIENT) is not None
            connection.start(Response(), b"")
            connection.finish()
        assert connection._head == b""

    def test_fields_too_long_to_be_remembered(self) -> None:
        long = "X: " + "a" * 3000
        data = head(long, host="b") + head(long, host="b") + head(long, host="c") + head()
        assert [each.host for each in feed([data]).requests] == ["b", "b", "c", "a.example"]

    #: What follows a head with the fields Host, Accept, Connection and X-A.
    @pytest.mark.parametrize(
        "lines",
        [
            ["Accept: b", "Connection: keep-alive", "X-A: 1"],
            ["Accept: a", "Connection: keep-alive"],
            ["Accept: a", "Connection: keep-alive", "X-A: 1", "X-B: 2"],
            ["X-A: 1", "Connection: keep-alive", "Accept: a"],
            ["Accept: a", "Connection: keep-alive", "X-A: 1", "X-A: 1"],
            ["Accept: a", "Connection: close", "X-A: 1"],
            ["Accept: a", "X-A: 1"],
            ["Accept: a", "Connection: keep-alive", "X-A: 1", "Host: a.example"],
            ["Accept: a", "Connection: keep-alive", "X-A: 1", "hOST: a.example"],
            ["Accept: a", "Connection: keep-alive", "Host: b"],
            ["Accept: a", "Connection: keep-alive", "X-A: 1", "Content-Length: 2"],
            ["Accept: a", "Connection: keep-alive", "Transfer-Encoding: chunked"],
            ["Accept: a", "Connection: keep-alive", "Transfer-encoding: x", "X-A: 1"],
            ["Accept: a", "Connection: keep-alive", "Expect: 1", "X-A: 1"],
            ["Accept: a", "Connection: keep-alive", "Hosts: 1", "X-A: 1"],
            ["Accept: a", "Connection: keep-alive", " X-A: 1"],
            ["Accept: a", "Connection: keep-alive", "X-A : 1"],
            ["Accept: a", "Connection: keep-alive", "X-A: \x001"],
            ["Accept: a", "Connection: keep-alive", "X-A: 1\n"],
            ["Accept: a", "Connection: keep-alive", "X-A: 1\rHost: b"],
            ["Accept: a", "Connection: keep-alive", "X-A"],
            [f"{name}: 1" for name in "abcdefghi"],
        ],
        ids="|".join,
    )
    def test_what_differs_is_read_as_if_it_came_first(self, lines: list[str]) -> None:
        first = head("Accept: a", "Connection: keep-alive", "X-A: 1", line="POST / HTTP/1.1")
        second = head(*lines, line="POST / HTTP/1.1") + b"0\r\n\r\n"
        alone = feed([second])
        outcome = outcome_of(first + second)
        assert outcome.requests[1:] == alone.requests
        assert outcome.error == alone.error

    def test_more_fields_than_are_allowed_behind_known_ones(self) -> None:
        limits = Limits(header_fields=3)
        known = head("A: 1", "B: 2")
        assert outcome_of(known + head("A: 1", "B: 3"), limits).error is None
        assert outcome_of(known + head("A: 1", "B: 2", "C: 3"), limits).error == 431

    def test_a_request_line_does_not_pass_for_being_followed_by_known_fields(self) -> None:
        for line, status in [("GET /\x7f HTTP/1.1", 400), ("GET / HTTP/2.0", 505), ("G", 400)]:
            assert refusal(head() + head(line=line)) == status
