"""The knobs: everything about one fine-tuning run that a search may turn.

One field is one knob: its name in study files and in Optuna, its type, its range, and the value
that it has when neither the study file nor a family's recipe says otherwise.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Scalar = bool | int | float | str

Strategy = Literal[
    "linear-probe",
    "last-stage",
    "freeze-fraction",
    "full",
    "gradual-unfreeze",
    "bias-norm-only",
    "from-scratch",
]
Optimizer = Literal["sgd", "adam", "adamw", "rmsprop"]
Schedule = Literal["constant", "cosine", "linear"]
Augmentation = Literal["none", "flip-crop", "trivial-augment"]

STRATEGIES: tuple[str, ...] = get_args(Strategy)


class Knobs(BaseModel):
    """One value for each knob."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    strategy: Strategy = Field("full", description="which part of the backbone is trained")
    freeze_fraction: float = Field(
        0.5, ge=0, le=1, description="share of the stages frozen under `freeze-fraction`"
    )
    lp_ft: bool = Field(False, description="train the head alone first, then the rest (LP-FT)")
    lp_epochs: int = Field(1, ge=1, description="epochs of the head alone under `lp_ft`")
    frozen_bn: bool = Field(False, description="keep batch-norm statistics and affines fixed")
    optimizer: Optimizer = "adamw"
    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(1e-4, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD; RMSprop has none")
    nesterov: bool = Field(False, description="of SGD with momentum")
    body_lr_multiplier: float = Field(1.0, gt=0, description="body's rate = lr × this")
    head_lr_multiplier: float = Field(1.0, gt=0, description="head's rate = lr × this")
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="each stage's rate = the next one's × this"
    )
    batch_size: int = Field(64, ge=1)
    schedule: Schedule = Field("cosine", description="of the learning rate after the warm-up")
    warmup: float = Field(0.0, ge=0, lt=1, description="share of all steps with a rising rate")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    mixup: float = Field(0.0, ge=0, description="alpha of its Beta distribution; 0 is off")
    cutmix: float = Field(0.0, ge=0, description="alpha of its Beta distribution; 0 is off")
    dropout: float = Field(0.0, ge=0, lt=1, description="before the head")
    augmentation: Augmentation = "none"

    def acting(self) -> dict[str, Scalar]:
        """Return the knobs that do something in this configuration, by name."""
        # Either the body stands still anyway, or there is nothing pretrained to keep.
        unspared = self.strategy in ("linear-probe", "from-scratch")
        idle = {
            "freeze_fraction": self.strategy != "freeze-fraction",
            "lp_epochs": unspared or not self.lp_ft,
            "momentum": self.optimizer != "sgd",
            "nesterov": self.optimizer != "sgd" or not self.momentum,
            "body_lr_multiplier": self.strategy == "linear-probe",
            "layer_decay": self.strategy == "linear-probe",
            "lp_ft": unspared,
            "frozen_bn": unspared,
        }
        return {name: value for name, value in self.model_dump().items() if not idle.get(name)}


KnobName = Literal[
    "strategy",
    "freeze_fraction",
    "lp_ft",
    "lp_epochs",
    "frozen_bn",
    "optimizer",
    "lr",
    "weight_decay",
    "momentum",
    "nesterov",
    "body_lr_multiplier",
    "head_lr_multiplier",
    "layer_decay",
    "batch_size",
    "schedule",
    "warmup",
    "label_smoothing",
    "mixup",
    "cutmix",
    "dropout",
    "augmentation",
]
KNOBS: tuple[str, ...] = get_args(KnobName)
assert tuple(Knobs.model_fields) == KNOBS  # so that editors can complete the names


def kind(knob: str) -> type[Any]:
    """Return float, int, bool or str: the type of a knob's values."""
    annotation = Knobs.model_fields[knob].annotation
    known: tuple[type[Any], ...] = (float, int, bool)
    return next((made for made in known if annotation is made), str)


def check(knob: str, value: Any) -> Any:
    """Return the value as the knob holds it.

    Raises:
        pydantic.ValidationError: the knob cannot have this value.
    """
    if kind(knob) is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    return getattr(Knobs(**{knob: value}), knob)
