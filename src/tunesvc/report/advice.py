"""Tune these, leave those: a verdict for each knob, with what it rests on.

    tune     it clears the noise line
    leave    it does not, and even the upper end of its interval is small
    unknown  it does not, but might matter; or too few trials had it

Why: 2026-11: "does not clear the noise line" alone is no advice to leave a knob: after thirty
trials it may only mean that nobody has looked. The upper end of its interval tells the two apart.
"""

from __future__ import annotations

from tunesvc.analysis.importance import Importance, KnobShare, Unjudged
from tunesvc.analysis.safe_range import SafeRange
from tunesvc.analysis.table import Scalar, Unsupported
from tunesvc.analysis.tunability import KnobGain
from tunesvc.report import picking, wording
from tunesvc.report.document import Advice, Verdict
from tunesvc.report.evidence import Evidence
from tunesvc.report.figures import robustness

LITTLE = 0.08  # share of variance: what is surely below may be left

MOST = 6  # choices in a sentence

_CHOICES = {"backbone", "strategy"}
_ORDER: tuple[Verdict, ...] = ("tune", "leave", "unknown")


def advice(evidence: Evidence) -> tuple[Advice, ...]:
    """Return what to do with each knob, those that matter most first; () while nothing is known."""
    found = evidence.importance()
    if isinstance(found, Unsupported):
        return ()
    told = [*_judged(evidence, found), *(_unjudged(each) for each in found.unjudged)]
    return tuple(sorted(told, key=lambda each: _ORDER.index(each.verdict)))


def _judged(evidence: Evidence, found: Importance) -> list[Advice]:
    best = evidence.answer()
    backbone = "" if best is None else picking.word(evidence.trials, best, "backbone")
    return [_advice(evidence, each, backbone) for each in found.knobs]


def _advice(evidence: Evidence, each: KnobShare, backbone: str) -> Advice:
    verdict = _verdict(each)
    safe = _safe(evidence, each.name, backbone)
    gain = _gain(evidence, each.name, backbone)
    default = evidence.trials.defaults.get(backbone, {}).get(each.name)
    parts = [_share(each, verdict)]
    if each.knob in _CHOICES:
        parts += [_reached(evidence, each)]
    elif verdict == "tune":
        parts += [_alone(evidence, gain), _within(evidence, safe)]
    else:
        safe = safe if verdict == "leave" and _is_safe(safe, default) else None
        parts += [_at(default, verdict), _within(evidence, safe)]
    words = "; ".join(part for part in parts if part)
    return Advice(wording.in_branch(each.name, each.knob, each.branch), verdict, f"{words}.")


def _verdict(each: KnobShare) -> Verdict:
    if not each.is_noise:
        return "tune"
    return "leave" if each.total.high < LITTLE else "unknown"


def _share(each: KnobShare, verdict: Verdict) -> str:
    high = max(each.share.high, each.total.high)
    if verdict == "tune":
        return f"{wording.share_of(each.share)} of what varies"
    if verdict == "leave":
        return f"not distinguishable from noise, {wording.largest(high)} of what varies"
    return f"cannot be told yet: anything up to {wording.share(high)} of what varies"


def _alone(evidence: Evidence, gain: KnobGain | None) -> str:
    if gain is None or gain.alone is None or gain.alone.value <= 0:
        return ""
    told = evidence.in_words(gain.alone)
    return f"tuning it alone buys {told}, best at {wording.setting(gain.alone_at)}"


def _within(evidence: Evidence, safe: SafeRange | None) -> str:
    if safe is None:
        return ""
    cost = f"at most {wording.rounded(safe.epsilon, evidence.trials)}"
    if safe.low is None:
        told = robustness.likely(safe)
        return f"likely safe for {safe.backbone}: {told}, at a cost of {cost}"
    if robustness.is_surely_whole(safe):
        return f"anything that was searched costs {cost}"
    told = robustness.surely(safe)
    if not told:
        best = wording.setting(safe.at)
        return f"only its best value, {best}, is known to be safe for {safe.backbone}"
    return f"safe for {safe.backbone}: {told}, which costs {cost}"


def _is_safe(safe: SafeRange | None, default: Scalar | None) -> bool:
    """Whether a range is known to hold the value that a knob is to be left at."""
    if safe is None or default is None:
        return False
    if safe.low is None or safe.high is None:
        return default in safe.safe
    return safe.low.high <= float(default) <= safe.high.low


def _at(default: Scalar | None, verdict: Verdict) -> str:
    if default is None:
        return ""
    words = "leave it at" if verdict == "leave" else "until then, its default is"
    return f"{words} {wording.setting(default)}"


def _unjudged(each: Unjudged) -> Advice:
    name = wording.in_branch(each.name, each.knob, each.branch)
    return Advice(name, "unknown", f"{each.why}.")


def _reached(evidence: Evidence, each: KnobShare) -> str:
    """Return the best that was seen with each choice."""
    finished = evidence.trials.finished
    column = f"param:{each.name}"
    if column not in finished:
        return ""
    score = evidence.trials.sign * finished["value"]
    best = score.groupby(finished[column]).max().sort_values(ascending=False)
    told = [f"{name} {wording.value(evidence.trials.sign * v)}" for name, v in best.items()]
    more = f" and {len(told) - MOST} more" if len(told) > MOST else ""
    return f"best seen with {', '.join(told[:MOST])}{more}"


def _safe(evidence: Evidence, name: str, backbone: str) -> SafeRange | None:
    found = evidence.safe_ranges()
    if isinstance(found, Unsupported):
        return None
    return next((s for s in found if s.name == name and s.backbone == backbone), None)


def _gain(evidence: Evidence, name: str, backbone: str) -> KnobGain | None:
    gain = evidence.gain_of(backbone)
    if gain is None:
        return None
    return next((each for each in gain.knobs if name in each.names), None)
