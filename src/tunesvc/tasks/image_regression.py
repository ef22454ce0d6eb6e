"""One number per image: mean squared error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from tunesvc.tasks import Direction, TargetKind

if TYPE_CHECKING:
    from torch import Tensor
    from torchmetrics import MetricCollection

_METRICS: Mapping[str, Direction] = MappingProxyType(
    {"mse": "minimize", "mae": "minimize", "r2": "maximize", "loss": "minimize"}
)


@dataclass(frozen=True)
class ImageRegression:
    """Targets are numbers; the head has one output."""

    name: str = "image-regression"
    target: TargetKind = "number"
    metrics: Mapping[str, Direction] = field(default_factory=lambda: _METRICS)
    default_metric: str = "mse"

    def num_outputs(self, classes: Sequence[str]) -> int:  # noqa: ARG002 (the Protocol's)
        """Return 1."""
        return 1

    def loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:  # noqa: ARG002
        """Return the mean squared error, () float.

        Args:
            outputs: (B, 1) float.
            targets: (B,) or (B, 1) float32.
            label_smoothing: ignored; it smooths classes.
        """
        from torch.nn.functional import mse_loss

        return mse_loss(outputs, targets.reshape(outputs.shape))

    def soft_targets(self, targets: Tensor, num_outputs: int) -> Tensor:
        """Return the numbers as a column, (B, 1) float32."""
        return targets.reshape(-1, num_outputs).float()

    def metric_collection(self, num_outputs: int) -> MetricCollection:  # noqa: ARG002
        """Return mean squared error, mean absolute error and the coefficient of determination."""
        from torchmetrics import MeanAbsoluteError, MeanSquaredError, MetricCollection

        from tunesvc.tasks.determination import Determination

        return MetricCollection(
            {"mse": MeanSquaredError(), "mae": MeanAbsoluteError(), "r2": Determination()},
            compute_groups=False,
        )

    def predictions(self, outputs: Tensor) -> Tensor:
        """Return the numbers, (B,) float32, of (B, 1) outputs."""
        return outputs.flatten().float()


TASK = ImageRegression()
