"""Floors and a ceiling for captions: what can be said without understanding a photograph, and what a person says.

The floors are the caption that people wrote most often, said of every photograph, and captions taken over from
training photographs that look alike (Devlin et al. 2015, arXiv 1505.04467). The ceiling is people against each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from captioner.data import CaptionedPhotograph, DataError
from captioner.familiarity import mean_features
from captioner.features import batch_of, cached_features
from captioner.metrics import CiderD, ptb_tokenize
from captioner.model import CaptionModel

NEIGHBOURS = 10
_ENCODED = 50  # photographs at a time


def most_common_caption(captions: Iterable[str]) -> str:
    """The caption that stands most often, compared word by word as metrics do; of equals the one that stands first."""
    captions = list(captions)
    words = [tuple(ptb_tokenize(caption)) for caption in captions]
    return captions[words.index(Counter(words).most_common(1)[0][0])]


@torch.inference_mode()
def directions(records: Sequence[CaptionedPhotograph], model: CaptionModel, cache: Path, *, label: str) -> torch.Tensor:
    """What the model's encoder makes of N photographs, mean-pooled: unit vectors (N, C), whose products are cosines.

    ``cache`` is the folder of encoder features, ``label`` what photographs these are in it.
    """
    paths = [record.path for record in records]
    rows = cached_features(paths, model.encoder, model.config.preprocessing, cache, label=label)
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(rows), _ENCODED):
        found += map(mean_features, model.finish(batch_of(rows[start : start + _ENCODED], device)))
    return torch.stack(found)


def nearest(photographs: torch.Tensor, training: torch.Tensor, count: int) -> np.ndarray:
    """The ``count`` nearest of M ``training`` directions (M, C) to each of N others (N, C): (N, count), nearest first.

    Where there are fewer of them, all.
    """
    return (photographs @ training.T).topk(min(count, len(training))).indices.numpy()


def consensus_captions(neighbours: np.ndarray, captions: Sequence[Sequence[str]]) -> list[str]:
    """For each of N photographs that caption of its neighbours (N, K) which agrees best with all of theirs.

    ``captions[m]`` are those of training photograph m. Agreement is CIDEr-D, each neighbour counting alike; of equals
    that of the nearest neighbour. Raises ``ValueError`` where a training photograph has no caption.
    """
    words = [[ptb_tokenize(caption) for caption in several] for several in captions]
    agreement = CiderD(words)
    chosen = []
    for own in neighbours:
        offered = [(index, number) for index in own for number in range(len(captions[index]))]
        said = [words[index][number] for index, number in offered]
        total = sum(agreement.score(said, [index] * len(said)) for index in own)
        index, number = offered[int(np.argmax(total))]
        chosen.append(captions[index][number])
    return chosen


def rounds(records: Sequence[CaptionedPhotograph]) -> Iterator[tuple[list[str], list[CaptionedPhotograph]]]:
    """People against each other: in each round one caption of every photograph, and the records without it.

    Each caption is left out in turn, not one drawn at random: nothing hangs on a draw, and every person is heard.
    Photographs with more captions than others have no round for these.
    Raises ``DataError`` where a photograph has fewer than two captions.
    """
    fewest = min(len(record.raw) for record in records)
    if fewest < 2:
        raise DataError("A person can only be compared with others where every photograph has two captions or more.")
    for number in range(fewest):
        yield [record.raw[number] for record in records], [_without(record, number) for record in records]


def _without(record: CaptionedPhotograph, number: int) -> CaptionedPhotograph:
    tokens, raw = ((*captions[:number], *captions[number + 1 :]) for captions in (record.tokens, record.raw))
    return replace(record, tokens=tokens, raw=raw)
