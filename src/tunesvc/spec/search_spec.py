"""How the space is searched: samplers and pruners with their options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tunesvc.spec.knobs import Scalar
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
    cost_aware: bool = Field(
        False, description="draw what promises the most per second, from what trials took so far"
    )
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


class GivenConfiguration(Model):
    """A configuration that is given."""

    params: Mapping[str, Scalar] = Field(description="Optuna's parameters, all that are active")
    mark: Mapping[str, Scalar] = Field({}, description="user attributes of its trials")


class GivenRun(Model):
    """One trial of a configuration that is given."""

    configuration: str = Field(description="its name in `configurations`")
    seed: int = Field(ge=0, description="runs of the same number share everything random")


class GivenSampler(Model):
    """Exactly these trials, in this order; `tunesvc confirm` writes such studies.

    Why: 2026-11: the list stands in the study, and not in trials that were enqueued. So it grows by
    one statement, and every run of it is begun exactly once, whoever dies in the middle.
    """

    kind: Literal["given"]
    configurations: Mapping[str, GivenConfiguration] = Field(
        description="by a name of one's own", min_length=1
    )
    runs: tuple[GivenRun, ...] = Field(min_length=1)
    of: str = Field("", description="the study that they were found by: its name and uid")
    score: bool = Field(
        False, description="score each finished trial on the test split, once, as it ends"
    )

    @model_validator(mode="after")
    def _known(self) -> GivenSampler:
        unknown = [run for run in self.runs if run.configuration not in self.configurations]
        if unknown:
            raise ValueError(f"no configuration is called {unknown[0].configuration!r}")
        return self


_AnySampler = (
    TpeSampler | RandomSampler | GpSampler | CmaEsSampler | GridSampler | QmcSampler | GivenSampler
)
SamplerSpec = Annotated[
    _AnySampler,
    Field(discriminator="kind"),
    short("kind", Literal["tpe", "random", "gp", "cmaes", "grid", "qmc"] | _AnySampler),
]


_CONTROL = (
    "share of the trials that go on when the pruner would stop them, so that it can be audited; "
    "0: none"
)


class AshaPruner(Model):
    """Asynchronous successive halving."""

    kind: Literal["asha"] = "asha"
    min_resource: int = Field(1, ge=1, description="epochs before the first decision")
    reduction_factor: int = Field(3, ge=2)
    min_early_stopping_rate: int = Field(0, ge=0)
    control: float = Field(0.05, ge=0, le=1, description=_CONTROL)


class HyperbandPruner(Model):
    """Successive halving in several brackets."""

    kind: Literal["hyperband"]
    min_resource: int = Field(1, ge=1)
    reduction_factor: int = Field(3, ge=2)
    control: float = Field(0.05, ge=0, le=1, description=_CONTROL)


class MedianPruner(Model):
    """Stop what is worse than the median at the same epoch."""

    kind: Literal["median"]
    n_startup_trials: int = Field(5, ge=0)
    n_warmup_steps: int = Field(1, ge=0)
    interval_steps: int = Field(1, ge=1)
    control: float = Field(0.05, ge=0, le=1, description=_CONTROL)


class NoPruner(Model):
    """Every trial runs to its end."""

    kind: Literal["none"]


_AnyPruner = AshaPruner | HyperbandPruner | MedianPruner | NoPruner
PrunerSpec = Annotated[
    _AnyPruner,
    Field(discriminator="kind"),
    short("kind", Literal["asha", "hyperband", "median", "none"] | _AnyPruner),
]
