import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from captioner import faithfulness
from captioner.faithfulness import (
    Faithfulness,
    Reliance,
    area,
    centre_order,
    growing_masks,
)
from captioner.occlusion import hidden_probabilities
from captioner.word_classes import ARTICLES, is_content
from tests.one_region import CENTRE, CORNER, GRID, REGIONS, one_region_model, pixels_of


def measured(saved, photographs, /, **options):
    metric = Faithfulness(saved.model, saved.vocabulary, **options)
    for seen in photographs:
        metric.add(seen)
    return metric.result()


@pytest.mark.parametrize(("regions", "steps"), [(49, 7), (9, 4), (4, 7)])
def test_hidden_sets_grow_in_equal_groups_from_none_to_all(regions, steps):
    order = np.random.default_rng(0).permutation(regions)
    masks, shares = growing_masks(order, steps)
    assert masks.shape == (steps + 1, regions)
    assert not masks[0].any()
    assert masks[-1].all()
    for smaller, larger in pairwise(masks):
        assert (smaller <= larger).all()
    added = np.diff(masks.sum(1))
    assert added.max() - added.min() <= 1
    np.testing.assert_allclose(shares, masks.mean(1))
    for mask in masks:
        assert set(np.flatnonzero(mask)) == set(order[: mask.sum()])


def test_the_area_under_a_constant_is_the_constant_and_under_a_ramp_its_middle():
    shares = np.array([0, 0.1, 0.5, 1])
    np.testing.assert_allclose(area(np.array([[0.3] * 4, shares]), shares), [0.3, 0.5])


def test_the_centre_order_goes_outwards():
    assert centre_order(GRID)[0] == CENTRE
    assert list(centre_order(GRID)[1:5]) == [1, 3, 5, 7]
    assert sorted(centre_order((4, 6))) == list(range(24))
    rows, columns = np.divmod(centre_order((4, 6)), 6)
    assert (np.diff(np.hypot(rows - 1.5, columns - 2.5)) > -1e-9).all()


def test_all_orders_begin_and_end_alike(captioner, seen_of):
    seen = seen_of(captioner, CORNER, "a dog in the grass")
    orders = np.stack([np.random.default_rng(seed).permutation(REGIONS) for seed in range(3)])
    masks, _ = growing_masks(orders, 3)
    found = hidden_probabilities(captioner.model, pixels_of(captioner, seen), seen.caption, masks.reshape(-1, REGIONS))
    curves = found.reshape(3, 4, -1)
    for end in (0, -1):
        np.testing.assert_array_equal(curves[:, end], curves[:1, end].repeat(3, 0))
    assert (curves[0, 1] != curves[1, 1]).any()


@pytest.mark.parametrize(("region", "place_in_centre_order"), [(CORNER, 6), (CENTRE, 1)])
def test_the_areas_are_those_of_the_one_region_that_matters(seen_of, region, place_in_centre_order):
    saved = one_region_model(region)
    seen = seen_of(saved, region, "dog")
    found = measured(saved, [seen], steps=REGIONS)
    ends = np.array([[False] * REGIONS, [True] * REGIONS])
    (whole,), (blank,) = hidden_probabilities(saved.model, pixels_of(saved, seen), seen.caption, ends)
    assert whole > blank + 0.1

    def expected(place):  # the curve falls in the step that hides the region
        share = (place - 0.5) / REGIONS
        return 100 * (blank + (whole - blank) * share), 100 * (whole - (whole - blank) * share)

    assert (found["deletion"], found["insertion"]) == pytest.approx(expected(1), rel=1e-4)
    at_centre = found["deletion_centre"], found["insertion_centre"]
    assert at_centre == pytest.approx(expected(place_in_centre_order), rel=1e-4)


def test_the_right_map_beats_random_order_and_says_how_surely(seen_of):
    saved = one_region_model(CORNER)
    photographs = [seen_of(saved, CORNER, "a dog", f"{number}.png") for number in range(8)]
    found = measured(saved, photographs, orders=("region_word", "random"))
    assert found["deletion"] < found["deletion_random"]
    assert found["insertion"] > found["insertion_random"]
    low, high = found["intervals"]["deletion - deletion_random"]
    assert low <= found["deletion"] - found["deletion_random"] <= high < 0
    assert found["photographs"] == found["words"] == 8


def test_results_depend_on_the_seed_and_not_on_the_order_of_photographs(captioner, seen_of):
    photographs = [seen_of(captioner, region, "a red dog and a man", f"{region}.png") for region in range(3)]
    one = measured(captioner, photographs, words=1, steps=2)
    assert measured(captioner, photographs, words=1, steps=2) == one
    backwards = measured(captioner, photographs[::-1], words=1, steps=2)
    del one["intervals"], backwards["intervals"]  # the bootstrap draws photographs by their place
    assert backwards == pytest.approx(one)
    assert measured(captioner, photographs, words=1, steps=2, seed=1)["deletion_random"] != one["deletion_random"]


def test_orders_that_know_no_word_are_encoded_once_for_all_words(seen_of):
    saved = one_region_model(CORNER)
    seen = seen_of(saved, CORNER, "red dog man grass")
    encoded = []
    for words in (1, 3):
        saved.model.encoder.seen = 0
        assert measured(saved, [seen], steps=3, words=words, orders=("random", "centre"))["words"] == words
        encoded.append(saved.model.encoder.seen)
    assert encoded[0] == encoded[1] <= 2 + 2 * 2 * 2  # whole, blurred, and two steps of two orders both ways


def test_only_content_words_count_and_repeated_ones_once(captioner, seen_of):
    seen = seen_of(captioner, CORNER, "a dog and a dog on the grass")
    assert measured(captioner, [seen], words=9, steps=2, orders=["centre"])["words"] == 2
    nothing = measured(captioner, [seen_of(captioner, CORNER, "a the on")])
    assert nothing == {"intervals": {}, "photographs": 0, "words": 0, "steps": 7}


def test_only_the_first_photographs_are_measured(captioner, seen_of):
    photographs = [seen_of(captioner, region, "a dog", f"{region}.png") for region in range(3)]
    limited = measured(captioner, photographs, photographs=2, steps=2)
    assert limited == measured(captioner, photographs[:2], steps=2)
    assert limited["photographs"] == 2


def test_results_are_the_same_in_inference_mode_and_can_be_written_as_json(captioner, seen_of):
    seen = seen_of(captioner, CORNER, "a dog in the snow")
    expected = measured(captioner, [seen], steps=2)
    with torch.inference_mode():
        found = measured(captioner, [seen], steps=2)
    assert json.loads(json.dumps(found)) == expected


def test_without_region_word_maps_attention_is_measured_against_the_others(captioner, seen_of, monkeypatch):
    seen = seen_of(captioner, CORNER, "a dog in the snow")
    attention = measured(captioner, [seen], steps=3, orders=("attention", "random"))
    read = faithfulness.read
    monkeypatch.setattr(faithfulness, "read", lambda *arguments: replace(read(*arguments), region_logits=None))
    plain = measured(captioner, [seen], steps=3, orders=("region_word", "attention", "random"))
    assert plain == attention
    assert "deletion_random" in plain
    assert "deletion_attention" not in plain


def test_an_unknown_order_is_named_with_the_choices(captioner):
    with pytest.raises(ValueError, match="No order best; choose from region_word"):
        Faithfulness(captioner.model, captioner.vocabulary, orders=("random", "best"))


def test_reliance_is_the_image_reliance_of_the_explained_words_by_class(captioner, seen_of):
    explained = captioner.explain(seen_of(captioner, CENTRE, "a").record.path)
    # What the tiny model says, and after it the words it does not say, so that every class occurs.
    forced = f"{explained.words[0].text} the dog with a man"
    seen = seen_of(captioner, CENTRE, forced)
    words = captioner.explain(seen.record.path, prefix=forced).words[: len(seen.caption)]
    metric = Reliance(captioner.model, captioner.vocabulary)
    metric.add(seen)
    found = metric.result()
    classes = {
        "article": [word for word in words if word.text in ARTICLES],
        "content": [word for word in words if is_content(word.text)],
        "function": [word for word in words if not is_content(word.text) and word.text not in ARTICLES],
    }
    for name, members in classes.items():
        assert found["counts"][name] == len(members) > 0
        assert found[name] == pytest.approx(100 * np.mean([word.image_reliance for word in members]), abs=1e-2)
        low, high = found["intervals"][name]
        assert low == pytest.approx(high)  # one photograph: nothing to resample
    assert json.loads(json.dumps(found)) == found


def test_reliance_measures_only_the_first_photographs(captioner, seen_of):
    metric = Reliance(captioner.model, captioner.vocabulary, photographs=1)
    for number in range(2):
        metric.add(seen_of(captioner, CORNER, "a dog", f"{number}.png"))
    assert metric.result()["photographs"] == 1
    assert metric.result()["counts"] == {"article": 1, "content": 1}


def test_a_word_that_needs_the_photograph_relies_on_it_and_one_that_does_not_does_not(seen_of):
    saved = one_region_model(CORNER)
    metric = Reliance(saved.model, saved.vocabulary)
    metric.add(seen_of(saved, CORNER, "dog"))
    assert metric.result()["content"] > 10
    with torch.no_grad():
        saved.model.decoder.head.value.weight.zero_()
    blind = Reliance(saved.model, saved.vocabulary)
    blind.add(seen_of(saved, CORNER, "dog"))
    assert blind.result()["content"] == pytest.approx(0, abs=1e-4)
