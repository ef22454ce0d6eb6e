"""A study's best configurations, run again with new seeds through the ordinary workers.

The runs are trials of a companion, the study `NAME.confirm`: the same data, backbones and epochs,
no pruner, and a list of given runs in place of a sampler. Whoever serves studies serves it.

    candidates   which configurations, from the study's trials
    companion    the study that the runs stand in: found, made, added to
    plan         which runs come next, given those that have ended
    rounds       the three together, to be called until nothing is left to do
    asked        what study files ask for, begun when the study is done
    outcome      what was found

Why: 2026-11: everything is decided anew from what the database holds, and written in one statement
that only ever adds runs at the end of the list. So the command can be killed at any line and given
again, on any machine, and none is run twice.
"""

from tunesvc.confirm.asked import Asked, asked, wish
from tunesvc.confirm.companion import SUFFIX, check, companion
from tunesvc.confirm.outcome import found, measured, reruns
from tunesvc.confirm.plan import Wish
from tunesvc.confirm.rounds import Standing, advance

__all__ = [
    "SUFFIX",
    "Asked",
    "Standing",
    "Wish",
    "advance",
    "asked",
    "check",
    "companion",
    "found",
    "measured",
    "reruns",
    "wish",
]
