"""The answer in three sentences: which configuration, what it buys, how sure that is.

What was seen is told as seen; what is reckoned is told with its interval; what is not known is
said to be so, with the command that would tell.
"""

from __future__ import annotations

import math

from tunesvc.analysis.confirmation import Comparison, Confirmation, Confirmed
from tunesvc.analysis.table import Estimate, Trials, Unsupported
from tunesvc.analysis.tunability import BackboneGain
from tunesvc.confirm.companion import SUFFIX
from tunesvc.report import picking, wording
from tunesvc.report.evidence import Evidence
from tunesvc.report.figures.confirmation import compared, curse, is_surely_best, untuned

MOST = 6  # knobs in a sentence; all are in the first table


def sentences(evidence: Evidence) -> tuple[str, str, str]:
    """Return the three."""
    trials, best, found = evidence.trials, evidence.best(), evidence.confirmation()
    if trials.sampler == "given" and trials.study.endswith(SUFFIX):
        return _runs_again(trials)
    taken = evidence.taken()
    if isinstance(found, Confirmation) and taken is not None:
        return _now(evidence, taken), _bought(found, taken), _confirmed(found, taken, trials)
    if best is None:
        return _without(trials)
    return _which(evidence, best), _buys(evidence, best), _sure(evidence, best)


def _runs_again(trials: Trials) -> tuple[str, str, str]:
    """Return what is said of a confirmation's own study."""
    of = trials.study.removesuffix(SUFFIX)
    done = wording.count(len(trials.finished), "run")
    return (
        f"These are configurations of {of}, run again with new seeds; {done} came to their end.",
        "The best single run is only the luckiest: what counts are means over seeds.",
        f"What they say of {of} is told in its report: tunesvc report {of}",
    )


def _without(trials: Trials) -> tuple[str, str, str]:
    if ended := len(trials.complete):
        return (
            f"No trial of {trials.study} keeps its constraints; "
            f"{wording.count(ended, 'trial')} came to their end.",
            "So nothing can be said of what tuning buys.",
            f"Which comes nearest is told by: tunesvc best {trials.study}",
        )
    counts = trials.frame["state"].value_counts()
    words = {"RUNNING": "running", "WAITING": "waiting", "PRUNED": "pruned", "FAIL": "failed"}
    told = [f"{counts[state]:,} {word}" for state, word in words.items() if counts.get(state, 0)]
    of_which = f" ({wording.row(told)})" if told else ""
    failed = counts.get("FAIL", 0)
    first = f"No trial of {trials.study} has run to its end yet{of_which}."
    second = "So nothing can be said of what tuning buys."
    if failed and failed == len(trials.frame):
        reason = str(trials.frame["reason"].iloc[-1])
        return first, second, f"All failed; the last one said: {reason}"
    return first, second, "The first finished trial will be shown here."


def _which(evidence: Evidence, best: int) -> str:
    trials = evidence.trials
    value = wording.value(picking.number(trials, best))
    return (
        f"{_start(trials)}: {trials.metric} {value}{_lower(trials)}, by trial {best}: "
        f"{_configuration(evidence, best)}."
    )


def _now(evidence: Evidence, taken: Confirmed) -> str:
    """Return which configuration is best with new seeds, and what the search had said of it."""
    trials, one, first = evidence.trials, taken.candidate, evidence.best()
    answer = evidence.answer()
    mean = wording.value(taken.mean.value) if isinstance(taken.mean, Estimate) else wording.NONE
    searched = [] if one.promised is None else [f"it had {wording.value(one.promised)}"]
    if first is not None and first != answer:
        value = wording.value(picking.number(trials, first))
        searched.append(f"trial {first} was best with {value}")
    beside = f" (in the search {', and '.join(searched)})" if searched else ""
    what = f"{one.backbone}, at its defaults"
    what = what if answer is None else _configuration(evidence, answer)
    return (
        f"Best with new seeds: {one.name}, mean {trials.metric} {mean}{_lower(trials)}{beside}: "
        f"{what}."
    )


def _lower(trials: Trials) -> str:
    return ", where lower is better" if trials.direction == "minimize" else ""


def _configuration(evidence: Evidence, trial: int) -> str:
    backbone, strategy = (
        picking.word(evidence.trials, trial, each) for each in ("backbone", "strategy")
    )
    strategy = f", strategy {strategy}" if strategy else ""
    return f"{backbone}{strategy}{_knobs(evidence, trial)}"


def _start(trials: Trials) -> str:
    under_way = trials.frame["state"].isin(["RUNNING", "WAITING"]).any()
    count = len(trials.finished)
    if count == 1:
        return "One trial has finished"
    return f"{'Best so far' if under_way else 'Best'} of {wording.count(count, 'finished trial')}"


def _knobs(evidence: Evidence, best: int) -> str:
    trials = evidence.trials
    if trials.frame.at[best, "default"]:
        return ", at its defaults"
    knobs = {each.name: each.knob for each in trials.space}
    known = picking.settings(trials, best)
    acting = picking.knobs(trials, best).keys() - {"backbone", "strategy"}
    names = [name for name in known if knobs[name] in acting]
    names = _by_importance(evidence, names)
    told = [f"{knobs[name]} {wording.setting(known[name])}" for name in names[:MOST]]
    more = f", and {wording.count(len(names) - MOST, 'more knob')}" if len(names) > MOST else ""
    return f", {', '.join(told)}{more}" if told else ""


def _by_importance(evidence: Evidence, names: list[str]) -> list[str]:
    found = evidence.importance()
    if isinstance(found, Unsupported):
        return names
    place = {each.name: rank for rank, each in reversed(list(enumerate(found.knobs)))}
    return sorted(names, key=lambda name: place.get(name, len(place)))


def _buys(evidence: Evidence, best: int) -> str:
    trials = evidence.trials
    backbone = picking.word(trials, best, "backbone")
    untuned = _untuned(trials, backbone)
    if untuned is None:
        return (
            f"What tuning bought is not known: {backbone} at its defaults has not run to its end, "
            "so there is nothing to compare with."
        )
    number, value = untuned
    if number == best:
        others = len(trials.finished) - 1
        if not others:
            return "It is the untuned configuration: nothing else has run to its end yet."
        return (
            f"It is the untuned configuration: none of the {wording.count(others, 'other')} that "
            "ran to their end was better."
        )
    gain = trials.sign * (picking.number(trials, best) - value)
    seen = (
        f"Untuned, {backbone} reached {wording.value(value)} (trial {number}): tuning changed it "
        f"by {wording.difference(gain, trials)} for the better, as seen"
        if gain <= 0
        else f"Untuned, {backbone} reached {wording.value(value)} (trial {number}), so tuning "
        f"bought {wording.difference(gain, trials)} as seen"
    )
    room = 1 - value if wording.in_points(trials) else math.inf  # no share is more than all of it
    return f"{seen}{_estimated(evidence, evidence.gain_of(backbone), room)}."


def _bought(found: Confirmation, taken: Confirmed) -> str:
    """Return what tuning bought by new seeds alone."""
    bought = found.bought
    if taken.candidate.is_default:
        return f"With new seeds, nothing that was tried is better than {untuned(taken)}."
    if isinstance(bought, Unsupported):
        return f"What tuning bought is not known with new seeds: {bought.why}."
    words = f"Run again with new seeds, {bought.first} is {compared(bought, found)}"
    seen = found.promised_gain
    if seen is not None and found.unit == "points":
        words += f"; a single run of each had shown {seen / found.point:.1f}"
    return f"{words}."


def _estimated(evidence: Evidence, gain: BackboneGain | None, room: float) -> str:
    """Return what the surface through all trials makes of it.

    Args:
        room: the most that anything can be better than the untuned configuration.
    """
    if gain is None:
        return ""
    if isinstance(gain.estimated, Unsupported):
        return f"; no interval yet: {gain.estimated.why}"
    if gain.best == gain.default:
        return ", but the surface fitted through all trials puts none above it: it may be luck"
    low, high = gain.estimated.low, gain.estimated.high
    if gain.estimated.value > room:
        return "; how much of it is luck is not known: no surface fits these trials well enough"
    told = wording.difference(gain.estimated.value, evidence.trials)
    span = wording.between(low, high, evidence.trials)
    doubt = ", so it may be nothing" if low <= 0 else ""
    return f"; the surface fitted through all trials makes it {told} (90 % interval {span}{doubt})"


def _untuned(trials: Trials, backbone: str) -> tuple[int, float] | None:
    finished = trials.finished
    own = finished[finished["default"].astype(bool) & (finished["backbone"] == backbone)]
    return (int(own.index[0]), float(own["value"].iloc[0])) if len(own) else None


def _sure(evidence: Evidence, best: int) -> str:
    confirmed = evidence.confirmation()
    if isinstance(confirmed, Confirmation):
        return _no_result(confirmed)
    if len(evidence.trials.finished) == 1:
        return "How much of it is chance cannot be told from one trial."
    return f"{_chance(evidence, best)} Not confirmed yet: tunesvc confirm {evidence.trials.study}"


def _chance(evidence: Evidence, best: int) -> str:
    """Return how much the best value may owe to chance."""
    trials, error = evidence.trials, evidence.standard_error()
    finished = trials.finished
    value = picking.number(trials, best)
    behind = (trials.sign * (value - finished["value"].drop(best))).to_numpy(dtype=float)
    if error is None:
        gap = float(behind.min())
        words = f"is {wording.difference(gap, trials)} behind" if gap else "has the same value"
        return f"The runner-up {words}; how much of that is chance was not measured."
    near = int((behind <= error).sum())
    told = wording.difference(error, trials)
    images = wording.count(evidence.images or 0, "validation image")
    words = f"With {images}, one standard error is {told}"
    if not near:
        return f"{words}, and no other trial is that close."
    return (
        f"{words}, and {wording.count(near, 'other trial')} {'is' if near == 1 else 'are'} that "
        "close: which of them is best may be chance."
    )


def _no_result(found: Confirmation) -> str:
    winner = next((c for c in found.configurations if c.candidate.name == found.winner), None)
    why = winner.mean.why if winner and isinstance(winner.mean, Unsupported) else ""
    return f"Confirmation has not come to a result yet{': ' + why if why else ''}."


def _confirmed(found: Confirmation, taken: Confirmed, trials: Trials) -> str:
    failed = f" ({taken.failed} more failed)" if taken.failed else ""
    words = f"Confirmed with {wording.count(taken.seeds, 'new seed')}{failed}: "
    words += _mean(taken, trials)
    rival = found.bought if taken.candidate.name != found.winner else found.against_runner_up
    if isinstance(rival, Comparison):
        words += f"; {_against(rival, found, taken)}"
    if isinstance(taken.gap, Estimate):
        words += f"; {curse(taken.gap, taken, found)}"
    return f"{words}."


def _against(rival: Comparison, found: Confirmation, taken: Confirmed) -> str:
    if taken.candidate.name != found.winner:
        return f"{rival.first}, the best of what was tuned, is {compared(rival, found)}"
    if is_surely_best(found):
        return f"it is surely the best, {compared(rival, found)}"
    if rival.difference.low > 0:
        return f"it is better than its runner-up: {compared(rival, found)}"
    return f"it is perhaps the best, {compared(rival, found)}"


def _mean(winner: Confirmed, trials: Trials) -> str:
    mean, test = winner.mean, winner.test
    if isinstance(mean, Unsupported):
        return ""
    value = f"{wording.value(mean.value)} ({_ends(mean)})"
    told = f"{winner.candidate.name} has mean {trials.metric} {value}"
    if isinstance(test, Estimate):
        told += f", on the test split {wording.value(test.value)} ({_ends(test)})"
    return told


def _ends(estimate: Estimate) -> str:
    return f"{wording.value(estimate.low)} to {wording.value(estimate.high)}"
