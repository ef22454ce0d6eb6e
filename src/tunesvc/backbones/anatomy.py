"""What a backbone is made of: stages from input to output, a new head, an input transform."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from tunesvc.errors import UsageError

# (stage name, names of its modules or of its bare parameters), from input to output.
Layout = Sequence[tuple[str, Sequence[str]]]

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@dataclass(frozen=True)
class InputTransform:
    """How an image becomes what the pretrained weights expect.

    The shorter side is resized to `resize` pixels, the centre `crop`×`crop` pixels are kept, and
    values in [0, 1] are normalised per RGB channel: (x - mean) / std.
    """

    resize: int
    crop: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str


@dataclass(frozen=True)
class Stage:
    """A run of layers that is frozen or trained as one.

    Args:
        name: as the architecture's paper or code calls it.
        parameters: full names.
        modules: full names; their `.eval()` freezes the stage's batch-norm statistics and turns
            its dropouts and stochastic depth off.
    """

    name: str
    parameters: tuple[str, ...]
    modules: tuple[str, ...]


@dataclass(frozen=True)
class Backbone:
    """A body with a new head.

    Args:
        module: (B, 3, crop, crop) float, normalised as `transform` says → (B, num_outputs) float.
        stages: from input to output; every parameter outside the head is in exactly one.
        head: the new head only.
        norm_parameters: names of the parameters of normalisation layers.
        transform: what the images must go through first.
        weights_sha256: of the file that the weights came from; "" for a random start.
    """

    module: nn.Module
    stages: tuple[Stage, ...]
    head: Stage
    norm_parameters: frozenset[str]
    transform: InputTransform
    weights_sha256: str

    @cached_property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The module's parameters by name, looked up once.

        Why: 2026-11: to walk through MobileNetV2's modules takes a millisecond or two, and a trial
        on a warm model did it a dozen times.
        """
        return dict(self.module.named_parameters())

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Return what the module's state_dict holds now, no copies."""
        now = ((name, among[key]) for name, (among, key) in self._places.items())
        return {name: tensor for name, tensor in now if tensor is not None}

    @cached_property
    def _places(self) -> dict[str, tuple[Mapping[str, Tensor | None], str]]:
        """Where each tensor of the state_dict hangs: moving a module, or its forward pass, may put
        another there.
        """
        return {
            f"{prefix}.{key}" if prefix else key: (among, key)
            for prefix, module in self.module.named_modules(remove_duplicate=False)
            for among in (module._parameters, module._buffers)
            for key in among
            if key not in module._non_persistent_buffers_set
        }

    @cached_property
    def buffers(self) -> tuple[str, ...]:
        """The names of the module's buffers, looked up once."""
        return tuple(name for name, _ in self.module.named_buffers())

    @cached_property
    def size(self) -> int:
        """Number of parameters, the head's included; counted once."""
        return sum(parameter.numel() for parameter in self.parameters.values())


def dissect(module: nn.Module, layout: Layout, head: str) -> tuple[tuple[Stage, ...], Stage]:
    """Return the stages that a layout describes, and the head.

    Raises:
        UsageError: a parameter is in no stage, or in two.
    """
    stages = tuple(_stage(module, name, parts) for name, parts in layout)
    head_stage = _stage(module, "head", (head,))
    placed = [name for stage in (*stages, head_stage) for name in stage.parameters]
    lost = {name for name, _ in module.named_parameters()}.symmetric_difference(placed)
    twice = {name for name in placed if placed.count(name) > 1} if not lost else set()
    if lost or twice:
        raise UsageError(
            f"the stages of {type(module).__name__} do not fit its parameters",
            f"{min(lost or twice)} is in {'no stage' if lost else 'two stages'}",
            "name each child module in one stage, from input to output, and the head in none",
        )
    return stages, head_stage


def _stage(module: nn.Module, name: str, parts: Sequence[str]) -> Stage:
    prefixes = tuple(f"{part}." for part in parts)
    parameters = tuple(
        key for key, _ in module.named_parameters() if key in parts or key.startswith(prefixes)
    )
    modules = dict(module.named_modules())
    return Stage(name, parameters, tuple(part for part in parts if part in modules))


def norm_parameters(module: nn.Module) -> frozenset[str]:
    """Return the names of the parameters of normalisation layers."""
    return frozenset(
        f"{name}.{key}"
        for name, layer in module.named_modules()
        if isinstance(layer, _NORMS)
        for key, _ in layer.named_parameters(recurse=False)
    )
