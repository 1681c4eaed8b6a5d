"""Captioned photographs as what is learnt from: batches of features, padded captions and the boxes of their words."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from captioner import distributed
from captioner.augmentation import views
from captioner.data import CaptionedPhotograph
from captioner.enhancement import PhraseBoxes, PhraseWords
from captioner.features import batch_of
from captioner.teaching import padded
from captioner.training_config import TrainingConfig
from captioner.vocabulary import Vocabulary


@dataclass(frozen=True)
class Batch:
    """B photographs and the captions to learn, M = B x captions, those of one photograph adjacent.

    Where several processes train, each has a part of the photographs, and T is the same for all.
    """

    features: torch.Tensor  # (B, C', H', W'), what the encoder's lower stages made of them
    words: torch.Tensor  # (M, T), end last
    phrases: PhraseBoxes | None
    rows: np.ndarray  # (B,), which photographs they are
    mirrored: np.ndarray  # (B,), whether features and captions are those of the mirror image


class Examples:
    """Photographs as features with their captions as ids, in batches that depend on seed and epoch alone.

    Where several processes train, the batches of each are its parts of the same batches. Raises ``ValueError`` where
    one would have no photograph of a batch.
    """

    def __init__(
        self,
        records: list[CaptionedPhotograph],
        vocabulary: Vocabulary,
        features: list[np.ndarray],  # cached ones of the photographs in each of the config's views
        config: TrainingConfig,
        phrases: PhraseWords | None = None,  # of the photographs whole, then of them in the first crop, and so on
    ):
        self.features, self.config, self.phrases = features, config, phrases
        self.views = views(config)
        self.captions = [[vocabulary.encode(words) for words in record.tokens] for record in records]
        self.mirrored = np.arange(len(vocabulary))
        if "left" in vocabulary and "right" in vocabulary:
            left, right = vocabulary.encode(["left", "right"])
            self.mirrored[[left, right]] = right, left
        smallest = (len(records) - 1) % config.batch + 1
        if smallest < distributed.world():
            raise ValueError(
                f"The last batch of an epoch has {smallest} photographs, too few for {distributed.world()} processes; "
                f"choose another --batch than {config.batch}."
            )

    @property
    def steps(self) -> int:
        """Steps an epoch; the last batch may be smaller."""
        return math.ceil(len(self.captions) / self.config.batch)

    def epoch(self, number: int, *, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from batch ``skip`` on."""
        random = np.random.default_rng([self.config.seed, number])
        order = self._order(random)
        shown = random.integers(len(self.features), size=len(order))  # the view of each photograph
        mirrored = np.array([self.views[view].mirrored for view in shown])
        crops = np.array([self.views[view].number for view in shown])
        chosen = [self._choose(len(captions), random) for captions in self.captions]
        for start in range(skip * self.config.batch, len(order), self.config.batch):
            rows = order[start : start + self.config.batch]
            captions = [(row, index, mirrored[row]) for row in rows for index in chosen[row]]
            words = padded([self._caption(*caption) for caption in captions], self.config.longest)
            own = distributed.part(len(rows))
            rows = rows[own]
            own = slice(own.start * self.config.captions, own.stop * self.config.captions)
            captions, words = captions[own], words[own]
            features = np.stack([self.features[shown[row]][row] for row in rows])
            boxed = [(crops[row] * len(order) + row, index, flipped) for row, index, flipped in captions]
            phrases = self.phrases and self.phrases.batch(boxed, self.config.longest)
            yield Batch(batch_of(features, torch.device("cpu")), words, phrases, rows, mirrored[rows])

    def _order(self, random: np.random.Generator) -> np.ndarray:
        """A random order in which the photographs of a batch have captions of like length: less padding, same epoch."""
        batch = self.config.batch
        order = random.permutation(len(self.captions))
        longest = np.array([max(map(len, captions)) for captions in self.captions])
        pools = [order[start : start + 16 * batch] for start in range(0, len(order), 16 * batch)]
        pools = [pool[np.argsort(longest[pool], kind="stable")] for pool in pools]
        batches = [pool[start : start + batch] for pool in pools for start in range(0, len(pool), batch)]
        # A resumed epoch skips whole batches, so the one that is not full stays last.
        full, rest = batches[:-1], batches[-1:]
        random.shuffle(full)
        return np.concatenate(full + rest)

    def _choose(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Which captions of a photograph take part: different ones as long as there are enough."""
        rounds = -(-self.config.captions // count)
        return np.concatenate([random.permutation(count) for _ in range(rounds)])[: self.config.captions]

    def _caption(self, row: int, index: int, mirrored: bool) -> list[int]:
        words = self.captions[row][index]
        return self.mirrored[words].tolist() if mirrored else words
