"""Where collected bodies are kept: in memory and in files, all of them within bounds."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import ContentTooLarge, Limits, ServiceUnavailable
from resource_server.engine.body import CollectedBody
from resource_server.engine.storage import RETRY_AFTER, Storage

if TYPE_CHECKING:
    from pathlib import Path


def storage(memory: int = 100, files: int = 2, each: int = 40) -> Storage:
    return Storage(Limits(body_memory=each, bodies_memory=memory, spooled_bodies=files))


def body_of(where: Storage, size: int) -> CollectedBody:
    body = CollectedBody(where, 10_000, 0.0)
    for _ in range(size // 10):
        body.write(b"x" * 10)
    return body


def in_memory(body: CollectedBody) -> bool:
    return type(body.open()).__name__ == "BytesIO"


def test_short_ones_are_in_memory_until_that_is_used_up() -> None:
    where = storage()
    bodies = [body_of(where, 40) for _ in range(4)]
    assert [in_memory(body) for body in bodies] == [True, True, False, False]
    assert [body.open().read() for body in bodies] == [b"x" * 40] * 4
    with pytest.raises(ServiceUnavailable) as caught:
        body_of(where, 40)
    assert caught.value.headers == [("Retry-After", str(RETRY_AFTER))]
    for body in bodies:
        body.close()
        body.close()
    again = [body_of(where, 40) for _ in range(2)]
    assert all(map(in_memory, again))


def test_what_is_refused_gives_back_what_it_had() -> None:
    where = storage(files=1)
    first = body_of(where, 100)
    for _ in range(10):
        body = CollectedBody(where, 10_000, 0.0)
        body.write(b"x" * 40)
        with pytest.raises(ServiceUnavailable):
            body.write(b"x")
        body.close()
    assert where.take_memory(100)
    first.close()


def test_the_memory_of_one_that_goes_to_a_file_is_free_again() -> None:
    where = storage()
    body = body_of(where, 50)
    assert not in_memory(body)
    assert where.take_memory(100)
    body.close()
    assert not where.take_memory(1)


def test_one_without_a_byte_takes_nothing() -> None:
    where = storage(memory=1, files=1)
    assert where.take_memory(1)
    body = CollectedBody(where, 100, 0.0)
    body.write(b"")
    assert body.open().read() == b""
    assert body.complete
    body.close()


def test_beyond_its_limit_a_body_is_too_large() -> None:
    body = CollectedBody(storage(), 15, 0.0)
    body.write(b"x" * 10)
    with pytest.raises(ContentTooLarge):
        body.write(b"x" * 10)
    body.close()


def test_files_go_where_it_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    real = tempfile.TemporaryFile

    def note(*, dir: Any) -> Any:
        made.append(dir)
        return real(dir=dir)

    monkeypatch.setattr(tempfile, "TemporaryFile", note)
    where = Storage(Limits(body_memory=10), tmp_path)
    body = body_of(where, 50)
    body.close()
    where.temporary_file().close()
    assert made == [tmp_path, tmp_path]
    assert os.listdir(tmp_path) == []
    with pytest.raises(NotADirectoryError):
        Storage(Limits(), tmp_path / "missing")


@pytest.mark.parametrize(
    ("number", "error"), [(errno.EMFILE, ServiceUnavailable), (errno.ENOSPC, OSError)]
)
def test_trouble_of_the_system(
    number: int, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise OSError(number, "trouble")

    where = storage(files=1)
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", fail)
        for _ in range(3):
            with pytest.raises(error):
                where.take_file()
    where.take_file().close()
