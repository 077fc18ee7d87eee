"""Directories, files and errors as a person meets them in a browser."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from resource_server import FileResource, Router

if TYPE_CHECKING:
    from pathlib import Path

    from selenium.webdriver import Chrome

pytestmark = pytest.mark.browser

IMAGES = 30


@pytest.fixture
def files(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    (root / "holiday photos").mkdir(parents=True)
    (root / "holiday photos" / "list.txt").write_text("sun and sea")
    (root / "notes.txt").write_text("a text of mine")
    (root / "page.html").write_text("<!doctype html><title>A page</title><h1>Hello</h1>")
    (root / "<b>bold & 'quoted'.txt").write_text("odd name")
    (root / "100% ä#?.txt").write_text("odder name")
    (root / ("long-" * 40 + "name.txt")).write_text("long name")
    return root


def follow(browser: Chrome, text: str) -> None:
    """Click the link with this text, and wait for its page."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.expected_conditions import staleness_of
    from selenium.webdriver.support.wait import WebDriverWait

    before = browser.find_element(By.TAG_NAME, "html")
    browser.find_element(By.PARTIAL_LINK_TEXT, text).click()
    WebDriverWait(browser, 30).until(staleness_of(before))
    WebDriverWait(browser, 30).until(
        lambda page: page.execute_script("return document.readyState") == "complete"
    )


def text_of(browser: Chrome) -> str:
    from selenium.webdriver.common.by import By

    return browser.find_element(By.TAG_NAME, "body").text


def test_a_listing_is_usable_on_a_phone(serve: Any, files: Path, phone: Chrome) -> None:
    from selenium.webdriver.common.by import By

    server = serve(FileResource(str(files), listing=True))
    phone.get(server.url + "/")
    assert phone.execute_script("return window.innerWidth") == 375
    assert phone.execute_script("return document.documentElement.scrollWidth") <= 375
    links = [link for link in phone.find_elements(By.TAG_NAME, "a") if link.is_displayed()]
    assert len(links) >= 6
    for link in links:
        assert link.rect["height"] >= 24, link.text
        assert float(link.value_of_css_property("font-size").removesuffix("px")) >= 14


def test_a_listing_leads_to_its_files_and_back(serve: Any, files: Path, browser: Chrome) -> None:
    server = serve(FileResource(str(files), listing=True))
    browser.get(server.url + "/")
    follow(browser, "holiday photos")
    assert unquote(browser.current_url) == f"{server.url}/holiday photos/"
    follow(browser, "list.txt")
    assert text_of(browser) == "sun and sea"
    browser.get(server.url + "/")
    follow(browser, "page.html")
    assert browser.title == "A page"


def test_odd_names_are_shown_as_they_are_and_can_be_opened(
    serve: Any, files: Path, browser: Chrome
) -> None:
    from selenium.webdriver.common.by import By

    server = serve(FileResource(str(files), listing=True))
    browser.get(server.url + "/")
    assert not browser.find_elements(By.CSS_SELECTOR, "b")
    follow(browser, "<b>bold & 'quoted'.txt")
    assert text_of(browser) == "odd name"
    browser.get(server.url + "/")
    follow(browser, "100% ä#?.txt")
    assert text_of(browser) == "odder name"


def test_a_missing_page_is_told_in_words(serve: Any, files: Path, phone: Chrome) -> None:
    server = serve(FileResource(str(files), listing=True))
    phone.get(server.url + "/<script>document.title='run'</script>")
    assert "404" in text_of(phone) + phone.title
    assert "Not Found" in text_of(phone) + phone.title
    assert phone.title != "run"
    assert phone.execute_script("return document.documentElement.scrollWidth") <= 375


def test_a_page_with_many_images_loads_over_few_kept_connections(
    serve: Any, tmp_path: Path, browser: Chrome
) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    root = tmp_path / "album"
    root.mkdir()
    picture = '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"><!--{}--></svg>'
    tags = []
    for number in range(IMAGES):
        (root / f"{number}.svg").write_text(picture.format("x" * 1000 * number))
        tags.append(f'<img src="{number}.svg" alt="">')
    (root / "index.html").write_text("<!doctype html><title>Album</title>" + "".join(tags))

    clients = []
    lock = threading.Lock()

    def note_client(handler: Any) -> Any:
        def answer(request: Any) -> Any:
            with lock:
                clients.append((request.path, request.client_address))
            return handler(request)

        return answer

    router = Router(middlewares=[note_client])
    router.register_routes(FileResource(str(root)))
    server = serve(router)
    browser.get(server.url + "/")
    loaded = (
        "return [...document.images].filter(image => image.complete && image.naturalWidth).length"
    )
    WebDriverWait(browser, 30).until(lambda page: page.execute_script(loaded) == IMAGES)
    asked = [client for path, client in clients if path.endswith(".svg")]
    assert len(asked) == IMAGES
    assert len(set(asked)) <= 6
