"""Content codings undone piece by piece, within the route's limit."""

from __future__ import annotations

import gzip
import io
import time
import zlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server import BadRequest, ContentTooLarge, Request, post, put
from resource_server.engine.coding import DecodedBody
from resource_server.testing import TestClient

if TYPE_CHECKING:
    from typing import Any


def gzipped(content: bytes) -> bytes:
    """Return the content in gzip, the same whenever it is made."""
    return gzip.compress(content, mtime=0)


class Dripping(io.BytesIO):
    """A body that comes in pieces of a size."""

    def __init__(self, body: bytes, piece: int) -> None:
        super().__init__(body)
        self._piece = piece

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size or 0, self._piece))


def decoded(body: bytes, *codings: str, limit: int = 1_000_000, piece: int = 65536) -> bytes:
    return DecodedBody(Dripping(body, piece), list(codings), limit).read() or b""


@given(st.binary(max_size=2000), st.integers(1, 100))
def test_what_was_coded_is_decoded(content: bytes, piece: int) -> None:
    assert decoded(gzipped(content), "gzip", piece=piece) == content
    assert decoded(gzipped(content), "x-gzip", piece=piece) == content
    assert decoded(zlib.compress(content), "deflate", piece=piece) == content
    twice = zlib.compress(gzipped(content))
    assert decoded(twice, "gzip", "deflate", piece=piece) == content


def test_a_gzip_of_several_members() -> None:
    body = gzipped(b"ab") + gzipped(b"") + gzipped(b"cd" * 100_000)
    assert decoded(body, "gzip") == b"ab" + b"cd" * 100_000
    assert decoded(body, "gzip", piece=1) == b"ab" + b"cd" * 100_000


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", b""),
        ("gzip", b"x"),
        ("gzip", gzipped(b"abc" * 100)[:-1]),
        ("gzip", gzipped(b"abc" * 100)[:-8] + b"\0" * 8),
        ("gzip", gzipped(b"abc") + b"\0"),
        ("gzip", gzipped(b"abc") + b"more"),
        ("gzip", zlib.compress(b"abc")),
        ("deflate", b""),
        ("deflate", zlib.compress(b"abc")[:-1]),
        ("deflate", zlib.compress(b"abc") + b"x"),
        ("deflate", zlib.compress(b"abc") + zlib.compress(b"abc")),
        # RFC 9110 §8.4.1.2: deflate is the zlib format, not what is inside of it.
        ("deflate", zlib.compress(b"abc", wbits=-15)),
        ("deflate", gzipped(b"abc")),
    ],
)
def test_malformed_content_is_a_bad_request_each_time(coding: str, body: bytes) -> None:
    for piece in (65536, 1):
        stream = DecodedBody(Dripping(body, piece), [coding], 1000)
        for _ in range(2):
            with pytest.raises(BadRequest):
                stream.read()
    assert stream.readable()


def test_the_limit_counts_what_each_coding_makes() -> None:
    content = b"x" * 100_000
    assert decoded(gzipped(content), "gzip", limit=100_000) == content
    with pytest.raises(ContentTooLarge):
        decoded(gzipped(content), "gzip", limit=99_999)
    # A hundred thousand empty members hide behind the second coding, and nothing behind the first.
    hidden = zlib.compress(gzipped(b"") * 100_000)
    assert len(hidden) < 10_000
    with pytest.raises(ContentTooLarge):
        decoded(hidden, "gzip", "deflate", limit=10_000)


def test_a_bomb_is_unpacked_no_further_than_it_is_read() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(b"\0" * 1_000_000) for _ in range(300)) + packer.flush()
    stream = DecodedBody(io.BytesIO(bomb), ["gzip"], 1_000_000)
    assert stream.read(10) == b"\0" * 10
    with pytest.raises(ContentTooLarge):
        stream.read()


def test_very_many_members_take_no_time_of_the_square() -> None:
    body = gzipped(b"") * 50_000
    started = time.monotonic()
    assert decoded(body, "gzip") == b""
    assert time.monotonic() - started < 20


class App:
    def __init__(self) -> None:
        @post("/decoded", decode=True, max_content_length=1000)
        def taken(request: Request) -> dict[str, Any]:
            return {"body": request.text(), "length": request.content_length}

        @post("/live", decode=True, max_content_length=1000, stream=True)
        def live(request: Request) -> str:
            return request.text()

        @post("/plain")
        def plain(request: Request) -> bytes:
            return request.body()

        @put("/coded", decode=None)
        def coded(request: Request) -> bytes:
            return request.body()

        self.client = TestClient([taken, live, plain, coded])

    def send(self, path: str, body: bytes, coding: str) -> Any:
        method = "PUT" if path == "/coded" else "POST"
        return self.client.request(method, path, body=body, headers={"Content-Encoding": coding})


class TestRoutes:
    def test_one_that_decodes(self) -> None:
        body = gzipped(b"hello")
        for coding in ("gzip", "GZIP", "identity, gzip", "gzip, ,"):
            response = App().send("/decoded", body, coding)
            assert response.json() == {"body": "hello", "length": len(body)}
        assert App().send("/live", zlib.compress(b"hello"), "deflate").text == "hello"
        assert App().send("/decoded", b"hello", "identity").json()["body"] == "hello"

    @pytest.mark.parametrize("path", ["/decoded", "/live"])
    def test_its_limit_is_that_of_both(self, path: str) -> None:
        assert App().send(path, gzipped(b"x" * 1000), "gzip").status_code == 200
        assert App().send(path, gzipped(b"x" * 1001), "gzip").status_code == 413
        # More on the wire than behind it: the empty members count there.
        many = gzipped(b"") * 60
        assert App().send(path, many, "gzip").status_code == 413

    @pytest.mark.parametrize("path", ["/decoded", "/live"])
    def test_malformed_content_is_a_400(self, path: str) -> None:
        assert App().send(path, b"hello", "gzip").status_code == 400
        assert App().send(path, gzipped(b"hello")[:-1], "gzip").status_code == 400

    @pytest.mark.parametrize("coding", ["br", "compress", "gzip, br", "gzip, gzip, gzip", '"'])
    def test_other_codings_are_a_415_that_tells_which_are_taken(self, coding: str) -> None:
        response = App().send("/decoded", b"hello", coding)
        assert response.status_code == 415
        assert response.headers["accept-encoding"] == "gzip, deflate"

    def test_a_route_that_takes_none_says_so(self) -> None:
        response = App().send("/plain", gzipped(b"hello"), "gzip")
        assert response.status_code == 415
        assert response.headers["accept-encoding"] == "identity"
        assert App().send("/plain", b"hello", "identity").body == b"hello"

    def test_a_route_may_take_them_as_they_are(self) -> None:
        assert App().send("/coded", b"\x1b", "br").body == b"\x1b"

    @pytest.mark.parametrize("wrong", [{"decode": 1}, {"decode": "gzip"}, {"progress": 1}])
    def test_other_options_are_a_type_error(self, wrong: dict[str, Any]) -> None:
        with pytest.raises(TypeError, match=r"decode|progress"):
            post("/", **wrong)
