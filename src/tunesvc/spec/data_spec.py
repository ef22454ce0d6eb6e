"""What is learned from: the images, and the pretrained bodies, as the study file names them."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tunesvc.spec.knobs import Scalar
from tunesvc.spec.model import Model


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
