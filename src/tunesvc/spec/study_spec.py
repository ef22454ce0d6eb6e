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
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from tunesvc.spec.budget import Budget
from tunesvc.spec.knobs import KnobName, Scalar
from tunesvc.spec.model import Model, short
from tunesvc.spec.ranges import SearchSpace
from tunesvc.spec.search_spec import AshaPruner, PrunerSpec, SamplerSpec, TpeSampler


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


class Objective(Model):
    """What is optimized, on the validation split."""

    metric: str = "accuracy"
    direction: Literal["maximize", "minimize"] | None = Field(
        None, description="null: the metric's own"
    )


class LeaseSpec(Model):
    """How long a trial waits for a worker that is gone, and how often it is tried."""

    seconds: float = Field(30, ge=1, description="without a sign of life, then it is taken over")
    stall_seconds: float = Field(300, ge=1, description="without a finished batch, likewise")
    max_attempts: int = Field(
        3, ge=1, description="that end badly, in a row and without a new epoch; then it has failed"
    )


class ConfirmSpec(Model):
    """What of a study is run again when it is done, with new seeds."""

    top: int = Field(5, ge=1, description="so many of its best configurations")
    seeds: int = Field(5, ge=1, description="of each; the clearly worse leave earlier")
    ablation: bool = Field(
        True, description="also each step of the way from the untuned default to the best, once"
    )


def _flag_or_wish(written: Any) -> str:
    return "wish" if isinstance(written, Mapping | ConfirmSpec) else "flag"


def _auto_or_ranges(written: Any) -> str:
    """Choose one branch by the value's form, so that a mistake is reported for that branch only."""
    return "auto" if isinstance(written, str) else "ranges"


class StudySpec(Model):
    """A whole study file."""

    name: str = Field(pattern=r"^[\w.+-]{1,200}$", description="null: the file's stem")
    description: str = ""
    task: str = "image-classification"
    data: Annotated[DataSpec, short("kind", Literal["digits"] | DataSpec)]
    backbones: tuple[Annotated[BackboneSpec, short("name", str | BackboneSpec)], ...] = Field(
        min_length=1
    )
    search_space: Annotated[
        Annotated[Literal["auto"], Tag("auto")] | Annotated[SearchSpace, Tag("ranges")],
        Discriminator(_auto_or_ranges),
    ] = Field("auto", description="auto: a ready space per backbone family and strategy")
    defaults: dict[KnobName, Scalar] = Field(
        {}, description="the untuned configuration, run first for every backbone"
    )
    objective: Annotated[Objective, short("metric", str | Objective)] = Objective()
    budget: Budget = Budget()
    sampler: SamplerSpec = TpeSampler()
    pruner: PrunerSpec = AshaPruner()
    augment: Literal["cached", "live"] = Field(
        "cached",
        description="before frozen layers: cached, one of four fixed views of each image, whose "
        "outputs are computed once per host; live, a new one every time, and nothing is cached",
    )
    evaluate: Literal["epochs", "rungs"] = Field(
        "epochs",
        description="on the validation split after every epoch, or only where the pruner decides "
        "and after the last",
    )
    league: bool = Field(
        True, description="open with a linear probe of every backbone; LP-FT heads start from it"
    )
    ask_ahead: bool = Field(
        True,
        description="a worker draws its next trial while the present one trains, without knowing "
        "how that one ends; as if there were one worker more",
    )
    stack: int = Field(
        16, ge=1, description="head-only trials that are trained as one batch, at most; 1: none"
    )
    keep: str = Field(
        "best-3",
        pattern=r"^(all|best-[1-9][0-9]*)$",
        description="whose models stay: all, or best-K trials; running ones always",
    )
    confirm: Annotated[
        Annotated[bool, Tag("flag")] | Annotated[ConfirmSpec, Tag("wish")],
        Discriminator(_flag_or_wish),
    ] = Field(
        False, description="run the best again with new seeds when the study is done, and tell"
    )
    leases: LeaseSpec = LeaseSpec()
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

    @property
    def confirmation(self) -> ConfirmSpec | None:
        """What is to be run again when the study is done; None: nothing."""
        if isinstance(self.confirm, ConfirmSpec):
            return self.confirm
        return ConfirmSpec() if self.confirm else None

    def backbone(self, label: str) -> BackboneSpec:
        """Return the backbone that has this label."""
        return self.backbones[self.backbone_labels.index(label)]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of what the study is.

        Not of its name, of where its data lies, nor of how much it may take in all: a
        study can be continued with more. Nor of what guards it, which changes no result;
        nor of what is run again when it is done; nor of how many trials are drawn at once, which
        like the number of workers changes what the sampler knows, and nothing else; nor of how
        often a run is looked at; nor of how many trials the pruner is audited with; nor of which
        runs are given, whose list may grow.
        """
        named = {"name", "description", "keep", "confirm", "leases"}
        named |= {"evaluate", "ask_ahead", "stack"}
        what: dict[str, Any] = self.model_dump(mode="json", exclude=named)
        for place in self.data.where:
            what["data"].pop(place, None)
        for amount in ("trials", "hours", "gpu_hours", "epochs_total"):
            what["budget"].pop(amount)
        for free in ("batch_size", "configurations", "runs", "of"):
            what["sampler"].pop(free, None)
        what["pruner"].pop("control", None)
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
