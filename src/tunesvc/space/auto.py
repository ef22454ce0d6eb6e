"""The ready search space (`search_space: auto`) and the untuned recipes, per backbone family.

`lr` is the base rate: the body trains at lr × body_lr_multiplier, the head at lr ×
head_lr_multiplier. Convolutional families state it for the head and slow the body down;
ConvNeXt and transformers state it for the body's last stage and speed the head up.

Why: 2026-11: ResNets may choose AdamW beside the SGD of the literature, because a few epochs on a
few hundred images are too few steps for SGD, and because the recipe below must lie inside the
space. Label smoothing, mixup and cutmix are not searched: they pay off at budgets where a ready
space is no longer what one wants, and ten active parameters are as many as 30 trials can bear.

Source:
    SGD 1e-3…1e-1 and body multipliers: BiT-HyperRule (arXiv 1912.11370), TLLib's fine-tuning
    baseline (.01 head, .001 body), Kornblith et al. (arXiv 1805.08974).
    AdamW 1e-4…3e-3, weight decay, freeze fractions: Quick-Tune-Tool `define_search_space.py`.
    ConvNeXt and its layer decay: facebookresearch/ConvNeXt TRAINING.md.
    ViT, Swin: arXiv 2211.09359; layer decay as in MAE's FINETUNE.md.
    Bias and norm only: BitFit (arXiv 2106.10199). LP-FT: arXiv 2202.10054.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunesvc.spec import BackboneSpec, Choices, Fixed, FloatRange, Range, Scalar, StudySpec
from tunesvc.spec.families import family

_CONVOLUTIONAL = ("resnet", "mobile", "vgg", "other")
_SCRATCH, _HEAD, _BIAS_NORM = "from-scratch", "linear-probe", "bias-norm-only"
_DEEP = ["freeze-fraction", "full", "gradual-unfreeze"]  # reach more than the last stage
_BODY = ["last-stage", *_DEEP]
_TUNING = [_HEAD, *_BODY, _BIAS_NORM]

# A flipped digit is another digit: our own small backbones are made for such images.
_UNFLIPPED = ("tiny_", "two_conv_cnn")

Variants = tuple[Range, ...]


def recipe(backbone: BackboneSpec, strategy: str | None = None) -> dict[str, Scalar]:
    """Return what a careful person would run untuned with a few hundred images and 5–10 epochs.

    Args:
        backbone: decides by its family, and by whether it has weights at all.
        strategy: the trial's own; None: the one that the recipe itself would choose.

    Source:
        AdamW with 1e-4 on the body and 1e-3 on the head trains every family without tuning, where
        plain SGD at 1e-2 drops MobileNetV2 to chance; weight decay as in the families' own recipes.
    """
    strategy = strategy or (_SCRATCH if backbone.weights == "none" else "full")
    unflipped = backbone.name.startswith(_UNFLIPPED)
    plain: dict[str, Scalar] = {
        "strategy": strategy,
        "optimizer": "adamw",
        "lr": 1e-3,
        "weight_decay": 1e-4,
        "batch_size": 32,
        "schedule": "cosine",
        "warmup": 0.1,
        "augmentation": "none" if unflipped else "flip-crop",
    }
    if strategy == _SCRATCH:
        return plain | {"weight_decay": 1e-2}
    if strategy in (_HEAD, _BIAS_NORM):
        return plain
    if family(backbone.name) in _CONVOLUTIONAL:
        return plain | {"body_lr_multiplier": 0.1}
    decayed = {"lr": 1e-4, "head_lr_multiplier": 10.0, "weight_decay": 1e-2, "layer_decay": 0.8}
    return plain | decayed


def space_for(spec: StudySpec) -> dict[str, Variants]:
    """Return the ready space for the study's backbones, as a study file would spell it out."""
    pretrained = [b for b in spec.backbones if b.weights != "none"]
    families = [f for f in _FAMILIES if f in {family(b.name) for b in pretrained}]
    scratch = tuple(
        label for label in spec.backbone_labels if spec.backbone(label).weights == "none"
    )
    space = {"strategy": _strategies(scratch, bool(pretrained))}
    space |= _rates(families, bool(scratch))
    if pretrained:
        space |= _tuning(families)
    space["batch_size"] = (Choices(choices=[32, 64, 128]),)
    space["augmentation"] = (Choices(choices=["none", "flip-crop", "trivial-augment"]),)
    return {knob: variants for knob, variants in space.items() if variants}


_FAMILIES = (*_CONVOLUTIONAL, "convnext", "transformer")


def _strategies(scratch: Sequence[str], pretrained: bool) -> Variants:
    if not pretrained:
        return (Fixed(value=_SCRATCH),)
    every = Choices(choices=list(_TUNING))
    if not scratch:
        return (every,)
    return (Fixed(value=_SCRATCH, when={"backbone": list(scratch)}), every)


def _rates(families: Sequence[str], scratch: bool) -> dict[str, Variants]:
    """Return optimizer, rate and weight decay: the first variant that holds counts."""
    lr: list[Range] = []
    decay: list[Range] = []

    def add(
        label: str, rates: tuple[float, float], decays: tuple[float, float], **when: Any
    ) -> None:
        lr.append(_log(label, rates, when))
        decay.append(_log(label, decays, when))

    if scratch:
        add("scratch", (1e-4, 1e-2), (1e-4, 1e-1), strategy=_SCRATCH)
    if families:
        add("head", (1e-4, 1e-1), (1e-6, 1e-1), strategy=_HEAD)
        add("bias-norm", (1e-4, 1e-2), (1e-6, 1e-1), strategy=_BIAS_NORM)
    if "resnet" in families:
        add("sgd", (1e-3, 1e-1), (1e-6, 1e-3), optimizer="sgd")
    if convolutional := [f for f in families if f in _CONVOLUTIONAL]:
        add("adamw", (1e-4, 3e-3), (1e-6, 1e-2), family=convolutional)
    if "convnext" in families:
        add("convnext", (1e-5, 5e-4), (1e-8, 5e-2), family="convnext")
    if "transformer" in families:
        add("transformer", (5e-6, 3e-4), (1e-4, 1e-1), family="transformer")
    return {"optimizer": _optimizers(families)} | {"lr": tuple(lr), "weight_decay": tuple(decay)}


def _optimizers(families: Sequence[str]) -> Variants:
    adamw = Fixed(value="adamw")
    if "resnet" not in families:
        return (adamw,)
    when = {"family": "resnet", "strategy": list(_BODY)}
    return (Choices(choices=["sgd", "adamw"], when=when), adamw)


def _log(label: str, ends: tuple[float, float], when: dict[str, Any]) -> FloatRange:
    return FloatRange(low=ends[0], high=ends[1], log=True, label=label, when=when)


def _tuning(families: Sequence[str]) -> dict[str, Variants]:
    """Return the knobs that act on pretrained weights only, each where it acts."""
    normalised = [f for f in families if f in ("resnet", "mobile")]
    slowed = [f for f in families if f in _CONVOLUTIONAL]
    decayed = [f for f in families if f not in _CONVOLUTIONAL]
    sgd = {"optimizer": "sgd"} if "resnet" in families else None
    body, deep = {"strategy": list(_BODY)}, {"strategy": list(_DEEP)}
    depths = {"convnext": (0.7, 0.9), "transformer": (0.65, 1.0)}
    quarters = FloatRange(low=0.25, high=0.75, step=0.25, when={"strategy": "freeze-fraction"})
    head_only = Fixed(value=1.0, when={"strategy": _HEAD})
    return {
        "freeze_fraction": (quarters,),
        "lp_ft": (Choices(choices=[False, True], when={"strategy": "full"}),),
        "momentum": (Fixed(value=0.9, when=sgd),) if sgd else (),
        "nesterov": (Fixed(value=True, when=sgd),) if sgd else (),
        "frozen_bn": _choices([False, True], normalised, body),
        "body_lr_multiplier": _choices([0.1, 0.3, 1.0], slowed, body),
        "head_lr_multiplier": (head_only, *_choices([1.0, 10.0], decayed, body)),
        "layer_decay": tuple(
            FloatRange(low=low, high=high, label=name, when={"family": name, **deep})
            for name, (low, high) in depths.items()
            if name in families
        ),
    }


def _choices(choices: list[Scalar], families: list[str], when: dict[str, Any]) -> Variants:
    return (Choices(choices=choices, when={"family": families, **when}),) if families else ()
