from dataclasses import replace

import numpy as np
import pytest

from captioner.data import CaptionedPhotograph
from captioner.explanation import ExplainedCaption, ExplainedWord, positive_map
from captioner.measurement import Seen
from captioner.occlusion import Occlusion, occlusion_effects
from captioner.signatures import (
    DRIFT,
    IDENTICAL,
    MISALIGNED,
    NAMES,
    NO_REGION,
    Signatures,
    check,
    language_share,
    signatures,
    summary,
)

GRID = (5, 5)


def at(region: int, logit: float = 1.0) -> np.ndarray:
    """Regions of which one speaks."""
    logits = np.zeros(GRID, dtype=np.float32)
    logits.flat[region] = logit
    return logits


def word(text: str, regions: np.ndarray, *, language: float = 1.0) -> ExplainedWord:
    return ExplainedWord(
        text=text,
        probability=0.5,
        logit=language + float(regions.sum()),
        bias=0.0,
        language_logit=language,
        region_logits=regions,
        region_map=positive_map(regions),
        attention=positive_map(regions),
        layer_maps=positive_map(regions)[None],
        alternatives=(),
        image_reliance=0.5,
    )


def caption(text: str, **special: ExplainedWord) -> ExplainedCaption:
    """Each word at a region of its own, but for the special ones."""
    words = [special.get(name) or word(name, at(place % 25)) for place, name in enumerate(text.split())]
    return ExplainedCaption(tuple(words), log_probability=-1.0, alternatives=(), grid=GRID)


def drifting(text: str, languages: list[float]) -> ExplainedCaption:
    words = [
        word(name, at(place), language=language) for place, (name, language) in enumerate(zip(text.split(), languages))
    ]
    return ExplainedCaption(tuple(words), log_probability=-1.0, alternatives=(), grid=GRID)


def found(explained: ExplainedCaption, *arguments) -> list[tuple[str, tuple[int, ...]]]:
    return [(signature.name, signature.words) for signature in signatures(explained, *arguments)]


def test_a_caption_whose_words_point_at_their_own_regions_has_no_signature():
    explained = caption("a man in a red jacket throws a ball")
    falls = [Occlusion(whole=0.6, hidden=0.1, random=0.5)] * len(explained.words)
    assert signatures(explained, falls) == ()


def test_a_content_word_without_a_region_for_it_is_found():
    against = caption("a dog on grass", dog=word("dog", -at(3)))
    assert found(against) == [(NO_REGION, (1,))]
    assert "“dog”" in signatures(against)[0].text
    assert found(caption("a dog on grass", dog=word("dog", at(3, 1e-4)))) == [(NO_REGION, (1,))]


def test_function_words_need_no_region():
    silent = word("the", -at(0))
    assert found(caption("the dog", the=silent), [Occlusion(0.9, 0.9, 0.9), Occlusion(0.9, 0.1, 0.8)]) == []


@pytest.mark.parametrize("hidden", [0.5, 0.8])
def test_hiding_regions_that_matter_no_more_than_others_is_misaligned(hidden):
    explained = caption("a dog")
    (signature,) = signatures(explained, [Occlusion(0.9, 0.2, 0.9), Occlusion(whole=0.8, hidden=hidden, random=0.5)])
    assert (signature.name, signature.words) == (MISALIGNED, (1,))
    assert signature.value == pytest.approx(100 * (0.5 - hidden))
    assert f"{100 * hidden:.0f} %" in signature.text


def test_a_map_that_points_nowhere_in_particular_is_not_misaligned():
    occlusions = [Occlusion(0.5, 0.5, 0.5)]
    assert found(caption("dog", dog=word("dog", np.ones(GRID, dtype=np.float32))), occlusions) == []
    assert found(caption("dog"), occlusions) == [(MISALIGNED, (0,))]


def test_an_unlikely_word_that_loses_all_it_has_is_not_misaligned():
    assert found(caption("dog"), [Occlusion(whole=0.005, hidden=0.0, random=0.005)]) == []


def test_a_word_without_regions_is_reported_once():
    silent = word("dog", -at(0))
    assert found(caption("dog", dog=silent), [Occlusion(0.5, 0.5, 0.5)]) == [(NO_REGION, (0,))]
    assert found(caption("a dog and a cat", dog=silent, cat=word("cat", -at(0)))) == [
        (NO_REGION, (1,)),
        (NO_REGION, (4,)),
    ]


def test_occlusions_are_one_for_each_word():
    with pytest.raises(ValueError, match="1 occlusions were given for 2 words"):
        signatures(caption("a dog"), [Occlusion(0.5, 0.1, 0.5)])


def test_two_things_at_the_same_regions_have_identical_maps():
    explained = caption("a man and a frisbee", man=word("man", at(7)), frisbee=word("frisbee", at(7, 0.2)))
    (signature,) = signatures(explained)
    assert (signature.name, signature.words) == (IDENTICAL, (1, 4))
    assert signature.value == pytest.approx(100)
    assert "“man” and “frisbee”" in signature.text


def test_maps_that_share_a_part_are_not_identical():
    shared = word("man", at(7) + at(8)), word("jacket", at(8))
    assert found(caption("a man in a jacket", man=shared[0], jacket=shared[1])) == []


@pytest.mark.parametrize(
    "text", ["a red jacket", "a man riding", "a soccer field", "a crowd of people", "a dog and a dog"]
)
def test_words_of_one_thing_may_share_their_regions(text):
    assert found(caption(text, **{name: word(name, at(7)) for name in text.split()})) == []


def test_leaning_on_the_sentence_and_repeating_is_drift():
    text = "man with dog near ball and dog"
    rising = drifting(text, [1, 1, 1, 1, 3, 1, 3])
    (signature,) = signatures(rising)
    assert (signature.name, signature.words) == (DRIFT, (6,))
    first, second = [rising.words[i] for i in (0, 2)], [rising.words[i] for i in (4, 6)]
    rise = np.mean([language_share(w) for w in second]) - np.mean([language_share(w) for w in first])
    assert signature.value == pytest.approx(100 * rise)
    assert found(drifting(text, [1] * 7)) == []  # repeats, but leans no more on the sentence
    assert found(drifting(text, [3, 1, 3, 1, 1, 1, 1])) == []
    assert found(drifting("man with dog near ball and cat", [1, 1, 1, 1, 3, 1, 3])) == []  # repeats nothing


def test_a_colour_said_twice_is_no_drift():
    assert found(drifting("black dog wearing a black hat", [1, 1, 1, 1, 5, 5])) == []


@pytest.mark.parametrize("text", ["red shirt and a red shirt", "dog and a dog and a dog"])
def test_going_in_circles_is_drift_whatever_the_words_lean_on(text):
    assert [name for name, _ in found(drifting(text, [1] * 7))] == [DRIFT]


def test_the_language_share_is_of_all_that_pushes_either_way():
    assert language_share(word("dog", at(0) - at(1), language=-2.0)) == pytest.approx(0.5)


def test_an_empty_caption_has_no_signature():
    assert signatures(caption("")) == ()


def test_the_summary_counts_captions_not_words():
    two = signatures(caption("a dog and a cat", dog=word("dog", -at(0)), cat=word("cat", -at(0))))
    assert summary([two, ()]) == {MISALIGNED: 0, DRIFT: 0, IDENTICAL: 0, NO_REGION: 50}
    assert summary([]) == {}


def test_a_caption_is_checked_on_its_photograph(captioner, photograph):
    explained = captioner.explain(photograph)
    found = check(captioner, explained)
    assert all(signature.name in NAMES and signature.text for signature in found)
    assert found == check(captioner, explained)
    pixels = captioner.model.config.preprocessing(explained.photograph)
    ids = captioner.vocabulary.encode(word.text for word in explained.words)
    maps = np.stack([word.region_map for word in explained.words])
    assert found == signatures(explained, occlusion_effects(captioner.model, pixels, ids, maps))


def test_a_check_needs_the_photograph(captioner, photograph):
    with pytest.raises(ValueError, match="no photograph"):
        check(captioner, replace(captioner.explain(photograph), photograph=None))


def test_captions_are_reported_one_by_one_and_together(captioner, photograph, tmp_path):
    photograph.save(tmp_path / "one.png")
    seen = Seen(CaptionedPhotograph(tmp_path / "one.png", "val", (), ()), None, tuple(range(4, 9)))
    measured = Signatures(captioner, photographs=1)
    measured.add(seen)
    measured.add(seen)
    result = measured.result()
    assert result["photographs"] == 1
    explained = captioner.explain_caption(photograph, captioner.vocabulary.decode(seen.caption))
    assert result["captions"] == {"one.png": [signature.text for signature in check(captioner, explained)]}
    assert set(result) == {*NAMES, "photographs", "captions"}
