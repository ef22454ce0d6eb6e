"""What backbones cost, reckoned or measured once each by a process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from tunesvc.cost.counting import gflops, parameters
from tunesvc.cost.memory import StepMemory, inference_memory_mb, step_memory
from tunesvc.cost.size import Form, size_mb
from tunesvc.cost.timing import Timing

if TYPE_CHECKING:
    from tunesvc.backbones import Backbone

log = logging.getLogger(__name__)

RECKONED = ("params_m", "flops_g", "size_mb", "infer_memory_mb")  # without running the model

K = TypeVar("K")
V = TypeVar("V")


@dataclass
class Ledger:
    """What backbones cost, once each: a pass on "meta" takes up to a second.

    The `key` of a backbone stands for its architecture, its head and the size of its images.
    """

    _gflops: dict[str, float | None] = field(default_factory=dict)
    _sizes: dict[tuple[str, Form], float | None] = field(default_factory=dict)
    _inference: dict[str, float | None] = field(default_factory=dict)
    _timings: dict[str, Timing | None] = field(default_factory=dict)
    _steps: dict[tuple[str, frozenset[str]], StepMemory | None] = field(default_factory=dict)

    def gflops(self, key: str, backbone: Backbone) -> float | None:
        """Return `gflops`; None where the model does not run on "meta"."""
        return _once(self._gflops, key, lambda: gflops(backbone))

    def size_mb(self, key: str, backbone: Backbone, form: Form = "float32") -> float | None:
        """Return `size_mb`; None where it does not apply, or the state is more than tensors."""
        return _once(self._sizes, (key, form), lambda: size_mb(backbone.module, form))

    def inference_memory_mb(self, key: str, backbone: Backbone) -> float | None:
        """Return `inference_memory_mb` of one image; None where it does not run on "meta"."""
        return _once(self._inference, key, lambda: inference_memory_mb(backbone))

    def step_memory(
        self, key: str, backbone: Backbone, trained: frozenset[str]
    ) -> StepMemory | None:
        """Return `step_memory`; None where the model does not run on "meta"."""
        return _once(self._steps, (key, trained), lambda: step_memory(backbone, trained))

    def reckoned(self, name: str, key: str, backbone: Backbone) -> float | None:
        """Return a quantity that hangs on the model alone, by its name in RECKONED; None: unknown.

        The parameters may be on "meta".
        """
        match name:
            case "params_m":
                return parameters(backbone.module) / 1e6
            case "flops_g":
                return self.gflops(key, backbone)
            case "size_mb":
                return self.size_mb(key, backbone)
            case "infer_memory_mb":
                return self.inference_memory_mb(key, backbone)
        raise KeyError(name)

    def timing(self, key: str, measure: Callable[[], Timing]) -> Timing | None:
        """Return what was measured; None where the model does not run.

        Args:
            key: of a backbone, and of everything else that its speed hangs on.
        """
        return _once(self._timings, key, measure)


def _once(known: dict[K, V | None], key: K, reckon: Callable[[], V | None]) -> V | None:
    if key not in known:
        try:
            known[key] = reckon()
        except Exception as error:  # a plugin's model can do anything: its trial is to go on
            log.info("the cost of a model is not known: %s", error)
            known[key] = None
    return known[key]
