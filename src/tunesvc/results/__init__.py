"""What a study has found: its outcome in short, and its trials as a table for the measures."""

from tunesvc.results.fitting import best_that_fits
from tunesvc.results.outcome import Results, pareto, results
from tunesvc.results.trials import trials

__all__ = ["Results", "best_that_fits", "pareto", "results", "trials"]
