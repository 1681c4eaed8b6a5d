"""The tasks of the study: what a reviewer is shown and asked, made once for a pool of photographs.

A map comes from one of ``SOURCES``: ``region_word`` (what the regions add to the word), ``attention`` (of the head,
before the word is chosen), ``grad_cam``, or ``shuffled``, the region-word map of a word said of another photograph,
which looks like an explanation and is none.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image

from captioner.object_words import OBJECT_WORDS
from captioner.photographs import PhotographError, open_photograph
from captioner.predictor import Captioner
from captioner.word_classes import is_content

SOURCES = ("region_word", "attention", "grad_cam", "shuffled")
PAIR, GUESS = "pair", "guess"
CHOICES = 4
CHANCE = 1 / CHOICES
MAX_PHOTOGRAPHS = 60  # each is explained before the first task, a third of a second on two cores
PICTURE_SIDE = 640  # pixels, longest side: two are shown side by side
_PER_PAIR, _GUESSES = 4, 16  # 40 tasks: about ten minutes
_FROM_CAPTION = 2  # wrong choices that are said of the same photograph


class StudyError(ValueError):
    """Something the study cannot do; the message says why and what to do."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A photograph of the pool with its caption and the maps of its content words."""

    name: str  # of its file
    picture: Image.Image
    words: tuple[str, ...]
    maps: dict[int, dict[str, np.ndarray]]  # (H, W), non-negative, by position and source; shuffled is not among them


@dataclass(frozen=True)
class Task:
    """One question, the same for every reviewer but for what ``tasks_of`` turns round. Subjects are numbered."""

    number: int
    kind: str  # PAIR or GUESS
    subject: int
    position: int  # of the word in the caption
    sources: tuple[str, ...]  # of the maps, from left to right; one to guess from
    stranger: tuple[int, int]  # subject and position of the word whose map is the shuffled one
    choices: tuple[str, ...] = ()  # words to guess from


@dataclass(frozen=True, eq=False)
class Pool:
    """Explained photographs and the tasks about them."""

    subjects: tuple[Subject, ...]
    tasks: tuple[Task, ...]
    fingerprint: str  # tells this study from one with other photographs, another model or another seed
    seed: int

    def maps(self, task: Task) -> list[np.ndarray]:
        """The maps of a task, each (H, W), from left to right."""
        subject, position = task.stranger
        shuffled = self.subjects[subject].maps[position]["region_word"]
        own = self.subjects[task.subject].maps[task.position] | {"shuffled": shuffled}
        return [own[source] for source in task.sources]

    def word(self, task: Task) -> str:
        """The word that a task asks about."""
        return self.subjects[task.subject].words[task.position]

    def tasks_of(self, reviewer: int) -> list[Task]:
        """The tasks in the order of one reviewer, who are numbered as they come.

        Guesses come first, since the captions beside pairs would give them away; within both kinds the order is
        random. Every second reviewer sees the sides exchanged, and the source of each guess moves on by one from
        reviewer to reviewer, so that neither sides nor easy words favour a source.
        """
        random = np.random.default_rng([self.seed, reviewer])
        tasks = [self.tasks[index] for index in random.permutation(len(self.tasks))]
        return sorted((_turned(task, reviewer) for task in tasks), key=lambda task: task.kind != GUESS)


def prepare(
    model: Captioner,
    photographs: Sequence[Path],
    *,
    seed: int = 0,
    track: Callable[[Sequence[Path]], Iterable[Path]] = iter,
) -> Pool:
    """Explain the photographs and make the tasks. The same photographs, model and seed give the same tasks.

    Of more than ``MAX_PHOTOGRAPHS`` a random selection takes part. ``track`` wraps those that are explained, to show
    how far it is, as tqdm does.

    Raises ``StudyError`` where a photograph cannot be read or the captions have too few words to ask about.
    """
    random = np.random.default_rng(seed)
    chosen = [photographs[index] for index in np.sort(random.permutation(len(photographs))[:MAX_PHOTOGRAPHS])]
    return make_pool([_subject(model, path) for path in track(chosen)], model=model.name, seed=seed)


def make_pool(subjects: Sequence[Subject], *, model: str, seed: int = 0) -> Pool:
    """The tasks about explained photographs, by the model of this name. Raises ``StudyError`` as ``prepare`` does."""
    random = np.random.default_rng(seed)
    words = [(number, position) for number, subject in enumerate(subjects) for position in subject.maps]
    words = [words[index] for index in random.permutation(len(words))]
    if not words:
        raise _too_few_words()
    tasks = [*_pairs(subjects, words, random), *_guesses(subjects, words, random)]
    tasks = tuple(replace(task, number=number) for number, task in enumerate(tasks))
    about = [model, seed, [[subject.name, subject.words] for subject in subjects], [asdict(task) for task in tasks]]
    fingerprint = hashlib.sha256(json.dumps(about).encode()).hexdigest()
    return Pool(tuple(subjects), tasks, fingerprint, seed)


def alike(one: str, other: str) -> bool:
    """Whether two words cannot be told apart by a map: the same but for the plural or the spelling, or synonyms."""
    same = _stem(one) == _stem(other)
    return same or bool(OBJECT_WORDS.get(one) and OBJECT_WORDS.get(one) == OBJECT_WORDS.get(other))


def _stem(word: str) -> str:
    return word.removesuffix("s").replace("gray", "grey").replace("color", "colour")


def _turned(task: Task, reviewer: int) -> Task:
    if task.kind == PAIR:
        return replace(task, sources=task.sources[:: 1 if reviewer % 2 else -1])
    (source,) = task.sources
    return replace(task, sources=(SOURCES[(SOURCES.index(source) + reviewer) % len(SOURCES)],))


def _subject(model: Captioner, path: Path) -> Subject:
    try:
        photograph = open_photograph(path)
    except PhotographError as error:
        raise StudyError(f"{path.name}: {error}") from error
    explained = model.explain(photograph)
    words = tuple(word.text for word in explained.words)
    positions = [position for position, word in enumerate(words) if is_content(word) and word not in words[:position]]
    cams = model.grad_cams(photograph, words, positions)
    maps = {
        position: {
            "region_word": np.maximum(explained.words[position].region_logits, 0),
            "attention": explained.words[position].attention,
            "grad_cam": cam,
        }
        for position, cam in zip(positions, cams)
    }
    # A word that one source has no map for would give that source away by an unmarked picture.
    maps = {position: own for position, own in maps.items() if all(one.max() > 0 for one in own.values())}
    photograph.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.LANCZOS)
    return Subject(path.name, photograph, words, maps)


def _pairs(subjects: Sequence[Subject], words: Sequence[tuple[int, int]], random: np.random.Generator) -> list[Task]:
    """Every pair of sources equally often, each source on either side as often as may be, words taking turns."""
    pairs = list(combinations(SOURCES, 2))
    used, asked = Counter(), set()
    tasks = []
    for turn in range(min(_PER_PAIR, len(words))):
        for index, pair in enumerate(pairs):
            word = min((word for word in words if (word, pair) not in asked), key=used.__getitem__)
            used[word] += 1
            asked.add((word, pair))
            sides = pair if (turn + index) % 2 else pair[::-1]
            tasks.append(Task(0, PAIR, *word, sides, _stranger(subjects, words, word, random)))
    return tasks


def _guesses(subjects: Sequence[Subject], words: Sequence[tuple[int, int]], random: np.random.Generator) -> list[Task]:
    """Every word at most once, the sources taking turns."""
    return [
        Task(
            0,
            GUESS,
            *word,
            (SOURCES[turn % len(SOURCES)],),
            _stranger(subjects, words, word, random),
            _choices(subjects, word, random),
        )
        for turn, word in enumerate(words[:_GUESSES])
    ]


def _stranger(
    subjects: Sequence[Subject], words: Sequence[tuple[int, int]], word: tuple[int, int], random: np.random.Generator
) -> tuple[int, int]:
    """A word of another photograph that means something else."""
    text = subjects[word[0]].words[word[1]]
    others = [
        (subject, position)
        for subject, position in words
        if subject != word[0] and not alike(subjects[subject].words[position], text)
    ]
    if not others:
        raise StudyError("The captions of these photographs are too much alike. Choose more or other photographs.")
    return others[random.integers(len(others))]


def _choices(subjects: Sequence[Subject], word: tuple[int, int], random: np.random.Generator) -> tuple[str, ...]:
    """The word and wrong ones, no two alike, in random order: some of the same caption, the rest of others."""
    own = subjects[word[0]].words
    same = _content(own, random)
    strange = [text for text in _content([text for one in subjects for text in one.words], random) if text not in own]
    found = [own[word[1]]]
    # Of the same caption as many as wanted, then of others, then of the same again where there are too few others.
    for texts, most in ((same, 1 + _FROM_CAPTION), (strange, CHOICES), (same, CHOICES)):
        for text in texts:
            if len(found) < most and not any(alike(text, other) for other in found):
                found.append(text)
    if len(found) < CHOICES:
        raise _too_few_words()
    return tuple(found[index] for index in random.permutation(CHOICES))


def _too_few_words() -> StudyError:
    return StudyError("The captions of these photographs have too few words. Choose more or other photographs.")


def _content(words: Sequence[str], random: np.random.Generator) -> list[str]:
    """The content words, each once, in random order."""
    found = sorted({word for word in words if is_content(word)})
    return [found[index] for index in random.permutation(len(found))]
