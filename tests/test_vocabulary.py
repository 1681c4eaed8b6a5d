from __future__ import annotations

import pytest

from captioner.vocabulary import END, PAD, START, UNKNOWN, Vocabulary, sentence, tokenize


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A man, riding a Bike.", ["a", "man", "riding", "a", "bike"]),
        ("the dog's ball", ["the", "dog", "'s", "ball"]),
        ("a black-and-white dog", ["a", "black", "and", "white", "dog"]),
        ("  two\tdogs\n", ["two", "dogs"]),
        ("number 23 .", ["number", "23"]),
        ("?!", []),
        ("", []),
    ],
)
def test_text_becomes_the_words_of_the_training_captions(text: str, words: list[str]):
    assert tokenize(text) == words


@pytest.mark.parametrize("text", ["a dog", "a dog's ball", "the boys' dog runs", ""])
def test_a_sentence_has_the_words_it_was_made_of(text: str):
    words = tokenize(text)
    assert tokenize(sentence(words)) == words


def test_an_apostrophe_joins_the_word_before_it():
    assert sentence(["the", "dog", "'s", "ball"]) == "the dog's ball"


def test_ids_stand_for_the_words_they_were_made_from():
    vocabulary = Vocabulary(["a", "dog", "runs"])
    ids = vocabulary.encode(["a", "dog", "runs"])
    assert len(set(ids)) == 3
    assert not {PAD, START, END, UNKNOWN} & set(ids)
    assert max(ids) == len(vocabulary) - 1
    assert vocabulary.decode(ids) == ["a", "dog", "runs"]


def test_unknown_words_share_an_id_that_can_be_read():
    vocabulary = Vocabulary(["a"])
    assert vocabulary.encode(["zebra", "a", "Dog"])[::2] == [UNKNOWN, UNKNOWN]
    assert "a" in vocabulary
    assert "zebra" not in vocabulary
    assert vocabulary.decode([UNKNOWN]) == ["<unk>"]


def test_decoding_stops_at_the_end_and_skips_start_and_padding():
    vocabulary = Vocabulary(["a", "dog"])
    a, dog = vocabulary.encode(["a", "dog"])
    assert vocabulary.decode([START, a, PAD, dog, END, a]) == ["a", "dog"]


def test_vocabulary_of_captions_has_frequent_words_the_commonest_first():
    captions = [["a", "dog"], ["a", "cat"], ["a", "dog"], ["the", "cat"]]
    assert Vocabulary.of(captions, least_count=2).words == ("a", "cat", "dog")
    assert len(Vocabulary.of(captions, least_count=4)) == 4  # the special ones


def test_vocabulary_of_captions_does_not_depend_on_their_order():
    captions = [["b", "a"], ["c", "b"], ["a", "d"]]
    assert Vocabulary.of(captions, least_count=1).words == Vocabulary.of(captions[::-1], least_count=1).words


@pytest.mark.parametrize("words", [["a", "dog", "a"], ["a", "<end>"]])
def test_a_word_cannot_have_two_ids(words: list[str]):
    with pytest.raises(ValueError, match="twice"):
        Vocabulary(words)
