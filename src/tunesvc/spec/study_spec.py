"""The study file as frozen data: what to learn, from what, how, and for how much.

Why: 2026-11: machine settings (which device, how many workers, where Postgres is) are not here.
The file says *what* is searched; its digest, from which every seed derives, must not change when
the study moves to another machine. For the same reason the places of data are left out of the
digest: the data's own fingerprint guards them.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tunesvc.spec.knobs import KnobName, Scalar
from tunesvc.spec.ranges import SearchSpace


class Model(BaseModel):
    """A part of the study file: frozen, and no key but the listed ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SplitSpec(Model):
    """How the images that carry no split of their own are divided; stratified and seeded."""

    val: float = Field(0.2, gt=0, lt=1, description="share for validation")
    test: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="share held out for the final test; null: 0.2, or none where val/ exists",
    )
    seed: int = 0


class _Data(Model):
    where: ClassVar[frozenset[str]] = frozenset()

    split: SplitSpec = SplitSpec()
    subset: int | None = Field(None, ge=2, description="use at most N training images, stratified")
    fraction: float | None = Field(None, gt=0, le=1, description="use this share of them instead")
    image_size: int | None = Field(
        None, ge=8, description="side in pixels; null: as the weights' own transforms say"
    )
    on_corrupt: Literal["fail", "skip"] = Field("fail", description="an image that cannot be read")

    @model_validator(mode="after")
    def _one_cut(self) -> _Data:
        if self.subset is not None and self.fraction is not None:
            raise ValueError("give subset or fraction, not both")
        return self


class FolderData(_Data):
    """Class folders: `train/ val/ [test/]` with one folder per class each, or one level."""

    where: ClassVar[frozenset[str]] = frozenset({"path"})

    kind: Literal["folder"]
    path: str


class CsvData(_Data):
    """A table of image paths (relative to the file) and labels or target numbers."""

    where: ClassVar[frozenset[str]] = frozenset({"path"})

    kind: Literal["csv"]
    path: str
    image_column: str = "path"
    target_column: str = "label"
    split_column: str | None = Field(None, description="holds train, val or test")


class TorchvisionData(_Data):
    """One of torchvision's data sets, by its class name."""

    where: ClassVar[frozenset[str]] = frozenset({"root", "download"})

    kind: Literal["torchvision"]
    name: str = Field(description="MNIST, CIFAR10, OxfordIIITPet, Flowers102, …")
    root: str | None = Field(None, description="folder that holds it; null: tunesvc's own")
    download: bool = False


class ArraysData(_Data):
    """An `.npz` file with x_train, y_train and perhaps x_val, y_val, x_test, y_test, classes.

    Images are uint8 of shape (N, H, W) or (N, H, W, 3).
    """

    where: ClassVar[frozenset[str]] = frozenset({"path"})

    kind: Literal["arrays"]
    path: str


class DigitsData(_Data):
    """scikit-learn's 1,797 handwritten digits, 8×8 grey: real, and needs no download."""

    kind: Literal["digits"]


DataSpec = Annotated[
    FolderData | CsvData | TorchvisionData | ArraysData | DigitsData, Field(discriminator="kind")
]


class BackboneSpec(Model):
    """A pretrained body to fine-tune."""

    name: str = Field(description="any torchvision classification model, or one of our own")
    weights: str = Field(
        "DEFAULT", description="DEFAULT, a name such as IMAGENET1K_V1, none, or a path"
    )
    kwargs: dict[str, Scalar] = Field({}, description="constructor arguments (width_mult: 0.35)")
    label: str | None = Field(
        None, description="name in tables; null: `name`, and weights if need be"
    )


def _short(key: str) -> BeforeValidator:
    """Accept a bare word for a mapping whose only needed key is `key`."""
    return BeforeValidator(lambda value: {key: value} if isinstance(value, str) else value)


class Objective(Model):
    """What is optimized, on the validation split."""

    metric: str = "accuracy"
    direction: Literal["maximize", "minimize"] | None = Field(
        None, description="null: the metric's own"
    )


class Budget(Model):
    """What may be spent."""

    trials: int = Field(30, ge=1, description="trials begun, the defaults' included")
    hours: float | None = Field(None, gt=0, description="no trial is begun after so long")
    epochs: int = Field(5, ge=1, description="of each trial")


class TpeSampler(Model):
    """Tree-structured Parzen estimator."""

    kind: Literal["tpe"] = "tpe"
    n_startup_trials: int = Field(10, ge=0)
    n_ei_candidates: int = Field(24, ge=1)
    multivariate: bool = True
    group: bool = Field(True, description="model conditional knobs jointly inside their branch")
    constant_liar: bool = True


class RandomSampler(Model):
    """Independent draws."""

    kind: Literal["random"]


class GpSampler(Model):
    """Gaussian process."""

    kind: Literal["gp"]
    n_startup_trials: int = Field(10, ge=0)


class CmaEsSampler(Model):
    """Covariance matrix adaptation; categorical knobs are drawn at random."""

    kind: Literal["cmaes"]
    n_startup_trials: int = Field(5, ge=0)
    sigma0: float | None = Field(None, gt=0)


class GridSampler(Model):
    """Every combination once; needs choices, whole numbers or a step for each knob."""

    kind: Literal["grid"]


class QmcSampler(Model):
    """A low-discrepancy sequence."""

    kind: Literal["qmc"]
    qmc_type: Literal["sobol", "halton"] = "sobol"


SamplerSpec = Annotated[
    TpeSampler | RandomSampler | GpSampler | CmaEsSampler | GridSampler | QmcSampler,
    Field(discriminator="kind"),
    _short("kind"),
]


class AshaPruner(Model):
    """Asynchronous successive halving."""

    kind: Literal["asha"] = "asha"
    min_resource: int = Field(1, ge=1, description="epochs before the first decision")
    reduction_factor: int = Field(3, ge=2)
    min_early_stopping_rate: int = Field(0, ge=0)


class HyperbandPruner(Model):
    """Successive halving in several brackets."""

    kind: Literal["hyperband"]
    min_resource: int = Field(1, ge=1)
    reduction_factor: int = Field(3, ge=2)


class MedianPruner(Model):
    """Stop what is worse than the median at the same epoch."""

    kind: Literal["median"]
    n_startup_trials: int = Field(5, ge=0)
    n_warmup_steps: int = Field(1, ge=0)
    interval_steps: int = Field(1, ge=1)


class NoPruner(Model):
    """Every trial runs to its end."""

    kind: Literal["none"]


PrunerSpec = Annotated[
    AshaPruner | HyperbandPruner | MedianPruner | NoPruner,
    Field(discriminator="kind"),
    _short("kind"),
]


class StudySpec(Model):
    """A whole study file."""

    name: str = Field(pattern=r"^[\w.+-]{1,200}$", description="null: the file's stem")
    description: str = ""
    task: str = "image-classification"
    data: Annotated[DataSpec, _short("kind")]
    backbones: tuple[Annotated[BackboneSpec, _short("name")], ...] = Field(min_length=1)
    search_space: Literal["auto"] | SearchSpace = Field(
        "auto", description="auto: a ready space per backbone family and strategy"
    )
    defaults: dict[KnobName, Scalar] = Field(
        {}, description="the untuned configuration, run first for every backbone"
    )
    objective: Annotated[Objective, _short("metric")] = Objective()
    budget: Budget = Budget()
    sampler: SamplerSpec = TpeSampler()
    pruner: PrunerSpec = AshaPruner()
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _distinct_backbones(self) -> StudySpec:
        twice = [label for label, n in Counter(self.backbone_labels).items() if n > 1]
        if twice:
            raise ValueError(f"backbone {twice[0]!r} stands twice; give each its own `label`")
        return self

    @property
    def backbone_labels(self) -> tuple[str, ...]:
        """What each backbone is called in tables and in Optuna."""
        names = Counter(backbone.name for backbone in self.backbones)
        return tuple(
            backbone.label
            or (
                backbone.name
                if names[backbone.name] == 1
                else f"{backbone.name}:{backbone.weights}"
            )
            for backbone in self.backbones
        )

    def backbone(self, label: str) -> BackboneSpec:
        """Return the backbone that has this label."""
        return self.backbones[self.backbone_labels.index(label)]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what the study is: not of its name, nor of where its data lies."""
        what: dict[str, Any] = self.model_dump(mode="json", exclude={"name", "description"})
        for place in self.data.where:
            what["data"].pop(place, None)
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
