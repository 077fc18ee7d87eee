"""Compression of responses, by what the client accepts."""

from __future__ import annotations

import gzip
import io
import random
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from resource_server.content import json_bytes
from resource_server.request import Request
from resource_server.response import ErrorResponse, Response
from resource_server.streams import StreamResponse

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


class TestCompression:
    def test_a_long_text_for_a_client_that_accepts_it(self) -> None:
        response = Response(LONG, compress=True)
        response = response.negotiate(request_with(accept_encoding="gzip, deflate"))
        assert response.body is not None
        assert gzip.decompress(response.body) == LONG.encode()
        assert response.headers["Content-Encoding"] == "gzip"
        assert response.headers["Vary"] == "Accept-Encoding"

    @pytest.mark.parametrize("accept", [None, "", "br", "gzip;q=0", "identity", "*;q=0"])
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
        response = Response(LONG, headers={"ETag": tag, "Content-Length": "800"}, compress=True)
        response = response.negotiate(request_with(accept_encoding="gzip"))
        assert response.headers["ETag"] == weak
        assert response.content_length is None

    @pytest.mark.parametrize(
        "shared",
        [
            Response(LONG, compress=True),
            Response(LONG, headers={"Vary": "Cookie", "ETag": '"a"'}, compress=True),
        ],
    )
    def test_a_response_that_many_requests_share_stays_as_it_was(self, shared: Response) -> None:
        before = shared.body, shared.header_lines()
        packed = shared.negotiate(request_with(accept_encoding="gzip"))
        plain = shared.negotiate(request_with())
        again = shared.negotiate(request_with(accept_encoding="gzip"))
        assert (shared.body, shared.header_lines()) == before
        assert packed.body == again.body != plain.body == shared.body
        assert packed.header_lines() == again.header_lines() != plain.header_lines()
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
        made = StreamResponse(
            source, compress=True, content_type="text/event-stream", content_length=11
        )
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

    def test_a_stream_that_cannot_be_closed_is_not(self) -> None:
        compressed = Response(iter([b"a"]), compress=True, content_type="text/plain")
        compressed.iterator = iter([b"a"])
        compressed = compressed.negotiate(request_with(accept_encoding="gzip"))
        compressed.close()


class TestJson:
    def test_a_value_that_contains_itself(self) -> None:
        inner: list[object] = []
        inner.append({"inner": inner})
        with pytest.raises(ValueError, match="contains itself"):
            json_bytes(inner)
        # What failed leaves nothing behind.
        assert json_bytes([[1], {"a": 2}]) == b'[[1],{"a":2}]'

    def test_one_value_in_many_threads(self) -> None:
        value = [{"text": "ä" * 50, "number": number} for number in range(500)]
        with ThreadPoolExecutor(8) as pool:
            assert len(set(pool.map(json_bytes, [value] * 40))) == 1

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
    def test_what_json_has_no_number_for(self, value: object) -> None:
        with pytest.raises(ValueError, match="JSON"):
            json_bytes(value)

    def test_what_json_has_no_type_for(self) -> None:
        with pytest.raises(TypeError, match="set"):
            json_bytes({"a": {1}})
