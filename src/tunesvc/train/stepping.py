"""What a compiled step saves, as this host has measured it: one small file per kind of step.

    e, c    seconds of an eager and of a compiled step: an epoch's, divided by its steps
    s       e - c, the median over the runs that have measured both
    k       seconds that compiling took the last time: from the second time on, inductor's files are
            there

Compiling is worth it where s × (steps left) > 1.2 × k. Where s is not known, it is tried if the
steps left are to take 900 seconds or more.

Why: 2026-11: compiling MobileNetV2 takes one core 85 to 100 seconds, 8 when inductor's files are
there, so that a try in vain costs about a tenth. It saves 9 % of a step (batch 32 at 128 pixels).

Why: 2026-11: files are replaced whole, without a lock. Where two workers write at once, what one of
them has measured is lost, and measured again some other time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

from tunesvc import hostcache

TRY_SECONDS = 900.0  # of training must be left
MARGIN = 1.2
_PAIRS = 8  # runs


@dataclass(frozen=True)
class Known:
    """What is known of one kind of step.

    Args:
        pairs: by run, oldest first: seconds of an eager and of a compiled step.
        cold_seconds: the first compiling took; None: there was none.
        warm_seconds: the latest of those after it took.
        failed: why it cannot be compiled; "": it can, or nobody has tried.
    """

    pairs: dict[str, tuple[float, float]] = field(default_factory=dict)
    cold_seconds: float | None = None
    warm_seconds: float | None = None
    failed: str = ""

    @property
    def saving(self) -> float | None:
        """Seconds that a compiled step takes less, negative if more; None: nobody has measured."""
        return median(e - c for e, c in self.pairs.values()) if self.pairs else None

    @property
    def compile_seconds(self) -> float:
        """What compiling it in another process will take."""
        return self.warm_seconds or self.cold_seconds or 0.0

    def paired(self, run: str, eager: float, compiled: float) -> Known:
        """Return what is known when a run has measured both."""
        others = {name: pair for name, pair in self.pairs.items() if name != run}
        newest = [*others.items(), (run, (eager, compiled))][-_PAIRS:]
        return replace(self, pairs=dict(newest))

    def made(self, seconds: float) -> Known:
        """Return what is known when it was compiled once more."""
        if self.cold_seconds is None:
            return replace(self, cold_seconds=seconds)
        return replace(self, warm_seconds=seconds)


@dataclass(frozen=True)
class Verdict:
    """Whether steps are to be compiled, and why: a phrase for a person."""

    pays: bool
    why: str


def pays(known: Known, steps_left: int, eager: float | None, *, is_ready: bool) -> Verdict:
    """Tell whether it is worth while to compile the steps that are left.

    Args:
        eager: seconds of an eager step, as the run itself has measured; None: not yet.
        is_ready: this process has compiled them before.
    """
    if known.failed:
        return Verdict(False, known.failed)
    saving = known.saving
    if saving is not None:
        cost = 0.0 if is_ready else MARGIN * known.compile_seconds
        gain = saving * steps_left
        why = f"{steps_left} steps would save {gain:.3g} s, compiling costs {cost:.3g} s"
        return Verdict(gain > cost, why)
    if eager is None:
        return Verdict(False, "not known yet how long an eager step takes")
    left = steps_left * eager
    if left < TRY_SECONDS:
        return Verdict(False, f"{left:.3g} s are left; it is first tried with {TRY_SECONDS:g} s")
    return Verdict(True, f"tried for the first time: {left:.3g} s are left")


def read(file: Path) -> Known:
    """Return what is known; nothing where the file is missing or spoiled."""
    try:
        stored = hostcache.noted(file)["known"]
        pairs = {run: (float(eager), float(own)) for run, (eager, own) in stored["pairs"].items()}
        return Known(**stored | {"pairs": pairs})
    except (ValueError, KeyError, TypeError, AttributeError):
        return Known()


def write(file: Path, known: Known, kind: dict[str, object]) -> None:
    """Replace a file whole.

    Args:
        kind: of the step, for a person to read.

    Raises:
        OSError: the disk is full, or the folder may not be written to.
    """
    hostcache.note(file, {"kind": kind, "known": asdict(known)})
