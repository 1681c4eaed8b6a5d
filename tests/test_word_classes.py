import pytest

from captioner.word_classes import ARTICLES, FUNCTION_WORDS, is_attribute, is_content, is_noun, things


def test_articles_are_function_words_and_no_content():
    assert ARTICLES < FUNCTION_WORDS
    assert not any(map(is_content, FUNCTION_WORDS))


@pytest.mark.parametrize("word", "dog people building bed family railing swing snowboarder frisbee".split())
def test_names_of_things_are_nouns(word):
    assert is_noun(word)


@pytest.mark.parametrize("word", "the 's running jumps covered quickly red two young together play".split())
def test_other_words_are_no_nouns(word):
    assert not is_noun(word)


def test_colours_numbers_sizes_and_ages_are_attributes_with_content():
    for word in ("red", "two", "small", "young"):
        assert is_attribute(word)
        assert is_content(word)


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("a man in a red jacket is riding a bike", ["man", "jacket", "bike"]),
        ("two people play on a soccer field", ["people", "field"]),
        ("a group of people at the edge of a pool", ["people", "pool"]),
        ("a dog", ["dog"]),
        ("running and jumping", []),
        ("", []),
    ],
)
def test_every_thing_is_named_by_one_word(caption, named):
    words = caption.split()
    assert [words[position] for position in things(words)] == named
