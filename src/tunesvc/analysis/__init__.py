"""Pure functions from a table of trials to numbers; one measure per file, imported by its name."""
