"""The bridge between the two continents: a leased trial in, epochs out to the storage."""

from tunesvc.trial.desk import Desk
from tunesvc.trial.run import Outcome, run
from tunesvc.trial.score import score

__all__ = ["Desk", "Outcome", "run", "score"]
