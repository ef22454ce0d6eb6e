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
from tunesvc.check.fitting import unfit
from tunesvc.data import Listing
from tunesvc.errors import TuneError, UnknownNameError, suggest
from tunesvc.space.parameters import Constant
from tunesvc.spec import StudySpec
from tunesvc.spec.objectives import Objective


@dataclass
class Report:
    """What was found: facts by topic, and every problem that would stop the study.

    Args:
        dropped: backbone → the constraints that it breaks on every setting; they are left out.
    """

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[TuneError] = field(default_factory=list)
    fingerprint: str | None = None
    dropped: dict[str, str] = field(default_factory=dict)
    _listing: Listing | None = field(default=None, repr=False)

    def listing(self, spec: StudySpec, base: Path) -> Listing:
        """Return what the study learns from; it is looked through once."""
        if self._listing is None:
            target = plugins.load("task", spec.task).target
            self._listing = data.scan(spec.data, target=target, base=base)
        return self._listing

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
    with report.looking():
        _objective(report, spec, base)
    with report.looking():
        _constraints(report, spec, base)
        spec = spec.without(report.dropped)
        report.facts["study"]["digest"] = spec.digest
    for look in (_space, _data):
        with report.looking():
            look(report, spec, base)
    for label in spec.backbone_labels:
        with report.looking():
            _backbone(report, spec, label, base)
    return report


def _objective(report: Report, spec: StudySpec, _base: Path) -> None:
    goals, first = study.objectives(spec), spec.objectives[0]
    # Only here is a metric that was written told from one left at its default.
    if isinstance(first, Objective) and "metric" in first.model_fields_set:
        written, known = first.metric, plugins.load("task", spec.task).metrics
        if written != goals[0].name:
            raise UnknownNameError(
                f"objective.metric: {spec.task} has no metric {written!r}", suggest(written, known)
            )
    told = [{"metric": goal.name, "direction": goal.direction} for goal in goals]
    report.facts["objective"] = told[0] if len(told) == 1 else told
    study.check_machine(spec)


def _constraints(report: Report, spec: StudySpec, base: Path) -> None:
    """Leave out the backbones that cannot keep the study's constraints."""
    if not spec.constraints:
        return
    report.facts["constraints"] = spec.constraints.model_dump()
    task = plugins.load("task", spec.task)
    outputs = task.num_outputs(report.listing(spec, base).classes)
    report.dropped = unfit(spec, base, outputs)
    if report.dropped:
        report.facts["dropped"] = dict(report.dropped)


def _space(report: Report, spec: StudySpec, _base: Path) -> None:
    built = space.build(spec)
    report.facts["search_space"] = {p.name: p.in_words() for p in built.parameters}
    trials, defaults = study.limit(spec), len(spec.backbones)
    report.facts["budget"] = spec.budget.model_dump(exclude_none=True) | {"trials": trials}
    if trials is not None and trials < defaults:
        report.facts["budget"]["remark"] = f"the defaults alone need {defaults} trials"


def _data(report: Report, spec: StudySpec, base: Path) -> None:
    listing = report.listing(spec, base)
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
    batch_size = max(_batch_sizes(space.build(spec)))
    report.facts.setdefault("backbones", {})[label] = {
        "weights": backbone.weights,
        "parameters": cost.parameters(body.module),
        "input": f"{body.transform.crop}×{body.transform.crop}",
        "batch_size": batch_size,
        "training_memory_mb": round(cost.memory_estimate_mb(body, batch_size)),
    }


def _batch_sizes(built: space.Space) -> Iterator[int]:
    """Yield batch sizes that trials may have, the largest among them."""
    for params in built.defaults():
        yield built.resolve(params)[1].batch_size
    for option in dict(built.knobs).get("batch_size", ()):
        yield int(option.value if isinstance(option, Constant) else option.largest())
