"""One run as a generator of epochs: `for epoch in fit(run)`; it yields and never asks back."""

from tunesvc.train.fit import Diverged, Epoch, evaluate, fit
from tunesvc.train.placement import Placement, place
from tunesvc.train.run import Run, seed

__all__ = ["Diverged", "Epoch", "Placement", "Run", "evaluate", "fit", "place", "seed"]
