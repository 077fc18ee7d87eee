from __future__ import annotations

import time

import pytest

from resource_server import (
    Headers,
    PreconditionFailed,
    Request,
    Resource,
    Response,
    Router,
    get,
)
from resource_server.preconditions import conditional, failed_condition, range_applies

TAG = '"xyzzy"'
DATE = "Sat, 29 Oct 1994 19:43:31 GMT"
BEFORE = "Sat, 29 Oct 1994 19:43:30 GMT"
AFTER = "Sat, 29 Oct 1994 19:43:32 GMT"
RFC_850 = "Saturday, 29-Oct-94 19:43:31 GMT"
ASCTIME = "Sat Oct 29 19:43:31 1994"
MODIFIED = 783459811.0

MATCH, NONE_MATCH = "If-Match", "If-None-Match"
SINCE, UNMODIFIED = "If-Modified-Since", "If-Unmodified-Since"


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, None),
        # RFC 9110 §13.1.1: strong comparison.
        ({MATCH: TAG}, None),
        ({MATCH: '"xyzzy", "r2d2xxxx", "c3piozzzz"'}, None),
        ({MATCH: '"r2d2xxxx",\t"xyzzy" ,,'}, None),
        ({MATCH: "*"}, None),
        ({MATCH: '"other"'}, 412),
        ({MATCH: 'W/"xyzzy"'}, 412),
        ({MATCH: "xyzzy"}, 412),
        ({MATCH: ""}, 412),
        ({MATCH: '"xyzzy'}, 412),
        # §13.1.2: weak comparison.
        ({NONE_MATCH: TAG}, 304),
        ({NONE_MATCH: 'W/"xyzzy"'}, 304),
        ({NONE_MATCH: 'W/"xyzzy", W/"r2d2xxxx", W/"c3piozzzz"'}, 304),
        ({NONE_MATCH: '"r2d2xxxx", "xyzzy"'}, 304),
        ({NONE_MATCH: "*"}, 304),
        ({NONE_MATCH: '"other"'}, None),
        ({NONE_MATCH: 'w/"xyzzy'}, None),
        ({NONE_MATCH: "xyzzy"}, None),
        # §13.1.3
        ({SINCE: DATE}, 304),
        ({SINCE: AFTER}, 304),
        ({SINCE: BEFORE}, None),
        ({SINCE: RFC_850}, 304),
        ({SINCE: ASCTIME}, 304),
        ({SINCE: "yesterday"}, None),
        ({SINCE: f"{DATE}, {DATE}"}, None),
        # §13.1.4
        ({UNMODIFIED: DATE}, None),
        ({UNMODIFIED: AFTER}, None),
        ({UNMODIFIED: BEFORE}, 412),
        ({UNMODIFIED: "yesterday"}, None),
        # §13.2.2: the order of precedence.
        ({MATCH: TAG, UNMODIFIED: BEFORE}, None),
        ({MATCH: '"other"', UNMODIFIED: AFTER}, 412),
        ({NONE_MATCH: '"other"', SINCE: AFTER}, None),
        ({NONE_MATCH: TAG, SINCE: BEFORE}, 304),
        ({MATCH: TAG, NONE_MATCH: TAG}, 304),
        ({MATCH: '"other"', NONE_MATCH: TAG}, 412),
        ({MATCH: TAG, SINCE: AFTER}, 304),
        ({UNMODIFIED: DATE, NONE_MATCH: TAG}, 304),
        ({UNMODIFIED: BEFORE, NONE_MATCH: TAG}, 412),
        ({UNMODIFIED: DATE, SINCE: DATE}, 304),
    ],
)
def test_conditions_of_get(fields: dict[str, str], status: int | None) -> None:
    for method in ("GET", "HEAD"):
        assert failed_condition(method, Headers(fields), TAG, MODIFIED) == status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({MATCH: TAG}, None),
        ({MATCH: '"other"'}, 412),
        ({NONE_MATCH: TAG}, 412),
        ({NONE_MATCH: "*"}, 412),
        ({NONE_MATCH: '"other"'}, None),
        ({SINCE: AFTER}, None),
        ({UNMODIFIED: BEFORE}, 412),
    ],
)
def test_conditions_of_what_changes_things(fields: dict[str, str], status: int | None) -> None:
    assert failed_condition("PUT", Headers(fields), TAG, MODIFIED) == status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({MATCH: "*"}, 412),
        ({MATCH: TAG}, 412),
        ({NONE_MATCH: "*"}, None),
        ({NONE_MATCH: TAG}, None),
        ({UNMODIFIED: BEFORE}, None),
    ],
)
def test_conditions_on_what_does_not_exist(fields: dict[str, str], status: int | None) -> None:
    assert failed_condition("PUT", Headers(fields), TAG, MODIFIED, exists=False) == status


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({MATCH: TAG}, 412),
        ({MATCH: "*"}, None),
        ({NONE_MATCH: TAG}, None),
        ({SINCE: AFTER}, None),
        ({UNMODIFIED: BEFORE}, None),
    ],
)
def test_without_validators(fields: dict[str, str], status: int | None) -> None:
    assert failed_condition("GET", Headers(fields), None, None) == status


def test_a_weak_tag_matches_weakly_only() -> None:
    assert failed_condition("GET", Headers({NONE_MATCH: TAG}), "W/" + TAG, None) == 304
    assert failed_condition("GET", Headers({MATCH: "W/" + TAG}), "W/" + TAG, None) == 412


def test_several_lines_are_one_list() -> None:
    fields = Headers([(NONE_MATCH, '"a"'), (NONE_MATCH, TAG)])
    assert failed_condition("GET", fields, TAG, None) == 304


def test_fractions_of_a_second_are_not_compared() -> None:
    assert failed_condition("GET", Headers({SINCE: DATE}), None, MODIFIED + 0.9) == 304
    assert failed_condition("GET", Headers({UNMODIFIED: DATE}), None, MODIFIED + 0.9) is None


@pytest.mark.parametrize(
    ("value", "applies"),
    [
        (None, True),
        (TAG, True),
        ('"other"', False),
        ('W/"xyzzy"', False),
        (DATE, True),
        (RFC_850, True),
        (BEFORE, False),
        (AFTER, False),
        ("yesterday", False),
        ("*", False),
        ("", False),
    ],
)
def test_if_range(value: str | None, applies: bool) -> None:
    fields = Headers() if value is None else Headers({"If-Range": value})
    assert range_applies(fields, TAG, MODIFIED) is applies


def test_if_range_needs_a_strong_validator() -> None:
    assert not range_applies(Headers({"If-Range": 'W/"a"'}), 'W/"a"', None)
    assert not range_applies(Headers({"If-Range": DATE}), TAG, None)


def test_the_work_is_linear() -> None:
    hostile = Headers({NONE_MATCH: '"' * 60_001 + 'W/"' * 20_000, MATCH: 'W/"a' * 20_000})
    started = time.process_time()
    failed_condition("GET", hostile, TAG, None)
    assert time.process_time() - started < 5


class TestConditional:
    def response(self, **fields: str) -> Response:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        return Response("content", headers=headers)

    def ask(self, **fields: str) -> Request:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        return Request(("127.0.0.1", 1), "GET", "/", headers=headers)

    def test_same_content_is_left_out(self) -> None:
        response = self.response(
            ETag=TAG, Last_Modified=DATE, Vary="Accept", Cache_Control="no-cache", Set_Cookie="a=b"
        )
        answer = conditional(self.ask(If_None_Match=TAG), response)
        assert answer.status_code == 304
        assert answer.body == b""
        assert dict(answer.headers) == {
            "ETag": TAG,
            "Vary": "Accept",
            "Cache-Control": "no-cache",
            "Set-Cookie": "a=b",
        }

    def test_a_date_stays_where_there_is_no_tag(self) -> None:
        answer = conditional(self.ask(If_Modified_Since=DATE), self.response(Last_Modified=DATE))
        assert answer.status_code == 304
        assert dict(answer.headers) == {"Last-Modified": DATE}

    def test_other_content_is_sent(self) -> None:
        response = self.response(ETag=TAG)
        assert conditional(self.ask(If_None_Match='"other"'), response) is response

    def test_false_condition_is_raised_and_the_response_closed(self) -> None:
        closed = []

        class Source:
            def __iter__(self) -> Source:
                return self

            def __next__(self) -> bytes:
                return b"x"

            def close(self) -> None:
                closed.append(1)

        with pytest.raises(PreconditionFailed):
            conditional(self.ask(If_Match=TAG), Response(Source()))
        assert closed

    def test_an_error_has_no_conditions(self) -> None:
        response = Response("gone", 410, {"ETag": TAG})
        assert conditional(self.ask(If_None_Match=TAG), response) is response

    def test_in_a_handler(self) -> None:
        class Board(Resource):
            @get("/")
            def show(self, request: Request) -> Response:
                return conditional(request, Response("a", headers={"ETag": TAG}))

        router = Router()
        router.register_routes(Board())
        assert router.dispatch(self.ask()).status_code == 200
        assert router.dispatch(self.ask(If_None_Match=TAG)).status_code == 304
        assert router.dispatch(self.ask(If_Match='"other"')).status_code == 412
