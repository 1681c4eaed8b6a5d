import json
from statistics import mean

import pytest

from captioner import ablation, comparison
from captioner.ablation import Row, kept_file
from captioner.comparison import Judge
from captioner.data import of_split, read_karpathy
from captioner.metrics import score_captions
from captioner.predictions import read_predictions, write_predictions
from captioner.provenance import config_hash
from captioner.recipes import Recipe
from tests.tiny_data import make_data, make_encoder_weights

BASE = Recipe(
    "tiny",
    "",
    training={"epochs": 1, "reinforced_epochs": 0, "batch": 5, "captions": 2, "least_count": 1, "learning_rate": 5e-3},
    decoder={"width": 16, "layers": 2},
    encoder={"name": "resnet18", "levels": 1},
    image_size=64,
)
NO_TERMS = {"boxes": 0.0, "matching": 0.0}
ROWS = (
    Row("whole model", image_size=64, seeds=(0, 1)),
    Row("LSTM, soft attention", {"kind": "lstm", "width": 24}, NO_TERMS, image_size=64),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    make_data(folder / "data")
    make_encoder_weights(folder / "weights.safetensors")
    return folder


@pytest.fixture(autouse=True, scope="module")
def small():
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"ROWS": ROWS, "BASE": BASE, "TESTED": 1, "ROUNDS": 1}.items():
            patch.setattr(comparison, name, value)
        yield


@pytest.fixture
def records(folder):
    return of_split(read_karpathy(folder / "data"), "val")


def arguments(folder, table) -> list[str]:
    files = f"--data {folder / 'data'} --encoder-weights {folder / 'weights.safetensors'} --runs {folder / 'runs'}"
    return [*files.split(), "--cache", str(folder / "cache"), "--json", str(table)]


@pytest.fixture(scope="module")
def report(folder):
    """The table of the command that trained and measured everything."""
    table = folder / "results" / "table.json"
    assert comparison.main(arguments(folder, table)) == 0
    return json.loads(table.read_text())


@pytest.fixture
def rows_again(folder, report, tmp_path):
    """A function: the rows of the command with the first decoder's first seed alone, which is there already."""

    def make(*options: str) -> list[dict]:
        table = tmp_path / "table.json"
        command = [*arguments(folder, table), "--rows", ROWS[0].name, "--seeds", "1", *options]
        assert comparison.main(command) == 0
        return json.loads(table.read_text())["rows"]

    return make


def test_one_command_makes_the_whole_table(report):
    names = [line["name"] for line in report["rows"]]
    assert names[:2] == ["CNN (ours)", "LSTM, soft attention"]
    assert names[-2:] == ["commonest caption", "a person"]
    assert len(names) == 6
    assert report["references"] == {"captions": 2, "others": 1}
    ours, lstm, *_, commonest, person = report["rows"]
    assert {"CIDEr ±", "BLEU-4 ±", "ROUGE-L"} <= ours["captions"].keys() & ours["others"].keys()
    assert {"pointing", "pointing ±", "pointing of attention", "parameters", "training_seconds"} <= ours.keys()
    assert {"correctness", "correctness ±", "correctness of attention"} <= ours.keys()
    assert ours["words_per_second_ratio"] == ours["caption_ms_ratio"] == 1
    assert lstm["words_per_second_ratio"] == pytest.approx(lstm["words_per_second"] / ours["words_per_second"])
    assert lstm["caption_ms_ratio"] == pytest.approx(lstm["caption_ms"] / ours["caption_ms"])
    assert "pointing" not in lstm  # its logits are no sum over regions
    assert "CIDEr ±" not in lstm["captions"]  # one seed has no spread
    assert commonest["captions"]["vocabulary"] <= commonest["captions"]["length"]
    assert person["captions"] == {}  # a person cannot be judged by the own caption
    assert commonest["captions"]["novel"] == 0
    assert all({"vocabulary", "length", "novel"} <= line["captions"].keys() for line in report["rows"][:-1])
    assert {"vocabulary", "length", "novel"} <= person["others"].keys()
    assert report["scores"] == ["BLEU-4", "ROUGE-L", "CIDEr"]
    assert (report["split"], report["beam"], report["seeds"]) == ("val", 3, [0, 1])
    assert report["run"]["config"] == config_hash(report["settings"])


def test_scores_are_those_of_the_captions_of_every_seed(folder, report, records):
    said = [
        read_predictions(kept_file(folder / "runs" / f"whole-model-{seed}", "captions"), records) for seed in (0, 1)
    ]
    scores = [score_captions(captions, [record.raw for record in records])["ROUGE-L"] for captions in said]
    assert report["rows"][0]["captions"]["ROUGE-L"] == pytest.approx(mean(scores))
    of_ablation = json.loads(kept_file(folder / "runs" / "whole-model-1", "ablation").read_text())
    assert of_ablation["captions"]["ROUGE-L"] == pytest.approx(scores[1])
    assert {"grounding", "faithfulness"} <= of_ablation.keys()  # else the ablation would lack them


def test_what_is_there_is_neither_trained_nor_captioned_again(report, rows_again, monkeypatch):
    def again(*_, **__):
        raise AssertionError("a finished run was trained or captioned again")

    monkeypatch.setattr(ablation, "train", again)
    monkeypatch.setattr(comparison, "captioned", again)
    ours, *others = rows_again()
    assert (ours["seeds"], ours["parameters"]) == (1, report["rows"][0]["parameters"])
    assert others == report["rows"][2:]  # floors and a person do not hang on the decoders


def test_another_model_has_a_row_of_its_captions_and_its_maps(folder, rows_again, records):
    model = folder / "runs" / "whole-model-1"
    before = {file: file.stat().st_mtime_ns for file in model.iterdir()}
    line = rows_again("--models", str(model))[1]
    assert line["name"] == "whole-model-1"
    said = read_predictions(kept_file(model, "captions"), records)
    assert line["captions"] | score_captions(said, [record.raw for record in records]) == line["captions"]
    of_ablation = json.loads(kept_file(model, "ablation").read_text())
    assert line["correctness"] == pytest.approx(of_ablation["grounding"]["correctness"]["region_word"])
    assert line["parameters"] == of_ablation["parameters"]
    assert {file: file.stat().st_mtime_ns for file in model.iterdir()} == before


def test_captions_of_others_have_a_row_by_the_name_of_their_file(rows_again, records, tmp_path):
    said = [record.raw[0] for record in records]
    write_predictions(tmp_path / "someone.json", records, said)
    line = rows_again("--predictions", str(tmp_path / "someone.json"))[1]
    assert line["name"] == "someone"
    assert line["captions"] | score_captions(said, [record.raw for record in records]) == line["captions"]
    # They are among the references but for the round in which they are left out.
    assert line["others"]["BLEU-1"] < line["captions"]["BLEU-1"] == pytest.approx(100)


def test_a_person_and_a_model_meet_the_same_references(records):
    raw = [record.raw for record in records]
    judge = Judge(records, ["A dog ."])
    person = judge.person()
    rounds = [score_captions([r[n] for r in raw], [[r[1 - n]] for r in raw])["BLEU-1"] for n in (0, 1)]
    assert person["BLEU-1"] == pytest.approx(mean(rounds))
    said = [r[0] for r in raw]
    model = judge.by_others(said)
    assert model["BLEU-1"] == pytest.approx(mean([rounds[0], 100]))


@pytest.fixture
def untrained(monkeypatch):
    def run(*_, **__):
        raise AssertionError("trained before it was known that all can be compared")

    monkeypatch.setattr(comparison, "run", run)


def test_predictions_that_lack_photographs_are_told_before_anything_is_trained(
    folder, records, tmp_path, untrained, capsys
):
    write_predictions(tmp_path / "someone.json", records[1:], [""] * (len(records) - 1))
    command = arguments(folder, tmp_path / "table.json")
    assert comparison.main([*command, "--predictions", str(tmp_path / "someone.json")]) == 2
    assert "someone.json lacks captions of 1 photographs" in capsys.readouterr().err


def test_metrics_that_cannot_run_are_told_before_anything_is_trained(folder, tmp_path, untrained, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    assert comparison.main([*arguments(folder, tmp_path / "table.json"), "--java", "meteor"]) == 2
    assert "METEOR needs" in capsys.readouterr().err
