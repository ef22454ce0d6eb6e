"""The search space: study file ↔ Optuna's parameters, conditions, untuned defaults."""

from tunesvc.space.build import build
from tunesvc.space.parameters import Parameter
from tunesvc.space.space import Space

__all__ = ["Parameter", "Space", "build"]
