import numpy as np

from captioner.non_photographs import noise, text_pages

SENTENCES = ["A dog runs .", "Two women stand on a street ."]


def test_pictures_are_as_many_as_asked_for_and_all_differ():
    for pictures in (noise(6), text_pages(SENTENCES, 6)):
        assert len(pictures) == 6
        assert len({picture.tobytes() for picture in pictures}) == 6
        assert all(picture.mode == "RGB" for picture in pictures)


def test_the_same_seed_gives_the_same_pictures_and_another_others():
    assert noise(2, seed=1) == noise(2, seed=1) != noise(2, seed=2)
    assert text_pages(SENTENCES, 2, seed=1) == text_pages(SENTENCES, 2, seed=1) != text_pages(SENTENCES, 2, seed=2)


def test_noise_goes_from_blobs_to_grain():
    steps = [np.abs(np.diff(np.asarray(picture, dtype=float), axis=1)).mean() for picture in noise(4)]
    assert steps == sorted(steps)


def test_text_is_dark_on_white():
    for page in text_pages(SENTENCES, 3):
        dark = (np.asarray(page) < 128).mean()
        assert 0.01 < dark < 0.3
        assert np.asarray(page)[:5].min() == 255  # there are margins
