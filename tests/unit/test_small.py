"""The project's own backbones: small, staged, quick."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tunesvc import plugins

NAMES = ("tiny_resnet", "tiny_mobilenet", "two_conv_cnn")
SHIPPED = ("tiny_resnet", "tiny_mobilenet")


def multiply_adds(module: nn.Module, size: int) -> int:
    """Count those of convolutions and linear layers for one image."""
    counts: list[int] = []

    def count(layer: Any, _inputs: Any, output: torch.Tensor) -> None:
        counts.append(output[0].numel() * layer.weight[0].numel())

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    module.eval()(torch.zeros(1, 3, size, size))
    return sum(counts)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small(name: str) -> None:
    """Under a million parameters and twelve million multiply-adds per image."""
    module = plugins.load("backbone", name)(10, dropout=0.1)
    assert sum(parameter.numel() for parameter in module.parameters()) < 1_000_000
    assert multiply_adds(module, module.default_transform["crop"]) < 12_000_000


@pytest.mark.parametrize("name", NAMES)
def test_stages_and_head_cover_it(name: str) -> None:
    """Every parameter is in exactly one stage or the head, in the order of the forward pass."""
    module = plugins.load("backbone", name)(7, dropout=0.2)
    children = [child for _, names in module.stages for child in names] + [module.head_name]
    assert children == [child for child, _ in module.named_children()]
    head = module.get_submodule(module.head_name)
    assert [m.p for m in head.modules() if isinstance(m, nn.Dropout)] == [0.2]
    assert module.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [28, 32, 64])
def test_other_image_sizes_pass(name: str, size: int) -> None:
    """`data.image_size` may ask for another size than the weights were trained at."""
    module = plugins.load("backbone", name)(3, dropout=0.0)
    assert module.eval()(torch.rand(2, 3, size, size)).shape == (2, 3)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_fit_and_tell_their_origin(name: str) -> None:
    """The weights load strictly, are finite, and are those that meta.json vouches for."""
    (folder,) = map(Path, plugins.load("backbone", name).weights.values())
    meta = json.loads((folder / "meta.json").read_text())
    module = plugins.load("backbone", name)(len(meta["classes"]), dropout=0.0)
    state = load_file(folder / "weights.safetensors")
    module.load_state_dict(state)
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    stored = (folder / "weights.safetensors").read_bytes()
    assert sha256(stored).hexdigest() == meta["weights_sha256"]
    assert meta["command"].startswith("tunesvc pretrain studies/pretrain/")
    expected = module.default_transform
    assert meta["transform"] == json.loads(json.dumps(expected))


def test_shipped_weights_are_light() -> None:
    """All of them together take at most 3 MB of the package."""
    folders = [Path(f) for n in SHIPPED for f in plugins.load("backbone", n).weights.values()]
    sizes = [file.stat().st_size for folder in folders for file in folder.iterdir()]
    assert sum(sizes) <= 3_000_000
