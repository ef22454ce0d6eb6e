"""Fine-tuning strategies: what is trained, at which rate, from which epoch on.

    n    stages of the body, i = 0 … n-1 from input to output; the head comes after the last
    d    layer_decay: the rate of stage i is lr × body_lr_multiplier × d^(n-i)
    E    epochs of the trial, k = 0 … E-1
    u    stages that are trained, counted from the output side

A strategy only names parameters, so that it can be checked without a model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from tunesvc.spec import Knobs

Stages = Sequence[tuple[str, tuple[str, ...]]]


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share a rate: lr × `lr_scale`, with weight decay only if `decay`."""

    names: tuple[str, ...]
    lr_scale: float
    decay: bool


@dataclass(frozen=True)
class Phase:
    """The parameters that are trained from an epoch (counted from 0) on."""

    first_epoch: int
    trainable: frozenset[str]


@dataclass(frozen=True)
class Plan:
    """How one run is trained.

    Args:
        groups: every parameter that is trained in some phase, each in exactly one group.
        phases: at least one; the first begins at epoch 0, and no two in a row are the same.
        pretrained: whether the body starts from its pretrained weights.
    """

    groups: tuple[ParamGroup, ...]
    phases: tuple[Phase, ...]
    pretrained: bool

    @property
    def trained(self) -> frozenset[str]:
        """The names of the parameters that some epoch trains."""
        return frozenset(name for group in self.groups for name in group.names)


def plan(
    stages: Stages,
    head: tuple[str, ...],
    norm_parameters: Collection[str],
    knobs: Knobs,
    epochs: int,
) -> Plan:
    """Return what the knobs ask for.

    Args:
        stages: (name, parameter names) from input to output, the head left out.
        head: parameter names of the head; it is trained in every phase.
        norm_parameters: those of normalisation layers; never trained under `frozen_bn`.
        knobs: the trial's configuration; `lp_ft` and `frozen_bn` count for pretrained bodies only.
        epochs: of the whole run, ≥ 1.
    """
    pretrained = knobs.strategy != "from-scratch"
    if not pretrained:
        knobs = knobs.model_copy(update={"lp_ft": False, "frozen_bn": False})
    bodies = _bodies(stages, norm_parameters, knobs, epochs)
    if knobs.frozen_bn:
        bodies = [body - frozenset(norm_parameters) for body in bodies]
    ever = frozenset(head).union(*bodies)
    return Plan(
        groups=tuple(_groups(stages, head, norm_parameters, knobs, ever)),
        phases=tuple(_phases(frozenset(head), bodies)),
        pretrained=pretrained,
    )


def _phases(head: frozenset[str], bodies: Sequence[frozenset[str]]) -> Iterator[Phase]:
    yield Phase(0, head | bodies[0])
    for epoch, (before, now) in enumerate(pairwise(bodies), start=1):
        if now != before:
            yield Phase(epoch, head | now)


def _bodies(
    stages: Stages, norm_parameters: Collection[str], knobs: Knobs, epochs: int
) -> list[frozenset[str]]:
    """Return the body's trained parameters for every epoch.

    LP-FT: the head alone first, but never for the whole run; then the strategy's own epochs.
    Source: Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features", section 3.
    """
    alone = min(knobs.lp_epochs, epochs - 1) if knobs.lp_ft else 0
    rest = epochs - alone
    body_at = _strategy(stages, norm_parameters, knobs, rest)
    return [frozenset()] * alone + [body_at(epoch) for epoch in range(rest)]


def _strategy(
    stages: Stages, norm_parameters: Collection[str], knobs: Knobs, epochs: int
) -> Callable[[int], frozenset[str]]:
    """Return epoch → the body's parameters that the strategy trains in it."""
    match knobs.strategy:
        case "linear-probe":
            return lambda _: frozenset()
        case "last-stage":
            return lambda _: _last(stages, 1)
        case "freeze-fraction":
            kept = len(stages) - round(knobs.freeze_fraction * len(stages))
            return lambda _: _last(stages, kept)
        case "gradual-unfreeze":
            return lambda epoch: _last(stages, _unfrozen(epoch, epochs, len(stages)))
        case "bias-norm-only":
            light = frozenset(
                name
                for name in _last(stages, len(stages))
                if name in norm_parameters or _is_bias(name)
            )
            return lambda _: light
        case "full" | "from-scratch":
            return lambda _: _last(stages, len(stages))


def _unfrozen(k: int, epochs: int, n: int) -> int:
    """Return u = min(n, max(k, ⌈n·k / (E-1)⌉)): one more stage per epoch, all by the last one.

    Source: Howard & Ruder 2018, "Universal Language Model Fine-tuning", section 3.3.
    """
    if epochs == 1:
        return n
    return min(n, max(k, ceil(n * k / (epochs - 1))))


def _last(stages: Stages, count: int) -> frozenset[str]:
    return frozenset(name for _, names in stages[len(stages) - count :] for name in names)


def _groups(
    stages: Stages,
    head: tuple[str, ...],
    norm_parameters: Collection[str],
    knobs: Knobs,
    ever: frozenset[str],
) -> Iterator[ParamGroup]:
    """Yield as few groups as there are pairs of rate and decay: each costs optimizer calls.

    Biases and normalisation parameters are not decayed.
    Source: timm `param_groups_weight_decay`; Devlin et al. 2018 (BERT), its reference code.
    """
    grouped: dict[tuple[float, bool], list[str]] = {}
    for scale, names in _rates(stages, head, knobs):
        for name in names:
            if name in ever:
                decay = not (_is_bias(name) or name in norm_parameters)
                grouped.setdefault((scale, decay), []).append(name)
    for (scale, decay), names in grouped.items():
        yield ParamGroup(tuple(names), scale, decay)


def _rates(
    stages: Stages, head: tuple[str, ...], knobs: Knobs
) -> Iterator[tuple[float, Sequence[str]]]:
    for i, (_, names) in enumerate(stages):
        yield knobs.body_lr_multiplier * knobs.layer_decay ** (len(stages) - i), names
    yield knobs.head_lr_multiplier, head


def _is_bias(name: str) -> bool:
    """`conv.bias`, and attention's `in_proj_bias`."""
    return name.endswith("bias")
