"""Which backbones can keep a study's constraints on some setting; the others are left out.

Only what hangs on the model alone is looked at: a latency is the worker's, and how long training
takes hangs on the trial.
"""

from __future__ import annotations

from pathlib import Path

from tunesvc import cost
from tunesvc.analysis.feasible import raised
from tunesvc.backbones import Backbone, skeleton
from tunesvc.cost import RECKONED, Ledger
from tunesvc.errors import SpecError, TuneError
from tunesvc.spec import StudySpec
from tunesvc.spec.caps import Cap
from tunesvc.spec.constraints import excess, told

Broken = list[tuple[float, Cap, float]]  # excess, cap, and what the backbone has


def unfit(spec: StudySpec, base: Path, outputs: int) -> dict[str, str]:
    """Return backbone → the constraints that it breaks on every setting, in words.

    Args:
        base: folder that the study file's relative paths start from.
        outputs: of the head.

    Raises:
        SpecError: that is all of them.
    """
    found = {label: _broken(spec, label, base, outputs) for label in spec.backbone_labels}
    if all(found.values()):
        raise _none_fits(found)
    return {label: _words(each) for label, each in found.items() if each}


def _broken(spec: StudySpec, label: str, base: Path, outputs: int) -> Broken:
    """Return what a backbone breaks at least; nothing where it cannot be told."""
    backbone, size = spec.backbone(label), spec.data.image_size
    try:
        body = skeleton(backbone, outputs, base=base, image_size=size)
    except TuneError:
        raise
    except Exception:  # of a plugin: it may need its numbers; trials will tell
        return []
    ledger, values = Ledger(), dict[Cap, float | None]()
    for cap in spec.constraints.caps:
        if cap.name in RECKONED:
            values[cap] = ledger.reckoned(cap.name, label, body)
        elif cap.name == "trainable_m":
            values[cap] = _trainable(body, cap)
    known = ((excess(cap, value), cap, value) for cap, value in values.items() if value is not None)
    return [(most, cap, value) for most, cap, value in known if most > 0]


def _trainable(body: Backbone, cap: Cap) -> float | None:
    """Return the trained parameters that come nearest to keeping a cap: the head's, or all."""
    if cap.sign == "==":
        return None
    if cap.sign.startswith(">"):
        return cost.parameters(body.module) / 1e6
    return sum(body.module.get_parameter(name).numel() for name in body.head.parameters) / 1e6


def _words(broken: Broken) -> str:
    return "; ".join(told(cap, value) for _, cap, value in broken)


def _none_fits(found: dict[str, Broken]) -> SpecError:
    label, lost = min(found.items(), key=lambda item: max(most for most, *_ in item[1]))
    each = ", ".join(f"{name} ({_words(broken)})" for name, broken in found.items())
    instead = " and ".join(str(raised(cap, value)) for _, cap, value in lost)
    return SpecError(
        "constraints: no backbone can keep them, whatever its knobs are",
        f"they break, at least: {each}",
        f"nearest is {label}: with {instead} it would fit; or add a smaller backbone",
    )
