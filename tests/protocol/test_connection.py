"""RFC 9112 §9: how long a connection lives, and in which order its requests are answered."""

from __future__ import annotations

import pytest

from resource_server.errors import BadRequest, ContentTooLarge, HTTPError, RequestTimeout
from resource_server.protocol.http1 import HTTP1
from resource_server.protocol.limits import Limits
from resource_server.protocol.states import Answering, Reading
from resource_server.response import Response, error_response
from tests.protocol.feeding import CLIENT, NEXT, feed, head, outcome_of

ALIVE = "keep-alive"


def receiving(data: bytes) -> HTTP1:
    """A protocol that has read one request's head."""
    http = HTTP1(Limits())
    http.receive(data)
    assert http.next_request(CLIENT) is not None
    return http


@pytest.mark.parametrize(
    ("version", "options", "alive"),
    [
        ("1.1", [], True),
        ("1.1", [ALIVE], True),
        ("1.1", ["close"], False),
        ("1.1", ["Close"], False),
        ("1.1", ["CLOSE, keep-alive"], False),
        ("1.1", ["keep-alive", "close"], False),
        ("1.1", ["upgrade,\tclose"], False),
        ("1.1", [", ,close,"], False),
        ("1.1", ["closed", "disclose", "x close"], True),
        ("1.1", [""], True),
        ("1.0", [], False),
        ("1.0", [""], False),
        ("1.0", [ALIVE], True),
        ("1.0", ["Keep-Alive"], True),
        ("1.0", ["upgrade , KEEP-ALIVE"], True),
        ("1.0", [ALIVE, "close"], False),
        ("1.0", ["close, keep-alive"], False),
        ("1.0", ["keep-alived"], False),
        ("1.2", [], True),
        ("1.2", ["close"], False),
    ],
)
def test_whether_a_connection_persists(version: str, options: list[str], alive: bool) -> None:
    lines = [f"Connection: {option}" for option in options]
    outcome = outcome_of(head(*lines, line=f"GET / HTTP/{version}"))
    assert outcome.request.keep_alive is alive
    assert outcome.closed is not alive


def test_requests_are_read_in_order() -> None:
    post = head("Content-Length: 3", line="POST /b HTTP/1.1") + b"abc"
    chunked = head("Transfer-Encoding: chunked", line="PUT /c HTTP/1.1") + b"1\r\nx\r\n0\r\n\r\n"
    old = head("Connection: keep-alive", line="GET /d HTTP/1.0")
    last = head("Connection: close", line="GET /e HTTP/1.1")
    outcome = outcome_of(head(line="GET /a HTTP/1.1") + post + chunked + old + last + NEXT)
    assert [request.target for request in outcome.requests] == ["/a", "/b", "/c", "/d", "/e"]
    assert outcome.closed


def test_the_next_request_waits_for_the_response() -> None:
    http = receiving(head() + NEXT)
    assert (http.reading, http.answering) == (Reading.DONE, Answering.AWAITED)
    assert http.next_request(CLIENT) is None
    http.start(Response(), b"")
    assert http.answering is Answering.STARTED
    assert http.next_request(CLIENT) is None
    http.finish()
    assert (http.reading, http.answering) == (Reading.HEAD, Answering.NOTHING)
    request = http.next_request(CLIENT)
    assert request is not None
    assert (request.target, http.buffered) == ("/next", 0)


def test_nothing_received_is_nothing_asked() -> None:
    http = HTTP1(Limits())
    assert http.next_request(CLIENT) is None
    http.receive(b"")
    assert http.next_request(CLIENT) is None
    assert (http.buffered, http.read_body(), http.body_complete) == (0, b"", False)


def test_a_body_that_has_come_whole_is_taken_at_once() -> None:
    post = head("Content-Length: 3", line="POST / HTTP/1.1")
    for behind in (b"", NEXT):
        http = receiving(post + b"abc" + behind)
        assert (http.whole_body(), http.body_complete, http.buffered) == (b"abc", True, len(behind))
        assert http.whole_body() is None
    for size in range(3):
        http = receiving(post + b"abc"[:size])
        assert (http.whole_body(), http.body_complete, http.buffered) == (None, False, size)
        http.receive(b"abc"[size:])
        assert (http.whole_body(), http.body_complete) == (b"abc", True)
    # What has been read of it before is not part of it.
    http = receiving(post + b"a")
    assert http.read_body() == b"a"
    http.receive(b"bc" + NEXT)
    assert (http.whole_body(), http.buffered) == (b"bc", len(NEXT))
    expecting = receiving(head("Content-Length: 1", "Expect: 100-continue", line="PUT / HTTP/1.1"))
    assert (expecting.whole_body(), expecting.expects_continue) == (None, True)
    expecting.receive(b"a")
    assert (expecting.whole_body(), expecting.expects_continue) == (b"a", False)


def test_a_body_without_a_length_is_not_taken_whole() -> None:
    chunked = head("Transfer-Encoding: chunked", line="POST / HTTP/1.1") + b"1\r\na\r\n0\r\n\r\n"
    assert HTTP1(Limits()).whole_body() is None
    assert receiving(head()).whole_body() is None
    http = receiving(chunked)
    assert http.whole_body() is None
    assert (http.read_body(), http.body_complete) == (b"a", True)


def test_the_end_announced_by_the_client_is_known() -> None:
    # It then sends nothing more that could be lost (RFC 9112 §9.6).
    close = head("Connection: close", "Content-Length: 1", line="POST / HTTP/1.1")
    for data, body, announced in [
        (head("Connection: close"), b"", True),
        (head(line="GET / HTTP/1.0"), b"", True),
        (head(), b"", False),
        (close + b"a", b"a", True),
        (close, b"", False),
        (head("Connection: close") + NEXT, b"", False),
    ]:
        http = receiving(data)
        assert http.read_body() == body
        assert not http.client_closes
        http.keep_alive = False
        http.start(Response(), b"")
        http.finish()
        assert http.client_closes is announced


class TestRefusal:
    @pytest.mark.parametrize(
        "bad",
        [
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n",
            b"GET / HTTP/2.0\r\n\r\n",
            b"\x00",
            head("Expect: x"),
            head("Transfer-Encoding: x"),
            head(line="GET x HTTP/1.1"),
        ],
    )
    def test_nothing_behind_an_error_is_executed(self, bad: bytes) -> None:
        outcome = outcome_of(head() + bad + NEXT)
        assert [request.target for request in outcome.requests] == ["/"]
        assert outcome.error is not None
        assert outcome.closed

    def test_a_fault_closes_at_once_and_may_be_answered(self) -> None:
        http = HTTP1(Limits())
        http.receive(b"GET / HTTP/1.1\r\nbad\r\n\r\n" + NEXT)
        with pytest.raises(BadRequest) as caught:
            http.next_request(CLIENT)
        assert (http.reading, http.answering) == (Reading.CLOSED, Answering.AWAITED)
        assert (http.keep_alive, http.buffered) == (False, 0)
        answer = http.start(error_response(caught.value, "text/plain"), b"")
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"\r\nConnection: close\r\n" in answer
        assert http.sends_payload
        http.receive(NEXT)
        http.finish()
        http.receive(NEXT)
        assert http.next_request(CLIENT) is None
        assert (http.buffered, http.client_closes) == (0, False)

    def test_a_refused_head_request_is_answered_without_content(self) -> None:
        for data, content in [
            (b"HEAD / HTTP/1.1\r\n\r\n", False),
            (b"HEADER / HTTP/1.1\r\n\r\n", True),
        ]:
            http = HTTP1(Limits())
            http.receive(b"\r\n" + data)
            with pytest.raises(HTTPError) as caught:
                http.next_request(CLIENT)
            http.start(error_response(caught.value, "text/plain"), b"")
            assert http.sends_payload is content

    def test_the_request_before_does_not_count_for_that(self) -> None:
        http = receiving(head(line="HEAD / HTTP/1.1") + b"GET / HTTP/1.1\r\n\r\n")
        http.start(Response(), b"")
        http.finish()
        with pytest.raises(HTTPError):
            http.next_request(CLIENT)
        assert not http.head_only

    def test_an_idle_or_slow_client_is_refused(self) -> None:
        for data in (b"", b"GET / HT"):
            http = HTTP1(Limits())
            http.receive(data)
            assert http.next_request(CLIENT) is None
            http.refuse()
            answer = http.start(error_response(RequestTimeout(), "text/plain"), b"")
            assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
            assert b"\r\nConnection: close\r\n" in answer

    def test_a_body_is_refused(self) -> None:
        http = receiving(head("Content-Length: 9", "Expect: 100-continue", line="POST / HTTP/1.1"))
        http.refuse()
        assert (http.continue_(), http.answering) == (b"", Answering.AWAITED)
        http.receive(b"123456789" + NEXT)
        assert (http.read_body(), http.buffered) == (b"", 0)
        answer = http.start(error_response(ContentTooLarge(), "text/plain"), b"")
        assert b"\r\nConnection: close\r\n" in answer
        http.finish()
        assert http.next_request(CLIENT) is None

    def test_a_response_under_way_is_not_answered_again(self) -> None:
        http = receiving(head("Content-Length: 9", line="POST / HTTP/1.1"))
        http.start(Response(), b"")
        http.refuse()
        assert http.answering is Answering.STARTED
        with pytest.raises(RuntimeError, match="no request awaits"):
            http.start(Response(), b"")

    def test_what_was_remembered_of_a_refused_head_is_forgotten(self) -> None:
        outcome = feed([head("Transfer-Encoding: x"), head("Transfer-Encoding: x")])
        assert (outcome.requests, outcome.error) == ([], 501)


class TestUnreadBodies:
    """RFC 9112 §9.3: a body that is not read to its end must not be read as a request."""

    @pytest.mark.parametrize("framing", ["Content-Length: 99", "Transfer-Encoding: chunked"])
    @pytest.mark.parametrize("body", [b"", b"1\r\na", NEXT])
    def test_an_early_response_closes(self, framing: str, body: bytes) -> None:
        http = receiving(head(framing, line="POST / HTTP/1.1") + body)
        assert b"\r\nConnection: close\r\n" in http.start(Response(), b"")
        http.finish()
        assert (http.reading, http.buffered) == (Reading.CLOSED, 0)
        http.receive(NEXT)
        assert http.next_request(CLIENT) is None

    def test_a_complete_body_does_not_close(self) -> None:
        http = receiving(head("Content-Length: 1", line="POST / HTTP/1.1") + b"a" + NEXT)
        assert http.read_body() == b"a"
        assert b"Connection" not in http.start(Response(), b"")
        http.finish()
        assert http.next_request(CLIENT) is not None


def test_another_protocol_takes_over_what_is_left() -> None:
    http = receiving(head("Connection: upgrade", "Upgrade: x") + b"\x81\x00")
    http.start(Response(status_code=101), b"")
    assert http.take_buffer() == b"\x81\x00"
    assert (http.reading, http.buffered, http.take_buffer()) == (Reading.CLOSED, 0, b"")
    http.receive(NEXT)
    http.finish()
    assert http.next_request(CLIENT) is None
