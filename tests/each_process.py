"""What each process of ``tests/two_processes.py`` does: ``train.py``, and it leaves its weights and all states."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from safetensors.torch import save_file

import train
from captioner import training


class Kept(training.Progress):
    """Progress that the process can still be asked for when training is over, and whose files stay."""

    latest: Kept

    def __init__(self, *arguments, **names):
        super().__init__(*arguments, **names)
        Kept.latest = self

    def save(self, folder):
        super().save(folder)
        shutil.copy(folder / self.FILE, folder / f"step-{self.counters['step']}.safetensors")


training.Progress = Kept
argv = sys.argv[1:]
assert train.main(argv) == 0
weights = {name: parameter.detach().contiguous() for name, parameter in Kept.latest.model.named_parameters()}
save_file(weights, Path(argv[argv.index("--output") + 1]) / f"process-{os.environ['RANK']}.safetensors")
