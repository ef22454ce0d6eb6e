"""torchvision's classification models, with a new head in place of their own.

Why: 2026-11: the head is always `Dropout(p)` and one `Linear`, where the last layer was, and the
dropouts that torchvision puts into its classifiers are turned off: the knob `dropout` stands for
them. So a frozen body gives the same features every time, and its head is the same everywhere.
SqueezeNet's own last layer is a 1×1 convolution with a ReLU and an average pool after it; ours
pools first, which is the same function without the ReLU. That one would keep scores from being
negative, which new classes do not learn well from, and numbers to be predicted cannot bear.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torchvision import models

from tunesvc.errors import SpecError

# Constructor arguments that a study file cannot give, because something else in it does.
_OURS = {"weights", "progress", "num_classes", "aux_logits", "image_size", "input_size"}


def body(
    name: str, kwargs: Mapping[str, Any], *, crop: int, ported: bool, empty: bool
) -> nn.Module:
    """Return a model as torchvision makes it, without its auxiliary heads.

    Args:
        name: as torchvision registers it.
        kwargs: the study file's constructor arguments.
        crop: side of the images in pixels; ViT and MaxVit are built for one size.
        ported: whether torchvision's weights will be loaded: some want another normalisation.
        empty: leave the parameters without memory, to be assigned later.

    Raises:
        SpecError: the model does not take these arguments, or no images of this size.
    """
    for key in sorted(_OURS & set(kwargs)):
        raise SpecError(
            f"backbones: kwargs of {name}: {key} cannot be set here",
            "it follows from the rest of the study file",
            "remove it; for the size of the images set data.image_size",
        )
    arguments = _fixed(name, crop, ported) | dict(kwargs)
    try:
        with parameters_on_meta(empty):
            return models.get_model(name, **arguments)  # type: ignore[no-any-return]
    except Exception as error:  # foreign arguments can end in any error
        shown = ", ".join(f"{key}={value}" for key, value in arguments.items())
        raise SpecError(
            f"backbones: {name} cannot be built with {shown}",
            str(error),
            "correct this backbone's kwargs (ViT: data.image_size must be a multiple of the "
            "patch, MaxVit: of 224)",
        ) from error


def _fixed(name: str, crop: int, ported: bool) -> dict[str, Any]:
    """Return the arguments that follow from the rest of the study file."""
    if name.startswith("vit_"):
        return {"image_size": crop}
    if name.startswith("maxvit"):
        return {"input_size": (crop, crop)}
    if name in ("googlenet", "inception_v3"):
        # Their weights came from TensorFlow; `transform_input` undoes ImageNet's normalisation.
        return {"aux_logits": False, "init_weights": True, "transform_input": ported}
    return {}


def replace_head(module: nn.Module, num_outputs: int, dropout: float) -> str:
    """Put `Dropout` and `Linear` in place of the last layer; return the new head's name."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Dropout) and name.split(".")[0] in ("classifier", "dropout"):
            layer.p = 0.0
    if isinstance(module, models.SqueezeNet):
        new = _head(512, num_outputs, dropout)
        module.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), new)
        return "classifier.2"
    linear = {name: m for name, m in module.named_modules() if isinstance(m, nn.Linear)}
    head: str = list(linear)[-1]
    module.set_submodule(head, _head(linear[head].in_features, num_outputs, dropout))
    return head


def _head(inputs: int, num_outputs: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(inputs, num_outputs))


@contextmanager
def parameters_on_meta(active: bool = True) -> Iterator[None]:
    """Inside, the parameters of new modules have a shape but no memory; buffers are real.

    It saves the random initialisation of what is going to be loaded, most of the time that a
    large model takes. (`torch.device("meta")` would not do: RegNet computes with tensors.)
    """

    def to_meta(_: nn.Module, __: str, given: nn.Parameter | None) -> nn.Parameter | None:
        if given is None:
            return None
        return nn.Parameter(given.detach().to("meta"), requires_grad=given.requires_grad)

    # torch annotates the hook as returning None, and documents that it may return a parameter.
    hook = register_module_parameter_registration_hook(to_meta) if active else None  # type: ignore[arg-type]
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()
