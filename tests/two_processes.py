"""Training by two processes on this machine, as ``torchrun`` starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def train_in_two(flags: Sequence[str], run: Path) -> list[str]:
    """Run ``tests/each_process.py`` twice, side by side, into the folder ``run``; returns the lines it printed."""
    logs = ["--log-dir", str(run.with_name(f"{run.name}-logs"))]  # else a folder stays behind for each run
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *logs]
    ended = subprocess.run(
        [*torchrun, "tests/each_process.py", *flags, "--output", str(run)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()
