"""HTTP/1.x over real sockets: order, versions, expectations, framing."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import requests

from resource_server import (
    BadRequest,
    Forbidden,
    Headers,
    Limits,
    Request,
    Resource,
    Response,
    StreamResponse,
    get,
    post,
    put,
)
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from resource_server import HTTPServer
    from tests.conftest import Serve


#: The end of a head whose body is chunked.
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def _judge(request: Request) -> object:
    token = request.headers.get("x-token")
    assert not request.disconnected
    if token is None:
        raise Forbidden("no token")
    return BadRequest("not this one") if token == "bad" else None


class App(Resource):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.gate = threading.Event()

    @get("/")
    def index(self, request: Request) -> str:
        return "hello"

    @get("/n/:n(int)")
    def number(self, request: Request) -> str:
        self.seen.append(request.target)
        return str(request.matches["n"])

    @get("/slow/:n(int)", blocking=True)
    def slow(self, request: Request) -> str:
        self.seen.append(request.target)
        self.gate.wait(PATIENCE)
        return f"slow {request.matches['n']}"

    @get("/bad")
    def bad(self, request: Request) -> str:
        raise BadRequest("no")

    @get("/stream")
    def stream(self, request: Request) -> Response:
        pieces: list[bytes | str] = [b"one", b"", "two", b"three"]
        return StreamResponse(iter(pieces))

    @get("/counted")
    def counted(self, request: Request) -> Response:
        return StreamResponse(iter([b"one", b"two"]), content_length=6)

    @get("/big")
    def big(self, request: Request) -> bytes:
        return b"x" * 3_000_000

    @get("/none")
    def none(self, request: Request) -> None:
        return None

    @post("/echo", max_content_length=300_000)
    def echo(self, request: Request) -> Response:
        kind = type(request.stream).__name__
        return Response(request.body(), headers={"X-Stream": kind, "X-Seen": request.method})

    @post("/trailers")
    def trailers(self, request: Request) -> dict[str, object]:
        return {"body": request.text(), "sum": request.trailers.get("X-Sum")}

    @get("/about")
    def about(self, request: Request) -> dict[str, object]:
        return {
            "client": list(request.client_address),
            "server": list(request.server_address),
            "url": request.url,
            "gone": request.disconnected,
            "version": request.http_version,
        }

    @get("/early")
    def early(self, request: Request) -> str:
        request.send_interim(103, Headers({"Link": "</style.css>; rel=preload"}))
        request.send_interim(102)
        return "late"

    @put("/upload", expect=_judge)
    def upload(self, request: Request) -> str:
        return f"{len(request.body())} bytes"

    @put("/upload-live", stream=True, expect=_judge)
    def upload_live(self, request: Request) -> str:
        return f"{len(request.stream.read())} bytes live"

    @put("/broken", expect=lambda request: 1 // 0)
    def broken(self, request: Request) -> str:
        return "never"


@pytest.fixture
def app() -> App:
    return App()


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app)


@pytest.fixture
def client(server: HTTPServer) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


class TestKeepAlive:
    def test_requests_follow_each_other_on_one_connection(self, client: Client) -> None:
        for number in range(20):
            answer = client.get(f"/n/{number}")
            assert (answer.status, answer.body) == (200, str(number).encode())
            assert "connection" not in answer.fields
            assert answer.fields["date"].endswith("GMT")

    def test_connection_close_is_honoured(self, client: Client) -> None:
        answer = client.get("/", "Connection: close")
        assert answer.fields["connection"] == "close"
        assert client.is_closed()

    def test_http_1_0_closes(self, client: Client) -> None:
        answer = client.get("/", version="1.0")
        assert answer.body == b"hello"
        assert answer.fields["connection"] == "close"
        assert client.is_closed()

    def test_http_1_0_may_keep_alive(self, client: Client) -> None:
        for _ in range(2):
            answer = client.get("/", "Connection: keep-alive", version="1.0")
            assert answer.fields["connection"] == "keep-alive"

    def test_a_session_of_requests_uses_one_connection(self, server: HTTPServer) -> None:
        with requests.Session() as session:
            ports = {session.get(f"{server.url}/about").json()["client"][1] for _ in range(5)}
        assert len(ports) == 1

    def test_http_client_reads_everything(self, server: HTTPServer) -> None:
        connection = http.client.HTTPConnection(*server.address, timeout=PATIENCE)
        for path in ("/", "/stream", "/counted", "/big", "/none", "/bad"):
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
        connection.close()


class TestPipelining:
    def test_answers_come_in_order(self, client: Client, app: App) -> None:
        paths = [f"/n/{number}" for number in range(50)]
        client.send(b"".join(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for path in paths))
        assert [client.read().body for _ in paths] == [str(n).encode() for n in range(50)]
        assert app.seen == paths

    def test_a_slow_handler_delays_what_is_behind_it(self, client: Client, app: App) -> None:
        for path in ("/slow/1", "/n/2", "/stream", "/slow/3", "/big", "/n/4"):
            client.ask(path)
        app.gate.set()
        bodies = [client.read().body for _ in range(6)]
        assert bodies[:4] == [b"slow 1", b"2", b"onetwothree", b"slow 3"]
        assert len(bodies[4]) == 3_000_000
        assert bodies[5] == b"4"
        assert app.seen == ["/slow/1", "/n/2", "/slow/3", "/n/4"]

    def test_bodies_are_told_from_requests(self, client: Client) -> None:
        one = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /"
        two = b"POST /echo HTTP/1.1\r\nHost: a\r\n" + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"
        client.send((one + two) * 3)
        assert [client.read().body for _ in range(6)] == [b"GET /", b"abc"] * 3

    def test_an_error_of_the_application_does_not_end_the_order(self, client: Client) -> None:
        for path in ("/n/1", "/bad", "/nowhere", "/n/2"):
            client.ask(path)
        assert [client.read().status for _ in range(4)] == [200, 400, 404, 200]

    @pytest.mark.parametrize(
        ("nonsense", "status"),
        [
            (b"GET /x HTTP/1.1\nHost: a\r\n\r\n", 400),
            (b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400),
            (b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n" + CHUNKED, 400),
            (b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
            (b"GET /x HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            (b"GET /x HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n", 417),
            (b"POST /echo HTTP/1.1\r\nHost: a\r\n" + CHUNKED + b"xyz\r\n", 400),
            (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40000 + b"\r\n\r\n", 431),
        ],
    )
    def test_nothing_behind_an_error_of_the_protocol_is_executed(
        self, client: Client, app: App, nonsense: bytes, status: int
    ) -> None:
        good = b"GET /n/%d HTTP/1.1\r\nHost: a\r\n\r\n"
        client.send(good % 1 + nonsense + good % 2)
        assert client.read().status == 200
        answer = client.read()
        assert answer.status == status
        assert answer.fields["connection"] == "close"
        assert client.is_closed()
        assert app.seen == ["/n/1"]

    def test_a_head_may_come_byte_by_byte(self, client: Client) -> None:
        for byte in b"\r\nGET /n/7 HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n":
            client.send(bytes([byte]))
        assert client.read().body == b"7"


class TestFraming:
    def test_head_has_the_fields_of_get_and_no_content(self, client: Client) -> None:
        for path in ("/", "/stream", "/counted", "/big", "/bad", "/nowhere"):
            told = client.get(path, method="HEAD")
            full = client.get(path)
            for fields in (told.fields, full.fields):
                del fields["date"]
            assert (told.status, told.fields, told.body) == (full.status, full.fields, b"")

    def test_a_stream_is_chunked(self, client: Client) -> None:
        answer = client.get("/stream")
        assert answer.chunks == [b"one", b"two", b"three"]

    def test_a_stream_of_known_length_is_counted(self, client: Client) -> None:
        answer = client.get("/counted")
        assert (answer.fields["content-length"], answer.body) == ("6", b"onetwo")

    def test_a_stream_for_http_1_0_ends_with_the_connection(self, client: Client) -> None:
        answer = client.get("/stream", "Connection: keep-alive", version="1.0")
        assert "transfer-encoding" not in answer.fields
        assert answer.body == b"onetwothree"

    def test_no_content_is_no_content(self, client: Client) -> None:
        answer = client.get("/none")
        assert answer.status == 204
        assert "content-length" not in answer.fields
        assert client.get("/").body == b"hello"

    def test_chunked_uploads_have_trailers(self, client: Client) -> None:
        head = b"POST /trailers HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head + b"3;x=y\r\nabc\r\n")
        client.send(b"2\r\nde\r\n0\r\nX-Sum: 9\r\n\r\n")
        assert client.read().body == b'{"body":"abcde","sum":"9"}'

    def test_a_large_answer_arrives_whole(self, client: Client) -> None:
        assert client.get("/big").body == b"x" * 3_000_000
        assert client.get("/").body == b"hello"


class TestExpect:
    HEAD = "PUT {} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nExpect: 100-continue\r\n{}\r\n"

    def ask(self, client: Client, path: str, length: int, fields: str = "") -> None:
        client.send(self.HEAD.format(path, length, fields).encode())

    def test_the_body_is_asked_for_when_it_is_wanted(self, client: Client) -> None:
        self.ask(client, "/upload", 5, "X-Token: good\r\n")
        assert client.read().status == 100
        client.send(b"12345")
        assert client.read().body == b"5 bytes"
        assert client.get("/").status == 200

    def test_the_body_is_asked_for_without_a_callable(self, client: Client) -> None:
        client.send(
            b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert client.read().status == 100
        client.send(b"ok")
        assert client.read().body == b"ok"

    def test_nothing_is_asked_for_that_is_coming_already(self, client: Client) -> None:
        head = self.HEAD.format("/upload", 5, "X-Token: good\r\n").encode()
        client.send(head + b"12345")
        assert client.read().body == b"5 bytes"

    @pytest.mark.parametrize("path", ["/upload", "/upload-live"])
    @pytest.mark.parametrize(("fields", "status"), [("", 403), ("X-Token: bad\r\n", 400)])
    def test_a_callable_refuses(self, client: Client, path: str, fields: str, status: int) -> None:
        self.ask(client, path, 5, fields)
        answer = client.read()
        assert (answer.status, answer.fields["connection"]) == (status, "close")
        assert client.is_closed()

    def test_a_callable_that_fails_is_a_500(self, client: Client) -> None:
        self.ask(client, "/broken", 5)
        assert client.read().status == 500

    @pytest.mark.parametrize(
        ("path", "length", "status"),
        [("/nowhere", 5, 404), ("/", 5, 405), ("/upload", 10_000_000, 413)],
    )
    def test_what_is_refused_anyway_is_not_asked_for(
        self, client: Client, path: str, length: int, status: int
    ) -> None:
        self.ask(client, path, length, "X-Token: good\r\n")
        assert client.read().status == status
        assert client.is_closed()

    def test_a_live_body_is_asked_for_when_it_is_read(self, client: Client) -> None:
        self.ask(client, "/upload-live", 5, "X-Token: good\r\n")
        assert client.read().status == 100
        client.send(b"12345")
        assert client.read().body == b"5 bytes live"

    def test_an_http_1_0_client_is_never_asked(self, client: Client) -> None:
        client.send(
            b"PUT /upload HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n"
            b"X-Token: good\r\n\r\nabc"
        )
        assert client.read().body == b"3 bytes"


class TestBodies:
    @pytest.mark.parametrize("size", [0, 1, 65536, 65537, 300_000])
    def test_bodies_of_any_size_arrive(self, client: Client, size: int) -> None:
        body = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
        answer = client.post("/echo", body)
        assert answer.body == body
        in_memory = size <= 65536
        assert (answer.fields["x-stream"] == "BytesIO") is in_memory
        assert client.get("/").status == 200

    def test_a_declared_body_that_is_too_long_is_refused_unread(self, client: Client) -> None:
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 300001\r\n\r\n")
        answer = client.read()
        assert (answer.status, answer.fields["connection"]) == (413, "close")

    def test_an_undeclared_body_that_is_too_long_is_refused_when_it_is(
        self, client: Client
    ) -> None:
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(30):
            client.send(b"2800\r\n" + b"x" * 0x2800 + b"\r\n")
        answer = client.read()
        assert (answer.status, answer.fields["connection"]) == (413, "close")

    def test_the_limits_hold_to_the_byte(self, client: Client) -> None:
        chunk = b"%x\r\n%b\r\n" % (300_000, b"x" * 300_000)
        head = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        client.send(head + chunk + b"0\r\n\r\n")
        assert client.read().status == 200
        client.send(head + chunk + b"1\r\nx\r\n0\r\n\r\n")
        assert client.read().status == 413

    @pytest.mark.parametrize("path", ["/nowhere", "/"])
    def test_a_small_unwanted_body_does_not_cost_the_connection(
        self, client: Client, path: str
    ) -> None:
        for _ in range(2):
            assert client.post(path, b"x" * 100).status in (404, 405)

    def test_the_client_reads_the_refusal_while_it_is_still_sending(
        self, server: HTTPServer
    ) -> None:
        for path, status in (("/echo", 413), ("/nowhere", 404)):
            with Client(server.address) as client:
                client.send(
                    f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n".encode()
                )
                client.send(b"x" * 1048576)
                assert client.read().status == status

    def test_the_client_reads_a_400_while_it_is_still_sending(self, client: Client) -> None:
        client.send(b"nonsense\r\n\r\n" + b"x" * 1048576)
        assert client.read().status == 400

    def test_requests_uploads_a_generator(self, server: HTTPServer) -> None:
        answer = requests.post(
            f"{server.url}/echo", data=(b"%d," % n for n in range(1000)), timeout=PATIENCE
        )
        assert answer.content == b"".join(b"%d," % n for n in range(1000))

    def test_a_body_longer_than_memory_goes_to_a_file(self, serve: Serve, app: App) -> None:
        server = serve(app, limits=Limits(body_memory=10))
        with Client(server.address) as client:
            assert client.post("/echo", b"0123456789").fields["x-stream"] == "BytesIO"
            answer = client.post("/echo", b"0123456789a")
            assert answer.fields["x-stream"] != "BytesIO"
            assert answer.body == b"0123456789a"

    def test_many_clients_upload_at_once(self, server: HTTPServer) -> None:
        def upload(number: int) -> bool:
            body = b"%d" % number * 50_000
            with Client(server.address) as client:
                return client.post("/echo", body).body == body

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(upload, range(10, 42)))


class TestHalfClose:
    @pytest.mark.parametrize("path", ["/", "/stream", "/big", "/bad"])
    def test_who_has_said_all_gets_the_answer(self, client: Client, path: str) -> None:
        client.ask(path)
        client.half_close()
        assert client.read().status in (200, 400)
        assert client.is_closed()

    def test_also_for_all_that_is_pipelined(self, client: Client, app: App) -> None:
        for path in ("/slow/1", "/big", "/n/1"):
            client.ask(path)
        client.half_close()
        app.gate.set()
        assert [len(client.read().body) for _ in range(3)] == [6, 3_000_000, 1]
        assert client.is_closed()

    def test_also_after_a_body(self, client: Client) -> None:
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nok")
        client.half_close()
        assert client.read().body == b"ok"

    def test_half_a_head_is_no_request(self, client: Client) -> None:
        client.send(b"GET / HTTP/1.1\r\n")
        client.half_close()
        assert client.is_closed()


class TestInterim:
    def test_interim_responses_go_first(self, client: Client) -> None:
        client.ask("/early")
        hints = client.read()
        assert (hints.status, hints.fields["link"]) == (103, "</style.css>; rel=preload")
        assert client.read().status == 102
        assert client.read().body == b"late"

    def test_http_1_0_gets_none(self, client: Client) -> None:
        assert client.get("/early", version="1.0").body == b"late"


class TestRequests:
    def test_the_request_knows_both_ends(self, server: HTTPServer) -> None:
        told = requests.get(f"{server.url}/about", timeout=PATIENCE).json()
        assert told["client"][0] == "127.0.0.1"
        assert told["server"] == list(server.address)
        assert told["url"] == f"{server.url}/about"
        assert told["gone"] is False
        assert told["version"] == "1.1"

    def test_methods_of_the_router_work(self, server: HTTPServer) -> None:
        options = requests.options(f"{server.url}/", timeout=PATIENCE)
        assert "GET" in options.headers["Allow"]
        assert requests.delete(f"{server.url}/", timeout=PATIENCE).status_code == 405

    def test_options_of_the_server(self, client: Client) -> None:
        assert client.get("*", method="OPTIONS").status in (200, 204)


def test_packets_are_not_held_back(client: Client) -> None:
    """Nagle's algorithm with delayed acknowledgements would cost 40 ms for each of these."""
    sock = client.sock
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    started = time.perf_counter()
    for _ in range(100):
        client.get("/stream")
    assert time.perf_counter() - started < 3.5
