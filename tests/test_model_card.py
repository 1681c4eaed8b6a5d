import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, metadata_load
from PIL import Image

from captioner import Captioner, model_card
from captioner.hub import WEIGHTS_FILE
from captioner.model_card import FAITHFULNESS, SCORES, CardError
from captioner.readme import RESULTS, ReadmeError
from tests.tiny import save_tiny_model, tiny_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved tiny model, with results that say that they were measured on it."""
    save_tiny_model(tmp_path / "model", image_size=96)
    digest = hashlib.sha256((tmp_path / "model" / WEIGHTS_FILE).read_bytes()).hexdigest()
    (tmp_path / "results").mkdir()
    for name in (SCORES, FAITHFULNESS):
        values = json.loads((RESULTS / name).read_text())
        values["run"]["model"][WEIGHTS_FILE] = digest
        (tmp_path / "results" / name).write_text(json.dumps(values))
    return tmp_path / "model"


@pytest.fixture
def one_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photograph: Image.Image) -> None:
    examples = tmp_path / "examples"
    examples.mkdir()
    photograph.save(examples / "noise.jpg")
    (examples / "LICENSES.md").write_text("# Ours\n\n| file | licence |\n|---|---|\n| `noise.jpg` | none needed |\n")
    monkeypatch.setattr(model_card, "EXAMPLES", examples)


def change(file: Path, act) -> None:
    values = json.loads(file.read_text())
    act(values)
    file.write_text(json.dumps(values))


def test_the_metadata_is_what_the_hub_reads(captioner: Captioner, folder: Path):
    card = model_card.model_card(captioner, repo_id="user/model", results=folder.parent / "results")
    card.save(folder / "README.md")
    read = ModelCard.load(folder / "README.md")
    assert read.data.to_dict() == card.data.to_dict() == metadata_load(folder / "README.md")
    assert read.data.library_name == "captioner"
    assert read.data.pipeline_tag == "image-to-text"
    measured = json.loads((RESULTS / SCORES).read_text())
    expected = {
        name: score for name, score in measured["captions"].items() if name[:4] in ("BLEU", "METE", "SPIC", "CIDE")
    }
    found = {result.metric_name: result for result in read.data.eval_results}
    assert all(found[name].metric_value == pytest.approx(score, abs=0.01) for name, score in expected.items())
    assert found["Pointing accuracy"].metric_value == round(measured["grounding"]["pointing"]["region_word"], 2)
    assert {result.dataset_split for result in read.data.eval_results} == {"val"}
    assert read.data.model_name == "model"


def test_the_card_says_how_to_load_the_model_in_three_lines(captioner: Captioner):
    text = model_card.model_card(captioner, repo_id="user/model").text
    code = text.split("```python\n")[1].split("```")[0].strip().splitlines()
    assert len(code) == 3
    assert 'captioner.load("user/model")' in code[1]

    assert 'Captioner.from_pretrained("user/model")' in text
    assert "the files of any Space" in text


def test_a_licence_is_what_the_model_was_trained_with_or_unknown(tmp_path: Path):
    for about, licence in (({"licence": "Do as you like."}, "other"), ({}, "unknown")):
        card = model_card.model_card(Captioner(replace(tiny_model(), about=about), name="tiny"))
        assert card.data.license == licence
        assert (getattr(card.data, "license_link", None) == model_card.LICENCE_FILE) == (licence == "other")


@pytest.mark.parametrize(
    ("data", "datasets"), [("Flickr8k, split train", ["jxie/flickr8k"]), ("My holidays, split train", None)]
)
def test_the_data_is_linked_where_the_hub_has_it(data: str, datasets: list[str] | None):
    card = model_card.model_card(Captioner(replace(tiny_model(), about={"data": data}), name="tiny"))
    assert card.data.datasets == datasets
    assert f"It learnt from {data}." in card.text


def test_the_card_draws_the_model_from_its_settings(captioner: Captioner):
    saved = tiny_model("gated", layers=5)
    text = model_card.model_card(Captioner(saved, name="other")).text
    assert "resnet18, its last stage" in text
    assert "hierarchical attention (gated)" in text
    assert "in each of 5 layers" in text
    assert "hierarchical attention (pyramid)" in model_card.model_card(captioner).text


@pytest.mark.parametrize("missing", [SCORES, FAITHFULNESS, None])
def test_tables_are_of_the_results_there_are(captioner: Captioner, folder: Path, missing: str | None):
    if missing:
        (folder.parent / "results" / missing).unlink()
    text = model_card.model_card(captioner, results=folder.parent / "results").text
    assert ("Do the maps lie" in text) == (missing != SCORES)
    assert ("Do the words hang" in text) == (missing != FAITHFULNESS)
    pointing = json.loads((RESULTS / SCORES).read_text())["grounding"]["pointing"]["region_word"]
    assert (f"| {pointing:.1f}" in text) == (missing != SCORES)
    assert ("| deletion (low is good) |" in text) == (missing != FAITHFULNESS)


def test_without_results_the_scores_that_training_left_are_shown():
    saved = replace(tiny_model(), about={"data": "Tiny, split train", "scores": {"split": "val", "CIDEr": 12.345}})
    card = model_card.model_card(Captioner(saved, name="tiny"))
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value, result.dataset_name) == ("cider", 12.35, "Tiny")
    assert "| 12.3 |" in card.text


def test_a_model_that_nobody_measured_has_a_card_without_scores(captioner: Captioner):
    card = model_card.model_card(captioner)
    assert card.data.eval_results is None
    assert "## Captions" not in card.text
    assert "## Limits" in card.text


def test_data_and_licence_are_those_of_the_model(tmp_path: Path):
    saved = replace(tiny_model(), about={"data": "Tiny squares", "licence": "Do as you like.", "recipe": "small"})
    text = model_card.model_card(Captioner(saved, name="tiny")).text
    assert "Trained on: Tiny squares." in text
    assert "Do as you like." in text
    assert "Recipe `small`" in text
    mean = replace(saved, about={"mean of": [{"name": "one"}, {"name": "two"}]})
    assert "The mean of 2 models" in model_card.model_card(Captioner(mean, name="tiny")).text


@pytest.mark.usefixtures("one_example")
def test_the_examples_are_drawn_beside_the_card_and_their_licences_named(captioner: Captioner, folder: Path):
    text = model_card.model_card(captioner, folder=folder).text
    with Image.open(folder / "examples" / "noise.jpg") as picture:
        assert picture.width > 200
    assert "](examples/noise.jpg)" in text
    assert "| `noise.jpg` | none needed |" in text
    assert "No licence is recorded." in (folder / model_card.LICENCE_FILE).read_text()


@pytest.mark.usefixtures("one_example")
@pytest.mark.parametrize("name", [SCORES, FAITHFULNESS])
def test_results_of_other_weights_are_refused(captioner: Captioner, folder: Path, name: str):
    results = folder.parent / "results"
    model_card.model_card(captioner, results=results, folder=folder)
    change(results / name, lambda values: values["run"]["model"].update({WEIGHTS_FILE: "0" * 64}))
    with pytest.raises(CardError, match=f"{name} was not measured on these weights"):
        model_card.model_card(captioner, results=results, folder=folder)


def test_a_folder_without_results_is_refused(captioner: Captioner, tmp_path: Path):
    with pytest.raises(CardError, match=SCORES):
        model_card.model_card(captioner, results=tmp_path)


def test_a_result_that_lacks_something_is_named(captioner: Captioner, folder: Path):
    change(folder.parent / "results" / SCORES, lambda values: values["grounding"].pop("correctness"))
    with pytest.raises(ReadmeError, match="correctness"):
        model_card.model_card(captioner, results=folder.parent / "results")
