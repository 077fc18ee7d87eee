"""Compression of responses, by what the client accepts."""

from __future__ import annotations

import gzip
import io
import random
import sys
import zlib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from resource_server import (
    FileResponse,
    Resource,
    Router,
    StreamResponse,
    WebSocketSession,
    codings,
    compression,
    get,
    streams,
    websocket_session,
)
from resource_server.client.decoding import decoded, decoders
from resource_server.request import Request
from resource_server.response import ErrorResponse, Handler, Response

LONG = "abcdefgh" * 100


def request_with(**fields: str) -> Request:
    headers = {name.replace("_", "-"): value for name, value in fields.items()}
    return Request(("192.0.2.1", 1), "GET", "/", headers=headers)


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


class Pulled(streams.Source):
    """A source that tells what it was asked."""

    keep_alive = 7.0
    hasty = True

    def __init__(self, pieces: list[bytes | None], sign: bytes = b"idle") -> None:
        self.pieces = iter(pieces)
        self.sign = sign
        self.calls: list[object] = []

    def open(self, request: Request, wake: Any) -> None:
        self.calls += [request, wake]

    def take(self) -> bytes | None:
        return next(self.pieces)

    def idle(self) -> bytes:
        return self.sign

    def stop(self) -> None:
        self.calls.append("stop")

    def close(self) -> None:
        self.calls.append("close")


class TestCompression:
    def test_a_long_text_for_a_client_that_accepts_it(self) -> None:
        response = Response(LONG, compress=True)
        response = response.negotiate(request_with(accept_encoding="gzip, deflate"))
        assert response.body is not None
        assert gzip.decompress(response.body) == LONG.encode()
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["Vary"] == "Accept-Encoding"

    @pytest.mark.parametrize("accept", [None, "", "compress", "gzip;q=0", "identity", "*;q=0"])
    def test_other_clients_get_it_as_it_is_and_caches_know(self, accept: str | None) -> None:
        response = Response(LONG, compress=True)
        response = response.negotiate(
            request_with() if accept is None else request_with(accept_encoding=accept)
        )
        assert response.body == LONG.encode()
        assert "Content-Encoding" not in response.headers
        assert response.headers["Vary"] == "Accept-Encoding"

    @pytest.mark.parametrize(
        "response",
        [
            Response(LONG),
            Response("short", compress=True),
            Response(LONG, 206, compress=True),
            Response(LONG, 101, compress=True),
            Response(None, 204, compress=True),
            Response(LONG, compress=True, content_type="image/png"),
            Response(LONG, compress=True, content_type=""),
            Response(LONG, headers={"Content-Encoding": "br"}, compress=True),
            Response(LONG, headers={"Content-Range": "bytes 0-1/2"}, compress=True),
            Response(LONG, headers={"Content-Digest": "sha-256=:AA==:"}, compress=True),
            Response(LONG, headers={"Cache-Control": "private, No-Transform"}, compress=True),
            StreamResponse(["data: 1\n\n"], compress=True, content_type="text/event-stream"),
            Response(None, 304, {"Content-Type": "image/png", "ETag": '"a"'}, compress=True),
        ],
    )
    def test_what_is_not_worth_it_or_may_not_be(self, response: Response) -> None:
        assert response.negotiate(request_with(accept_encoding="gzip")) is response
        assert "Vary" not in response.headers

    def test_a_file_is_left_to_who_made_it(self) -> None:
        response = Response(LONG, compress=True)
        response.file, response.body = io.BytesIO(), None
        assert response.negotiate(request_with(accept_encoding="gzip")) is response
        response.file = None
        assert response.negotiate(request_with(accept_encoding="gzip")) is response
        assert "Vary" not in response.headers

    @pytest.mark.parametrize(
        "content_type",
        [
            "text/css",
            "application/json",
            "Image/SVG+xml;a=b",
            "application/problem+json",
            "font/ttf",
            "application/vnd.oai.openapi+yaml",
        ],
    )
    def test_types_that_are_text_underneath(self, content_type: str) -> None:
        response = Response(LONG, compress=True, content_type=content_type)
        response = response.negotiate(request_with(accept_encoding="gzip"))
        assert response.headers["Content-Encoding"] == "gzip"

    def test_what_does_not_get_smaller_stays(self) -> None:
        noise = random.Random(1).randbytes(600)
        response = Response(noise, compress=True, content_type="text/plain")
        response = response.negotiate(request_with(accept_encoding="gzip"))
        assert response.body == noise
        assert "Content-Encoding" not in response.headers
        assert response.headers["Vary"] == "Accept-Encoding"

    def test_but_not_if_the_client_refuses_it_as_it_is(self) -> None:
        noise = random.Random(1).randbytes(600)
        response = Response(noise, compress=True, content_type="text/plain")
        response = response.negotiate(request_with(accept_encoding="gzip, identity;q=0"))
        assert response.body is not None
        assert gzip.decompress(response.body) == noise

    @pytest.mark.parametrize(
        ("vary", "merged"),
        [
            ("Cookie", "Cookie, Accept-Encoding"),
            ("accept-encoding", "accept-encoding"),
            ("*", "*"),
            ("", "Accept-Encoding"),
        ],
    )
    def test_vary_is_added_to(self, vary: str, merged: str) -> None:
        response = Response(LONG, headers={"Vary": vary}, compress=True)
        response = response.negotiate(request_with(accept_encoding="gzip"))
        assert response.headers["Vary"] == merged

    @pytest.mark.parametrize(("tag", "weak"), [('"a"', 'W/"a"'), ('W/"a"', 'W/"a"')])
    def test_a_strong_entity_tag_becomes_weak(self, tag: str, weak: str) -> None:
        fields = {"ETag": tag, "Content-Length": "800", "Accept-Ranges": "bytes"}
        response = Response(LONG, headers=fields, compress=True)
        response = response.negotiate(request_with(accept_encoding="gzip"))
        assert response.headers["ETag"] == weak
        assert response.content_length is None
        assert "Accept-Ranges" not in response.headers

    def test_not_modified_tells_what_the_content_would_have_come_with(self) -> None:
        unchanged = Response(None, 304, {"ETag": '"a"'}, compress=True)
        response = unchanged.negotiate(request_with(accept_encoding="gzip"))
        assert response.headers == {"ETag": 'W/"a"', "Vary": "Accept-Encoding"}
        response = unchanged.negotiate(request_with())
        assert response.headers == {"ETag": '"a"', "Vary": "Accept-Encoding"}
        assert unchanged.headers == {"ETag": '"a"'}

    @pytest.mark.parametrize(
        "shared",
        [
            Response(LONG, compress=True),
            Response(LONG, headers={"Vary": "Cookie", "ETag": '"a"'}, compress=True),
        ],
    )
    def test_a_response_that_many_requests_share_stays_as_it_was(self, shared: Response) -> None:
        before = shared.body, shared.section()[0]
        packed = shared.negotiate(request_with(accept_encoding="gzip"))
        plain = shared.negotiate(request_with())
        again = shared.negotiate(request_with(accept_encoding="gzip"))
        assert (shared.body, shared.section()[0]) == before
        assert packed.body == again.body != plain.body == shared.body
        assert packed.section()[0] == again.section()[0] != plain.section()[0]
        assert "Accept-Encoding" in plain.headers["Vary"]
        assert "Content-Encoding" not in plain.headers

    def test_an_answer_that_was_raised_is_compressed_like_any_other(self) -> None:
        response = ErrorResponse({"list": LONG}, 422)
        response.compress = True
        sent = response.negotiate(request_with(accept_encoding="gzip"))
        assert isinstance(sent, ErrorResponse)
        assert sent.status_code == 422
        assert sent.headers["Content-Encoding"] == "gzip"

    def test_a_stream_can_be_read_piece_by_piece(self) -> None:
        source = Source("first", b"", "second")
        made = StreamResponse(source, compress=True, content_type="text/plain", content_length=11)
        response = made.negotiate(request_with(accept_encoding="gzip"))
        assert response.content_length is None
        assert response.iterator is not None
        reader = zlib.decompressobj(31)
        read = [reader.decompress(piece) for piece in iter(response.iterator)]
        assert read == [b"first", b"", b"second", b""]
        assert reader.eof
        with pytest.raises(StopIteration):
            next(response.iterator)
        response.close()
        made.close()
        assert source.closed == 1

    def test_a_stream_has_gone_over_to_what_is_sent(self) -> None:
        made = StreamResponse(["a"], compress=True, content_type="text/plain")
        sent = made.negotiate(request_with())
        assert (made.body, made.iterator) == (None, None)
        assert sent.iterator is not None
        assert made.negotiate(request_with()) is made

    def test_a_stream_of_nothing_is_the_coding_of_nothing(self) -> None:
        made = StreamResponse([], compress=True, content_type="text/plain")
        response = made.negotiate(request_with(accept_encoding="gzip"))
        assert response.iterator is not None
        assert gzip.decompress(b"".join(response.iterator)) == b""

    def test_a_stream_that_cannot_be_closed_is_not(self) -> None:
        compressed = Response(iter([b"a"]), compress=True, content_type="text/plain")
        compressed.iterator = iter([b"a"])
        compressed = compressed.negotiate(request_with(accept_encoding="gzip"))
        compressed.close()


def undo(coding: str, data: bytes) -> bytes:
    """Undo a coding at once, with what checks that it has come to its end."""
    zstd = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    module = {"br": "brotli", "zstd": zstd, "gzip": "gzip"}[coding]
    plain: bytes = pytest.importorskip(module).decompress(data)
    return plain


def apply(response: Response, accept: str | None, **options: Any) -> Response:
    """What a middleware with these options makes of a response."""
    handler: Handler = compression(**options)(lambda _: response)
    fields = {} if accept is None else {"accept_encoding": accept}
    return handler(request_with(**fields)).negotiate(request_with(**fields))


class TestCodings:
    """Which one, and that it can be undone."""

    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        for name in ("br", "zstd"):
            if codings._coding(name) is None:
                pytest.skip(f"{name} is not installed")

    @pytest.mark.parametrize("coding", ["br", "zstd", "gzip"])
    def test_a_body(self, coding: str) -> None:
        response = apply(Response(LONG), coding)
        assert response.headers["Content-Encoding"] == coding
        assert response.body is not None
        assert len(response.body) < 100
        assert undo(coding, response.body) == LONG.encode()

    @pytest.mark.parametrize("coding", ["br", "zstd", "gzip"])
    def test_a_stream_can_be_read_piece_by_piece(self, coding: str) -> None:
        source = Source("first", b"", "second", bytes(300_000))
        response = apply(StreamResponse(source, content_type="text/plain"), coding)
        assert response.headers["Content-Encoding"] == coding
        assert response.iterator is not None
        stages = decoders(coding)
        assert stages
        sizes, whole = [], b""
        for piece in response.iterator:
            whole += piece
            sizes.append(sum(map(len, decoded(stages, piece))))
        for stage in stages:
            stage.finish()
        assert sizes == [5, 0, 6, 300_000, 0]
        assert undo(coding, whole) == b"firstsecond" + bytes(300_000)
        response.close()
        assert source.closed == 1

    def test_a_stream_that_fails_is_closed_as_ever(self) -> None:
        def source() -> Iterator[str]:
            yield "first"
            raise RuntimeError("no more")

        response = apply(StreamResponse(source(), content_type="text/plain"), "zstd")
        assert response.iterator is not None
        assert next(response.iterator)
        with pytest.raises(RuntimeError, match="no more"):
            next(response.iterator)
        response.close()

    @pytest.mark.parametrize(
        ("accept", "coding"),
        [
            ("gzip, deflate, br, zstd", "zstd"),
            ("gzip, deflate, br", "br"),
            ("gzip;q=1.0, zstd;q=0.9, br;q=0.8", "gzip"),
            ("zstd;q=0, br;q=0.001", "br"),
            ("*", "zstd"),
            ("*;q=0.5, gzip", "gzip"),
            ("x-gzip", "gzip"),
            ("GZip", "gzip"),
            ("gzip;q=0.5, identity", None),
            ("gzip, identity", "gzip"),
            ("gzip;q=0.5, identity;q=0.4", "gzip"),
            ("gzip;q=2, br;q=x", None),
            ("deflate", None),
            ("identity;q=0", None),
            ('gzip, "', None),
            ("gzip, " + "x, " * 700 + "y", None),
        ],
    )
    def test_the_client_weighs_and_the_server_decides_among_equals(
        self, accept: str, coding: str | None
    ) -> None:
        response = apply(Response(LONG), accept)
        assert response.headers.get("Content-Encoding") == coding
        assert response.headers["Vary"] == "Accept-Encoding"

    def test_the_order_is_an_option(self) -> None:
        response = apply(Response(LONG), "gzip, br, zstd", codings=["gzip", "br"])
        assert response.headers["Content-Encoding"] == "gzip"

    def test_so_are_the_levels(self) -> None:
        words = " ".join(str(number * number) for number in range(5000))
        for coding, low, high in (("gzip", 1, 9), ("br", 0, 11), ("zstd", 1, 19)):
            sizes = []
            for level in (low, high):
                response = apply(Response(words), coding, levels={coding: level})
                assert response.body is not None
                assert undo(coding, response.body) == words.encode()
                sizes.append(len(response.body))
            assert sizes[0] > sizes[1]

    def test_no_level_of_zstd_looks_back_further_than_clients_can(self) -> None:
        content = random.Random(2).randbytes(9 << 20) + b"tail"
        response = apply(
            Response(content, content_type="text/plain"),
            "zstd, identity;q=0",
            levels={"zstd": 19},
            codings=["zstd"],
        )
        assert response.body is not None
        (stage,) = decoders("zstd") or []  # of a client that takes no more than 8 MiB
        assert b"".join(decoded([stage], response.body)) == content

    @pytest.mark.parametrize("coding", ["br", "zstd", "gzip"])
    def test_a_source_can_be_read_piece_by_piece(self, coding: str) -> None:
        source = Pulled([None, b"first", None, b"second", b""])
        made = Response(None, content_type="text/plain")
        made.body, made.source = None, source
        response = apply(made, coding)
        encoded = response.source
        assert encoded is not None
        assert (encoded.keep_alive, encoded.hasty) == (7.0, True)
        request = request_with()
        encoded.open(request, print)
        (stage,) = decoders(coding) or []
        whole, read = b"", []
        for _ in range(4):
            piece = encoded.take()
            assert piece != b""
            whole += piece or b""
            read.append(None if piece is None else b"".join(decoded([stage], piece)))
        assert read == [None, b"first", None, b"second"]
        sign = encoded.idle()
        assert b"".join(decoded([stage], sign)) == b"idle"
        encoded.stop()
        end = encoded.take()
        assert end
        assert b"".join(decoded([stage], end)) == b""
        stage.finish()
        assert (encoded.take(), encoded.idle()) == (b"", b"")
        assert undo(coding, whole + sign + end) == b"firstsecondidle"
        encoded.close()
        assert source.calls == [request, print, "stop", "close"]
        made.close()  # of which nothing is left
        assert len(source.calls) == 4

    def test_a_source_of_nothing(self) -> None:
        made = Response(None, content_type="text/plain")
        made.body, made.source = None, Pulled([b""], sign=b"")
        encoded = apply(made, "gzip").source
        assert encoded is not None
        assert encoded.idle() == b""
        assert gzip.decompress(encoded.take() or b"") == b""
        encoded.close()


class TestWithoutPackages:
    def test_what_is_not_installed_is_left_out(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def find(name: str) -> Any:
            if name in ("brotli", "compression.zstd", "backports.zstd", "brotlicffi"):
                raise ImportError(name)
            return import_module(name)

        monkeypatch.setattr(codings, "import_module", find)
        codings._coding.cache_clear()
        try:
            response = apply(Response(LONG), "zstd, br, gzip;q=0.1")
            assert response.headers["Content-Encoding"] == "gzip"
            response = apply(Response(LONG), "zstd, br")
            assert response.body == LONG.encode()
        finally:
            monkeypatch.undo()
            codings._coding.cache_clear()


class TestMiddleware:
    def test_it_compresses_what_did_not_ask_for_it(self) -> None:
        assert apply(Response(LONG), "gzip").headers["Content-Encoding"] == "gzip"
        assert "Vary" in apply(Response(LONG), None).headers

    def test_what_forbids_it_stays(self) -> None:
        response = Response(LONG, compress=False)
        assert apply(response, "gzip") is response

    def test_files_forbid_it_unless_they_ask(self, tmp_path: Path) -> None:
        path = tmp_path / "page.html"
        path.write_text(LONG)
        response = FileResponse(path)
        assert apply(response, "gzip") is response
        response.compress = True
        packed = apply(response, "gzip")
        assert packed.headers["Content-Encoding"] == "gzip"
        assert packed.headers["ETag"] == f"W/{response.headers['ETag']}"
        assert packed.body is not None
        assert gzip.decompress(packed.body) == LONG.encode()
        etag = packed.headers["ETag"]
        same = response.negotiate(request_with(accept_encoding="gzip", if_none_match=etag))
        assert (same.status_code, same.headers["ETag"]) == (304, etag)
        part = response.negotiate(request_with(accept_encoding="gzip", range="bytes=0-99"))
        assert (part.status_code, part.body) == (206, LONG[:100].encode())
        assert "Content-Encoding" not in part.headers

    def test_it_compresses_once(self) -> None:
        response = apply(Response(LONG), "gzip")
        assert response.body is not None
        assert gzip.decompress(response.body) == LONG.encode()
        assert response.negotiate(request_with(accept_encoding="gzip")) is response

    def test_what_asks_itself_decides_itself(self) -> None:
        response = apply(Response(LONG, compress=True), "gzip", types=["text/css"])
        assert response.headers["Content-Encoding"] == "gzip"

    @pytest.mark.parametrize(
        ("types", "content_type", "compressed"),
        [
            (["image/x"], "image/x", True),
            (["Image/*"], "image/x; a=b", True),
            (["image/*"], "images/x", False),
            (["*+x"], "a/b+x", True),
            (["*+x"], "a/x", False),
            (["text/*"], "text/event-stream", False),
            (["text/*", "text/event-stream"], "text/event-stream", True),
            ([], "text/plain", False),
        ],
    )
    def test_types(self, types: list[str], content_type: str, *, compressed: bool) -> None:
        response = apply(Response(LONG, content_type=content_type), "gzip", types=types)
        assert ("Content-Encoding" in response.headers) is compressed

    def test_the_minimum(self) -> None:
        for minimum, compressed in ((800, True), (801, False)):
            response = apply(Response(LONG), "gzip", minimum=minimum)
            assert ("Content-Encoding" in response.headers) is compressed

    @pytest.mark.parametrize(
        ("options", "error", "text"),
        [
            ({"codings": ["deflate"]}, ValueError, "'deflate' is no coding to compress with"),
            ({"codings": "gzip"}, TypeError, "not one str"),
            ({"types": "text/html"}, TypeError, "not one str"),
            ({"types": ["html"]}, ValueError, "'html' is no media type"),
            ({"types": ["*/*"]}, ValueError, "is no media type"),
            ({"levels": {"deflate": 1}}, ValueError, "has a level"),
            ({"levels": {"zstd": 20}}, ValueError, "from 1 to 19, not 20"),
            ({"levels": {"gzip": 0}}, ValueError, "from 1 to 9, not 0"),
        ],
    )
    def test_options_are_checked(
        self, options: dict[str, Any], error: type[Exception], text: str
    ) -> None:
        with pytest.raises(error, match=text):
            compression(**options)

    def test_in_a_router_it_leaves_sockets_alone_and_takes_errors(self) -> None:
        class App(Resource):
            @get("/long")
            def long(self, request: Request) -> str:
                return LONG

            @get("/error")
            def error(self, request: Request) -> Response:
                raise ErrorResponse({"list": LONG}, 422)

            @websocket_session("/socket")
            def socket(self, request: Request, session: WebSocketSession) -> None: ...

        router = Router(middlewares=[compression()])
        router.register_routes(App)
        fields = {"Accept-Encoding": "gzip"}
        for path in ("/long", "/error"):
            for method in ("GET", "HEAD"):
                request = Request(("192.0.2.1", 1), method, path, headers=fields)
                response = router.dispatch(request)
                assert response.headers["Content-Encoding"] == "gzip"
        refused = Request(("192.0.2.1", 1), "GET", "/socket", headers=fields)
        assert "Content-Encoding" not in router.dispatch(refused).headers
