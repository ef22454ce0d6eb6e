"""How the space is searched: samplers and pruners with their options."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tunesvc.spec.model import Model, short

_TOGETHER = (
    "how many head-only configurations may be drawn together, before the first of them has ended, "
    "to be trained as one batch; those drawn at random at the start are not limited by it"
)


class TpeSampler(Model):
    """Tree-structured Parzen estimator."""

    kind: Literal["tpe"] = "tpe"
    n_startup_trials: int = Field(10, ge=0)
    n_ei_candidates: int = Field(24, ge=1)
    multivariate: bool = True
    group: bool = Field(True, description="model conditional knobs jointly inside their branch")
    constant_liar: bool = True
    batch_size: int = Field(1, ge=1, description=_TOGETHER)


class RandomSampler(Model):
    """Independent draws."""

    kind: Literal["random"]


class GpSampler(Model):
    """Gaussian process."""

    kind: Literal["gp"]
    n_startup_trials: int = Field(10, ge=0)
    batch_size: int = Field(1, ge=1, description=_TOGETHER)


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


_AnySampler = TpeSampler | RandomSampler | GpSampler | CmaEsSampler | GridSampler | QmcSampler
SamplerSpec = Annotated[
    _AnySampler,
    Field(discriminator="kind"),
    short("kind", Literal["tpe", "random", "gp", "cmaes", "grid", "qmc"] | _AnySampler),
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


_AnyPruner = AshaPruner | HyperbandPruner | MedianPruner | NoPruner
PrunerSpec = Annotated[
    _AnyPruner,
    Field(discriminator="kind"),
    short("kind", Literal["asha", "hyperband", "median", "none"] | _AnyPruner),
]
