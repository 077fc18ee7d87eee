"""RFC 9112 §2.2, §2.3, §3: request lines, and what comes before them."""

from __future__ import annotations

import pytest

from resource_server.protocol.http1 import HTTP1
from resource_server.protocol.limits import Limits
from tests.protocol.feeding import CLIENT, NEXT, feed, head, outcome_of, refusal

TCHAR = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def test_a_simple_request() -> None:
    request = outcome_of(head(line="GET /a/b?x=1&y=%20 HTTP/1.1")).request
    assert (request.method, request.target, request.version) == ("GET", "/a/b?x=1&y=%20", 11)
    assert request.host == "a.example"
    assert request.fields == [("Host", "a.example")]
    assert request.body == b""
    assert request.trailers is None


@pytest.mark.parametrize(
    "method", ["HEAD", "PATCH", "get", "BREW", "M-SEARCH", "a" * 300, "!#$%&'*+-.^_`|~"]
)
def test_any_token_is_a_method_and_case_matters(method: str) -> None:
    assert outcome_of(head(line=f"{method} / HTTP/1.1")).request.method == method


@pytest.mark.parametrize("byte", range(256))
def test_a_method_is_a_token(byte: int) -> None:
    data = head(line=b"G" + bytes([byte]) + b"T / HTTP/1.1")
    if byte in TCHAR:
        assert outcome_of(data).request.method == f"G{chr(byte)}T"
    else:
        assert refusal(data) == 400


@pytest.mark.parametrize("byte", range(256))
def test_a_target_is_visible_ascii_without_fragment(byte: int) -> None:
    data = head(line=b"GET /a" + bytes([byte]) + b"b HTTP/1.1")
    if 0x21 <= byte <= 0x7E and byte != ord("#"):
        assert outcome_of(data).request.target == f"/a{chr(byte)}b"
    else:
        assert refusal(data) == 400


@pytest.mark.parametrize(
    "line",
    [
        "",
        "GET",
        "GET /",
        "GET / ",
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET\t/\tHTTP/1.1",
        "GET\x0b/\x0cHTTP/1.1",
        "GET /\tHTTP/1.1",
        "/ HTTP/1.1",
        "GET HTTP/1.1",
        "GET  HTTP/1.1",
        "\ufeff".encode().decode("latin-1") + "GET / HTTP/1.1",
    ],
)
def test_a_request_line_is_three_words_with_one_space_between(line: str) -> None:
    if line:
        assert refusal(head(line=line)) == 400
    else:
        assert refusal(b"Host: a\r\n\r\n") == 400


@pytest.mark.parametrize(
    ("version", "status"),
    [
        ("HTTP/0.9", 505),
        ("HTTP/2.0", 505),
        ("HTTP/3.1", 505),
        ("HTTP/9.9", 505),
        ("HTTP/1", 400),
        ("HTTP/2", 400),
        ("HTTP/1.", 400),
        ("HTTP/1.10", 400),
        ("HTTP/01.1", 400),
        ("HTTP/1.1.1", 400),
        ("HTTP/1,1", 400),
        ("HTTP/-1.1", 400),
        ("HTTP/1.x", 400),
        ("HTTP/1.1\x00", 400),
        ("HTTP/1.\xb2", 400),
        ("http/1.1", 400),
        ("Http/1.1", 400),
        ("HTTP 1.1", 400),
        ("HTTPS/1.1", 400),
        ("ICY/1.1", 400),
        ("1.1", 400),
    ],
)
def test_other_versions_are_refused(version: str, status: int) -> None:
    assert refusal(head(line=f"GET / {version}")) == status


def test_the_preface_of_http_2_is_told_so() -> None:
    assert refusal(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == 505


@pytest.mark.parametrize("minor", range(1, 10))
def test_a_higher_minor_version_is_treated_as_1_1(minor: int) -> None:
    # RFC 9110 §2.5
    request = outcome_of(head(line=f"GET / HTTP/1.{minor}")).request
    assert (request.version, request.keep_alive) == (11, True)
    assert refusal(head(line=f"GET / HTTP/1.{minor}", host="")) == 400
    assert refusal(head("Transfer-Encoding: gzip", line=f"GET / HTTP/1.{minor}")) == 501


class TestTargets:
    """RFC 9112 §3.2"""

    @pytest.mark.parametrize(
        "target",
        ["/", "//", "//evil.example/", "/%2F..//.", "/?", "/?a=?/:@", "/:80", "/*", '/"<>\\^`{|}'],
    )
    def test_origin_form(self, target: str) -> None:
        request = outcome_of(head(line=f"GET {target} HTTP/1.1")).request
        assert (request.target, request.host) == (target, "a.example")

    @pytest.mark.parametrize(
        ("target", "path", "host"),
        [
            ("http://b.example/x?y", "/x?y", "b.example"),
            ("http://b.example:8080/", "/", "b.example:8080"),
            ("http://b.example:/", "/", "b.example:"),
            ("HTTP://B.Example", "/", "B.Example"),
            ("http://b.example?x=/", "/?x=/", "b.example"),
            ("http://[::1]:80/a", "/a", "[::1]:80"),
            ("http://b.example/http://c.example/", "/http://c.example/", "b.example"),
            ("http://b.example//", "//", "b.example"),
        ],
    )
    def test_absolute_form_takes_the_place_of_host(self, target: str, path: str, host: str) -> None:
        for line in (f"GET {target} HTTP/1.1", f"GET {target} HTTP/1.0"):
            request = outcome_of(head(line=line)).request
            assert (request.target, request.host) == (path, host)

    def test_absolute_form_does_without_host_in_http_1_0_only(self) -> None:
        request = outcome_of(head(line="GET http://b/ HTTP/1.0", host="")).request
        assert request.host == "b"
        assert refusal(head(line="GET http://b/ HTTP/1.1", host="")) == 400
        assert refusal(head(line="GET http://b/ HTTP/1.1", host="a b")) == 400

    @pytest.mark.parametrize("scheme", ["https", "HTTPS"])
    def test_an_https_url_is_for_tls_connections(self, scheme: str) -> None:
        # RFC 9110 §7.4
        data = head(line=f"GET {scheme}://b.example/x HTTP/1.1")
        assert refusal(data) == 421
        http = HTTP1(Limits(), secure=True)
        http.receive(data)
        request = http.next_request(CLIENT)
        assert request is not None
        assert (request.target, request.host) == ("/x", "b.example")

    def test_absolute_form_does_not_outlast_its_request(self) -> None:
        data = head(line="GET http://b/ HTTP/1.1") + head()
        assert [request.host for request in outcome_of(data).requests] == ["b", "a.example"]

    @pytest.mark.parametrize(
        "target",
        [
            "index.html",
            "a/b",
            "?x",
            "http:",
            "http:/",
            "http:/a",
            "http:a",
            "http://",
            "http:///a",
            "http://?a",
            "http://:80/",
            "http://user@b/",
            "http://user:secret@b/",
            "http://b:x/",
            "http://b:65536/",
            "http://b:-1/",
            "http://b\\@c/",
            "http://b%/",
            "http://[::1/",
            "http://::1/",
            "http://[::1]x/",
            "http://[1.2.3.4]/",
            "ftp://b/",
            "javascript:alert(1)",
            "data:,",
            "b.example:80",
            "*",
            "**",
        ],
    )
    def test_what_is_none_of_the_forms(self, target: str) -> None:
        assert refusal(head(line=f"GET {target} HTTP/1.1")) == 400

    def test_asterisk_form_is_for_options_only(self) -> None:
        request = outcome_of(head(line="OPTIONS * HTTP/1.1")).request
        assert (request.method, request.target, request.host) == ("OPTIONS", "*", "a.example")
        for method in ("GET", "HEAD", "POST", "options", "CONNECT"):
            assert refusal(head(line=f"{method} * HTTP/1.1")) == 400

    def test_options_for_a_url_without_path_is_for_the_server(self) -> None:
        # RFC 9112 §3.2.4
        for target, path in [("http://b", "*"), ("http://b/", "/"), ("http://b?x", "/?x")]:
            request = outcome_of(head(line=f"OPTIONS {target} HTTP/1.1")).request
            assert (request.target, request.host) == (path, "b")

    @pytest.mark.parametrize("target", ["b.example:443", "[::1]:8080", "192.0.2.1:80"])
    def test_authority_form_is_for_connect(self, target: str) -> None:
        request = outcome_of(head(line=f"CONNECT {target} HTTP/1.1")).request
        assert (request.method, request.target, request.host) == ("CONNECT", target, target)

    @pytest.mark.parametrize(
        "target",
        [
            "/",
            "b",
            "b:",
            ":80",
            "b:0",
            "b:00",
            "b:65536",
            "b:x",
            "http://b:80/",
            "u@b:80",
            "b:80/",
            "[b]:80",
        ],
    )
    def test_connect_takes_a_host_and_a_port(self, target: str) -> None:
        # RFC 9110 §9.3.6
        assert refusal(head(line=f"CONNECT {target} HTTP/1.1")) == 400

    def test_nothing_behind_connect_is_a_request(self) -> None:
        data = head("Connection: keep-alive", line="CONNECT b:443 HTTP/1.1") + NEXT
        outcome = feed([data])
        assert [request.method for request in outcome.requests] == ["CONNECT"]
        assert outcome.closed


class TestBeforeTheRequest:
    """RFC 9112 §2.2"""

    @pytest.mark.parametrize("count", range(5))
    def test_empty_lines_are_ignored(self, count: int) -> None:
        assert outcome_of(b"\r\n" * count + head()).request.method == "GET"

    def test_empty_lines_between_requests_are_ignored(self) -> None:
        data = b"\r\n\r\n\r\n\r\n".join([head()] * 3)
        assert len(outcome_of(data).requests) == 3

    def test_empty_lines_are_bounded(self) -> None:
        assert refusal(b"\r\n" * 5 + head()) == 400
        assert refusal(b"\r\n" * 5) == 400
        assert refusal(b"\r\n" * 3 + head(), Limits(empty_lines=2)) == 400

    @pytest.mark.parametrize(
        "start", [b"\n", b"\r\r\n", b"\n\r\n", b"\r\n\n", b"\r\n\r", b"\r\n ", b"\t\r\n", b"\0"]
    )
    def test_nothing_else_comes_before_a_request(self, start: bytes) -> None:
        assert refusal(start + head()) == 400


class TestLimits:
    def test_a_request_line_may_be_as_long_as_its_limit(self) -> None:
        limits = Limits(request_line=40)
        target = "/" + "a" * (40 - len("GET / HTTP/1.1"))
        assert outcome_of(head(line=f"GET {target} HTTP/1.1"), limits).request.target == target
        assert refusal(head(line=f"GET {target}a HTTP/1.1"), limits) == 414
        assert refusal(head(line=f"GET {target}{target} HTTP/1.1"), limits) == 414

    def test_the_limit_counts_also_for_what_is_taken_as_http_1_1(self) -> None:
        limits = Limits(request_line=20)
        assert outcome_of(head(line="GET /aaaaaa HTTP/1.2"), limits).request.version == 11
        assert refusal(head(line="GET /aaaaaaa HTTP/1.2"), limits) == 414

    def test_the_first_fault_is_the_one_told(self) -> None:
        limits = Limits(request_line=20)
        assert refusal(b"GET /\x01" + b"a" * 30 + b" HTTP/1.1\r\n\r\n", limits) == 400
        assert refusal(b"GET /" + b"a" * 30 + b"\x01 HTTP/1.1\r\n\r\n", limits) == 414
        assert refusal(b"GET /" + b"a" * 15 + b"\n", limits) == 400
        assert refusal(b"GET /" + b"a" * 17 + b"\n", limits) == 414

    def test_an_endless_request_line_is_refused_before_its_end(self) -> None:
        for start in (b"", b"GET ", b"GET /"):
            assert feed([start + b"A" * 8195]).error == 414
        assert feed([b"GET /" + b"a" * 8180]).error is None

    def test_8000_bytes_are_taken_by_default(self) -> None:
        # RFC 9112 §3
        target = "/" + "a" * (8000 - len("GET / HTTP/1.1"))
        assert feed([head(line=f"GET {target} HTTP/1.1")]).request.target == target


class TestPartialHeads:
    """What can never become a request is refused with the first byte that shows it."""

    @pytest.mark.parametrize(
        ("data", "enough"),
        [
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 1),  # a TLS ClientHello
            (b"\x80\x2e\x01\x03\x01", 1),  # SSLv2
            (b"\x00\x00\x00\x00", 1),
            (b"\x04\x01\x00\x50", 1),  # SOCKS
            ("GET /ä".encode(), 6),
            (b"GET / HTTP/1.1\nHost: a\n\n", 15),
            (b"GET / HTTP/1.1\rHost: a\r\r", 16),
            (b"SSH-2.0-OpenSSH_9.2\r\n", 21),
            (b"*1\r\n$4\r\nPING\r\n", 4),  # Redis
            (b"GET / HTTP/2.0\r\n", 16),
            (b"GET /\r\n", 7),  # HTTP/0.9
            (b"GET / HTTP/1.1\r\nHost : a\r\n", 26),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00", 29),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\n", 30),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: \ry", 30),
            (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n", 34),
        ],
    )
    def test_refused_at_once(self, data: bytes, enough: int) -> None:
        assert feed([data[:enough]]).error in (400, 505)
        assert feed([data[: enough - 1]]).error is None
        assert refusal(data) in (400, 505)

    @pytest.mark.parametrize(
        "data", [b"", b"\r", b"\r\n", b"G", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nA:b\r\n\r"]
    )
    def test_what_may_become_one_is_waited_for(self, data: bytes) -> None:
        outcome = outcome_of(data)
        assert (outcome.requests, outcome.error, outcome.closed) == ([], None, False)
