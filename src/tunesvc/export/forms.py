"""The model in forms that need no Python of ours: torch.export's, and ONNX.

Both take normalised images (B, 3, crop, crop) float32 with any B, and give (B, num_outputs)
float32, as the module does. Each is run on real validation images beside torch before it counts.

Why: 2026-11: opset 20 is the default of torch 2.15's exporter; a runtime older than its ONNX 1.15
cannot read it. A file that differs from torch by more than 1e-4, or where outputs are larger than
1 by more than 1e-4 of the largest, is not written: somebody would rely on it. Outputs of a
regression can be house prices, and float32 has 7 digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

OPSET = 20
TOLERANCE = 1e-4  # most that an output may differ by; of the largest output, where above 1
PT2, ONNX = "model.pt2", "model.onnx"
_NEEDED = ("onnx", "onnxscript", "onnxruntime")

Answer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Form:
    """One form of the model.

    Args:
        name: of its file.
        difference: from torch's outputs, the largest absolute one; None: it was not compared.
        images: it was compared on so many, in batches of several sizes.
        opset: of ONNX; None for others.
        why: it was not written; "" where it was.
    """

    name: str
    difference: float | None = None
    images: int = 0
    opset: int | None = None
    why: str = ""

    def __str__(self) -> str:
        """Return it in one line: which file, and how far it is from torch."""
        return f"{self.name}: {self.told}"

    @property
    def told(self) -> str:
        """How far it is from torch, or why it is not there."""
        if self.why:
            return f"not written: {self.why}"
        opset = f"opset {self.opset}, " if self.opset else ""
        return (
            f"{opset}differs from torch by at most {self.difference:.1e} on "
            f"{self.images} validation images"
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def write(folder: Path, module: nn.Module, images: Tensor, *, onnx: bool) -> list[Form]:
    """Write what can be written into a folder, each compared with torch.

    Args:
        module: on the CPU, in evaluation mode.
        images: (N, 3, crop, crop) float32, normalised, N at least 1.
        onnx: also `model.onnx`.
    """
    makers = [_pt2, _onnx] if onnx else [_pt2]
    return [_checked(folder, maker, module, images) for maker in makers]


def missing() -> list[str]:
    """Return the packages that `model.onnx` needs and that are not installed."""
    return [name for name in _NEEDED if find_spec(name) is None]


@dataclass(frozen=True)
class _Maker:
    """How one form is written, and read back."""

    name: str
    write: Callable[[nn.Module, Tensor, Path], None]
    read: Callable[[Path], Answer]
    opset: int | None = None
    needs: Callable[[], list[str]] = list


def _checked(folder: Path, maker: _Maker, module: nn.Module, images: Tensor) -> Form:
    """Write a form and compare it; where it is not as torch, it does not stay."""
    path = folder / maker.name
    if lacking := maker.needs():
        install = "pip install 'tunesvc[onnx]'"
        return Form(maker.name, why=f"{', '.join(lacking)} not installed ({install})")
    try:
        maker.write(module, images[:1].expand(2, -1, -1, -1).contiguous(), path)
        difference, largest = _compared(module, maker.read(path), images)
    except Exception as error:  # a plugin's model can end in any error
        path.unlink(missing_ok=True)
        first = next(iter(str(error).splitlines()), "")
        why = f"it cannot be made of this model ({type(error).__name__}: {first})"
        return Form(maker.name, why=why)
    allowed = TOLERANCE * max(1.0, largest)
    if not (isfinite(difference) and difference <= allowed):
        path.unlink()
        told = f"its outputs differ from torch's by {difference:.1e}; {allowed:.1e} is allowed"
        return Form(maker.name, difference, len(images), maker.opset, told)
    return Form(maker.name, difference, len(images), maker.opset)


@torch.inference_mode()
def _compared(module: nn.Module, answer: Answer, images: Tensor) -> tuple[float, float]:
    """Return the largest difference of any output, and torch's largest output, in magnitude.

    They are found over batches of one image, of two, and more; NaN, where one is.
    """
    found = []
    for some in _batches(images):
        wanted = module(some)
        found.append(torch.stack([(answer(some) - wanted).abs().max(), wanted.abs().max()]))
    difference, largest = torch.stack(found).amax(0).tolist()
    return difference, largest


def _batches(images: Tensor) -> Iterator[Tensor]:
    size, start = 1, 0
    while start < len(images):
        yield images[start : start + size].contiguous()
        start, size = start + size, 2 * size


def _write_pt2(module: nn.Module, example: Tensor, path: Path) -> None:
    shapes = ({0: torch.export.Dim("batch", min=1)},)
    torch.export.save(torch.export.export(module, (example,), dynamic_shapes=shapes), path)


def _read_pt2(path: Path) -> Answer:
    answer: Answer = torch.export.load(path).module()
    return answer


def _write_onnx(module: nn.Module, example: Tensor, path: Path) -> None:
    program = torch.onnx.export(
        module, (example,), dynamo=True, opset_version=OPSET, verbose=False,
        input_names=["images"], output_names=["outputs"], dynamic_shapes=({0: "batch"},),
    )  # fmt: skip
    assert program is not None  # where dynamo makes it
    program.save(path, external_data=False)  # one file; up to 2 GB


def _read_onnx(path: Path) -> Answer:
    from onnxruntime import InferenceSession  # type: ignore[import-untyped]

    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(None, {"images": images.numpy()})[0])


_pt2 = _Maker(PT2, _write_pt2, _read_pt2)
_onnx = _Maker(ONNX, _write_onnx, _read_onnx, OPSET, missing)
