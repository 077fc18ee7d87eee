"""The files on the board of scripts/demo: dropped, watched while they are uploaded, and shown."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from resource_server import Router
from scripts.demo.app import app
from tests.browser.test_demo import ATTACK, Board
from tests.browser.webm import webm

if TYPE_CHECKING:
    from pathlib import Path

    from selenium.webdriver import Chrome

    from resource_server import Request, Response
    from resource_server.response import Handler
    from tests.browser.conftest import OpenBrowser
    from tests.conftest import Serve

pytestmark = pytest.mark.browser

#: Lets a page take a file as if it had been dropped on it.
DROP = """
const transfer = new DataTransfer();
transfer.items.add(new File([arguments[1]], arguments[0], { type: "text/plain" }));
for (const type of ["dragenter", "dragover", "drop"]) {
  const init = { bubbles: true, cancelable: true, dataTransfer: transfer };
  document.body.dispatchEvent(new DragEvent(type, init));
}
"""


class Requests:
    """A middleware that notes which parts of files are asked for, and may hold uploads up."""

    def __init__(self) -> None:
        self.ranges: list[tuple[str, int]] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, handler: Handler) -> Handler:
        def answer(request: Request) -> Response:
            if request.method == "POST":
                assert self.go_on.wait(30)
            response = handler(request)
            if "range" in request.headers:
                self.ranges.append((request.headers["range"], response.status_code))
            return response

        return answer


@pytest.fixture
def requests() -> Requests:
    return Requests()


@pytest.fixture
def url(serve: Serve, requests: Requests) -> str:
    router = Router(middlewares=[requests])
    router.mount("/", app())
    return serve(router).url


@pytest.fixture
def board(url: str, browser: Chrome) -> Board:
    return Board(browser, url)


def names(board: Board) -> list[str]:
    return [link.text for link in board.find_all("#gallery a")]


def choose(board: Board, *files: Path) -> None:
    board.find("#choose").send_keys("\n".join(map(str, files)))


def test_what_is_dropped_is_shown_on_every_page(
    board: Board, url: str, open_browser: OpenBrowser
) -> None:
    other = Board(open_browser(), url)
    board.browser.execute_script(DROP, "a note.txt", "dropped")
    for each in (board, other):
        each.wait(lambda each=each: names(each) == ["a note.txt"])  # type: ignore[misc]
    assert other.find("#gallery .size").text == "7 bytes"
    other.find("#gallery .delete").click()
    for each in (board, other):
        each.wait(lambda each=each: names(each) == [])  # type: ignore[misc]


def test_several_are_chosen_and_pictures_are_shown(board: Board, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    board.browser.save_screenshot(str(picture))
    page = tmp_path / "page.html"
    page.write_text(ATTACK)
    choose(board, picture, page)
    board.wait(lambda: sorted(names(board)) == ["page.html", "picture.png"])
    board.wait(
        lambda: board.browser.execute_script(
            "return document.querySelector('#gallery img').naturalWidth"
        )
    )
    board.browser.get(board.find("#gallery a[href$='page.html']").get_attribute("href") or "")
    assert board.browser.title != "run"


def test_the_bar_moves_while_a_file_is_uploaded(
    board: Board, requests: Requests, tmp_path: Path
) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(20_000_000))
    requests.go_on.clear()
    choose(board, big)
    # The server reads nothing yet, so the socket takes the beginning only.
    board.wait(lambda: 0 < float(board.find("#uploads progress").get_attribute("value") or 0) < 2e7)
    assert "of 20 MB" in board.find("#uploads .done").text
    requests.go_on.set()
    board.wait(lambda: names(board) == ["big.bin"])
    board.wait(lambda: board.find_all("#uploads li") == [])
    assert board.find("#status").text == "big.bin is uploaded."


def test_an_upload_is_cancelled_and_leaves_nothing(
    board: Board, requests: Requests, tmp_path: Path
) -> None:
    big = tmp_path / "big.bin"
    big.write_bytes(bytes(20_000_000))
    requests.go_on.clear()
    choose(board, big)
    board.wait(lambda: board.find_all("#uploads progress[value]"))
    board.find("#uploads .cancel").click()
    requests.go_on.set()
    board.wait(lambda: board.find("#status").text == "big.bin was not uploaded.")
    assert names(board) == []


def test_a_video_seeks_without_being_loaded_as_a_whole(
    board: Board, requests: Requests, tmp_path: Path
) -> None:
    seconds = 60
    video = tmp_path / "clip.webm"
    video.write_bytes(webm(seconds, 1_000_000))
    size = video.stat().st_size
    choose(board, video)
    player = "document.querySelector('#gallery video')"
    ask = board.browser.execute_script
    board.wait(lambda: ask(f"return {player}?.duration") == seconds)
    ask(f"{player}.currentTime = 45")
    board.wait(
        lambda: (
            ask(f"return !{player}.seeking && {player}.readyState > 1 && {player}.currentTime")
            == 45
        )
    )
    starts = [int(value[6:].partition("-")[0]) for value, _ in requests.ranges]
    # What it has in its cache it asks for with a condition.
    assert {206} <= {status for _, status in requests.ranges} <= {206, 304}
    assert any(start > size / 2 for start in starts), requests.ranges
