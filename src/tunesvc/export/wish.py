"""What somebody wants to have exported."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tunesvc.errors import UsageError

Refit = Literal["train", "train+val"]


@dataclass(frozen=True)
class Wish:
    """Which model, and in which forms.

    Args:
        trial: number; None: the best.
        where: the best that keeps within these caps.
        refit: train the configuration anew, on these images; None: take the model as it was kept.
        soup: of so many of the best models; None: no soup.
        onnx: write `model.onnx` too.
        force: replace an earlier export.

    Raises:
        UsageError: wishes that exclude each other.
    """

    trial: int | None = None
    where: str | None = None
    refit: Refit | None = None
    soup: int | None = None
    onnx: bool = True
    force: bool = False

    def __post_init__(self) -> None:
        if self.trial is not None and self.where is not None:
            raise UsageError(
                "--trial and --where exclude each other",
                "one names the trial, the other has it found",
                "leave one of the two out",
            )
        if self.refit is not None and self.soup is not None:
            raise UsageError(
                "--refit and --soup exclude each other",
                "a soup is the mean of models that are kept; a refit trains one anew",
                "leave one of the two out",
            )
