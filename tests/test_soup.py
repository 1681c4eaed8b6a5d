import json
from dataclasses import replace

import pytest
import torch

import captioner
from captioner.finished import name_of
from captioner.hub import load_model, save_model
from captioner.soup import main, soup
from captioner.vocabulary import Vocabulary
from tests.tiny import tiny_model

START = {"name": "first 0123", "recipe": "bundled"}


def ingredient(folder, scale, saved=None, start=START):
    """A model folder: a tiny model, its weights scaled, that says it went on from another."""
    saved = saved or tiny_model()
    with torch.no_grad():
        for parameter in saved.model.decoder.parameters():
            parameter.mul_(scale)
        saved.model.decoder.head.temperature.fill_(scale)
    about = saved.about | {"recipe": "self-critical", "training": {"seed": round(scale)}, "scores": {"CIDEr": 1.0}}
    save_model(folder, replace(saved, about=about | ({"start": start} if start else {})))
    return folder


def test_a_soup_is_the_mean_of_its_weights_and_says_of_which(tmp_path):
    folders = [ingredient(tmp_path / name, scale) for name, scale in (("one", 1), ("two", 2), ("six", 6))]
    mixed = soup(folders)
    for mean, single in zip(mixed.model.decoder.parameters(), tiny_model().model.decoder.parameters()):
        torch.testing.assert_close(mean, 3 * single, rtol=5e-3, atol=5e-3)
    assert mixed.model.decoder.head.temperature == 1
    assert [part["name"].split()[0] for part in mixed.about["mean of"]] == ["one", "two", "six"]
    assert [part["training"]["seed"] for part in mixed.about["mean of"]] == [1, 2, 6]
    assert mixed.about["start"] == START
    assert not {"recipe", "scores", "training"} & mixed.about.keys()


def test_weights_that_are_the_same_in_all_stay_the_same(tmp_path):
    folders = [ingredient(tmp_path / str(number), 1) for number in range(3)]
    mixed = soup(folders).model.state_dict()
    assert all(torch.equal(mixed[name], weight) for name, weight in load_model(folders[0]).model.state_dict().items())


def test_a_mean_counts_as_one_model_of_another_mean(tmp_path):
    folders = [ingredient(tmp_path / name, scale) for name, scale in (("one", 1), ("three", 3), ("eight", 8))]
    save_model(tmp_path / "two", soup(folders[:2]))
    mixed = soup([tmp_path / "two", folders[2]])
    for mean, single in zip(mixed.model.decoder.parameters(), tiny_model().model.decoder.parameters()):
        torch.testing.assert_close(mean, 5 * single, rtol=5e-3, atol=5e-3)
    two, eight = mixed.about["mean of"]
    assert [part["training"]["seed"] for part in two["mean of"]] == [1, 3]
    assert "training" not in two
    assert eight["training"]["seed"] == 8


def test_what_the_others_went_on_from_may_be_among_them(tmp_path):
    folders = [ingredient(tmp_path / name, scale) for name, scale in (("one", 1), ("three", 3))]
    save_model(tmp_path / "two", soup(folders))
    start = {"name": name_of(tmp_path / "two"), "start": START}
    mixed = soup([tmp_path / "two", ingredient(tmp_path / "five", 5, start=start)])
    for mean, single in zip(mixed.model.decoder.parameters(), tiny_model().model.decoder.parameters()):
        torch.testing.assert_close(mean, 3.5 * single, rtol=5e-3, atol=5e-3)
    assert mixed.about["start"] == start
    two, five = mixed.about["mean of"]
    assert two == {"name": start["name"]}  # the rest is told under "start"
    assert five["training"]["seed"] == 5


@pytest.mark.parametrize(
    ("other", "start", "complaint"),
    [
        (tiny_model(layers=2), START, "another form"),
        (replace(tiny_model(), vocabulary=Vocabulary(tiny_model().vocabulary.words[::-1])), START, "other words"),
        (tiny_model(), {"name": "another 4567"}, "did not go on from the same"),
        (tiny_model(), None, "did not go on from the same"),
    ],
)
def test_what_has_no_meaningful_mean_is_refused(tmp_path, other, start, complaint):
    folders = [ingredient(tmp_path / "one", 1), ingredient(tmp_path / "two", 1, other, start)]
    with pytest.raises(ValueError, match=complaint):
        soup(folders)
    with pytest.raises(ValueError, match="two models or more"):
        soup(folders[:1])


def test_the_command_line_scores_the_mean_and_saves_it(tmp_path, data, capsys):
    folders = [str(ingredient(tmp_path / name, scale)) for name, scale in (("one", 1), ("two", 2))]
    command = ["--data", str(data), "--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "mean")]
    assert main([*folders, *command]) == 0
    scores = json.loads(capsys.readouterr().out)
    about = captioner.load(tmp_path / "mean", device="cpu").about
    assert about["scores"] == scores
    assert {"split": "val", "beam": 3}.items() <= scores.items()
    assert main([folders[0], str(tmp_path / "nothing"), *command]) == 2
    assert "nothing" in capsys.readouterr().err
