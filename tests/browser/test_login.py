"""The dashboard behind its login in a real Chromium: in, through its pages, and out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from served import served
from stored_trials import stored_study

from tunesvc.dashboard import users
from tunesvc.storage import Store, open_store
from tunesvc.study import Study

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

Open = Callable[..., "Page"]

PASSWORD = "four words of mine"
PARTS = ("", "/analytics", "/trials", "/trialTable", "/note")

# What can be clicked, is in view, and lies below the bar.
COVERED = """
() => [...document.querySelectorAll("#dashboard button, #dashboard a, #dashboard input")]
  .filter((each) => {
    const at = each.getBoundingClientRect();
    const top = document.elementFromPoint(at.x + at.width / 2, at.y + at.height / 2);
    return at.width && top && top.closest(".tunesvc-bar");
  }).map((each) => each.outerHTML)
"""


@pytest.fixture
def store(storage_url: str) -> Iterator[Store]:
    """A store for a server's threads."""
    with open_store(storage_url, connections=9) as opened:
        yield opened


@pytest.fixture
def made(store: Store, tmp_path: Path) -> Study:
    """A study of 60 finished trials."""
    return stored_study(store, tmp_path)


@pytest.fixture
def address(made: Study, tmp_path: Path) -> Iterator[str]:
    """Where the dashboard is served to ada, an editor, and bob, a reader."""
    file = tmp_path / "users.yaml"
    users.add(file, "ada", PASSWORD, "editor")
    users.add(file, "bob", PASSWORD)
    with served(made.store, file) as port:
        yield f"http://127.0.0.1:{port}"


def entered(page: Page, name: str) -> None:
    """Fill in the form by keyboard, and send it."""
    page.wait_for_selector("#name")
    page.keyboard.type(name)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector(".tunesvc-bar")


def test_in_through_and_out(address: str, made: Study, view: Open, tmp_path: Path) -> None:
    """Log in, open the study, see importance, open its report and the status page, log out."""
    wanted = f"{address}/dashboard/studies/{made.id}"
    page = view(wanted, width=1300)
    assert page.url.startswith(f"{address}/login?next=/dashboard")
    page.screenshot(path=tmp_path / "login.png")
    entered(page, "ada")
    assert page.url == wanted
    page.wait_for_selector("text=Hyperparameter Importance", timeout=60_000)
    page.wait_for_selector(".js-plotly-plot .barlayer .point", timeout=60_000)
    page.screenshot(path=tmp_path / "study.png")
    page.screenshot(path=tmp_path / "study-whole.png", full_page=True)
    page.click(".tunesvc-bar >> text=Reports")
    page.wait_for_selector("text=ada (editor)")
    page.screenshot(path=tmp_path / "reports.png")
    page.click("main >> text=made")
    page.wait_for_selector("html[data-drawn=yes]", timeout=60_000)
    page.goto(f"{address}/status")
    page.wait_for_selector("text=made")
    page.screenshot(path=tmp_path / "status.png")
    page.goto(f"{address}/dashboard")
    page.wait_for_selector("text=made", timeout=60_000)
    page.click("text=Log out")
    page.wait_for_selector("#password")
    assert page.url == f"{address}/login"
    page.goto(wanted)
    assert "/login" in page.url


def test_the_form_fits(address: str, view: Open, tmp_path: Path) -> None:
    """At any width, in light and dark; a screen reader hears what the fields are."""
    for width, scheme in ((360, "dark"), (1100, "light")):
        page = view(f"{address}/login", width=width, color_scheme=scheme)
        page.screenshot(path=tmp_path / f"form-{width}.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate("document.activeElement.id") == "name"
        told = page.locator("body").aria_snapshot()
        for words in ('textbox "Name"', 'textbox "Password"', 'button "Log in"'):
            assert words in told


def test_optunas_pages_work_under_our_policy(
    address: str, made: Study, view: Open, tmp_path: Path
) -> None:
    """Each of them; a console that complains fails the test. The bar covers no control."""
    page = view(f"{address}/login", width=1300)
    entered(page, "bob")
    study = f"/studies/{made.id}"
    for place, part in enumerate(("", *(study + each for each in PARTS))):
        page.goto(f"{address}/dashboard{part}")
        page.wait_for_selector("text=made", timeout=60_000)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=tmp_path / f"page-{place}.png")
        assert page.evaluate(COVERED) == []
    page.set_viewport_size({"width": 400, "height": 800})
    page.screenshot(path=tmp_path / "narrow.png")
    assert page.evaluate(COVERED) == []


def test_parallel_coordinates_are_drawn(chromium: Browser, address: str, made: Study) -> None:
    """By WebGL, of which the console tells, where there is no GPU, that it is slow."""
    said = []
    with closing(chromium.new_page()) as page:
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda told: said.append(told.text) if told.type == "error" else None)
        page.goto(f"{address}/login?next=/dashboard/studies/{made.id}/smartSelection")
        entered(page, "bob")
        page.wait_for_selector("canvas.gl-canvas", state="attached", timeout=30_000)
        page.wait_for_load_state("networkidle")
    assert said == []


def test_a_real_browsers_own_request_passes(address: str, made: Study, view: Open) -> None:
    """What it says of where a request was made is what we look for."""
    page = view(f"{address}/login", width=1300)
    entered(page, "ada")
    page.wait_for_selector("text=made", timeout=60_000)
    asked = "{method: 'DELETE', body: '{}', headers: {'Content-Type': 'application/json'}}"
    status = page.evaluate(f"fetch('/api/studies/{made.id}', {asked}).then((it) => it.status)")
    assert status == 204
    assert made.store.optuna.get_all_studies() == []
