"""What is learned: one file per task behind one Protocol.

A task says what its targets are, how wide the head is, which loss is minimized and which metrics
are recorded. Its plain data (`target`, `metrics`, `default_metric`) can be read without torch, so
that a study file can be checked quickly; torch is imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import MetricCollection

TargetKind = Literal["class", "number"]
Direction = Literal["maximize", "minimize"]


class Task(Protocol):
    """The contract of a task; register yours under the entry-point group `tunesvc.task`.

    One that learns classes with a head of another width, or whose classes have probabilities that
    are no softmax of the outputs, has also `probabilities(outputs)`, (B, C) float: what an exported
    model tells.
    """

    @property
    def name(self) -> str:
        """What study files call it."""
        ...

    @property
    def target(self) -> TargetKind:
        """Whether a target is a class index (int64) or a number (float32)."""
        ...

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """Every metric that is recorded after each epoch, "loss" included, and its direction."""
        ...

    @property
    def default_metric(self) -> str:
        """The metric that is optimized unless the study file names another.

        A file that names none means `accuracy` wherever a task has a metric of this name.
        """
        ...

    def num_outputs(self, classes: Sequence[str]) -> int:
        """Return the width of the head; `classes` is empty for number targets."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean loss of a batch.

        Args:
            outputs: (B, num_outputs) float.
            targets: (B,) as the data gives them, or what `soft_targets` returned, mixed.
            label_smoothing: 0…1; number targets ignore it.

        Returns:
            () float.
        """
        ...

    def soft_targets(self, targets: Tensor, num_outputs: int) -> Tensor:
        """Return targets that mixup and cutmix may average: (B, num_outputs) float."""
        ...

    def metric_collection(self, num_outputs: int) -> MetricCollection:
        """Return fresh metrics under the names in `metrics`, all but "loss"."""
        ...

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return what the metrics are updated with: (B,) class index or number."""
        ...
