"""RFC 9112 §6 and RFC 9110 §6.4, §8.6, §15.2: what is sent back."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from resource_server.errors import REASONS, FieldError, UpgradeRequired
from resource_server.headers import Headers
from resource_server.protocol.http1 import HTTP1
from resource_server.protocol.limits import Limits
from resource_server.protocol.states import Answering, Payload
from resource_server.response import Response, error_response
from resource_server.streams import StreamResponse
from tests.protocol.feeding import CLIENT, head

if TYPE_CHECKING:
    from collections.abc import Iterator

DATE = b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


def answering(method: str = "GET", version: str = "1.1", *lines: str, target: str = "/") -> HTTP1:
    """A protocol whose client awaits the answer to such a request."""
    http = HTTP1(Limits())
    http.receive(head(*lines, line=f"{method} {target} HTTP/{version}"))
    assert http.next_request(CLIENT) is not None
    return http


def fields(answer: bytes) -> dict[str, str]:
    """The fields of an answer, with names in lower case; its status line is left out.

    Only Connection may come on two lines.
    """
    assert answer.endswith(b"\r\n\r\n")
    assert answer.count(b"\r\n\r\n") == 1
    lines = answer.decode("latin-1").split("\r\n")[1:-2]
    named = [line.split(": ", 1) for line in lines]
    found: dict[str, str] = {}
    for name, value in named:
        before = found.setdefault(name.lower(), value)
        if before is not value:
            assert name == "Connection", lines
            found["connection"] = f"{before}, {value}"
    return found


def pieces() -> Iterator[bytes]:
    yield b"abc"


def test_a_response_of_known_length() -> None:
    http = answering()
    answer = http.start(Response("hello", headers={"X-A": "b"}), DATE)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert fields(answer) == {
        "content-type": "text/plain; charset=utf-8",
        "content-length": "5",
        "date": "Sun, 06 Nov 1994 08:49:37 GMT",
        "x-a": "b",
    }
    assert (http.payload, http.sends_payload, http.keep_alive) == (Payload.LENGTH, True, True)


def test_a_response_without_content_says_so() -> None:
    assert fields(answering().start(Response(), b""))["content-length"] == "0"


def test_the_length_is_counted_whatever_the_application_says() -> None:
    response = Response("hello", headers={"Content-Length": "99", "Connection": "x"})
    assert fields(answering().start(response, b""))["content-length"] == "5"


@pytest.mark.parametrize(
    ("version", "options", "alive", "told"),
    [
        ("1.1", [], True, None),
        ("1.1", ["Connection: close"], False, "close"),
        ("1.0", [], False, "close"),
        ("1.0", ["Connection: keep-alive"], True, "keep-alive"),
    ],
)
def test_what_becomes_of_the_connection_is_told(
    version: str, options: list[str], alive: bool, told: str | None
) -> None:
    http = answering("GET", version, *options)
    assert fields(http.start(Response("x"), DATE)).get("connection") == told
    assert http.keep_alive is alive


def test_application_and_server_may_close() -> None:
    http = answering()
    assert (
        fields(http.start(Response("x", headers={"Connection": "close"}), b""))["connection"]
        == "close"
    )
    assert not http.keep_alive
    http = answering("GET", "1.0", "Connection: keep-alive")
    http.keep_alive = False
    assert fields(http.start(Response("x"), b""))["connection"] == "close"


def test_the_date_is_the_servers_unless_the_application_has_one() -> None:
    assert fields(answering().start(Response(), DATE))["date"] == DATE[6:-2].decode()
    assert fields(answering().start(Response(headers={"Date": "mine"}), DATE))["date"] == "mine"


@pytest.mark.parametrize("status", [200, 299, 404, 599, 600, 999])
def test_any_final_status(status: int) -> None:
    answer = answering().start(Response("x", status), b"")
    reason = REASONS.get(status, "")
    assert answer.startswith(f"HTTP/1.1 {status} {reason}\r\n".encode())


@pytest.mark.parametrize("status", [100, 102, 103, 199])
def test_an_interim_status_is_not_a_final_one(status: int) -> None:
    http = answering()
    with pytest.raises(ValueError, match="final"):
        http.start(Response(status_code=status), b"")
    assert fields(http.start(Response(status_code=500), b""))["content-length"] == "0"


class TestStreams:
    def test_content_of_known_length_is_counted(self) -> None:
        http = answering()
        answer = fields(http.start(StreamResponse(pieces(), content_length=6), b""))
        assert answer["content-length"] == "6"
        assert "transfer-encoding" not in answer
        assert [http.encode(b"abc"), http.encode(b""), http.encode(b"def"), http.end()] == [
            b"abc",
            b"",
            b"def",
            b"",
        ]

    def test_a_file_is_counted(self) -> None:
        response = Response()
        response.body, response.file, response.content_length = None, BytesIO(b"abc"), 3
        http = answering()
        assert fields(http.start(response, b""))["content-length"] == "3"
        assert http.payload is Payload.LENGTH

    def test_the_length_announced_is_kept(self) -> None:
        http = answering()
        http.start(StreamResponse(pieces(), content_length=3), b"")
        assert http.encode(b"ab") == b"ab"
        with pytest.raises(RuntimeError, match="less content"):
            http.end()
        with pytest.raises(RuntimeError, match="more content"):
            http.encode(b"cd")

    def test_a_length_below_zero_is_refused(self) -> None:
        http = answering()
        with pytest.raises(ValueError, match="-1"):
            http.start(StreamResponse(pieces(), content_length=-1), b"")
        assert http.answering is Answering.AWAITED

    @pytest.mark.parametrize("options", [[], ["Connection: close"]])
    def test_other_content_is_chunked(self, options: list[str]) -> None:
        http = answering("GET", "1.1", *options)
        answer = fields(http.start(StreamResponse(pieces()), b""))
        assert answer["transfer-encoding"] == "chunked"
        assert "content-length" not in answer
        assert http.payload is Payload.CHUNKED
        assert http.encode(b"a" * 26) == b"1a\r\n" + b"a" * 26 + b"\r\n"
        assert http.encode(b"") == b""
        assert http.end() == b"0\r\n\r\n"
        assert http.end(Headers({"Digest": "x"})) == b"0\r\nDigest: x\r\n\r\n"

    @pytest.mark.parametrize("options", [[], ["Connection: keep-alive"]])
    def test_in_http_1_0_it_ends_with_the_connection(self, options: list[str]) -> None:
        http = answering("GET", "1.0", *options)
        answer = fields(http.start(StreamResponse(pieces()), b""))
        assert answer.keys() & {"content-length", "transfer-encoding"} == set()
        assert answer["connection"] == "close"
        assert (http.payload, http.keep_alive) == (Payload.UNTIL_CLOSE, False)
        assert (http.encode(b"abc"), http.end()) == (b"abc", b"")

    def test_nothing_is_sent_outside_a_response(self) -> None:
        http = answering()
        for _ in range(2):
            with pytest.raises(RuntimeError, match="outside"):
                http.encode(b"x")
            if http.answering is Answering.AWAITED:
                http.start(Response("x"), b"")
                http.finish()


class TestWithoutContent:
    @pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    @pytest.mark.parametrize("status", [101, 204, 304])
    @pytest.mark.parametrize("stream", [False, True])
    def test_status(self, status: int, version: str, method: str, stream: bool) -> None:
        # RFC 9110 §8.6, RFC 9112 §6.1
        http = answering(method, version, "Connection: keep-alive")
        payload = pieces() if stream else "hello"
        response = Response(payload, status, headers={"Content-Length": "5"})
        answer = fields(http.start(response, b""))
        assert answer.keys() & {"content-length", "transfer-encoding"} == set()
        assert (http.sends_payload, http.keep_alive) == (False, True)
        with pytest.raises(RuntimeError, match="outside"):
            http.encode(b"hello")
        assert http.end() == b""

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_reset_content_has_length_zero(self, method: str) -> None:
        # RFC 9110 §15.3.6
        http = answering(method)
        assert fields(http.start(Response("hello", 205), b""))["content-length"] == "0"
        assert not http.sends_payload

    @pytest.mark.parametrize(
        ("response", "name", "value"),
        [
            (Response("hello"), "content-length", "5"),
            (Response(), "content-length", "0"),
            (Response(headers={"Content-Length": "77"}), "content-length", "77"),
            (StreamResponse(pieces(), content_length=77), "content-length", "77"),
            (StreamResponse(pieces()), "transfer-encoding", "chunked"),
            (Response("not here", 404), "content-length", "8"),
        ],
    )
    def test_head_is_told_what_get_would_be(
        self, response: Response, name: str, value: str
    ) -> None:
        http = answering("HEAD")
        assert http.head_only
        assert fields(http.start(response, b""))[name] == value
        assert (http.sends_payload, http.keep_alive) == (False, True)

    def test_head_in_http_1_0_keeps_the_connection(self) -> None:
        http = answering("HEAD", "1.0", "Connection: keep-alive")
        answer = fields(http.start(StreamResponse(pieces()), b""))
        assert answer.keys() & {"content-length", "transfer-encoding"} == set()
        assert (http.sends_payload, answer["connection"]) == (False, "keep-alive")

    def test_connect_is_answered_by_a_tunnel_or_by_content(self) -> None:
        # RFC 9110 §9.3.6
        for status, content in [(200, False), (299, False), (300, True), (405, True)]:
            http = answering("CONNECT", target="b:443")
            answer = fields(http.start(Response("x", status), b""))
            assert ("content-length" in answer, http.sends_payload) == (content, content)
            assert answer["connection"] == "close"


class TestInterim:
    """RFC 9110 §15.2"""

    def test_they_come_before_the_response(self) -> None:
        http = answering()
        early = http.interim(103, Headers({"Link": "</a.css>; rel=preload"}))
        assert early == b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
        assert http.interim(102, Headers()) == b"HTTP/1.1 102 Processing\r\n\r\n"
        assert http.interim(199, Headers()) == b"HTTP/1.1 199 \r\n\r\n"
        http.start(Response(), b"")
        with pytest.raises(RuntimeError, match="before the response"):
            http.interim(103, Headers())
        http.finish()
        with pytest.raises(RuntimeError, match="after the request"):
            http.interim(103, Headers())

    def test_http_1_0_has_none(self) -> None:
        assert answering("GET", "1.0").interim(103, Headers()) == b""

    @pytest.mark.parametrize("status", [99, 101, 200, 404])
    def test_other_statuses_are_refused(self, status: int) -> None:
        with pytest.raises(ValueError, match=str(status)):
            answering().interim(status, Headers())

    @pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding"])
    def test_they_have_no_content(self, name: str) -> None:
        with pytest.raises(ValueError, match="no content"):
            answering().interim(103, Headers({name: "5"}))

    def test_continue_is_sent_once(self) -> None:
        http = answering("POST", "1.1", "Expect: 100-continue", "Content-Length: 5")
        assert http.interim(100, Headers()) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert http.continue_() == b""

    def test_continue_does_not_come_behind_the_response(self) -> None:
        http = answering("POST", "1.1", "Expect: 100-continue", "Content-Length: 5")
        http.start(StreamResponse(pieces()), b"")
        assert http.continue_() == b""


class TestOrder:
    def test_each_request_is_answered_once(self) -> None:
        http = HTTP1(Limits())
        with pytest.raises(RuntimeError, match="no request awaits"):
            http.start(Response(), b"")
        with pytest.raises(RuntimeError, match="not started"):
            http.finish()
        http = answering()
        with pytest.raises(RuntimeError, match="not started"):
            http.finish()
        http.start(Response(), b"")
        with pytest.raises(RuntimeError, match="no request awaits"):
            http.start(Response(), b"")
        http.finish()
        with pytest.raises(RuntimeError, match="not started"):
            http.finish()

    def test_a_response_that_cannot_be_written_down_leaves_room_for_another(self) -> None:
        for bad in (
            Response("x", headers={"X": "y"}),
            StreamResponse(pieces(), headers={"Content-Length": "five"}),
        ):
            http = answering()
            if bad.body:
                bad.headers["Transfer-Encoding"] = "chunked"
            with pytest.raises(FieldError):
                http.start(bad, b"")
            assert fields(http.start(Response("sorry", 500), b""))["content-length"] == "5"
            assert http.keep_alive

    def test_fields_cannot_be_injected(self) -> None:
        for value in ("a\r\nX: b", "a\nb", "a\rb", "a\x00b"):
            with pytest.raises(FieldError):
                Response("x", headers={"X": value})
            with pytest.raises(FieldError):
                answering().interim(103, Headers({"X": value}))


@pytest.mark.parametrize("keep_alive", [True, False])
def test_an_upgrade_is_listed_in_connection(keep_alive: bool) -> None:
    """RFC 9110 §7.8."""
    http = answering("GET", "1.1", *([] if keep_alive else ["Connection: close"]))
    sent = fields(http.start(error_response(UpgradeRequired("websocket")), DATE))
    assert sent["upgrade"] == "websocket"
    assert sent["connection"] == ("upgrade" if keep_alive else "upgrade, close")
