"""The study's sampler and pruner, from its file."""

from tunesvc.search.asha import Asha, RungValues
from tunesvc.search.hyperband import Hyperband
from tunesvc.search.looks import evaluated
from tunesvc.search.median import Median
from tunesvc.search.memory import SECONDS, Memory
from tunesvc.search.pruners import controls, pruner, rungs
from tunesvc.search.samplers import drawn, sampler, together
from tunesvc.search.several import REACHED
from tunesvc.search.tpe import Tpe

__all__ = [
    "REACHED",
    "SECONDS",
    "Asha",
    "Hyperband",
    "Median",
    "Memory",
    "RungValues",
    "Tpe",
    "controls",
    "drawn",
    "evaluated",
    "pruner",
    "rungs",
    "sampler",
    "together",
]
