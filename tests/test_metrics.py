"""The metrics against the reference implementation, ``pycocoevalcap``."""

from __future__ import annotations

import json
import random
import resource
import shutil
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from captioner.metrics import CiderD, bleu, describe_captions, ptb_tokenize, rouge_l, score_captions

FLICKR8K = Path(__file__).resolve().parents[2] / "shared" / "flickr8k" / "dataset_flickr8k.json"
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="The Stanford tokenizer needs java on the PATH.")

WORDS = ["a", "the", "man", "dog", "two", "red", "ball", "on", "in", "with", "runs", "beside", "water", ",", "don't"]


def random_corpus(photographs: int) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Tokenised candidates, odd ones first, and one to five references for each."""
    dice = random.Random(5)

    def caption() -> list[str]:
        return dice.choices(WORDS, k=dice.randint(1, 18))

    references = [[caption() for _ in range(dice.randint(1, 5))] for _ in range(photographs)]
    odd = [[], references[1][0], ["dog"] * 9, caption() * 60, ["unheard", "of"], ["dog"]]
    return odd + [caption() for _ in references[len(odd) :]], references


def reference_scores(candidates: list[list[str]], references: list[list[list[str]]]) -> dict[str, np.ndarray]:
    """What ``pycocoevalcap`` says, in percent; CIDEr for every photograph."""
    theirs = {index: [" ".join(caption) for caption in captions] for index, captions in enumerate(references)}
    ours = {index: [" ".join(candidate)] for index, candidate in enumerate(candidates)}
    return {
        "BLEU": 100 * np.array(Bleu(4).compute_score(theirs, ours, verbose=0)[0]),
        "ROUGE-L": 100 * Rouge().compute_score(theirs, ours)[0],
        "CIDEr": 100 * Cider().compute_score(theirs, ours)[1],
    }


def java_tokens(captions: list[str]) -> list[list[str]]:
    """What the Stanford tokenizer makes of the captions, in one call."""
    tokenized = PTBTokenizer().tokenize({index: [{"caption": caption}] for index, caption in enumerate(captions)})
    return [tokenized[index][0].split() for index in range(len(captions))]


def test_scores_equal_the_reference_implementation():
    candidates, references = random_corpus(400)
    expected = reference_scores(candidates, references)
    assert bleu(candidates, references) == pytest.approx(expected["BLEU"], abs=1e-6)
    assert rouge_l(candidates, references) == pytest.approx(expected["ROUGE-L"], abs=1e-6)
    assert CiderD(references).score(candidates) == pytest.approx(expected["CIDEr"], abs=1e-6)


def test_one_photograph_equals_the_reference_implementation():
    candidates, references = [["a", "red", "ball", "on", "a", "ball"]], [[["a", "red", "ball"], ["the", "ball"]]]
    expected = reference_scores(candidates, references)
    assert bleu(candidates, references) == pytest.approx(expected["BLEU"], abs=1e-6)
    assert rouge_l(candidates, references) == pytest.approx(expected["ROUGE-L"], abs=1e-6)
    assert CiderD(references).score(candidates).tolist() == [0.0]


def test_cider_judges_by_the_photographs_named():
    candidates, references = random_corpus(40)
    metric = CiderD(references)
    in_order = metric.score(candidates)
    chosen = [7, 7, 0, 39, 12]
    assert metric.score([candidates[index] for index in chosen], chosen).tolist() == in_order[chosen].tolist()
    assert metric.score([candidates[7]], [8])[0] != in_order[7]


def test_a_candidate_equal_to_the_only_reference_is_perfect():
    captions = ["A tall man juggles oranges", "Two grey cats sleep on a warm car", "Snow covers the old stone bridge"]
    scores = score_captions(captions, [[caption] for caption in captions])
    assert scores == pytest.approx({f"BLEU-{order}": 100 for order in range(1, 5)} | {"ROUGE-L": 100, "CIDEr": 1000})


def test_empty_candidates_score_nothing():
    scores = score_captions(["", " . "], [["A dog runs .", "Dogs run ."], ["Boats on a lake ."]])
    assert scores == pytest.approx(dict.fromkeys(scores, 0.0), abs=1e-9)


@pytest.mark.parametrize(
    ("candidates", "references", "message"),
    [
        (["a dog"], [["a dog"], ["a cat"]], "1 candidates for the references of 2 photographs"),
        ([], [], "no candidates"),
        (["a dog", "a cat"], [["a dog"], []], "Photograph 1 has no reference"),
    ],
)
def test_unusable_captions_are_refused(candidates, references, message):
    with pytest.raises(ValueError, match=message):
        score_captions(candidates, references)


def test_cider_refuses_what_it_cannot_judge():
    with pytest.raises(ValueError, match="no photographs"):
        CiderD([])
    with pytest.raises(ValueError, match="Photograph 0 has no reference"):
        CiderD([[]])
    with pytest.raises(ValueError, match="2 candidates for 1 photographs"):
        CiderD([[["a", "dog"]]]).score([["a"], ["dog"]])


def peak_memory(measure, captions: int) -> int:
    """Most bytes in use while a measure runs over captions that say the same few things again and again."""
    said = ["A man in a red shirt runs beside the water .", "Two dogs play with a ball on the grass ."] * (
        captions // 2
    )
    references = [("A man runs along the beach .", "He runs .")] * captions
    tracemalloc.start()
    try:
        measure(said, references)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("measure", [score_captions, lambda said, _: describe_captions(said, said[:10])])
def test_memory_does_not_grow_with_the_captions_scored(measure):
    peak_memory(measure, 20)  # what is made once stays out of the comparison
    assert peak_memory(measure, 2000) < peak_memory(measure, 100) + 2000


STATM = Path("/proc/self/statm")


class ManyCaptions:
    """Captions of few words in many orders, kept by nobody; ``pages``: what memory was in use at some of them."""

    def __init__(self, count: int, noted: tuple[int, ...]):
        self.count, self.noted, self.pages = count, noted, []

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[str]:
        for number in range(self.count):
            if number in self.noted:
                self.pages.append(int(STATM.read_text().split()[1]))
            yield " ".join(WORDS[number // len(WORDS) ** place % len(WORDS)] for place in range(4))


@pytest.mark.skipif(not STATM.exists(), reason="Memory is read from /proc, as Linux has it.")
@pytest.mark.parametrize("measure", [score_captions, lambda said, _: describe_captions(said)])
def test_memory_is_flat_over_a_hundred_thousand_captions(measure):
    said = ManyCaptions(100_000, noted=(10_000, 99_999))
    kinds = [("A dog .",), ("Two dogs .",), ("A man runs .",)]
    measure(said, [kinds[number % 3] for number in range(len(said))])
    before, after = (pages * resource.getpagesize() for pages in said.pages)
    assert after < before + 4e6  # the captions alone would take more than that


def test_a_thousand_captions_are_scored_within_five_seconds_of_a_processor():
    dice = random.Random(0)
    said, *people = ([" ".join(dice.choices(WORDS, k=11)) for _ in range(1000)] for _ in range(6))
    started = time.process_time()
    score_captions(said, list(zip(*people)))
    assert time.process_time() - started < 5


def test_captions_are_described_by_their_words_alone():
    captions = ["A dog runs .", "a dog runs", "Two cats !", ""]
    assert describe_captions(captions) == {"vocabulary": 5, "length": 2}
    assert describe_captions(captions, ["Two cats", "A dog"])["novel"] == 75


CAPTIONS = {
    "": "",
    " ... !": "",
    "A goat stands on a roof .": "a goat stands on a roof",
    "Goats, sheep; and one dog: all asleep!": "goats sheep and one dog all asleep",
    "They don't know, can't see and WON'T wait.": "they do n't know ca n't see and wo n't wait",
    "It's the pilot's seat; she'll fly, they've paid, I'm in, we'd go": (
        "it 's the pilot 's seat she 'll fly they 've paid i 'm in we 'd go"
    ),
    "I've said I'll come and couldn't've lied": "i 've said i 'll come and could n't 've lied",
    "The sailors' ropes": "the sailors ropes",
    "It’s the goat’s hat and they don’t mind": "it 's the goat 's hat and they do n't mind",
    "He cannot stop, he's gonna jump, we wanna see": "he can not stop he 's gon na jump we wan na see",
    "The wannabe canners and Gonnason": "the wannabe canners and gonnason",
    "Y'all say 'tis fine": "y' all say 't is fine",
    "A rock'n'roll band plays rock 'n' roll": "a rock 'n' roll band plays rock 'n' roll",
    "At five o'clock O'Malley serves hors d'oeuvres to 'em": "at five o'clock o'malley serves hors d'oeuvres to 'em",
    "A tri-colored mid-air T-shirt in black-and-white": "a tri-colored mid-air t-shirt in black-and-white",
    "A kite - a big one -- flies --- high – very — high": "a kite a big one flies high very high",
    "A sign reads \"Open\" or 'Shut', “Wet” or ‘Dry’": "a sign reads open or shut wet or dry",
    "A van (blue) [old] {rusty}": "a van -lrb- blue -rrb- -lsb- old -rsb- -lcb- rusty -rcb-",
    "Waiting... and waiting…in the rain": "waiting and waiting in the rain",
    "1,500 runners, 2.5 miles, 3:30 pm, 10:15pm, on 9/11": "1,500 runners 2.5 miles 3:30 pm 10:15 pm on 9/11",
    "Cakes for $5, 50% off, car #1, no. 7 and .99": "cakes for $ 5 50 % off car # 1 no. 7 and .99",
    "A 4-year-old in a 1950's car from the '60s, 3rd of 10": "a 4-year-old in a 1950 's car from the '60s 3rd of 10",
    "Mr. Bean and Dr. Strange at St. Paul Ave. in the U.S. at 5 p.m.": (
        "mr. bean and dr. strange at st. paul ave. in the u.s. at 5 p.m."
    ),
    "A fruit stand with apples, pears, etc.": "a fruit stand with apples pears etc.",
    "Texas A&M plays, salt & pepper, bread&butter": "texas a&m plays salt & pepper bread & butter",
    "A boat and/or raft , black/white": "a boat and/or raft black/white",
    "A shop called example.com": "a shop called example.com",
    "Wow!! What?! Really?": "wow !! what ?! really",
    "A naïve café owner": "a naïve café owner",
}


@pytest.mark.parametrize(("caption", "tokens"), CAPTIONS.items())
def test_captions_become_treebank_tokens(caption, tokens):
    assert ptb_tokenize(caption) == tokens.split()


@needs_java
def test_tokens_equal_the_stanford_tokenizer():
    captions = list(CAPTIONS)
    assert [ptb_tokenize(caption) for caption in captions] == java_tokens(captions)


@needs_java
@pytest.mark.skipif(not FLICKR8K.is_file(), reason=f"There is no Flickr8k at {FLICKR8K}.")
def test_flickr8k_scores_equal_the_reference_implementation():
    images = json.loads(FLICKR8K.read_text(encoding="utf-8"))["images"]
    captions = [[sentence["raw"] for sentence in image["sentences"]] for image in images if image["split"] == "val"]
    flat = iter(java_tokens([caption for five in captions for caption in five]))
    tokens = [[next(flat) for _ in five] for five in captions]
    expected = reference_scores([five[0] for five in tokens], [five[1:] for five in tokens])
    scores = score_captions([five[0] for five in captions], [five[1:] for five in captions])
    assert len(captions) == 1000
    assert [scores[f"BLEU-{order}"] for order in range(1, 5)] == pytest.approx(expected["BLEU"], abs=1e-4)
    assert scores["ROUGE-L"] == pytest.approx(expected["ROUGE-L"], abs=1e-4)
    assert scores["CIDEr"] == pytest.approx(expected["CIDEr"].mean(), abs=1e-4)
