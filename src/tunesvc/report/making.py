"""Evidence → report; several studies → one report of them side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from tunesvc.analysis.across import Across, KnobAcross, across
from tunesvc.analysis.table import LEVEL, Trials, Unsupported
from tunesvc.report import picking, wording
from tunesvc.report.advice import advice
from tunesvc.report.document import Advice, Report, Told, Verdict
from tunesvc.report.evidence import Evidence
from tunesvc.report.figures import across as drawn
from tunesvc.report.sections import SECTIONS
from tunesvc.report.sentences import sentences

REMARK = (
    f"Intervals are of {LEVEL:.0%} unless said otherwise; they tell of these trials, this data and "
    "this search space."
)


def make(evidence: Evidence) -> Report:
    """Return one study's report."""
    trials = evidence.trials
    return Report(
        study=trials.study,
        metric=trials.metric,
        direction=trials.direction,
        trials=_counts(trials),
        made=_now(),
        best=_best(evidence),
        sentences=sentences(evidence),
        advice=advice(evidence),
        sections=tuple(section.told(evidence) for section in SECTIONS),
        remark=REMARK,
    )


def beside(studies: Sequence[Evidence], reports: Sequence[Report]) -> Report:
    """Return a report of several studies side by side; each has one of its own, too."""
    trials = [each.trials for each in studies]
    found = across(trials, [each.importance() for each in studies])
    return Report(
        study=", ".join(report.study for report in reports),
        metric=" / ".join(dict.fromkeys(report.metric for report in reports)),
        direction=" / ".join(dict.fromkeys(report.direction for report in reports)),
        trials=_sum([report.trials for report in reports]),
        made=_now(),
        best={},
        sentences=tuple(f"{report.study}: {report.sentences[0]}" for report in reports),
        advice=_advice(found),
        sections=(_beside(trials), *_across(found)),
        remark=REMARK,
    )


def _beside(trials: Sequence[Trials]) -> Told:
    tells = "The finished trials of each study; values of different metrics do not compare."
    finished = [each for each in trials if len(each.finished)]
    if not finished:
        return Told("beside", "Side by side", tells, why="No study has a finished trial.")
    told = drawn.beside_figure(finished).to_json()
    return Told("beside", "Side by side", tells, figure=told, table=drawn.beside_table(trials))


def _across(found: Across | Unsupported) -> tuple[Told, ...]:
    title = "Which knobs matter where"
    tells = (
        "The share of what varies that each knob explains in each study, in percent; the table "
        "says in how many it is clear of the noise."
    )
    if isinstance(found, Unsupported):
        return (Told("across", title, tells, why=f"{found.why}."),)
    first = Told(
        "across",
        title,
        tells,
        says=drawn.says(found),
        figure=drawn.figure(found).to_json(),
        table=drawn.table(found),
    )
    return first, _priors(found)


def _priors(found: Across) -> Told:
    title, tells = "Where to search next", "Ranges and defaults that follow from the best trials."
    if isinstance(found.priors, Unsupported):
        return Told("priors", title, tells, why=f"{found.priors.why}.")
    table = drawn.priors_table(found)
    return Told("priors", title, tells, table=table, code=found.fragment)


def _advice(found: Across | Unsupported) -> tuple[Advice, ...]:
    if isinstance(found, Unsupported):
        return ()
    verdicts: dict[str, Verdict] = {"never": "leave", "unjudged": "unknown"}
    return tuple(
        Advice(
            wording.knob(each.knob),
            verdicts.get(each.verdict, "tune"),
            f"{_matters(each)}: on average {wording.share(each.mean)} of what varies, clear of the "
            f"noise in {each.clear} of {each.judged} that judge it.",
        )
        for each in found.knobs
    )


def _matters(each: KnobAcross) -> str:
    words = {"everywhere": "matters in all studies", "somewhere": "matters in some studies"}
    words |= {"never": "matters in no study", "unjudged": "judged by one study only"}
    return words[each.verdict]


def _best(evidence: Evidence) -> dict[str, object]:
    number = evidence.answer()
    if number is None:
        return {}
    trials = evidence.trials
    return {
        "trial": number,
        "value": picking.number(trials, number),
        "backbone": picking.word(trials, number, "backbone"),
        "strategy": picking.word(trials, number, "strategy"),
        "params": picking.settings(trials, number),
    }


def _counts(trials: Trials) -> dict[str, int]:
    states = trials.frame["state"].value_counts()
    return {"all": len(trials.frame)} | {str(s).lower(): int(n) for s, n in states.items()}


def _sum(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
