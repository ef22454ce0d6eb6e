"""Everything about a study that can be known before a device is touched.

Every image is read: what `check` decodes stays in the cache, so the first trial finds it there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesvc import cost, data, places, plugins, space, study
from tunesvc.backbones import build, check_weights, input_transform
from tunesvc.errors import TuneError
from tunesvc.spec import Choices, Fixed, IntRange, StudySpec


@dataclass
class Report:
    """What was found: facts by topic, and every problem that would stop the study."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[TuneError] = field(default_factory=list)
    fingerprint: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Return facts and problems as plain data."""
        problems = [{"what": p.what, "why": p.why, "fix": p.fix} for p in self.problems]
        return {"ok": not self.problems, "facts": self.facts, "problems": problems}

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Note a problem instead of stopping at it."""
        try:
            yield
        except TuneError as error:
            if str(error) not in map(str, self.problems):
                self.problems.append(error)


def check(spec: StudySpec, base: Path) -> Report:
    """Look at objective, space, data, weights and memory; collect every problem."""
    report = Report()
    report.facts["study"] = {"name": spec.name, "digest": spec.digest, "task": spec.task}
    for look in (_objective, _space, _data):
        with report.looking():
            look(report, spec, base)
    for label in spec.backbone_labels:
        with report.looking():
            _backbone(report, spec, label, base)
    return report


def _objective(report: Report, spec: StudySpec, _base: Path) -> None:
    metric, direction = study.objective(spec)
    report.facts["objective"] = {"metric": metric, "direction": direction}


def _space(report: Report, spec: StudySpec, _base: Path) -> None:
    built = space.build(spec)
    report.facts["search_space"] = {p.name: str(p.distribution) for p in built.parameters}
    report.facts["budget"] = spec.budget.model_dump() | {"trials": study.limit(spec)}


def _data(report: Report, spec: StudySpec, base: Path) -> None:
    task = plugins.load("task", spec.task)
    listing = data.scan(spec.data, target=task.target, base=base)
    report.fingerprint = listing.fingerprint
    report.facts["data"] = data.describe(listing)
    transform = input_transform(spec.backbones[0], base=base, image_size=spec.data.image_size)
    skipped = [
        name
        for split in listing.splits
        for name in data.decode(
            listing,
            split,
            transform.resize,
            on_corrupt=spec.data.on_corrupt,
            cache=places.cache(),
            interpolation=transform.interpolation,
        ).skipped
    ]
    if skipped:
        report.facts["data"]["skipped"] = {"count": len(skipped), "first": skipped[:5]}


def _backbone(report: Report, spec: StudySpec, label: str, base: Path) -> None:
    backbone, size = spec.backbone(label), spec.data.image_size
    check_weights(backbone, base=base)
    body = build(backbone, 2, base=base, image_size=size)  # loads the weights, so that they fit
    batch_size = max(_batch_sizes(spec))
    report.facts.setdefault("backbones", {})[label] = {
        "weights": backbone.weights,
        "parameters": cost.parameters(body.module),
        "input": f"{body.transform.crop}×{body.transform.crop}",
        "batch_size": batch_size,
        "training_memory_mb": round(cost.memory_estimate_mb(body, batch_size)),
    }


def _batch_sizes(spec: StudySpec) -> Iterator[int]:
    """Every batch size that the file names, to estimate the largest's memory."""
    yield int(spec.defaults.get("batch_size", 64))
    if spec.search_space == "auto":
        return
    for variant in spec.search_space.get("batch_size", ()):
        match variant:
            case Choices(choices=choices):
                yield from map(int, choices)
            case IntRange(high=high):
                yield high
            case Fixed(value=value):
                yield int(value)
