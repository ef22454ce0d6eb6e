"""What can be known of a study before it begins.

looking   everything that can be known before a device is touched, and
fitting     which backbones cannot keep the study's constraints
duration  how long it will take on this machine (`estimated`), from
dry         a few real batches of each backbone under each strategy, and
crowding    how much slower workers are that share a CPU, and
played      the study's trials as they may come: configurations drawn, verdicts of the pruner
"""

from tunesvc.check.duration import estimate, tell
from tunesvc.check.estimated import Estimate
from tunesvc.check.looking import Report, check

__all__ = ["Estimate", "Report", "check", "estimate", "tell"]
