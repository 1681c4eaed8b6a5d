from captioner.entities import GroundedCaption, Phrase
from captioner.named_words import coco_grounded, generated_words, named_words

LEFT, RIGHT, SMALL = (0.0, 0.0, 0.4, 1.0), (0.6, 0.0, 1.0, 1.0), (0.1, 0.1, 0.2, 0.2)
CAPTIONS = (
    GroundedCaption(
        ("a", "small", "dog", "and", "a", "man", "in", "air"),
        (Phrase(0, 2, ("animals",), (LEFT,)), Phrase(4, 5, ("people",), (RIGHT,)), Phrase(7, 7, ("other",), ())),
    ),
    GroundedCaption(
        ("the", "dog", "in", "a", "red", "top"),
        (Phrase(0, 1, ("animals",), (LEFT, SMALL)), Phrase(3, 5, ("clothing",), (SMALL,))),
    ),
)


def phrases_of(caption: str, instances: dict) -> list[tuple[str, tuple, tuple]]:
    (grounded,) = coco_grounded([caption.split()], instances)
    assert " ".join(grounded.words) == caption
    return [(" ".join(grounded.words[p.first : p.last + 1]), p.types, p.boxes) for p in grounded.phrases]


def test_the_last_word_of_a_phrase_that_can_be_seen_names_it():
    named = named_words(CAPTIONS)
    assert [word.text for word in named] == ["dog", "man", "dog", "top"]
    assert [CAPTIONS[word.caption].words[word.position] for word in named] == ["dog", "man", "dog", "top"]
    assert named[2].boxes == (LEFT, SMALL)


def test_words_are_apart_where_they_share_no_box():
    dog, man, other_dog, _ = named_words(CAPTIONS)
    assert dog.is_apart_from(man)
    assert not dog.is_apart_from(other_dog)


def test_a_generated_word_has_all_the_boxes_people_meant_by_it():
    words = "a dog runs to a dog".split()
    found = generated_words(words, named_words(CAPTIONS), caption=2)
    assert [(word.position, word.caption, word.text) for word in found] == [(1, 2, "dog"), (5, 2, "dog")]
    assert all(set(word.boxes) == {LEFT, SMALL} and word.generated for word in found)


def test_what_no_one_named_and_function_words_are_left_out():
    assert generated_words("a small cat on top of air".split(), named_words(CAPTIONS), caption=2) == []


def test_a_word_that_names_a_category_gets_the_boxes_of_its_instances():
    instances = {"dog": [LEFT, RIGHT], "person": [SMALL]}
    expected = [("man", ("person",), (SMALL,)), ("dogs", ("dog",), (LEFT, RIGHT))]
    assert phrases_of("a man with dogs", instances) == expected


def test_the_longest_name_counts():
    instances = {"dog": [LEFT], "bear": [LEFT], "teddy bear": [RIGHT]}
    assert phrases_of("a teddy bear and a bear", instances) == [
        ("teddy bear", ("teddy bear",), (RIGHT,)),
        ("bear", ("bear",), (LEFT,)),
    ]
    assert phrases_of("a hot dog", instances) == []  # none is annotated, and it is no dog


def test_a_name_at_the_end_is_not_looked_for_beyond_it():
    assert phrases_of("a fire", {"fire hydrant": [LEFT]}) == []


def test_categories_without_instances_have_no_phrases():
    assert phrases_of("a dog", {}) == phrases_of("a dog", {"dog": []}) == []
    assert coco_grounded([], {"dog": [LEFT]}) == ()
    (unnamed,) = coco_grounded([["a", "tree"]], {"dog": [LEFT]})
    assert unnamed.phrases == ()
