"""Every source of chance of a run, and its state as plain data."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import torch


def seed(value: int) -> None:
    """Seed torch's global generators, from which new layers and dropout are drawn."""
    torch.manual_seed(value)


@dataclass(eq=False)
class Chance:
    """What a run draws from, torch's global generators aside.

    Args:
        device: whose own generator is used too.
        order: of the images and their augmentation, all drawn when an epoch begins.
        mixing: of mixup and cutmix.
    """

    device: torch.device
    order: torch.Generator = field(init=False, default_factory=torch.Generator)
    mixing: random.Random = field(init=False, default_factory=random.Random)

    def seed(self, value: int) -> None:
        """Seed everything, torch's global generators included."""
        seed(value)
        self.order.manual_seed(value)
        self.mixing.seed(value)

    def state_dict(self) -> dict[str, Any]:
        """Return where those stand that are drawn from in an epoch: CPU tensors, and numbers."""
        version, words, gauss = self.mixing.getstate()
        state = {
            "torch": torch.get_rng_state(),
            "mixing": [version, torch.tensor(words), gauss],
        }
        match self.device.type:  # read on the host: the device is not waited for
            case "cuda":
                state["cuda"] = torch.cuda.get_rng_state(self.device)
            case "mps":
                state["mps"] = torch.mps.get_rng_state()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state; a device of another kind keeps its own."""
        torch.set_rng_state(state["torch"])
        version, words, gauss = state["mixing"]
        self.mixing.setstate((version, tuple(words.tolist()), gauss))
        match self.device.type:
            case "cuda" if "cuda" in state:
                torch.cuda.set_rng_state(state["cuda"], self.device)
            case "mps" if "mps" in state:
                torch.mps.set_rng_state(state["mps"])
