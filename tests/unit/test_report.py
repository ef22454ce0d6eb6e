"""Reports: sentences, sections at any number of trials, and what strangers' text may do."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache
from html import unescape
from typing import Any

import pandas as pd
import pytest
from made_trials import made

from tunesvc.analysis.confirmation import Candidate, Confirmation, Rerun, confirmation
from tunesvc.analysis.expected_best import ExpectedBest
from tunesvc.analysis.importance import Importance, KnobShare, Unjudged
from tunesvc.analysis.pareto import Spending
from tunesvc.analysis.pruning_audit import PruningAudit
from tunesvc.analysis.safe_range import SafeRange
from tunesvc.analysis.table import Direction, Estimate, Trials, Unsupported
from tunesvc.cli import report as cli
from tunesvc.report import Report, figures, html, markdown, rendering, wording
from tunesvc.report.advice import advice
from tunesvc.report.document import Advice, Table
from tunesvc.report.evidence import Evidence
from tunesvc.report.making import beside, make
from tunesvc.report.sections import SECTIONS
from tunesvc.report.sentences import sentences
from tunesvc.report.thinning import thin

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


@cache
def reported(count: int, direction: Direction = "maximize") -> Report:
    """The report of so many made-up trials."""
    return make(Evidence(made(count, direction=direction), images=153))


def without_values(trials: Trials, *numbers: int) -> Trials:
    """The same trials, these having failed."""
    frame = trials.frame.copy()
    frame.loc[list(numbers), "value"] = float("nan")
    frame.loc[list(numbers), "state"] = "FAIL"
    return replace(trials, frame=frame)


# Sentences


def test_which_buys_how_sure() -> None:
    """The first names the best trial, the second what tuning bought, the third how sure that is."""
    first, second, third = reported(60).sentences
    assert re.fullmatch(
        r"Best of 47 finished trials: accuracy 0\.966, by trial 13: mobilenet_v2, strategy full, "
        r"lr 0\.0041, label_smoothing 0\.055, optimizer adamw\.",
        first,
    )
    assert second.startswith(
        "Untuned, mobilenet_v2 reached 0.959 (trial 1), so tuning bought 0.6 points as seen; "
        "the surface fitted through all trials makes it "
    )
    assert re.search(r"\(90 % interval −?\d\.\d to \d\.\d", second)
    assert third == (
        "With 153 validation images, one standard error is 1.5 points, and 5 other trials are that "
        "close: which of them is best may be chance. Not confirmed yet: tunesvc confirm made"
    )


def test_no_more_is_bought_than_there_is() -> None:
    """Where the surface makes more of a gain than a share has room for, it is not quoted."""
    trials = made(60)
    frame = trials.frame.copy()
    frame["value"] += 1 - trials.finished["value"].max()  # the best has all right
    second = sentences(Evidence(replace(trials, frame=frame)))[1]
    assert second == (
        "Untuned, mobilenet_v2 reached 0.994 (trial 1), so tuning bought 0.6 points as seen; "
        "how much of it is luck is not known: no surface fits these trials well enough."
    )


def test_the_sentences_agree_with_the_table() -> None:
    """Whatever is said of the best trial is what the trials hold."""
    trials = made(60)
    best = int(trials.finished["value"].idxmax())
    first = sentences(Evidence(trials))[0]
    assert f"trial {best}:" in first
    assert f"accuracy {trials.finished.loc[best, 'value']:.3f}" in first
    assert reported(60).best["trial"] == best
    assert reported(60).best["params"]["lr"] == trials.frame.loc[best, "param:lr"]


def test_before_the_first_trial() -> None:
    """Nothing is claimed before a trial has finished."""
    assert sentences(Evidence(made(0))) == (
        "No trial of made has run to its end yet.",
        "So nothing can be said of what tuning buys.",
        "The first finished trial will be shown here.",
    )


def test_all_failed() -> None:
    """If every trial failed, the reason of the last one is told."""
    trials = without_values(made(3), 0, 1, 2)
    trials.frame["reason"] = ["", "", "out of memory"]
    first, _, third = sentences(Evidence(trials))
    assert first == "No trial of made has run to its end yet (3 failed)."
    assert third == "All failed; the last one said: out of memory"


def test_one_trial() -> None:
    """One trial is no comparison."""
    assert sentences(Evidence(made(1))) == (
        "One trial has finished: accuracy 0.941, by trial 0: resnet18, strategy full, at its "
        "defaults.",
        "It is the untuned configuration: nothing else has run to its end yet.",
        "How much of it is chance cannot be told from one trial.",
    )


def test_the_default_won() -> None:
    """Where no other configuration was better, that is what is said."""
    _, second, _ = sentences(Evidence(made(5)))
    assert second == (
        "It is the untuned configuration: none of the 4 others that ran to their end was better."
    )


def test_without_a_default_to_compare_with() -> None:
    """What tuning bought is not guessed where the default never finished."""
    _, second, _ = sentences(Evidence(without_values(made(20), 1)))
    assert second == (
        "What tuning bought is not known: mobilenet_v2 at its defaults has not run to its end, so "
        "there is nothing to compare with."
    )


def test_lower_is_better() -> None:
    """A loss is told in its own unit, gains being positive."""
    first, second, _ = sentences(Evidence(made(60, direction="minimize")))
    assert "loss 0.034, where lower is better" in first
    assert re.search(r"reached 0\.041 \(trial 1\), so tuning bought 0\.00\d+ loss as seen", second)


def test_how_many_images_is_not_known() -> None:
    """Without the number of images, chance is said to be unmeasured."""
    _, _, third = sentences(Evidence(made(60)))
    assert third == (
        "The runner-up is 0.0 points behind; how much of that is chance was not measured. "
        "Not confirmed yet: tunesvc confirm made"
    )


SHIFTS = (-0.002, 0.0, 0.001, 0.002, -0.001)  # what each seed does


def confirmed(
    *means: float,
    shifts: Mapping[str, Sequence[float]] | None = None,
    default: int | None = 1,
) -> Evidence:
    """A study whose two best and one default were run again.

    Args:
        means: of the two and of the default, with new seeds.
        shifts: of a candidate's runs, in place of `SHIFTS`.
        default: the trial of the study that had it.
    """
    promised = 0.940 if default is not None else None
    candidates = [
        Candidate("trial 13", "best", 13, "mobilenet_v2", 0.966),
        Candidate("trial 20", "best", 20, "mobilenet_v2", 0.964),
        Candidate(DEFAULT, "default", default, "mobilenet_v2", promised, is_default=True),
    ]
    names = dict(zip((each.name for each in candidates), means or MEANS, strict=True))
    reruns = [
        Rerun(name, seed, value + shift + 0.0005 * (place * seed % 3), value - 0.01 + shift)
        for place, (name, value) in enumerate(names.items())
        for seed, shift in enumerate((shifts or {}).get(name, SHIFTS))
    ]
    found = confirmation(candidates, reruns, metric="accuracy", direction="maximize", images=153)
    return Evidence(made(60), confirmed=found, images=153)


MEANS = (0.960, 0.952, 0.938)
DEFAULT = "default of mobilenet_v2"


def test_confirmed() -> None:
    """After a confirmation, all three sentences tell what it found, and what the search had."""
    first, second, third = sentences(confirmed())
    assert first.startswith(
        "Best with new seeds: trial 13, mean accuracy 0.960 (in the search it had 0.966): "
        "mobilenet_v2, strategy full, lr 0.0041, "
    )
    assert re.fullmatch(
        r"Run again with new seeds, trial 13 is 2\.\d points better than default of mobilenet_v2 "
        r"\(\d\.\d to \d\.\d; p < 0\.001, 5 seeds\); a single run of each had shown 2\.6\.",
        second,
    )
    assert third.startswith("Confirmed with 5 new seeds: trial 13 has mean accuracy 0.960 (0.9")
    assert "on the test split 0.950" in third
    assert "; it is surely the best, 0." in third
    assert " points better than trial 20 (" in third
    assert third.endswith("the search had promised 0.6 points too much for trial 13.")


def test_another_one_won_the_confirmation() -> None:
    """If new seeds put another trial first, that one is the answer, with its own values."""
    evidence = confirmed(0.952, 0.960, 0.938)
    first, second, third = sentences(evidence)
    assert make(evidence).best["trial"] == 20
    assert re.match(
        r"Best with new seeds: trial 20, mean accuracy 0\.960 \(in the search it had 0\.964, and "
        r"trial 13 was best with 0\.966\): ",
        first,
    )
    assert "trial 20 is 2.2 points better than default of mobilenet_v2" in second
    assert third.endswith("the search had promised 0.4 points too much for trial 20.")
    assert figures.confirmation.says(found_by(evidence)).startswith(
        "Trial 20 has the best mean: it is 0.8 "
    )


@pytest.mark.parametrize("default", [1, None])
def test_an_untuned_default_won_the_confirmation(default: int | None) -> None:
    """If new seeds put a default first, it is the answer; what the search claimed is not told."""
    evidence = confirmed(0.950, 0.949, 0.960, default=default)
    first, second, third = sentences(evidence)
    assert first.startswith(f"Best with new seeds: {DEFAULT}, mean accuracy 0.961 (in the search ")
    assert first.endswith("mobilenet_v2, strategy full, at its defaults.") == (default == 1)
    assert first.endswith(", at its defaults.")
    nothing = "othing that was tried is better than the untuned configuration of mobilenet_v2"
    assert second == f"With new seeds, n{nothing}."
    assert f"{DEFAULT} has mean accuracy 0.961" in third
    assert "points better than trial 13" in third or "point better than trial 13" in third
    assert figures.confirmation.says(found_by(evidence)).startswith(f"N{nothing}: it is 1.0 point")
    best = {told.key: told for told in make(evidence).sections}["best"]
    assert (best.why == "") == (default == 1)
    assert evidence.answer() == default


def test_the_default_is_better_than_the_winner() -> None:
    """A default that lost a run, but is surely better than the winner, is what is recommended."""
    evidence = confirmed(0.950, 0.949, 0.960, shifts={DEFAULT: (*SHIFTS[:4], float("nan"))})
    found = found_by(evidence)
    assert found.winner == "trial 13"
    first, second, third = sentences(evidence)
    assert first.startswith(f"Best with new seeds: {DEFAULT}, mean accuracy 0.961 ")
    assert second.startswith("With new seeds, nothing that was tried is better than the untuned ")
    worse = f"is 1.0 point worse than {DEFAULT} ("
    assert third.startswith(f"Confirmed with 4 new seeds (1 more failed): {DEFAULT} has mean ")
    assert f"; trial 13, the best of what was tuned, {worse}" in third
    assert f"configuration of mobilenet_v2: trial 13 {worse}" in figures.confirmation.says(found)


def test_surely_the_best() -> None:
    """The best is sure only if everything else, and not the runner-up alone, is told from it."""
    wide = {DEFAULT: (-0.03, 0.03, 0.02, -0.02, 0.0)}
    _, _, third = sentences(confirmed(0.960, 0.952, 0.945, shifts=wide))
    assert "; it is better than its runner-up: 0.8 points better than trial 20 (" in third
    close = {"trial 20": (0.004, -0.004, 0.003, -0.006, 0.002)}
    _, _, third = sentences(confirmed(0.960, 0.959, 0.938, shifts=close))
    assert "; it is perhaps the best, 0." in third


def test_confirmed_without_a_default() -> None:
    """Where the default was not run again, what tuning bought is not taken from the search."""
    found = found_by(confirmed())
    unknown = Unsupported("there is nothing to compare it with")
    _, second, _ = sentences(Evidence(made(60), confirmed=replace(found, bought=unknown)))
    assert second == (
        "What tuning bought is not known with new seeds: there is nothing to compare it with."
    )


def found_by(evidence: Evidence) -> Confirmation:
    """What its confirmation found."""
    assert isinstance(evidence.confirmed, Confirmation)
    return evidence.confirmed


def test_a_confirmations_own_study() -> None:
    """The runs of a confirmation are told as such; to confirm them again is not advised."""
    told = sentences(Evidence(replace(made(20, name="digits.confirm"), sampler="given")))
    assert told[0].startswith("These are configurations of digits, run again with new seeds; 18 ")
    assert told[2].endswith("tunesvc report digits")
    assert "Best" not in told[0]
    assert "tunesvc confirm" not in " ".join(told)


# Advice


class Judged(Evidence):
    """A study whose importance is given."""

    def importance(self) -> Importance | Unsupported:
        """As given."""
        return Importance(
            knobs=(
                share("lr", 0.41, 0.30, 0.52, is_noise=False),
                share("momentum", 0.01, 0.0, 0.02, is_noise=True, branch="optimizer=sgd"),
                share("label_smoothing", 0.05, 0.0, 0.21, is_noise=True),
            ),
            pairs=(),
            unjudged=(Unjudged("optimizer", "optimizer", "", 3, "needs 8 trials, has 3"),),
            noise_line=0.04,
            explained=Estimate(0.62, 0.5, 0.7, 47, "share"),
            trials=47,
            pruned=13,
            method="",
        )


def share(
    knob: str, value: float, low: float, high: float, *, is_noise: bool, branch: str = ""
) -> KnobShare:
    """A knob's share."""
    told = Estimate(value, low, high, 47, "share")
    return KnobShare(knob, knob, branch, told, told, 0.04, is_noise)


def test_tune_leave_unknown() -> None:
    """What clears the noise is to be tuned; what surely is small, left; the rest is not known."""
    told = {each.knob: each for each in advice(Judged(made(60)))}
    assert [each.verdict for each in told.values()] == ["tune", "leave", "unknown", "unknown"]
    assert told["lr"].words.startswith("41 % (30 to 52 %) of what varies; ")
    assert re.search(r"safe for mobilenet_v2: 0\.0\S+ to 0\.0\S+, which costs at most 1 point", (
        told["lr"].words
    ))  # fmt: skip
    assert told["momentum (optimizer=sgd)"].words.startswith("not distinguishable from noise, at ")
    assert told["label_smoothing"].words == (
        "cannot be told yet: anything up to 21 % of what varies; until then, its default is 0."
    )
    assert told["optimizer"].words == "needs 8 trials, has 3."


class Ranged(Judged):
    """A study whose safe ranges are given."""

    def safe_ranges(self) -> tuple[SafeRange, ...] | Unsupported:
        """As given."""
        return (
            ranged("lr", (1e-4, 1e-3), (5e-3, 9e-3), at=2e-3),
            ranged("momentum", (0.8, 0.8), (0.99, 0.99), at=0.9, whole=True),
            ranged("label_smoothing", (0.0, 0.1), (0.1, 0.2), at=0.1, whole=True),
            SafeRange("mobilenet_v2", "strategy", "strategy", "", "full", None, None,
                      whole=False, safe=("full",), points=1, epsilon=0.01, trials=9),
        )  # fmt: skip


def ranged(
    knob: str,
    low: tuple[float, float],
    high: tuple[float, float],
    *,
    at: float,
    whole: bool = False,
) -> SafeRange:
    """A range whose ends lie between these."""
    ends = Estimate(low[0], low[0], low[1], 9, knob), Estimate(high[1], high[0], high[1], 9, knob)
    return SafeRange("mobilenet_v2", knob, knob, "", at, *ends, whole, (), 1, 0.01, 9)


def test_safe_ranges_are_told_by_their_sure_ends() -> None:
    """Advice names the inner ends; all that was searched only if these reach its edges."""
    told = {each.knob: each.words for each in advice(Ranged(made(60)))}
    assert "; safe for mobilenet_v2: 0.001 to 0.005, which costs at most 1 point." in told["lr"]
    found = Ranged(made(60)).safe_ranges()
    assert not isinstance(found, Unsupported)
    rows = {row[1]: row[3:5] for row in figures.robustness.ranges_table(found).rows}
    assert rows == {
        "lr": ("0.001 to 0.005", "0.0001 to 0.009"),
        "momentum": ("0.8 to 0.99 (all that was searched)",) * 2,
        "label_smoothing": ("only its best", "0 to 0.2 (all that was searched)"),
        "strategy": ("–", "full"),
    }
    says = figures.robustness.ranges_says(found)
    assert says == "1 of 3 ranges surely is all that was searched."


def test_what_is_to_be_left_is_told_with_its_range_only_if_that_holds_it() -> None:
    """A knob is not said to be left at a value beside a range that does not hold it."""

    class Left(Ranged):
        def importance(self) -> Importance | Unsupported:
            found = super().importance()
            assert isinstance(found, Importance)
            small = share("label_smoothing", 0.01, 0.0, 0.02, is_noise=True)
            return replace(found, knobs=(small,))

    told = {each.knob: each.words for each in advice(Left(made(60)))}
    assert told["label_smoothing"].endswith("leave it at 0.")


def test_no_advice_before_it_can_be_given() -> None:
    """With few trials there is no advice, and the page says what is missing."""
    report = reported(5)
    assert report.advice == ()
    assert "No advice yet. Needs 20" in html(report)


# Sections


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
@pytest.mark.parametrize("count", [0, 1, 5, 20])
def test_every_section_is_honest(count: int, direction: Direction) -> None:
    """At any number of trials each section has either facts or a sentence why it has none."""
    report = reported(count, direction)
    assert [told.key for told in report.sections] == [section.key for section in SECTIONS]
    for told in report.sections:
        if told.why:
            assert re.fullmatch(r"[A-Z].*(\.|tunesvc confirm \S+)", told.why), told.why
            assert (told.figure, told.table, told.says) == ("", None, "")
        else:
            assert told.table is not None
            assert all(len(row) == len(told.table.columns) for row in told.table.rows), told.key
            assert not told.figure or json.loads(told.figure)["data"], told.key
    if count == 0:
        assert all(told.why for told in report.sections)


def test_no_word_is_of_another_metric() -> None:
    """Of a loss, nothing is called accuracy, and nothing stands on the side that a maximum has."""
    for told in reported(20, "minimize").sections:
        words = f"{told.title} {told.tells} {told.says} {told.why}".lower()
        assert "accuracy" not in words, told.key
        assert "left of" not in words, told.key


def test_no_pair_is_no_proof() -> None:
    """Where no pair clears the noise, that is all that is said."""
    found = Judged(made(60)).importance()
    assert isinstance(found, Importance)
    said = figures.importance.pair_says(found)
    assert said == "No pair could be told from noise with 47 finished trials."


def test_an_hour() -> None:
    """What the hours bought is told per hour, too: of all, and of each backbone."""
    told = {each.key: each for each in reported(60).sections}
    spending = Evidence(made(60)).spending()
    assert isinstance(spending, Spending)
    assert told["spending"].says.endswith(f": {100 * spending.per_hour:.1f} points an hour.")
    table = told["spending-backbones"].table
    assert table is not None
    by_backbone = {row["backbone"]: row for row in table.records()}
    assert list(by_backbone) == ["resnet18", "mobilenet_v2", "tiny_cnn"]
    for row in by_backbone.values():
        hourly = row["gain, points"] / row["hours"]  # type: ignore[operator]
        assert row["points an hour"] == pytest.approx(hourly)
    best = by_backbone["tiny_cnn"]["points an hour"]
    assert f": tiny_cnn {best:.0f} points an hour, " in told["spending-backbones"].says


def test_a_backbone_whose_hours_are_not_known() -> None:
    """It has a row that says why."""
    report = make(Evidence(without_values(made(20), 2)))
    table = next(told.table for told in report.sections if told.key == "spending-backbones")
    assert table is not None
    assert table.records()[2]["points an hour"] is None
    assert str(table.records()[2]["not known"]).startswith("needs a finished trial of an untuned")


def test_how_long_a_random_trial_takes() -> None:
    """How many trials are enough is told in time, too."""
    says = next(told.says for told in reported(60).sections if told.key == "expected")
    assert re.search(r"\. A random trial takes \d+ s on average\.$", says)
    found = Evidence(made(60)).expected_best()
    assert isinstance(found, ExpectedBest)
    enough = replace(found, enough=20, enough_between=(10, None), seconds_per_trial=30.0)
    took = " A random trial takes 30 s on average, 20 of them 10 min."
    assert figures.expected.says(enough).endswith(took)


def test_controls_that_never_finished() -> None:
    """The share of winners is told of those controls that finished."""
    trials = made(60)
    finished = [number for number in trials.finished.index if number > 2][:8]
    stopped = trials.frame.index[trials.frame["state"] == "PRUNED"][:2]
    trials.frame.loc[[*finished, *stopped], "control"] = True
    trials.frame.loc[[*finished, *stopped], "stop_epoch"] = 2
    audit = Evidence(trials).pruning()
    assert isinstance(audit, PruningAudit)
    assert len(audit.spared) == 10
    says = figures.pruning.says(audit, trials)
    assert "Of 8 finished control trials that would have been pruned, " in says


def test_choices_that_print_alike() -> None:
    """Each choice has a height of its own within the axis; numbers stand by size."""
    trials = made(30)
    choices = (10.0, 0.00104, 2.0, 0.001)
    for kind in ("param", "knob"):
        values = [choices[number % 4] for number in trials.frame.index]
        trials.frame[f"{kind}:optimizer"] = pd.Series(values, dtype=object)
    drawn = figures.parallel.figure(trials)
    place = list(drawn.layout.xaxis.ticktext).index("optimizer")
    ticks = {note.text: note.y for note in drawn.layout.annotations if note.x == place}
    assert list(ticks) == ["0.001", "0.00104", "2.0", "10.0"]
    assert list(ticks.values()) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert max(max(trace.y[trace.y == trace.y]) for trace in drawn.data) <= 1


def test_a_study_called_index() -> None:
    """A study keeps its page, whatever it is called; the overview takes another name."""
    several = [Evidence(made(5, name=name)) for name in ("Index", "index-2")]
    told = {each.trials.study: make(each) for each in several}
    overview = beside(several, list(told.values()))
    pages = cli._pages(told, overview)
    assert sorted(pages) == ["Index.html", "index-2.html", "index-3.html", rendering.PLOTLY]
    assert 'href="index-3.html"' in pages["Index.html"]
    assert 'href="index-2.html"' in pages["index-3.html"]
    assert "index-3.md" in cli._texts(told, overview, cli.Format.md)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda frame: frame.assign(state="PRUNED", value=float("nan")), id="pruned"),
        pytest.param(lambda frame: frame.assign(state="RUNNING", value=float("nan")), id="running"),
        pytest.param(lambda frame: frame.assign(value=0.5, last=0.5), id="equal"),
        pytest.param(lambda frame: frame.assign(seconds=float("nan")), id="no seconds"),
        pytest.param(lambda frame: frame.assign(worker=""), id="no worker"),
    ],
)
def test_odd_studies(change: Callable[[Any], Any]) -> None:
    """Studies in which all are pruned, running, equal or unknown can be told, too."""
    trials = made(30)
    trials = replace(trials, frame=change(trials.frame))
    report = make(Evidence(trials))
    assert len(report.sentences) == 3
    assert html(report)
    assert markdown(report)


def test_one_backbone() -> None:
    """A study of one backbone can be told."""
    report = make(Evidence(made(40, backbones=("resnet18",))))
    assert "resnet18" in report.sentences[0]
    assert html(report)


def test_side_by_side() -> None:
    """Several studies share a report; each knob has a share in each of them."""
    several = [Evidence(made(60, seed=seed, name=f"s{seed}")) for seed in (1, 2)]
    report = beside(several, [make(each) for each in several])
    assert report.study == "s1, s2"
    assert report.sentences[0].startswith("s1: Best of ")
    table = next(told.table for told in report.sections if told.key == "across")
    assert table is not None
    assert table.columns[:3] == ("knob", "s1", "s2")
    assert {each.knob for each in report.advice if each.verdict == "tune"} >= {"strategy", "lr"}
    assert "s1, s2" in html(report, shared=True, others=[("s1", "s1.html")])


def test_side_by_side_without_trials() -> None:
    """Studies without a trial stand side by side, and say so."""
    several = [Evidence(made(0, name=name)) for name in "ab"]
    report = beside(several, [make(each) for each in several])
    assert report.sections[0].why == "No study has a finished trial."


# Shown as page, text and JSON


def test_same_facts_in_text_and_json() -> None:
    """Each sentence, reason and row of the page is in the Markdown and in the JSON."""
    report = reported(60)
    page, text, data = html(report), markdown(report), report.as_json()
    shown = unescape(re.sub(r"<[^>]+>", "", page)).replace("\N{NO-BREAK SPACE}", " ")
    plain = text.replace("\\", "").replace("`", "").replace("&lt;", "<")
    for words in [*report.sentences, *(each.words for each in report.advice)]:
        assert words in shown
        assert words in plain
    assert data["sentences"] == report.sentences
    for told in report.sections:
        known = data["sections"][told.key]
        for words in filter(None, (told.title, told.why, told.says)):
            assert words in shown
            assert words in plain
        assert told.why == known.get("unsupported", "")
        if told.table:
            assert len(known["rows"]) == len(told.table.rows)
            first = " | ".join(map(rendering.cell, told.table.rows[0]))
            assert " ".join(first.split()) in plain, told.key


@pytest.mark.parametrize("count", [0, 1, 60])
def test_json_is_strict(count: int) -> None:
    """The JSON holds neither NaN nor infinities, at any number of trials."""
    told = json.dumps(reported(count).as_json(), allow_nan=False)
    assert json.loads(told)["trials"]["all"] == count


def test_the_short_form() -> None:
    """The note for optuna-dashboard has the answer and what to tune, without the sections."""
    note = markdown(reported(60), short=True)
    assert "Best of 47 finished trials" in note
    assert "**Tune these**" in note
    assert "## Which knobs matter" not in note
    assert len(note) < 4000


def test_kept_and_read_back() -> None:
    """A report survives JSON unchanged."""
    report = reported(20)
    assert Report.of(json.loads(json.dumps(asdict(report)))) == replace(
        report,
        best=json.loads(json.dumps(report.best)),
    )


def hostile() -> Report:
    """A study whose names, parameters and reasons want to be code."""
    trials = made(30, name=HOSTILE, backbones=(HOSTILE, "b|c", "*d*"))
    trials.frame["reason"] = HOSTILE
    trials.frame["worker"] = HOSTILE
    trials.frame["strategy"] = HOSTILE
    report = make(Evidence(trials))
    told = Advice(HOSTILE, "tune", HOSTILE)
    return replace(report, advice=(told, *report.advice))


def test_strangers_text_is_no_code() -> None:
    """Names and reasons appear as text: they neither end an element nor open one."""
    page = html(hostile())
    ours = re.sub(
        r"<script>.*?</script>", "", page.replace(rendering.drawing_library(), ""), flags=re.S
    )
    assert "alert(1)" in ours
    assert "<script>alert" not in ours
    assert "<img" not in ours
    for told in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S):
        assert "<" not in told
        json.loads(told)
    text = markdown(hostile())
    assert "<script" not in text
    assert "<img" not in text
    assert "b\\|c" in text


def test_a_picture_cannot_end_its_element() -> None:
    """Whatever stands in a picture's data, the page's own markup goes on after it."""
    figure = json.dumps({"layout": {"height": 100, "title": HOSTILE}, "data": []})
    told = replace(reported(1).sections[0], figure=figure)
    page = html(replace(reported(1), sections=(told,)))
    (data,) = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    assert json.loads(data)["layout"]["title"] == HOSTILE


def test_only_our_scripts_may_run() -> None:
    """The policy names the hash of each script that runs, and nothing else."""
    page = html(reported(20))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    policy = unescape(policy)
    scripts = re.findall(r"<script>(.*?)</script>", page, re.S)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    (allowed,) = re.findall(r"script-src ([^;]+);", policy)
    assert "unsafe" not in allowed
    assert policy.startswith("default-src 'none';")


def test_no_drawing_library_without_a_picture() -> None:
    """A study without trials is a small page."""
    page = html(reported(0))
    assert len(page) < 50_000
    assert "script-src 'none'" in unescape(page)


def test_a_page_needs_nothing_else() -> None:
    """The page loads nothing: it has no address of anything but its own sections."""
    page = html(reported(20)).replace(rendering.drawing_library(), "")
    assert re.findall(r'(?:src|href)="(?!#|data:,)([^"]*)"', page) == []


def test_it_can_be_read_aloud() -> None:
    """Every picture has a name, a description and its table; every section a heading; one h1."""
    page = html(reported(60)).replace(rendering.drawing_library(), "")
    assert page.count("<h1>") == 1
    assert '<html lang="en">' in page
    assert '<a class="skip" href="#main">' in page
    for told in reported(60).sections:
        assert f'aria-labelledby="h-{told.key}"' in page
        assert f'id="h-{told.key}"' in page
        if told.figure:
            part = page[page.index(f'<section id="{told.key}"') :]
            part = part[: part.index("</section>")]
            assert 'role="img"' in part
            assert f'aria-describedby="t-{told.key}"' in part
            assert "<details><summary>The numbers behind it</summary>" in part, told.key
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


# Many trials


def test_a_large_study_makes_a_bounded_page() -> None:
    """Pictures of 5,000 trials show a stated choice of them, the best among them."""
    trials = made(5000)
    shown = thin(trials, trials.finished, 250)
    assert len(shown.frame) == 250
    assert int(trials.finished["value"].idxmax()) in shown.frame.index
    assert re.fullmatch(
        r"250 trials of 3,\d{3} drawn: the best 50, and of the others every 1[0-9.]+th\.",
        shown.chosen,
    )
    quick = ("curves", "parallel", "timeline", "cost_seconds", "strategies")
    evidence = Evidence(trials)
    drawn = [s.told(evidence) for s in SECTIONS if s.key.replace("-", "_") in quick]
    assert len(drawn) == len(quick)
    assert sum(len(told.figure) for told in drawn) < 1_000_000


def test_few_trials_are_all_shown() -> None:
    """Nothing is left out, and nothing said, where all fit."""
    trials = made(20)
    assert thin(trials, trials.frame, 20).chosen == ""
    assert len(thin(trials, trials.frame, 20).frame) == 20


# Words


@pytest.mark.parametrize(
    ("number", "words"),
    [(0.9612, "0.961"), (1e-5, "1.00e-5"), (3.0, "3"), (0.0042, "0.0042"), (float("nan"), "–")],
)
def test_values(number: float, words: str) -> None:
    """A metric's value has three digits behind the point, or three in all."""
    assert wording.value(number) == words


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0.0021, "0.0021"),
        (3e-5, "3.0e-5"),
        (True, "true"),
        (8, "8"),
        ("adamw", "adamw"),
        (None, "–"),
    ],
)
def test_settings(number: object, words: str) -> None:
    """A parameter's value is told with two digits."""
    assert wording.setting(number) == words


@pytest.mark.parametrize(
    ("number", "words"), [(7.26, "7.3 s"), (48, "48 s"), (192, "3.2 min"), (18360, "5.1 h")]
)
def test_durations(number: float, words: str) -> None:
    """Durations are told in the unit that people would take."""
    assert wording.seconds(number) == words


def test_differences() -> None:
    """Differences of an accuracy are points, with a real minus; zero has no sign."""
    share, loss = made(5), made(5, direction="minimize")
    assert wording.difference(0.026, share) == "2.6 points"
    assert wording.difference(0.01, share) == "1.0 point"
    assert wording.difference(-0.026, share) == "−2.6 points"
    assert wording.difference(-0.0001, share) == "0.0 points"
    assert wording.difference(0.0312, loss) == "0.0312 loss"
    assert wording.between(-0.004, 0.041, share) == "−0.4 to 4.1"


@pytest.mark.parametrize(
    ("names", "words"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), ([*"abc"], "a, b and c")]
)
def test_rows(names: Sequence[str], words: str) -> None:
    """Names in a row."""
    assert wording.row(names) == words


def test_knobs_have_names_for_people() -> None:
    """A parameter of a branch is its knob, with the branch in brackets."""
    assert wording.knob("lr@full") == "lr (full)"
    assert wording.knob("lr") == "lr"


def test_a_kept_report_needs_no_measures() -> None:
    """To show what is kept, neither the measures nor what draws are imported."""
    code = "import sys, tunesvc.report; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"scipy", "sklearn", "plotly", "torch"} & set(done.stdout.split())


def test_a_table_of_records() -> None:
    """Rows become records; what is not finite becomes null."""
    table = Table(("a", "b"), ((1, float("nan")), ("x", True)))
    assert table.records() == [{"a": 1, "b": None}, {"a": "x", "b": True}]
