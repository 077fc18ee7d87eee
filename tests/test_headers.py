from __future__ import annotations

import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server.errors import FieldError
from resource_server.headers import (
    Headers,
    accepts,
    accepts_encoding,
    format_cookie,
    format_date,
    parse_cookies,
    parse_date,
    parse_list,
    parse_parameters,
    parse_quality,
    preferred_encodings,
)

BLOCK = (
    b"\r\nHost: example.org\r\nAccept: text/html\r\nX-Empty:\r\nX-Space: \t a  b \t "
    b"\r\naccept:text/plain\r\nX-Latin: caf\xe9\r\nCookie: a=1\r\ncookie: b=2"
)

NAMES = st.text(st.sampled_from("abcXYZ-019!"), min_size=1)
VALUES = st.text(st.sampled_from([chr(code) for code in (9, *range(32, 127), *range(128, 256))]))


class TestParsing:
    def test_lines_come_in_order_without_the_space_around_values(self) -> None:
        assert Headers.parse(BLOCK).fields() == [
            ("Host", "example.org"),
            ("Accept", "text/html"),
            ("X-Empty", ""),
            ("X-Space", "a  b"),
            ("accept", "text/plain"),
            ("X-Latin", "café"),
            ("Cookie", "a=1"),
            ("cookie", "b=2"),
        ]

    def test_an_empty_block_has_no_fields(self) -> None:
        headers = Headers.parse(b"")
        assert len(headers) == 0
        assert not headers
        assert headers.encode() == b""

    def test_values_with_colons_stay_whole(self) -> None:
        assert Headers.parse(b"\r\nHost: a:80\r\nX: :")["host"] == "a:80"
        assert Headers.parse(b"\r\nHost: a:80\r\nX: :")["x"] == ":"

    @given(st.lists(st.tuples(NAMES, VALUES)))
    def test_what_is_encoded_is_parsed_back(self, lines: list[tuple[str, str]]) -> None:
        headers = Headers(lines)
        again = Headers.parse((b"\r\n" + headers.encode())[:-2])
        assert again.fields() == headers.fields()
        assert again == headers

    def test_a_subclass_parses_to_itself(self) -> None:
        class Own(Headers):
            pass

        assert type(Own.parse(b"")) is Own


class TestMaking:
    @pytest.mark.parametrize(
        "items",
        [
            {"A": "1", "B": "2"},
            {b"A": b"1", b"B": b"2"},
            {"A": 1, "B": [b"2"]},
            [("A", "1"), ("B", 2)],
            iter([("A", "1"), (b"B", b"2")]),
            Headers({"A": "1", "B": "2"}),
        ],
    )
    def test_of_mappings_pairs_and_headers(self, items: dict[str, str]) -> None:
        assert Headers(items).fields() == [("A", "1"), ("B", "2")]

    def test_a_list_of_values_makes_a_line_of_each(self) -> None:
        values: dict[str, Sequence[str | bytes | int]] = {"A": ["1", 2, b"3"], "B": ("4",)}
        headers = Headers(values)
        assert headers.fields() == [("A", "1"), ("A", "2"), ("A", "3"), ("B", "4")]

    def test_a_copy_changes_alone(self) -> None:
        first = Headers({"A": "1"})
        second = first.copy()
        second["A"] = "2"
        assert (first["A"], second["A"]) == ("1", "2")

    def test_any_mapping_will_do(self) -> None:
        class Own(Mapping[str, str]):
            def __getitem__(self, key: str) -> str:
                return "1"

            def __iter__(self):  # type: ignore[no-untyped-def]
                return iter(["A"])

            def __len__(self) -> int:
                return 1

        assert Headers(Own()).fields() == [("A", "1")]


class TestLookingUp:
    headers = Headers.parse(BLOCK)

    def test_text_names_have_no_case(self) -> None:
        assert self.headers["HOST"] == self.headers["host"] == "example.org"
        assert self.headers.get("HOST") == "example.org"

    def test_lines_of_one_name_are_one_list(self) -> None:
        assert self.headers["Accept"] == "text/html, text/plain"
        assert self.headers.get_all("ACCEPT") == ["text/html", "text/plain"]

    def test_cookie_lines_are_joined_as_cookies_are(self) -> None:
        assert self.headers["Cookie"] == "a=1; b=2"

    def test_set_cookie_lines_are_never_joined(self) -> None:
        headers = Headers([("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])
        assert headers["set-cookie"] == "a=1"
        assert headers.get_all("set-cookie") == ["a=1", "b=2"]

    def test_bytes_names_give_the_list_of_raw_values(self) -> None:
        assert self.headers[b"accept"] == [b"text/html", b"text/plain"]
        assert self.headers[b"X-LATIN"] == [b"caf\xe9"]
        assert self.headers.get(b"accept") == [b"text/html", b"text/plain"]

    def test_what_is_absent(self) -> None:
        keys: list[Any] = ["no", b"no"]
        for key in keys:
            with pytest.raises(KeyError, match="no"):
                self.headers[key]
            assert key not in self.headers
        assert self.headers.get("no") is None
        assert self.headers.get("no", "x") == "x"
        assert self.headers.get(b"no") is None
        assert self.headers.get(b"no", [b"x"]) == [b"x"]
        assert self.headers.get_all("no") == []
        assert 3 not in self.headers  # type: ignore[comparison-overlap]

    def test_what_is_there(self) -> None:
        keys: list[Any] = ["ACCEPT", b"accept"]
        assert all(key in self.headers for key in keys)

    def test_it_is_a_mapping_of_the_distinct_names(self) -> None:
        assert isinstance(self.headers, MutableMapping)
        assert list(self.headers) == ["Host", "Accept", "X-Empty", "X-Space", "X-Latin", "Cookie"]
        assert len(self.headers) == 6
        assert dict(self.headers)["Accept"] == "text/html, text/plain"

    def test_its_text_shows_every_line_and_no_control(self) -> None:
        assert repr(Headers({"A": "é\x80"})) == "Headers([('A', '\\xe9\\x80')])"


class TestChanging:
    def test_setting_replaces_all_lines_in_the_place_of_the_first(self) -> None:
        headers = Headers([("A", "1"), ("B", "2"), ("a", "3"), ("A", "4")])
        headers["a"] = "5"
        assert headers.fields() == [("a", "5"), ("B", "2")]
        headers["b"] = 6
        assert headers.fields() == [("a", "5"), ("b", "6")]
        headers["c"] = b"7"
        assert headers["C"] == "7"

    def test_adding_appends_a_line(self) -> None:
        headers = Headers({"A": "1"})
        assert headers["a"] == "1"
        headers.add("a", "2")
        assert headers["a"] == "1, 2"

    def test_deleting_takes_every_line(self) -> None:
        headers = Headers([("A", "1"), ("B", "2"), ("a", "3")])
        del headers["A"]
        assert headers.fields() == [("B", "2")]
        with pytest.raises(KeyError):
            del headers["A"]

    def test_the_methods_of_a_mapping(self) -> None:
        headers = Headers({"A": "1"})
        assert headers.setdefault("a", "9") == "1"
        assert headers.setdefault("B", "2") == "2"
        headers.update({"a": "3", "C": "4"})
        assert headers.pop("b") == "2"
        assert headers.pop("b", None) is None
        assert headers.fields() == [("a", "3"), ("C", "4")]
        headers.clear()
        assert headers.fields() == []

    @pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b=1", "a\n", "\x00", "€", None, ["a"]])
    def test_a_value_that_may_not_be_sent_is_refused(self, value: str) -> None:
        headers = Headers()
        with pytest.raises(FieldError):
            headers["A"] = value
        with pytest.raises(FieldError):
            headers.add("A", value)
        with pytest.raises(FieldError):
            headers.setdefault("A", value)
        with pytest.raises(FieldError):
            headers.update({"A": value})
        assert headers.fields() == []

    def test_a_name_that_may_not_be_sent_is_refused(self) -> None:
        with pytest.raises(FieldError):
            Headers({"A\r\nB": "1"})


class TestComparing:
    def test_case_of_names_and_order_of_different_names_do_not_count(self) -> None:
        assert Headers([("A", "1"), ("B", "2")]) == Headers([("b", "2"), ("a", "1")])
        assert Headers([("A", "1"), ("A", "2")]) != Headers([("A", "2"), ("A", "1")])
        assert Headers({"A": "1"}) == {"a": "1"}

    def test_with_what_is_no_headers(self) -> None:
        assert Headers({"A": "1"}) != {"A": None}
        assert Headers({"A": "1"}) != 3
        with pytest.raises(TypeError):
            hash(Headers())


def test_encoded_lines_end_with_crlf() -> None:
    assert Headers({"A": "1", "B": "é"}).encode() == b"A: 1\r\nB: \xe9\r\n"


class TestLists:
    @pytest.mark.parametrize(
        ("value", "items"),
        [
            ("", []),
            (" , ,", []),
            ("a", ["a"]),
            ("a, b ,\tc", ["a", "b", "c"]),
            ('"a,b", c', ['"a,b"', "c"]),
            (r'"a\",b",c', [r'"a\",b"', "c"]),
            ('x="a,b";y, , c', ['x="a,b";y', "c"]),
            ('""', ['""']),
            ('"a",', ['"a"']),
            (',"a"', ['"a"']),
        ],
    )
    def test_elements(self, value: str, items: list[str]) -> None:
        assert parse_list(value) == items

    @pytest.mark.parametrize("value", ['"', 'a, "b', '"a\\"', 'a"'])
    def test_a_quote_that_stays_open_is_refused(self, value: str) -> None:
        with pytest.raises(FieldError):
            parse_list(value)


class TestParameters:
    @pytest.mark.parametrize(
        ("value", "leading", "parameters"),
        [
            ("text/html", "text/html", {}),
            (" Text/HTML ", "text/html", {}),
            ("text/html;charset=UTF-8", "text/html", {"charset": "UTF-8"}),
            ('text/html ; Charset="utf-8"', "text/html", {"charset": "utf-8"}),
            (r'form-data; name="a\"b;c"; x=y', "form-data", {"name": 'a"b;c', "x": "y"}),
            ("a/b;;; c=d ; ", "a/b", {"c": "d"}),
            ('a;b=""', "a", {"b": ""}),
            ("*/*;q=0.1", "*/*", {"q": "0.1"}),
        ],
    )
    def test_values(self, value: str, leading: str, parameters: dict[str, str]) -> None:
        assert parse_parameters(value) == (leading, parameters)

    @pytest.mark.parametrize(
        "value",
        [
            "",
            ";a=b",
            "/html",
            "text/",
            "text/html charset=utf-8",
            "a;b",
            "a;b=",
            "a;b =c",
            "a;b= c",
            'a;b="c',
            'a;b="c"d',
            "a;b=c;B=d",
            "a/b/c",
            "a,b",
        ],
    )
    def test_malformed_ones_are_refused(self, value: str) -> None:
        with pytest.raises(FieldError):
            parse_parameters(value)


class TestQuality:
    def test_best_first_and_equals_in_order(self) -> None:
        assert parse_quality("a;q=0.5, b, c;q=0, d;Q=1.000, e;q=0.5") == [
            ("b", 1.0),
            ("d", 1.0),
            ("a", 0.5),
            ("e", 0.5),
            ("c", 0.0),
        ]

    def test_parameters_before_the_weight_belong_to_the_name(self) -> None:
        assert parse_quality("text/html;Level=1;q=0.3;ext=1") == [("text/html;level=1", 0.3)]

    @pytest.mark.parametrize("weight", ["1.1", "-1", "0.1234", "2", "nan", "1e0", ".5", "١", "+1"])
    def test_members_with_a_malformed_weight_are_left_out(self, weight: str) -> None:
        assert parse_quality(f"a;q={weight}, b;q=0.1") == [("b", 0.1)]

    def test_malformed_members_are_left_out(self) -> None:
        assert parse_quality("a b, =, ;q=1, c") == [("c", 1.0)]


class TestAccepts:
    OFFERS = ("application/json", "text/html", "text/plain")

    @pytest.mark.parametrize(
        ("value", "best"),
        [
            (None, "application/json"),
            ("", "application/json"),
            ("*/*", "application/json"),
            ("text/*", "text/html"),
            ("text/plain, text/*;q=0.9", "text/plain"),
            ("text/html;q=0.1, text/*;q=0.5", "text/plain"),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
            ("*/*, application/json;q=0, text/html;q=0", "text/plain"),
            ("image/png", None),
            ("text/html;q=0", None),
            ('"', None),
            ("TEXT/HTML", "text/html"),
            ("text/plain;q=0.5, text/plain;q=0.1, text/html;q=0.3", "text/plain"),
        ],
    )
    def test_best_offer(self, value: str | None, best: str | None) -> None:
        assert accepts(value, self.OFFERS) == best

    def test_a_range_with_parameters_is_the_most_specific(self) -> None:
        offers = ("text/html", "text/html;level=1")
        assert accepts("text/html;level=1, text/html;q=0.7", offers) == "text/html;level=1"
        assert accepts("text/html;level=2", offers) is None

    def test_without_offers_nothing_is_best(self) -> None:
        assert accepts("*/*", ()) is None


@pytest.mark.parametrize(
    ("value", "coding", "allowed"),
    [
        (None, "gzip", True),
        (None, "identity", True),
        ("", "gzip", False),
        ("", "identity", True),
        ("gzip", "GZIP", True),
        ("x-gzip", "gzip", True),
        ("gzip;q=0", "gzip", False),
        ("gzip;q=0, x-gzip", "gzip", False),
        ("*", "gzip", True),
        ("*;q=0", "gzip", False),
        ("*;q=0", "identity", False),
        ("*;q=0, identity", "identity", True),
        ("identity;q=0, *", "identity", False),
        ("gzip;q=0, *", "gzip", False),
        ("br, deflate", "gzip", False),
        ("br", "identity", True),
        ("gzip;q=0.001", "gzip", True),
        ('gzip, "', "gzip", False),
        ('"', "identity", True),
    ],
)
def test_accepted_codings(value: str | None, coding: str, allowed: bool) -> None:
    assert accepts_encoding(value, coding) is allowed


@pytest.mark.parametrize(
    ("value", "preferred"),
    [
        ("", []),
        ("gzip, br", ["br", "gzip"]),
        ("gzip, br;q=0.9", ["gzip", "br"]),
        ("*", ["zstd", "br", "gzip"]),
        ("*, br;q=0", ["zstd", "gzip"]),
        ("x-gzip;q=0.1", ["gzip"]),
        ("gzip;q=0.4, br;q=0.5, identity;q=0.5", ["br"]),
        ("identity;q=0", []),
        ('gzip, "', []),
        ("gzip, " + "x, " * 700 + "y", []),
    ],
)
def test_preferred_encodings(value: str, preferred: list[str]) -> None:
    assert preferred_encodings(value, ["zstd", "br", "gzip"]) == preferred


class TestReadingCookies:
    @pytest.mark.parametrize(
        ("value", "cookies"),
        [
            ("", {}),
            ("a=1", {"a": "1"}),
            ("a=1; b=2;c=3 ;", {"a": "1", "b": "2", "c": "3"}),
            ("a=1; a=2", {"a": "1"}),
            ('a="x y"', {"a": "x y"}),
            ('a="', {"a": '"'}),
            ("a=b=c", {"a": "b=c"}),
            ("a=", {"a": ""}),
            ("alone; =nameless; a=1", {"a": "1"}),
            ("a[b]=1; c:d=2", {"a[b]": "1", "c:d": "2"}),
            (r'a="\073\"b"', {"a": r"\073\"b"}),
            ("a=1;\tb=2", {"a": "1", "b": "2"}),
            ('a b=1; "a"=1; a,b=1; \xe9=1; c=2', {"c": "2"}),
            ("a=" + "café €".encode().decode("latin-1"), {"a": "café €"}),
            ("a=caf\xe9; b=€", {"a": "café", "b": "€"}),
        ],
    )
    def test_pairs(self, value: str, cookies: dict[str, str]) -> None:
        assert parse_cookies(value) == cookies

    @pytest.mark.parametrize("value", ["a=\x00", "a=1\r\nb", "a=\x7f", "a\x01=1"])
    def test_control_characters_are_refused(self, value: str) -> None:
        with pytest.raises(FieldError):
            parse_cookies(value)


class TestMakingCookies:
    def test_defaults_are_the_safe_ones_that_work_over_http(self) -> None:
        assert format_cookie("a", "1") == "a=1; Path=/; SameSite=Lax"

    def test_every_attribute(self) -> None:
        assert format_cookie(
            "a",
            '"1"',
            max_age=60,
            expires=0,
            domain=".example.org",
            path="/x",
            secure=True,
            http_only=True,
            same_site="none",
        ) == (
            'a="1"; Max-Age=60; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Domain=.example.org;'
            " Path=/x; Secure; HttpOnly; SameSite=None"
        )

    def test_attributes_can_be_left_out(self) -> None:
        assert format_cookie("a", "", path=None, same_site=None) == "a="

    @pytest.mark.parametrize("name", ["", "a b", "a;", "a=b", "a\r\n", "é", None])
    def test_bad_names_are_refused(self, name: str) -> None:
        with pytest.raises(FieldError, match="cookie name"):
            format_cookie(name, "1")

    @pytest.mark.parametrize(
        "value", ["a b", "a;b", "a,b", 'a"b', '"', "a\\b", "a\r\nb", "a\n", "\x00", "é", None, 1]
    )
    def test_bad_values_are_refused(self, value: str) -> None:
        with pytest.raises(FieldError, match="the cookie a"):
            format_cookie("a", value)

    @pytest.mark.parametrize(
        "domain", ["a;b", "a b", "-a", "a-", "a..b", "a\n", "é.org", "a" * 300]
    )
    def test_bad_domains_are_refused(self, domain: str) -> None:
        with pytest.raises(FieldError, match="domain"):
            format_cookie("a", "1", domain=domain)

    @pytest.mark.parametrize("path", ["a", "/;", "/\r\n", "/\n", "/é"])
    def test_bad_paths_are_refused(self, path: str) -> None:
        with pytest.raises(FieldError, match="path"):
            format_cookie("a", "1", path=path)

    @pytest.mark.parametrize(
        ("max_age", "seconds"),
        [
            (timedelta(days=1), 86400),
            (timedelta(milliseconds=1), 1),
            (timedelta(0), 0),
            (timedelta(seconds=-5), -5),
        ],
    )
    def test_an_age_may_be_a_timedelta(self, max_age: timedelta, seconds: int) -> None:
        cookie = format_cookie("a", "1", max_age=max_age)
        assert cookie == f"a=1; Max-Age={seconds}; Path=/; SameSite=Lax"

    @pytest.mark.parametrize(
        "expires",
        [
            784111777,
            datetime(1994, 11, 6, 8, 49, 37),  # without a zone it is UTC
            datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC),
            datetime(1994, 11, 6, 10, 49, 37, tzinfo=timezone(timedelta(hours=2))),
        ],
    )
    def test_it_may_expire_at_a_datetime(self, expires: float | datetime) -> None:
        cookie = format_cookie("a", "1", expires=expires)
        assert cookie == "a=1; Expires=Sun, 06 Nov 1994 08:49:37 GMT; Path=/; SameSite=Lax"

    @pytest.mark.parametrize("expires", ["Sun, 06 Nov 1994 08:49:37 GMT", timedelta(1)])
    def test_what_is_no_time_is_refused(self, expires: Any) -> None:
        with pytest.raises(FieldError, match="expires is in seconds"):
            format_cookie("a", "1", expires=expires)

    @pytest.mark.parametrize("max_age", [1.5, True, "1", "1; Domain=x"])
    def test_bad_ages_are_refused(self, max_age: int) -> None:
        with pytest.raises(FieldError, match="max_age"):
            format_cookie("a", "1", max_age=max_age)

    def test_bad_same_site_is_refused(self) -> None:
        with pytest.raises(FieldError, match="same_site"):
            format_cookie("a", "1", same_site="Lax; Domain=x")

    def test_what_browsers_would_drop_is_refused(self) -> None:
        with pytest.raises(FieldError, match="SameSite=None"):
            format_cookie("a", "1", same_site="None")
        with pytest.raises(FieldError, match="4096"):
            format_cookie("a", "1" * 4096)
        with pytest.raises(FieldError, match="__Secure-"):
            format_cookie("__Secure-a", "1")
        for name in ("__Host-a", "__host-a"):
            with pytest.raises(FieldError, match="__Host-"):
                format_cookie(name, "1")
            with pytest.raises(FieldError, match="__Host-"):
                format_cookie(name, "1", secure=True, path="/x")
            with pytest.raises(FieldError, match="__Host-"):
                format_cookie(name, "1", secure=True, domain="x")
            assert format_cookie(name, "1", secure=True).startswith(name)
        assert format_cookie("__Secure-a", "1", secure=True, domain="x")


class TestDates:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 784111777),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 784111777),
            ("Sun Nov  6 08:49:37 1994", 784111777),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
            ("Tue, 29 Feb 2000 00:00:00 GMT", 951782400),
            ("Wed, 31 Dec 2008 23:59:60 GMT", 1230768000),
            ("Mon, 01 Jan 0001 00:00:00 GMT", -62135596800),
        ],
    )
    def test_the_three_formats(self, text: str, seconds: float) -> None:
        assert parse_date(text) == seconds

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "now",
            "Sun, 6 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 +0000",
            "sun, 06 nov 1994 08:49:37 gmt",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Thu, 29 Feb 1900 00:00:00 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 0000 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT\n",
            "Sun, ٠٦ Nov 1994 08:49:37 GMT",
        ],
    )
    def test_anything_else_is_no_date(self, text: str) -> None:
        assert parse_date(text) is None

    def test_two_digits_are_a_year_at_most_fifty_years_ahead(self) -> None:
        now = time.gmtime().tm_year
        for ahead in (0, 49, 50, 51, 99):
            year = now + ahead
            meant = year if ahead <= 50 else year - 100
            assert parse_date(f"Monday, 15-Jun-{year % 100:02} 12:00:00 GMT") == parse_date(
                f"Mon, 15 Jun {meant} 12:00:00 GMT"
            )

    def test_fractions_are_cut_off(self) -> None:
        assert format_date(784111777.9) == "Sun, 06 Nov 1994 08:49:37 GMT"

    @pytest.mark.parametrize("timestamp", [1e18, -1e12, 1e300, 253402300800])
    def test_a_time_that_has_no_date_is_refused(self, timestamp: float) -> None:
        with pytest.raises(ValueError, match=r"time|year"):
            format_date(timestamp)

    @given(st.integers(-62135596800, 253402300799))
    def test_what_is_written_is_read_back(self, seconds: int) -> None:
        assert parse_date(format_date(seconds)) == seconds


@pytest.mark.parametrize(
    ("parse", "attack"),
    [
        (parse_list, '"' + "a" * 200_000),
        (parse_list, '"' + "\\" * 200_001),
        (parse_list, '",' * 100_001),
        (parse_list, "," * 200_000),
        (parse_parameters, "a/b" + ";" * 200_000 + "x"),
        (parse_parameters, "a/b" + " ;" * 100_000 + " "),
        (parse_parameters, 'a;b="' + "\\" * 200_001),
        (parse_parameters, "a;" + "b" * 200_000),
        (parse_quality, "a;q=0.1," * 25_000),
        (parse_quality, 'a;b="' + ',"' * 100_000),
        (parse_cookies, "a=b;" * 50_000),
        (parse_cookies, 'a="' + "\\" * 200_000 + '"'),
        (parse_date, "Sun" * 70_000),
        (lambda text: Headers.parse(text.encode()), "\r\nA:" + " " * 200_000),
        (lambda text: Headers.parse(text.encode()), "\r\nA: b" + " " * 200_000 + "\r\nB: c"),
        (lambda text: Headers.parse(text.encode())["a"], "\r\nA: b" * 50_000),
    ],
)
def test_work_grows_with_the_length_alone(parse: Callable[[str], object], attack: str) -> None:
    started = time.process_time()
    try:
        parse(attack)
    except FieldError:
        pass
    # A quadratic parser takes minutes for these.
    assert time.process_time() - started < 3
