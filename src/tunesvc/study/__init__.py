"""Studies: create, open, list, pause, delete, status."""

from tunesvc.study.creation import create, set_fingerprint
from tunesvc.study.league import Probed, enter, league
from tunesvc.study.progress import Best, State, Status, all_open, limit, paused_error, status
from tunesvc.study.scores import restored, set_test_metrics, storable, test_metrics
from tunesvc.study.stored import (
    Direction,
    Study,
    artifact_folder,
    check_idle,
    delete,
    is_paused,
    names,
    objective,
    open_study,
    pause,
    put_back,
    resume,
    stop,
)

__all__ = [
    "Best",
    "Direction",
    "Probed",
    "State",
    "Status",
    "Study",
    "all_open",
    "artifact_folder",
    "check_idle",
    "create",
    "delete",
    "enter",
    "is_paused",
    "league",
    "limit",
    "names",
    "objective",
    "open_study",
    "pause",
    "paused_error",
    "put_back",
    "restored",
    "resume",
    "set_fingerprint",
    "set_test_metrics",
    "status",
    "stop",
    "storable",
    "test_metrics",
]
