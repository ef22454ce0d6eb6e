"""Where the stages of torchvision's architectures begin and end.

A stage is what the architecture's paper calls one: mostly a run of blocks of the same width. What
stands between the last of them and the new head (a last convolution, a norm, a hidden layer)
belongs to the last stage; only the big hidden layers of VGG and AlexNet are stages of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn
from torchvision import models
from torchvision.models.squeezenet import Fire

from tunesvc.backbones.anatomy import Layout
from tunesvc.errors import UsageError


def layout(module: nn.Module) -> Layout:
    """Return the stages of a torchvision model whose last layer is the head.

    Raises:
        UsageError: an architecture that torchvision had not got when this was written.
    """
    try:
        lay_out = _LAYOUTS[type(module)]
    except KeyError as error:
        raise UsageError(
            f"backbones: the stages of {type(module).__name__} are not known",
            "this torchvision is newer than this tunesvc",
            "choose another backbone, or update tunesvc",
        ) from error
    return lay_out(module)


def _children(module: nn.Module, name: str) -> list[str]:
    return [f"{name}.{child}" for child, _ in module.get_submodule(name).named_children()]


def _cut(parts: Sequence[str], starts: Sequence[int]) -> Layout:
    """Cut a row of modules where the given indices begin a new stage: stem, stage1, stage2, …"""
    ends = [*starts[1:], len(parts)]
    cuts = [parts[start:end] for start, end in zip(starts, ends, strict=True)]
    return [(f"stage{i}" if i else "stem", cut) for i, cut in enumerate(cuts)]


def _ending(stages: Layout, *more: str) -> Layout:
    """Add modules to the last stage."""
    *before, (name, parts) = stages
    return [*before, (name, (*parts, *more))]


def _resnet(_: nn.Module) -> Layout:
    return [("stem", ["conv1", "bn1"]), *((f"layer{i}", [f"layer{i}"]) for i in range(1, 5))]


def _regnet(module: nn.Module) -> Layout:
    return _cut(["stem", *_children(module, "trunk_output")], range(5))


def _densenet(module: nn.Module) -> Layout:
    return _cut(_children(module, "features"), (0, 4, 6, 8, 10))


def _shufflenet(_: nn.Module) -> Layout:
    return _cut(["conv1", "stage2", "stage3", "stage4", "conv5"], range(4))


def _inception(*prefixes: str) -> Callable[[nn.Module], Layout]:
    """GoogLeNet and Inception v3: a stem of convolutions, then three grids of mixed blocks."""

    def lay_out(module: nn.Module) -> Layout:
        children = [name for name, _ in module.named_children()]
        grids = [[child for child in children if child.startswith(p)] for p in prefixes]
        return [(f"stage{i}" if i else "stem", grid) for i, grid in enumerate(grids)]

    return lay_out


def _efficientnet(module: nn.Module) -> Layout:
    features = _children(module, "features")
    return _cut(features, range(len(features) - 1))


def _mobilenet_v2(module: nn.Module) -> Layout:
    return _cut(_children(module, "features"), (0, 1, 2, 4, 7, 11, 14, 17))


def _mobilenet_v3(module: nn.Module) -> Layout:
    features = _children(module, "features")
    large = len(features) == 17
    starts = (0, 1, 2, 4, 7, 11, 13) if large else (0, 1, 2, 4, 7, 9)
    return _ending(_cut(features, starts), *_children(module, "classifier")[:-1])


def _mnasnet(module: nn.Module) -> Layout:
    return _cut(_children(module, "layers"), (0, *range(8, 14)))


def _squeezenet(module: nn.Module) -> Layout:
    features = list(module.get_submodule("features").children())
    fires = [i for i, layer in enumerate(features) if isinstance(layer, Fire)]
    return _cut(_children(module, "features"), [0, *fires])


def _vgg(module: nn.Module) -> Layout:
    features = list(module.get_submodule("features").children())
    pools = [i for i, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d)]
    blocks = _cut(_children(module, "features"), [0, *(i + 1 for i in pools[:-1])])
    return [*blocks, ("fc6", ["classifier.0"]), ("fc7", ["classifier.3"])]


def _alexnet(module: nn.Module) -> Layout:
    convolutions = _cut(_children(module, "features"), (0, 3, 6, 8, 10))
    return [*convolutions, ("fc6", ["classifier.1"]), ("fc7", ["classifier.4"])]


def _convnext(module: nn.Module) -> Layout:
    stages = _cut(_children(module, "features"), (0, 1, 2, 4, 6))
    return _ending(stages, *_children(module, "classifier")[:-1])


def _swin(module: nn.Module) -> Layout:
    return _ending(_cut(_children(module, "features"), (0, 1, 2, 4, 6)), "norm")


def _maxvit(module: nn.Module) -> Layout:
    stages = _cut(["stem", *_children(module, "blocks")], range(5))
    return _ending(stages, *_children(module, "classifier")[:-1])


def _vit(module: nn.Module) -> Layout:
    stem = ("stem", ["class_token", "conv_proj", "encoder.pos_embedding", "encoder.dropout"])
    layers = _children(module, "encoder.layers")
    stages = [stem, *((f"layer{i}", [layer]) for i, layer in enumerate(layers, start=1))]
    return _ending(stages, "encoder.ln", *_children(module, "heads")[:-1])


_LAYOUTS: dict[type[nn.Module], Callable[[nn.Module], Layout]] = {
    models.AlexNet: _alexnet,
    models.ConvNeXt: _convnext,
    models.DenseNet: _densenet,
    models.EfficientNet: _efficientnet,
    models.GoogLeNet: _inception("conv", "inception3", "inception4", "inception5"),
    models.Inception3: _inception("Conv2d", "Mixed_5", "Mixed_6", "Mixed_7"),
    models.MNASNet: _mnasnet,
    models.MaxVit: _maxvit,
    models.MobileNetV2: _mobilenet_v2,
    models.MobileNetV3: _mobilenet_v3,
    models.RegNet: _regnet,
    models.ResNet: _resnet,
    models.ShuffleNetV2: _shufflenet,
    models.SqueezeNet: _squeezenet,
    models.SwinTransformer: _swin,
    models.VGG: _vgg,
    models.VisionTransformer: _vit,
}
