"""Pure functions from a table of trials to numbers; one measure per file."""

from tunesvc.analysis.strategy_table import Cell, Direction, TrialRow, strategy_table

__all__ = ["Cell", "Direction", "TrialRow", "strategy_table"]
