"""The best trial under caps, for whoever needs one trial and cannot go on without."""

from __future__ import annotations

from tunesvc.analysis.feasible import Feasible, Fit, feasible, known
from tunesvc.errors import UsageError
from tunesvc.results.trials import trials
from tunesvc.spec import caps
from tunesvc.study import Study


def best_that_fits(study: Study, where: str) -> Fit:
    """Return the best finished trial that keeps within caps.

    Args:
        where: as `tunesvc best --where` takes it.

    Raises:
        UsageError: it is not of this form, or no finished trial fits; the nearest cap is told.
        UnknownNameError: it caps what is not known of a trial.
    """
    table = trials(study)
    found = feasible(table, caps.parse(where, known(table)))
    if found.best is None:
        raise _nothing_fits(study.name, found)
    return found.best


def _nothing_fits(name: str, found: Feasible) -> UsageError:
    wanted = " and ".join(map(str, found.caps))
    seen = found.finished - found.left_out
    why = f"none of {seen} finished trials keeps within it"
    if found.left_out:
        why += f"; of {found.left_out} more it is not known"
    if not found.nearest:
        return UsageError(f"no trial of {name!r} has {wanted}", why, "wait until more have ended")
    nearest = found.nearest[0]
    instead = " and ".join(map(str, nearest.instead))
    fit = nearest.fit
    return UsageError(
        f"no trial of {name!r} has {wanted}",
        why,
        f"with {instead} trial {fit.trial} would fit ({fit.backbone}, {fit.value:.4f})",
    )
