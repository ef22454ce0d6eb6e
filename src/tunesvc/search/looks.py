"""After which epochs a study wants its trials evaluated."""

from __future__ import annotations

from tunesvc.search.asha import Asha
from tunesvc.spec import StudySpec, search_spec


def evaluated(spec: StudySpec) -> frozenset[int]:
    """Return the epochs, from 1 on, after which trials are evaluated; the last is among them."""
    epochs = range(1, spec.budget.epochs + 1)
    match spec.pruner:
        case _ if spec.evaluate == "epochs":
            wanted = set(epochs)
        case search_spec.AshaPruner() as asha:
            rungs = Asha(asha.min_resource, asha.reduction_factor, asha.min_early_stopping_rate)
            wanted = set(filter(rungs.is_rung, epochs))
        case search_spec.HyperbandPruner() as hyperband:  # bracket 0 has the rungs of all others
            rungs = Asha(hyperband.min_resource, hyperband.reduction_factor)
            wanted = set(filter(rungs.is_rung, epochs))
        case search_spec.MedianPruner():
            wanted = set(epochs)
        case _:
            wanted = set()
    return frozenset({*wanted, spec.budget.epochs})
