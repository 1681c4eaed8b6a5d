from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from captioner.occlusion import blurred, hide
from captioner.rendering import (
    ANIMATION_SIDE,
    COLOUR_MAPS,
    MAX_SIDE,
    animation,
    blur_regions,
    figure,
    fit,
    overlay,
)


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
    _, *panels, _ = drawn.axes  # between the photograph and the scale of colours
    assert len(panels) == len(explained.words)
    for panel, word in zip(panels, explained.words):
        assert word.text in panel.get_title()
        assert f"{word.probability:.0%}" in panel.get_title()
        assert f"{word.region_logits.max():+.2f}" in panel.get_title() or word.region_logits.max() < 0
    assert drawn.get_suptitle() == explained.text
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


def frames(film: bytes) -> list[Image.Image]:
    return [frame.convert("RGB") for frame in ImageSequence.Iterator(Image.open(io.BytesIO(film)))]


def test_an_animation_has_a_frame_for_every_word_and_lingers_on_the_last(captioner, photograph):
    explained = captioner.explain(photograph)
    film = Image.open(io.BytesIO(animation(explained)))
    durations = [frame.info["duration"] for frame in ImageSequence.Iterator(film)]
    assert len(durations) == len(explained.words)
    assert len(set(durations[:-1])) == 1
    assert durations[-1] > durations[0]
    assert film.info["loop"] == 0  # for ever


def test_each_frame_shows_its_words_regions_over_the_photograph(captioner, photograph):
    explained = captioner.explain(photograph)
    maps = np.eye(9, dtype=np.float32).reshape(9, 3, 3)
    words = tuple(replace(word, region_logits=one) for word, one in zip(explained.words, maps))
    shown = frames(animation(replace(explained, words=words)))
    assert len(shown) == 9
    for frame, word in zip(shown, words):
        height = round(frame.width * photograph.height / photograph.width)
        enlarged = photograph.resize((frame.width, height), Image.Resampling.LANCZOS)
        picture = frame.crop((0, 0, frame.width, height))
        distances = [difference(picture, overlay(enlarged, other.region_logits)).mean() for other in words]
        assert words[np.argmin(distances)] is word
        assert min(distances) < 30  # of 765, with 256 colours for noise


def test_in_each_frame_another_word_of_the_caption_is_marked(captioner, photograph):
    explained = captioner.explain(photograph)
    marks = []
    for frame in frames(animation(explained)):
        below = np.asarray(frame, dtype=int)[round(frame.width * photograph.height / photograph.width) :]
        rows, columns = np.nonzero(np.abs(below - (255, 216, 77)).sum(-1) < 60)
        assert len(rows) > 100
        assert rows.max() - rows.min() < 40  # one line of text, and one word in it
        marks.append((rows.min() // 20, columns.min()))
    assert sorted(set(marks)) == marks  # from left to right, and line by line


@pytest.mark.parametrize("size", [(1600, 900), (900, 1600), (600, 600), (20, 30), (1600, 4), (4, 1600)])
@pytest.mark.parametrize("text", ["dog", "incomprehensibilities" * 9, ""])
def test_the_size_of_an_animation_is_bounded_whatever_is_in_it(captioner, photograph, size, text):
    explained = captioner.explain(photograph)
    words = tuple(replace(word, text=text) for word in explained.words[:2]) * 12
    film = Image.open(io.BytesIO(animation(replace(explained, words=words, photograph=photograph.resize(size)))))
    assert max(film.size) <= ANIMATION_SIDE
    assert min(film.size) >= 30


def test_an_animation_without_words_is_the_photograph(captioner, photograph):
    explained = replace(captioner.explain(photograph), words=())
    (frame,) = frames(animation(explained))
    assert difference(frame, photograph.resize(frame.size, Image.Resampling.LANCZOS)).mean() < 30


def test_an_animation_needs_a_photograph_and_a_known_colour_map(captioner, photograph):
    explained = captioner.explain(photograph)
    with pytest.raises(ValueError, match="no photograph"):
        animation(replace(explained, photograph=None))
    with pytest.raises(ValueError, match="'jet'"):
        animation(explained, colour_map="jet")
