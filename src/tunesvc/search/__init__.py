"""The study's sampler and pruner, from its file."""

from tunesvc.search.asha import Asha, RungValues
from tunesvc.search.hyperband import Hyperband
from tunesvc.search.looks import evaluated
from tunesvc.search.memory import Memory
from tunesvc.search.pruners import pruner
from tunesvc.search.samplers import sampler, together
from tunesvc.search.tpe import Tpe

__all__ = [
    "Asha",
    "Hyperband",
    "Memory",
    "RungValues",
    "Tpe",
    "evaluated",
    "pruner",
    "sampler",
    "together",
]
