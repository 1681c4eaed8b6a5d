import numpy as np
import pytest
import torch
from torchvision.transforms.functional import gaussian_blur

from captioner.occlusion import (
    blurred,
    caption_probabilities,
    hidden_probabilities,
    hide,
    occlusion_effects,
    strongest_first,
)
from tests.one_region import CENTRE, CORNER, GRID, REGIONS, one_region_model, pixels_of


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
