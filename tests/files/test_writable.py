"""A directory that clients may write: PUT, forms, DELETE; each file appears complete or not."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests

from resource_server import HTTPServer, Router, WritableFileResource
from resource_server.newfile import ABANDONED
from resource_server.testing import TestClient
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Serve

    Make = Callable[..., TestClient]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    return root


@pytest.fixture
def make(root: Path) -> Make:
    def make(**options: Any) -> TestClient:
        router = Router()
        router.mount("/f", WritableFileResource(root, **options))
        return TestClient(router)

    return make


def names(directory: Path) -> list[str]:
    return sorted(os.listdir(directory))


class TestPut:
    def test_a_new_file_and_then_the_next(self, make: Make, root: Path) -> None:
        client = make()
        made = client.put("/f/sub/a%20b.txt", body=b"one")
        assert (made.status_code, made.headers["location"]) == (201, "/f/sub/a%20b.txt")
        assert (root / "sub/a b.txt").read_bytes() == b"one"
        changed = client.put(
            "/f/sub/a%20b.txt", body=b"three", headers={"If-Match": made.headers["etag"]}
        )
        assert changed.status_code == 204
        assert changed.headers["etag"] != made.headers["etag"]
        assert "location" not in changed.headers
        assert (root / "sub/a b.txt").read_bytes() == b"three"
        assert names(root / "sub") == ["a b.txt"]
        read = client.get("/f/sub/a%20b.txt")
        assert (read.body, read.headers["etag"]) == (b"three", changed.headers["etag"])

    def test_one_that_shall_survive_a_power_failure(
        self, make: Make, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", synced.append)
            client = make(sync=True)
            assert client.put("/f/a", body=b"x").status_code == 201
            assert len(synced) == 2, "the file and its directory"
            assert send(client, "/f/", ("b", b"x")).status_code == 201
        assert len(synced) == 4
        assert names(root) == ["a", "b", "sub"]

    def test_an_empty_file(self, make: Make, root: Path) -> None:
        assert make().put("/f/a", body=b"").status_code == 201
        assert (root / "a").read_bytes() == b""

    @pytest.mark.parametrize(
        ("fields", "status"),
        [
            ({}, 409),
            ({"If-Match": '"x"'}, 412),
            ({"If-Match": "W/{etag}"}, 412),
            ({"If-Match": '"x", {etag}'}, 204),
            ({"If-Match": "*"}, 204),
            ({"If-None-Match": "*"}, 412),
            ({"If-None-Match": "W/{etag}"}, 412),
            ({"If-None-Match": '"x"'}, 409),
        ],
    )
    def test_what_is_there_is_replaced_only_by_who_knows_it(
        self, make: Make, root: Path, fields: dict[str, str], status: int
    ) -> None:
        client = make()
        etag = client.put("/f/a", body=b"old").headers["etag"]
        fields = {name: value.format(etag=etag) for name, value in fields.items()}
        assert client.put("/f/a", body=b"new", headers=fields).status_code == status
        assert (root / "a").read_bytes() == (b"new" if status == 204 else b"old")
        assert names(root) == ["a", "sub"]

    def test_what_is_not_there_can_be_asked_for(self, make: Make, root: Path) -> None:
        client = make(collision="overwrite")
        assert client.put("/f/a", body=b"", headers={"If-Match": "*"}).status_code == 412
        assert client.put("/f/a", body=b"", headers={"If-Match": '"x"'}).status_code == 412
        assert names(root) == ["sub"]
        assert client.put("/f/a", body=b"", headers={"If-None-Match": "*"}).status_code == 201
        assert client.put("/f/a", body=b"", headers={"If-None-Match": "*"}).status_code == 412
        assert client.put("/f/a", body=b"2").status_code == 204

    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("/f/", 409),
            ("/f/sub", 409),
            ("/f/new/", 409),
            ("/f/missing/a", 409),
            ("/f/file/a", 409),
            ("/f/link", 409),
            ("/f/fifo", 409),
            ("/f/.hidden", 403),
            ("/f/.hidden/a", 403),
            ("/f/..", 403),
            ("/f/%2e%2e/a", 403),
            ("/f/sub%2fa", 403),
            ("/f/sub%5ca", 403),
            ("/f/sub//a", 404),
            ("/f/con.txt", 403),
            ("/f/a.", 403),
            ("/f/a%00", 403),
            ("/f/c:a", 403),
            ("/f/out/a", 403),
            ("/f/" + "x" * 256, 403),
            ("/f/" + "%C3%A9" * 200, 403),
        ],
    )
    def test_names_that_are_never_written(
        self, make: Make, root: Path, path: str, status: int
    ) -> None:
        (root / "file").touch()
        (root / "link").symlink_to("file")
        (root / "out").symlink_to("..")
        os.mkfifo(root / "fifo")
        before = names(root)
        response = make(collision="overwrite").put(path, body=b"x")
        assert response.status_code == status, response.text
        assert names(root) == before
        assert names(root.parent) == ["root"]

    def test_links_inside_the_root_lead_to_their_directory(self, make: Make, root: Path) -> None:
        (root / "alias").symlink_to("sub")
        assert make().put("/f/alias/a", body=b"x").status_code == 201
        assert names(root / "sub") == ["a"]

    def test_a_part_is_not_taken_for_the_whole(self, make: Make, root: Path) -> None:
        headers = {"Content-Range": "bytes 0-0/10"}
        assert make().put("/f/a", body=b"x", headers=headers).status_code == 400
        assert names(root) == ["sub"]

    def test_codings_are_not_stored_for_the_content(self, make: Make, root: Path) -> None:
        headers = {"Content-Encoding": "gzip"}
        assert make().put("/f/a", body=b"x", headers=headers).status_code == 415
        assert names(root) == ["sub"]

    @pytest.mark.parametrize("counted", [True, False])
    def test_its_size_is_bounded(self, make: Make, root: Path, counted: bool) -> None:
        client = make(max_file_size=1000)
        for size, status in ((1000, 201), (1001, 413)):
            body: Any = b"x" * size
            response = client.put(f"/f/{size}", body=body if counted else iter([body]))
            assert response.status_code == status
        assert names(root) == ["1000", "sub"]


def send(client: TestClient, path: str, *files: tuple[str, bytes], **headers: str) -> Any:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(path, files=[("f", file) for file in files], headers=fields)


class TestForms:
    def test_files_get_safe_names(self, make: Make, root: Path) -> None:
        response = send(make(), "/f/sub", ("../ä b.txt", b"one"), (".b", b"two2"))
        assert response.status_code == 201
        assert response.json() == [
            {"name": "ä b.txt", "size": 3, "url": "/f/sub/%C3%A4%20b.txt"},
            {"name": "b", "size": 4, "url": "/f/sub/b"},
        ]
        assert response.headers["location"] == "/f/sub/%C3%A4%20b.txt"
        assert names(root / "sub") == ["b", "ä b.txt"]
        assert (root / "sub/b").read_bytes() == b"two2"

    @pytest.mark.parametrize(
        ("path", "base"), [("/f", "/f/"), ("/f/", "/f/"), ("/f/sub/", "/f/sub/")]
    )
    def test_a_browser_is_sent_to_the_directory(self, make: Make, path: str, base: str) -> None:
        client = make()
        response = client.post(
            path,
            files={"f": ("a", b"x")},
            headers={"Accept": "text/html,*/*;q=0.8"},
            follow_redirects=False,
        )
        assert (response.status_code, response.headers["location"]) == (303, base)
        assert client.get(base + "a").body == b"x"

    def test_fields_and_empty_choices_are_left_out(self, make: Make, root: Path) -> None:
        client = make()
        files = [("f", ("", b"")), ("f", ("a", b"x"))]
        assert client.post("/f/", form={"b": "y" * 1000}, files=files).status_code == 201
        assert names(root) == ["a", "sub"]
        for nothing in ([("f", ("", b""))], []):
            assert client.post("/f/", form={"b": "y"}, files=nothing).status_code == 400
        assert client.post("/f/", form={"a": "x"}).status_code == 415
        assert names(root) == ["a", "sub"]

    def test_refused_all_are_if_one_is(self, make: Make, root: Path) -> None:
        (root / "b").write_text("old")
        response = send(make(), "/f/", ("a", b"1"), ("b", b"2"), ("c", b"3"))
        assert response.status_code == 409
        assert "'b'" in response.text
        assert names(root) == ["b", "sub"]
        assert (root / "b").read_text() == "old"

    def test_renamed(self, make: Make, root: Path) -> None:
        client = make(collision="rename")
        for _ in range(2):
            response = send(client, "/f/", ("a.tar.gz", b"1"), ("a.tar.gz", b"2"), ("b", b"3"))
        assert [each["name"] for each in response.json()] == [
            "a.tar (2).gz",
            "a.tar (3).gz",
            "b (1)",
        ]
        assert (root / "a.tar.gz").read_bytes() == b"1"
        assert client.put("/f/b", body=b"").status_code == 409

    def test_overwritten(self, make: Make, root: Path) -> None:
        (root / "a").write_text("old")
        assert send(make(collision="overwrite"), "/f/", ("a", b"new")).status_code == 201
        assert (root / "a").read_text() == "new"
        assert send(make(collision="overwrite"), "/f/", ("sub", b"x")).status_code == 409
        assert names(root) == ["a", "sub"]

    def test_their_size_and_number_are_bounded(self, make: Make, root: Path) -> None:
        client = make(max_file_size=1000)
        assert send(client, "/f/", ("a", b"x" * 600), ("b", b"x" * 401)).status_code == 413
        assert send(client, "/f/", *[(str(n), b"x") for n in range(21)]).status_code == 413
        assert client.post("/f/", form={"x": "y" * 1_100_000}, files={"a": b""}).status_code == 413
        assert names(root) == ["sub"]
        assert send(client, "/f/", ("a", b"x" * 600), ("b", b"x" * 400)).status_code == 201
        assert send(client, "/f/", *[(f"n{n}", b"x") for n in range(20)]).status_code == 201

    @pytest.mark.parametrize(
        ("path", "status"), [("/f/missing", 409), ("/f/.x", 403), ("/f/..", 403), ("/f/a", 409)]
    )
    def test_only_into_a_directory(self, make: Make, root: Path, path: str, status: int) -> None:
        (root / "a").touch()
        assert send(make(), path, ("b", b"x")).status_code == status
        assert names(root) == ["a", "sub"]


class TestDelete:
    def test_a_file_is_gone(self, make: Make, root: Path) -> None:
        client = make()
        etag = client.put("/f/a", body=b"x").headers["etag"]
        for wrong in ({"If-Match": '"x"'}, {"If-None-Match": etag}):
            assert client.delete("/f/a", headers=wrong).status_code == 412
        assert client.delete("/f/a", headers={"If-Match": etag}).status_code == 204
        assert client.delete("/f/a").status_code == 404
        assert client.delete("/f/a", headers={"If-Match": "*"}).status_code == 412
        assert names(root) == ["sub"]

    def test_nothing_else(self, make: Make, root: Path) -> None:
        (root / "link").symlink_to("sub")
        (root / ".hidden").touch()
        before = names(root)
        client = make()
        for path, status in (("/f/sub", 409), ("/f/link", 409), ("/f/", 409), ("/f/.hidden", 403)):
            assert client.delete(path).status_code == status
        assert names(root) == before

    def test_a_subclass_can_leave_it_out(self, root: Path) -> None:
        class Kept(WritableFileResource):
            delete_file = None  # type: ignore[assignment]

        router = Router()
        router.mount("/f", Kept(root))
        response = TestClient(router).delete("/f/a")
        assert response.status_code == 405
        assert "PUT" in response.headers["allow"]
        assert "DELETE" not in response.headers["allow"]


class TestOrigins:
    @pytest.mark.parametrize(
        ("fields", "allowed"),
        [
            ({}, True),
            ({"Origin": "http://here"}, True),
            ({"Origin": "http://here", "Sec-Fetch-Site": "same-origin"}, True),
            ({"Sec-Fetch-Site": "same-origin"}, True),
            ({"Sec-Fetch-Site": "none"}, True),
            ({"Sec-Fetch-Site": "cross-site"}, False),
            ({"Sec-Fetch-Site": "same-site"}, False),
            ({"Origin": "http://evil", "Sec-Fetch-Site": "cross-site"}, False),
            ({"Origin": "http://here:81"}, False),
            ({"Origin": "null"}, False),
        ],
    )
    def test_pages_of_others_may_not_write(
        self, make: Make, root: Path, fields: dict[str, str], allowed: bool
    ) -> None:
        (root / "old").touch()
        client = make()
        headers = {"Host": "here", **fields}
        statuses = [
            client.post("/f/", files={"f": ("a", b"x")}, headers=headers).status_code,
            client.put("/f/b", body=b"x", headers=headers).status_code,
            client.delete("/f/old", headers=headers).status_code,
        ]
        assert statuses == ([201, 201, 204] if allowed else [403] * 3)
        assert names(root) == (["a", "b", "sub"] if allowed else ["old", "sub"])

    def test_some_may(self, make: Make) -> None:
        client = make(origins="http://friend")
        headers = {"Host": "here", "Origin": "http://friend", "Sec-Fetch-Site": "cross-site"}
        assert client.put("/f/a", body=b"x", headers=headers).status_code == 201


class TestQuota:
    def test_of_all_files_together(self, make: Make, root: Path) -> None:
        (root / "sub/old").write_bytes(b"x" * 400)
        client = make(quota=1000, collision="overwrite")
        assert client.put("/f/a", body=b"x" * 600).status_code == 201
        assert client.put("/f/b", body=b"x").status_code == 507
        assert send(client, "/f/", ("b", b"x")).status_code == 507
        assert names(root) == ["a", "sub"]
        # Both are there for a moment, so that the old one is never lost.
        assert client.put("/f/a", body=b"x" * 100).status_code == 507
        assert client.delete("/f/sub/old").status_code == 204
        assert client.put("/f/a", body=b"x" * 300).status_code == 204
        assert client.put("/f/b", body=b"x" * 700).status_code == 201
        assert client.put("/f/c", body=b"x").status_code == 507

    def test_what_is_refused_does_not_count(self, make: Make, root: Path) -> None:
        client = make(quota=1000)
        (root / "b").write_text("")
        for _ in range(10):
            assert send(client, "/f/", ("a", b"x" * 900), ("b", b"x")).status_code == 409
            assert client.put("/f/d", body=iter([b"x" * 600, b"x" * 600])).status_code == 507
        assert client.put("/f/a", body=b"x" * 1000).status_code == 201

    @pytest.mark.parametrize(
        "wrong",
        [{"quota": 0}, {"max_file_size": 0}, {"collision": "ask"}, {"origins": "nonsense"}],
    )
    def test_arguments_that_cannot_be(self, root: Path, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError):  # noqa: PT011 - four of them
            WritableFileResource(root, **wrong)

    @pytest.mark.parametrize(
        ("trouble", "status"), [("ENOSPC", 507), ("EACCES", 403), ("EIO", None)]
    )
    def test_trouble_of_the_disk(
        self,
        make: Make,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
        trouble: str,
        status: int | None,
    ) -> None:
        client = make(quota=1000)

        def fail(*_: object) -> int:
            raise OSError(getattr(errno, trouble), "trouble")

        with monkeypatch.context() as patch:
            patch.setattr(os, "write", fail)
            if status is None:
                with pytest.raises(OSError, match="trouble"):
                    client.put("/f/a", body=b"x" * 900)
            else:
                assert client.put("/f/a", body=b"x" * 900).status_code == status
        assert names(root) == ["sub"]
        assert client.put("/f/a", body=b"x" * 1000).status_code == 201


def test_what_a_crashed_process_left_is_removed_at_the_beginning(make: Make, root: Path) -> None:
    left = root / "sub" / f".upload-{'0' * 32}.part"
    left.write_bytes(b"x" * 1000)
    long_ago = left.stat().st_mtime - 2 * ABANDONED
    os.utime(left, (long_ago, long_ago))
    client = make(quota=1000)
    assert names(root / "sub") == []
    assert client.put("/f/a", body=b"x" * 1000).status_code == 201


class TestSockets:
    @pytest.fixture
    def server(self, root: Path, serve: Serve) -> HTTPServer:
        server = serve()
        self.resource = WritableFileResource(root, max_file_size=2**33, quota=2**33)
        server.router.mount("/f", self.resource)
        return server

    @pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
    def test_curl_uploads(self, server: HTTPServer, root: Path, tmp_path: Path) -> None:
        (tmp_path / "a b.bin").write_bytes(os.urandom(2_000_000))
        url = server.url + "/f/"
        for options in (["-T", "a b.bin"], ["-F", "f=@a b.bin;filename=c"]):
            subprocess.run(
                ["curl", "-sSf", *options, url], cwd=tmp_path, check=True, capture_output=True
            )
        content = (tmp_path / "a b.bin").read_bytes()
        assert (root / "a b.bin").read_bytes() == content
        assert (root / "c").read_bytes() == content

    @pytest.mark.parametrize("method", ["PUT", "POST"])
    def test_an_upload_that_is_cut_leaves_nothing(
        self, server: HTTPServer, root: Path, method: str
    ) -> None:
        head = f"{method} /f/sub/a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n"
        body = b"x" * 200_000
        if method == "POST":
            head = head.replace("/a ", " ") + "Content-Type: multipart/form-data; boundary=B\r\n"
            body = b'--B\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n' + body
        with Client(server.address) as client:
            client.send(head.encode() + b"\r\n" + body)
            while not names(root / "sub"):
                pass
            (hidden,) = names(root / "sub")
            assert hidden.startswith(".upload-")
            assert requests.get(f"{server.url}/f/sub/{hidden}", timeout=PATIENCE).status_code == 404
        while names(root / "sub"):
            pass
        assert server.stop(PATIENCE)
        assert self.resource._used == 0

    def test_an_answer_does_not_wait_for_what_would_be_refused(self, server: HTTPServer) -> None:
        with Client(server.address) as client:
            client.send(b"PUT /f/sub HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
            assert client.read().status == 409

    def test_of_those_who_replace_the_same_one_wins(self, server: HTTPServer, root: Path) -> None:
        url = server.url + "/f/a"
        etag = requests.put(url, data=b"0", timeout=PATIENCE).headers["etag"]
        barrier = threading.Barrier(6)
        statuses: list[int] = []

        def replace(number: int) -> None:
            def slowly() -> Any:
                yield b"%d" % number
                barrier.wait(PATIENCE)
                yield b"!"

            answer = requests.put(url, data=slowly(), headers={"If-Match": etag}, timeout=PATIENCE)
            statuses.append(answer.status_code)

        threads = [threading.Thread(target=replace, args=(n,)) for n in range(1, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(statuses) == [204] + [412] * 5
        assert (root / "a").read_bytes()[1:] == b"!"
        assert names(root) == ["a", "sub"]

    @pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs a sparse file")
    def test_memory_does_not_grow_with_the_file(self, server: HTTPServer, root: Path) -> None:
        import tracemalloc

        size = 300_000_000
        piece = memoryview(bytes(1_000_000))
        with socket.create_connection(server.address, PATIENCE) as sock:
            tracemalloc.start()
            try:
                head = f"PUT /f/big HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"
                sock.sendall(head.encode())
                for _ in range(size // len(piece)):
                    sock.sendall(piece)
                assert sock.recv(1000).startswith(b"HTTP/1.1 201 ")
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert peak < 8_000_000
        assert (root / "big").stat().st_size == size
