"""How long a model's file is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

Form = Literal["float32", "bfloat16", "int8"]

_FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.float32}


def size_mb(module: nn.Module, form: Form = "float32") -> float | None:
    """Return the length of the state dict's file in MiB; None where a form does not apply.

    `torch.save` writes it, to nowhere: its bytes are counted. Parameters and buffers may be on
    "meta"; files are not compressed, so their length does not hang on the values. Integer buffers
    stay as they are.

    Why: 2026-11: `int8` is what dynamic quantisation keeps: the weights of `nn.Linear` layers in 8
    bits, with a float32 scale for each output, and everything else in float32. It is written here
    as plain tensors: `torch.ao.quantization` is deprecated, and its successor a package of its own.
    A convolution is never quantised dynamically, so of a convolutional net it shrinks the head
    alone, and a net without linear layers has no such form.

    Args:
        form: "float32"; "bfloat16": every floating-point tensor in 16 bits; "int8".
    """
    linear = {f"{n}.weight" for n, part in module.named_modules() if type(part) is nn.Linear}
    if form == "int8" and not linear:
        return None
    eighth = linear if form == "int8" else frozenset()
    written = _Length()
    state = module.state_dict()
    torch.save(dict(_formed(state, _FLOATS[form], eighth)), written)  # type: ignore[arg-type]
    return written.bytes / 2**20


def _formed(
    state: dict[str, Tensor], floats: torch.dtype, eighth: set[str] | frozenset[str]
) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors without values, as they are to be written."""
    for name, tensor in state.items():
        if name in eighth:
            yield name, torch.empty(tensor.shape, dtype=torch.int8)
            yield f"{name}_scale", torch.empty(len(tensor), dtype=torch.float32)
        else:
            kind = floats if tensor.is_floating_point() else tensor.dtype
            yield name, torch.empty(tensor.shape, dtype=kind)


class _Length:
    """A file that keeps nothing but its length."""

    def __init__(self) -> None:
        self.bytes = 0

    def write(self, given: bytes | memoryview) -> int:
        self.bytes += memoryview(given).nbytes
        return memoryview(given).nbytes

    def flush(self) -> None:
        pass
