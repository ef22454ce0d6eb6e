"""Models that were really trained, written as `tunesvc export` writes them; no database."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesvc import data, exported, plugins, train
from tunesvc.exported import Noise, Record, TrainingRun, training
from tunesvc.provenance import provenance
from tunesvc.spec import StudySpec
from tunesvc.train import Run

SHARED = Path(__file__).parents[2] / "../shared"
PHOTOS = SHARED / "data" / "hymenoptera"
CPU = train.place("cpu")

DIGITS = {"kind": "digits", "subset": 200}
TINY = {"name": "tiny_mobilenet"}
KNOBS = {"strategy": "full", "lr": 3e-3, "batch_size": 50, "augmentation": "flip-crop"}


def study(name: str, spec_data: Mapping[str, Any], backbone: Mapping[str, Any]) -> StudySpec:
    return StudySpec.model_validate({"name": name, "data": spec_data, "backbones": [backbone]})


def made(
    directory: Path,
    *,
    cache: Path,
    base: Path | None = None,
    spec: StudySpec | None = None,
    knobs: Mapping[str, Any] = KNOBS,
    epochs: int = 2,
    seeds: tuple[int, ...] = (7,),
    each: Sequence[Mapping[str, Any]] = (),
    task: str = "image-classification",
    start: exported.Start | None = None,
    noise: Noise | None = None,
    stacked: bool = False,
    cached: bool = True,
    tick: Callable[[Run], None] = lambda _: None,
) -> Run:
    """Train as a study's trial would, write the folder, and return the run.

    Args:
        each: knobs of every ingredient of a soup, where they are not the same.
    """
    spec, base = spec or study("digits", DIGITS, TINY), base or directory.parent
    learned = plugins.load("task", task)
    listing = data.scan(spec.data, target=learned.target, base=base)
    runs, states = [], []
    for number, seed in enumerate(seeds):
        asked = TrainingRun(
            trial=number, label=spec.backbone_labels[0], backbone=spec.backbones[0],
            knobs=each[number] if each else knobs, epochs=epochs, seed=seed, is_cached=cached,
            stacked=stacked,
        )  # fmt: skip
        run = training.prepare(
            asked, spec.data, base, CPU, listing=listing, task=learned, start=start, cache=cache
        )
        history = tuple(training.epochs(run, stacked=stacked))
        known = {"history": history, "weights_sha256": run.backbone.weights_sha256}
        runs.append(asked.model_copy(update=known))
        states.append({name: value.clone() for name, value in run.module.state_dict().items()})
    if len(states) > 1:
        training.blend(run, states)
    tick(run)
    splits = {"val": run.val}
    if "test" in listing.splits:
        splits["test"] = training.split(listing, "test", spec.data, run.backbone.transform, cache)
    scores = {name: train.evaluate(run, split) for name, split in splits.items()}
    record = Record(
        study=spec.name, digest=spec.digest, spec=spec.model_dump(mode="json"), base=str(base),
        made="soup" if len(seeds) > 1 else "trial", metric=learned.default_metric,
        direction=learned.metrics[learned.default_metric], runs=tuple(runs),
        fingerprint=listing.fingerprint,
        images={name: len(items) for name, items in listing.splits.items()},
        validation=scores["val"], test=scores.get("test", {}), noise=noise,
        hardware=CPU.describe(), provenance=provenance(),
    )  # fmt: skip
    description = exported.describe(run.backbone, spec.backbones[0], learned, listing.classes)
    exported.write(directory, run.module, description, record, starts={0: start} if start else None)
    return run
