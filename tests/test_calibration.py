import json

import pytest
import torch

from captioner import calibration, load
from captioner.calibration import BINS, fit_temperature, reference_words, reliability
from captioner.hub import load_model
from captioner.likelihood import log_probabilities
from captioner.reading import read
from captioner.vocabulary import END, PAD, UNKNOWN
from tests.tiny import save_tiny_model, tiny_model
from tests.tiny_data import make_data


def drawn_words(temperature: float, *, count: int = 4000) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Words drawn by the probabilities of logits at a temperature: that is the one to find."""
    random = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(count, 12, generator=random)
    words = torch.multinomial(log_probabilities(logits / temperature).exp(), 1, generator=random).squeeze(1)
    return list(zip(words.split(1000), logits.half().split(1000)))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_by_which_words_were_drawn_is_found(temperature: float):
    assert fit_temperature(drawn_words(temperature)) == pytest.approx(temperature, rel=0.05)


def test_at_its_temperature_a_model_means_what_it_says():
    words = drawn_words(2.5)
    before, after = reliability(words, 1.0), reliability(words, 2.5)
    assert after["ece"] < 3 < 20 < before["ece"]
    assert after["nll"] < before["nll"]


def test_reliability_is_what_its_definition_says():
    # Two words, likeliest with 0.8 and 0.6; the first is right.
    # Padding, start and the unknown word, which are never said, have no part in it.
    logits = torch.tensor([[9, 9, 0.1, 9, 0.8, 0.1], [9, 9, 0.2, 9, 0.6, 0.2]]).log()
    measured = reliability([(torch.tensor([4, END]), logits)], 1.0)
    assert measured["ece"] == pytest.approx(100 * (0.2 + 0.6) / 2, abs=0.1)
    assert measured["nll"] == pytest.approx(-(torch.tensor([0.8, 0.2]).log()).mean().item(), abs=1e-4)
    filled = {place: own for place, own in enumerate(measured["bins"]) if own["words"]}
    assert len(measured["bins"]) == BINS
    assert set(filled) == {9, 12}  # 0.6 and 0.8 of 15
    assert filled[9]["accuracy"] == 0
    assert filled[12]["accuracy"] == 1
    assert filled[12]["confidence"] == pytest.approx(0.8)


def test_certainty_has_a_bin():
    measured = reliability([(torch.tensor([END]), torch.tensor([[0.0, 0.0, 100.0, 0.0]]))], 1.0)
    assert measured["bins"][-1]["words"] == 1
    assert measured["ece"] == pytest.approx(0, abs=1e-6)


def test_padding_and_unknown_words_are_left_out():
    decoder = tiny_model(image_size=96).model.decoder
    features = torch.randn(9, 512)
    captions = [[5, UNKNOWN, 7], [8]]
    words, logits = reference_words(decoder, features, captions)
    assert words.tolist() == [5, 7, END, 8, END]
    whole = torch.tensor([[5, UNKNOWN, 7, END], [8, END, PAD, PAD]])
    with torch.no_grad():
        expected = read(decoder, whole, decoder.look(features[None])).logits
    torch.testing.assert_close(logits[1], expected[0, 2].half(), rtol=1e-2, atol=1e-2)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """A model folder before and after, and the report."""
    folder = tmp_path_factory.mktemp("calibrated")
    data, model = make_data(folder / "data"), save_tiny_model(folder / "model", image_size=96)
    before = load_model(model)
    files = f"--json {folder / 'new' / 'report.json'} --figure {folder / 'new' / 'figure.png'}"
    assert calibration.main(f"{model} --data {data} --coco {data} {files}".split()) == 0
    assert (folder / "new" / "figure.png").stat().st_size > 1000
    return before, model, json.loads((folder / "new" / "report.json").read_text())


def test_the_command_writes_what_it_found_into_the_model(calibrated):
    before, folder, report = calibrated
    after = load_model(folder)
    assert after.model.decoder.head.temperature.item() == pytest.approx(report["temperature"])
    assert before.familiarity is None
    assert after.familiarity.mean.shape == (before.model.encoder.channels,)
    changed = [
        name
        for name, tensor in after.model.state_dict().items()
        if not torch.equal(tensor, before.model.state_dict()[name])
    ]
    assert changed == ["decoder.head.temperature"]
    assert (after.about, after.vocabulary.words) == (before.about, before.vocabulary.words)


def test_the_report_says_what_was_measured(calibrated):
    *_, report = calibrated
    assert set(report) == {
        "run",
        "split",
        "seed",
        "settings",
        "temperature",
        "before",
        "after",
        "familiarity",
        "seconds",
    }
    assert report["after"]["nll"] <= report["before"]["nll"]
    for when in ("before", "after"):
        assert set(report[when]) == {"ece", "nll", "bins"}
    assert report["before"]["bins"] != report["after"]["bins"]
    words = {when: sum(own["words"] for own in report[when]["bins"]) for when in ("before", "after")}
    assert words["before"] == words["after"] > 0
    assert set(report["familiarity"]["auroc"]) == {"noise", "text", "coco"}
    assert set(report["familiarity"]["flagged"]) == {"val", "noise", "text", "coco"}


def test_calibrating_again_changes_nothing(calibrated, tmp_path):
    _, folder, report = calibrated
    data = make_data(tmp_path / "data")
    assert calibration.main([str(folder), "--data", str(data), "--json", str(tmp_path / "again.json")]) == 0
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["temperature"] == pytest.approx(report["temperature"], rel=1e-3)
    assert again["before"]["nll"] == pytest.approx(report["before"]["nll"], rel=1e-3)


def test_a_calibrated_model_explains_with_its_temperature(calibrated, photograph):
    _, folder, report = calibrated
    tiny = load(folder, device="cpu")
    explained = tiny.explain(photograph)
    assert 0 <= explained.familiarity <= 1
    for word in explained.words:
        total = word.bias + word.language_logit + word.region_logits.sum()
        assert total == pytest.approx(word.logit, rel=1e-3, abs=1e-4)
    tiny.model.decoder.head.temperature.fill_(1)
    sharp = tiny.explain_caption(photograph, explained.text)
    for word, own in zip(explained.words, sharp.words, strict=True):
        assert word.logit == pytest.approx(own.logit / report["temperature"], rel=1e-3, abs=1e-4)
        torch.testing.assert_close(torch.tensor(word.region_map), torch.tensor(own.region_map), atol=1e-4, rtol=1e-3)


def test_mistakes_are_told_in_a_line(tmp_path, capsys):
    model = save_tiny_model(tmp_path / "model")
    kept = (model / "model.safetensors").read_bytes()
    assert calibration.main([str(tmp_path), "--data", str(tmp_path)]) == 2
    assert calibration.main([str(model), "--data", str(tmp_path)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert all(line.startswith("captioner.calibration: ") for line in errors)
    assert len(errors) == 2
    assert (model / "model.safetensors").read_bytes() == kept


def test_every_flag_has_help():
    assert all(action.help for action in calibration._parser()._actions)
