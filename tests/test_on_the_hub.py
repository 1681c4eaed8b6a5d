"""What Hub users expect of a class that has ``from_pretrained``; pushing is tested in ``test_publishing``."""

import inspect
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin

from captioner import Captioner, ModelError, hub, load, model_card
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
    of_weights = {"device", "map_location", "strict"} if method == "from_pretrained" else set()
    assert named.keys() <= expected.keys() | {"options"} | of_weights
    assert [name for name, known in expected.items() if known.kind is known.POSITIONAL_OR_KEYWORD] == [
        name for name, known in named.items() if known.kind is known.POSITIONAL_OR_KEYWORD
    ]
    if not any(known.kind is known.VAR_KEYWORD for known in named.values()):
        assert {name for name, known in expected.items() if known.kind is not known.VAR_KEYWORD} <= named.keys()


def test_loading_is_strict_and_on_the_device_asked_for(model_folder: Path):
    for options in ({"strict": False, "device": "cpu"}, {"strict": True, "map_location": "cpu"}):
        assert Captioner.from_pretrained(model_folder, **options).device == torch.device("cpu")


def test_a_keyword_that_means_nothing_is_refused_by_its_name(model_folder: Path):
    with pytest.raises(TypeError, match="colour"):
        Captioner.from_pretrained(model_folder, colour="red")


def test_a_broken_config_is_a_sentence(model_folder: Path, tmp_path: Path):
    shutil.copytree(model_folder, tmp_path / "model")
    (tmp_path / "model" / CONFIG_FILE).write_text("{")
    with pytest.raises(ModelError, match=CONFIG_FILE):
        Captioner.from_pretrained(tmp_path / "model")


@pytest.mark.parametrize("name", ["model", "user/model@main", "no/such/folder"])
def test_what_is_neither_folder_nor_hub_id_is_refused(name: str):
    with pytest.raises(ModelError, match="no Hub id"):
        Captioner.from_pretrained(name)


@pytest.mark.parametrize(
    ("repo_id", "shown"), [("user/mine", "user/mine"), ("mine", "user/mine"), (None, "user/model")]
)
def test_the_card_of_a_folder_has_the_name_it_will_have_on_the_hub(
    captioner: Captioner, tmp_path: Path, repo_id: str | None, shown: str
):
    captioner.save_pretrained(tmp_path, repo_id=repo_id)
    assert f'captioner.load("{shown}")' in (tmp_path / "README.md").read_text()


def test_a_save_that_fails_leaves_the_files_that_were_there(
    captioner: Captioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    captioner.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    monkeypatch.setattr(hub, "save_file", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        captioner.save_pretrained(tmp_path)
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


def test_a_model_that_explains_nothing_is_refused(tmp_path: Path):
    save_model(tmp_path, tiny_model(head="plain"))
    with pytest.raises(ModelError, match="made for comparisons"):
        Captioner.from_pretrained(tmp_path)


def test_making_a_captioner_copies_no_weights():
    saved = tiny_model()
    made = Captioner(saved, name="tiny")
    assert made.model is saved.model
    assert made._hub_mixin_config is None
