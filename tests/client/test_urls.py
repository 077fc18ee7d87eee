"""Where a redirect leads, and what a path and a query become."""

from __future__ import annotations

import pytest

from resource_server import HTTPClient
from resource_server.client.urls import Origin, encoded, joined, origin_of, target_of

HERE = Origin("http", "here", 8000)
SOCKET = Origin("http", "localhost", 80, "/run/app.sock")


class TestRedirects:
    @pytest.mark.parametrize(
        ("target", "location", "leads_to"),
        [
            ("/a/b?x", "c", "/a/c"),
            ("/a/b?x", "?y=1", "/a/b?y=1"),
            ("/a/b", "", "/a/b"),
            ("/a", "//here:8000/c", "/c"),
            ("/a", "http://user:word@here:8000/c#there", "/c"),
            ("*", "/c", "/c"),
        ],
    )
    def test_on_the_same_origin(self, target: str, location: str, leads_to: str) -> None:
        assert joined(HERE, target, location) == (HERE, leads_to)

    def test_bytes_that_are_utf_8_are_those_of_the_path(self) -> None:
        for sent, encoded_path in (("/caf\xc3\xa9", "/caf%C3%A9"), ("/caf\xe9", "/caf%C3%A9")):
            assert joined(HERE, "/", sent)[1] == encoded_path

    @pytest.mark.parametrize("location", ["/b", "http://localhost/b", "http://localhost:80/b"])
    def test_a_server_at_a_socket_that_names_itself_is_the_same(self, location: str) -> None:
        assert joined(SOCKET, "/a", location) == (SOCKET, "/b")

    def test_from_a_socket_to_another_server(self) -> None:
        for location in ("http://localhost:8000/b", "https://localhost/b", "//there/b"):
            assert joined(SOCKET, "/a", location)[0].path == ""

    @pytest.mark.parametrize(
        "location",
        ["http+unix://%2Frun%2Fother.sock/", "file:///etc/passwd", "http:c", "/a\r\nb", "http://"],
    )
    def test_what_is_not_followed(self, location: str) -> None:
        for origin in (HERE, SOCKET):
            with pytest.raises(ValueError, match=r"URL|host|socket"):
                joined(origin, "/a", location)


class TestTargets:
    def test_all_of_a_query_is_the_query(self) -> None:
        assert target_of("/x", "?a=1#b") == "/x?a=1%23b"
        assert target_of("/x#y", {"a": "#"}) == "/x?a=%23"

    def test_values_of_a_query(self) -> None:
        query = {"bytes": b"\xff", "many": [1, None, True], "none": None}
        assert encoded(query) == "bytes=%FF&many=1&many=true"

    def test_the_star_is_for_options(self) -> None:
        with HTTPClient("here") as client, pytest.raises(ValueError, match="OPTIONS"):
            client.get("*")


@pytest.mark.parametrize("address", ["h?x", "h#x", "h\\x", " h", "h:80/", "u@h", "h\r\n"])
def test_an_address_that_would_be_cut_off(address: str) -> None:
    with pytest.raises(ValueError, match="from_url"):
        origin_of(address, "http")
