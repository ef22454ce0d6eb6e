"""Speed beside plain Optuna, Ray Tune and the in-memory limit. See README.md.

python benchmarks/bench.py                  every row; up to 15 minutes on two cores
python benchmarks/bench.py --only gap       some rows (may be repeated); RESULTS.md stays
python benchmarks/bench.py --smoke          a few, small; its last line sums them up
python benchmarks/bench.py --device cuda    larger models, and what is asked of a GPU
"""

import sys

# Nothing else here: every process that the benchmarks start imports this file before its work.
if __name__ == "__main__":
    from speed.command import main

    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
