"""Content codings undone, in bounded pieces."""

from __future__ import annotations

import gzip
import random
import zlib
from importlib import import_module
from typing import Any

import pytest

from resource_server.client import decoding
from resource_server.client.decoding import PIECE, accepted, decoded, decoders

TEXT = b"".join(b"%d %d\n" % (number, number * number) for number in range(30_000))
NOISE = random.Random(1).randbytes(200_000)


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def compressor(coding: str) -> Any:
    if coding == "br":
        return pytest.importorskip("brotli").compress
    if coding == "zstd":
        return pytest.importorskip("backports.zstd").compress
    return {"gzip": gzip.compress, "deflate": zlib.compress, "raw": raw_deflate}[coding]


def undo(coding: str, data: bytes, step: int = 1 << 20) -> bytes:
    stages = decoders(coding)
    assert stages is not None
    pieces: list[bytes] = []
    for at in range(0, len(data), step):
        pieces += decoded(stages, data[at : at + step])
    for stage in stages:
        stage.finish()
    assert max(map(len, pieces), default=0) <= max(PIECE, 131072)
    return b"".join(pieces)


CODINGS = ["gzip", "deflate", "br", "zstd"]


class TestCodings:
    @pytest.mark.parametrize("coding", [*CODINGS, "raw"])
    @pytest.mark.parametrize("content", [b"", b"x", TEXT, NOISE, bytes(1_000_000)])
    @pytest.mark.parametrize("step", [1, 1000, 1 << 20])
    def test_what_was_coded_comes_back(self, coding: str, content: bytes, step: int) -> None:
        if step == 1 and len(content) > 1000:
            content = content[:1000]
        packed = compressor(coding)(content)
        assert undo("deflate" if coding == "raw" else coding, packed, step) == content

    @pytest.mark.parametrize("coding", CODINGS)
    def test_nothing_at_all_is_nothing(self, coding: str) -> None:
        compressor(coding)
        assert undo(coding, b"") == b""

    @pytest.mark.parametrize("coding", [*CODINGS, "raw"])
    def test_an_end_too_early_is_an_error(self, coding: str) -> None:
        packed = compressor(coding)(NOISE)
        with pytest.raises(ValueError, match="too early"):
            undo("deflate" if coding == "raw" else coding, packed[:-10])

    @pytest.mark.parametrize("coding", CODINGS)
    def test_what_is_not_coded_so_is_an_error(self, coding: str) -> None:
        compressor(coding)
        with pytest.raises(ValueError, match=r".+"):
            undo(coding, b"\xff\xff this is not coded at all" * 100)

    @pytest.mark.parametrize("coding", CODINGS)
    def test_a_bomb_comes_in_pieces(self, coding: str) -> None:
        packed = compressor(coding)(bytes(50_000_000))
        stages = decoders(coding)
        assert stages is not None
        pieces = decoded(stages, packed)
        assert 0 < len(next(pieces)) <= 131072
        assert sum(map(len, pieces)) > 49_000_000

    def test_gzip_of_several_members(self) -> None:
        data = gzip.compress(b"a") + gzip.compress(b"") + gzip.compress(TEXT)
        assert undo("gzip", data) == b"a" + TEXT
        assert undo("gzip", data, 1) == b"a" + TEXT

    def test_padding_after_gzip_is_left_out(self) -> None:
        assert undo("gzip", gzip.compress(b"a") + bytes(100)) == b"a"
        with pytest.raises(ValueError, match=r".+"):
            undo("gzip", gzip.compress(b"a") + b"garbage")

    def test_gzip_of_too_many_members(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decoding, "MAX_MEMBERS", 10)
        with pytest.raises(ValueError, match="members"):
            undo("gzip", gzip.compress(b"") * 12)

    def test_zstd_of_several_frames(self) -> None:
        compress = compressor("zstd")
        data = compress(b"a") + compress(TEXT)
        assert undo("zstd", data) == b"a" + TEXT
        assert undo("zstd", data, 1) == b"a" + TEXT

    def test_codings_on_top_of_each_other(self) -> None:
        packed = gzip.compress(zlib.compress(TEXT))
        assert undo("deflate, GZIP", packed) == TEXT
        assert undo("deflate,x-gzip, identity,", packed, 100) == TEXT


class TestNames:
    def test_identity_is_none(self) -> None:
        assert decoders("identity") == []
        assert decoders("") == []
        assert list(decoded([], b"x")) == [b"x"]

    def test_an_unknown_one_is_told(self) -> None:
        assert decoders("gzip, new") is None

    def test_too_many_are_refused(self) -> None:
        with pytest.raises(ValueError, match="more than 3"):
            decoders("gzip, gzip, gzip, gzip")

    def test_what_is_accepted_is_what_is_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def without(*missing: str) -> str:
            def find(name: str) -> Any:
                if name in missing:
                    raise ImportError(name)
                return import_module(name)

            monkeypatch.setattr(decoding, "import_module", find)
            decoding._codings.cache_clear()
            accepted.cache_clear()
            return accepted()

        optional = ("brotli", "brotlicffi", "compression.zstd", "backports.zstd")
        try:
            assert without(*optional) == "gzip, deflate"
            assert without().startswith("gzip, deflate")
        finally:
            monkeypatch.undo()
            decoding._codings.cache_clear()
            accepted.cache_clear()
