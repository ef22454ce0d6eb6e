"""The report's page in a real Chromium: loads without a complaint, shows its pictures, fits."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from made_trials import made

from tunesvc.report import PLOTLY, drawing_library, html
from tunesvc.report.evidence import Evidence
from tunesvc.report.making import make

if TYPE_CHECKING:
    from playwright.sync_api import Page

Open = Callable[..., "Page"]

HOSTILE = "</script><script>console.error('ran')</script><img src=x onerror=alert(2)>"
CONTRAST = 4.5  # of text with what is behind it; WCAG 2.2, 1.4.3


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a study of 60 trials."""
    path = tmp_path_factory.mktemp("report") / "made.html"
    path.write_text(html(make(Evidence(made(60), images=153))), encoding="utf-8")
    return path


def drawn(page: Page) -> Page:
    """Wait until every picture is there."""
    page.wait_for_selector("html[data-drawn=yes]", timeout=60_000)
    return page


def test_pictures_are_drawn(view: Open, file: Path) -> None:
    """Each picture has bars, lines or cells; importance names its knobs."""
    page = drawn(view(file))
    places = page.query_selector_all("[data-figure]")
    assert len(places) > 12
    for place in places:
        shown = ".barlayer path, .scatterlayer path, .heatmaplayer image"
        assert place.query_selector(shown), place.get_attribute("data-figure")
    words = page.inner_text("#importance")
    assert "strategy" in words
    assert len(page.query_selector_all("#importance .barlayer .point")) == 6
    assert page.title() == "made · tunesvc report"


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (360, "light"), (1100, "light")])
def test_nothing_overflows(view: Open, file: Path, tmp_path: Path, width: int, scheme: str) -> None:
    """At any width, in light and dark, the page does not scroll sideways; each view is kept."""
    page = drawn(view(file, width=width, color_scheme=scheme))
    for details in page.query_selector_all("details"):
        details.evaluate("each => each.open = true")
    shape = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert shape[0] <= shape[1]
    sections = page.query_selector_all("main > section")
    assert len(sections) > 20
    for place, section in enumerate(sections):
        name = section.get_attribute("id") or f"part-{place}"
        section.screenshot(path=tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").stat().st_size > 1000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read(view: Open, file: Path, scheme: str) -> None:
    """Text has a contrast of 4.5 with its background, and so have the words in pictures."""
    page = drawn(view(file, color_scheme=scheme))
    looks = page.evaluate(
        """() => {
          const shown = (css) => css.match(/[\\d.]+/g).map(Number);
          const behind = (each) => {
            for (let at = each; at; at = at.parentElement) {
              const colour = shown(getComputedStyle(at).backgroundColor);
              if (colour.length < 4 || colour[3] > 0) return colour;
            }
            return [255, 255, 255];
          };
          const words = [...document.querySelectorAll(
            "h1, h2, h3, p, dt, dd, li a, summary, th, td, code, .xtick text, .ytick text")];
          return words.filter((each) => each.textContent.trim()).map((each) => [
            each.textContent.slice(0, 30),
            shown(getComputedStyle(each)[each.namespaceURI.includes("svg") ? "fill" : "color"]),
            behind(each),
          ]);
        }"""
    )
    assert len(looks) > 100
    poor = [text for text, ink, paper in looks if contrast(ink, paper) < CONTRAST]
    assert poor == []


def contrast(ink: list[float], paper: list[float]) -> float:
    """The contrast ratio of two colours. Source: WCAG 2.2, "contrast ratio"."""
    one, other = sorted((luminance(ink), luminance(paper)))
    return (other + 0.05) / (one + 0.05)


def luminance(colour: list[float]) -> float:
    """The relative luminance of an sRGB colour. Source: WCAG 2.2, "relative luminance"."""
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
        for part in (each / 255 for each in colour[:3])
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_by_keyboard(view: Open, file: Path) -> None:
    """The first tab stop skips to the report; the numbers behind a picture open by a key."""
    page = drawn(view(file))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    summary = page.query_selector("#importance summary")
    assert summary
    summary.focus()
    page.keyboard.press("Enter")
    assert page.is_visible("#importance table")


def test_what_a_screen_reader_hears(view: Open, file: Path) -> None:
    """Landmarks, headings and the names of pictures are in the accessibility tree."""
    page = drawn(view(file))
    told = page.locator("body").aria_snapshot()
    assert "- banner" in told
    assert "- main" in told
    assert '- heading "made" [level=1]' in told
    assert '- img "Which knobs matter"' in told
    assert "- contentinfo" in told


def test_it_prints(view: Open, file: Path) -> None:
    """Printed, from a dark screen too, it is dark on white."""
    page = drawn(view(file, color_scheme="dark"))
    assert len(page.pdf()) > 50_000
    page.emulate_media(media="print", color_scheme="light")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.is_visible(".contents")


def test_pages_that_share_a_library(view: Open, tmp_path: Path) -> None:
    """Pages of one folder draw with the copy of the library beside them, from file:// too."""
    report = make(Evidence(made(20)))
    (tmp_path / "a.html").write_text(html(report, shared=True), encoding="utf-8")
    (tmp_path / PLOTLY).write_text(drawing_library(), encoding="utf-8")
    page = drawn(view(tmp_path / "a.html"))
    assert page.query_selector("#curves .main-svg")


def test_strangers_text_does_not_run(view: Open, tmp_path: Path) -> None:
    """Names and reasons that want to be code are read, not run; not even an image is asked for."""
    trials = made(30, name=HOSTILE, backbones=(HOSTILE, "b", "c"))
    trials.frame["reason"] = trials.frame["worker"] = trials.frame["strategy"] = HOSTILE
    path = tmp_path / "hostile.html"
    path.write_text(html(make(Evidence(trials))), encoding="utf-8")
    page = drawn(view(path))
    assert page.inner_text("h1") == HOSTILE
    assert page.query_selector_all("img") == []


def test_the_policy_holds(chromium: Any, tmp_path: Path) -> None:
    """A script that got into the page after all is not run: its hash is not in the policy."""
    report = make(Evidence(replace(made(3))))
    text = html(report).replace("</main>", "<script>document.title = 'ran'</script></main>")
    path = tmp_path / "changed.html"
    path.write_text(text, encoding="utf-8")
    page = chromium.new_page()
    said: list[str] = []
    page.on("console", lambda told: said.append(told.text))
    page.goto(path.as_uri())
    assert page.title() == "made · tunesvc report"
    assert any(re.search("Content Security Policy", told) for told in said)
    page.close()


def test_before_the_first_trial(view: Open, tmp_path: Path) -> None:
    """Without a trial the page says so, and loads without a complaint."""
    path = tmp_path / "empty.html"
    path.write_text(html(make(Evidence(made(0)))), encoding="utf-8")
    page = view(path)
    assert "No trial of made has run to its end yet." in page.inner_text(".answer")
