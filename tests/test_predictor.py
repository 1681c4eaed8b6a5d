import io
from dataclasses import replace

import numpy as np
import pytest
import torch

import captioner as package
from captioner import Captioner, ModelError, PhotographError, PrefixError
from captioner.attention import FORMS
from captioner.hub import save_model
from captioner.occlusion import blurred, caption_probabilities, hide, occlusion_effects
from tests.tiny import tiny_model


@pytest.fixture(params=FORMS)
def any_captioner(request):
    return Captioner(tiny_model(request.param, image_size=96), name="tiny")


def test_the_explanation_adds_up_for_every_word(any_captioner, photograph):
    for word in any_captioner.explain(photograph).words:
        total = word.bias + word.language_logit + word.region_logits.sum()
        assert total == pytest.approx(word.logit, rel=1e-3, abs=1e-4)


def test_maps_lie_on_the_grid_and_are_distributions(any_captioner, photograph):
    explained = any_captioner.explain(photograph)
    layers = len([layer for layer in range(3) if any_captioner.model.decoder.hierarchy.layer_grid(layer)])
    assert explained.grid == (3, 3)
    for word in explained.words:
        assert word.region_logits.shape == word.region_map.shape == word.attention.shape == (3, 3)
        assert word.layer_maps.shape == (layers, 3, 3)
        for one in (word.region_map, word.attention, *word.layer_maps):
            assert (one >= 0).all()
            assert one.sum() == pytest.approx(1, abs=1e-5)


def test_probabilities_belong_to_the_caption_that_won(captioner, photograph):
    explained = captioner.explain(photograph, beam_size=4)
    words = sum(np.log(word.probability) for word in explained.words)
    assert explained.log_probability <= words + 1e-4  # the rest is the end of the caption
    for word in explained.words:
        assert 0 <= word.probability <= 1
        assert word.text not in dict(word.alternatives)
        likelihoods = [probability for _, probability in word.alternatives]
        assert likelihoods == sorted(likelihoods, reverse=True)
        assert word.end_probability > 0
        assert word.probability + sum(likelihoods) + word.end_probability <= 1 + 1e-5
        assert -1 <= word.image_reliance <= 1


def test_a_wider_beam_is_at_least_as_probable(captioner, photograph):
    greedy, beam = captioner.explain(photograph, beam_size=1), captioner.explain(photograph, beam_size=3)
    assert beam.log_probability >= greedy.log_probability - 1e-4
    assert not greedy.alternatives
    assert all(other.text != beam.text for other in beam.alternatives)


def test_a_prefix_begins_the_caption(captioner, photograph):
    assert captioner.explain(photograph, prefix="A woman's").text.startswith("a woman's")
    assert captioner.explain(photograph, prefix=["two", "dog"]).text.startswith("two dog")
    assert captioner.explain(photograph, prefix="").text == captioner.explain(photograph).text


def test_an_unknown_first_word_is_named(captioner, photograph):
    with pytest.raises(PrefixError, match="“zebra”"):
        captioner.explain(photograph, prefix="a zebra in")
    with pytest.raises(PrefixError, match="at most 19"):
        captioner.explain(photograph, prefix="a " * 20)


def test_every_kind_of_source_gives_the_same_caption(captioner, photograph, tmp_path):
    photograph.save(tmp_path / "p.png")
    buffer = io.BytesIO()
    photograph.save(buffer, "PNG")
    sources = [photograph, tmp_path / "p.png", str(tmp_path / "p.png"), buffer.getvalue(), np.array(photograph)]
    assert len({captioner.explain(source).to_json() for source in sources}) == 1


def test_a_uniform_photograph_is_not_relied_upon(captioner):
    grey = np.full((50, 50, 3), 128, dtype=np.uint8)
    for word in captioner.explain(grey).words:
        assert word.image_reliance == pytest.approx(0, abs=1e-3)


def test_a_bad_photograph_and_a_bad_model_have_their_errors(captioner, tmp_path):
    with pytest.raises(PhotographError):
        captioner.explain(b"no photograph")
    with pytest.raises(ModelError):
        package.load(tmp_path)


def test_load_takes_a_folder(model_folder, captioner, photograph):
    loaded = package.load(model_folder, device="cpu")
    assert loaded.notice is None
    assert loaded.explain(photograph).grid == (3, 3)


def test_a_given_caption_is_explained_as_the_models_own_would_be(captioner, photograph):
    own = captioner.explain(photograph)
    given = captioner.explain_caption(photograph, own.text)
    assert given.text == own.text
    assert given.log_probability == pytest.approx(own.log_probability, abs=1e-3)
    for word, same in zip(own.words, given.words, strict=True):
        assert word.probability == pytest.approx(same.probability, abs=1e-5)
        np.testing.assert_allclose(word.region_logits, same.region_logits, atol=1e-5)


def test_an_empty_caption_has_no_words_but_a_probability(captioner, photograph):
    explained = captioner.explain_caption(photograph, "")
    assert explained.words == ()
    assert explained.log_probability < 0


def test_a_given_caption_must_be_of_known_words(captioner, photograph):
    with pytest.raises(PrefixError, match="“zebra”"):
        captioner.explain_caption(photograph, "a zebra")


@pytest.mark.parametrize("made_for_comparison", [{"head": "plain"}, {"kind": "lstm"}, {"kind": "transformer"}])
def test_a_model_for_ablations_is_refused_by_name(tmp_path, made_for_comparison):
    save_model(tmp_path, tiny_model(**made_for_comparison))
    with pytest.raises(ModelError, match="no sum over regions"):
        package.load(tmp_path)


def test_hiding_no_region_changes_nothing_and_hiding_some_is_captioning_the_blurred_photograph(captioner, photograph):
    hidden = np.zeros((3, 3), dtype=bool)
    whole = captioner.explain(photograph)
    assert captioner.explain(photograph, hidden=hidden).to_json() == whole.to_json()
    hidden[1, 1:] = True
    changed = captioner.explain(photograph, hidden=hidden, prefix="a dog")
    same_words = captioner.explain_caption(photograph, [word.text for word in changed.words], hidden=hidden)
    assert [word.probability for word in same_words.words] == [word.probability for word in changed.words]
    pixels = captioner.model.config.preprocessing(photograph)
    without = hide(pixels, blurred(pixels), torch.from_numpy(hidden))
    blank = pixels.mean((1, 2), keepdim=True).expand_as(pixels)
    features = captioner.model.encode(torch.stack([without, blank]))  # encoded side by side, as in explaining
    caption = captioner.vocabulary.encode(word.text for word in changed.words)
    expected = caption_probabilities(captioner.model.decoder, features[:1], caption)[0]
    assert [word.probability for word in changed.words] == pytest.approx(expected.tolist(), rel=1e-4)


def test_the_regions_tested_are_the_strongest_of_each_words_own_map(captioner, photograph):
    explained = captioner.explain(photograph)
    caption = captioner.vocabulary.encode(word.text for word in explained.words)
    maps = np.stack([word.region_map for word in explained.words])
    expected = occlusion_effects(captioner.model, captioner.model.config.preprocessing(photograph), caption, maps)
    assert captioner.occlusions(explained) == expected
    assert captioner.occlusions(replace(explained, words=())) == ()
    with pytest.raises(ValueError, match="no photograph"):
        captioner.occlusions(replace(explained, photograph=None))
