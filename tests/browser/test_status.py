"""The status page in a real Chromium, behind the same guard as the whole site."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from served import served
from stored_trials import stored_study

from tunesvc.leases import Leases, Terms
from tunesvc.storage import Store

if TYPE_CHECKING:
    from playwright.sync_api import Page

Open = Callable[..., "Page"]


@pytest.fixture
def address(store: Store, tmp_path: Path) -> Iterator[str]:
    """Where a study of 60 finished trials is served, on which one worker is at work."""
    made = stored_study(store, tmp_path)
    with closing(Leases(store.engine, device="cuda:0")) as worker, served(store, None) as port:
        assert worker.claim(made.id, Terms(trials=500))
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_drawn_under_its_policy(
    address: str, view: Open, tmp_path: Path, scheme: str
) -> None:
    """Styled, its bars as long as what they tell; nothing is refused (the console says nothing)."""
    page = view(f"{address}/status?refresh=off", color_scheme=scheme)
    page.screenshot(path=tmp_path / f"status-{scheme}.png", full_page=True)
    bar = page.locator("svg.bar").bounding_box()
    done = page.locator("svg.bar rect.complete").bounding_box()
    assert bar is not None
    assert done is not None
    assert done["width"] / bar["width"] == pytest.approx(60 / 500, abs=0.01)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") is (scheme == "light")
    assert page.inner_text("section[aria-labelledby=h-workers] tbody").count("running") == 1


def test_every_table_is_named(address: str, view: Open) -> None:
    """Each has a caption, and a header for every column and row; on a phone nothing sticks out."""
    page = view(f"{address}/status?refresh=off", width=390)
    tables = page.locator("table")
    assert tables.count() == 3  # nothing has failed
    for table in tables.all():
        assert table.locator("caption").inner_text()
        columns = table.locator("thead th[scope=col]").count()
        for row in table.locator("tbody tr").all():
            assert row.locator("th[scope=row]").count() == 1
            assert row.locator("th, td").count() == columns
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_it_leads_to_the_report(address: str, view: Open) -> None:
    """By the study's name."""
    page = view(f"{address}/status?refresh=off")
    assert page.locator("main table a").first.get_attribute("href") == "/report/made"
