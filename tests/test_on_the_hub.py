"""What Hub users expect of a class that has ``from_pretrained``; pushing is tested in ``test_publishing``."""

import inspect
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin

from captioner import Captioner, ModelError, load, model_card
from captioner.hub import CONFIG_FILE, WEIGHTS_FILE, save_model
from captioner.on_the_hub import OnTheHub
from tests.tiny import tiny_model


@pytest.fixture(autouse=True)
def no_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They take their time, and are tested with the card."""
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "LICENSES.md").touch()
    monkeypatch.setattr(model_card, "EXAMPLES", tmp_path / "none")


def test_a_saved_captioner_is_what_every_way_of_loading_reads(captioner: Captioner, tmp_path: Path):
    captioner.save_pretrained(tmp_path / "model")
    for again in (Captioner.from_pretrained(tmp_path / "model"), load(tmp_path / "model", device="cpu")):
        assert again.vocabulary.words == captioner.vocabulary.words
        assert again.model.config == captioner.model.config
        before, after = (each.model.decoder.embedding.weight for each in (captioner, again))
        assert torch.equal(before.half(), after.half())
        assert not again.model.training


def test_a_captioner_from_the_hub_saves_to_the_same_files(model_folder: Path, tmp_path: Path):
    Captioner.from_pretrained(model_folder).save_pretrained(tmp_path / "model")
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        assert (tmp_path / "model" / name).read_bytes() == (model_folder / name).read_bytes()


def test_a_card_is_saved_and_one_that_is_there_is_kept(captioner: Captioner, tmp_path: Path):
    captioner.save_pretrained(tmp_path, model_card_kwargs={"repo_id": "user/model"})
    assert ModelCard.load(tmp_path / "README.md").data.library_name == "captioner"
    assert 'captioner.load("user/model")' in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("my own")
    captioner.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "my own"


@pytest.mark.parametrize("method", ["from_pretrained", "save_pretrained", "push_to_hub"])
def test_the_methods_take_what_the_hubs_own_take(method: str):
    expected = inspect.signature(getattr(PyTorchModelHubMixin, method)).parameters
    named = inspect.signature(getattr(OnTheHub, method)).parameters
    assert named.keys() <= expected.keys() | {"options"}
    assert [name for name, known in expected.items() if known.kind is known.POSITIONAL_OR_KEYWORD] == [
        name for name, known in named.items() if known.kind is known.POSITIONAL_OR_KEYWORD
    ]


def test_a_model_that_explains_nothing_is_refused(tmp_path: Path):
    save_model(tmp_path, tiny_model(head="plain"))
    with pytest.raises(ModelError, match="made for comparisons"):
        Captioner.from_pretrained(tmp_path)


def test_making_a_captioner_copies_no_weights():
    saved = tiny_model()
    made = Captioner(saved, name="tiny")
    assert made.model is saved.model
    assert made._hub_mixin_config is None
