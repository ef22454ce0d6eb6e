"""TrivialAugment's operations on batches, each image with its own magnitude.

Legend: images are (B, 3, C, C) uint8, strengths (B, 1, 1, 1) float32 on the same device: the
magnitudes that were drawn. What comes out is what `torchvision.transforms.v2.functional` makes of
one image at a time.

Why: 2026-11: torchvision's own TrivialAugmentWide draws once for a whole batch. Its formulas with a
magnitude for each image give the same bytes on the CPU, but for 0.04 % of the pixels of a shear,
whose place lies half-way between two others. kornia would be one more dependency for that.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample
from torchvision.transforms.v2 import functional

from tunesvc.data.augment.draws import OPERATIONS
from tunesvc.data.sending import sent

_SHEAR_X, _SHEAR_Y, _TRANSLATE_X, _TRANSLATE_Y, _ROTATE = range(1, 6)  # places in OPERATIONS


def operated(operations: Tensor, magnitudes: Tensor, images: Tensor) -> Tensor:
    """Return the images, each after its own operation.

    Args:
        operations: (B,) int64 on the CPU, places in `OPERATIONS`.
        magnitudes: (B,) float32 on the CPU.
        images: (B, 3, C, C) uint8 on any device.
    """
    if not operations.any():
        return images
    order = operations.argsort(stable=True)  # images of one operation become neighbours
    counts = torch.bincount(operations, minlength=len(OPERATIONS)).tolist()
    ends = [0, *accumulate(counts)]
    places, magnitudes = sent(order, images.device), magnitudes[order]
    made = images[places]
    moved = slice(ends[_SHEAR_X], ends[_ROTATE + 1])
    if moved.start < moved.stop:
        matrices = _matrices(operations[order][moved], magnitudes[moved], images.shape[-1])
        made[moved] = _warped(made[moved], sent(matrices, images.device))
    strengths = sent(magnitudes, images.device).view(-1, 1, 1, 1)
    for place in range(_ROTATE + 1, len(OPERATIONS)):
        some = slice(ends[place], ends[place + 1])
        if counts[place]:
            made[some] = _CHANGES[OPERATIONS[place]](made[some], strengths[some])
    return torch.empty_like(made).index_copy_(0, places, made)


def _matrices(operations: Tensor, magnitudes: Tensor, side: int) -> Tensor:
    """Return where each pixel made comes from, (B, 2, 3) float32, in pixels from the centre.

    Shears keep the first row or column in its place, rotations the centre.
    """

    def of(place: int) -> Tensor:
        return magnitudes.double() * (operations == place)

    shear_x, shear_y, angle = of(_SHEAR_X), of(_SHEAR_Y), of(_ROTATE).deg2rad()
    right, down = of(_TRANSLATE_X).trunc(), of(_TRANSLATE_Y).trunc()
    x = [angle.cos(), shear_x - angle.sin(), shear_x * (side / 2) - right]
    y = [shear_y + angle.sin(), angle.cos(), shear_y * (side / 2) - down]
    return torch.stack([torch.stack(x, dim=1), torch.stack(y, dim=1)], dim=1).float()


def _warped(images: Tensor, matrices: Tensor) -> Tensor:
    """Take each pixel from where its image's matrix says (the nearest one); black from outside.

    The places are not computed as a matrix product: TF32 would move them by a tenth of a pixel.
    """
    side = images.shape[-1]
    pixels = torch.arange(side, device=images.device) - (side - 1) / 2
    matrices = (matrices / (side / 2)).view(-1, 2, 3, 1, 1)  # grid_sample's sides are -1 and 1
    places = matrices[:, :, 0] * pixels + matrices[:, :, 1] * pixels.view(-1, 1) + matrices[:, :, 2]
    grid = places.permute(0, 2, 3, 1)
    warped = grid_sample(images.float(), grid, "nearest", "zeros", align_corners=False)
    return warped.to(torch.uint8)


def _byte(images: Tensor) -> Tensor:
    return images.clamp_(0, 255).to(torch.uint8)


def _blended(images: Tensor, others: Tensor, strengths: Tensor) -> Tensor:
    """Move images away from others, by a share of the way between them, or towards them."""
    return _byte(torch.addcmul(images * (1 + strengths), others, -strengths))


def _grey(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    grey = red * 0.2989 + green * 0.587 + blue * 0.114
    return grey.floor_().unsqueeze(1)


def _bright(images: Tensor, strengths: Tensor) -> Tensor:
    return _byte(images * (1 + strengths))


def _colored(images: Tensor, strengths: Tensor) -> Tensor:
    return _blended(images, _grey(images), strengths)


def _contrasted(images: Tensor, strengths: Tensor) -> Tensor:
    return _blended(images, _grey(images).mean((1, 2, 3), keepdim=True), strengths)


def _sharpened(images: Tensor, strengths: Tensor) -> Tensor:
    """Blend with the mean of 3 × 3 pixels, the middle one counted five times; not the border."""
    made = images.float()
    middle = made[..., 1:-1, 1:-1]
    blurred = avg_pool2d(made, 3, stride=1, divisor_override=1).add_(middle, alpha=4).div_(13)
    middle.addcmul_(blurred.round_().sub_(middle), -strengths)
    return _byte(made)


def _posterized(images: Tensor, strengths: Tensor) -> Tensor:
    return images & (256 - torch.exp2(8 - strengths).round()).to(torch.uint8)


def _solarized(images: Tensor, strengths: Tensor) -> Tensor:
    return torch.where(images >= 255 * strengths, 255 - images, images)


_CHANGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Brightness": _bright,
    "Color": _colored,
    "Contrast": _contrasted,
    "Sharpness": _sharpened,
    "Posterize": _posterized,
    "Solarize": _solarized,
    # These torchvision computes for each image of a batch by itself.
    "AutoContrast": lambda images, _: functional.autocontrast(images),
    "Equalize": lambda images, _: functional.equalize(images),
}
