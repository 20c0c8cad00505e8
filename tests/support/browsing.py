"""A real browser for the page, as fixtures; what it complains about fails the test."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:  # only these tests need it, and its import takes a while
    from playwright.sync_api import Browser, Page

Open = Callable[..., "Page"]


def chromium() -> str:
    """Where the browser is: Debian's, or one of another name; empty if there is none."""
    return next(filter(None, map(which, ("chromium", "chromium-browser", "google-chrome"))), "")


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Chromium as the system has it. Without one the tests are skipped, unless EXPECT_CHROMIUM is set."""
    path = chromium()
    if not path:
        assert not os.environ.get("EXPECT_CHROMIUM"), "install chromium"
        pytest.skip("no Chromium: install the package chromium")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - see above

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: "Browser") -> Iterator[Open]:
    """Opens pages, each in a context of its own; fails for errors in the console and requests to elsewhere."""
    contexts = []
    complaints: list[str] = []

    def opened(address: str, width: int = 1280, scheme: Any = "light", **rest: Any) -> "Page":
        context = browser.new_context(
            viewport={"width": width, "height": 844 if width < 500 else 900}, color_scheme=scheme, **rest
        )
        contexts.append(context)
        page = context.new_page()
        site = "/".join(address.split("/")[:3])

        def asked(request: Any) -> None:
            if not request.url.startswith((site, site.replace("http", "ws", 1))):
                complaints.append(f"a request to {request.url}")

        page.on("request", asked)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        # The browser itself reports what the content security policy forbids.
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.goto(address)
        return page

    yield opened
    for context in contexts:
        context.close()
    expected = ("WebSocket connection", "Failed to load resource: the server responded with a status of 40")
    assert [said for said in complaints if not said.startswith(expected)] == []


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots go: the folder in SCREENSHOTS, or one of the test's own."""
    return Path(os.environ.get("SCREENSHOTS", tmp_path))
