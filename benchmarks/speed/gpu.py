"""What is asked of a GPU: ResNet-50 and ViT-B/16 at 224 pixels, trials per hour, packing.

Weights are random where `../shared/weights` has none of theirs: seconds do not depend on them.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from peers.job import Backbone

from speed.rows import FULL, HEAD, LAST
from speed.sides import Bench
from speed.subjects import FLOWERS, WEIGHTS, Subject, anatomy
from speed.table import Row, figure

PIXELS = 224
TRIALS = {HEAD: 30, LAST: 4, FULL: 4}
EPOCHS = 2
PACKED = (1, 2, 4)

_HEADS = {"resnet50": "fc", "vit_b_16": "heads.head"}


def subjects_of(bench: Bench) -> list[Subject]:
    """Flowers with each of the larger models."""
    folder = bench.ground.new_folder("weights")
    words = f"flowers (3,439 + 859 images), {{}}, {PIXELS} px"
    return [
        Subject(model, words.format(model), FLOWERS.resolve(), PIXELS, (_backbone(model, folder),))
        for model in _HEADS
    ]


def _backbone(model: str, folder: Path) -> Backbone:
    known = next(WEIGHTS.glob(f"{model}-*.pth"), None)
    if known is None:
        import torch
        from torchvision import models

        known = folder / f"{model}.pth"
        torch.save(models.get_model(model, weights=None).state_dict(), known)
    return anatomy(model, model, {}, str(known.resolve()), _HEADS[model])


def trials_per_hour(bench: Bench) -> Iterator[Row]:
    """Trials per GPU-hour of each strategy, with the GPU's utilisation meanwhile."""
    for subject in subjects_of(bench):
        for strategy, count in TRIALS.items():
            found, busy = _run(bench, subject, strategy, count, workers=1)
            words = f"{subject.words}, {strategy}, {EPOCHS} epochs"
            yield Row("trials_per_gpu_hour", words, "trials/h", figure([found]), note=busy)


def packing(bench: Bench) -> Iterator[Row]:
    """The same with several workers on one GPU."""
    subject = subjects_of(bench)[0]
    for workers in PACKED:
        found, busy = _run(bench, subject, FULL, 2 * workers, workers)
        words = f"{subject.words}, {FULL}, {workers} trials at once"
        yield Row("trials_per_device", words, "trials/h", figure([found]), note=busy)


def _run(
    bench: Bench, subject: Subject, strategy: str, trials: int, workers: int
) -> tuple[float, str]:
    """Return trials per hour once the workers are there, and the GPU's mean utilisation."""
    job = subject.job("gpu", [strategy], trials, EPOCHS, device=bench.device)
    with utilisation() as watched:
        outcome = bench.ours([job], workers=workers)
    ended = [trial.ended for trial in outcome.trials["gpu"]]
    busy = f"GPU busy {watched.mean:.0f} % of the seconds, start of the worker included"
    return 3600 * len(ended) / (max(ended) - outcome.ready), busy


@dataclass
class Watched:
    """Percent of each second in which the GPU computed."""

    samples: list[float] = field(default_factory=list)

    @property
    def mean(self) -> float:
        """Their mean."""
        return sum(self.samples) / len(self.samples) if self.samples else 0.0


@contextmanager
def utilisation() -> Iterator[Watched]:
    """Watch the GPU while the block runs."""
    query = [
        "nvidia-smi",
        "--query-gpu=utilization.gpu",
        "--format=csv,noheader,nounits",
        "-l",
        "1",
    ]
    watched = Watched()
    process = subprocess.Popen(query, stdout=subprocess.PIPE, text=True)
    try:
        yield watched
    finally:
        process.terminate()
        printed, _ = process.communicate()
        watched.samples += [float(line) for line in printed.split() if line.isdigit()]


ROWS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "trials_per_gpu_hour": trials_per_hour,
    "trials_per_device": packing,
}
