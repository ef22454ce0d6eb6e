"""The benchmark's arithmetic and its tables; nothing is timed here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from peers import job as jobs
from peers.job import Backbone, Job
from speed import command, mixed, ours, report, subjects
from speed.mixed import Mixed
from speed.sides import Bench, Outcome, Trial, paces, span
from speed.table import (
    Figure,
    Row,
    Target,
    cells,
    digits,
    figure,
    markdown,
    ratio,
    smoke_line,
)
from speed.targets import NOTES, target

BODY = Backbone("small", "mobilenet_v2", {"width_mult": 0.35}, "", [["features.0"]], "classifier.1")


def job(**changed: object) -> Job:
    """A search over one backbone."""
    given: dict[str, object] = {
        "study": "some",
        "data": "photos",
        "image_size": 64,
        "resize": 66,
        "mean": (0.5, 0.5, 0.5),
        "std": (0.2, 0.2, 0.2),
        "backbones": [BODY],
        "strategies": ["full"],
        "augmentations": ["none"],
        "trials": 3,
        "epochs": 2,
        "prune": True,
    }
    return Job(**(given | changed))  # type: ignore[arg-type]


def trial(started: float, ended: float, value: float | None = None) -> Trial:
    """A trial without attributes."""
    return Trial(started, ended, value, {})


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (0.00012, "0.00012"),
        (0.0123456, "0.0123"),
        (12.345, "12.3"),
        (143.4, "143"),
        (23456.7, "23,457"),
    ],
)
def test_three_digits_of_a_number_are_shown(number: float, shown: str) -> None:
    """No power of ten, however small or large."""
    assert digits(number) == shown


def test_a_figure_is_the_median_with_its_extremes() -> None:
    """Of an even number, the mean of the middle two."""
    assert figure([4.0, 1.0, 2.0, 9.0]) == Figure(3.0, 1.0, 9.0, 4)
    assert figure([]) is None
    assert str(figure([2.0, 1.0, 3.0])) == "2 (1–3, n=3)"
    assert str(figure([2.0])) == "2 (n=1)"


def test_a_ratio_says_how_many_times_as_good_ours_is() -> None:
    """12 s beside 3 s is 4×; the extremes are those of the extremes."""
    mine, theirs = Figure(3, 2, 4, 5), Figure(12, 8, 16, 3)
    assert ratio(mine, theirs, less_is_better=True) == Figure(4, 2, 8, 3)
    assert ratio(mine, theirs, less_is_better=False) == Figure(0.25, 0.125, 0.5, 3)


def test_nothing_is_a_multiple_of_nothing() -> None:
    """Where a figure is zero there is no ratio."""
    assert ratio(Figure(0, 0, 0, 1), Figure(1, 1, 1, 1), less_is_better=True) is None


@pytest.mark.parametrize(
    ("wanted", "verdict"),
    [
        (Target("ratio", 4, is_least=True), "reached"),
        (Target("ratio", 4.1, is_least=True), "SHORT"),
        (Target("value", 3, is_least=False), "reached"),
        (Target("value", 2.9, is_least=False), "SHORT"),
    ],
)
def test_a_verdict_compares_the_median_with_the_bound(wanted: Target, verdict: str) -> None:
    """3 s where the peer takes 12."""
    row = Row("some", "", "s", figure([3.0]), "plain Optuna", figure([12.0]))
    assert wanted.verdict(row) == verdict


def test_what_never_got_there_has_no_ratio() -> None:
    """Where the peer did we are short, where only we did there is nothing to compare."""
    row = Row("some", "", "s", None, "plain Optuna", figure([12.0]))
    assert cells(row, Target("ratio", 5, is_least=True))[2:] == [
        "not reached s",
        "plain Optuna: 12 (n=1)",
        "",
        "≥ 5×",
        "SHORT",
    ]
    alone = Row("some", "", "s", figure([12.0]), "plain Optuna", None)
    assert cells(alone, Target("ratio", 5, is_least=True))[-1] == "not measured"


def test_a_skipped_row_says_why() -> None:
    """It stands in the table all the same."""
    row = Row("some", "what", "s", None, skipped="ray is not installed")
    assert cells(row, None) == [
        "some",
        "what",
        "skipped: ray is not installed",
        "",
        "",
        "",
        "not measured",
    ]


def test_a_row_is_made_of_what_another_script_measured() -> None:
    """Measurements, or their median with number and extremes."""
    many = Row.of({"row": "ask", "unit": "ms", "ours": [4, 3, 5], "plain": [9]})
    assert (many.ours, many.theirs, many.peer) == (
        Figure(4, 3, 5, 3),
        Figure(9, 9, 9, 1),
        "plain Optuna",
    )
    one = Row.of({"row": "ask", "unit": "ms", "ours": 4, "plain": None, "n": 7, "spread": (3, 5)})
    assert (one.ours, one.theirs, one.peer) == (Figure(4, 3, 5, 7), None, "")


def test_a_table_is_markdown_and_a_bar_is_no_border() -> None:
    """A `|` inside a cell is escaped."""
    assert markdown([["a|b", "c"]], ["x", "y"]) == "| x | y |\n| --- | --- |\n| a\\|b | c |"


def test_the_last_line_of_the_smoke_run_is_for_machines() -> None:
    """`name=143x`, one digit group, `n/a` where nothing was measured."""
    ratios = {"head_only": Figure(1430, 1, 2, 1), "last_stage": Figure(3.14, 1, 2, 1), "full": None}
    assert smoke_line(ratios) == "head_only=1430x last_stage=3.14x full=n/a"


def test_on_a_gpu_another_epoch_is_asked_for() -> None:
    """1.5× on a CPU, 5× on a GPU; the other rows are the same."""
    assert [target("full_epoch", device) for device in ("cpu", "cuda")] == [
        Target("ratio", 1.5, is_least=True),
        Target("ratio", 5, is_least=True),
    ]
    assert target("gap", "cuda") == target("gap", "cpu")


def test_a_pace_holds_what_happens_between_two_trials() -> None:
    """What was begun ahead is not counted twice."""
    done = [trial(0, 5), trial(4, 7), trial(9, 11)]
    assert paces(done) == [5, 2, 4]
    assert span(done) == 11
    assert paces([]) == []


def test_a_goal_is_reached_by_the_first_trial_that_is_so_good() -> None:
    """Seconds are counted from the start of the processes; pruned trials have no value."""
    done = [trial(10, 12), trial(10, 13, 0.5), trial(10, 15, 0.8), trial(10, 19, 0.9)]
    outcome = Outcome({"some": done}, launched=9, ready=10)
    assert outcome.reach("some", 0.8) == outcome.reach("some", 0.80000002) == 6
    assert outcome.reach("some", 0.95) is None


def outcome(*trials: Trial) -> Outcome:
    """Workers that were launched at 0 and ready at 10, and their trials of the mixed study."""
    return Outcome({mixed.STUDY: list(trials)}, 0, 10)


def studied(*ours: Outcome) -> Mixed:
    """The mixed study of two workers; plain Optuna's three runs came to 0.8 in the middle."""
    made = Mixed(Bench(None, cores=2), subjects.Subject("", "", Path(), 64, ()))  # type: ignore[arg-type]
    plain = [outcome(trial(0, *end)) for end in ((90, 0.8), (80, 0.9), (70, 0.7))]
    made.__dict__ |= {"ours": list(ours), "plain": plain}
    return made


def test_of_several_seeds_the_median_counts() -> None:
    """One that never gets there is slower than those that do; where most do not, none does."""
    slow, quick, never = (outcome(trial(0, *end)) for end in ((40, 0.8), (20, 0.9), (15, 0.7)))
    on = studied(slow, quick, never)
    assert on.to_goal(on.ours) == Figure(40, 20, 40, 2)
    assert on.to_goal([slow, quick, quick]) == Figure(20, 20, 40, 3)
    assert on.to_goal([slow, never, never]) is None
    assert on.to_goal([quick, never]) is None
    row, _ = mixed.against_plain(on)
    assert row.theirs == Figure(90, 80, 90, 2)
    assert row.note == (
        "to an accuracy of 0.8000: tunesvc: 2 of 3 runs got there; best: 0.8000, 0.9000, 0.7000; "
        "plain Optuna: 2 of 3 runs got there; best: 0.8000, 0.9000, 0.7000"
    )


def test_what_a_gap_computes_for_others_is_told_apart() -> None:
    """Two workers, 100 seconds each; later phases of a trial are no part of its gap."""
    frozen = [{"from_epoch": 1, "computing": 5.0}, {"from_epoch": 2, "computing": 9.0}]
    levers = [{"gap_seconds": 6.0, "frozen": frozen}, {"gap_seconds": 1.0, "frozen": []}]
    trials = [Trial(0, 110, 0.5, {"levers": each}) for each in levers]
    untold = Trial(0, 50, 0.5, {"levers": {"gap_seconds": None, "frozen": frozen}})
    gap, share = mixed.gaps(studied(outcome(*trials, untold)))
    assert gap.ours == Figure(3500, 1000, 6000, 2)
    assert share.ours == Figure(1, 1, 1, 1)
    assert "with them 3.5 (n=1) %" in share.note


def test_every_side_gets_the_same_search() -> None:
    """A job that was written for another process is read as it was."""
    assert ours.spec(job()).backbone("small").kwargs == BODY.kwargs


def test_jobs_survive_the_way_to_another_process(tmp_path: Path) -> None:
    """Written and read, they are equal."""
    path = tmp_path / "jobs.json"
    jobs.write([job()], path)
    [found] = jobs.read(path)
    assert ours.spec(found) == ours.spec(job())


def test_a_knob_is_searched_where_the_peers_search_it() -> None:
    """The body's rate and the fraction only exist under some strategies."""
    alone = ours.space(job(strategies=["linear-probe"]))
    every = ours.space(job(strategies=["linear-probe", "freeze-fraction", "from-scratch"]))
    assert {"body_lr_multiplier", "freeze_fraction"}.isdisjoint(alone)
    assert every["body_lr_multiplier"]["when"] == {"strategy": ["freeze-fraction"]}
    assert every["freeze_fraction"]["step"] == 0.25


@pytest.mark.parametrize(("arguments", "code"), [([], 4), (["--smoke"], 0)])
def test_without_its_data_nothing_is_measured(
    arguments: list[str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It says what is not there; where only the smoke run was asked for, that is no error."""
    monkeypatch.setattr(subjects, "missing", lambda: [Path("shared/photos")])
    monkeypatch.setattr("sys.argv", ["bench.py", *arguments])
    assert command.main() == code
    assert capsys.readouterr().out == "skipped: not there: shared/photos\n"


def test_the_page_tells_why_a_row_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reason stands where the target was missed, and only there."""
    monkeypatch.setitem(NOTES, "last_stage_warm", "the disk is slow")
    short, good = (
        Row("last_stage_warm", what, "s", figure([ours]), "plain Optuna", figure([12.0]))
        for what, ours in (("photos", 12.0), ("digits", 1.0))
    )
    page = report.page([short, good], "some machine", "cpu")
    assert "- **last_stage_warm**, photos: SHORT: the disk is slow" in page
    assert "digits: SHORT" not in page
    assert "some machine" in page


def test_reasons_are_renewed_and_figures_stay() -> None:
    """Only what stands behind SHORT changes, also where nothing was known before."""
    row = Row("gap_share", "here", "%", Figure(3, 3, 3, 1), note="told")
    made = report.page([row], "origin", "cpu")
    old = re.sub("SHORT: .*", "SHORT: no reason noted yet", made)
    assert old != made
    assert report.with_reasons(old) == report.with_reasons(made) == made
