import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.functional import gaussian_blur

from captioner import faithfulness
from captioner.data import CaptionedPhotograph
from captioner.faithfulness import (
    Faithfulness,
    Reliance,
    area,
    blurred,
    caption_probabilities,
    centre_order,
    growing_masks,
    hidden_probabilities,
    hide,
    occlusion_effects,
    strongest_first,
)
from captioner.measurement import Seen
from captioner.photographs import open_photograph
from captioner.word_classes import ARTICLES, is_content
from tests.tiny import tiny_model

GRID, REGIONS, SIDE = (3, 3), 9, 96
CORNER, CENTRE = 0, 4


class OneRegion(nn.Module):
    """An encoder that sees how bright one region is, and nothing else. Counts the photographs it saw."""

    def __init__(self, region: int):
        super().__init__()
        self.region, self.seen = region, 0

    def forward(self, images):
        self.seen += len(images)
        bright = nn.functional.adaptive_avg_pool2d(images, GRID).mean(1, keepdim=True)
        only = torch.zeros(REGIONS)
        only[self.region] = 1
        return bright * only.view(GRID)


def one_region_model(region: int, word: str = "dog"):
    """A model to which ``word`` is the likelier the brighter ``region`` is, through that region's logit alone."""
    saved = tiny_model("none", image_size=SIDE)
    model, decoder = saved.model, saved.model.decoder
    model.encoder = OneRegion(region)
    decoder.project = nn.Linear(1, 16, bias=False)
    decoder.head.value = nn.Linear(16, 16, bias=False)
    with torch.no_grad():
        decoder.position.zero_()
        decoder.head.key.weight.zero_()  # attention is uniform
        for context in decoder.contexts:  # and the language state sees nothing
            context.weight.zero_()
        decoder.project.weight.copy_(torch.eye(16)[:, :1])
        embedded = decoder.embedding.weight[saved.vocabulary.encode([word])[0]]
        decoder.head.value.weight.copy_(embedded[:, None] * torch.eye(16)[:1] * 40 / embedded.norm() ** 2)
    return saved


@pytest.fixture
def seen_of(tmp_path):
    """A function: a photograph with one bright region, as the model saw it, and a caption given to it."""

    def make(saved, region: int, words: str, name: str = "photo.png") -> Seen:
        row, column = divmod(region, 3)
        pixels = np.random.default_rng(0).integers(0, 40, (SIDE, SIDE, 3), dtype=np.uint8)
        pixels[row * 32 : row * 32 + 32, column * 32 : column * 32 + 32] = 250
        Image.fromarray(pixels).save(tmp_path / name)
        image = saved.model.config.preprocessing(open_photograph(tmp_path / name))
        with torch.inference_mode():
            features = saved.model.encode(image[None])[0]
        record = CaptionedPhotograph(tmp_path / name, "val", (), ())
        return Seen(record, features, tuple(saved.vocabulary.encode(words.split())))

    return make


def measured(saved, photographs, /, **options):
    metric = Faithfulness(saved.model, saved.vocabulary, **options)
    for seen in photographs:
        metric.add(seen)
    return metric.result()


def pixels_of(saved, seen):
    return saved.model.config.preprocessing(open_photograph(seen.record.path))


def test_blurring_is_the_gaussian_of_a_tenth_of_the_side():
    pixels = torch.randn(3, 40, 40)
    torch.testing.assert_close(blurred(pixels), gaussian_blur(pixels, [25, 25], [4.0, 4.0]))
    assert blurred(pixels).std() < pixels.std() / 5


@pytest.mark.parametrize("side", [9, 10, 32])
def test_regions_part_the_photograph_also_where_they_do_not_divide_it(side):
    pixels = torch.zeros(3, side, side)
    single = torch.eye(REGIONS, dtype=torch.bool).unflatten(1, GRID)
    hidden = hide(pixels, torch.ones_like(pixels), single)  # (R, 3, S, S)
    torch.testing.assert_close(hidden.sum(0), torch.ones_like(pixels))  # every pixel in one region
    sizes = hidden[:, 0].sum((1, 2)).view(GRID)
    assert sizes.min() >= (side // 3) ** 2
    assert hidden[0, :, 0, 0].all()
    assert hidden[2, :, 0, -1].all()  # top right
    assert hidden[8, :, -1, -1].all()


def test_with_nothing_hidden_the_photograph_is_whole_and_with_all_hidden_it_is_blurred():
    pixels = torch.randn(3, 10, 10)
    none, everything = torch.zeros(GRID, dtype=torch.bool), torch.ones(GRID, dtype=torch.bool)
    torch.testing.assert_close(hide(pixels, blurred(pixels), none), pixels)
    torch.testing.assert_close(hide(pixels, blurred(pixels), everything), blurred(pixels))


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


def test_regions_are_ordered_by_value_and_equal_ones_as_they_are_told():
    maps = np.array([[0.0, 3.0, 0.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0, 1.0]])
    ties = np.array([4, 1, 0, 3, 2])
    assert strongest_first(maps, ties).tolist() == [[1, 3, 4, 0, 2], [4, 1, 0, 3, 2]]


def test_probabilities_with_regions_hidden_are_those_of_the_changed_photograph(captioner, seen_of):
    seen = seen_of(captioner, CORNER, "a dog in the grass")
    pixels, masks = pixels_of(captioner, seen), np.zeros((3, REGIONS), dtype=bool)
    masks[1, [2, 5]] = True
    found = hidden_probabilities(captioner.model, pixels, seen.caption, masks)
    changed = pixels.clone()
    changed[:, :64, 64:] = blurred(pixels)[:, :64, 64:]  # regions 2 and 5 are the upper two of the right column
    with torch.inference_mode():
        features = captioner.model.encode(torch.stack([pixels, changed, pixels]))
    expected = caption_probabilities(captioner.model.decoder, features, seen.caption)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-7)
    assert (found[0] != found[1]).any()


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


def test_occlusion_tells_a_true_map_from_a_false_one(seen_of):
    saved = one_region_model(CORNER)
    seen = seen_of(saved, CORNER, "dog dog")
    maps = np.zeros((2, *GRID))
    maps[0].flat[CORNER], maps[1].flat[CENTRE] = 1, 1
    maps += 0.1 * np.linspace(1, 0, REGIONS).reshape(GRID)[::-1, ::-1]  # the second strongest region is far away
    true, false = occlusion_effects(saved.model, pixels_of(saved, seen), seen.caption, maps)
    assert true.hidden < true.random <= true.whole
    assert false.hidden == pytest.approx(false.whole)


def test_occlusion_hides_nothing_from_words_that_need_no_photograph(seen_of):
    saved = one_region_model(CORNER)
    with torch.no_grad():
        saved.model.decoder.head.value.weight.zero_()
    seen = seen_of(saved, CORNER, "a dog")
    for effect in occlusion_effects(saved.model, pixels_of(saved, seen), seen.caption, np.ones((2, *GRID))):
        assert effect.hidden == pytest.approx(effect.whole)
        assert effect.random == pytest.approx(effect.whole)


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
