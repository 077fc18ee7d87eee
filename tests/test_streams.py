"""Trailers, and what a source is if it says nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from resource_server import FieldError, Request, Response, StreamResponse
from resource_server.streams import Source, Trailers


class TestTrailers:
    def test_are_told_when_they_are_asked_for(self) -> None:
        values = iter(["1", "2"])
        trailers = Trailers({"X-Fixed": "a", "X-Number": 7, "X-Later": lambda: next(values)})
        assert trailers.names == "X-Fixed, X-Number, X-Later"
        assert next(values) == "1"
        assert trailers.fields().encode() == b"X-Fixed: a\r\nX-Number: 7\r\nX-Later: 2\r\n"

    def test_may_be_left_out_in_the_end(self) -> None:
        assert Trailers({"X-Error": lambda: None}).fields().encode() == b""

    @pytest.mark.parametrize(
        "name",
        [
            "Content-Length",
            "transfer-encoding",
            "Host",
            "Authorization",
            "Set-Cookie",
            "Content-Type",
            "Trailer",
            "Cache-Control",
            "Content-Encoding",
            "TE",
            "WWW-Authenticate",
            "Location",
        ],
    )
    def test_that_would_be_acted_upon_are_refused(self, name: str) -> None:
        with pytest.raises(FieldError, match=r"6\.5\.1"):
            StreamResponse([], trailers={name: "x"})

    @pytest.mark.parametrize(
        "trailers", [{"a b": "x"}, {"X": "a\r\nb"}, {"X": 1.5}, {"": lambda: "x"}]
    )
    def test_that_cannot_be_sent_are_refused(self, trailers: Any) -> None:
        with pytest.raises(FieldError):
            StreamResponse([], trailers=trailers)

    def test_of_what_has_a_length_are_refused(self) -> None:
        with pytest.raises(ValueError, match="known length"):
            StreamResponse([], content_length=1, trailers={"X": "y"})
        with pytest.raises(ValueError, match="known length"):
            StreamResponse([], headers={"Content-Length": 1}, trailers={"X": "y"})

    def test_are_not_needed(self) -> None:
        assert StreamResponse([]).trailers is None
        assert StreamResponse([], trailers={}).trailers is None


class Closing(Source):
    def __init__(self) -> None:
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class TestSources:
    def test_are_empty(self) -> None:
        source = Source()
        source.open(Request(("127.0.0.1", 1), "GET", "/"), lambda: None)
        source.stop()
        assert (source.take(), source.idle(), source.keep_alive) == (b"", b"", None)
        source.close()

    def test_are_closed_with_their_response_once(self) -> None:
        response = Response()
        response.source = source = Closing()
        response.close()
        response.close()
        assert source.closed == 1
