"""ZeroGPU Spaces, by a stand-in of the package ``spaces``, which is installed there alone."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image

from captioner.app.gpu import on_gpu
from captioner.predictor import Captioner
from captioner.session import Session
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


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Stand-in of ``spaces``: for what a GPU was asked, and whether one is there now."""
    asked = SimpleNamespace(names=[], now=False)

    def gpu(function):
        def run(*arguments, **options):
            asked.names.append(function.__name__)
            asked.now = True
            try:
                return function(*arguments, **options)
            finally:
                asked.now = False

        return run

    spaces = ModuleType("spaces")
    spaces.GPU, spaces.__spec__ = gpu, ModuleSpec("spaces", None)
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    return asked


def test_elsewhere_the_model_asks_for_nothing(captioner: Captioner):
    assert on_gpu(captioner) is captioner


def test_captions_and_their_tests_ask_for_a_gpu(asked: SimpleNamespace, photograph: Image.Image):
    Session.begin(on_gpu(Captioner(tiny_model(image_size=96), name="tiny")), photograph).test(0)
    assert asked.names == ["explain", "occlusions"]


def test_the_study_runs_the_model_with_a_gpu_alone(asked: SimpleNamespace, photograph: Image.Image, tmp_path: Path):
    model = on_gpu(Captioner(tiny_model(image_size=96), name="tiny"))
    where = []
    for part in (model.model.encoder, model.model.decoder):
        part.register_forward_hook(lambda *_: where.append(asked.now))
    photograph.save(tmp_path / "photograph.png")
    with suppress(StudyError):  # one photograph is too little for a study, which is seen when all are explained
        prepare(model, [tmp_path / "photograph.png"])
    assert asked.names == ["explain", "grad_cams"]
    assert all(where)
