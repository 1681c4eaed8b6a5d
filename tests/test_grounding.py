import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from captioner import grounding, region_maps
from captioner.boxes import centres_inside, coverage
from captioner.data import CaptionedPhotograph
from captioner.entities import GroundedCaption, Phrase
from captioner.explanation import positive_map
from captioner.grounding import Grounding
from captioner.measurement import Seen
from captioner.reading import read
from captioner.vocabulary import UNKNOWN
from tests.tiny import tiny_model

GRID, REGIONS, CHANNELS = (3, 3), 9, 512
BOX, CORNER, WIDE = (0.0, 0.3, 0.4, 0.9), (0.8, 0.8, 1.0, 1.0), (0.3, 0.0, 1.0, 0.6)
DOG = GroundedCaption(
    ("a", "black", "dog", "in", "a", "shirt", "on", "grass"),
    (
        Phrase(0, 2, ("animals",), (BOX,)),
        Phrase(4, 5, ("clothing", "other"), (CORNER,)),
        Phrase(7, 7, ("scene",), (WIDE,)),
    ),
)
LONGER = GroundedCaption(
    ("two", "children", "and", "a", "zebra", "standing", "on", "the", "street", "in", "snow"),
    (Phrase(0, 1, ("people",), (WIDE, BOX)), Phrase(3, 4, ("animals",), (BOX,)), Phrase(7, 8, ("scene",), ())),
)
ONE_BOX = GroundedCaption(("a", "dog"), (Phrase(0, 1, ("animals",), (BOX,)),))
SAVED = tiny_model(image_size=96)


def photograph(name: str = "1.jpg", *, caption: str = "", seed: int = 0) -> Seen:
    features = torch.rand(REGIONS, CHANNELS, generator=torch.Generator().manual_seed(seed))
    record = CaptionedPhotograph(Path("somewhere") / name, "val", (), ())
    return Seen(record, features, tuple(SAVED.vocabulary.encode(caption.split())))


def measure(*captions: GroundedCaption, seen: Seen | None = None, saved=SAVED, **options) -> dict:
    """The result for one photograph with these captions."""
    measured = Grounding(saved.model, saved.vocabulary, {"1.jpg": captions}, **options)
    measured.add(seen or photograph())
    return measured.result()


def random_entities(count: int) -> dict[str, tuple[GroundedCaption, ...]]:
    random = np.random.default_rng(0)
    entities = {}
    for number in range(count):
        boxes = np.sort(random.random((3, 2, 2)), axis=1).reshape(3, 4).tolist()
        phrases = [replace(phrase, boxes=(tuple(box),)) for phrase, box in zip(DOG.phrases, boxes)]
        entities[f"{number}.jpg"] = (replace(DOG, phrases=tuple(phrases)), ONE_BOX)
    return entities


@torch.no_grad()
def read_alone(caption: GroundedCaption, position: int, seen: Seen) -> dict[str, np.ndarray]:
    """The maps (1, R) of one word, its caption read by itself."""
    decoder = SAVED.model.decoder
    ids = torch.tensor([SAVED.vocabulary.encode(caption.words)])
    reading = read(decoder, ids, decoder.look(seen.features[None]))
    region_word = positive_map(reading.region_logits[0, position].reshape(GRID).numpy()).reshape(1, -1)
    maps = {"region_word": region_word, "attention": reading.attention[0, position].numpy()[None]}
    layers = reading.layer_maps[0, position].numpy()
    return maps | {f"layer_{number + 1}": layers[number][None] for number in range(len(layers))}


def always(regions: list[int]):
    """An attribution that marks the same regions for every word."""
    marked = torch.zeros(REGIONS)
    marked[regions] = 3.0
    return lambda seen, words, positions: marked.expand(len(words), -1)


def shares(*boxes) -> tuple[np.ndarray, np.ndarray]:
    return centres_inside(boxes, GRID).reshape(1, -1), coverage(boxes, GRID).reshape(1, -1)


def test_the_maps_are_those_of_a_word_read_alone():
    seen = photograph()
    result = measure(ONE_BOX, GroundedCaption(LONGER.words, ()), seen=seen)
    inside, covered = shares(BOX)
    own = read_alone(ONE_BOX, 1, seen)
    assert list(own) == ["region_word", "attention", "layer_1", "layer_2", "layer_3"]
    for name, maps in own.items():
        assert result["pointing"][name] == region_maps.pointing(maps, inside)[0]
        assert result["correctness"][name] == pytest.approx(region_maps.correctness(maps, covered)[0], abs=1e-3)
        assert result["entropy"][name] == pytest.approx(region_maps.entropy(maps)[0], abs=1e-3)


def test_a_map_inside_the_box_is_right_and_one_outside_is_wrong():
    whole_region = replace(ONE_BOX, phrases=(Phrase(0, 1, (), ((0.0, 0.0, 1 / 3, 1.0),)),))
    result = measure(whole_region, attributions={"right": always([0, 3]), "wrong": always([1, 8])})
    for score in ("pointing", "correctness"):
        assert result[score]["right"] == pytest.approx(100)
        assert result[score]["wrong"] == 0


def test_ties_are_shared():
    inside, covered = shares(BOX)
    half = [int(np.flatnonzero(inside[0])[0]), int(np.flatnonzero(covered[0] == 0)[0])]
    assert measure(ONE_BOX, attributions={"half": always(half)})["pointing"]["half"] == 50


def test_the_baselines_are_the_means_over_the_phrases():
    result = measure(DOG, LONGER)
    boxes = [phrase.boxes for caption in (DOG, LONGER) for phrase in caption.phrases if phrase.boxes]
    inside, covered = (np.concatenate(rows) for rows in zip(*(shares(*own) for own in boxes)))
    assert result["phrases"] == len(boxes) == 5
    assert result["pointing"]["uniform"] == pytest.approx(100 * inside.mean())
    assert result["correctness"]["uniform"] == pytest.approx(100 * covered.mean())
    assert result["pointing"]["centre"] == pytest.approx(100 * inside[:, 4].mean())
    assert result["correctness"]["centre"] == pytest.approx(100 * covered[:, 4].mean())
    assert result["ceiling"]["pointing"] == pytest.approx(100 * inside.any(1).mean())


def test_an_attribution_is_asked_for_every_last_word():
    asked = []

    def attribute(seen, words, positions):
        asked.append((seen, words[range(len(words)), positions].tolist()))
        return torch.ones(len(words), REGIONS)

    seen = photograph(caption="a dog")
    result = measure(DOG, LONGER, seen=seen, attributions={"mine": attribute})
    ((asked_of, words),) = asked
    assert asked_of is seen
    expected = SAVED.vocabulary.encode(["dog", "shirt", "grass", "children", "zebra", "dog"])  # the last is generated
    assert words == expected
    assert UNKNOWN in words  # the model knows no zebra, and is measured on it all the same
    assert result["pointing"]["mine"] == result["pointing"]["uniform"]


def test_an_attribution_may_leave_photographs_out():
    answers = iter([None, torch.ones(1, REGIONS)])
    entities = {"1.jpg": (DOG,), "2.jpg": (ONE_BOX,)}
    attributions = {"some": lambda *_: next(answers)}
    measured = Grounding(SAVED.model, SAVED.vocabulary, entities, attributions=attributions)
    for name in entities:
        measured.add(photograph(name))
    result = measured.result()
    assert result["phrases_by_map"]["some"] == 1
    assert result["phrases"] == result["phrases_by_map"]["region_word"] == 4
    assert result["pointing"]["some"] == pytest.approx(100 * shares(BOX)[0].mean())


def test_a_map_of_nothing_says_nothing():
    result = measure(DOG, attributions={"nothing": lambda _, words, __: torch.zeros(len(words), REGIONS)})
    assert result["pointing"]["nothing"] == result["pointing"]["uniform"]
    assert result["correctness"]["nothing"] == pytest.approx(result["correctness"]["uniform"])


def test_a_shuffled_map_is_that_of_a_word_for_something_else():
    two = replace(DOG, phrases=DOG.phrases[:2])  # each has but one other
    seen = photograph()
    swapped = []
    for phrase, other in [two.phrases, two.phrases[::-1]]:
        maps = read_alone(two, other.last, seen)["region_word"]
        swapped.append(region_maps.correctness(maps, shares(*phrase.boxes)[1])[0])
    result = measure(two, seen=seen)
    assert result["correctness"]["shuffled"] == pytest.approx(np.mean(swapped), abs=1e-3)
    assert result["correctness"]["shuffled"] != pytest.approx(result["correctness"]["region_word"], abs=1e-3)


def test_where_all_words_name_the_same_the_photograph_before_is_shuffled_in():
    before, seen = photograph("0.jpg", seed=1), photograph("1.jpg", seed=2)
    entities = {"0.jpg": (ONE_BOX,), "1.jpg": (ONE_BOX,)}
    measured = Grounding(SAVED.model, SAVED.vocabulary, entities)
    measured.add(before)
    assert "shuffled" not in measured.result()["pointing"]
    measured.add(seen)
    maps = read_alone(ONE_BOX, 1, before)["region_word"]
    expected = region_maps.correctness(maps, shares(BOX)[1])[0]
    assert measured.result()["correctness"]["shuffled"] == pytest.approx(expected, abs=1e-3)


def test_the_seed_decides_what_is_shuffled():
    results = []
    for seed in (0, 0, 1):
        measured = Grounding(SAVED.model, SAVED.vocabulary, random_entities(6), seed=seed)
        for number in range(6):
            measured.add(photograph(f"{number}.jpg", seed=number))
        results.append(measured.result()["correctness"])
    assert results[0] == results[1]
    assert results[0].pop("shuffled") != results[2].pop("shuffled")
    assert results[0] == results[2]


def test_nothing_scores_above_the_ceiling_and_intervals_hold_the_means():
    entities = random_entities(8)
    attributions = {"centres": always([4]), "corners": always([0, 2, 6, 8])}
    measured = Grounding(SAVED.model, SAVED.vocabulary, entities, attributions=attributions)
    for number, name in enumerate(entities):
        measured.add(photograph(name, seed=number))
    result = measured.result()
    for score in ("pointing", "correctness"):
        assert set(result[score]) >= {"region_word", "attention", "layer_1", "shuffled", "centres", "corners"}
        for name, value in result[score].items():
            assert value <= result["ceiling"][score] + 1e-4
            low, high = result["intervals"][score][name]
            assert low <= value <= high
    assert result["photographs"] == 8


def test_a_phrase_counts_in_each_of_its_types():
    result = measure(DOG, LONGER)
    counts = {kind: table["phrases"] for kind, table in result["by_type"].items()}
    assert counts == {"animals": 2, "clothing": 1, "other": 1, "people": 1, "scene": 1}
    assert result["by_type"]["clothing"] == result["by_type"]["other"]
    both = [result["by_type"]["scene"]["correctness"]["uniform"], 100 * coverage([WIDE], GRID).mean()]
    assert both[0] == pytest.approx(both[1])


def test_sizes_go_by_the_union_of_the_boxes():
    result = measure(DOG, LONGER)
    # The corner is 4 % of the photograph, the box 24 %, the wide one 42 %, and together they are more.
    assert {size: table["phrases"] for size, table in result["by_size"].items()} == {
        "small": 1,
        "medium": 2,
        "large": 2,
    }
    assert result["by_size"]["small"]["correctness"]["uniform"] == pytest.approx(4)
    whole = replace(ONE_BOX, phrases=(Phrase(0, 1, (), ((0.0, 0.0, 1.0, 1.0),)),))
    assert measure(whole)["by_size"]["large"]["phrases"] == 1


def test_generated_words_are_measured_apart():
    seen = photograph(caption="a dog standing in the snow on a shirt")
    result = measure(DOG, replace(ONE_BOX, phrases=(Phrase(0, 1, (), (WIDE,)),)), seen=seen)
    inside, covered = (np.concatenate(rows) for rows in zip(shares(BOX, WIDE), shares(CORNER)))  # dog and shirt
    assert result["generated"]["words"] == 2
    assert result["generated"]["pointing"]["uniform"] == pytest.approx(100 * inside.mean())
    assert result["generated"]["correctness"]["uniform"] == pytest.approx(100 * covered.mean())
    own = read_alone(GroundedCaption(("a", "dog"), ()), 1, seen)["region_word"]
    other = read_alone(GroundedCaption(tuple("a dog standing in the snow on a shirt".split()), ()), 8, seen)[
        "region_word"
    ]
    expected = region_maps.correctness(np.concatenate([own, other]), covered).mean()
    assert result["generated"]["correctness"]["region_word"] == pytest.approx(expected, abs=1e-3)


def test_the_generated_caption_changes_nothing_for_the_references():
    plain, said = measure(DOG, LONGER), measure(DOG, LONGER, seen=photograph(caption="two dog standing on grass"))
    assert plain["generated"]["words"] == 0
    assert said["generated"]["words"] == 2
    for key in ("pointing", "correctness", "entropy", "overlap", "ceiling"):
        assert said[key] == pytest.approx(plain[key], abs=1e-3)
    assert plain["phrases"] == said["phrases"]


def test_overlap_is_between_different_nouns_of_one_caption():
    seen = photograph()
    maps = [read_alone(DOG, phrase.last, seen)["attention"] for phrase in DOG.phrases]
    pairs = [region_maps.overlap(maps[one], maps[other])[0] for one, other in [(0, 1), (0, 2), (1, 2)]]
    assert measure(DOG, ONE_BOX, seen=seen)["overlap"]["attention"] == pytest.approx(np.mean(pairs), abs=1e-3)


def test_words_that_are_the_same_or_name_the_same_are_not_compared():
    words = ("a", "dog", "and", "another", "dog", "and", "one", "child")
    same_word = GroundedCaption(words, (Phrase(0, 1, (), (BOX,)), Phrase(3, 4, (), (CORNER,))))
    same_box = GroundedCaption(words, (Phrase(0, 1, (), (BOX, WIDE)), Phrase(6, 7, (), (BOX,))))
    no_noun = GroundedCaption(words, (Phrase(0, 1, (), (BOX,)), Phrase(6, 6, (), (CORNER,))))
    assert measure(same_word, same_box, no_noun)["overlap"] == {}


@pytest.mark.parametrize(("attention", "layers"), [("gated", 3), ("pyramid", 3), ("none", 1)])
def test_every_layer_that_attends_has_its_maps(attention, layers):
    result = measure(DOG, saved=tiny_model(attention, image_size=96))
    expected = {"region_word", "attention", *(f"layer_{number}" for number in range(1, layers + 1))}
    assert set(result["entropy"]) == set(result["overlap"]) == expected
    assert set(result["pointing"]) == expected | {"uniform", "centre", "shuffled"}


def test_without_an_additive_head_attention_is_shuffled(monkeypatch):
    monkeypatch.setattr(grounding, "read", lambda *arguments: replace(read(*arguments), region_logits=None))
    seen, two = photograph(), replace(DOG, phrases=DOG.phrases[:2])
    result = measure(two, seen=seen)
    assert all("region_word" not in result[key] for key in ("pointing", "correctness", "entropy", "overlap"))
    one, other = (read_alone(two, phrase.last, seen)["attention"] for phrase in two.phrases)
    swapped = region_maps.correctness(other, shares(BOX)[1]) + region_maps.correctness(one, shares(CORNER)[1])
    assert result["correctness"]["shuffled"] == pytest.approx(swapped[0] / 2, abs=1e-3)


def test_where_no_region_speaks_for_a_word_its_map_is_uniform(monkeypatch):
    def against(*arguments):
        reading = read(*arguments)
        return replace(reading, region_logits=-reading.region_logits.abs())

    monkeypatch.setattr(grounding, "read", against)
    result = measure(DOG)
    assert result["entropy"]["region_word"] == pytest.approx(100)
    assert result["pointing"]["region_word"] == result["pointing"]["uniform"]


def test_photographs_without_boxes_are_only_counted():
    entities = {"2.jpg": (), "3.jpg": (GroundedCaption(("air",), (Phrase(0, 0, (), ()),)),), "4.jpg": (DOG,)}
    measured = Grounding(SAVED.model, SAVED.vocabulary, entities)
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        measured.add(photograph(name))
    empty = measured.result()
    assert (empty["photographs"], empty["photographs_without_boxes"], empty["phrases"]) == (0, 3, 0)
    assert empty["pointing"] == {}
    measured.add(photograph("4.jpg"))
    full = measured.result()
    assert (full["photographs"], full["photographs_without_boxes"], full["phrases"]) == (1, 3, 3)


def test_the_result_is_plain_json():
    seen = photograph(caption="a dog")
    result = measure(DOG, LONGER, seen=seen, attributions={"mine": always([2])})
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert json.dumps(Grounding(SAVED.model, SAVED.vocabulary, {}).result(), allow_nan=False)
