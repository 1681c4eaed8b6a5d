from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import captioner
from captioner import ModelError, hub
from captioner.familiarity import Familiarity
from captioner.hub import CONFIG_FILE, WEIGHTS_FILE, FoundModel, find_model, load_model, save_model
from tests.tiny import save_tiny_model, tiny_model


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A model folder that a test may spoil."""
    return Path(shutil.copytree(original, tmp_path / "model"))


def change_config(folder: Path, change: Callable[[dict], object]) -> None:
    described = json.loads((folder / CONFIG_FILE).read_text())
    change(described)
    (folder / CONFIG_FILE).write_text(json.dumps(described))


def change_weights(folder: Path, change: Callable[[dict], object]) -> None:
    weights = load_file(folder / WEIGHTS_FILE)
    change(weights)
    save_file(weights, folder / WEIGHTS_FILE)


# Save and load


@pytest.mark.parametrize("attention", ["gated", "pyramid", "none"])
@torch.inference_mode()
def test_a_saved_model_is_the_same_model(tmp_path: Path, attention: str):
    saved = tiny_model(attention, image_size=80)
    save_model(tmp_path, saved)
    loaded = load_model(tmp_path)
    assert loaded.model.config == saved.model.config
    assert loaded.vocabulary.words == saved.vocabulary.words
    assert loaded.about == saved.about
    assert not loaded.model.training
    assert all(parameter.dtype == torch.float32 for parameter in loaded.model.parameters())
    images, words = torch.randn(2, 3, 80, 80), torch.randint(4, 30, (2, 5))
    one, other = (each.model.decoder(words, each.model.look(images))[0].logits for each in (saved, loaded))
    assert torch.allclose(one, other, atol=0.02 * float(one.std()))


def test_a_loaded_model_saves_to_the_same_files(folder: Path, tmp_path: Path):
    save_model(tmp_path / "again", load_model(folder))
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG_FILE, WEIGHTS_FILE]


def test_matrices_are_stored_once_and_in_float16(folder: Path):
    weights = load_file(folder / WEIGHTS_FILE)
    assert all(t.dtype == torch.float16 for t in weights.values() if t.is_floating_point() and t.ndim > 1)
    assert len([name for name in weights if "embedding" in name]) == 1


@pytest.mark.skipif(os.name != "posix", reason="file modes are those of POSIX")
def test_what_is_saved_can_be_read_by_whoever_the_umask_lets(tmp_path: Path):
    before = os.umask(0o027)
    try:
        save_tiny_model(tmp_path / "model")
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "model").iterdir()}
    assert modes == {CONFIG_FILE: 0o640, WEIGHTS_FILE: 0o640}


def test_the_tied_embedding_stays_tied_after_loading(folder: Path):
    decoder = load_model(folder).model.decoder
    assert decoder.head.embedding.weight is decoder.embedding.weight


@pytest.mark.parametrize("broken", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_failing_write_leaves_the_old_file(folder: Path, monkeypatch: pytest.MonkeyPatch, broken: str):
    before = (folder / broken).read_bytes()

    def half(*arguments) -> None:
        path = next(argument for argument in arguments if isinstance(argument, Path))
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    def write_text(path: Path, text: str) -> None:
        half(path)

    if broken == WEIGHTS_FILE:
        monkeypatch.setattr(hub, "save_file", lambda weights, path, metadata: half(path))
    else:
        monkeypatch.setattr(Path, "write_text", write_text)
    with pytest.raises(OSError, match="No space"):
        save_model(folder, tiny_model(seed=1))
    assert (folder / broken).read_bytes() == before


# Broken models


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format_version=2), "format version 2; this program reads 3"),
        (lambda c: c.pop("format_version"), "format version None"),
        (lambda c: c["decoder"].update(colour="red"), "unknown settings colour for DecoderConfig"),
        (lambda c: c["encoder"].update(depth=3), "unknown settings depth for EncoderConfig"),
        (lambda c: c["preprocessing"].update(crop=1), "unknown settings crop for Preprocessing"),
        (lambda c: c["encoder"].update(name="vgg16"), "No encoder 'vgg16'"),
        (lambda c: c["decoder"].update(attention="magic"), "No attention 'magic'"),
        (lambda c: c["decoder"].update(width="wide"), CONFIG_FILE),
        (lambda c: c["decoder"].update(width=-1), CONFIG_FILE),
        (lambda c: c.update(decoder=["width"]), CONFIG_FILE),
        (lambda c: c.pop("vocabulary"), "lacks 'vocabulary'"),
        (lambda c: c.pop("decoder"), "lacks 'decoder'"),
        (lambda c: c.update(vocabulary=["a", "a"]), "twice"),
        (lambda c: c.update(vocabulary=7), CONFIG_FILE),
        (lambda c: c["vocabulary"].append("zebra"), "does not fit"),
        (lambda c: c["decoder"].update(layers=2), "does not fit"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(folder: Path, change: Callable[[dict], object], message: str):
    change_config(folder, change)
    with pytest.raises(ModelError, match=message):
        load_model(folder)


@pytest.mark.parametrize("content", [b"", b'{"format_version": 3', b"\xff\xfe\x00", b"[1, 2]", b"null"])
def test_a_config_that_is_no_json_object_is_refused(folder: Path, content: bytes):
    (folder / CONFIG_FILE).write_bytes(content)
    with pytest.raises(ModelError, match=CONFIG_FILE):
        load_model(folder)


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"holds no {name}"):
        load_model(folder)


@pytest.mark.parametrize("left", [0, 5, 1000, -1])
def test_weights_cut_off_are_refused(folder: Path, left: int):
    file = folder / WEIGHTS_FILE
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(ModelError, match=rf"{WEIGHTS_FILE} is damaged"):
        load_model(folder)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda w: w.pop("decoder.position"), "decoder.position"),
        (lambda w: w.update({"decoder.position": torch.zeros(9, 16)}), "decoder.position"),
        (lambda w: w.update({"decoder.extra": torch.zeros(1)}), "decoder.extra"),
    ],
    ids=["missing", "another shape", "unknown"],
)
def test_weights_that_do_not_fit_are_refused(folder: Path, change: Callable[[dict], object], name: str):
    change_weights(folder, change)
    with pytest.raises(ModelError, match=f"does not fit its {CONFIG_FILE}: 1 tensors .* first {name}"):
        load_model(folder)


def familiar(seed: int = 0) -> Familiarity:
    means = torch.randn(12, 512, generator=torch.Generator().manual_seed(seed))
    return Familiarity.fit(means, means)


def test_familiarity_is_saved_beside_the_weights(tmp_path: Path):
    assert load_model(save_tiny_model(tmp_path / "without")).familiarity is None
    saved = replace(tiny_model(), familiarity=familiar())
    save_model(tmp_path / "with", saved)
    loaded = load_model(tmp_path / "with").familiarity
    for name, tensor in vars(saved.familiarity).items():
        torch.testing.assert_close(vars(loaded)[name], tensor, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda w: w.pop("familiarity.mean"), "familiarity.mean"),
        (lambda w: w.pop("familiarity.components"), "familiarity.components"),
        (lambda w: w.update({"familiarity.mean": torch.zeros(511)}), "familiarity.mean"),
        (lambda w: w.update({"familiarity.components": torch.zeros(3, 100)}), "familiarity.components"),
        (lambda w: w.update({"familiarity.quantiles": torch.tensor(1.0)}), "familiarity.quantiles"),
        (lambda w: w.update({"familiarity.extra": torch.zeros(1)}), "familiarity.extra"),
    ],
)
def test_a_familiarity_that_does_not_fit_is_refused(tmp_path: Path, change: Callable[[dict], object], name: str):
    save_model(tmp_path, replace(tiny_model(), familiarity=familiar()))
    change_weights(tmp_path, change)
    with pytest.raises(ModelError, match=f"does not fit its {CONFIG_FILE}: 1 tensors .* first {name}"):
        load_model(tmp_path)


@torch.inference_mode()
def test_the_temperature_is_saved_with_the_weights(tmp_path: Path):
    saved = tiny_model()
    saved.model.decoder.head.temperature.fill_(1.37)
    save_model(tmp_path, saved)
    assert load_model(tmp_path).model.decoder.head.temperature.item() == pytest.approx(1.37)


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, sprung: Path):
        self.sprung = sprung

    def __reduce__(self):
        return os.mkdir, (str(self.sprung),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", WEIGHTS_FILE])
def test_pickle_is_never_loaded(folder: Path, tmp_path: Path, name: str):
    (folder / WEIGHTS_FILE).unlink()
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(ModelError, match=WEIGHTS_FILE):
        load_model(folder)
    assert not (tmp_path / "sprung").exists()
    pickle.loads((folder / name).read_bytes())
    assert (tmp_path / "sprung").exists()  # the trap would have worked


# Finding a model


@pytest.fixture
def bundled(original: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hub, "BUNDLED", original)
    monkeypatch.delenv("CAPTIONER_MODEL", raising=False)
    return original


def test_a_folder_is_taken_as_it_is(folder: Path, bundled: Path):
    assert find_model(folder) == find_model(str(folder)) == FoundModel(folder, str(folder))


def test_no_name_means_the_variable_and_then_the_bundled_model(
    folder: Path, bundled: Path, monkeypatch: pytest.MonkeyPatch
):
    assert find_model() == FoundModel(bundled, "bundled model")
    monkeypatch.setenv("CAPTIONER_MODEL", "")
    assert find_model().folder == bundled
    monkeypatch.setenv("CAPTIONER_MODEL", str(folder))
    assert find_model().folder == folder
    assert find_model(bundled).folder == bundled  # what is asked for comes first


def test_load_gives_a_captioner_that_knows_its_name(folder: Path, bundled: Path):
    assert captioner.load(device="cpu").name == "bundled model"
    assert captioner.load(folder, device="cpu").name == str(folder)


@pytest.mark.parametrize(
    "model",
    ["no-such", "/no/such/folder", "./user/model", "user/model/more", "user/mo del", "@main", "user@main/model"],
)
def test_what_is_neither_folder_nor_hub_id_is_refused(bundled: Path, model: str):
    with pytest.raises(ModelError, match="no Hub id"):
        find_model(model)


def test_a_revision_has_a_name(bundled: Path):
    with pytest.raises(ModelError, match="names no revision"):
        find_model("user/model@")
