"""Which family a backbone belongs to: search ranges and recipes go by family."""

from __future__ import annotations

# Longest prefix first where one is a prefix of another.
_PREFIXES = (
    ("wide_resnet", "resnet"),
    ("resnext", "resnet"),
    ("tiny_resnet", "resnet"),
    ("resnet", "resnet"),
    ("regnet", "resnet"),
    ("densenet", "resnet"),
    ("googlenet", "resnet"),
    ("inception", "resnet"),
    ("vgg", "vgg"),
    ("alexnet", "vgg"),
    ("squeezenet", "vgg"),
    ("efficientnet", "mobile"),
    ("mobilenet", "mobile"),
    ("tiny_mobilenet", "mobile"),
    ("shufflenet", "mobile"),
    ("mnasnet", "mobile"),
    ("convnext", "convnext"),
    ("swin", "transformer"),
    ("vit", "transformer"),
    ("maxvit", "transformer"),
)

FAMILIES = (*dict.fromkeys(name for _, name in _PREFIXES), "other")


def family(backbone: str) -> str:
    """Return `resnet`, `vgg`, `mobile`, `convnext`, `transformer`, or `other`."""
    for prefix, name in _PREFIXES:
        if backbone.startswith(prefix):
            return name
    return "other"
