from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from captioner.occlusion import blurred, hide
from captioner.rendering import COLOUR_MAPS, MAX_SIDE, blur_regions, figure, fit, overlay


def difference(one: Image.Image, other: Image.Image) -> np.ndarray:
    """How far each pixel moved, (H, W)."""
    return np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).sum(-1)


@pytest.fixture
def grey() -> Image.Image:
    return Image.new("RGB", (140, 90), (128, 128, 128))


@pytest.mark.parametrize("colour_map", COLOUR_MAPS)
def test_an_empty_map_leaves_the_photograph_untouched(photograph, colour_map):
    assert difference(overlay(photograph, np.zeros((7, 7)), colour_map=colour_map), photograph).max() == 0


def test_only_the_neighbourhood_of_an_important_region_changes(photograph):
    region_map = np.zeros((7, 7))
    region_map[1, 1] = 0.3
    changed = difference(overlay(photograph, region_map), photograph)
    height, width = changed.shape
    assert changed[: height // 2, : width // 2].max() > 0
    assert changed[height * 5 // 7 :].max() == 0
    assert changed[:, width * 5 // 7 :].max() == 0


def test_the_most_important_region_is_the_strongest(grey):
    region_map = np.full((5, 5), 0.1)
    region_map[3, 1] = 1
    changed = difference(overlay(grey, region_map), grey)
    row, column = np.unravel_index(changed.argmax(), changed.shape)
    assert row * 5 // grey.height == 3
    assert column * 5 // grey.width == 1


def test_the_scale_of_a_map_does_not_matter(photograph):
    region_map = np.random.default_rng(0).random((4, 6)).astype(np.float32)
    assert difference(overlay(photograph, region_map), overlay(photograph, region_map * 50)).max() <= 3


def test_negative_values_count_as_zero(photograph):
    signed = np.random.default_rng(1).normal(size=(7, 7))
    assert overlay(photograph, signed) == overlay(photograph, np.maximum(signed, 0))


def test_neither_photograph_nor_map_is_changed(photograph):
    region_map, before = np.random.default_rng(2).normal(size=(3, 3)), photograph.copy()
    kept = region_map.copy()
    overlay(photograph, region_map)
    assert photograph == before
    assert (region_map == kept).all()


@pytest.mark.parametrize("size", [(3000, 1000), (1000, 3000), (MAX_SIDE, 10), (1, 5000), (50, 40)])
def test_the_size_is_bounded_and_small_photographs_keep_theirs(size):
    shown = overlay(Image.new("RGB", size), np.ones((7, 7)))
    assert shown.size == fit(Image.new("RGB", size)).size
    assert max(shown.size) == min(max(size), MAX_SIDE)
    if max(size) <= MAX_SIDE:
        assert shown.size == size


def test_an_unknown_colour_map_is_refused_with_the_choices(photograph):
    with pytest.raises(ValueError, match=r"'jet'.*viridis, cividis, magma, grey"):
        overlay(photograph, np.ones((2, 2)), colour_map="jet")


@pytest.mark.parametrize("shape", [(7,), (1, 7, 7), (0, 7)])
def test_a_map_of_another_shape_is_refused(photograph, shape):
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        overlay(photograph, np.ones(shape))


def test_a_figure_has_the_photograph_and_a_panel_for_every_word(captioner, photograph):
    explained = captioner.explain(photograph)
    drawn = figure(explained)
    titles = [axes.get_title() for axes in drawn.axes]
    assert len(titles) == 1 + len(explained.words)
    for title, word in zip(titles[1:], explained.words):
        assert word.text in title
        assert f"{word.probability:.0%}" in title
    file = io.BytesIO()
    drawn.savefig(file, format="pdf")
    assert file.getvalue().startswith(b"%PDF")


def test_blurred_regions_look_as_the_model_sees_them_and_the_others_are_untouched(photograph):
    square, hidden = photograph.resize((96, 96)), np.zeros((3, 3), dtype=bool)
    hidden[1, 2] = True
    shown = torch.from_numpy(np.array(blur_regions(square, hidden))).permute(2, 0, 1).float()
    pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1).float()
    seen = hide(pixels, blurred(pixels), torch.from_numpy(hidden))
    assert (shown - seen).abs().max() < 2  # of 255
    assert (shown != pixels).any()
    untouched = np.asarray(blur_regions(photograph, np.zeros((3, 3), dtype=bool)))
    np.testing.assert_array_equal(untouched, np.asarray(photograph))
