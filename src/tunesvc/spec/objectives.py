"""What a study optimizes: one metric, or a metric beside further metrics and costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from tunesvc.spec.model import Model, short

CostName = Literal[
    "params_m",
    "trainable_m",
    "flops_g",
    "size_mb",
    "latency_ms",
    "latency_p95_ms",
    "infer_memory_mb",
    "train_memory_mb",
    "epoch_seconds",
    "seconds",
]
COST_NAMES: tuple[str, ...] = get_args(CostName)
MOST = 4  # objectives of a study: of more, hardly any trial is beaten by another


class Objective(Model):
    """What is optimized, on the validation split."""

    metric: str = "accuracy"
    direction: Literal["maximize", "minimize"] | None = Field(
        None, description="null: the metric's own"
    )


class CostObjective(Model):
    """What a model is to have little of; units are in the names."""

    cost: CostName


Goal = Objective | CostObjective


def _metric_or_cost(written: Any) -> str:
    """Choose one branch by the value's form, so that a mistake is reported for that branch only."""
    is_cost = isinstance(written, CostObjective) or (
        isinstance(written, Mapping) and "cost" in written
    )
    return CostObjective.__name__ if is_cost else Objective.__name__


def _one_or_several(written: Any) -> str:
    return "several" if isinstance(written, list | tuple) else "one"


def _alone(written: Any) -> Any:
    """Return what stands for a list of one metric: that metric."""
    if isinstance(written, list | tuple) and len(written) == 1:
        (only,) = written
        if _metric_or_cost(only) == Objective.__name__:
            written = only
    return {"metric": written} if isinstance(written, str) else written


def _together(objective: Objective | tuple[Goal, ...]) -> Objective | tuple[Goal, ...]:
    if isinstance(objective, Objective):
        return objective
    if isinstance(objective[0], CostObjective):
        raise ValueError(
            "the first objective must be a metric: trials are pruned by it; "
            f"write {{metric: accuracy}} before {{cost: {objective[0].cost}}}"
        )
    if len(objective) > MOST:
        raise ValueError(f"{len(objective)} objectives are too many; {MOST} are the most")
    names = Counter(map(name_of, objective))
    twice = [name for name, count in names.items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} stands twice among the objectives")
    return objective


def name_of(goal: Goal) -> str:
    """Return the metric's or the cost's name."""
    return goal.cost if isinstance(goal, CostObjective) else goal.metric


_Each = Annotated[
    Annotated[Objective, Tag(Objective.__name__)]
    | Annotated[CostObjective, Tag(CostObjective.__name__)],
    Discriminator(_metric_or_cost),
    short("metric", str | Objective | CostObjective),
]
ObjectiveSpec = Annotated[
    Annotated[Objective, Tag("one")]
    | Annotated[tuple[_Each, ...], Field(min_length=1), Tag("several")],
    Discriminator(_one_or_several),
    AfterValidator(_together),
    BeforeValidator(
        _alone,
        json_schema_input_type=str | Objective | tuple[str | Objective | CostObjective, ...],
    ),
]
