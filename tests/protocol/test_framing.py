"""RFC 9112 §6 and RFC 9110 §8.6, §10.1.1: where a request's body ends."""

from __future__ import annotations

import pytest

from resource_server.protocol.http1 import HTTP1
from resource_server.protocol.limits import Limits
from resource_server.protocol.states import Reading
from tests.protocol.feeding import CLIENT, NEXT, feed, head, outcome_of, refusal

POST = "POST / HTTP/1.1"
POST_1_0 = "POST / HTTP/1.0"
CHUNKED_BODY = b"5\r\nhello\r\n0\r\n\r\n"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "X"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_without_framing_fields_there_is_no_body(method: str, version: str) -> None:
    outcome = outcome_of(head("Connection: keep-alive", line=f"{method} / HTTP/{version}") + NEXT)
    assert [request.body for request in outcome.requests] == [b"", b""]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "TRACE", "X"])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_content_length_counts_the_body_of_any_method(method: str, version: str) -> None:
    data = head("Content-Length: 5", line=f"{method} / HTTP/{version}") + b"GET /"
    assert outcome_of(data).request.body == b"GET /"


@pytest.mark.parametrize("value", ["5", " 5\t", "05", "0" * 200 + "5"])
def test_content_length_is_digits(value: str) -> None:
    assert (
        outcome_of(head(f"Content-Length:{value}", line=POST) + b"hello").request.body == b"hello"
    )


@pytest.mark.parametrize(
    "value",
    [
        "", " ", "+5", "-5", "-0", "0x5", "5_0", "1_0", "5.0", "5e0", "5 5", "5,5", "5, 5", "5;",
        "five", "\xb2", "\xb9", "'5'", '"5"', "5\xa0", "\xa05", "NaN", "Infinity", "5 0",
    ],
)  # fmt: skip
@pytest.mark.parametrize("line", [POST, POST_1_0])
def test_content_length_is_nothing_else(value: str, line: str) -> None:
    assert refusal(head(f"Content-Length: {value}", line=line) + b"hello") == 400


@pytest.mark.parametrize("line", [POST, POST_1_0])
@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5", "content-length: 6"],
        ["Content-Length: 0", "X: y", "CONTENT-LENGTH: 5"],
        ["Content-Length:", "Content-Length: 5"],
        ["Content-Length: 5", "Content-Length:"],
    ],
)
def test_content_length_is_not_repeated(lines: list[str], line: str) -> None:
    assert refusal(head(*lines, line=line) + b"hello") == 400


def test_a_length_beyond_any_limit() -> None:
    assert refusal(head("Content-Length: " + "9" * 19, line=POST)) == 413
    assert refusal(head("Content-Length: " + "9" * 30000, line=POST)) == 413
    outcome = feed([head("Content-Length: " + "9" * 18, line=POST)])
    assert (outcome.error, outcome.requests[0].complete) == (None, False)


@pytest.mark.parametrize("value", ["chunked", "Chunked", "CHUNKED", " \tchunked \t"])
def test_chunked_is_the_coding_that_is_known(value: str) -> None:
    data = head(f"Transfer-Encoding:{value}", line=POST) + CHUNKED_BODY
    assert outcome_of(data).request.body == b"hello"


@pytest.mark.parametrize(
    "lines",
    [
        ["Transfer-Encoding: gzip"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding:"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked, gzip"],
        ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding: chunked, identity"],
        ["Transfer-Encoding: identity, chunked"],
        ["Transfer-Encoding: ,chunked"],
        ["Transfer-Encoding: chunked,"],
        ["Transfer-Encoding: chunked;q=1"],
        ["Transfer-Encoding: chunked;"],
        ["Transfer-Encoding: xchunked"],
        ["Transfer-Encoding: chunkedx"],
        ["Transfer-Encoding: chunk ed"],
        ['Transfer-Encoding: "chunked"'],
        ["Transfer-Encoding: \xa0chunked"],
        ["Transfer-Encoding: chun\u212aed".encode("latin-1", "replace").decode("latin-1")],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "transfer-encoding: identity"],
        ["Transfer-Encoding: gzip", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding:"],
        ["Transfer-Encoding:", "Transfer-Encoding: chunked"],
    ],
)
def test_any_other_coding_is_not_implemented(lines: list[str]) -> None:
    assert refusal(head(*lines, line=POST) + CHUNKED_BODY) == 501


@pytest.mark.parametrize(
    "field",
    [
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t:chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding: \x0bchunked",
        "Transfer-Encoding: chunked\x0b",
        "Transfer-Encoding: \x00chunked",
        "Transfer-Encoding:\r\n chunked",
        "X: y\nTransfer-Encoding: chunked",
        "X: y\rTransfer-Encoding: chunked",
        "Transfer\x00-Encoding: chunked",
        "Transfer-Encoding",
        "Transfer-Encoding\xa0: chunked",
    ],
)
def test_an_obfuscated_coding_is_malformed(field: str) -> None:
    assert refusal(head(field, line=POST) + CHUNKED_BODY) == 400
    assert refusal(head("Content-Length: 5", field, line=POST) + CHUNKED_BODY) == 400


def test_fields_that_only_resemble_framing_do_not_frame() -> None:
    lines = [
        "Content_Length: 5", "X-Content-Length: 5", "Content-Length-X: 5", "Content.Length: 5",
        "Transfer_Encoding: chunked", "X-Transfer-Encoding: chunked", "TE: chunked",
        "X: Content-Length: 5",
    ]  # fmt: skip
    assert outcome_of(head(*lines, line=POST)).request.body == b""


@pytest.mark.parametrize("coding", ["chunked", "identity", "gzip", "", "chunked, chunked"])
@pytest.mark.parametrize("length", ["5", "0", "", "x"])
@pytest.mark.parametrize("line", [POST, POST_1_0])
def test_coding_and_length_exclude_each_other(coding: str, length: str, line: str) -> None:
    fields = [f"Transfer-Encoding: {coding}", f"Content-Length: {length}"]
    for lines in (fields, fields[::-1]):
        assert refusal(head(*lines, line=line) + CHUNKED_BODY) == 400


@pytest.mark.parametrize("coding", ["chunked", "gzip", ""])
def test_http_1_0_has_no_transfer_coding(coding: str) -> None:
    data = head("Connection: keep-alive", f"Transfer-Encoding: {coding}", line=POST_1_0)
    assert refusal(data + CHUNKED_BODY) == 400


@pytest.mark.parametrize(
    "data",
    [
        # CL.TE, TE.CL, TE.TE, CL.0, 0.CL: what one of two servers would take for a second request
        head("Content-Length: 6", "Transfer-Encoding: chunked", line=POST) + b"0\r\n\r\nG",
        head("Content-Length: 3", "Transfer-Encoding: chunked", line=POST)
        + b"8\r\nSMUGGLED\r\n0\r\n\r\n",
        head("Transfer-Encoding: chunked", "Transfer-encoding: x", line=POST) + b"0\r\n\r\n",
        head("Content-Length: 0", "Content-Length: 44", line=POST),
        head("Content-Length: 44, 0", line=POST),
        head("Transfer-Encoding: xchunked", line=POST) + b"0\r\n\r\n",
        head("X: y\n", "Content-Length: 44", line=POST),
        head("Expect: y 100-continue", "Content-Length: 44", line=POST),
        head("Host: b", line=POST),
    ],
)
def test_nothing_behind_a_refused_head_is_executed(data: bytes) -> None:
    outcome = outcome_of(data + NEXT * 3)
    assert outcome.requests == []
    assert outcome.error in (400, 417, 501)
    assert outcome.closed


def test_ever_new_framing_is_read_rightly() -> None:
    for number in range(400):
        data = head(f"Content-Length: {number % 7}", f"X-Number: {number}", line=POST)
        body = b"x" * (number % 7)
        assert outcome_of(data + body).request.body == body
        connection = HTTP1(Limits())
        connection.receive(head(host=f"host-{number}"))
        request = connection.next_request(CLIENT)
        assert request is not None
        assert request.host == f"host-{number}"


class TestCountedBodies:
    def test_a_body_ends_with_its_last_byte(self) -> None:
        outcome = outcome_of(head("Content-Length: 3", line=POST) + b"abc" + NEXT)
        assert [request.body for request in outcome.requests] == [b"abc", b""]
        assert outcome.requests[1].target == "/next"

    def test_a_body_may_hold_anything(self) -> None:
        body = bytes(range(256)) + b"\r\n\r\n0\r\n\r\n" + NEXT
        data = head(f"Content-Length: {len(body)}", line=POST) + body
        assert outcome_of(data).request.body == body

    def test_an_incomplete_body_is_waited_for(self) -> None:
        outcome = outcome_of(head("Content-Length: 4", line=POST) + b"abc")
        assert not outcome.requests[0].complete
        assert not outcome.closed

    def test_it_is_given_as_it_arrives(self) -> None:
        http = HTTP1(Limits())
        http.receive(head("Content-Length: 6", line=POST) + b"ab")
        assert http.read_body() == b""
        http.next_request(CLIENT)
        assert (http.framing.length, http.body_complete) == (6, False)
        assert (http.read_body(), http.read_body(), http.buffered) == (b"ab", b"", 0)
        http.receive(b"cd")
        assert (http.read_body(), http.body_complete) == (b"cd", False)
        http.receive(b"efGET")
        assert (http.read_body(), http.body_complete, http.reading) == (b"ef", True, Reading.DONE)
        assert (http.read_body(), http.buffered) == (b"", 3)


class TestExpectations:
    """RFC 9110 §10.1.1"""

    @staticmethod
    def expecting(*lines: str, line: str = POST, body: bytes = b"") -> HTTP1:
        http = HTTP1(Limits())
        http.receive(head(*lines, line=line) + body)
        http.next_request(CLIENT)
        return http

    @pytest.mark.parametrize(
        "value", ["100-continue", "100-Continue", " 100-continue ,", "100-continue, 100-continue"]
    )
    @pytest.mark.parametrize("framing", ["Content-Length: 3", "Transfer-Encoding: chunked"])
    def test_the_body_is_asked_for_once(self, value: str, framing: str) -> None:
        http = self.expecting(f"Expect: {value}", framing)
        assert http.expects_continue is True
        answers = [http.continue_(), http.continue_()]
        assert answers == [b"HTTP/1.1 100 Continue\r\n\r\n", b""]

    def test_no_body_is_asked_for_that_has_begun_to_arrive(self) -> None:
        framing = "Content-Length: 3"
        assert not self.expecting("Expect: 100-continue", framing, body=b"a").expects_continue
        http = self.expecting("Expect: 100-continue", framing)
        http.receive(b"a")
        http.read_body()
        assert http.continue_() == b""
        http = self.expecting("Expect: 100-continue", "Transfer-Encoding: chunked")
        http.receive(b"1")
        http.read_body()
        assert http.continue_() == b""

    def test_no_body_is_asked_for_that_is_not_there(self) -> None:
        assert not self.expecting("Expect: 100-continue").expects_continue
        assert not self.expecting("Expect: 100-continue", "Content-Length: 0").expects_continue

    def test_http_1_0_cannot_expect(self) -> None:
        http = self.expecting("Expect: 100-continue", "Content-Length: 3", line=POST_1_0)
        assert http.continue_() == b""
        assert refusal(head("Expect: wonders", line="GET / HTTP/1.0")) is None

    def test_an_empty_list_expects_nothing(self) -> None:
        assert not self.expecting("Expect:", "Content-Length: 3").expects_continue

    @pytest.mark.parametrize(
        "value",
        [
            "wonders",
            "100-continue, wonders",
            "100",
            "100-continue;a=b",
            "100-continue x",
            '"100-continue"',
        ],
    )
    def test_other_expectations_fail(self, value: str) -> None:
        assert refusal(head(f"Expect: {value}", "Content-Length: 3", line=POST)) == 417
        assert refusal(head("Expect: 100-continue", f"Expect: {value}")) == 417
