"""Chromium, headless, driven by its own driver; without them these tests are skipped."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeAlias

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from selenium.webdriver import Chrome

    OpenBrowser: TypeAlias = Callable[..., Chrome]

#: Seconds until a page, or what is waited for in it, has to be there.
PATIENCE = 30.0

# No sandbox: containers have no right to make one. The rest keeps it from talking to the world.
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--lang=en",
]
PHONE = {"width": 375, "height": 667, "deviceScaleFactor": 2, "mobile": True}


@pytest.fixture(scope="session")
def programs() -> tuple[str, str]:
    """The paths of Chromium and its driver."""
    names = ("chromium", "chromium-browser", "google-chrome")
    browser = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        missing = "Chromium" if browser is None else "chromedriver"
        pytest.skip(f"{missing} is not installed here")
    return browser, driver


def open_chrome(programs: tuple[str, str], profile: Path) -> Chrome:
    """Open a browser with a profile of its own."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = programs[0]
    options.accept_insecure_certs = True
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = Chrome(options=options, service=Service(programs[1]))
    browser.set_page_load_timeout(PATIENCE)
    return browser


@pytest.fixture
def open_browser(programs: tuple[str, str], tmp_path: Path) -> Iterator[OpenBrowser]:
    """Open browsers that know nothing of each other: ``open_browser() -> Chrome``."""
    with ExitStack() as browsers:

        def start() -> Chrome:
            profile = tmp_path / f"profile-{len(list(tmp_path.iterdir()))}"
            profile.mkdir()
            browser = open_chrome(programs, profile)
            browsers.callback(browser.quit)
            return browser

        yield start


@pytest.fixture(scope="session")
def kept_browser(
    programs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Chrome]:
    """A browser for all tests that need only one: to open it takes longer than most of them."""
    browser = open_chrome(programs, tmp_path_factory.mktemp("profile"))
    yield browser
    browser.quit()


def forget(browser: Chrome) -> None:
    """Leave a blank tab, and nothing that a page has stored or was told to be."""
    pages = browser.window_handles
    browser.switch_to.window(pages[0])
    browser.switch_to.new_window("tab")
    blank = browser.current_window_handle
    for page in pages:
        browser.switch_to.window(page)
        browser.close()
    browser.switch_to.window(blank)
    browser.execute_cdp_cmd("Network.clearBrowserCache", {})
    browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": "*", "storageTypes": "all"})
    browser.get_log("browser")  # type: ignore[no-untyped-call]


@pytest.fixture
def browser(kept_browser: Chrome) -> Iterator[Chrome]:
    """A browser with the window of a desktop, as if it had just been opened."""
    yield kept_browser
    forget(kept_browser)


@pytest.fixture
def phone(browser: Chrome) -> Chrome:
    """A browser with the screen of a phone."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    return browser
