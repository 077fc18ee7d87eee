"""What a response gives of its content."""

from __future__ import annotations

from typing import Any

import pytest

from resource_server import ErrorResponse, Headers, JsonResponse, SerializableResponse
from resource_server.client import ClientResponse, Outgoing, ProtocolError, TimeoutError  # noqa: A004
from resource_server.client.answer import response_class, response_of_error
from resource_server.errors import HTTPError, MethodNotAllowed, TooManyRequests


def received(status: int, kind: str, body: bytes, *fields: tuple[str, str]) -> ClientResponse:
    headers = Headers([("Content-Type", kind), *fields])
    request = Outgoing("GET", "http://h/x", Headers())
    return response_class(status, kind).received(status, headers, body, request, 0.5)


class TestContent:
    @pytest.mark.parametrize(
        "kind", ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"]
    )
    def test_json(self, kind: str) -> None:
        response = received(200, kind, b'{"a": 1}')
        assert isinstance(response, JsonResponse)
        assert response.payload == {"a": 1}
        response.payload = {"b": 2}
        assert response.payload == {"b": 2}

    def test_nesting_without_end_is_a_protocol_error(self) -> None:
        with pytest.raises(ProtocolError, match="not JSON"):
            received(200, "application/json", b"[" * 100_000).json()

    def test_a_serializable(self) -> None:
        serializable = pytest.importorskip("resource_server.serializable", exc_type=ImportError)

        class Point(serializable.Serializable, type_id=4711):  # type: ignore[misc,name-defined,call-arg]
            x: int

        response = received(200, "application/x-serializable", Point(3).dumpb())
        assert isinstance(response, SerializableResponse)
        assert response.payload == Point(3)
        failed = received(409, "application/x-serializable", Point(3).dumpb())
        assert failed.payload == Point(3)
        with pytest.raises(ProtocolError, match="no Serializable"):
            _ = received(200, "application/x-serializable", b"\xc1").payload

    def test_a_charset_that_cannot_be_read_is_utf_8(self) -> None:
        assert received(200, 'text/plain; charset="', "ü\udcff".encode("utf-8", "replace")).text
        assert received(200, "text/plain", b"\xff").text == "\ufffd"


class TestErrors:
    @pytest.mark.parametrize(
        ("kind", "body", "message"),
        [
            ("application/json", b'{"message": "m", "error": "e"}', "m"),
            ("application/json", b'{"error": "e"}', "e"),
            ("application/json", b'{"error": 1}', "phrase"),
            ("application/json", b"[]", "phrase"),
            ("application/json", b"{", "phrase"),
            ("text/html", b"<h1>", "phrase"),
        ],
    )
    def test_the_message(self, kind: str, body: bytes, message: str) -> None:
        response = received(405, kind, body, ("Allow", "GET"))
        response.reason = "phrase"
        assert isinstance(response, ErrorResponse)
        assert isinstance(response.error, MethodNotAllowed)
        assert response.error.message == str(response) == message
        assert ("Allow", "GET") in response.error.headers
        assert response.error is response.error
        with pytest.raises(MethodNotAllowed):
            response.raise_for_status()

    def test_without_a_phrase_it_is_that_of_the_status(self) -> None:
        assert str(received(429, "text/plain", b"")) == "Too Many Requests"
        assert isinstance(received(429, "", b"").error, TooManyRequests)

    def test_a_status_beyond_all(self) -> None:
        error: Any = received(799, "text/plain", b"").error
        assert type(error) is HTTPError

    def test_instead_of_a_response(self) -> None:
        late = response_of_error(TimeoutError("late", method="GET", url="http://h/"))
        assert (late.status_code, late.url) == (504, "http://h/")
        assert late.payload == {"error": "GET http://h/: late"}
        other = response_of_error(KeyError(), "PUT", "http://h/")
        assert (other.status_code, other.request.method) == (502, "PUT")
        assert other.payload == {"error": "KeyError"}
