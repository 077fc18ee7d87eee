from __future__ import annotations

import codecs
import io
from typing import IO, TYPE_CHECKING, Any

import pytest

from resource_server.charsets import CHARSETS
from resource_server.errors import BadRequest, ContentTooLarge, UnsupportedMediaType
from resource_server.headers import Headers
from resource_server.query import MAX_PARAMETERS, parse_query, percent_decode
from resource_server.request import (
    Request,
    register_message_codec,
)

if TYPE_CHECKING:
    from resource_server.request import Closable
    from resource_server.websockets import Connection, Route

CLIENT = ("192.0.2.1", 50000)


def received(
    target: str = "/", fields: bytes = b"", version: int = 11, host: str = "example.org"
) -> Request:
    return Request.received(CLIENT, "GET", target, fields, version, host)


def posted(body: bytes, content_type: str = "", headers: dict[str, str] | None = None) -> Request:
    fields = dict(headers or {})
    if content_type:
        fields["Content-Type"] = content_type
    return Request(CLIENT, "POST", "/", headers=fields, stream=io.BytesIO(body))


class TestReceived:
    def test_what_was_sent(self) -> None:
        request = received("/a%20b/c?x=1&y=2", b"\r\nHost: example.org\r\nX: y")
        assert request.client_address == CLIENT
        assert request.remote == "192.0.2.1"
        assert request.method == "GET"
        assert request.target == "/a%20b/c?x=1&y=2"
        assert request.raw_path == "/a%20b/c"
        assert request.path == "/a b/c"
        assert request.query_string == "x=1&y=2"
        assert request.params == {"x": ["1"], "y": ["2"]}
        assert request.query == {"x": "1", "y": "2"}
        assert request.fragment == ""
        assert request.headers["x"] == "y"
        assert request.headers[b"X"] == [b"y"]
        assert request.host == "example.org"
        assert request.version == 11

    def test_what_it_has_before_anybody_sets_it(self) -> None:
        request = received()
        assert request.matches == {}
        assert request.scheme == "http"
        assert request.trailers == Headers()
        assert request.exchange is None
        assert request.stream.read() == b""
        assert request.server_address == ("", 0)

    def test_what_is_computed_is_kept(self) -> None:
        request = received("/?a=1", b"\r\nCookie: a=1")
        for name in ("headers", "params", "query", "cookies", "matches", "state", "trailers"):
            assert getattr(request, name) is getattr(request, name)

    def test_the_version_as_text(self) -> None:
        assert received(version=10).http_version == "1.0"
        assert received(version=11).http_version == "1.1"

    def test_the_state_takes_anything(self) -> None:
        request = received()
        request.state.user = "ann"
        assert request.state.user == "ann"

    def test_an_unknown_attribute_is_an_error_of_the_program(self) -> None:
        with pytest.raises(AttributeError, match="nothing"):
            received().nothing  # type: ignore[attr-defined]  # noqa: B018
        with pytest.raises(AttributeError):
            received().nothing = 1  # type: ignore[attr-defined]

    def test_its_text_shows_no_control_character(self) -> None:
        request = Request.received(CLIENT, "GE\x1bT", "/\x1b[31m'\r\n", b"", 11, "")
        assert repr(request) == r"<Request GE\x1bT /\x1b[31m'\r\n>"

    @pytest.mark.parametrize("address", [None, "", b"", ()])
    def test_a_client_without_host_is_nobody(self, address: Any) -> None:
        assert Request.received(address, "GET", "/", b"", 11, "").remote == ""


class TestByHand:
    def test_the_seven_arguments_of_the_reference(self) -> None:
        stream = io.BytesIO(b"body")
        request = Request(CLIENT, "PUT", "/a", {"b": "c"}, "d", {b"E": b"f"}, stream)
        assert request.client_address == CLIENT
        assert request.method == "PUT"
        assert request.path == "/a"
        assert request.params == {"b": ["c"]}
        assert request.fragment == "d"
        assert request.headers[b"e"] == [b"f"]
        assert request.stream is stream

    def test_the_path_brings_query_and_fragment(self) -> None:
        request = Request(CLIENT, "GET", "/a?b=c&b=d#e?f")
        assert (request.path, request.fragment) == ("/a", "e?f")
        assert request.params == {"b": ["c", "d"]}
        assert request.target == "/a?b=c&b=d"

    def test_what_is_given_wins_over_the_path(self) -> None:
        request = Request(CLIENT, "GET", "/a?b=c#d", {"x": ["1", "2"]}, "y")
        assert (request.params, request.fragment) == ({"x": ["1", "2"]}, "y")

    def test_empty_params_and_fragment_leave_those_of_the_path(self) -> None:
        request = Request(CLIENT, "GET", "/x?a=1#top", {}, "", {}, io.BytesIO())
        assert request.params == {"a": ["1"]}
        assert (request.query_string, request.fragment) == ("a=1", "top")
        assert Request(CLIENT, "GET", "/x", {}).params == {}

    def test_given_params_become_the_query(self) -> None:
        request = Request(CLIENT, "GET", "/a", {"b c": ["1", "&"]})
        assert request.query_string == "b+c=1&b+c=%26"
        assert Request(CLIENT, "GET", "/a", {}).target == "/a"

    def test_characters_that_no_uri_has_are_escaped(self) -> None:
        request = Request(CLIENT, "GET", "/café \\x?q=ü")
        assert request.target == "/caf%C3%A9%20%5Cx?q=%C3%BC"
        assert (request.path, request.params) == ("/café \\x", {"q": ["ü"]})

    def test_headers_are_taken_as_they_are(self) -> None:
        headers = Headers({"A": "1"})
        assert Request(CLIENT, "GET", "/", headers=headers).headers is headers

    def test_the_host_is_that_of_the_headers(self) -> None:
        assert Request(CLIENT, "GET", "/", headers={"Host": "a:80"}).host == "a:80"
        assert Request(CLIENT, "GET", "/").host == ""

    @pytest.mark.parametrize(
        "host", ["a b", "a/b", "a@b", "a?", "a#", "a\\b", "[::1", "[g]", "a:b"]
    )
    def test_a_malformed_host_is_refused(self, host: str) -> None:
        request = Request(CLIENT, "GET", "/", headers={"Host": host})
        with pytest.raises(BadRequest):
            request.url  # noqa: B018

    @pytest.mark.parametrize("host", ["[::1]:8000", "[v1.a:b]", "a-b.c_d", "127.0.0.1:", "%41"])
    def test_a_valid_host_is_accepted(self, host: str) -> None:
        assert Request(CLIENT, "GET", "/", headers={"Host": host}).host == host


class TestPath:
    @pytest.mark.parametrize(
        ("target", "path"),
        [("*", "*"), ("/%C3%A9", "/é"), ("/%2F", "//"), ("/a+b", "/a+b"), ("/%00", "/\x00")],
    )
    def test_decoding(self, target: str, path: str) -> None:
        assert received(target).path == path

    @pytest.mark.parametrize("target", ["/%", "/%4", "/%zz", "/%ff", "/%C3", "/%ED%A0%80", "/é"])
    def test_a_malformed_path_is_a_bad_request(self, target: str) -> None:
        with pytest.raises(BadRequest):
            received(target).path  # noqa: B018

    def test_components_can_be_decoded_alone(self) -> None:
        assert percent_decode("a%2Fb") == "a/b"
        assert percent_decode("%25%34%31") == "%41"


class TestQuery:
    @pytest.mark.parametrize(
        ("query", "params"),
        [
            ("", {}),
            ("&&", {}),
            ("a", {"a": [""]}),
            ("a=", {"a": [""]}),
            ("=b", {"": ["b"]}),
            ("a=1&a=2&b=3", {"a": ["1", "2"], "b": ["3"]}),
            ("a=b=c", {"a": ["b=c"]}),
            ("a=1;b=2", {"a": ["1;b=2"]}),
            ("a+b=c+d", {"a b": ["c d"]}),
            ("a%2Bb=%26%3D", {"a+b": ["&="]}),
            ("a=?&b=/", {"a": ["?"], "b": ["/"]}),
            ("%C3%A9=%E2%82%AC", {"é": ["€"]}),
        ],
    )
    def test_pairs(self, query: str, params: dict[str, list[str]]) -> None:
        assert received(f"/?{query}").params == params

    @pytest.mark.parametrize("query", ["a=%", "%zz=1", "a=%ff", "a=é"])
    def test_a_malformed_query_is_a_bad_request(self, query: str) -> None:
        with pytest.raises(BadRequest):
            received(f"/?{query}").params  # noqa: B018

    def test_the_number_of_pairs_is_bounded(self) -> None:
        assert len(parse_query("&".join(f"a{n}" for n in range(MAX_PARAMETERS)))) == MAX_PARAMETERS
        with pytest.raises(BadRequest):
            parse_query("a&" * MAX_PARAMETERS)


class TestFields:
    def test_cookies(self) -> None:
        assert received(fields=b"\r\nCookie: a=1; b=2").cookies == {"a": "1", "b": "2"}
        assert received().cookies == {}

    def test_malformed_cookies_are_a_bad_request(self) -> None:
        with pytest.raises(BadRequest, match="Cookie"):
            received(fields=b"\r\nCookie: a=\x7f").cookies  # noqa: B018

    def test_a_cookie_of_somebody_else_costs_no_other(self) -> None:
        fields = "\r\nCookie: a b=1; ü=2; c=Grüße".encode()
        assert received(fields=fields).cookies == {"c": "Grüße"}

    @pytest.mark.parametrize(
        ("value", "content_type", "charset"),
        [
            ("", "", "utf-8"),
            ("Text/HTML", "text/html", "utf-8"),
            ('text/html ; charset="UTF-8"', "text/html", "utf-8"),
            ("text/html;charset=ISO-8859-1", "text/html", "iso-8859-1"),
            ("text/html;a=b", "text/html", "utf-8"),
        ],
    )
    def test_content_type_and_charset(self, value: str, content_type: str, charset: str) -> None:
        request = posted(b"", value)
        assert (request.content_type, request.charset) == (content_type, charset)

    @pytest.mark.parametrize(
        "parameter",
        [
            "charset=klingon",
            "charset=hex",
            "charset=utf-7",
            "charset=idna",
            "charset",
            "charset=a b",
        ],
    )
    def test_an_unknown_charset_is_a_bad_request(self, parameter: str) -> None:
        with pytest.raises(BadRequest):
            posted(b"", f"text/plain; {parameter}").charset  # noqa: B018

    def test_every_known_charset_is_one_that_python_decodes(self) -> None:
        for name in CHARSETS:
            assert isinstance(codecs.decode(b"", name), str)

    def test_content_length(self) -> None:
        assert received().content_length is None
        assert received(fields=b"\r\nContent-Length: 12").content_length == 12

    @pytest.mark.parametrize("value", ["+1", "-1", "0x1", "1_0", "1, 1", "", "²", "9" * 20])
    def test_a_malformed_content_length_is_a_bad_request(self, value: str) -> None:
        with pytest.raises(BadRequest):
            posted(b"", headers={"Content-Length": value}).content_length  # noqa: B018

    @pytest.mark.parametrize(
        ("fields", "version", "offered"),
        [
            (b"", 11, ()),
            (b"\r\nConnection: Upgrade\r\nUpgrade: WebSocket", 11, ("websocket",)),
            (b"\r\nConnection: a, upgrade\r\nUpgrade: b/1, c", 11, ("b/1", "c")),
            (b"\r\nConnection: Upgrade\r\nUpgrade: websocket", 10, ()),
            (b"\r\nConnection: keep-alive\r\nUpgrade: websocket", 11, ()),
            (b"\r\nUpgrade: websocket", 11, ()),
            (b"\r\nConnection: Upgrade", 11, ()),
            (b'\r\nConnection: Upgrade\r\nUpgrade: "', 11, ()),
        ],
    )
    def test_upgrade(self, fields: bytes, version: int, offered: tuple[str, ...]) -> None:
        assert received(fields=fields, version=version).upgrade == offered


class TestURL:
    def test_of_the_host_that_was_asked(self) -> None:
        assert received("/a?b").url == "http://example.org/a?b"
        assert received("*").url == "http://example.org"
        request = received()
        request.scheme = "https"
        assert request.url == "https://example.org/"

    @pytest.mark.parametrize(
        ("address", "scheme", "url"),
        [
            (("127.0.0.1", 8000), "http", "http://127.0.0.1:8000/"),
            (("127.0.0.1", 80), "http", "http://127.0.0.1/"),
            (("127.0.0.1", 80), "https", "https://127.0.0.1:80/"),
            (("::1", 443, 0, 0), "https", "https://[::1]/"),
            (("fe80::1%eth0", 1, 0, 2), "http", "http://[fe80::1]:1/"),
            (("", 0), "http", "http://localhost/"),
            ("/run/socket", "http", "http://localhost/"),
        ],
    )
    def test_of_the_server_when_no_host_was_sent(self, address: Any, scheme: str, url: str) -> None:
        request = received(host="")
        request.server_address = address
        request.scheme = scheme
        assert request.url == url


class TestBody:
    def test_it_is_read_once(self) -> None:
        request = posted(b"abc")
        assert request.body() == b"abc"
        assert request.body() == b"abc"
        assert request.stream.read() == b""
        assert received().body() == b""

    def test_the_body_that_the_engine_gives(self) -> None:
        request = received()
        request.hold(b"abc")
        assert request.stream.read(1) == b"a"
        assert (request.body(), request.stream.read(), request.text()) == (b"abc", b"bc", "abc")

    def test_text(self) -> None:
        assert posted("é".encode()).text() == "é"
        assert posted(b"\xe9", "text/plain; charset=latin1").text() == "é"
        with pytest.raises(BadRequest):
            posted(b"\xe9").text()

    @pytest.mark.parametrize(
        ("body", "value"),
        [
            (b'{"a": [1, 2.5, null, true, "\xc3\xa9"]}', {"a": [1, 2.5, None, True, "é"]}),
            (b"\xef\xbb\xbf3", 3),
            (b" null ", None),
        ],
    )
    def test_json(self, body: bytes, value: object) -> None:
        request = posted(body)
        assert request.json() == value
        assert request.json() is request.json()

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"", "empty"),
            (b'{"a":\n x}', "line 2, column 2"),
            (b"nan", "line 1, column 1"),
            (b"[NaN]", "NaN"),
            (b"-Infinity", "Infinity"),
            (b'"\xff"', "byte 1"),
            (b"\xff\xfe1\x00", "UTF-8"),
            (b"1" * 5000, "malformed"),
            (b"[" * 100_000, "deeply"),
            (b'{"a":' * 100_000, "deeply"),
            (b"1 2", "column 3"),
        ],
    )
    def test_what_is_not_json_is_a_bad_request_with_a_reason(
        self, body: bytes, reason: str
    ) -> None:
        with pytest.raises(BadRequest, match=reason):
            posted(body).json()

    def test_form(self) -> None:
        request = posted("a=1&a=é&b=%C3%BC+".encode(), "application/x-www-form-urlencoded")
        assert request.form() == {"a": ["1", "é"], "b": ["ü "]}
        assert request.form() is request.form()

    @pytest.mark.parametrize("body", [b"a=\xff", b"a=%ff", b"a=%"])
    def test_a_malformed_form_is_a_bad_request(self, body: bytes) -> None:
        with pytest.raises(BadRequest):
            posted(body, "application/x-www-form-urlencoded; charset=x").form()

    def test_a_form_beyond_its_bounds_is_too_large(self) -> None:
        body = b"a=1&" * 1000
        for bounds in ({}, {"max_parts": 10_000, "max_field_bytes": 3999}, {"max_bytes": 3999}):
            with pytest.raises(ContentTooLarge):
                posted(body, "application/x-www-form-urlencoded").form(**bounds)
        form = posted(body, "application/x-www-form-urlencoded").form(max_parts=1001)
        assert form == {"a": ["1"] * 1000}
        assert form.entries == [("a", "1")] * 1000

    def test_a_form_that_was_too_long_stays_so(self) -> None:
        request = posted(b"a=1", "application/x-www-form-urlencoded")
        for bounds in ({"max_field_bytes": 2}, {}):
            with pytest.raises(ContentTooLarge):
                request.form(**bounds)

    @pytest.mark.parametrize(
        "content_type", ["", "text/plain", "application/x-www-form-urlencoded, text/plain"]
    )
    def test_a_form_of_another_type_is_unsupported(self, content_type: str) -> None:
        with pytest.raises(UnsupportedMediaType):
            posted(b"a=1", content_type).form()

    def test_message_is_decoded_by_the_codec_of_its_type(self) -> None:
        register_message_codec("Application/X-Number", int)
        assert posted(b"12", "application/x-number;a=b").message() == 12
        with pytest.raises(BadRequest, match=r"^malformed message$"):
            posted(b"x", "application/x-number").message()
        with pytest.raises(UnsupportedMediaType):
            posted(b"12", "application/x-unheard-of").message()


class Exchange:
    def __init__(self) -> None:
        self.gone = False
        self.sent: list[tuple[int, list[tuple[str, str]]]] = []

    def disconnected(self) -> bool:
        return self.gone

    def send_interim(self, status_code: int, headers: Headers) -> None:
        self.sent.append((status_code, headers.fields()))

    def keep(self, resource: Closable) -> None:
        raise AssertionError("nobody keeps anything here")

    def temporary_file(self) -> IO[bytes]:
        raise AssertionError("nobody stores anything here")

    def open_websocket(self, request: Request, route: Route) -> Connection:
        raise AssertionError("nobody asks for a WebSocket here")


class TestConnection:
    def test_without_one_nobody_left(self) -> None:
        assert received().disconnected is False

    def test_it_is_asked_each_time(self) -> None:
        request = received()
        request.exchange = exchange = Exchange()
        assert request.disconnected is False
        exchange.gone = True
        assert request.disconnected is True

    def test_interim_responses_go_out_at_once(self) -> None:
        request = received()
        request.exchange = exchange = Exchange()
        request.send_interim(103, {"Link": "</a.css>; rel=preload"})
        request.send_interim(102)
        assert exchange.sent == [(103, [("Link", "</a.css>; rel=preload")]), (102, [])]

    def test_interim_responses_are_not_for_http_1_0_and_not_without_connection(self) -> None:
        request = received(version=10)
        request.exchange = exchange = Exchange()
        request.send_interim(103)
        assert exchange.sent == []
        received().send_interim(103)

    @pytest.mark.parametrize("status", [99, 101, 200])
    def test_other_statuses_are_refused(self, status: int) -> None:
        with pytest.raises(ValueError, match="interim"):
            received().send_interim(status)
