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


@pytest.fixture
def open_browser(programs: tuple[str, str], tmp_path: Path) -> Iterator[OpenBrowser]:
    """Open browsers, each with a profile of its own: ``open_browser(phone=False) -> Chrome``."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    with ExitStack() as browsers:

        def start(*, phone: bool = False) -> Chrome:
            options = ChromeOptions()
            options.binary_location = programs[0]
            options.accept_insecure_certs = True
            for flag in FLAGS:
                options.add_argument(flag)
            profile = tmp_path / f"profile-{len(list(tmp_path.iterdir()))}"
            profile.mkdir()
            options.add_argument(f"--user-data-dir={profile}")
            options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
            browser = Chrome(options=options, service=Service(programs[1]))
            browsers.callback(browser.quit)
            browser.set_page_load_timeout(PATIENCE)
            if phone:
                browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
            return browser

        yield start


@pytest.fixture
def browser(open_browser: OpenBrowser) -> Chrome:
    """A browser with the window of a desktop."""
    return open_browser()


@pytest.fixture
def phone(open_browser: OpenBrowser) -> Chrome:
    """A browser with the screen of a phone."""
    return open_browser(phone=True)
