"""TestClient: what is sent, and what the server's body policies make of it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import (
    ContentTooLarge,
    Disconnected,
    Headers,
    JsonResponse,
    Request,
    Resource,
    Response,
    Unauthorized,
    post,
)
from resource_server.testing import TestClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Sent(Resource):
    @post("/")
    def take(self, request: Request) -> Response:
        headers = {
            "X-Type": request.headers.get("content-type", ""),
            "X-Length": str(request.content_length),
        }
        return Response(request.body(), headers=headers)

    @post("/form")
    def form(self, request: Request) -> dict[str, Any]:
        return dict(request.form())


class Message:
    def dumpb(self) -> bytes:
        return b"dumped"


@pytest.mark.parametrize(
    ("options", "content", "content_type"),
    [
        ({"json": {"a": [None]}}, b'{"a":[null]}', "application/json"),
        ({"json": None}, b"null", "application/json"),
        (
            {"form": {"a": "x y", "b": [1, 2]}},
            b"a=x+y&b=1&b=2",
            "application/x-www-form-urlencoded",
        ),
        ({"form": [("a", "1"), ("a", "2")]}, b"a=1&a=2", "application/x-www-form-urlencoded"),
        ({"body": "ü"}, "ü".encode(), "text/plain; charset=utf-8"),
        ({"body": bytearray(b"\0")}, b"\0", "application/octet-stream"),
        ({"body": {"a": 1}}, b'{"a":1}', "application/json"),
        ({"body": Message()}, b"dumped", "application/x-serializable"),
        ({"body": io.BytesIO(b"file")}, b"file", "application/octet-stream"),
        ({"body": io.StringIO("text")}, b"text", "application/octet-stream"),
        ({}, b"", ""),
    ],
)
def test_content_of_each_kind(options: Any, content: bytes, content_type: str) -> None:
    response = TestClient(Sent).post("/", **options)
    assert response.body == content
    assert response.headers["X-Type"] == content_type
    assert response.headers["X-Length"] == str(len(content))


def test_an_iterator_is_sent_in_chunks() -> None:
    response = TestClient(Sent).post("/", body=iter([b"one ", b"", "two"]))
    assert response.body == b"one two"
    assert response.headers["X-Length"] == "None"
    many = TestClient(Sent).post("/", body=(b"x" for _ in range(2000)))
    assert len(many.body) == 2000


def test_a_type_of_ones_own_is_kept() -> None:
    response = TestClient(Sent).post("/", body=b"<a/>", headers={"Content-Type": "text/xml"})
    assert response.headers["X-Type"] == "text/xml"


def test_a_form_is_read_as_one() -> None:
    assert TestClient(Sent).post("/form", form={"a": "ü&="}).json() == {"a": ["ü&="]}


def test_files_are_sent_as_browsers_do(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_bytes(b"<p>")
    with page.open("rb") as file:
        files = {
            "page": file,
            "bare": b"bytes",
            'od"d': ("n\r\n.png", b"png"),
            "text": ("a.bin", "text", "text/plain"),
        }
        form = {"name": "value", "many": [1, 2]}
        response = TestClient(Sent).post("/", form=form, files=files)
    media_type, _, boundary = response.headers["X-Type"].partition("; boundary=")
    assert media_type == "multipart/form-data"
    parts = response.body.decode().split(f"--{boundary}")
    assert parts[-1] == "--\r\n"
    assert parts[1:-1] == [
        '\r\nContent-Disposition: form-data; name="name"\r\n\r\nvalue\r\n',
        '\r\nContent-Disposition: form-data; name="many"\r\n\r\n1\r\n',
        '\r\nContent-Disposition: form-data; name="many"\r\n\r\n2\r\n',
        (
            '\r\nContent-Disposition: form-data; name="page"; filename="page.html"\r\n'
            "Content-Type: text/html; charset=utf-8\r\n\r\n<p>\r\n"
        ),
        (
            '\r\nContent-Disposition: form-data; name="bare"; filename="bare"\r\n'
            "Content-Type: application/octet-stream\r\n\r\nbytes\r\n"
        ),
        (
            '\r\nContent-Disposition: form-data; name="od%22d"; filename="n%0D%0A.png"\r\n'
            "Content-Type: image/png\r\n\r\npng\r\n"
        ),
        (
            '\r\nContent-Disposition: form-data; name="text"; filename="a.bin"\r\n'
            "Content-Type: text/plain\r\n\r\ntext\r\n"
        ),
    ]
    only = TestClient(Sent).post("/", files=[("a", io.BytesIO(b"1")), ("a", b"2")])
    assert only.body.count(b'name="a"; filename="a"') == 2
    pairs = TestClient(Sent).post("/", form=[("a", "1")], files={})
    assert b'name="a"\r\n\r\n1' in pairs.body


def test_contents_that_cannot_be_are_refused() -> None:
    client = TestClient(Sent)
    with pytest.raises(TypeError, match="one of json="):
        client.post("/", json=1, body=b"")
    with pytest.raises(TypeError, match="a int cannot be sent"):
        client.post("/", body=5)
    with pytest.raises(TypeError, match="a tuple cannot be sent"):
        client.post("/", body=(b"",))


def decide(request: Request) -> Any:
    verdict = request.headers.get("x-verdict")
    if verdict == "raise":
        raise Unauthorized("Basic")
    return {
        "no": False,
        "class": ContentTooLarge,
        "response": JsonResponse({"no": 1}, 409),
        "odd": "odd",
    }.get(verdict or "", True)


class Policies(Resource):
    calls: list[str]

    def __init__(self) -> None:
        self.calls = []

    @post("/small", max_content_length=4)
    def small(self, request: Request) -> str:
        self.calls.append("small")
        return request.text()

    @post("/live", max_content_length=6, stream=True)
    def live(self, request: Request) -> str:
        self.request = request
        return "+".join(piece.decode() for piece in iter(lambda: request.stream.read(3), b""))

    @post("/late", stream=True)
    def late(self, request: Request) -> Response:
        def pieces() -> Iterator[bytes]:
            yield b"first "
            yield request.stream.read()

        return Response(pieces())

    @post("/caught", max_content_length=2, stream=True)
    def caught(self, request: Request) -> str:
        with pytest.raises(ContentTooLarge):
            request.body()
        return "caught"

    @post("/expect", expect=decide)
    def expected(self, request: Request) -> str:
        return request.text()

    @post("/expect/live", stream=True)
    def expected_live(self, request: Request) -> str:
        return request.text()


@pytest.fixture
def policies() -> Policies:
    return Policies()


@pytest.mark.parametrize("body", [b"12345", [b"123", b"45"]])
def test_a_body_beyond_the_limit_never_reaches_the_handler(policies: Policies, body: Any) -> None:
    sent = iter(body) if isinstance(body, list) else body
    response = TestClient(policies).post("/small", body=sent)
    assert response.status_code == 413
    assert response.closes
    assert policies.calls == []
    assert TestClient(policies).post("/small", body=b"1234").text == "1234"


def test_a_body_is_read_live_where_the_route_says_so(policies: Policies) -> None:
    client = TestClient(policies)
    produced = []

    def pieces() -> Iterator[bytes]:
        for piece in (b"ab", b"cd", b"e"):
            produced.append(piece)
            yield piece

    assert client.post("/live", body=pieces()).text == "ab+cd+e"
    assert len(produced) == 3
    assert client.post("/live", body=b"1234567").status_code == 413
    assert client.post("/live", body=iter([b"1234", b"567"])).status_code == 413
    assert client.post("/caught", body=iter([b"123"])).text == "caught"
    with pytest.raises(ValueError, match="only while its request is handled"):
        policies.request.stream.read()


def test_a_body_may_be_read_while_the_answer_is_on_its_way(policies: Policies) -> None:
    client = TestClient(policies)
    assert client.post("/late", body=b"then").text == "first then"


def test_what_the_content_raises_is_raised(policies: Policies) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"1"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        TestClient(policies).post("/small", body=pieces())


def test_the_body_of_a_request_that_has_no_route_is_not_missed(policies: Policies) -> None:
    client = TestClient(policies)
    assert not client.post("/nowhere", body=b"small").closes
    assert client.post("/nowhere", body=b"x" * 100_000).closes
    assert client.post("/nowhere", body=iter([b"x"])).closes


def test_a_large_body_is_a_file_while_it_is_handled() -> None:
    sizes = []

    @post("/")
    def handle(request: Request) -> None:
        sizes.append(len(request.stream.read()))

    response = TestClient(handle).post("/", body=b"x" * 1_000_000)
    assert sizes == [1_000_000]
    with pytest.raises(ValueError, match="closed"):
        response.request.stream.read()


EXPECT = {"Expect": "100-continue"}


def test_a_client_that_waits_is_asked_for_the_body(policies: Policies) -> None:
    client = TestClient(policies)
    response = client.post("/expect", body="body", headers=EXPECT)
    assert response.text == "body"
    assert response.interim == [(100, Headers())]
    live = client.post("/expect/live", body="body", headers=EXPECT)
    assert (live.text, live.interim) == ("body", [(100, Headers())])
    assert client.post("/expect", body="body").interim == []


@pytest.mark.parametrize(
    ("verdict", "status"), [("no", 417), ("class", 413), ("response", 409), ("raise", 401)]
)
def test_a_route_may_refuse_the_body(policies: Policies, verdict: str, status: int) -> None:
    headers = {**EXPECT, "X-Verdict": verdict}
    response = TestClient(policies).post("/expect", body="body", headers=headers)
    assert response.status_code == status
    assert response.interim == []


def test_an_expectation_that_is_none_is_a_failure(policies: Policies) -> None:
    headers = {**EXPECT, "X-Verdict": "odd"}
    with pytest.raises(TypeError, match="expect returns"):
        TestClient(policies).post("/expect", body="body", headers=headers)
    client = TestClient(policies, raise_errors=False)
    assert client.post("/expect", body="body", headers=headers).status_code == 500


class Streams(Resource):
    def __init__(self) -> None:
        self.ended: list[bool] = []

    @post("/count/:n(int)")
    def count(self, request: Request) -> Any:
        self.request = request
        return self.pieces(request.matches["n"])

    def pieces(self, n: int) -> Iterator[bytes]:
        try:
            for number in range(n):
                yield b"%d" % number
                yield b""
        finally:
            self.ended.append(True)

    @post("/fails/:after(int)")
    def fails(self, request: Request) -> Any:
        yield from [b"piece"] * int(request.matches["after"])
        raise KeyError("in the stream")

    @post("/denies")
    def denies(self, request: Request) -> Any:
        yield b"piece"
        raise ContentTooLarge

    @post("/lies/:length(int)")
    def lies(self, request: Request) -> Response:
        return Response(iter([b"12"]), headers={"Content-Length": request.matches["length"]})

    @post("/close")
    def close(self, request: Request) -> Response:
        class Pieces:
            def __iter__(self) -> Iterator[bytes]:
                return iter([b"1"])

            def close(self) -> None:
                raise ZeroDivisionError("at the close")

        return Response(Pieces())


def test_a_stream_is_read_to_its_end() -> None:
    streams = Streams()
    response = TestClient(streams).post("/count/3")
    assert response.body == b"012"
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert streams.ended == [True]
    assert list(response) == [b"012"]


def test_a_stream_may_be_iterated_over_as_it_comes() -> None:
    streams = Streams()
    with TestClient(streams).post("/count/1000000000", stream=True) as response:
        pieces = iter(response)
        assert [next(pieces), next(pieces)] == [b"0", b"1"]
        assert streams.ended == []
        assert not streams.request.disconnected
    assert streams.ended == [True]
    assert response.body == b""


def test_a_stream_that_nobody_reads_is_closed() -> None:
    streams = Streams()
    TestClient(streams).post("/count/5", stream=True).close()
    assert streams.ended == [True]
    closed = []

    class Pieces:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"1"])

        def close(self) -> None:
            closed.append(True)

    client = TestClient([("GET", "/", lambda _: Response(Pieces()))])
    assert client.head("/").body == b""
    assert closed


def test_a_stream_that_fails_is_raised_or_cut() -> None:
    with pytest.raises(KeyError, match="in the stream"):
        TestClient(Streams).post("/fails/0")
    with pytest.raises(KeyError, match="in the stream"):
        TestClient(Streams).post("/fails/2")
    client = TestClient(Streams, raise_errors=False)
    assert client.post("/fails/0").status_code == 500
    response = client.post("/fails/2", stream=True)
    pieces = iter(response)
    assert [next(pieces), next(pieces)] == [b"piece", b"piece"]
    with pytest.raises(Disconnected, match="failed after 10 bytes"):
        next(pieces)
    with pytest.raises(StopIteration):
        next(pieces)
    with pytest.raises(Disconnected, match="failed after 5 bytes"):
        TestClient(Streams).post("/denies")


def test_a_stream_that_fails_again_in_its_error_handler_has_an_end() -> None:
    from resource_server import Router

    router = Router()
    router.register_routes(Streams)

    def again(request: Request, error: BaseException) -> Response:
        def pieces() -> Iterator[bytes]:
            yield from ()
            raise KeyError("again")

        return Response(pieces())

    router.error_handler(KeyError, again)
    client = TestClient(router, raise_errors=False)
    assert client.post("/fails/0").text == "500 Internal Server Error\n"


@pytest.mark.parametrize("length", [1, 3])
def test_a_length_that_is_not_true_is_a_failure(length: int) -> None:
    with pytest.raises(RuntimeError, match="content than its Content-Length says"):
        TestClient(Streams).post(f"/lies/{length}")


def test_a_close_that_fails_is_raised() -> None:
    with pytest.raises(ZeroDivisionError, match="at the close"):
        TestClient(Streams).post("/close")
    assert TestClient(Streams, raise_errors=False).post("/close").body == b"1"


def test_files_are_sent_as_long_as_they_say(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x" * 600_000)

    def send(length: int | None) -> Response:
        response = Response(None)
        response.body = None
        response.file = (tmp_path / "data").open("rb")
        response.content_length = length
        return response

    def client(length: int | None) -> TestClient:
        return TestClient([("GET", "/", lambda _: send(length))])

    assert len(client(600_000).get("/").body) == 600_000
    assert len(client(10).get("/").body) == 10
    assert client(600_000).head("/").headers["Content-Length"] == "600000"
    with pytest.raises(Disconnected, match="shrunk"):
        client(700_000).get("/")
    with pytest.raises(ValueError, match="has to tell its content_length"):
        client(None).get("/")


def test_a_response_may_not_be_streamed_twice() -> None:
    response = Response(iter([b"1"]))
    client = TestClient([("GET", "/", lambda _: response)])
    assert client.get("/").body == b"1"
    with pytest.raises(ValueError, match="has been sent before"):
        client.get("/")
