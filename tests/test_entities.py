import json

import pytest

from captioner.data import DataError
from captioner.entities import ENTITIES_FILE, GroundedCaption, Phrase, grounded, read_entities

BOX, SMALL = (0.1, 0.2, 0.5, 0.9), (0.4, 0.4, 0.5, 0.5)
CAPTION = GroundedCaption(
    ("a", "tricolored", "dog", "wears", "a", "t", "shirt"),
    (Phrase(0, 2, ("animals",), (BOX,)), Phrase(4, 6, ("clothing",), ())),
)


def entry(words: str, *phrases: tuple[str, int, int], boxes: dict | None = None) -> dict:
    found = [{"chain": chain, "types": ["other"], "first": first, "last": last} for chain, first, last in phrases]
    return {"boxes": boxes or {}, "sentences": [{"words": words.split(), "phrases": found}]}


def write(folder, entries) -> None:
    (folder / ENTITIES_FILE).write_text(json.dumps(entries))


def phrases_read(folder, words: str, *phrases: tuple[str, int, int], boxes: dict | None = None) -> list[str]:
    write(folder, {"1.jpg": entry(words, *phrases, boxes=boxes)})
    (caption,) = read_entities(folder)["1.jpg"]
    return [" ".join(caption.words[phrase.first : phrase.last + 1]) for phrase in caption.phrases]


def test_phrases_come_with_the_boxes_of_their_chain(tmp_path):
    write(tmp_path, {"1.jpg": entry("A dog and air", ("7", 0, 1), ("8", 3, 3), boxes={"7": [BOX, SMALL]})})
    (caption,) = read_entities(tmp_path)["1.jpg"]
    assert caption.words == ("a", "dog", "and", "air")
    assert caption.phrases == (Phrase(0, 1, ("other",), (BOX, SMALL)), Phrase(3, 3, ("other",), ()))


def test_positions_follow_words_that_part_or_vanish(tmp_path):
    words = "A man , smiling , in a T-shirt and a hat ."
    assert phrases_read(tmp_path, words, ("1", 0, 1), ("2", 6, 7), ("3", 9, 10)) == ["a man", "a t shirt", "a hat"]


def test_punctuation_at_the_edges_of_a_phrase_belongs_to_no_word(tmp_path):
    assert phrases_read(tmp_path, '" Dogs " run', ("1", 0, 2)) == ["dogs"]


def test_a_phrase_without_any_word_is_left_out(tmp_path):
    assert phrases_read(tmp_path, "Dogs & cats", ("1", 1, 1), ("2", 2, 2)) == ["cats"]


@pytest.mark.parametrize(
    "entries",
    [
        [],
        {"1.jpg": {}},
        {"1.jpg": entry("a dog", ("1", 0, 5))},
        {"1.jpg": entry("a dog", ("1", 0, 1), boxes={"1": [[0.1, 0.2, 0.3]]})},
        {"1.jpg": entry("a dog", ("1", 0, 1), boxes={"1": [[10, 20, 200, 300]]})},
        {"1.jpg": entry("a dog", ("1", 0, 1), boxes={"1": [[0.5, 0.1, 0.4, 0.2]]})},
    ],
    ids=["list", "no boxes", "words beyond the end", "three edges", "pixels", "inside out"],
)
def test_another_layout_is_refused(tmp_path, entries):
    write(tmp_path, entries)
    with pytest.raises(DataError, match="not in the layout of phrase boxes"):
        read_entities(tmp_path)


def test_broken_json_is_refused(tmp_path):
    (tmp_path / ENTITIES_FILE).write_text("{")
    with pytest.raises(DataError, match="not in the layout"):
        read_entities(tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=rf"{ENTITIES_FILE} is missing"):
        read_entities(tmp_path)


@pytest.mark.parametrize(
    "words",
    ["a tricolored dog wears a t shirt", "a tri colored dog wears a tshirt", "at ricolored dog wears a t shirt"],
)
def test_phrases_cover_the_same_letters_however_the_caption_is_cut(words):
    aligned = CAPTION.aligned(words.split())
    assert aligned.words == tuple(words.split())
    for own, other in zip(CAPTION.phrases, aligned.phrases, strict=True):
        letters = "".join(CAPTION.words[own.first : own.last + 1])
        assert letters in "".join(aligned.words[other.first : other.last + 1])
        assert aligned.words[other.last].endswith(CAPTION.words[own.last][-1])
        assert (own.types, own.boxes) == (other.types, other.boxes)


def test_another_caption_does_not_align():
    assert CAPTION.aligned("a dog".split()) is None
    assert CAPTION.aligned([]) is None


def test_the_caption_with_these_words_is_found():
    other = GroundedCaption(("a", "cat"), ())
    assert grounded([other, CAPTION], list(CAPTION.words)) == CAPTION
    assert grounded([other, CAPTION], ["a", "cow"]) is None
    assert grounded([], ["a", "cat"]) is None
