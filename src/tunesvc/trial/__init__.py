"""The bridge between the two continents: a leased trial in, epochs out to the storage."""

from tunesvc.trial.attempt import Attempt
from tunesvc.trial.delivery import AtOnce
from tunesvc.trial.desk import Desk
from tunesvc.trial.league import complete
from tunesvc.trial.run import Outcome, run, sweep
from tunesvc.trial.score import kept_run, score
from tunesvc.trial.together import is_head_only, run_together

__all__ = ["AtOnce", "Attempt", "Desk", "Outcome", "complete", "is_head_only", "kept_run", "run"]
__all__ += ["run_together", "score", "sweep"]
