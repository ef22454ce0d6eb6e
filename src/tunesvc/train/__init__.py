"""One run as a generator of epochs: `for epoch in fit(run)`; it yields and never asks back."""

from tunesvc.train.chance import seed
from tunesvc.train.compiled import Choice, Compiling, Steps
from tunesvc.train.fit import Diverged, Epoch, evaluate, fit
from tunesvc.train.free_device import held
from tunesvc.train.frozen import Shared
from tunesvc.train.heads import job_of, stack_of
from tunesvc.train.memory import OutOfMemory, is_out_of_memory
from tunesvc.train.placement import Placement, Precision, place
from tunesvc.train.rehearsal import Rehearsed, rehearse
from tunesvc.train.run import Run
from tunesvc.train.stack import HeadEpoch, HeadJob, Stack, stackable

__all__ = ["Choice", "Compiling", "Diverged", "Epoch", "HeadEpoch", "HeadJob", "OutOfMemory"]
__all__ += ["Placement", "Precision", "Rehearsed", "Run", "Shared", "Stack", "Steps"]
__all__ += ["evaluate", "fit", "held", "is_out_of_memory", "place", "rehearse", "seed"]
__all__ += ["job_of", "stack_of", "stackable"]
