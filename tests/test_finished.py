from dataclasses import replace

import pytest
import torch

from captioner.finished import go_on_from
from captioner.hub import save_model
from captioner.vocabulary import Vocabulary
from tests.tiny import tiny_model


@pytest.fixture
def finished(tmp_path):
    """The folder of a calibrated model that learnt something."""
    saved = tiny_model()
    with torch.no_grad():
        saved.model.decoder.norm.weight.mul_(2)
        saved.model.encoder.body.layer4[1].conv2.weight.mul_(1.5)
        saved.model.decoder.head.temperature.fill_(1.5)
    about = saved.about | {"recipe": "small", "training": {"epochs": 3}, "scores": {"CIDEr": 40}}
    save_model(tmp_path / "finished", replace(saved, about=about))
    return tmp_path / "finished"


def test_a_model_gets_all_that_a_finished_one_learnt_but_its_calibration(finished):
    own = tiny_model()
    origin = go_on_from(finished, own.model, own.vocabulary)
    assert own.model.decoder.norm.weight.eq(2).all()
    torch.testing.assert_close(
        own.model.encoder.body.layer4[1].conv2.weight, 1.5 * tiny_model().model.encoder.body.layer4[1].conv2.weight,
        rtol=1e-3, atol=1e-4,
    )  # fmt: skip
    assert own.model.decoder.head.temperature == 1
    assert origin["name"].startswith("finished ")
    assert (origin["recipe"], origin["training"]) == ("small", {"epochs": 3})
    assert "scores" not in origin


def test_what_a_mean_is_made_of_goes_on_with_it(finished, tmp_path):
    own = tiny_model()
    parts = [{"name": "one"}, {"name": "two"}]
    save_model(tmp_path / "mean", replace(own, about={"mean of": parts, "start": {"name": "zero"}}))
    origin = go_on_from(tmp_path / "mean", own.model, own.vocabulary)
    assert origin["mean of"] == parts
    assert origin["start"] == {"name": "zero"}


@pytest.mark.parametrize(
    ("own", "complaint"),
    [
        (tiny_model(layers=2), "another form or size"),
        (tiny_model("gated"), "another form or size"),
        (tiny_model(levels=2), "another form or size"),
        (tiny_model(image_size=96), "sees photographs otherwise"),
        (tiny_model(seed=1), "sees photographs otherwise"),
        (replace(tiny_model(), vocabulary=Vocabulary(["a", "dog"])), "knows other words"),
    ],
)
def test_a_model_that_is_another_is_refused_and_nothing_is_changed(finished, own, complaint):
    before = [parameter.clone() for parameter in own.model.parameters()]
    with pytest.raises(ValueError, match=complaint):
        go_on_from(finished, own.model, own.vocabulary)
    assert all(torch.equal(one, two) for one, two in zip(before, own.model.parameters()))
