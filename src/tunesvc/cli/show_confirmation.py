"""What a confirmation has found, on the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from tunesvc.analysis.confirmed import Confirmation, Confirmed, Step
from tunesvc.analysis.paired import Comparison
from tunesvc.analysis.table import Estimate, Unsupported
from tunesvc.cli.show import console, flat, table

_COLUMNS = ("configuration", "backbone", "seeds", "validation", "90 %", "promised", "too much",
            "test", "90 %")  # fmt: skip


def print_confirmation(name: str, found: Confirmation) -> None:
    """Print what each configuration is worth, what wins, and how sure that is."""
    console.print(f"{name}: {found.metric} over new seeds, 90 % intervals", markup=False)
    table(_COLUMNS, (_row(each, found) for each in found.configurations))
    console.print()
    for line in _lines(found):
        console.print(line, markup=False)
    if found.path:
        console.print()
        table(
            ("from the default to the best", "changed", found.metric, "90 %", "gain", "90 %"),
            (_step(step, found) for step in found.path),
        )


def _lines(found: Confirmation) -> Iterable[str]:
    yield f"winner: {found.winner}"
    if found.runner_up:
        yield f"against {found.runner_up}: {_compared(found.against_runner_up, found)}"
    yield f"tuning bought, against the untuned default: {_compared(found.bought, found)}"
    if found.promised_gain is not None and isinstance(found.bought, Comparison):
        yield f"  one run of each had shown {_amount(found.promised_gain, found)}"
    if isinstance(found.bought_test, Comparison):
        yield f"  on the test split: {_compared(found.bought_test, found)}"
    if isinstance(found.curse, Estimate):
        side = "too much" if found.curse.value >= 0 else "too little"
        gap = _with_ends(found.curse, found)
        yield f"winner's curse: {found.favourite}, the study's best, had promised {side}: {gap}"
    yield f"noise: {_noise(found)}"
    if found.in_other_precision:
        runs = f"{found.in_other_precision} run(s) computed in another than the study's trial"
        yield f"precision: {runs}: what was promised too much or too little may be due to that"


def _noise(found: Confirmation) -> str:
    noise = found.noise
    if isinstance(noise, Unsupported):
        return noise.why
    told = f"a run varies by {_with_ends(noise.spread, found, sign='')} over seeds (SD)"
    if isinstance(noise.binomial, Unsupported):
        return told
    images = f"{noise.images} validation images"
    return f"{told}; {images} alone make {_amount(noise.binomial, found, sign='')} (SE)"


def _compared(comparison: Comparison | Unsupported, found: Confirmation) -> str:
    if isinstance(comparison, Unsupported):
        return comparison.why
    better = comparison.better
    return (
        f"{_with_ends(comparison.difference, found)}, p = {comparison.p:.2g}; better in "
        f"{better.value:.0%} of {comparison.seeds} seeds ({better.low:.0%} … {better.high:.0%})"
    )


def _row(each: Confirmed, found: Confirmation) -> tuple[str, ...]:
    one = each.candidate
    promised = flat(None) if one.promised is None else f"{one.promised:.4f}"
    gap = flat(None) if isinstance(each.gap, Unsupported) else _amount(each.gap.value, found)
    lost = f" + {each.failed} failed" if each.failed else ""
    out = " (left: clearly worse)" if each.raced_out else ""
    return (
        *(f"{one.name}{out}", one.backbone, f"{each.seeds}{lost}", *_ends(each.mean)),
        *(promised, gap, *_ends(each.test)),
    )


def _step(step: Step, found: Confirmation) -> tuple[str, ...]:
    gain = (flat(None), flat(None))
    if isinstance(step.gain, Estimate):
        low, high = step.gain.low / found.point, step.gain.high / found.point
        gain = (_amount(step.gain.value, found), f"{low:+.2f} … {high:+.2f}")
    return step.candidate.name, step.candidate.change, *_ends(step.mean), *gain


def _ends(estimate: Estimate | Unsupported) -> tuple[str, str]:
    if isinstance(estimate, Unsupported):
        return flat(None), flat(None)
    return f"{estimate.value:.4f}", f"{estimate.low:.4f} … {estimate.high:.4f}"


def _with_ends(estimate: Estimate, found: Confirmation, sign: str = "+") -> str:
    low, high = estimate.low / found.point, estimate.high / found.point
    return f"{_amount(estimate.value, found, sign)} ({low:{sign}.2f} … {high:{sign}.2f})"


def _amount(value: float, found: Confirmation, sign: str = "+") -> str:
    return f"{value / found.point:{sign}.2f} {found.unit}"
