"""The model that ships, on the photographs that ship."""

from pathlib import Path

import numpy as np
import pytest

import captioner
from captioner.hub import BUNDLED
from captioner.word_classes import is_content

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "assets" / "examples").glob("*.jpg"))


@pytest.fixture(scope="module")
def bundled():
    return captioner.load(BUNDLED, device="cpu")


def test_the_config_says_what_the_model_is(bundled):
    assert bundled.notice is None
    assert bundled.about["scores"]["split"] == "val"
    assert "non-commercial" in bundled.about["licence"]
    assert "Flickr8k" in bundled.about["data"]
    assert (BUNDLED / "model.safetensors").stat().st_size < 95_000_000


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_explanation_adds_up_and_the_beam_beats_greedy(bundled, path):
    explained, greedy = bundled.explain(path), bundled.explain(path, beam_size=1)
    assert explained.grid == (14, 14)
    for word in explained.words:
        total = word.bias + word.language_logit + word.region_logits.sum()
        assert total == pytest.approx(word.logit, rel=1e-3)
        assert word.region_map.sum() == pytest.approx(1, abs=1e-4)
    assert explained.log_probability >= greedy.log_probability - 1e-4


def test_captions_depend_on_the_photograph(bundled):
    captions = {bundled.explain(path).text for path in EXAMPLES}
    assert len(captions) > len(EXAMPLES) / 2  # two furry animals, both unknown to it, may well be the same dog


def test_maps_differ_from_word_to_word(bundled):
    explained = bundled.explain(EXAMPLES[0])
    first, *_, last = (word.region_map for word in explained.words if is_content(word.text))
    assert np.minimum(first, last).sum() < 0.5
