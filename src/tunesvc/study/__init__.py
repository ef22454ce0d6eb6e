"""Studies: create, open, list, pause, delete, status."""

from tunesvc.study.census import Census, Condition, Failure, Outcome, Tally
from tunesvc.study.creation import create, set_fingerprint
from tunesvc.study.feasibility import Nearest, is_feasible, nearest
from tunesvc.study.goals import Direction, Goal, first_value, objective, objectives
from tunesvc.study.league import Probed, enter, league
from tunesvc.study.progress import (
    Best,
    State,
    Status,
    all_open,
    confirms,
    limit,
    paused_error,
    status,
    to_confirm,
)
from tunesvc.study.quantities import check_machine, is_latency_off, quantity
from tunesvc.study.scores import restored, set_test_metrics, storable, test_metrics
from tunesvc.study.stored import (
    Study,
    artifact_folder,
    check_idle,
    delete,
    is_paused,
    limits,
    names,
    open_study,
    pause,
    put_back,
    resume,
    stop,
)

__all__ = [
    "Best",
    "Census",
    "Condition",
    "Direction",
    "Failure",
    "Goal",
    "Nearest",
    "Outcome",
    "Probed",
    "State",
    "Status",
    "Study",
    "Tally",
    "all_open",
    "artifact_folder",
    "check_idle",
    "check_machine",
    "confirms",
    "create",
    "delete",
    "enter",
    "first_value",
    "is_feasible",
    "is_latency_off",
    "is_paused",
    "league",
    "limit",
    "limits",
    "names",
    "nearest",
    "objective",
    "objectives",
    "open_study",
    "pause",
    "paused_error",
    "put_back",
    "quantity",
    "restored",
    "resume",
    "set_fingerprint",
    "set_test_metrics",
    "status",
    "stop",
    "storable",
    "test_metrics",
    "to_confirm",
]
