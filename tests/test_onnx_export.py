"""A model outside PyTorch: what it says there, and why."""

import re
from pathlib import Path

import numpy as np
import pytest

import captioner
from captioner import onnx_export
from captioner.__main__ import main
from captioner.hub import BUNDLED, save_model
from captioner.onnx_export import PACKAGES, difference
from tests.tiny import save_tiny_model, tiny_model

for package in PACKAGES:
    pytest.importorskip(package, reason=f"needs {package}: pip install {package}")

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLE = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "onnxruntime" in block)


@pytest.fixture
def says_what_pytorch_does(tmp_path, photograph, monkeypatch):
    """A function: export a model, run the example, and compare word for word and part for part."""

    def check(model):
        assert main(["export", str(model), str(tmp_path / "exported")]) == 0
        photograph.save(tmp_path / "photo.jpg", format="PNG")
        monkeypatch.chdir(tmp_path)
        printed = []
        exec(EXAMPLE, {"print": lambda *values: printed.append(values)})
        expected = captioner.load(model, device="cpu").explain(photograph, beam_size=1).words
        assert [word for word, *_ in printed] == [word.text for word in expected]
        numbers = np.array([values for _, *values in printed])
        parts = [(word.bias, word.language_logit, word.region_logits.sum(), word.logit) for word in expected]
        np.testing.assert_allclose(numbers, parts, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(numbers[:, :3].sum(1), numbers[:, 3], rtol=1e-3)

    return check


def test_numpy_says_and_explains_what_pytorch_does(tmp_path, says_what_pytorch_does):
    saved = tiny_model("none", image_size=96)  # layers that do not attend have nothing to hand over
    saved.model.decoder.head.temperature.fill_(1.5)
    save_model(tmp_path / "model", saved)
    says_what_pytorch_does(tmp_path / "model")
    names = {"encoder.onnx", "step.onnx", "explain.onnx", "captioner.json"}
    assert {file.name for file in (tmp_path / "exported").iterdir()} == names
    # The export's own check knows these weights from others.
    assert difference(tmp_path / "exported", saved.model) < 1e-2
    assert difference(tmp_path / "exported", tiny_model("none", seed=1, image_size=96).model) > 1e-1


def test_the_bundled_model_says_and_explains_what_it_does_in_pytorch(says_what_pytorch_does):
    says_what_pytorch_does(BUNDLED)


@pytest.mark.parametrize("found", [0.01, np.nan])
def test_graphs_that_differ_from_the_model_are_not_kept(found, model_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(onnx_export, "_write", lambda captioner, folder: (folder / "step.onnx").touch())
    monkeypatch.setattr(onnx_export, "difference", lambda folder, model: found)
    assert main(["export", str(model_folder), str(tmp_path / "exported")]) == 2
    assert "differ" in capsys.readouterr().err
    assert list((tmp_path / "exported").iterdir()) == []


def test_missing_packages_are_named(model_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(onnx_export, "PACKAGES", ("onnx", "no_such_package"))
    assert main(["export", str(model_folder), str(tmp_path / "exported")]) == 2
    assert "pip install no_such_package." in capsys.readouterr().err
    assert not (tmp_path / "exported").exists()


def test_a_model_that_explains_nothing_is_refused(tmp_path, capsys):
    save_tiny_model(tmp_path / "model", head="plain")
    assert main(["export", str(tmp_path / "model"), str(tmp_path / "exported")]) == 2
    assert "no sum over regions" in capsys.readouterr().err


def test_no_other_model_is_exported_in_its_place(model_folder, tmp_path, capsys, monkeypatch):
    other = captioner.load(model_folder, device="cpu")
    other.notice = "The Hub cannot be used. The bundled model is used."
    monkeypatch.setattr(onnx_export, "load", lambda model, device: other)
    assert main(["export", "user/model", str(tmp_path / "exported")]) == 2
    assert "The Hub cannot be used" in capsys.readouterr().err
