import json
from dataclasses import asdict, fields

import pytest

import train
from captioner import ablation, levers
from captioner.decoder import DecoderConfig
from captioner.encoder import Encoder, EncoderConfig
from captioner.hub import BUNDLED
from captioner.photographs import Preprocessing
from captioner.recipes import SECTIONS, Recipe, read_recipe, recipe_names
from captioner.training_config import TrainingConfig

REQUIRED = "--data data --encoder-weights weights --output run".split()


@pytest.fixture
def started(monkeypatch):
    """Runs that train.py would have started: the keyword arguments of ``train``."""
    runs = []
    monkeypatch.setattr(train, "train", lambda *_, **settings: runs.append(settings))
    return runs


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_says_what_it_makes_and_can_be_trained(name):
    recipe = read_recipe(name)
    assert recipe.name == name
    assert recipe.description.endswith(".")
    TrainingConfig(**recipe.training)
    DecoderConfig(**recipe.decoder)
    Encoder(EncoderConfig(**recipe.encoder))


@pytest.mark.parametrize("name", recipe_names())
def test_a_recipe_sets_nothing_to_its_default(name):
    recipe = read_recipe(name)
    for section, config in SECTIONS.items():
        defaults = {field.name: field.default for field in fields(config)}
        same = [key for key, value in getattr(recipe, section).items() if value == defaults[key]]
        assert not same or name == "coco-paper"  # which names all that the paper names


def test_the_defaults_made_the_bundled_model_but_for_its_self_critical_epochs():
    bundled = read_recipe("bundled")
    assert all(setting.startswith("reinforced_") for setting in bundled.training)
    assert bundled == Recipe("bundled", bundled.description, bundled.training)


def test_the_recipes_of_the_bundled_model_have_the_settings_that_it_names():
    about = json.loads((BUNDLED / "config.json").read_text())["about"]
    mean, *last = about["mean of"]
    assert mean == {"name": about["start"]["name"]}
    pair, *others = about["start"]["mean of"]
    runs = [about["start"]["start"], *pair["mean of"], *others, *last]
    ways = "", "-dropout", "-crops", "-crops-dropout", "-short", "-again", "-again-sharper"
    recipes = ["bundled", *(f"self-critical{way}" for way in ways)]
    # A run may have called itself by an older recipe's name, before it had one of its own.
    for trained, recipe in zip(runs, recipes, strict=True):
        assert recipe.startswith(trained["recipe"])
        expected = asdict(TrainingConfig(**read_recipe(recipe).training))
        # Settings that came after a run are not in its list; whether a CPU multiplies in bfloat16 is up to it.
        known = trained["training"].keys() - {"cpu_bfloat16"}
        assert {key: expected[key] for key in known} == {key: trained["training"][key] for key in known}


@pytest.mark.parametrize(("name", "table"), [("small", ablation), ("levers", levers)])
def test_a_table_that_changes_a_recipe_starts_from_it(name, table):
    model, training = ablation.configs(table.ROWS[0], 0, table.BASE)
    recipe = read_recipe(name)
    assert training == TrainingConfig(**recipe.training)
    assert (model.decoder, model.encoder) == (DecoderConfig(**recipe.decoder), EncoderConfig(**recipe.encoder))


def test_flags_win_over_the_recipe_and_the_recipe_over_defaults(started):
    assert train.main([*REQUIRED, "--recipe", "small", "--epochs", "5", "--flip", "--encoder-levels", "2"]) == 0
    (run,) = started
    assert run["config"] == TrainingConfig(epochs=5, captions=3, tuned_epochs=0, reinforced_epochs=0)
    assert run["model_config"].decoder == DecoderConfig(width=192)
    assert run["model_config"].encoder == EncoderConfig(levels=2)
    assert run["about"]["recipe"] == "small"


def test_without_a_recipe_that_of_the_bundled_model_stands(started):
    assert train.main(REQUIRED) == 0
    (run,) = started
    assert run["config"] == TrainingConfig(**read_recipe("bundled").training)
    assert run["model_config"].preprocessing == Preprocessing()
    assert run["about"]["recipe"] == "bundled"


def test_a_recipe_may_be_a_file_of_ones_own(started, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("training: {learning_rate: 8e-5, boxes: 0}\nimage_size: 448\n")
    assert train.main([*REQUIRED, "--recipe", str(file)]) == 0
    assert train.main([*REQUIRED, "--recipe", str(file), "--image-size", "96"]) == 0
    assert [run["config"] for run in started] == 2 * [TrainingConfig(learning_rate=8e-5, boxes=0.0)]
    assert [run["model_config"].preprocessing.image_size for run in started] == [448, 96]
    assert started[0]["about"]["recipe"] == "own"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("trainning: {}", "trainning; there are description, image_size, training, decoder, encoder"),
        ("decoder: {widht: 8}", "decoder has unknown settings widht; there are .*width, layers"),
        ("name: mine", "unknown settings name"),
        ("training: {epochs: three}", "epochs must be of type int, not 'three'"),
        ("training: {epochs: 1.5}", "epochs must be of type int"),
        ("training: {flip: 1}", "flip must be of type bool"),
        ("training: {boxes: some}", "boxes must be a number, not 'some'"),
        ("training: {boxes: true}", "boxes must be of type float"),
        ("encoder: {levels: 3}", "levels is one of 1, 2, not 3"),
        ("training:", "training must be of type dict, not None"),
        ("", "must map settings to values"),
        ("a: [", "not readable YAML"),
        ("training: !!python/object/apply:os.getcwd []", "not readable YAML"),
    ],
)
def test_what_is_no_recipe_is_refused(text, complaint, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=complaint):
        read_recipe(str(file))


def test_an_unknown_recipe_is_answered_with_the_choices(started, capsys):
    assert train.main([*REQUIRED, "--recipe", "large"]) == 2
    error = capsys.readouterr().err
    assert not started
    assert all(name in error for name in ("'large'", *recipe_names()))
    shown = "".join(train._parser().format_help().split())  # which may break a line at a hyphen
    assert all(name in shown for name in recipe_names())
