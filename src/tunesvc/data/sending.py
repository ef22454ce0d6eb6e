"""Small tensors from the host to where they are needed, without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a CPU tensor on the device.

    To CUDA it goes from page-locked memory: from other memory the copy waits until all work given
    to the device before is done.
    """
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
