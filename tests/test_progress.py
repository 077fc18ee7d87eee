"""How far uploads have come: who is followed, for how long, and how many."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from resource_server import Request, UploadProgress, post
from resource_server.testing import TestClient

if TYPE_CHECKING:
    from typing import IO

    from resource_server.headers import Headers
    from resource_server.progress import Progress
    from resource_server.request import Closable
    from resource_server.websockets import Connection, Route

NAME = "abcdefghijklmnop"


class Body:
    def __init__(self) -> None:
        self.size = 0
        self.complete = False


class Exchange:
    def __init__(self) -> None:
        self.kept: list[Closable] = []

    def keep(self, resource: Closable) -> None:
        self.kept.append(resource)

    def end(self) -> None:
        for resource in self.kept:
            resource.close()

    def temporary_file(self) -> IO[bytes]:
        raise AssertionError

    def disconnected(self) -> bool:
        raise AssertionError

    def send_interim(self, status_code: int, headers: Headers) -> None:
        raise AssertionError

    def open_websocket(self, request: Request, route: Route) -> Connection:
        raise AssertionError


def begun(uploads: UploadProgress, name: str, length: int | None = 100) -> tuple[Exchange, Body]:
    fields = {"X-Upload-ID": name}
    if length is not None:
        fields["Content-Length"] = str(length)
    request = Request(("192.0.2.1", 1), "POST", "/", headers=fields)
    request.exchange = exchange = Exchange()
    request.incoming = body = Body()
    uploads.begin(request)
    return exchange, body


def told(progress: Progress | None) -> tuple[int, int | None, bool, bool]:
    assert progress is not None
    return progress.received, progress.total, progress.complete, progress.ended


def test_an_upload_from_its_begin_to_its_end() -> None:
    uploads = UploadProgress()
    assert uploads.get(NAME) is None
    exchange, body = begun(uploads, NAME)
    assert told(uploads.get(NAME)) == (0, 100, False, False)
    body.size = 60
    assert told(uploads.get(NAME)) == (60, 100, False, False)
    body.size, body.complete = 100, True
    assert told(uploads.get(NAME)) == (100, 100, True, False)
    exchange.end()
    exchange.end()
    assert told(uploads.get(NAME)) == (100, 100, True, True)
    body.size = 0
    assert told(uploads.get(NAME)) == (100, 100, True, True), "a picture of its end"
    assert repr(uploads.get(NAME)) == "<Progress 100 of 100, complete=True, ended=True>"


def test_one_of_unknown_length() -> None:
    uploads = UploadProgress()
    begun(uploads, NAME, None)
    assert told(uploads.get(NAME)) == (0, None, False, False)


@pytest.mark.parametrize(
    "name", ["", "short", "a" * 15, "a" * 129, "a" * 15 + " ", "ä" * 20, "../" * 9]
)
def test_a_name_that_is_none_is_not_followed(name: str) -> None:
    uploads = UploadProgress()
    exchange, _ = begun(uploads, name)
    assert uploads.get(name) is None
    assert exchange.kept == []


def test_the_query_may_name_it() -> None:
    uploads = UploadProgress()
    for query, known in (("", False), ("?upload_id=%zz", False), (f"?upload_id={NAME}", True)):
        request = Request(("192.0.2.1", 1), "POST", f"/{query}")
        request.exchange = Exchange()
        uploads.begin(request)
        assert (uploads.get(NAME) is not None) == known
    uploads.begin(Request(("192.0.2.1", 1), "POST", "/?upload_id=" + "b" * 16))
    assert uploads.get("b" * 16) is None, "nobody would tell its end"


def test_a_second_one_of_the_same_name_waits_for_the_end_of_the_first() -> None:
    uploads = UploadProgress()
    first, body = begun(uploads, NAME)
    body.size = 7
    second, _ = begun(uploads, NAME)
    assert second.kept == []
    assert told(uploads.get(NAME))[0] == 7
    first.end()
    begun(uploads, NAME)
    assert told(uploads.get(NAME)) == (0, 100, False, False)


def test_they_are_forgotten() -> None:
    uploads = UploadProgress(remembered=0.0)
    exchange, _ = begun(uploads, NAME)
    assert uploads.get(NAME) is not None
    exchange.end()
    assert uploads.get(NAME) is None


def test_their_number_is_bounded() -> None:
    uploads = UploadProgress(max_uploads=3)
    names = [f"{number:016}" for number in range(6)]
    exchanges = [begun(uploads, name)[0] for name in names[:4]]
    assert [uploads.get(name) is not None for name in names[:4]] == [True, True, True, False]
    for exchange in exchanges:
        exchange.end()
    begun(uploads, names[4])
    assert [uploads.get(name) is not None for name in names] == [
        False,
        True,
        True,
        False,
        True,
        False,
    ]
    begun(uploads, names[5])
    assert [uploads.get(name) is not None for name in names] == [
        False,
        False,
        True,
        False,
        True,
        True,
    ]


def test_any_thread_may_ask() -> None:
    uploads = UploadProgress(max_uploads=50)
    done = threading.Event()
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            while not done.is_set():
                for number in range(100):
                    uploads.get(f"{number:016}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(2000):
        exchange, body = begun(uploads, f"{number % 100:016}")
        body.size = number
        exchange.end()
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize("stream", [True, False])
def test_in_the_test_client(stream: bool) -> None:
    uploads = UploadProgress()
    seen = []

    @post("/", progress=uploads, stream=stream)
    def upload(request: Request) -> str:
        seen.append(told(uploads.get(NAME)))
        return str(len(request.body()))

    client = TestClient(upload)
    response = client.post("/", body=b"x" * 100, headers={"X-Upload-ID": NAME})
    assert response.text == "100"
    assert seen == [(0, 100, False, False) if stream else (100, 100, True, False)]
    assert told(uploads.get(NAME)) == (100, 100, True, True)
