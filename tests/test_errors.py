from __future__ import annotations

import pickle
from typing import Any

import pytest

from resource_server import errors
from resource_server.errors import (
    REASONS,
    BadRequest,
    Disconnected,
    FieldError,
    HandshakeError,
    HTTPError,
    MethodNotAllowed,
    NotFound,
    PatternError,
    ProxyAuthenticationRequired,
    RangeNotSatisfiable,
    RegistrationError,
    ResourceServerError,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
    UpgradeRequired,
    WebSocketClosed,
    checked_field,
    error_class,
)
from resource_server.headers import Headers

STATUSES = [
    400,
    401,
    402,
    403,
    404,
    405,
    406,
    407,
    408,
    409,
    410,
    411,
    412,
    413,
    414,
    415,
    416,
    417,
]
STATUSES += [421, 422, 426, 428, 429, 431, 451, 500, 501, 502, 503, 504, 505, 511]


@pytest.mark.parametrize("status", STATUSES)
def test_every_error_status_has_a_class(status: int) -> None:
    cls = error_class(status)
    assert issubclass(cls, HTTPError)
    assert cls is not HTTPError
    assert cls.status_code == status
    assert cls.__doc__ is not None
    assert str(status) in cls.__doc__
    assert cls.__name__ in (errors.__doc__ or "")


def test_a_status_without_class_is_an_http_error() -> None:
    assert error_class(499) is HTTPError
    error = HTTPError(status_code=499)
    assert (error.status_code, error.reason, error.message) == (499, "Error", "Error")


def test_the_message_is_the_reason_phrase_unless_given() -> None:
    assert NotFound().message == "Not Found"
    assert str(NotFound("no such note")) == "no such note"
    assert NotFound("no such note").reason == "Not Found"
    assert NotFound("").message == ""


def test_an_error_can_have_another_status() -> None:
    error = BadRequest("odd", status_code=418)
    assert error.status_code == 418
    assert BadRequest().status_code == 400


@pytest.mark.parametrize("status", [200, 399, 600, "404"])
def test_a_status_that_is_no_error_is_refused(status: int) -> None:
    with pytest.raises(ValueError, match="400 to 599"):
        HTTPError(status_code=status)


def test_errors_carry_header_lines() -> None:
    assert NotFound(headers={"X-A": "1"}).headers == [("X-A", "1")]
    assert NotFound(headers=[("X-A", "1"), ("X-A", "2")]).headers == [("X-A", "1"), ("X-A", "2")]
    assert NotFound(headers=(line for line in [("X-A", "1")])).headers == [("X-A", "1")]
    cookies = Headers([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
    assert NotFound(headers=cookies).headers == cookies.fields()


def test_errors_refuse_fields_that_may_not_be_sent() -> None:
    with pytest.raises(FieldError):
        NotFound(headers={"X-A": "1\r\nX-B: 2"})
    with pytest.raises(FieldError):
        Unauthorized('Basic realm="a"\n')


def test_errors_bring_the_fields_their_status_demands() -> None:
    assert Unauthorized("Basic").headers == [("WWW-Authenticate", "Basic")]
    assert ProxyAuthenticationRequired("Basic").headers == [("Proxy-Authenticate", "Basic")]
    assert UpgradeRequired("websocket").headers == [("Upgrade", "websocket")]
    refused = MethodNotAllowed(name for name in ("GET", "HEAD"))
    assert refused.headers == [("Allow", "GET, HEAD")]
    assert refused.allowed == ("GET", "HEAD")
    # RFC 9110 §10.2.1: an empty Allow says that no method is allowed.
    assert MethodNotAllowed([]).headers == [("Allow", "")]
    assert RangeNotSatisfiable().headers == []
    assert RangeNotSatisfiable(10).headers == [("Content-Range", "bytes */10")]
    assert TooManyRequests().headers == []
    assert TooManyRequests(3, "slowly").headers == [("Retry-After", "3")]
    assert ServiceUnavailable("later").headers == []
    assert ServiceUnavailable(retry_after=0).headers == [("Retry-After", "0")]


@pytest.mark.parametrize("message", [404, {"code": 7}, b"text", ["a"]])
def test_a_message_is_a_text(message: Any) -> None:
    for cls in (HTTPError, BadRequest):
        with pytest.raises(TypeError, match=r"text for the client.*status_code=.*ErrorResponse"):
            cls(message)


def test_one_allowed_method_may_be_a_str() -> None:
    assert MethodNotAllowed("GET").headers == [("Allow", "GET")]


@pytest.mark.parametrize(
    "challenge",
    [
        "Basic",
        'Basic realm="notes"',
        ' Basic realm="say \\"notes\\"", charset="UTF-8" ',
        "Bearer realm=shop,error = invalid_token",
        'Digest realm="a", qop="auth, auth-int", nonce="=", Basic realm="a"',
        "Negotiate",
        "negotiate oYG2MIGzoAMKAQ==",
        "NTLM, Basic",
    ],
)
def test_a_challenge_is_a_scheme_and_its_parameters(challenge: str) -> None:
    assert Unauthorized(challenge).headers == [("WWW-Authenticate", challenge.strip())]
    assert ProxyAuthenticationRequired(challenge).headers[0][1] == challenge.strip()


@pytest.mark.parametrize(
    "challenge",
    ["", "Please log in", "Login required", "Basic realm=", 'Basic realm="a', "Basic, realm x", 7],
)
def test_what_is_no_challenge_is_refused_with_advice(challenge: Any) -> None:
    for cls in (Unauthorized, ProxyAuthenticationRequired):
        with pytest.raises(FieldError, match=r"Basic realm=.*message"):
            cls(challenge)


@pytest.mark.parametrize(("seconds", "sent"), [(0, "0"), (0.1, "1"), (1.5, "2"), (2.0, "2")])
def test_retry_after_is_rounded_up(seconds: float, sent: str) -> None:
    assert TooManyRequests(seconds).headers == [("Retry-After", sent)]
    assert ServiceUnavailable(retry_after=seconds).headers == [("Retry-After", sent)]


@pytest.mark.parametrize("seconds", [-1, -0.5, float("inf"), float("nan")])
def test_a_time_that_cannot_be_is_refused_as_retry_after(seconds: float) -> None:
    with pytest.raises(ValueError, match="from 0"):
        TooManyRequests(seconds)


@pytest.mark.parametrize("seconds", ["slow down", "5", True])
def test_retry_after_is_a_number(seconds: Any) -> None:
    with pytest.raises(TypeError, match=r"number of seconds.*message="):
        TooManyRequests(seconds)
    with pytest.raises(TypeError, match=r"number of seconds.*message="):
        ServiceUnavailable(retry_after=seconds)


def test_a_subclass_of_an_application_keeps_the_tree_as_it_is() -> None:
    class Vanished(NotFound):
        pass

    assert Vanished().status_code == 404
    assert error_class(404) is NotFound


def test_every_exception_is_also_of_the_standard_kind_it_is_a_case_of() -> None:
    for cls, kind in [
        (PatternError, ValueError),
        (FieldError, ValueError),
        (RegistrationError, TypeError),
        (Disconnected, ConnectionError),
        (WebSocketClosed, Disconnected),
        (HandshakeError, Exception),
        (HTTPError, Exception),
    ]:
        assert issubclass(cls, kind)
        assert issubclass(cls, ResourceServerError)
        assert cls.__name__ in (errors.__doc__ or "")


def test_a_closed_websocket_tells_why() -> None:
    closed = WebSocketClosed(1001, "going away")
    assert (closed.code, closed.reason) == (1001, "going away")
    assert str(closed) == "the WebSocket is closed (1001: going away)"
    copy = pickle.loads(pickle.dumps(closed))
    assert (copy.code, copy.reason, str(copy)) == (1001, "going away", str(closed))
    lost = WebSocketClosed()
    assert (lost.code, lost.reason, str(lost)) == (1006, "", "the WebSocket is closed (1006)")


def test_reasons_are_phrases_of_registered_statuses() -> None:
    assert REASONS[200] == "OK"
    assert REASONS[103] == "Early Hints"
    assert min(REASONS) == 100
    assert max(REASONS) == 511
    assert all(checked_field("X", phrase)[1] == phrase for phrase in REASONS.values())


@pytest.mark.parametrize(
    ("name", "value", "line"),
    [
        ("Name", "value", ("Name", "value")),
        (b"Name", b"caf\xe9", ("Name", "café")),
        ("Name", 12, ("Name", "12")),
        ("Name", " \t value \t", ("Name", "value")),
        ("Name", "a\tb", ("Name", "a\tb")),
        ("Name", "", ("Name", "")),
        ("!#$%&'*+-.^_`|~0aZ", "x", ("!#$%&'*+-.^_`|~0aZ", "x")),
    ],
)
def test_a_valid_field_is_returned_as_text(
    name: str | bytes, value: str | bytes | int, line: tuple[str, str]
) -> None:
    assert checked_field(name, value) == line


@pytest.mark.parametrize(
    "name", ["", " ", "a b", "a:", "a\r\n", "a\n", "\x00", "é", "(a)", b"a\xe9", None, 3]
)
def test_a_name_that_is_no_token_is_refused(name: str) -> None:
    with pytest.raises(FieldError, match="field name"):
        checked_field(name, "x")


@pytest.mark.parametrize("code", [*range(9), *range(10, 32), 127])
def test_a_value_with_a_control_is_refused(code: int) -> None:
    with pytest.raises(FieldError, match="controls"):
        checked_field("Name", f"a{chr(code)}b")
    # At the end as well, where `$` would overlook a line feed.
    with pytest.raises(FieldError, match="controls"):
        checked_field("Name", f"a{chr(code)}")


@pytest.mark.parametrize("value", ["€", "\ud800", "\u2028", "Ā"])
def test_a_value_outside_latin_1_is_refused_with_advice(value: str) -> None:
    with pytest.raises(FieldError, match="quote"):
        checked_field("Name", value)


@pytest.mark.parametrize("value", [None, True, 1.5, ["a"], object()])
def test_a_value_of_another_type_is_refused(value: str) -> None:
    with pytest.raises(FieldError, match="of type"):
        checked_field("Name", value)
