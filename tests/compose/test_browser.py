"""The composed dashboard in a real Chromium: from the login to the report, and out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from composed import Project, Story

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.slow

Open = Callable[..., "Page"]


def test_a_day_at_the_dashboard(
    view: Open, service: Project, admin: tuple[str, str], small: Story, tmp_path: Path
) -> None:
    """Log in, open the study in optuna-dashboard, see which knob matters, open the report and the
    status page, log out; then nothing is shown any more."""
    site = f"http://{service.address('dashboard', 8080)}"
    page = view(f"{site}/dashboard", width=1300)
    page.wait_for_selector("#name")
    page.fill("#name", admin[0])
    page.fill("#password", admin[1])
    page.keyboard.press("Enter")
    page.click("text=small", timeout=60_000)
    page.wait_for_selector("text=Hyperparameter Importance", timeout=60_000)
    page.wait_for_selector(".js-plotly-plot .barlayer .point", timeout=60_000)
    page.screenshot(path=tmp_path / "study.png", full_page=True)
    page.click(".tunesvc-bar >> text=Reports")
    page.click("main >> text=small")
    page.wait_for_selector("html[data-drawn=yes]", timeout=60_000)
    page.screenshot(path=tmp_path / "report.png", full_page=True)
    page.goto(f"{site}/status")
    page.wait_for_selector("text=small")
    page.screenshot(path=tmp_path / "status.png", full_page=True)
    page.click("text=Log out")
    page.wait_for_selector("#password")
    page.goto(f"{site}/report/small")
    page.wait_for_selector("#password")
