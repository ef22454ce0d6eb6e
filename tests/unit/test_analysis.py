"""The room of measures: what it may load."""

from __future__ import annotations

import subprocess
import sys


def test_analysis_needs_neither_torch_nor_a_database() -> None:
    """Importing it loads no torch, Optuna or SQLAlchemy: it works on plain rows."""
    code = (
        "import sys, tunesvc.analysis; print(*{'torch', 'optuna', 'sqlalchemy'} & {*sys.modules})"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
