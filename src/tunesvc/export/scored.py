"""What the model is worth on a split: outputs of the very weights that are written, in float32.

Why: 2026-11: the test split is looked at once, here, when everything is chosen. For a trial's own
model the study keeps what came out, or has it already, of `best` or `confirm`: what was kept first
stays.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tunesvc import data, interrupt
from tunesvc import study as studies
from tunesvc.data import Split
from tunesvc.export.choose import Choice
from tunesvc.export.trained import Bench, Made
from tunesvc.exported import Evaluation, measure

_IMAGES = 64  # at once


@torch.inference_mode()
def score(bench: Bench, made: Made, split: Split) -> Evaluation:
    """Return what a model is worth on a split."""
    outputs, targets = [], []
    for images, wanted in _batches(bench, made, split):
        interrupt.check()
        outputs.append(made.run.module(images).float().cpu())
        targets.append(wanted.cpu())
    skipped = [(name, "it cannot be read") for name in split.skipped]
    desk = bench.desk
    return measure(
        desk.task, torch.cat(outputs), torch.cat(targets), desk.listing.classes, skipped=skipped
    )


def on_test(bench: Bench, choice: Choice, made: Made) -> Evaluation | None:
    """Return what the model is worth on the test split; None where the data has none."""
    if "test" not in bench.desk.listing.splits:
        return None
    (split,) = bench.desk.splits(made.run.config, "test", tick=interrupt.check)
    found = score(bench, made, split)
    if made.is_own:
        studies.set_test_metrics(choice.study, choice.trial.number, values(found))
    return found


def values(found: Evaluation | None) -> dict[str, float]:
    """Return every metric by its name; {} where nothing was measured."""
    return {name: each.value for name, each in found.metrics.items()} if found else {}


def pictures(bench: Bench, made: Made, split: Split, count: int) -> Tensor:
    """Return the first images of a split as the model takes them: (N, 3, crop, crop), CPU."""
    few = Split(split.images[:count], split.targets[:count])
    return torch.cat([images.cpu().contiguous() for images, _ in _batches(bench, made, few)])


def _batches(bench: Bench, made: Made, split: Split) -> Iterator[tuple[Tensor, Tensor]]:
    transform, place = made.run.backbone.transform, bench.placement
    made.run.module.eval()
    return data.batches(
        split, _IMAGES, crop=transform.crop, mean=transform.mean, std=transform.std,
        augmentation="none", training=False, generator=torch.Generator(), device=place.device,
        memory_format=place.memory_format,
    )  # fmt: skip
