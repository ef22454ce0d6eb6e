"""One image, as people store them → (3, S, S) uint8 RGB."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tunesvc.errors import DataError

# The machine's troubles, not the file's: the same image may be readable a minute later.
_PASSING = {
    *(errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM),
    *(errno.EACCES, errno.EPERM, errno.ENOENT, errno.ESTALE, errno.ETIMEDOUT),
}


class UnreadableError(Exception):
    """An image file that no decoder makes sense of; the argument says why."""


def read(
    source: Path | Image.Image | NDArray[np.uint8], size: int, interpolation: str
) -> NDArray[np.uint8]:
    """Return an image's central square, resized.

    The same as torchvision's Resize(size) and CenterCrop(size) on a PIL image, done in one step.

    Args:
        source: a file, an image that was opened, or (H, W) or (H, W, 3) uint8.
        size: side of the square in pixels.
        interpolation: bilinear, bicubic, … as Pillow and torchvision name them; antialiased.

    Returns:
        (3, size, size) uint8 RGB.

    Raises:
        UnreadableError: the file is empty, cut short, or no image.
        DataError: the system does not let it be read now.
    """
    match source:
        case Path():
            image = _open(source, size)
        case Image.Image():
            image = _upright_rgb(source)
        case _:
            image = Image.fromarray(source)
    if image.mode != "RGB":
        image = image.convert("RGB")
    left, right = _kept(image.width, min(image.size), size)
    top, bottom = _kept(image.height, min(image.size), size)
    square = image.resize(
        (size, size), Image.Resampling[interpolation.upper()], box=(left, top, right, bottom)
    )
    return np.asarray(square).transpose(2, 0, 1)


def _kept(side: int, short: int, size: int) -> tuple[float, float]:
    """Return which part of a side ends up in the square, rounded as torchvision rounds it."""
    resized = int(size * side / short)
    first = round((resized - size) / 2)
    return first * side / resized, (first + size) * side / resized


def _open(path: Path, size: int) -> Image.Image:
    try:
        if path.stat().st_size == 0:
            raise UnreadableError("the file is empty")
        with Image.open(path) as image:
            # A JPEG can be decoded at a half, quarter or eighth: much quicker, and what is left
            # is at least twice as large as needed.
            image.draft(None, (2 * size, 2 * size))
            image.load()
            return _upright_rgb(image)
    except UnreadableError:
        raise
    except Exception as error:  # Pillow's decoders raise almost anything on damaged files
        if isinstance(error, MemoryError) or getattr(error, "errno", None) in _PASSING:
            raise _not_now(path, error) from error
        known = str(error).replace(repr(str(path)), "").replace(str(path), "the file")
        raise UnreadableError(" ".join(known.split()) or type(error).__name__) from error


def _not_now(path: Path, error: Exception) -> DataError:
    number = error.errno if isinstance(error, OSError) else None
    return DataError(
        f"{path}: cannot be read now",
        "not enough memory" if number is None else os.strerror(number),
        "check its permissions, the disk, and the limits of this machine; then try again",
    )


def _upright_rgb(image: Image.Image) -> Image.Image:
    """Return an image turned as its EXIF data says, in RGB, on white where it is transparent."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):  # Pillow would clip at 255 instead of scaling
        return Image.fromarray((_array(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        return _stretched(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _stretched(image: Image.Image) -> Image.Image:
    """Scale 32-bit values, whose range no format states, from the image's own extremes."""
    values = _array(image).astype(np.float64)
    low, high = np.nanmin(values), np.nanmax(values)
    scaled = np.nan_to_num((values - low) * (255 / max(high - low, 1e-12)))
    return Image.fromarray(scaled.astype(np.uint8)).convert("RGB")


def _array(image: Image.Image) -> NDArray[Any]:
    return np.asarray(image)
