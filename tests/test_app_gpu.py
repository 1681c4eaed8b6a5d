"""ZeroGPU Spaces, by a stand-in of the package ``spaces``, which is installed there alone."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from captioner.app.gpu import on_gpu
from captioner.predictor import Captioner
from captioner.study_tasks import StudyError, prepare
from tests.tiny import tiny_model

ROOT = Path(__file__).resolve().parents[1]

# What the true package does on such hardware: a GPU seems to be there from when it is imported, and takes what it gets.
SPACES = """
import sys
torch_was_there = "torch" in sys.modules
import torch
torch.cuda.is_available = lambda: True
moved = []
def to(self, device=None, **_):
    moved.extend([str(device)] if device else [])
    return self
torch.nn.Module.to = to
"""
STARTED = """
import json, runpy, sys
runpy.run_path("app.py")
import spaces, captioner
model = captioner.load(sys.argv[1])
print(json.dumps([spaces.torch_was_there, spaces.moved, str(model.device)]))
"""


def test_the_app_asks_zero_gpu_before_pytorch_is_there_and_loads_the_model_for_it(model_folder: Path, tmp_path: Path):
    (tmp_path / "spaces.py").write_text(SPACES)
    done = subprocess.run(
        [sys.executable, "-c", STARTED, model_folder],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [False, ["cuda"], "cuda"]


def test_the_study_runs_the_model_with_a_gpu_alone(
    photograph: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    asked, inside = [], []

    def gpu(function):
        def run(*arguments, **options):
            asked.append(function.__name__)
            inside.append(True)
            try:
                return function(*arguments, **options)
            finally:
                inside.pop()

        return run

    spaces = ModuleType("spaces")
    spaces.GPU, spaces.__spec__ = gpu, ModuleSpec("spaces", None)
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    model = on_gpu(Captioner(tiny_model(image_size=96), name="tiny"))
    where = []
    for part in (model.model.encoder, model.model.decoder):
        part.register_forward_hook(lambda *_: where.append(bool(inside)))
    photograph.save(tmp_path / "photograph.png")
    with suppress(StudyError):  # one photograph is too little for a study, which is seen when all are explained
        prepare(model, [tmp_path / "photograph.png"])
    assert asked == ["explain", "grad_cams"]
    assert all(where)
