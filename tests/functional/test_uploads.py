"""Forms with files, bodies in codings and their progress, through sockets, by clients of others."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests

from resource_server import (
    Form,
    Limits,
    NotFound,
    Request,
    Resource,
    Response,
    UploadProgress,
    get,
    post,
    put,
)
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from pathlib import Path

    from resource_server import HTTPServer
    from tests.conftest import Serve

NAME = "0123456789abcdef"
HEAD = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Type: multipart/form-data; boundary=B\r\n%b\r\n"
FILE = b'--B\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
LARGE = 20_000_000


def described(form: Form) -> dict[str, Any]:
    files = {
        name: [[file.name, file.content_type, file.size, file.read()[:5].decode()] for file in each]
        for name, each in form.files.items()
    }
    return {"fields": dict(form), "files": files}


class App(Resource):
    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory
        self.uploads = UploadProgress()
        self.forms: list[Form] = []
        self.received = threading.Semaphore(0)
        self.go_on = threading.Event()

    def _form(self, request: Request) -> dict[str, Any]:
        form = request.form()
        self.forms.append(form)
        return described(form)

    @post("/collected", max_content_length=LARGE)
    def collected(self, request: Request) -> dict[str, Any]:
        return self._form(request)

    @post("/live", max_content_length=LARGE, stream=True)
    def live(self, request: Request) -> dict[str, Any]:
        return self._form(request)

    @post("/failing", max_content_length=LARGE, stream=True)
    def failing(self, request: Request) -> None:
        self._form(request)
        raise NotFound

    @post("/save", max_content_length=LARGE, stream=True)
    def save(self, request: Request) -> str:
        (file,) = request.form().files["f"]
        return file.save(self.directory)

    @post("/parts", max_content_length=LARGE, stream=True)
    def parts(self, request: Request) -> list[list[object]]:
        return [[part.name, part.filename, len(part.read())] for part in request.parts()]

    @post("/watched", max_content_length=LARGE, stream=True)
    def watched(self, request: Request) -> list[int]:
        sizes = []
        for part in request.parts():
            size = 0
            for piece in part:
                size += len(piece)
                self.received.release()
            sizes.append(size)
        return sizes

    @post("/first", max_content_length=LARGE, stream=True)
    def first(self, request: Request) -> Response:
        part = next(request.parts())
        return Response(f"no {part.name}", 403)

    @post("/followed", max_content_length=LARGE)
    def followed(self, request: Request) -> str:
        return str(len(request.body()))

    @post("/followed-live", max_content_length=LARGE, stream=True)
    def followed_live(self, request: Request) -> str:
        size = 0
        while piece := request.stream.read(1000):
            size += len(piece)
            self.received.release()
        assert self.go_on.wait(PATIENCE)
        return str(size)

    @get("/progress/:id")
    def progress(self, request: Request) -> object:
        state = self.uploads.get(request.matches["id"])
        if state is None:
            return NotFound
        return [state.received, state.total, state.complete, state.ended]

    @post("/decoded", max_content_length=1_000_000, decode=True, stream=True)
    def decoded(self, request: Request) -> dict[str, Any]:
        content = request.body()
        return {
            "size": len(content),
            "length": request.content_length,
            "trailer": request.trailers.get("sum"),
        }

    @put("/raw", max_content_length=LARGE, stream=True)
    def raw(self, request: Request) -> dict[str, Any]:
        length = request.content_length
        return {"length": length, "size": len(request.stream.read())}


@pytest.fixture
def app(tmp_path: Path) -> App:
    return App(tmp_path)


@pytest.fixture
def server(app: App, serve: Serve) -> HTTPServer:
    return serve(app, limits=Limits(body_idle=PATIENCE))


class TestForms:
    @pytest.mark.parametrize("path", ["/collected", "/live"])
    @pytest.mark.parametrize("size", [5, 100_000, 5_000_000])
    def test_of_requests(self, server: HTTPServer, app: App, path: str, size: int) -> None:
        session = requests.Session()
        answer = session.post(
            server.url + path,
            data={"title": "Größe", "many": ["1", "2"]},
            files=[
                ("f", ('a"ü.txt', io.BytesIO(b"x" * size), "text/plain")),
                ("f", ("b", b"hello")),
                ("g", ("c", b"")),
            ],
            timeout=PATIENCE,
        )
        assert answer.status_code == 200
        assert answer.json() == {
            "fields": {"title": ["Größe"], "many": ["1", "2"]},
            "files": {
                "f": [
                    ['a"ü.txt', "text/plain", size, "xxxxx"],
                    ["b", "application/octet-stream", 5, "hello"],
                ],
                "g": [["c", "application/octet-stream", 0, ""]],
            },
        }
        # On the same connection: its answer comes when everything of the first is done.
        assert session.post(server.url + "/collected", timeout=PATIENCE).status_code == 415
        session.close()
        # The files of a form that is small stay readable, as a small body does.
        if size == 5_000_000:
            with pytest.raises(ValueError, match="closed"):
                app.forms[0].files["f"][0].read()

    @pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
    @pytest.mark.parametrize("path", ["/collected", "/live"])
    def test_of_curl(self, server: HTTPServer, tmp_path: Path, path: str) -> None:
        (tmp_path / 'q"ü.bin').write_bytes(b"12345" * 100_000)
        (tmp_path / "e").write_bytes(b"")
        done = subprocess.run(
            [
                *("curl", "-sS", "-F", "title=a b", "-F", 'f=@"q\\"ü.bin"'),
                *("-F", "g=@e;type=x/y", server.url + path),
            ],
            cwd=tmp_path,
            capture_output=True,
            check=True,
        )
        answer = json.loads(done.stdout)
        assert answer == {
            "fields": {"title": ["a b"]},
            "files": {
                "f": [['q"ü.bin', "application/octet-stream", 500_000, "12345"]],
                "g": [["e", "x/y", 0, ""]],
            },
        }

    @pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
    @pytest.mark.parametrize(
        "options",
        [
            ["-X", "PUT", "--data-binary", "@f"],
            ["-T", "f"],
            ["-T", "f", "-H", "Expect: 100-continue"],
        ],
    )
    def test_a_file_of_curl_as_it_is(
        self, server: HTTPServer, tmp_path: Path, options: list[str]
    ) -> None:
        (tmp_path / "f").write_bytes(b"x" * 3_000_000)
        done = subprocess.run(
            ["curl", "-sS", *options, server.url + "/raw"],
            cwd=tmp_path,
            capture_output=True,
            check=True,
        )
        assert done.stdout == b'{"length":3000000,"size":3000000}'

    def test_a_file_is_saved(self, server: HTTPServer, tmp_path: Path) -> None:
        content = os.urandom(3_000_000)
        answer = requests.post(
            server.url + "/save", files={"f": ("../x.bin", content)}, timeout=PATIENCE
        )
        assert answer.text == str(tmp_path / "x.bin")
        assert (tmp_path / "x.bin").read_bytes() == content
        assert os.listdir(tmp_path) == ["x.bin"]

    @pytest.mark.parametrize(
        ("body", "status"),
        [(b"", 400), (FILE, 400), (b"x" * 1000, 400), (b"--B--", 200), (FILE + b"\r\n--B--", 200)],
    )
    @pytest.mark.parametrize("path", [b"/collected", b"/live", b"/parts"])
    def test_a_malformed_one_is_a_400(
        self, server: HTTPServer, path: bytes, body: bytes, status: int
    ) -> None:
        with Client(server.address) as client:
            length = b"Content-Length: %d\r\n" % len(body)
            client.send(HEAD % (path, length) + body)
            assert client.read().status == status

    def test_of_another_type_is_a_415(self, server: HTTPServer) -> None:
        for path in ("/collected", "/live", "/parts"):
            assert requests.post(server.url + path, data=b"x", timeout=PATIENCE).status_code == 415

    def test_too_many_parts_are_a_413(self, server: HTTPServer) -> None:
        part = b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
        body = part * 10_000 + b"--B--"
        for path in (b"/collected", b"/live", b"/parts"):
            with Client(server.address) as client:
                client.send(HEAD % (path, b"Content-Length: %d\r\n" % len(body)))
                try:
                    client.send(body)
                except ConnectionError:
                    pass
                assert client.read().status == 413


class TestTemporaryFiles:
    """With the response, however it came to it, they are gone."""

    def test_after_an_error(self, server: HTTPServer, app: App) -> None:
        with requests.Session() as session:
            answer = session.post(
                server.url + "/failing", files={"f": b"x" * 300_000}, timeout=PATIENCE
            )
            assert answer.status_code == 404
            # On the same connection: its answer comes when everything of the first is done.
            assert session.post(server.url + "/collected", timeout=PATIENCE).status_code == 415
        with pytest.raises(ValueError, match="closed"):
            app.forms[0].files["f"][0].read()

    @pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
    @pytest.mark.parametrize("path", [b"/live", b"/collected"])
    def test_after_a_client_has_left(self, app: App, serve: Serve, path: bytes) -> None:
        server = serve(app, limits=Limits(body_idle=PATIENCE))
        with Client(server.address) as other:
            other.post("/collected", b"")
            before = len(os.listdir("/proc/self/fd"))
            with Client(server.address) as client:
                client.send(HEAD % (path, b"Content-Length: 1000000\r\n") + FILE + b"x" * 500_000)
            # The server and this test share the process: its descriptors are the client's, too.
            for _ in range(1000):
                other.post("/collected", b"")
                if len(os.listdir("/proc/self/fd")) <= before:
                    break
                threading.Event().wait(0.01)
            assert len(os.listdir("/proc/self/fd")) <= before

    def test_they_go_where_it_was_said(self, app: App, serve: Serve, tmp_path: Path) -> None:
        server = serve(app, spool_directory=tmp_path)
        for path in ("/collected", "/live"):
            answer = requests.post(server.url + path, files={"f": b"x" * 300_000}, timeout=PATIENCE)
            assert answer.status_code == 200
        assert os.listdir(tmp_path) == []
        with pytest.raises(NotADirectoryError, match="spool_directory"):
            serve(app, spool_directory=tmp_path / "missing")


class TestLiveBodies:
    def test_parts_are_read_while_they_come(self, server: HTTPServer, app: App) -> None:
        with Client(server.address) as client:
            client.send(HEAD % (b"/watched", b"Transfer-Encoding: chunked\r\n"))
            client.send(b"%x\r\n%b\r\n" % (len(FILE), FILE))
            for _ in range(3):
                client.send(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
                assert app.received.acquire(timeout=PATIENCE)
            client.send(b"9\r\n\r\n--B--\r\n\r\n0\r\n\r\n")
            assert client.read().body == b"[3000]"
            assert client.post("/collected", b"").status == 415, "the connection goes on"

    def test_the_answer_need_not_wait_for_the_end(self, server: HTTPServer) -> None:
        with Client(server.address) as client:
            client.send(HEAD % (b"/first", b"Content-Length: 1000000\r\n") + FILE + b"x")
            answer = client.read()
            assert (answer.status, answer.body) == (403, b"no f")
            assert answer.fields["connection"] == "close"

    def test_one_in_a_coding_and_its_trailers(self, server: HTTPServer) -> None:
        body = gzip.compress(b"x" * 500_000)
        head = b"POST /decoded HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n"
        with Client(server.address) as client:
            client.send(head + b"Content-Length: %d\r\n\r\n" % len(body))
            for at in range(0, len(body), 50):
                client.send(body[at : at + 50])
            assert client.read().body == b'{"size":500000,"length":%d,"trailer":null}' % len(body)
            client.send(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(body) + body)
            client.send(b"\r\n0\r\nSum: 7\r\n\r\n")
            assert client.read().body == b'{"size":500000,"length":null,"trailer":"7"}'
            bomb = gzip.compress(b"x" * 10_000_000)
            client.send(head + b"Content-Length: %d\r\n\r\n" % len(bomb) + bomb)
            assert client.read().status == 413
            client.send(head + b"Content-Length: 5\r\n\r\nhello")
            assert client.read().status == 400

    def test_one_in_another_coding_is_refused_before_it_comes(self, server: HTTPServer) -> None:
        head = b"POST /decoded HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
        with Client(server.address) as client:
            client.send(head + b"Content-Encoding: br\r\nContent-Length: 5\r\n\r\n")
            answer = client.read()
            assert (answer.status, answer.fields["accept-encoding"]) == (415, "gzip, deflate")


class TestProgress:
    @pytest.fixture
    def server(self, tmp_path: Path, serve: Serve) -> HTTPServer:
        self.app = App(tmp_path)
        uploads = self.app.uploads
        collected = post("/followed", max_content_length=LARGE, progress=uploads)
        live = post("/followed-live", max_content_length=LARGE, stream=True, progress=uploads)

        @collected
        def followed(request: Request) -> str:
            return self.app.followed(request)

        @live
        def followed_live(request: Request) -> str:
            return self.app.followed_live(request)

        # One loop reads first what was sent first.
        routes = [followed, followed_live, ("GET", "/progress/:id", self.app.progress)]
        return serve(routes, loops=1)

    def ask(self, server: HTTPServer) -> Any:
        return requests.get(f"{server.url}/progress/{NAME}", timeout=PATIENCE).json()

    def test_of_a_live_body(self, server: HTTPServer) -> None:
        with Client(server.address) as client:
            head = f"POST /followed-live HTTP/1.1\r\nHost: a\r\nX-Upload-ID: {NAME}\r\n"
            client.send(head.encode() + b"Content-Length: 3000\r\n\r\n")
            for number in range(3):
                client.send(b"x" * 1000)
                while self.ask(server)[0] < 1000 * (number + 1):
                    assert self.app.received.acquire(timeout=PATIENCE)
            assert self.ask(server) == [3000, 3000, True, False]
            self.app.go_on.set()
            assert client.read().body == b"3000"
            assert client.get(f"/progress/{NAME}").body == b"[3000,3000,true,true]"

    @pytest.mark.parametrize("end", ["all", "leave"])
    def test_of_a_body_that_is_collected(self, server: HTTPServer, end: str) -> None:
        with Client(server.address) as client:
            head = f"POST /followed?upload_id={NAME} HTTP/1.1\r\nHost: a\r\n"
            client.send(head.encode() + b"Content-Length: 2000000\r\n\r\n" + b"x" * 1_000_000)
            while self.ask(server)[0] < 1_000_000:
                pass
            assert self.ask(server) == [1_000_000, 2_000_000, False, False]
            if end == "all":
                client.send(b"x" * 1_000_000)
                assert client.read().body == b"2000000"
                assert self.ask(server) == [2_000_000, 2_000_000, True, True]
                return
        while not self.ask(server)[3]:
            pass
        assert self.ask(server) == [1_000_000, 2_000_000, False, True]


class TestBudget:
    def test_beyond_it_a_body_is_a_503_and_then_there_is_room_again(
        self, app: App, serve: Serve
    ) -> None:
        limits = Limits(body_memory=1000, bodies_memory=2000, spooled_bodies=2, body_idle=PATIENCE)
        server = serve(app, limits=limits)
        head = b"POST /followed HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
        clients = [Client(server.address) for _ in range(4)]
        try:
            for client in clients:
                # Two fill the memory, two files take the others.
                client.send(head % 1000 + b"x" * 999)
            with Client(server.address) as late:
                # In chunks, as what has come together with its head takes no room.
                chunked = head.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked")
                while True:
                    late.send(chunked + b"3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n")
                    answer = late.read()
                    if answer.status == 503:
                        break
                    # The loop had not taken the others in yet.
                    assert answer.body == b"1000"
                assert int(answer.fields["retry-after"]) > 0
                assert answer.fields["connection"] == "close" or late.is_closed()
            assert requests.get(server.url + "/progress/x", timeout=PATIENCE).status_code == 404
            with Client(server.address) as small:
                small.send(head % 1000 + b"x" * 1000)
                assert small.read().body == b"1000"
            for client in clients:
                client.send(b"x")
                assert client.read().body == b"1000"
            with Client(server.address) as late:
                late.send(head % 2000 + b"x" * 2000)
                assert late.read().body == b"2000"
        finally:
            for client in clients:
                client.sock.close()
