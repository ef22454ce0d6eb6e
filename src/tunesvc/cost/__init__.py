"""What a backbone costs: parameters, operations, size on disk, memory, time, energy.

Counts and memory come from one forward pass on torch's "meta" device, whose tensors have shapes but
no memory; sizes from writing a file to nowhere; times and energy from running it. How each is
measured stands with its function.
"""

from tunesvc.cost.costs import Costs, batch_inference, measure
from tunesvc.cost.counting import gflops, parameters, trainable
from tunesvc.cost.ledger import RECKONED, Ledger
from tunesvc.cost.memory import StepMemory, inference_memory_mb, memory_estimate_mb, step_memory
from tunesvc.cost.size import Form, size_mb
from tunesvc.cost.timing import Setting, Timing, inference, timed, training_step

__all__ = [
    "RECKONED",
    "Costs",
    "Form",
    "Ledger",
    "Setting",
    "StepMemory",
    "Timing",
    "batch_inference",
    "gflops",
    "inference",
    "inference_memory_mb",
    "measure",
    "memory_estimate_mb",
    "parameters",
    "size_mb",
    "step_memory",
    "timed",
    "trainable",
    "training_step",
]
