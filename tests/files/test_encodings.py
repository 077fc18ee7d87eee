from __future__ import annotations

import pytest

from resource_server.files.encodings import accepted_codings, may_be_encoded


@pytest.mark.parametrize(
    ("value", "codings"),
    [
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "br zstd gzip"),
        ("gzip;q=1.0, br;q=0.5", "gzip br"),
        ("x-gzip", "gzip"),
        ("gzip;q=0, br", "br"),
        ("*", "br zstd gzip"),
        ("*;q=0.5, gzip", "gzip br zstd"),
        ("*, br;q=0", "zstd gzip"),
        ("identity", ""),
        ("identity, gzip;q=0.5", ""),
        ("identity;q=0.5, gzip;q=0.4, br;q=0.6", "br"),
        ("identity;q=0, gzip", "gzip"),
        ("gzip;q=0", ""),
        ("gzip;q=2", ""),
        ("", ""),
        ("GZIP", "gzip"),
        ('"', ""),
        ("gzip," * 1000, ""),
    ],
)
def test_accepted(value: str, codings: str) -> None:
    assert " ".join(accepted_codings(value)) == codings


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("text/html; charset=utf-8", True),
        ("application/wasm", True),
        ("application/octet-stream", True),
        ("image/svg+xml", True),
        ("image/png", False),
        ("video/mp4", False),
        ("audio/mpeg", False),
        ("font/woff2", False),
    ],
)
def test_what_is_compressed_in_itself_is_not_looked_for(content_type: str, expected: bool) -> None:
    assert may_be_encoded(content_type) is expected
