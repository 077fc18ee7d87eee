"""The note board of scripts/demo, used by clicking and typing."""

from __future__ import annotations

import io
import json
import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from resource_server import Request
from scripts.demo.app import NAMES, app

if TYPE_CHECKING:
    from collections.abc import Callable

    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

    from resource_server import Router
    from tests.browser.conftest import OpenBrowser
    from tests.conftest import Serve

pytestmark = pytest.mark.browser

ATTACK = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"


class Site:
    """Where a board is served, on and off."""

    def __init__(self, serve: Serve, tls: ssl.SSLContext | None) -> None:
        self._serve = serve
        self._tls = tls
        self.router = app()
        self._server = serve(self.router, tls=tls)
        self.url = self._server.url

    def stop(self) -> None:
        assert self._server.stop()

    def start(self, router: Router) -> None:
        """Start again where it was, with a board that may be another one."""
        self.router = router
        address = ("127.0.0.1", urlsplit(self.url).port)
        self._server = self._serve(router, address=address, tls=self._tls)

    def ask(self, method: str, path: str, content: object = None) -> Any:
        """Do what a program does through REST, even while nothing is served."""
        stream = io.BytesIO(json.dumps(content).encode())
        headers = {"Content-Type": "application/json"}
        request = Request(("127.0.0.1", 50000), method, path, headers=headers, stream=stream)
        response = self.router.dispatch(request)
        assert 200 <= response.status_code < 300
        return json.loads(response.body or b"null")

    def pin(self, text: str) -> str:
        """Pin a note, and return the path of it."""
        return f"/api/notes/{self.ask('POST', '/api/notes', {'text': text})['id']}"


@pytest.fixture(params=["http", "https"])
def site(request: pytest.FixtureRequest, serve: Serve) -> Site:
    """A board of its own, once plain and once with a certificate of our own."""
    context = None
    if request.param == "https":
        import trustme

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    site = Site(serve, context)
    assert site.url.startswith(f"{request.param}://")
    return site


@pytest.fixture
def url(site: Site) -> str:
    return site.url


@pytest.fixture
def board(url: str, browser: Chrome) -> Board:
    return Board(browser, url)


@pytest.fixture
def two(url: str, open_browser: OpenBrowser) -> tuple[Board, Board]:
    """The page in two browsers."""
    return Board(open_browser(), url), Board(open_browser(), url)


class Board:
    """The page as its user sees it."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self.browser = browser
        self.scheme = urlsplit(url).scheme
        browser.get(url + "/")
        self.wait_until_live()

    def wait(self, condition: Callable[[], object]) -> None:
        from selenium.common import StaleElementReferenceException
        from selenium.webdriver.support.wait import WebDriverWait

        WebDriverWait(self.browser, 30, ignored_exceptions=[StaleElementReferenceException]).until(
            lambda _: condition()
        )

    def wait_until_live(self) -> None:
        # The page says so once it has something to show, be it that there are no notes.
        self.wait(lambda: self.find("#connection").text == "Live")
        self.wait(lambda: self.is_shown("#empty") or self.texts())

    def wait_until_offline(self) -> None:
        self.wait(lambda: self.find("#connection").text == "Offline, reconnecting…")

    def find(self, selector: str) -> WebElement:
        from selenium.webdriver.common.by import By

        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def is_shown(self, selector: str) -> bool:
        return self.find(selector).is_displayed()

    def find_all(self, selector: str) -> list[WebElement]:
        from selenium.webdriver.common.by import By

        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def texts(self) -> list[str]:
        return [note.text for note in self.find_all(".note .text")]

    def wait_for_people(self, *names: str) -> None:
        self.wait(lambda: [person.text for person in self.find_all("#people li")] == list(names))

    def name(self) -> str:
        return self.find("#name").get_attribute("value") or ""

    def rename(self, name: str) -> None:
        from selenium.webdriver.common.keys import Keys

        select_all = Keys.CONTROL + "a" + Keys.NULL
        self.find("#name").send_keys(select_all, Keys.BACKSPACE, name, Keys.ENTER)

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
    keep_picture(board.browser, f"demo-{board.scheme}")

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


def test_two_browsers_see_each_others_changes_at_once(two: tuple[Board, Board]) -> None:
    first, second = two
    first.add("From the first", "pink")
    second.wait_for("From the first")
    assert "pink" in (second.find(".note").get_attribute("class") or "")
    second.add("From the second")
    first.wait_for("From the second", "From the first")

    first.find(".note .edit").click()
    first.find(".note textarea").send_keys(", changed by the first")
    first.find(".note .editor [type=submit]").click()
    second.wait_for("From the second, changed by the first", "From the first")
    for number, board in enumerate(two):
        board.browser.execute_script("scrollTo(0, 0)")
        keep_picture(board.browser, f"demo-two-{number}-{board.scheme}")
    second.find(".note .delete").click()
    second.find(".note:last-child .delete").click()
    first.wait(lambda: first.is_shown("#empty"))
    second.wait(lambda: second.is_shown("#empty"))
    assert first.errors() == second.errors() == []


def test_what_programs_change_is_seen_at_once(site: Site, board: Board) -> None:
    path = site.pin("Made by a program")
    board.wait_for("Made by a program")
    site.ask("PUT", path, {"text": "Changed by a program"})
    board.wait_for("Changed by a program")
    site.ask("DELETE", path)
    board.wait(lambda: board.is_shown("#empty"))


def test_a_note_that_is_being_edited_is_not_taken_away(two: tuple[Board, Board]) -> None:
    first, second = two
    first.add("Long thoughts")
    first.wait_for("Long thoughts")
    first.find(".note .edit").click()
    first.find(".note textarea").send_keys(", and longer ones")
    second.wait_for("Long thoughts")
    second.find(".note .delete").click()
    first.wait_for_status("Somebody deleted the note that you are editing.")
    assert first.find(".note textarea").get_attribute("value") == "Long thoughts, and longer ones"
    first.find(".note .editor [type=submit]").click()
    first.wait_for_status("There is no such note. Somebody may have deleted it.")
    first.find(".note .cancel").click()
    first.wait(lambda: first.is_shown("#empty"))


def test_the_page_shows_who_is_there(two: tuple[Board, Board]) -> None:
    first, second = two
    names = {board.name() for board in two}
    assert len(names) == 2
    assert names <= set(NAMES)
    for board in two:
        board.wait_for_people(*sorted(names))
        assert board.find("#people .you").text == board.name()

    first.rename("Zoe")
    second.rename("  amy  ")
    for board in two:
        board.wait_for_people("amy", "Zoe")
    assert [board.find("#people .you").text for board in two] == ["Zoe", "amy"]
    second.wait(lambda: second.name() == "amy")
    second.browser.get("about:blank")
    first.wait_for_people("Zoe")
    second.browser.back()
    second.wait_until_live()
    for board in two:
        board.wait_for_people("amy", "Zoe")
    second.browser.close()
    first.wait_for_people("Zoe")
    # A name that was chosen is kept.
    first.reload()
    first.wait_for_people("Zoe")
    # Who wants none gets a friendly one again.
    first.rename("")
    first.wait(lambda: first.name() in NAMES)
    first.wait_for_people(first.name())


def test_markup_in_a_name_is_shown_as_text(two: tuple[Board, Board]) -> None:
    first, second = two
    first.rename("A<img src=x onerror=alert(1)>")
    second.rename("B<b>bold</b>")
    for board in two:
        board.wait_for_people("A<img src=x onerror=alert(1)>", "B<b>bold</b>")
        assert not board.find_all("#people img, #people b")
        assert board.errors() == []


def test_a_page_comes_back_when_the_server_does(site: Site, board: Board) -> None:
    paths = [site.pin(text) for text in ("deleted", "changed", "untouched")]
    board.wait_for("untouched", "changed", "deleted")
    board.rename("Ann")
    board.wait_for_people("Ann")
    board.find(".note .edit").click()
    board.find(".note textarea").send_keys(" until now")

    site.stop()
    board.wait_until_offline()
    keep_picture(board.browser, f"demo-offline-{board.scheme}")
    assert not board.is_shown("#here")
    site.ask("DELETE", paths[0])
    site.ask("PUT", paths[1], {"text": "changed meanwhile"})
    site.pin("new")
    site.start(site.router)

    board.wait_until_live()
    board.wait_for_people("Ann")
    # Hidden, as it is being edited, is the text of the untouched one.
    board.wait_for("new", "", "changed meanwhile")
    editor = board.find(".note:nth-child(2) textarea")
    assert editor.get_attribute("value") == "untouched until now"
    board.find(".note:nth-child(2) .editor [type=submit]").click()
    board.wait_for("new", "untouched until now", "changed meanwhile")


def test_a_page_forgets_the_notes_of_a_board_that_is_no_more(site: Site, board: Board) -> None:
    old = site.pin("old")
    board.wait_for("old")
    site.stop()
    board.wait_until_offline()
    board.add("not now")
    board.wait_for_status("The server does not answer. Is it still running?")
    site.start(app())
    board.wait_until_live()
    board.wait(lambda: board.is_shown("#empty"))
    board.find("#new-note [type=submit]").click()
    board.wait_for("not now")
    assert site.pin("new") != old
    board.wait_for("new", "not now")


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
    keep_picture(phone, f"demo-phone-{board.scheme}")
    assert phone.execute_script("return document.documentElement.scrollWidth") <= 375
    for selector in ("#new-note [type=submit]", "#name", ".note .edit", ".note .delete"):
        assert board.find(selector).rect["height"] >= 40, selector
