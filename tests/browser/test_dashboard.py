"""The served dashboard in a real Chromium: optuna-dashboard with our summary, and the report."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from optuna_dashboard import get_note
from stored_trials import stored_study

from tunesvc.dashboard import free_port
from tunesvc.storage import VARIABLE, Store
from tunesvc.study import Study

if TYPE_CHECKING:
    from playwright.sync_api import Page

Open = Callable[..., "Page"]


@pytest.fixture
def made(store: Store, tmp_path: Path) -> Study:
    """A study of 60 finished trials."""
    return stored_study(store, tmp_path)


@pytest.fixture
def address(made: Study, storage_url: str) -> Iterator[str]:
    """Where `tunesvc dashboard` serves it, its summary posted."""
    port = free_port(18080)
    command = [sys.executable, "-m", "tunesvc", "dashboard", "--port", str(port)]
    served = subprocess.Popen(command, env=os.environ | {VARIABLE: storage_url})
    deadline = time.monotonic() + 300
    while not get_note(made.optuna(made.store.plain())):
        assert served.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}"
    served.terminate()
    assert served.wait(timeout=120) == 130


@pytest.fixture
def several(store: Store, tmp_path: Path) -> Study:
    """A study of two objectives, of 60 finished trials, older than the other."""
    objective = [{"metric": "accuracy"}, {"cost": "latency_ms"}]
    return stored_study(store, tmp_path, name="several", objective=objective)


def test_the_front_of_several_objectives_is_shown(
    several: Study, address: str, view: Open, tmp_path: Path
) -> None:
    """Optuna-dashboard draws it, as it does for any study of its own, with the metrics' names."""
    page = view(f"{address}/dashboard/studies/{several.id}", width=1300)
    page.wait_for_selector("text=Pareto Front", timeout=60_000)
    page.wait_for_selector(".js-plotly-plot", timeout=60_000)
    page.wait_for_selector("text=latency_ms", timeout=60_000)
    page.screenshot(path=tmp_path / "front.png", full_page=True)


def test_summary_and_pictures_are_shown(
    address: str, made: Study, view: Open, tmp_path: Path
) -> None:
    """The study's page has our pictures among its own; its note tells the answer in words."""
    page = view(f"{address}/dashboard/studies/{made.id}", width=1300)
    page.wait_for_selector("text=made", timeout=60_000)
    page.wait_for_selector(".js-plotly-plot", timeout=60_000)
    page.screenshot(path=tmp_path / "history.png", full_page=True)
    page.goto(f"{address}/dashboard/studies/{made.id}/note")
    words = page.wait_for_selector("text=Tune these", timeout=60_000)
    assert words is not None
    page.screenshot(path=tmp_path / "note.png", full_page=True)
    shown = page.inner_text("body")
    assert "tiny_resnet" in shown
    assert "tunesvc report" not in shown  # the lines between which our words stand


def test_pictures_are_shown_among_the_artifacts(
    address: str, made: Study, view: Open, tmp_path: Path
) -> None:
    """As images that are drawn; nobody can put others there."""
    page = view(f"{address}/dashboard/studies/{made.id}", width=1300)
    page.set_viewport_size({"width": 1300, "height": 6000})  # what is not in sight is not loaded
    page.wait_for_selector("text=importance.png", timeout=60_000)
    page.wait_for_function(
        """() => {
            const drawn = [...document.images].filter(each => each.src.includes("/artifacts/"))
            return drawn.length >= 10 && drawn.every(each => each.naturalWidth > 500)
        }""",
        timeout=60_000,
    )
    page.screenshot(path=tmp_path / "artifacts.png", full_page=True)


def test_report_is_served(address: str, view: Open, tmp_path: Path) -> None:
    """Its list leads to it, and it draws its pictures under its own security policy."""
    page = view(f"{address}/report", width=1300)
    page.click("text=made")
    page.wait_for_selector("html[data-drawn=yes]", timeout=60_000)
    assert page.query_selector("#importance .barlayer .point")
    page.screenshot(path=tmp_path / "report.png", full_page=True)
