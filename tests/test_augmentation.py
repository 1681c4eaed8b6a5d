import numpy as np
import pytest
from PIL import Image

from captioner.augmentation import View, boxes_in, views
from captioner.data import of_split, read_karpathy
from captioner.enhancement import PhraseWords
from captioner.entities import GroundedCaption, Phrase
from captioner.examples import Examples
from captioner.training_config import TrainingConfig
from captioner.vocabulary import Vocabulary

NAMES = [f"{number}.jpg" for number in range(200)]


def drawn(view, names=NAMES):
    crops, factors = zip(*(view.drawn(name) for name in names))
    return np.array(crops), np.array(factors)


def test_a_crop_shows_three_quarters_of_each_side_or_more():
    crops, factors = drawn(View(1))
    starts, sides = crops[:, :2], crops[:, 2:] - crops[:, :2]
    assert starts.min() >= 0
    assert crops.max() <= 1
    assert 0.75 <= sides.min() < 0.77
    assert 0.98 < sides.max() <= 1
    assert starts.max() > 0.2
    assert 0.8 <= factors.min() < 0.82
    assert 1.18 < factors.max() <= 1.2


def test_a_view_depends_on_number_and_name_alone():
    crops, factors = drawn(View(1))
    again, same_factors = drawn(View(1), NAMES[::-1])
    assert (again[::-1] == crops).all()
    assert (same_factors[::-1] == factors).all()
    assert len(np.unique(crops, axis=0)) == len(NAMES)
    for other in (View(2), View(3)):
        assert (drawn(other)[0] != crops).all()
    assert (drawn(View(1, mirrored=True))[0] == crops).all()  # mirrored is what the crop shows


def test_a_crop_shows_what_its_edges_say():
    """Of a photograph whose colours are their places, as far as the colours are left as they are."""
    size = 200
    ramp = np.linspace(0, 255, size, dtype=np.uint8)
    place = np.stack([np.tile(ramp, (size, 1)), np.tile(ramp[:, None], (1, size)), np.zeros((size, size), np.uint8)], 2)
    view = View(3)
    (x0, y0, x1, y1), _ = view.drawn("a.jpg")
    view_of_place = np.asarray(Shown(view).show(Image.fromarray(place), "a.jpg")) / 255
    assert view_of_place.shape == (size, size, 3)
    columns, rows = view_of_place[..., 0].mean(0), view_of_place[..., 1].mean(1)
    assert columns[[0, -1]] == pytest.approx([x0, x1], abs=0.01)
    assert rows[[0, -1]] == pytest.approx([y0, y1], abs=0.01)


class Shown(View):
    """A view whose colours stay."""

    def __init__(self, view):
        super().__init__(view.number, view.mirrored)

    def drawn(self, name):
        crop, factors = super().drawn(name)
        return crop, [1.0] * len(factors)


def test_a_crop_changes_colours_and_the_whole_photograph_does_not(photograph):
    assert View().show(photograph, "a.jpg") is photograph
    shown, uncoloured = View(1).show(photograph, "a.jpg"), Shown(View(1)).show(photograph, "a.jpg")
    difference = np.abs(np.asarray(shown, dtype=int) - np.asarray(uncoloured, dtype=int))
    assert 0 < difference.mean() < 60


def test_boxes_are_clipped_and_put_in_the_coordinates_of_the_crop():
    crop = (0.2, 0.0, 1.0, 0.8)
    assert boxes_in(crop, [(0.0, 0.0, 0.6, 0.4)]) == (pytest.approx((0, 0, 0.5, 0.5)),)
    assert boxes_in(crop, [(0.6, 0.4, 1.0, 1.0)]) == (pytest.approx((0.5, 0.5, 1, 1)),)
    assert boxes_in((0, 0, 1, 1), [(0.1, 0.2, 0.3, 0.4)]) == ((0.1, 0.2, 0.3, 0.4),)


def test_a_phrase_that_the_crop_shows_less_than_half_of_has_no_boxes():
    crop = (0.25, 0.0, 1.0, 1.0)
    mostly_out, mostly_in, out = (0.0, 0.0, 0.45, 0.5), (0.0, 0.0, 0.55, 0.5), (0.0, 0.5, 0.1, 0.6)
    assert boxes_in(crop, [mostly_out]) == ()
    assert len(boxes_in(crop, [mostly_in])) == 1
    assert len(boxes_in(crop, [mostly_in, out])) == 1  # of which nothing is left
    assert boxes_in(crop, [mostly_in, mostly_out, out]) == ()
    assert boxes_in(crop, []) == ()


def test_captions_are_grounded_in_what_a_view_shows():
    whole, corner = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.01, 0.01)
    caption = GroundedCaption(
        ("a", "field", "with", "a", "dog"), (Phrase(0, 1, ("scene",), (whole,)), Phrase(3, 4, ("animals",), (corner,)))
    )
    assert View(mirrored=True).ground([caption], "a.jpg") == [caption]
    name = next(name for name in NAMES if min(View(1).drawn(name)[0][:2]) > 0.02)
    (found,) = View(1).ground([caption], name)
    assert found.words == caption.words
    field, dog = found.phrases
    assert field.boxes == (pytest.approx((0, 0, 1, 1)),)
    assert (dog.first, dog.last, dog.types, dog.boxes) == (3, 4, ("animals",), ())


def test_every_view_comes_with_its_mirror_image_unless_these_are_not_wanted():
    assert views(TrainingConfig(flip=False)) == [View()]
    assert views(TrainingConfig()) == [View(), View(mirrored=True)]
    assert views(TrainingConfig(crops=1, flip=False, seed=3)) == [View(0), View(1)]
    assert [(v.number, v.mirrored) for v in views(TrainingConfig(crops=1))] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    labels = [view.label for view in views(TrainingConfig(crops=2))]
    assert len(set(labels)) == 6
    assert labels[:2] == ["", "-flipped"]


def test_batches_hold_the_words_and_boxes_of_the_views_they_show(data):
    """Features tell view and photograph; in the one crop all boxes are in the region at the top left."""
    config = TrainingConfig(crops=1, batch=5, captions=2, least_count=1)
    records = of_split(read_karpathy(data), "train")
    vocabulary = Vocabulary.of((words for record in records for words in record.tokens), least_count=1)
    features = [
        np.full((len(records), 2, 2, 8), 100 * view, dtype=np.float16)
        + np.arange(len(records), dtype=np.float16)[:, None, None, None]
        for view in range(4)
    ]
    corner = (0.0, 0.0, 0.5, 0.5)
    captions = [record.tokens for record in records]
    grounded = [
        [GroundedCaption(words, (Phrase(0, len(words) - 1, (), (box,)),)) for words in own]
        for box in ((0.0, 0.5, 0.5, 1.0), corner)
        for own in captions
    ]
    made = Examples(records, vocabulary, features, config, PhraseWords(captions * 2, grounded, (2, 2)))
    seen = set()
    for batch in [*made.epoch(0), *made.epoch(1)]:
        shown, rows = (batch.features[:, 0, 0, 0].numpy().astype(int) // 100, batch.features[:, 0, 0, 0] % 100)
        assert rows.tolist() == batch.rows.tolist()
        assert batch.mirrored.tolist() == [view in (1, 3) for view in shown]
        boxes = {0: [0, 0, 1, 0], 1: [0, 0, 0, 1], 2: [1, 0, 0, 0], 3: [0, 1, 0, 0]}
        for caption, inside in zip(batch.phrases.captions.tolist(), batch.phrases.inside.tolist()):
            assert inside == boxes[shown[caption // 2]]
        for caption, ids in enumerate(batch.words.tolist()):
            words = vocabulary.decode(ids)
            swapped = [{"left": "right", "right": "left"}.get(word, word) for word in words]
            own = records[batch.rows[caption // 2]].tokens
            assert tuple(swapped if batch.mirrored[caption // 2] else words) in own
        seen.update(shown)
    assert seen == {0, 1, 2, 3}
