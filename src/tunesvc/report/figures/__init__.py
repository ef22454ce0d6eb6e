"""Pictures and the tables behind them: `figure(result)`, `table(result)`, `says(result)` a file."""
