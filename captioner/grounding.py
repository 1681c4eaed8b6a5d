"""Grounding: whether the map of a word lies where the thing is that the word names.

Notation: M captions of one photograph, T words, N words that name something seen, R regions.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import torch

from captioner import region_maps
from captioner.boxes import centres_inside, coverage
from captioner.entities import GroundedCaption
from captioner.explanation import positive_map
from captioner.measurement import Means, Seen
from captioner.model import CaptionModel
from captioner.named_words import NamedWord, generated_words, named_words
from captioner.reading import read
from captioner.vocabulary import PAD, Vocabulary
from captioner.word_classes import is_content

# A photograph, N padded captions (N, T) and a position (N,) in each, to the maps (N, R) of the words there, not
# negative; None for a photograph that the attribution leaves out.
Attribution = Callable[[Seen, torch.Tensor, torch.Tensor], torch.Tensor | None]

# A phrase has the first size that its boxes do not exceed, as a share of the photograph.
SIZES = {"small": 0.05, "medium": 0.25, "large": math.inf}


class Grounding:
    """Pointing accuracy and attention correctness of the last word of every phrase that has boxes, in percent.

    ``entities``: the grounded captions of every photograph by its file name; the model reads them word for word
    (teacher forcing). Beside its own maps stand the baselines ``uniform``, ``centre`` and ``shuffled`` (the map of a
    word that names something else, chosen by ``seed``) and the ``attributions``. The model must be in evaluation mode.
    """

    def __init__(
        self,
        model: CaptionModel,
        vocabulary: Vocabulary,
        entities: Mapping[str, tuple[GroundedCaption, ...]],
        *,
        attributions: Mapping[str, Attribution] | None = None,
        seed: int = 0,
    ):
        self._model, self._vocabulary, self._entities = model, vocabulary, entities
        self._grid = model.config.grid
        self._attributions = attributions or {}
        self._random = np.random.default_rng(seed)
        self._before: np.ndarray | None = None  # (N, R), the maps of the photograph before, to shuffle with
        self._all, self._generated = _Scores(), _Scores()
        self._by_type: dict[str, _Scores] = defaultdict(_Scores)
        self._by_size = {size: _Scores() for size in SIZES}
        self._ceiling, self._entropy, self._overlap = Means(), Means(), Means()
        self._photographs = self._without_boxes = 0

    def add(self, seen: Seen) -> None:
        """Measure a photograph. One that has no phrase with boxes is only counted."""
        captions = self._entities.get(seen.record.path.name, ())
        words = named_words(captions)
        if not words:
            self._without_boxes += 1
            return
        self._photographs += 1
        words += generated_words(self._vocabulary.decode(seen.caption), words, caption=len(captions))
        ids = [*(self._vocabulary.encode(caption.words) for caption in captions), seen.caption]
        padded = _padded(ids).to(seen.features.device)
        own = self._own_maps(seen.features, padded, words)
        others = self._baselines(words, own) | self._attributed(seen, padded, words)
        self._score(seen.record.path.name, words, own | others)
        self._compare(seen.record.path.name, words, own)

    @torch.no_grad()
    def _own_maps(self, features: torch.Tensor, ids: torch.Tensor, words: list[NamedWord]) -> dict[str, np.ndarray]:
        """What the model itself shows of the words of captions (M, T), by name: (N, R) each."""
        reading = read(self._model.decoder, ids, self._model.decoder.look(features[None]))
        at = [word.caption for word in words], [word.position for word in words]
        maps = {} if reading.region_logits is None else {"region_word": reading.region_logits[at]}
        maps["attention"] = reading.attention[at]
        layers = reading.layer_maps[at].unbind(1)
        maps |= {f"layer_{number}": layer for number, layer in enumerate(layers, start=1)}
        return {name: self._normalised(values) for name, values in maps.items()}

    def _baselines(self, words: list[NamedWord], own: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Maps that know nothing of the word, by name: (N, R) each."""
        constant = {"uniform": region_maps.uniform_map(self._grid), "centre": region_maps.centre_map(self._grid)}
        maps = {name: np.tile(values, (len(words), 1)) for name, values in constant.items()}
        shuffled = self._shuffled(words, own.get("region_word", own["attention"]))
        return maps if shuffled is None else maps | {"shuffled": shuffled}

    def _shuffled(self, words: list[NamedWord], maps: np.ndarray) -> np.ndarray | None:
        """For every word the map of a phrase that names something else; of the photograph before where none does here.

        None for a first photograph in which there is no other for every word.
        """
        phrases = [index for index, word in enumerate(words) if not word.generated]
        others = [[index for index in phrases if word.is_apart_from(words[index])] for word in words]
        before, self._before = self._before, maps[phrases]
        if before is None and not all(others):
            return None
        return np.stack([self._random.choice(maps[pool] if pool else before) for pool in others])

    def _attributed(self, seen: Seen, ids: torch.Tensor, words: list[NamedWord]) -> dict[str, np.ndarray]:
        captions = ids[[word.caption for word in words]]  # (N, T)
        positions = torch.tensor([word.position for word in words], device=ids.device)
        found = {name: attribute(seen, captions, positions) for name, attribute in self._attributions.items()}
        return {name: self._normalised(maps.detach()) for name, maps in found.items() if maps is not None}

    def _normalised(self, maps: torch.Tensor) -> np.ndarray:
        values = maps.double().cpu().numpy()
        return positive_map(values.reshape(-1, *self._grid)).reshape(values.shape)

    def _score(self, photograph: str, words: list[NamedWord], maps: dict[str, np.ndarray]) -> None:
        inside = np.stack([centres_inside(word.boxes, self._grid).ravel() for word in words])
        covered = np.stack([coverage(word.boxes, self._grid).ravel() for word in words])
        groups = [self._groups(word, share) for word, share in zip(words, covered.mean(-1))]
        for name, values in maps.items():
            pointing, correctness = region_maps.pointing(values, inside), region_maps.correctness(values, covered)
            for index, its_groups in enumerate(groups):
                for group in its_groups:
                    group.add(name, photograph, pointing[index], correctness[index])
        for word, any_inside, most_covered in zip(words, inside.any(-1), covered.max(-1)):
            if not word.generated:
                self._ceiling.add("pointing", photograph, 100 * any_inside)
                self._ceiling.add("correctness", photograph, 100 * most_covered)

    def _groups(self, word: NamedWord, share: float) -> list[_Scores]:
        if word.generated:
            return [self._generated]
        size = next(size for size, limit in SIZES.items() if share <= limit)
        return [self._all, self._by_size[size], *(self._by_type[kind] for kind in word.types)]

    def _compare(self, photograph: str, words: list[NamedWord], maps: dict[str, np.ndarray]) -> None:
        """How wide the maps of phrases are, and how far those of two nouns of one caption are alike."""
        phrases = [index for index, word in enumerate(words) if not word.generated]
        pairs = [pair for pair in combinations(phrases, 2) if _are_two_nouns(*(words[index] for index in pair))]
        for name, values in maps.items():
            for entropy in region_maps.entropy(values[phrases]):
                self._entropy.add(name, photograph, entropy)
            for one, other in pairs:
                self._overlap.add(name, photograph, region_maps.overlap(values[one], values[other]))

    def result(self) -> dict[str, Any]:
        """All means so far, with intervals for those over all phrases, and counts; plain values for JSON.

        A map that is missing for some photographs has fewer phrases: ``phrases_by_map``.
        """
        overall = {
            "pointing": self._all.pointing,
            "correctness": self._all.correctness,
            "entropy": self._entropy,
            "overlap": self._overlap,
        }
        return {
            **{score: means.means() for score, means in overall.items()},
            "intervals": {score: means.intervals() for score, means in overall.items()},
            "by_type": {kind: self._by_type[kind].table() for kind in sorted(self._by_type)},
            "by_size": {size: scores.table() for size, scores in self._by_size.items()},
            "ceiling": self._ceiling.means(),
            "generated": self._generated.table(counted="words"),
            "phrases": self._all.counted(),
            "phrases_by_map": self._all.pointing.counts(),
            "photographs": self._photographs,
            "photographs_without_boxes": self._without_boxes,
        }


class _Scores:
    """Pointing and correctness of every kind of map, over one group of words."""

    def __init__(self):
        self.pointing, self.correctness = Means(), Means()

    def add(self, name: str, photograph: str, pointing: float, correctness: float) -> None:
        self.pointing.add(name, photograph, pointing)
        self.correctness.add(name, photograph, correctness)

    def counted(self) -> int:
        return self.pointing.counts().get("uniform", 0)  # the one map that no word lacks

    def table(self, *, counted: str = "phrases") -> dict[str, Any]:
        return {
            "pointing": self.pointing.means(),
            "correctness": self.correctness.means(),
            counted: self.counted(),
        }


def _are_two_nouns(one: NamedWord, other: NamedWord) -> bool:
    """Whether two words of one caption differ, and so do the things that they name."""
    both_content = is_content(one.text) and is_content(other.text)
    return one.caption == other.caption and one.text != other.text and both_content and one.is_apart_from(other)


def _padded(captions: Sequence[Sequence[int]]) -> torch.Tensor:
    """Captions of different lengths in one batch, (M, T)."""
    rows = [torch.tensor(caption, dtype=torch.long) for caption in captions]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
