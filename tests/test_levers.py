import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from captioner import ablation, levers, readme
from captioner.ablation import Row
from captioner.generation import GenerationConfig
from captioner.progress import Progress
from captioner.provenance import config_hash
from captioner.recipes import Recipe
from tests.tiny_data import make_data, make_encoder_weights


@dataclass(frozen=True)
class OneWord(GenerationConfig):
    """How captions of one word are searched for."""

    max_words: int = 1


BASE = Recipe(
    "levers",
    "",
    training={"language_epochs": 0, "epochs": 1, "tuned_epochs": 0, "reinforced_epochs": 0, "batch": 5, "captions": 2}
    | {"least_count": 1, "learning_rate": 5e-3},
    decoder={"width": 16, "layers": 2},
    encoder={"name": "resnet18", "levels": 1},
)
ROWS = (
    Row("base", image_size=64, seeds=(0, 1)),
    Row("text first", training={"language_epochs": 1}, image_size=64),
    Row("self-critical", training={"reinforced_epochs": 1}, image_size=64),
    Row("distilled", training={"distillation": 0.5}, image_size=64),
    Row("longer", training={"epochs": 0, "reinforced_epochs": 1}, image_size=64, seeds=(0, 1)),
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("levers")
    (folder / "sentences.txt").write_text("A blue square is on the left.\nThe red square is right.\n")
    data, weights = make_data(folder / "data"), make_encoder_weights(folder / "weights.safetensors")
    text, cache = folder / "sentences.txt", folder / "cache"
    return f"--data {data} --encoder-weights {weights} --text {text} --cache {cache}".split()


@pytest.fixture
def table(shared, tmp_path, monkeypatch):
    """``make`` rows of it; ``trained`` are the runs that were begun or continued, each with its text and teachers."""
    monkeypatch.setattr(levers, "BASE", BASE)
    monkeypatch.setattr(levers, "ROWS", ROWS)
    monkeypatch.setattr(levers, "TEACHERS", (1,))
    trained, file, train = [], tmp_path / "results" / "levers.json", ablation.train

    def noted(data, folder, *arguments, **options):
        trained.append((folder.name, options["text"].name, [teacher.name for teacher in options["teachers"]]))
        train(data, folder, *arguments, **options)

    monkeypatch.setattr(ablation, "train", noted)

    def make(*rows, seeds=2):
        command = [*shared, "--runs", str(tmp_path / "runs"), "--json", str(file), "--seeds", str(seeds)]
        assert levers.main([*command, "--rows", *rows]) == 0
        return lines()

    def lines():
        return json.loads(file.read_text())["rows"]

    return SimpleNamespace(make=make, lines=lines, file=file, runs=tmp_path / "runs", trained=trained)


def names(trained):
    return [name for name, _, _ in trained]


def test_a_row_has_its_scores_and_its_minutes(table):
    base, taught = table.make("base", "distilled")
    assert (base["name"], base["recipe"], base["seeds"]) == ("base", "levers", 2)
    assert {*levers.COLUMNS, "CIDEr ±", "minutes", "settings", "run"} <= set(base)
    assert "CIDEr ±" not in taught
    assert names(table.trained) == ["base-0", "base-1", "distilled-0"]  # the base that teaches is there already
    assert table.trained[-1][2] == ["base-1"]
    assert {text for _, text, _ in table.trained} == {"sentences.txt"}
    seconds = {
        folder.name: json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["seconds"]
        for folder in table.runs.iterdir()
    }
    assert base["minutes"] == pytest.approx((seconds["base-0"] + seconds["base-1"]) / 2 / 60)
    assert taught["minutes"] == pytest.approx((seconds["distilled-0"] + seconds["base-1"]) / 60)
    assert len(readme.levers(table.file.parent).splitlines()) == 4
    report = json.loads(table.file.read_text())
    assert (report["split"], report["beam"], report["seeds"]) == ("val", 3, [0, 1])
    assert base["run"]["config"] == config_hash(base["settings"]) != taught["run"]["config"]
    assert {"run", "seconds"} <= report.keys()


def test_captions_that_are_searched_otherwise_are_measured_anew_and_nothing_is_trained_again(table, monkeypatch):
    (before,) = table.make("base", seeds=1)
    for module in (ablation, levers):
        monkeypatch.setattr(module, "GenerationConfig", OneWord)
    (after,) = table.make("base", seeds=1)
    assert names(table.trained) == ["base-0"]
    assert after["CIDEr"] != before["CIDEr"]
    assert after["settings"]["generation"]["max_words"] == 1
    assert after["minutes"] == before["minutes"]


def test_a_row_without_epochs_of_its_own_goes_on_from_the_base_of_its_seed(table):
    base, longer = table.make("base", "longer")
    assert names(table.trained) == ["base-0", "base-1", "longer-0", "longer-1"]
    for seed in range(2):
        about = json.loads((table.runs / f"longer-{seed}" / "config.json").read_text())["about"]
        assert about["start"]["name"].startswith(f"base-{seed} ")
    assert longer["settings"]["start"] == "base"
    assert longer["minutes"] > base["minutes"]


def test_the_table_grows_row_by_row_and_makes_no_row_twice(table, monkeypatch):
    save = Progress.save

    def killed_after_its_first_epoch(self, folder):
        save(self, folder)
        if folder.name.startswith("self-critical") and self.counters["step"] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Progress, "save", killed_after_its_first_epoch)
    with pytest.raises(KeyboardInterrupt):
        table.make("text first", "self-critical", seeds=1)
    (only,) = table.lines()
    assert only["name"] == "text first"
    monkeypatch.setattr(Progress, "save", save)
    assert len(table.make("text first", "self-critical", "base", seeds=1)) == 3
    assert names(table.trained) == ["text-first-0", "self-critical-0", "base-0", "self-critical-0"]
    assert len((table.runs / "self-critical-0" / "log.jsonl").read_text().splitlines()) == 2
    shutil.rmtree(table.runs)
    del table.trained[:]
    assert [line["name"] for line in table.make("text first", "base", seeds=1)] == [row.name for row in ROWS[:3]]
    assert table.trained == []


def test_a_row_is_made_again_where_its_settings_are_others(table, monkeypatch):
    (before,) = table.make("base", seeds=1)
    (after,) = table.make("base")  # of more seeds
    assert (before["seeds"], after["seeds"]) == (1, 2)
    assert names(table.trained) == ["base-0", "base-1"]  # a run that is finished is not trained again
    shutil.rmtree(table.runs)
    changed = Recipe("levers", "", BASE.training | {"clip": 0.5}, BASE.decoder, BASE.encoder)
    monkeypatch.setattr(levers, "BASE", changed)
    (again,) = table.make("base", seeds=1)
    assert names(table.trained[2:]) == ["base-0"]
    assert again["settings"]["training"]["clip"] == 0.5


def test_settings_of_training_that_came_after_a_row_do_not_unmake_it(table):
    (made,) = table.make("base", seeds=1)
    del made["settings"]["training"]["reinforced_temperature"]
    table.file.write_text(json.dumps({"rows": [made]}))
    shutil.rmtree(table.runs)
    del table.trained[:]
    assert table.make("base", seeds=1) == [made]
    assert table.trained == []


def test_rows_of_other_origin_stay(table):
    other = {"name": "base", "recipe": "bundled", "seeds": 1, "CIDEr": 55.0, "BLEU-4": 21.0, "minutes": 90.0}
    table.file.parent.mkdir()
    table.file.write_text(json.dumps({"rows": [other]}))
    made, kept = table.make("base", seeds=1)
    assert made["recipe"] == "levers"
    assert kept == other


def test_only_the_row_that_learns_text_depends_on_it(shared, table):
    files = {flag[2:].replace("-", "_"): Path(value) for flag, value in zip(shared[::2], shared[1::2])}
    settings = [
        {
            row.name: levers.settings(row, ablation.Setting("levers", BASE, **files | {"text": text}, runs=table.runs))
            for row in ROWS
        }
        for text in (Path("one.txt"), Path("two.txt"))
    ]
    assert [name for name in settings[0] if settings[0][name] != settings[1][name]] == ["text first"]


def test_unusable_data_is_a_message_and_a_status(shared, tmp_path, capsys):
    elsewhere = ["--data", str(tmp_path), "--runs", str(tmp_path / "runs"), "--json", str(tmp_path / "levers.json")]
    assert levers.main([*shared, *elsewhere]) == 2
    assert "dataset*.json" in capsys.readouterr().err


def test_every_row_changes_something():
    base, *rows = levers.ROWS
    assert (base.decoder, base.training, base.encoder) == ({}, {}, {})
    plain = ablation.configs(base, 0, levers.BASE)
    for row in rows:
        assert ablation.configs(row, 0, levers.BASE) != plain
    assert len({row.name for row in levers.ROWS}) == len(levers.ROWS)
