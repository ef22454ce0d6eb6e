"""Pure functions from a table of trials to numbers; one measure per file."""

from tunesvc.analysis.strategy_table import Cell, strategy_table
from tunesvc.analysis.table import Direction

__all__ = ["Cell", "Direction", "strategy_table"]
