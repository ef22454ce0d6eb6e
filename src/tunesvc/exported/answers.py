"""What a model's outputs mean, for each kind of target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from tunesvc.tasks import Task


@runtime_checkable
class Scores(Protocol):
    """What a task may have besides, if its classes' probabilities are no softmax of its outputs.

    Without it, a task whose head has not one output for each class names the predicted class only.
    """

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return (B, C) float in 0…1, of (B, num_outputs) float."""
        ...


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Args:
        label: the predicted class; None where the task learns numbers.
        probability: of that class; None where the task does not tell any.
        value: the predicted number; None where the task learns classes.
        top: the most probable classes, most probable first.
        error: why there is none, and all the rest is empty; "" where there is one.
    """

    label: str | None = None
    probability: float | None = None
    value: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        if self.error:
            return {"error": self.error}
        if self.value is not None:
            return {"value": self.value}
        top = [{"label": label, "probability": share} for label, share in self.top]
        return {"label": self.label, "probability": self.probability, "top": top}


def answers(task: Task, outputs: Tensor, classes: Sequence[str], top: int) -> list[Prediction]:
    """Return what outputs mean.

    Args:
        outputs: (B, num_outputs) float.
        classes: in the order of the outputs; not looked at where the task learns numbers.
        top: how many classes are named, at most.
    """
    said = task.predictions(outputs).cpu()
    if task.target == "number":
        return [Prediction(value=value) for value in said.tolist()]
    known = probabilities(task, outputs)
    if known.shape[1] != len(classes):  # the outputs are no logits of the classes
        return [Prediction(classes[index]) for index in said.tolist()]
    shares = known.cpu()
    ranked = shares.sort(dim=1, descending=True, stable=True)
    best = zip(ranked.indices[:, :top].tolist(), ranked.values[:, :top].tolist(), strict=True)
    return [
        Prediction(
            classes[index],
            shares[row, index].item(),
            top=tuple((classes[each], share) for each, share in zip(indices, values, strict=True)),
        )
        for row, (index, (indices, values)) in enumerate(zip(said.tolist(), best, strict=True))
    ]


def probabilities(task: Task, outputs: Tensor) -> Tensor:
    """Return the probability of every class, (B, C) float32.

    They are the softmax of the outputs, unless the task has its own `probabilities`.

    Args:
        outputs: (B, num_outputs) float.
    """
    if isinstance(task, Scores):
        return task.probabilities(outputs).float()
    return torch.softmax(outputs.float(), dim=1)
