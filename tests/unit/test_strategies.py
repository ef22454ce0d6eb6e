"""Strategies: which parameters are trained, at which rate, from which epoch on."""

from __future__ import annotations

from typing import Any

import pytest

from tunesvc.spec import STRATEGIES, Knobs
from tunesvc.strategies import Plan, plan

STAGES = tuple(
    (f"s{i}", (f"s{i}.conv.weight", f"s{i}.norm.weight", f"s{i}.norm.bias")) for i in range(4)
)
HEAD = ("fc.weight", "fc.bias")
NORMS = frozenset(name for _, names in STAGES for name in names if ".norm." in name)
LIGHT = NORMS  # every bias of the toy body belongs to a norm
NOTHING = "...."


def make(epochs: int = 3, **knobs: Any) -> Plan:
    return plan(STAGES, HEAD, NORMS, Knobs(**knobs), epochs)


def shown(made: Plan) -> list[tuple[int, str]]:
    """Return (first epoch, one sign per stage: `x` trained, `.` frozen) of every phase."""
    assert all(set(HEAD) <= phase.trainable for phase in made.phases)
    return [
        (
            phase.first_epoch,
            "".join("x" if set(names) <= phase.trainable else "." for _, names in STAGES),
        )
        for phase in made.phases
    ]


@pytest.mark.parametrize(
    ("knobs", "trained"),
    [
        ({"strategy": "linear-probe"}, "...."),
        ({"strategy": "last-stage"}, "...x"),
        ({"strategy": "freeze-fraction", "freeze_fraction": 0.0}, "xxxx"),
        ({"strategy": "freeze-fraction", "freeze_fraction": 0.25}, ".xxx"),
        ({"strategy": "freeze-fraction", "freeze_fraction": 0.5}, "..xx"),
        ({"strategy": "freeze-fraction", "freeze_fraction": 0.7}, "...x"),  # round(2.8) = 3
        ({"strategy": "freeze-fraction", "freeze_fraction": 1.0}, "...."),
        ({"strategy": "full"}, "xxxx"),
        ({"strategy": "from-scratch"}, "xxxx"),
    ],
)
@pytest.mark.parametrize("epochs", [1, 3])
def test_a_steady_strategy_trains_the_same_stages_from_the_first_epoch_on(
    knobs: dict[str, Any], trained: str, epochs: int
) -> None:
    """Strategies without a schedule have one phase, whatever the number of epochs."""
    assert shown(make(epochs, **knobs)) == [(0, trained)]


@pytest.mark.parametrize(
    ("epochs", "phases"),
    [
        (1, [(0, "xxxx")]),  # the only epoch is the last one
        (2, [(0, NOTHING), (1, "xxxx")]),  # ⌈4·1/1⌉ = 4
        (3, [(0, NOTHING), (1, "..xx"), (2, "xxxx")]),  # ⌈4·1/2⌉ = 2
        (4, [(0, NOTHING), (1, "..xx"), (2, ".xxx"), (3, "xxxx")]),  # ⌈4/3⌉ = 2, ⌈8/3⌉ = 3
        (5, [(0, NOTHING), (1, "...x"), (2, "..xx"), (3, ".xxx"), (4, "xxxx")]),
        (9, [(0, NOTHING), (1, "...x"), (2, "..xx"), (3, ".xxx"), (4, "xxxx")]),
    ],
)
def test_gradual_unfreezing_starts_with_the_head_and_ends_with_everything(
    epochs: int, phases: list[tuple[int, str]]
) -> None:
    """One more stage per epoch from the output side, an even share where epochs are few."""
    assert shown(make(epochs, strategy="gradual-unfreeze")) == phases


@pytest.mark.parametrize(
    ("epochs", "lp_epochs", "phases"),
    [
        (5, 2, [(0, NOTHING), (2, "xxxx")]),
        (2, 1, [(0, NOTHING), (1, "xxxx")]),
        (2, 5, [(0, NOTHING), (1, "xxxx")]),  # min(5, 2 - 1) = 1
        (1, 1, [(0, "xxxx")]),  # min(1, 1 - 1) = 0
    ],
)
def test_lp_ft_trains_the_head_alone_first_but_never_throughout(
    epochs: int, lp_epochs: int, phases: list[tuple[int, str]]
) -> None:
    """LP-FT shifts the strategy's own phases by min(lp_epochs, epochs - 1)."""
    assert shown(make(epochs, strategy="full", lp_ft=True, lp_epochs=lp_epochs)) == phases


def test_lp_ft_of_a_linear_probe_is_a_linear_probe() -> None:
    """Phases that would train the same parameters are one phase."""
    assert make(4, strategy="linear-probe", lp_ft=True) == make(4, strategy="linear-probe")


def test_lp_ft_delays_gradual_unfreezing() -> None:
    """The strategy's own epochs are those that LP-FT leaves: 5 - 2 = 3."""
    made = make(5, strategy="gradual-unfreeze", lp_ft=True, lp_epochs=2)
    assert shown(made) == [(0, NOTHING), (3, "..xx"), (4, "xxxx")]


def test_bias_norm_only_trains_biases_and_norms_beside_the_head() -> None:
    """The weights of convolutions stay as they were."""
    made = make(strategy="bias-norm-only")
    assert [phase.trainable for phase in made.phases] == [LIGHT | set(HEAD)]


def test_the_joint_bias_of_attention_is_a_bias() -> None:
    """PyTorch calls it `in_proj_bias`: it is trained with the biases and not decayed."""
    stages = [("s0", ("attention.in_proj_weight", "attention.in_proj_bias"))]
    made = plan(stages, HEAD, (), Knobs(strategy="bias-norm-only"), 1)
    assert made.phases[0].trainable == {"attention.in_proj_bias", *HEAD}
    assert not next(g for g in made.groups if "attention.in_proj_bias" in g.names).decay


@pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name != "from-scratch"])
def test_frozen_bn_never_trains_a_norm(strategy: str) -> None:
    """Neither in a phase nor in a group; the rest is as without it."""
    made, free = (make(6, strategy=strategy, frozen_bn=on) for on in (True, False))
    assert not NORMS & set().union(*(phase.trainable for phase in made.phases))
    assert not NORMS & {name for group in made.groups for name in group.names}
    assert made.phases[-1].trainable == free.phases[-1].trainable - NORMS


def test_nothing_of_a_random_body_is_spared() -> None:
    """From scratch, neither LP-FT nor frozen batch-norms count, and neither knob acts."""
    knobs = {"strategy": "from-scratch", "lp_ft": True, "frozen_bn": True}
    assert make(3, **knobs) == make(3, strategy="from-scratch")
    assert not {"lp_ft", "lp_epochs", "frozen_bn"} & Knobs(**knobs).acting().keys()
    assert "momentum" not in Knobs(optimizer="rmsprop").acting()


def test_the_head_keeps_its_own_norms_under_frozen_bn() -> None:
    """The knob speaks of the pretrained norms; the head is new."""
    head = ("head.norm.weight", "head.fc.weight")
    made = plan(STAGES, head, NORMS | {"head.norm.weight"}, Knobs(frozen_bn=True), 2)
    assert set(head) <= made.phases[0].trainable


def rates(made: Plan) -> dict[str, float]:
    return {name: group.lr_scale for group in made.groups for name in group.names}


def test_rates_decay_from_the_head_to_the_input() -> None:
    """Stage i of n has body_lr_multiplier × d^(n-i); the head has its own multiplier alone."""
    made = make(layer_decay=0.5, body_lr_multiplier=0.1, head_lr_multiplier=10.0)
    found = rates(made)
    expected = [0.1 * 0.5**4, 0.1 * 0.5**3, 0.1 * 0.5**2, 0.1 * 0.5]
    assert [found[f"s{i}.conv.weight"] for i in range(4)] == pytest.approx(expected)
    assert found["fc.weight"] == found["fc.bias"] == 10.0


def test_biases_and_norms_are_not_decayed() -> None:
    """Everything else is."""
    undecayed = {name for group in make().groups if not group.decay for name in group.names}
    assert undecayed == NORMS | {"fc.bias"}


def test_equal_rates_share_a_group() -> None:
    """Without layer decay or multipliers two groups suffice: decayed and not."""
    assert len(make().groups) == 2
    assert len(make(head_lr_multiplier=2.0).groups) == 4


@pytest.mark.parametrize("lp_ft", [False, True])
@pytest.mark.parametrize("epochs", [1, 2, 7])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_groups_hold_exactly_what_is_ever_trained(strategy: str, epochs: int, lp_ft: bool) -> None:
    """Each such parameter stands in one group, and phases change from one to the next."""
    made = make(epochs, strategy=strategy, lp_ft=lp_ft, layer_decay=0.9)
    grouped = [name for group in made.groups for name in group.names]
    assert sorted(grouped) == sorted(set().union(*(p.trainable for p in made.phases)))
    assert made.phases[0].first_epoch == 0
    starts = [phase.first_epoch for phase in made.phases]
    assert starts == sorted(set(starts))
    assert max(starts) < epochs


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_only_from_scratch_starts_without_the_pretrained_weights(strategy: str) -> None:
    """The train room asks the plan whether to load them."""
    assert make(strategy=strategy).pretrained is (strategy != "from-scratch")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_body_without_stages_still_trains_its_head(strategy: str) -> None:
    """Plain features and a head are a legal backbone."""
    made = plan((), HEAD, (), Knobs(strategy=strategy), 3)
    assert [phase.trainable for phase in made.phases] == [frozenset(HEAD)]
