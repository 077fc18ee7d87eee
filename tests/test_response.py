from __future__ import annotations

import http
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from resource_server import response as module
from resource_server.errors import (
    BadRequest,
    FieldError,
    InternalServerError,
    MethodNotAllowed,
    NotFound,
)
from resource_server.headers import Headers
from resource_server.response import (
    ErrorResponse,
    HTMLResponse,
    JsonResponse,
    Redirect,
    Response,
    SerializableResponse,
    TextResponse,
    error_response,
    to_response,
)
from resource_server.streams import StreamResponse


class Source:
    """Pieces that tell whether they were closed."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces = iter(pieces)
        self.closed = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self.pieces)

    def close(self) -> None:
        self.closed += 1


class TestPayloads:
    @pytest.mark.parametrize(
        ("payload", "body", "content_type"),
        [
            (None, b"", ""),
            ("", b"", "text/plain; charset=utf-8"),
            ("é", "é".encode(), "text/plain; charset=utf-8"),
            (b"ab", b"ab", "application/octet-stream"),
            (bytearray(b"ab"), b"ab", "application/octet-stream"),
            (memoryview(b"ab"), b"ab", "application/octet-stream"),
            ({"a": [1, "é"]}, '{"a":[1,"é"]}'.encode(), "application/json"),
            ([], b"[]", "application/json"),
            (type("Name", (str,), {})("ab"), b"ab", "text/plain; charset=utf-8"),
        ],
    )
    def test_whole_ones(self, payload: object, body: bytes, content_type: str) -> None:
        response = Response(payload)
        assert response.status_code == 200
        assert response.payload is payload
        assert response.body == body
        assert type(response.body) is bytes
        assert response.content_type == content_type
        assert response.iterator is None
        assert response.file is None
        lines = f"Content-Type: {content_type}\r\n" if content_type else ""
        assert response.section()[0] == lines.encode()

    @pytest.mark.parametrize(
        "payload", [iter(["a", b"b"]), (p for p in ("a", b"b")), {"a": 0}.keys()]
    )
    def test_iterables_are_streamed(self, payload: Any) -> None:
        response = Response(payload)
        assert response.body is None
        assert response.iterator is not None
        assert b"".join(response.iterator) in (b"ab", b"a")
        assert response.content_type == "application/octet-stream"

    def test_pieces_are_bytes_whatever_is_yielded(self) -> None:
        response = Response(Source("é", b"b", bytearray(b"c"), memoryview(b"d"), b""))
        assert response.iterator is not None
        pieces = list(iter(response.iterator))
        assert pieces == ["é".encode(), b"b", b"c", b"d", b""]
        assert {type(piece) for piece in pieces} == {bytes}

    def test_a_piece_of_another_type_is_an_error_that_names_it(self) -> None:
        response = Response(iter([1]))
        assert response.iterator is not None
        with pytest.raises(TypeError, match="not int"):
            next(response.iterator)

    @pytest.mark.parametrize("payload", [1, 1.5, True, object(), (b"a", b"b"), NotFound()])
    def test_anything_else_is_refused(self, payload: object) -> None:
        with pytest.raises(TypeError, match=type(payload).__name__):
            Response(payload)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_json_has_no_nan(self, value: float) -> None:
        with pytest.raises(ValueError, match="JSON"):
            Response([value])

    def test_a_lone_surrogate_stays_json(self) -> None:
        body = Response(['\ud800"\\', "é"]).body
        assert body is not None
        assert json.loads(body) == ['\ud800"\\', "é"]


class TestStatus:
    @pytest.mark.parametrize("status", [100, 200, 418, 599, 999, http.HTTPStatus.CREATED])
    def test_valid(self, status: int) -> None:
        response = Response(None, status)
        assert response.status_code == status
        assert type(response.status_code) is int

    @pytest.mark.parametrize("status", [99, 1000, 0, -200, "200", 200.0, None, True])
    def test_others_are_refused(self, status: Any) -> None:
        with pytest.raises(ValueError, match="100 to 999"):
            Response(None, status)

    def test_it_is_in_its_text(self) -> None:
        assert repr(Response(None, 404)) == "<Response 404>"
        assert repr(JsonResponse([])) == "<JsonResponse 200>"


class TestHeaders:
    def test_they_hold_the_content_type(self) -> None:
        response = Response("x")
        assert response.headers.fields() == [("Content-Type", "text/plain; charset=utf-8")]
        response.headers["X-A"] = "1"
        assert response.section()[0] == b"Content-Type: text/plain; charset=utf-8\r\nX-A: 1\r\n"
        assert Response().headers.fields() == []

    def test_a_given_content_type_wins_over_the_payload(self) -> None:
        assert Response("x", content_type="text/css").content_type == "text/css"
        assert Response("x", headers={"content-type": "text/css"}).content_type == "text/css"
        response = Response("x", headers={"A": "1"}, content_type="text/css")
        assert response.headers.fields() == [("A", "1"), ("Content-Type", "text/css")]
        assert Response(None, headers={"A": "1"}).headers.fields() == [("A", "1")]

    def test_the_content_type_can_be_set(self) -> None:
        response = Response("x")
        response.content_type = "text/css"
        assert response.section()[0] == b"Content-Type: text/css\r\n"
        response.headers["A"] = "1"
        response.content_type = "text/html"
        assert response.headers["Content-Type"] == response.content_type == "text/html"
        response.content_type = ""
        assert response.headers.fields() == [("A", "1")]
        assert response.content_type == ""

    def test_a_changed_header_does_not_change_other_responses(self) -> None:
        headers = Headers({"A": "1"})
        Response("x", headers=headers).headers["A"] = "2"
        assert headers == {"A": "1"}

    @pytest.mark.parametrize("value", ["text/html\r\nSet-Cookie: a=1", "text/html\n", "\x00", "€"])
    def test_injection_is_refused(self, value: str) -> None:
        with pytest.raises(FieldError):
            Response("x", content_type=value)
        with pytest.raises(FieldError):
            Response("x").content_type = value
        with pytest.raises(FieldError):
            Response("x", headers={"X": value})
        with pytest.raises(FieldError):
            Response("x").headers["X"] = value

    def test_transfer_encoding_is_refused(self) -> None:
        with pytest.raises(FieldError, match="server"):
            Response("x", headers={"transfer-encoding": "chunked"})
        response = Response("x")
        response.headers["Transfer-Encoding"] = "chunked"
        with pytest.raises(FieldError, match="server"):
            response.section()[0]

    def test_framing_and_connection_are_left_to_the_server(self) -> None:
        response = Response(headers={"Content-Length": "5", "A": "1", "Connection": "close"})
        assert response.section()[0] == b"A: 1\r\n"

    @pytest.mark.parametrize(
        ("headers", "wants_close"),
        [
            (None, False),
            ({"A": "1"}, False),
            ({"Connection": "keep-alive"}, False),
            ({"Connection": "Close"}, True),
            ({"Connection": "x, close"}, True),
        ],
    )
    def test_the_application_may_ask_to_close(
        self, headers: dict[str, str] | None, wants_close: bool
    ) -> None:
        assert Response(headers=headers).section()[1] is wants_close

    def test_the_application_may_bring_its_date(self) -> None:
        assert Response().section()[2] is False
        assert Response(headers={"A": "1"}).section()[2] is False
        response = Response(headers={"date": "Sun, 06 Nov 1994 08:49:37 GMT"})
        assert response.section()[2] is True
        assert response.section()[0].startswith(b"date: Sun")

    def test_types_made_at_run_time_fill_no_memory(self) -> None:
        for number in range(1000):
            line = f"Content-Type: text/x-{number}\r\n".encode()
            assert Response("x", content_type=f"text/x-{number}").section()[0] == line
        assert len(module._section_by_type) <= 256


class TestContentLength:
    def test_of_a_whole_body_is_left_to_the_server(self) -> None:
        assert Response("abc").content_length is None

    def test_what_the_application_says(self) -> None:
        assert Response(iter([b"a"]), headers={"Content-Length": "1"}).content_length == 1
        assert Response(headers={"content-length": 7}).content_length == 7
        assert Response(headers={"A": "1"}).content_length is None
        response = Response(iter([b"a"]))
        response.content_length = 1
        assert response.content_length == 1

    @pytest.mark.parametrize("value", ["", "-1", "+1", "1, 1", "0x1", "²"])
    def test_what_is_no_length_is_refused(self, value: str) -> None:
        with pytest.raises(FieldError):
            Response(headers={"Content-Length": value}).content_length  # noqa: B018


class TestClosing:
    def test_iterator_and_file_are_closed_once(self) -> None:
        source, file = Source(b"a"), io.BytesIO()
        response = Response(source)
        response.file = file
        response.close()
        response.close()
        assert source.closed == 1
        assert file.closed
        assert response.iterator is None

    def test_a_generator_that_never_ran_is_closed(self) -> None:
        generator = (piece for piece in [b"a"])
        Response(generator).close()
        assert next(generator, None) is None

    def test_the_file_is_closed_even_if_the_iterator_fails_to(self) -> None:
        class Failing(Source):
            def close(self) -> None:
                raise OSError("no")

        response = Response(Failing())
        response.file = file = io.BytesIO()
        with pytest.raises(OSError, match="no"):
            response.close()
        assert file.closed

    def test_what_cannot_be_closed_is_not(self) -> None:
        Response(iter([b"a"])).close()
        Response("x").close()


class TestCookies:
    def test_each_is_a_line(self) -> None:
        response = Response()
        response.set_cookie("a", "1", max_age=5, http_only=True)
        response.set_cookie("b", "2", path="/x", secure=True, domain="x", expires=0)
        assert response.headers.get_all("Set-Cookie") == [
            "a=1; Max-Age=5; Path=/; HttpOnly; SameSite=Lax",
            "b=2; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Domain=x; Path=/x; Secure; SameSite=Lax",
        ]

    def test_deleting_is_setting_one_that_has_expired(self) -> None:
        response = Response()
        response.delete_cookie("a", path="/x", domain="x.org")
        response.delete_cookie("__Host-b")
        past = "Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
        assert response.headers.get_all("Set-Cookie") == [
            f"a=; {past}; Domain=x.org; Path=/x",
            f"__Host-b=; {past}; Path=/; Secure",
        ]

    def test_injection_is_refused(self) -> None:
        with pytest.raises(FieldError):
            Response().set_cookie("a", "1; Domain=evil")


class TestFamily:
    def test_json(self) -> None:
        for value in ({"a": 1}, [1], "text", None, 3, True):
            response = JsonResponse(value, 201, {"A": "1"})
            assert response.body is not None
            assert json.loads(response.body) == value
            assert response.payload == value
            assert response.status_code == 201
            assert response.headers == {"A": "1", "Content-Type": "application/json"}

    def test_text(self) -> None:
        response = TextResponse("é", 201, {"A": "1"}, compress=True)
        assert response.body == "é".encode()
        assert response.content_type == "text/plain; charset=utf-8"
        assert response.compress

    def test_html(self) -> None:
        response = HTMLResponse("<p>é")
        assert response.body == "<p>é".encode()
        assert response.section()[0] == b"Content-Type: text/html; charset=utf-8\r\n"

    def test_stream(self) -> None:
        response = StreamResponse(
            ["a", b"b"], 206, {"A": "1"}, True, content_type="text/x", content_length=2
        )
        assert response.body is None
        assert response.iterator is not None
        assert list(response.iterator) == [b"a", b"b"]
        assert (response.status_code, response.content_length) == (206, 2)
        assert response.content_type == "text/x"
        assert response.compress
        assert StreamResponse([]).content_type == "application/octet-stream"
        assert not StreamResponse([]).compress

    def test_serializable(self) -> None:
        class Message:
            def dumpb(self) -> bytes:
                return b"\x01\x02"

        message = Message()
        response = SerializableResponse(message, 201)
        assert response.body == b"\x01\x02"
        assert response.payload is message
        assert response.content_type == "application/x-serializable"
        with pytest.raises(TypeError, match="dumpb"):
            SerializableResponse(object())


class TestErrorResponse:
    @pytest.mark.parametrize(
        ("obj", "status", "content"),
        [
            ("no such thing", 400, {"error": "no such thing"}),
            ({"code": 7}, 400, {"code": 7}),
            (ValueError("bad number"), 400, {"error": "bad number"}),
            (ValueError(), 422, {"error": "ValueError"}),
            (ValueError("secret"), 500, {"error": "Internal Server Error"}),
            (ValueError("secret"), 599, {"error": "Server Error"}),
            ("down", 503, {"error": "down"}),
            (["a", 1], 422, ["a", 1]),
            (None, 400, None),
            (3, 400, 3),
            (False, 400, False),
        ],
    )
    def test_content(self, obj: Any, status: int, content: object) -> None:
        response = ErrorResponse(obj, status)
        assert response.status_code == status
        assert response.content_type == "application/json"
        assert response.body is not None
        assert json.loads(response.body) == content
        assert response.payload is obj
        assert response.error is (obj if isinstance(obj, Exception) else None)

    def test_it_is_a_bad_request_unless_told(self) -> None:
        assert ErrorResponse("x").status_code == 400

    def test_an_http_error_brings_its_status_message_and_fields(self) -> None:
        error = MethodNotAllowed(["GET"], "only reading")
        response = ErrorResponse(error, headers={"A": "1"})
        assert response.status_code == 405
        assert response.body == b'{"error":"only reading"}'
        assert response.headers["Allow"] == "GET"
        assert response.headers["A"] == "1"
        assert ErrorResponse(error, headers={"allow": "PUT"}).headers.get_all("Allow") == ["PUT"]

    def test_what_has_no_json_is_refused(self) -> None:
        with pytest.raises(TypeError, match="object"):
            ErrorResponse(object())

    def test_it_can_be_raised(self) -> None:
        with pytest.raises(ErrorResponse) as caught:
            raise ErrorResponse({"code": 7}, 422, {"A": "1"})
        assert isinstance(caught.value, Response)
        assert (caught.value.status_code, caught.value.body) == (422, b'{"code":7}')
        assert caught.value.headers["A"] == "1"
        assert repr(caught.value) == "<ErrorResponse 422>"


class TestRedirect:
    @pytest.mark.parametrize(
        ("location", "sent"),
        [
            ("/a/b?c=d&e#f", "/a/b?c=d&e#f"),
            ("https://user@[::1]:8000/a;b,c!'()*+$~", "https://user@[::1]:8000/a;b,c!'()*+$~"),
            ("/caf\u00e9 bar", "/caf%C3%A9%20bar"),
            ("/a%20b", "/a%20b"),
            ("/100%", "/100%25"),
            ("/%zz%4", "/%25zz%254"),
            ("\\\\evil.org", "%5C%5Cevil.org"),
            ("/\u2028\x85", "/%E2%80%A8%C2%85"),
            ('/"<>^`{|}', "/%22%3C%3E%5E%60%7B%7C%7D"),
        ],
    )
    def test_location(self, location: str, sent: str) -> None:
        response = Redirect(location)
        assert response.status_code == 302
        assert response.headers["Location"] == sent
        assert response.body == b""

    @pytest.mark.parametrize("location", ["/\r\nSet-Cookie: a=1", "/\n", "\x00", "/\t", "/\x7f"])
    def test_control_characters_are_refused(self, location: str) -> None:
        with pytest.raises(FieldError, match="control"):
            Redirect(location)

    @pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
    def test_statuses_that_redirect(self, status: int) -> None:
        assert Redirect("/", status, {"A": "1"}).status_code == status

    @pytest.mark.parametrize("status", [200, 304, 306, 309, 404])
    def test_other_statuses_are_refused(self, status: int) -> None:
        with pytest.raises(ValueError, match="redirection"):
            Redirect("/", status)

    def test_it_can_be_raised(self) -> None:
        with pytest.raises(Redirect) as caught:
            raise Redirect("/login", 303)
        assert isinstance(caught.value, Response)
        assert caught.value.headers["Location"] == "/login"
        assert repr(caught.value) == "<Redirect 303>"


class TestWhatHandlersReturn:
    def test_a_response_stays_itself(self) -> None:
        for response in (Response("x"), Redirect("/")):
            assert to_response(response) is response

    @pytest.mark.parametrize(
        ("result", "status", "body"),
        [
            (None, 204, b""),
            ("a", 200, b"a"),
            (b"a", 200, b"a"),
            (bytearray(b"a"), 200, b"a"),
            ({"a": 1}, 200, b'{"a":1}'),
            ([1], 200, b"[1]"),
            (NotFound("gone"), 404, b"404 Not Found\ngone\n"),
        ],
    )
    def test_simple_values(self, result: object, status: int, body: bytes) -> None:
        response = to_response(result)
        assert (response.status_code, response.body) == (status, body)

    def test_an_iterator_is_streamed(self) -> None:
        response = to_response(piece for piece in ("a", b"b"))
        assert response.iterator is not None
        assert list(response.iterator) == [b"a", b"b"]

    @pytest.mark.parametrize(
        "result", [("a", 200), 3, True, {"a"}, object(), ValueError("x"), Response]
    )
    def test_other_values_are_an_error_that_names_the_type(self, result: object) -> None:
        with pytest.raises(TypeError, match=type(result).__name__):
            to_response(result)


class TestErrorsAsAnswers:
    @pytest.mark.parametrize("accept", [None, "", "*/*", "image/png", '"', "text/*"])
    def test_text_for_a_client_that_does_not_care(self, accept: str | None) -> None:
        response = error_response(NotFound(), accept)
        assert response.status_code == 404
        assert response.content_type == "text/plain; charset=utf-8"
        assert response.body == b"404 Not Found\n"

    def test_json(self) -> None:
        response = error_response(BadRequest('say "please"'), "application/json")
        assert response.content_type == "application/json"
        assert json.loads(response.body or b"") == {
            "status": 400,
            "error": "Bad Request",
            "message": 'say "please"',
        }

    def test_html_is_escaped(self) -> None:
        accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
        response = error_response(BadRequest("<script>\"&'"), accept)
        assert response.content_type == "text/html; charset=utf-8"
        assert response.body is not None
        assert b"<h1>400 Bad Request</h1>" in response.body
        assert b"<p>&lt;script&gt;&quot;&amp;&#x27;</p>" in response.body
        assert b"<script>" not in response.body

    @pytest.mark.parametrize("accept", [None, "text/html", "application/json"])
    def test_every_form_is_safe_from_sniffing_and_known_to_caches(self, accept: str | None) -> None:
        error = MethodNotAllowed(["GET", "HEAD"])
        response = error_response(error, accept)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Vary"] == "Accept"
        assert response.headers["Allow"] == "GET, HEAD"
        assert "X-Content-Type-Options" not in Headers(error.headers)

    def test_fields_that_belong_to_others_do_not_break_the_answer(self) -> None:
        fields = {"Transfer-Encoding": "chunked", "Content-Type": "image/png", "Vary": "Cookie"}
        response = error_response(InternalServerError(headers=fields))
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.headers["Vary"] == "Cookie, Accept"
        assert b"Transfer-Encoding" not in response.section()[0]

    @pytest.mark.parametrize("accept", ["text/plain", "text/html", "application/json"])
    def test_a_lone_surrogate_in_the_message_is_answered_all_the_same(self, accept: str) -> None:
        assert error_response(BadRequest("\ud800"), accept).body
