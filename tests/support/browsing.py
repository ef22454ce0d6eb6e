"""A real Chromium: the one that Debian installs, driven by Playwright; skipped where it is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")

Open = Callable[..., "Page"]

# Plotly, where a chart's margins have not settled after so many redraws: it draws with what it has.
_REDRAWS = "WARN: Too many auto-margin redraws."


def _optunas_own(told: ConsoleMessage) -> bool:
    """Whether it is said of a chart on Optuna's pages: now and then, on a machine that is busy."""
    return told.text == _REDRAWS and told.location["url"].endswith("/static/bundle.js")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """The browser, for all tests of the session."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser here: none of {', '.join(NAMES)} (Debian: apt install chromium)")
    with api.sync_playwright() as playwright:
        # Without its sandbox, for root may not have one; it opens pages of our own only.
        arguments = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=path, args=arguments, timeout=120_000)
        yield browser
        browser.close()


@pytest.fixture
def view(chromium: Browser) -> Iterator[Open]:
    """Open an address in a window of its own; whatever the console says fails the test.

    A test asks for it last: its pages are closed before what serves them is stopped.
    """
    contexts, said = [], []

    def hear(told: ConsoleMessage) -> None:
        if not _optunas_own(told):
            said.append(f"{told.type}: {told.text}")

    def opened(address: str | Path, width: int = 1100, **how: Any) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": 900}, **how)
        context.set_default_timeout(120_000)  # a page draws for long where others are at work
        contexts.append(context)
        page = context.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.goto(address.as_uri() if isinstance(address, Path) else address)
        return page

    yield opened
    heard = list(said)  # closing cuts short what is being loaded
    for context in contexts:
        context.close()
    assert heard == [], heard
