from pathlib import Path

import pytest
import torch

from captioner.data import CaptionedPhotograph
from captioner.hallucination import Hallucination
from captioner.measurement import Seen
from captioner.object_words import OBJECT_WORDS, mentions, objects_granted, objects_in
from captioner.vocabulary import Vocabulary

VOCABULARY = Vocabulary("a and dog cat man bike frisbee grass on the with in runs motorcycle".split())


def seen(caption: str, *references: str, name: str = "one.jpg") -> Seen:
    record = CaptionedPhotograph(Path(name), "val", tuple(tuple(r.split()) for r in references), references)
    return Seen(record, torch.zeros(1, 1), tuple(VOCABULARY.encode(caption.split())))


def measured(*photographs: Seen, instances=None) -> dict:
    metric = Hallucination(VOCABULARY, instances)
    for photograph in photographs:
        metric.add(photograph)
    return metric.result()


def test_the_80_categories_of_coco_are_named():
    assert len(set(OBJECT_WORDS.values()) - {""}) == 80


@pytest.mark.parametrize(
    ("caption", "objects"),
    [
        ("two men and a girl with puppies", ["person", "person", "dog"]),
        ("children on bikes near a sofa", ["person", "bicycle", "couch"]),
        ("a woman eats a hot dog", ["person", "hot dog"]),
        ("hot dogs beside a dog", ["hot dog", "dog"]),
        ("a teddy bear and a polar bear", ["teddy bear", "bear"]),
        ("a toilet seat and toilet paper", ["toilet"]),
        ("a baby elephant with its mother elephant", ["elephant", "elephant"]),
        ("a baby in a baby stroller", ["person"]),
        ("a train station with train tracks at a bus stop", []),
        ("a couple of cows", ["cow"]),
        ("a couple with knives and wine glasses", ["person", "knife", "wine glass"]),
        ("a man in an orange shirt peels oranges", ["person", "orange"]),
        ("a bike rack in front of a flower bed", []),
        ("toy cars and a stuffed rabbit by a german shepherd", ["dog"]),
        ("a fire truck at traffic lights", ["truck", "traffic light"]),
        ("a german man", ["person"]),
        ("grass", []),
        ("", []),
    ],
)
def test_objects_are_found_by_their_longest_name(caption, objects):
    assert objects_in(caption.split()) == objects


def test_a_mention_says_which_words_make_it():
    words = "a dog eats two hot dogs".split()
    assert [(m.first, m.last, m.names[0]) for m in mentions(words)] == [(1, 1, "dog"), (4, 5, "hot dog")]


def test_an_object_neither_annotated_nor_mentioned_is_hallucinated():
    photograph = seen("a man with a cat and a dog and a frisbee", "someone runs", "a boy and a puppy")
    captions_only = measured(photograph)
    assert (captions_only["CHAIR-s"], captions_only["CHAIR-i"]) == (100, 50)
    assert captions_only["truth"] == "captions"
    both = measured(photograph, instances={"one.jpg": {"frisbee": ()}})
    assert (both["CHAIR-s"], both["CHAIR-i"]) == (100, 25)
    assert both["truth"] == "instances and captions"
    assert measured(photograph, instances={"one.jpg": {"frisbee", "cat"}})["CHAIR-s"] == 0


def test_captions_and_mentions_are_counted_over_all_photographs():
    result = measured(
        seen("a dog and a cat and a cat", "a dog", name="1.jpg"),
        seen("a dog", "a dog", name="2.jpg"),
        seen("the grass", "a field", name="3.jpg"),
    )
    assert (result["captions"], result["objects"]) == (3, 4)
    assert result["CHAIR-s"] == pytest.approx(100 / 3)
    assert result["CHAIR-i"] == pytest.approx(50)
    for name in ("CHAIR-s", "CHAIR-i"):
        low, high = result["intervals"][name]
        assert 0 <= low <= result[name] <= high <= 100


def test_a_person_called_by_the_gear_does_not_leave_the_gear_out():
    assert objects_granted(["a", "surfer"]) == {"person", "surfboard"}
    assert objects_in(["a", "surfer"]) == ["person"]


def test_a_bike_may_be_either_but_a_motorcycle_is_no_bicycle():
    assert measured(seen("a bike", "a motorbike"))["CHAIR-s"] == 0
    assert measured(seen("a motorcycle", "a bicycle"))["CHAIR-s"] == 100


def test_without_any_object_there_is_no_share_of_mentions():
    result = measured(seen("the grass", "a dog"))
    assert result["CHAIR-s"] == 0
    assert "CHAIR-i" not in result
    assert "CHAIR-s" not in measured()
