"""Cost: parameters, operations and the memory of a training step."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from tunesvc import cost
from tunesvc.backbones import Backbone, InputTransform, Stage, skeleton
from tunesvc.cost import counting, memory, meta
from tunesvc.spec import BackboneSpec

MIB = 2**20
TRANSFORM = InputTransform(8, 8, (0.0,) * 3, (1.0,) * 3, "bilinear")


def toy(*layers: nn.Module) -> Backbone:
    return Backbone(nn.Sequential(*layers), (), Stage("head", (), ()), frozenset(), TRANSFORM, "")


def test_parameters_are_counted_whole_and_trainable() -> None:
    """A frozen layer counts among all, not among the trainable."""
    module = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    module[0].requires_grad_(False)
    assert cost.parameters(module) == 20 + 12
    assert cost.trainable(module) == 12


def test_the_estimate_adds_up_by_hand() -> None:
    """One layer: 4 floats per parameter, the images, and nothing but the images to keep."""
    backbone = toy(nn.Flatten(), nn.Linear(192, 10))
    floats = 4 * 1930 + 32 * 192 + 32 * 192  # states, images, images kept as the layer's input
    assert cost.memory_estimate_mb(backbone, 32) == pytest.approx(floats * 4 / MIB)


def test_a_storage_that_two_layers_keep_counts_once() -> None:
    """ReLU's output is the next layer's input: autograd keeps it for both, memory holds it once."""
    backbone = toy(nn.Flatten(), nn.Linear(192, 100), nn.ReLU(), nn.Linear(100, 10))
    floats = 4 * (19300 + 1010) + 32 * (192 + 192 + 100)
    assert cost.memory_estimate_mb(backbone, 32) == pytest.approx(floats * 4 / MIB)


def test_a_frozen_body_keeps_no_activations() -> None:
    """Neither gradients nor moments, and the first kept tensor is the head's input."""
    backbone = toy(nn.Flatten(), nn.Linear(192, 100), nn.ReLU(), nn.Linear(100, 10))
    backbone.module[1].requires_grad_(False)
    floats = (19300 + 1010) + 3 * 1010 + 32 * (192 + 100)
    assert cost.memory_estimate_mb(backbone, 32) == pytest.approx(floats * 4 / MIB)


def test_half_precision_halves_the_activations_only() -> None:
    """Parameters, their optimizer states and the images stay in 32 bits."""
    backbone = toy(nn.Flatten(), nn.Linear(192, 10))
    floats = 4 * 1930 + 32 * 192 + 32 * 192 / 2
    assert cost.memory_estimate_mb(backbone, 32, 2) == pytest.approx(floats * 4 / MIB)


def test_estimating_changes_nothing() -> None:
    """Batch-norm statistics and the random state are as before."""
    backbone = toy(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
    before, state = torch.random.get_rng_state(), backbone.module[1].state_dict()
    kept = {name: value.clone() for name, value in state.items()}
    cost.memory_estimate_mb(backbone, 2)
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(kept[name], value) for name, value in state.items())


def test_a_large_model_is_estimated_without_its_memory() -> None:
    """ViT-H/14 would take 2.5 GB to build; its skeleton takes none."""
    spec = BackboneSpec(name="vit_h_14", weights="none")
    backbone = skeleton(spec, 10, base=Path(), image_size=224)
    assert cost.memory_estimate_mb(backbone, 8) > 632e6 * 4 * 4 / MIB


@pytest.mark.parametrize(
    ("name", "multiply_adds"),
    [
        ("resnet18", 1.82e9),  # He et al. 2016, "Deep Residual Learning", table 1: 1.8e9
        ("mobilenet_v2", 0.301e9),  # Sandler et al. 2018, "MobileNetV2", table 4: 300M
    ],
)
def test_operations_are_those_of_the_papers(name: str, multiply_adds: float) -> None:
    """Of one image, two for each multiply-add; from shapes alone."""
    backbone = skeleton(BackboneSpec(name=name, weights="none"), 1000, base=Path(), image_size=224)
    assert cost.gflops(backbone) == pytest.approx(2 * multiply_adds / 1e9, rel=0.01)


@pytest.mark.parametrize(
    "name",
    [
        *("alexnet", "vgg11", "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small"),
        *("efficientnet_b0", "densenet121", "regnet_y_400mf", "convnext_tiny", "swin_t"),
        "vit_b_16",
    ],
)
def test_counts_and_sizes_are_the_published_ones(name: str) -> None:
    """What torchvision says of its weights: parameters, 1e9 multiply-adds, MiB of the file."""
    weights = models.get_model_weights(name).IMAGENET1K_V1
    spec = BackboneSpec(name=name, weights="IMAGENET1K_V1")
    backbone = skeleton(spec, 1000, base=Path())
    assert cost.parameters(backbone.module) == weights.meta["num_params"]
    assert cost.gflops(backbone) == pytest.approx(2 * weights.meta["_ops"], rel=0.01)
    assert cost.size_mb(backbone.module) == pytest.approx(weights.meta["_file_size"], rel=0.01)


def test_a_file_is_as_long_as_torch_writes_it(tmp_path: Path) -> None:
    """In float32 to the byte, on whichever device the model is."""
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(800, 10))
    torch.save(dict(module.state_dict()), tmp_path / "weights.pth")
    length = (tmp_path / "weights.pth").stat().st_size
    here = cost.size_mb(module)
    assert here == pytest.approx(length / MIB, abs=256 / MIB)  # the file's name is in it
    assert here == cost.size_mb(module.to("meta"))


def test_smaller_forms_are_reckoned_by_hand() -> None:
    """bfloat16 halves every number; int8 quarters the weights of linear layers, and needs some."""
    linear = nn.Sequential(nn.Linear(1000, 500), nn.Conv2d(3, 100, 10))
    weights, others = 500_000, 500 + 30_000 + 100
    assert cost.size_mb(linear) == pytest.approx(4 * (weights + others) / MIB, rel=0.01)
    assert cost.size_mb(linear, "bfloat16") == pytest.approx(2 * (weights + others) / MIB, rel=0.01)
    eighth = weights + 4 * (others + 500)  # and a scale for each output
    assert cost.size_mb(linear, "int8") == pytest.approx(eighth / MIB, rel=0.01)
    assert cost.size_mb(nn.Conv2d(3, 4, 1), "int8") is None


def test_the_memory_of_inference_adds_up_by_hand() -> None:
    """Weights, the images, and the two neighbouring activations that live at once."""
    backbone = toy(nn.Flatten(), nn.Linear(192, 1000), nn.ReLU(), nn.Linear(1000, 10))
    weights = 193 * 1000 + 1001 * 10
    assert cost.inference_memory_mb(backbone) == pytest.approx((weights + 192 + 2000) * 4 / MIB)
    eight = weights + 8 * (192 + 2000)
    assert cost.inference_memory_mb(backbone, 8) == pytest.approx(eight * 4 / MIB)


def test_work_in_place_takes_no_more_memory() -> None:
    """A view or an activation in place lies where its input lay; a skip holds its input longer."""
    backbone = toy(nn.Flatten(), nn.Linear(192, 1000), nn.ReLU(inplace=True), nn.Linear(1000, 10))
    weights = 193 * 1000 + 1001 * 10
    assert cost.inference_memory_mb(backbone) == pytest.approx((weights + 192 + 1010) * 4 / MIB)
    skip = toy(nn.Flatten(), nn.Linear(192, 1000), Skip(1000))
    weights = 193 * 1000 + 1001 * 1000
    assert cost.inference_memory_mb(skip) == pytest.approx((weights + 192 + 3000) * 4 / MIB)


class Skip(nn.Linear):
    """A linear layer around which its input is passed on."""

    def __init__(self, size: int) -> None:
        super().__init__(size, size)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return given + super().forward(given)


def test_counting_changes_nothing() -> None:
    """Each part goes on behaving as before, in training or not; statistics stay."""
    backbone = toy(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten())
    backbone.module.train()
    backbone.module[1].eval()
    assert cost.gflops(backbone) == pytest.approx(2 * 27 * 4 * 36 / 1e9)
    assert [part.training for part in backbone.module] == [True, False, True, True]
    assert int(backbone.module[1].num_batches_tracked) == 0


def test_the_memory_of_a_step_grows_with_its_images() -> None:
    """What is trained is said by name; a few images tell for any number of them."""
    backbone = toy(nn.Flatten(), nn.Linear(192, 100), nn.ReLU(), nn.Linear(100, 10))
    head = frozenset({"3.weight", "3.bias"})
    floats = (19300 + 1010) + 3 * 1010 + 32 * (192 + 100)
    assert cost.step_memory(backbone, head).mb(32) == pytest.approx(floats * 4 / MIB)
    assert cost.memory_estimate_mb(backbone, 32) > cost.step_memory(backbone, head).mb(32)


@pytest.mark.parametrize("name", ["mobilenet_v2", "resnet18", "inception_v3"])
def test_shapes_told_in_short_are_those_that_torch_works_out(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch-norm and ReLU6 are answered at once: operations and a step's memory stay the same."""
    backbone = skeleton(BackboneSpec(name=name, weights="none"), 10, base=Path())
    some = [key for key, _ in backbone.module.named_parameters()][40:]

    def reckoned() -> tuple[object, ...]:
        backbone.module.train()
        return cost.gflops(backbone), cost.step_memory(backbone), cost.step_memory(backbone, some)

    short = reckoned()
    monkeypatch.setattr(meta, "_Shapes", nullcontext)
    assert short == reckoned()


def test_a_normalised_batch_keeps_on_meta_what_it_keeps_in_memory() -> None:
    """Also in evaluation, where batch-norm takes no statistics of the batch."""
    normed = toy(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU6(inplace=True))
    for is_training in (True, False):
        normed.module.train(is_training)
        kept: dict[int, int] = {}

        def note(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            own = tensor.untyped_storage()
            kept[own.data_ptr()] = own.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            held = normed.module(torch.rand(2, 3, 8, 8))
        for state in normed.module.state_dict(keep_vars=True).values():
            kept.pop(state.untyped_storage().data_ptr(), None)
        assert cost.step_memory(normed).kept * 2 * 4 == sum(kept.values())
        del held


class Foreign(nn.Linear):
    """A plugin's layer that looks at its numbers."""

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        return super().forward(given) * float(given.sum())


def test_a_ledger_reckons_once_and_survives_any_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """One key is one architecture; a model that does not run without memory has no known cost."""
    ledger, backbone = cost.Ledger(), toy(nn.Flatten(), nn.Linear(192, 10))
    first = ledger.gflops("linear", backbone)
    step = ledger.step_memory("linear", backbone, frozenset({"1.weight"}))
    foreign = toy(nn.Flatten(), Foreign(192, 10))
    assert ledger.gflops("foreign", foreign) is None
    assert ledger.step_memory("foreign", foreign, frozenset()) is None
    monkeypatch.setattr(counting, "passed", None)
    monkeypatch.setattr(memory, "passed", None)
    assert ledger.gflops("linear", backbone) == first == pytest.approx(2 * 1920 / 1e9)
    assert ledger.step_memory("linear", backbone, frozenset({"1.weight"})) is step
    assert ledger.step_memory("linear", backbone, frozenset()) is None
