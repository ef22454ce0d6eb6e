"""Cutting backbones that come from elsewhere; the contract tests cut ours and torchvision's."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tunesvc.backbones import Backbone, InputTransform
from tunesvc.backbones.anatomy import dissect, norm_parameters
from tunesvc.backbones.cut import cut, share

SIDE = 8
LAYOUT = [("one", ["one"]), ("two", ["two"])]


class Plain(nn.Module):
    """Two convolutions, and a head on what is left; variants override how they are tied."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.head = nn.Sequential(nn.Linear(4, 2))

    def between(self, x: Tensor) -> Tensor:
        """(B, 4, 6, 6) → the same."""
        return x.relu()

    def before_head(self, x: Tensor) -> Tensor:
        """(B, 4, 4, 4) → (B, 4)."""
        return x.mean([2, 3])

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 2)."""
        x = self.two(self.between(self.one(images)))
        outputs: Tensor = self.head(self.before_head(x))
        return outputs


def backbone(module: nn.Module, layout: Sequence[tuple[str, Sequence[str]]] = LAYOUT) -> Backbone:
    transform = InputTransform(SIDE, SIDE, (0.5,) * 3, (0.5,) * 3, "bilinear")
    parts = dissect(module, layout, "head")
    return Backbone(module, *parts, norm_parameters(module), transform, "")


def images() -> Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def assert_fits(given: Backbone, frozen: int) -> Tensor:
    """The halves do what the whole does; returns the features."""
    halves = cut(given, frozen)
    assert halves is not None
    with torch.no_grad():
        whole = given.module.eval()(images())
        features: Tensor = halves.prefix(images())
        torch.testing.assert_close(halves.rest(features.clone()), whole)
    return features


def test_nothing_frozen_is_not_cut() -> None:
    """There is no prefix, and all of the work is the rest's."""
    given = backbone(Plain())
    assert cut(given, 0) is None
    assert share(given, 0) == 1


def test_what_has_no_parameters_goes_with_the_stage_before_it() -> None:
    """The ReLU behind the first stage, and the mean behind the last."""
    given = backbone(Plain())
    assert assert_fits(given, 1).min() == 0
    assert assert_fits(given, 2).shape == (2, 4)


def test_the_share_counts_multiplications() -> None:
    """Of 8·8 images: 4·3·9 a place on 36 places, then 4·4·9 on 16, then 4·2 once."""
    first, second, head = 36 * 4 * 3 * 9, 16 * 4 * 4 * 9, 4 * 2
    total = first + second + head
    given = backbone(Plain())
    assert share(given, 1) == pytest.approx((second + head) / total)
    assert share(given, 2) == pytest.approx(head / total)


def test_modes_are_left_as_they_were() -> None:
    """Whoever cuts in the middle of training finds every module as it was."""
    module = Plain().train()
    module.one.eval()
    for frozen in 1, 2:
        assert cut(backbone(module), frozen) is not None
        assert share(backbone(module), frozen) < 1
    assert [part.training for part in (module, module.one, module.two)] == [True, False, True]


class Branching(Plain):
    """What lies between the stages hangs on the numbers, so it cannot be traced."""

    def between(self, x: Tensor) -> Tensor:
        """Return x, negated where its sum is negative."""
        return x if x.sum() > 0 else -x


def test_where_tracing_fails_the_head_can_still_be_cut_off() -> None:
    """Between two stages there is no cut then."""
    given = backbone(Branching())
    assert cut(given, 1) is None
    assert share(given, 1) == 1
    assert assert_fits(given, 2).shape == (2, 4)
    assert share(given, 2) < 0.01
    halves = cut(given, 2)
    assert halves is not None
    assert [key for key, _ in halves.rest.named_parameters()] == ["head.0.weight", "head.0.bias"]


class Skipping(Plain):
    """The images pass by the first stage."""

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 2)."""
        x = self.two(self.one(images)) + images[:, :1, 2:-2, 2:-2]
        outputs: Tensor = self.head(x.mean([2, 3]))
        return outputs


def test_two_tensors_are_not_cut_through() -> None:
    """One of features and one of images would be needed behind the first stage."""
    given = backbone(Skipping())
    assert cut(given, 1) is None
    assert_fits(given, 2)


class FunctionalDropout(Plain):
    """Drops between its stages, in training only."""

    def between(self, x: Tensor) -> Tensor:
        """Return x, half of it zero."""
        return F.dropout(x, 0.5, self.training)


class Shaking(Plain):
    """Noise before the head, in evaluation too."""

    def before_head(self, x: Tensor) -> Tensor:
        """Return the mean and noise, (B, 4)."""
        return x.mean([2, 3]) + torch.rand_like(x[:, :, 0, 0])


class Constant(Plain):
    """Noise that tracing would take for a constant."""

    def before_head(self, x: Tensor) -> Tensor:
        """Return the mean and noise, (B, 4)."""
        return x.mean([2, 3]) + torch.rand(4)


class TwoHeads(Plain):
    """Its head is used twice."""

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 2)."""
        assert images.sum() < 1e9  # which cannot be traced
        x = self.two(self.one(images)).mean([2, 3])
        outputs: Tensor = self.head(x) + self.head(-x)
        return outputs


@pytest.mark.parametrize("kind", [FunctionalDropout, Shaking, Constant, TwoHeads])
def test_what_cannot_be_kept_is_not_cut(kind: type[Plain]) -> None:
    """Chance in what would be computed once, and a head that is more than the end."""
    assert cut(backbone(kind()), 2) is None


class DropoutModule(Plain):
    """A dropout in no stage, before the head."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def before_head(self, x: Tensor) -> Tensor:
        """Return (B, 4), half of it zero in training."""
        return self.dropout(x.mean([2, 3]))


class UntraceableDropout(DropoutModule):
    """The same, behind what cannot be traced."""

    def between(self, x: Tensor) -> Tensor:
        """Return x."""
        return x if x.sum() > 0 else x.clone()


def test_a_dropout_of_no_stage_falls_to_the_rest() -> None:
    """It draws anew in every step, as it does in the whole; where that is not known, no cut."""
    given = backbone(DropoutModule())
    features = assert_fits(given, 2)
    halves = cut(given, 2)
    assert halves is not None
    given.module.train()
    assert torch.equal(halves.prefix(images()), features)
    assert not torch.equal(halves.rest(features), halves.rest(features))
    assert cut(backbone(UntraceableDropout()), 2) is None


class UntraceableNorm(Branching):
    """A norm in no stage, before the head, behind what cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4, affine=False)

    def before_head(self, x: Tensor) -> Tensor:
        """Return (B, 4)."""
        return super().before_head(self.norm(x))


def test_trying_a_cut_changes_no_statistics() -> None:
    """A norm in no stage learns from every batch in training, so it cannot be kept, nor tried."""
    module = UntraceableNorm()
    assert cut(backbone(module), 2) is None
    assert module.norm.num_batches_tracked == 0


class OwnParameter(Plain):
    """A bare parameter is a stage's, as a class token is."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 3.0))

    def between(self, x: Tensor) -> Tensor:
        """Return x, scaled."""
        return x * self.scale


@pytest.mark.parametrize("stage", [0, 1])
def test_a_bare_parameter_is_on_the_side_of_its_stage(stage: int) -> None:
    """It is the same tensor, so what the optimizer does to it is seen."""
    layout = [list(row) for row in LAYOUT]
    layout[stage] = [LAYOUT[stage][0], [*LAYOUT[stage][1], "scale"]]
    module = OwnParameter()
    given = backbone(module, layout)
    assert_fits(given, 1)
    halves = cut(given, 1)
    assert halves is not None
    half = halves.rest if stage else halves.prefix
    assert half.get_parameter("scale") is module.scale


class Raising(Plain):
    """A backbone that does not work, and cannot be traced either."""

    def before_head(self, x: Tensor) -> Tensor:
        """Raise."""
        raise ArithmeticError(f"{x.sum()}")


def test_a_broken_backbone_is_not_cuts_business() -> None:
    """It is not cut; training will tell what is wrong with it."""
    assert cut(backbone(Raising()), 2) is None
