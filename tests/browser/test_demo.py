"""The note board of scripts/demo, used by clicking and typing."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scripts.demo.app import app

if TYPE_CHECKING:
    from collections.abc import Callable

    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

pytestmark = pytest.mark.browser

ATTACK = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"


@pytest.fixture(params=["http", "https"])
def url(request: pytest.FixtureRequest, serve: Any) -> str:
    """The URL of a board of its own, once plain and once with a certificate of our own."""
    context = None
    if request.param == "https":
        import trustme

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server = serve(app(), tls=context)
    assert server.url.startswith(f"{request.param}://")
    return str(server.url)


@pytest.fixture
def board(url: str, browser: Chrome) -> Board:
    return Board(browser, url)


class Board:
    """The page as its user sees it."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self.browser = browser
        browser.get(url + "/")
        # The page says so once it knows that there are no notes, or shows them.
        self.wait(lambda: self.is_shown("#empty") or self.texts())

    def wait(self, condition: Callable[[], object]) -> None:
        from selenium.common import StaleElementReferenceException
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.browser, 30, ignored_exceptions=[StaleElementReferenceException]).until(
            lambda _: condition()
        )

    def find(self, selector: str) -> WebElement:
        from selenium.webdriver.common.by import By

        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def is_shown(self, selector: str) -> bool:
        return self.find(selector).is_displayed()

    def texts(self) -> list[str]:
        from selenium.webdriver.common.by import By

        return [note.text for note in self.browser.find_elements(By.CSS_SELECTOR, ".note .text")]

    def wait_for(self, *texts: str) -> None:
        self.wait(lambda: self.texts() == list(texts))

    def wait_for_status(self, text: str) -> None:
        self.wait(lambda: self.find("#status").text == text)

    def add(self, text: str, color: str = "yellow") -> None:
        self.find("#new-text").send_keys(text)
        self.find(f"#new-note .swatch.{color}").click()
        self.find("#new-note [type=submit]").click()

    def reload(self) -> None:
        self.browser.refresh()

    def errors(self) -> list[str]:
        """What the browser complained of, such as a blocked script."""
        browser: Any = self.browser
        return [entry["message"] for entry in browser.get_log("browser")]


def keep_picture(browser: Chrome, name: str) -> None:
    """Save a screenshot in the directory that RESOURCE_SERVER_SCREENSHOTS names, if any."""
    folder = os.environ.get("RESOURCE_SERVER_SCREENSHOTS")
    if folder:
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def test_a_note_is_added_edited_and_deleted_by_clicking(board: Board) -> None:
    board.add("Buy milk", "green")
    board.wait_for("Buy milk")
    board.wait_for_status("Note added.")
    assert "green" in (board.find(".note").get_attribute("class") or "")
    assert board.find("#new-text").get_attribute("value") == ""
    board.add("Water the plants", "blue")
    board.wait_for("Water the plants", "Buy milk")

    board.find(".note .edit").click()
    field = board.find(".note textarea")
    assert field.get_attribute("value") == "Water the plants"
    field.clear()
    field.send_keys("Water all plants")
    board.find(".note .editor [type=submit]").click()
    board.wait_for("Water all plants", "Buy milk")
    board.wait_for_status("Note saved.")
    keep_picture(board.browser, "demo-" + board.browser.current_url.partition(":")[0])

    board.find(".note .delete").click()
    board.wait_for("Buy milk")
    board.wait_for_status("Note deleted.")
    board.find(".note .delete").click()
    board.wait(lambda: board.is_shown("#empty"))

    board.reload()
    board.wait(lambda: board.is_shown("#empty"))
    assert board.errors() == []


def test_an_edit_can_be_cancelled(board: Board) -> None:
    board.add("Stay as you are")
    board.wait_for("Stay as you are")
    board.find(".note .edit").click()
    board.find(".note textarea").send_keys(", or not")
    board.find(".note .cancel").click()
    board.wait_for("Stay as you are")
    board.reload()
    board.wait_for("Stay as you are")


def test_two_browsers_see_the_same_notes(url: str, open_browser: Any) -> None:
    first, second = (Board(open_browser(), url) for _ in range(2))
    first.add("From the first")
    first.wait_for("From the first")
    second.reload()
    second.wait_for("From the first")
    second.find(".note .delete").click()
    second.wait(lambda: second.is_shown("#empty"))
    # What the second deleted meanwhile, the first is told.
    first.find(".note .edit").click()
    first.find(".note textarea").send_keys("!")
    first.find(".note .editor [type=submit]").click()
    first.wait_for_status("There is no such note. Somebody may have deleted it.")
    first.find("#refresh").click()
    first.wait(lambda: first.is_shown("#empty"))


def test_markup_in_a_note_is_shown_as_text(board: Board) -> None:
    board.add(ATTACK)
    board.wait_for(ATTACK)
    board.reload()
    board.wait_for(ATTACK)
    assert board.browser.title == "Note board"
    assert board.errors() == []


def test_the_board_fits_a_phone(url: str, phone: Chrome) -> None:
    board = Board(phone, url)
    board.add("A long word: " + "W" * 200)
    board.wait(lambda: len(board.texts()) == 1)
    keep_picture(phone, "demo-phone-" + url.partition(":")[0])
    assert phone.execute_script("return document.documentElement.scrollWidth") <= 375
    for selector in ("#new-note [type=submit]", "#refresh", ".note .edit", ".note .delete"):
        assert board.find(selector).rect["height"] >= 40, selector
