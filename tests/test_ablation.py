import json
from dataclasses import replace

import pytest

from captioner import ablation
from captioner.ablation import Row, summarise
from captioner.provenance import config_hash
from captioner.recipes import Recipe
from tests.tiny_data import make_data, make_encoder_weights

BASE = Recipe(
    "tiny",
    "",
    training={"epochs": 1, "reinforced_epochs": 0, "batch": 5, "captions": 2, "least_count": 1, "learning_rate": 5e-3},
    decoder={"width": 16, "layers": 2},
    encoder={"name": "resnet18"},
)
ROWS = (
    Row("whole model", image_size=64, seeds=(0, 1)),
    Row("plain head", {"head": "plain", "feedback": False}, {"boxes": 0.0, "matching": 0.0}, image_size=64),
)


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation")
    data, weights = make_data(folder / "data"), make_encoder_weights(folder / "weights.safetensors")
    return [
        *f"--data {data} --encoder-weights {weights} --runs {folder / 'runs'} --cache {folder / 'cache'}".split(),
        *f"--tested 1 --json {folder / 'table.json'} --figure {folder / 'table.png'}".split(),
    ]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(ablation, "ROWS", ROWS)
    monkeypatch.setattr(ablation, "BASE", BASE)


def test_one_command_makes_the_table_and_its_figure(arguments, monkeypatch):
    assert ablation.main(arguments) == 0
    table, figure = (ablation.Path(arguments[arguments.index(flag) + 1]) for flag in ("--json", "--figure"))
    assert figure.stat().st_size > 1000
    report = json.loads(table.read_text())
    assert (report["split"], report["beam"], report["seeds"]) == ("val", 3, [0, 1])
    assert report["run"]["config"] == config_hash(report["settings"])
    trained = sum(row["training_seconds"] for row in report["rows"])
    assert report["training_seconds"] == pytest.approx(trained, abs=0.2)
    assert report["seconds"] > trained
    whole, plain = report["rows"]
    assert {"CIDEr", "CIDEr ±", "pointing", "correctness", "deletion", "parameters"} <= set(whole)
    assert whole["step time"] == 1
    assert plain["step time"] > 0
    assert "pointing" not in plain  # its logits are no sum over regions
    assert "CIDEr ±" not in plain  # one seed has no spread
    assert plain["pointing of attention"] >= 0

    def trained_again(*_, **__):
        raise AssertionError("a finished run was trained again")

    monkeypatch.setattr(ablation, "train", trained_again)
    assert ablation.main([*arguments, "--rows", "plain head"]) == 0
    again = json.loads(table.read_text())
    (only,) = again["rows"]
    assert only | {"step time": 0} == plain | {"step time": 0}
    assert again["training_seconds"] == plain["training_seconds"]  # whenever that was
    assert again["run"]["config"] != report["run"]["config"]


def test_a_finished_run_of_other_settings_is_not_taken_for_the_row(arguments, monkeypatch, capsys):
    arguments = [*arguments, "--rows", "plain head"]
    assert ablation.main(arguments) == 0
    changed = {"training": BASE.training | {"learning_rate": 1e-3}, "decoder": BASE.decoder | {"dropout": 0.1}}
    monkeypatch.setattr(ablation, "BASE", replace(BASE, **changed))
    assert ablation.main(arguments) == 2
    assert "plain-head-0 holds a run that differs in learning_rate, the model's form. Remove" in capsys.readouterr().err
    frequent = BASE.training | {"checkpoint_seconds": 60.0}
    monkeypatch.setattr(ablation, "BASE", replace(BASE, training=frequent))
    assert ablation.main(arguments) == 0


def test_unusable_data_is_a_message_and_a_status(arguments, tmp_path, capsys):
    arguments = [*arguments, "--data", str(tmp_path), "--runs", str(tmp_path / "runs")]
    assert ablation.main(arguments) == 2
    assert "dataset*.json" in capsys.readouterr().err


def test_a_line_has_the_mean_of_the_seeds_and_their_spread():
    layers = {"pointing": {"layer_1": 40.0, "attention": 60.0}, "entropy": {"layer_1": 90.0, "attention": 50.0}}
    runs = [
        {"parameters": 7, "captions": {"CIDEr": cider, "BLEU-4": 20.0}, "grounding": layers, "faithfulness": {}}
        for cider in (50.0, 52.0)
    ]
    line = summarise(Row("one", seeds=(0, 1)), runs)
    assert (line["CIDEr"], line["BLEU-4"], line["BLEU-4 ±"], line["parameters"]) == (51, 20, 0, 7)
    assert line["layers"] == {"layer_1": {"pointing": 40, "entropy": 90}}
    assert line["CIDEr ±"] == pytest.approx(2**0.5)
