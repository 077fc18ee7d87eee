"""Files that are changed while they are sent: the promised bytes, or a cut connection."""

from __future__ import annotations

import io
import os
import socket
from typing import TYPE_CHECKING

import pytest

from resource_server import FileResource, Request, Resource, Response, get
from resource_server.engine import filecontent
from tests.rawclient import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.conftest import Serve

#: More than all buffers between the disk and a client that does not read.
SIZE = 48 << 20
LETTERS = b"abcdefghijklmnop" * 65536


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "root" / "big.bin"
    path.parent.mkdir()
    with path.open("wb") as file:
        for _ in range(SIZE // len(LETTERS)):
            file.write(LETTERS)
    os.utime(path, (0, 1))
    return path


def shrink(path: Path) -> None:
    os.truncate(path, SIZE // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def write_over(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(SIZE - len(LETTERS))
        file.write(LETTERS.upper())


def write_anew(path: Path) -> None:
    # As most programs save a file: emptied, then written.
    path.write_bytes(b"new")


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"other")
    os.replace(other, path)


@pytest.fixture(params=["sendfile", "read"])
def client(
    request: pytest.FixtureRequest, serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Client]:
    if request.param == "read":
        monkeypatch.delattr(os, "sendfile", raising=False)
    server = serve(FileResource(path.parent))
    with Client(server.address, receive_buffer=65536) as client:
        yield client


def read_rest(client: Client) -> tuple[int, bool]:
    """Read to the end, which has to be letters; how many there were, and whether none was wrong."""
    count = 0
    right = True
    try:
        while data := client.some(1 << 20):
            start = count % len(LETTERS)
            right = right and data == (LETTERS * 3)[start : start + len(data)]
            count += len(data)
            if count >= SIZE:
                break
    except ConnectionError:
        pass
    return count, right


@pytest.mark.parametrize("change", [shrink, empty, write_over, write_anew])
@pytest.mark.usefixtures("quiet")
def test_content_that_is_gone_cuts_the_connection(
    client: Client, path: Path, change: Callable[[Path], None]
) -> None:
    client.ask("/big.bin")
    assert f"Content-Length: {SIZE}".encode() in client.head()
    change(path)
    count, _ = read_rest(client)
    assert count < SIZE


@pytest.mark.parametrize("change", [grow, remove, replace])
@pytest.mark.usefixtures("quiet")
def test_content_that_is_still_there_is_sent_whole(
    client: Client, path: Path, change: Callable[[Path], None]
) -> None:
    client.ask("/big.bin")
    client.head()
    change(path)
    assert read_rest(client) == (SIZE, True)
    # Nothing follows, and the connection goes on.
    assert client.get("/none").status == 404


@pytest.mark.parametrize("ranges", ["0-30000000,30000100-", "1-"])
def test_ranges_are_cut_as_well(client: Client, path: Path, ranges: str) -> None:
    client.ask("/big.bin", f"Range: bytes={ranges}")
    head = client.head()
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    write_over(path)
    assert read_rest(client)[0] < length


def test_the_system_may_not_be_able_to_send_files(
    serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def unable(*_: object) -> int:
        calls.append(1)
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sendfile", unable)
    with Client(serve(FileResource(path.parent)).address) as client:
        client.ask("/big.bin")
        client.head()
        assert read_rest(client) == (SIZE, True)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "failure", [OSError(5, "Input/output error"), BrokenPipeError(32, "Broken pipe")]
)
def test_a_failure_while_sending_cuts_the_connection(
    serve: Serve, path: Path, monkeypatch: pytest.MonkeyPatch, failure: OSError
) -> None:
    def fail(*_: object) -> int:
        raise failure

    monkeypatch.setattr(os, "sendfile", fail)
    with Client(serve(FileResource(path.parent)).address) as client:
        client.ask("/big.bin")
        client.head()
        assert read_rest(client)[0] == 0


class Objects(Resource):
    """Objects that are no files of the disk, or not at their beginning."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def response(self, file: object, length: int) -> Response:
        response = Response()
        response.body = None
        response.file = file  # type: ignore[assignment]
        response.content_length = length
        return response

    @get("/memory")
    def memory(self, request: Request) -> Response:
        response = self.response(io.BytesIO(b"0123456789"), 9)
        response.parts = [b"<", (8, 2), b"|", (0, 5), b">"]
        response.content_length = 10
        return response

    @get("/buffered")
    def buffered(self, request: Request) -> Response:
        file = self.path.open("rb")
        assert file.read(3) == LETTERS[:3]
        return self.response(file, 1 << 20)

    @get("/raw")
    def raw(self, request: Request) -> Response:
        file = self.path.open("rb", buffering=0)
        file.seek(5)
        return self.response(file, 1 << 20)

    @get("/gzip")
    def unzipped(self, request: Request) -> Response:
        import gzip

        packed = self.path.with_name("packed.gz")
        packed.write_bytes(gzip.compress(LETTERS))
        return self.response(io.BufferedReader(gzip.open(packed)), len(LETTERS))

    @get("/closed")
    def closed(self, request: Request) -> Response:
        file = self.path.open("rb", buffering=0)
        file.close()
        return self.response(file, 5)

    @get("/unseekable")
    def unseekable(self, request: Request) -> Response:
        class Pipe(io.RawIOBase):
            def read(self, size: int = -1, /) -> bytes:
                return b"x" * size

        response = self.response(Pipe(), 5)
        response.parts = [(0, 5)]
        return response


def test_objects_that_are_no_regular_files(serve: Serve, path: Path) -> None:
    with Client(serve(Objects(path)).address) as client:
        assert client.get("/memory").body == b"<89|01234>"
        assert client.get("/buffered").body == (LETTERS * 2)[3 : 3 + (1 << 20)]
        assert client.get("/raw").body == (LETTERS * 2)[5 : 5 + (1 << 20)]
        assert client.get("/gzip").body == LETTERS


@pytest.mark.parametrize("target", ["/closed", "/unseekable"])
def test_objects_that_fail_cut_the_connection(serve: Serve, path: Path, target: str) -> None:
    with Client(serve(Objects(path)).address) as client:
        client.ask(target)
        client.head()
        assert client.is_closed()


def test_pieces_are_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def send(_out: int, _in: int, _offset: int, count: int) -> int:
        asked.append(count)
        return count

    monkeypatch.setattr(os, "sendfile", send, raising=False)
    with path.open("rb") as file:
        content = filecontent.FileContent(file, SIZE, None)
        while content.send(-1):
            pass
        assert max(asked) <= filecontent.SENDFILE_PIECE
        # The end is read, so that the file is looked at once more.
        assert content.left == filecontent.TAIL
        assert len(content.read()) == filecontent.TAIL
        assert content.left == 0


def test_a_socket_that_takes_nothing_and_a_file_that_ends(path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, path.open("rb") as file:
        ours.setblocking(False)
        content = filecontent.FileContent(file, SIZE, None)
        while content.send(ours.fileno()):
            pass
        assert 0 < content.left < SIZE
        assert content.send(ours.fileno()) == 0
        # More than there is: who promised it finds out at its end.
        os.truncate(path, 100_000)
        short = filecontent.FileContent(file, SIZE, [(200_000, SIZE)])
        theirs.recv(1 << 20)
        with pytest.raises(filecontent.FileChangedError):
            short.send(ours.fileno())
        with pytest.raises(filecontent.FileChangedError):
            short.read()
