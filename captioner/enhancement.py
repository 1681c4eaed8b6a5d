"""Interpretability enhancement: training terms on the region-word scores, beside the caption loss.

After the interpretability-enhancement module of arXiv 2407.09556, whose details the paper does not give. Notation: B
images, M captions, T words, R regions, D width, P phrase words that have boxes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from captioner import distributed
from captioner.boxes import coverage
from captioner.entities import GroundedCaption, grounded
from captioner.reading import Reading
from captioner.vocabulary import END, PAD, UNKNOWN
from captioner.word_classes import is_content

# Keeps the logarithm of a share finite where nothing lies inside.
_LEAST = 1e-3


@dataclass(frozen=True)
class PhraseBoxes:
    """Words of a batch of captions whose place in the photograph is known."""

    captions: torch.Tensor  # (P,), row of the caption
    positions: torch.Tensor  # (P,), position of the word
    inside: torch.Tensor  # (P, R), 0..1: how far a region lies in the boxes, 1 for the one that lies in most

    def to(self, device: torch.device) -> PhraseBoxes:
        return PhraseBoxes(self.captions.to(device), self.positions.to(device), self.inside.to(device))


class PhraseWords:
    """The phrase words of every training caption, ready to be put together into batches."""

    def __init__(
        self,
        captions: Sequence[Sequence[Sequence[str]]],  # words of the captions, photograph by photograph
        phrases: Sequence[Sequence[GroundedCaption]],  # grounded captions of the same photographs
        grid: tuple[int, int],
    ):
        self.grid = grid
        self._of = [
            [_phrase_words(grounded(known, words), grid) for words in own] for own, known in zip(captions, phrases)
        ]

    def batch(self, chosen: Sequence[tuple[int, int, bool]], longest: int) -> PhraseBoxes:
        """Of captions (photograph, caption, mirrored or not), whose words up to ``longest`` count."""
        rows, positions, masks = [], [], [np.zeros((0, *self.grid), dtype=np.float32)]
        for row, (photograph, caption, mirrored) in enumerate(chosen):
            where, inside = self._of[photograph][caption]
            kept = where < longest
            rows.append(np.full(kept.sum(), row))
            positions.append(where[kept])
            masks.append(inside[kept][:, :, ::-1] if mirrored else inside[kept])
        inside = torch.from_numpy(np.concatenate(masks)).flatten(1)
        return PhraseBoxes(torch.from_numpy(np.concatenate(rows)), torch.from_numpy(np.concatenate(positions)), inside)


def _phrase_words(caption: GroundedCaption | None, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Positions (P,) of the content words of phrases with boxes, and how far regions lie inside, (P, H, W)."""
    positions, masks = [], []
    for phrase in caption.phrases if caption else ():
        covered = coverage(phrase.boxes, grid)
        if covered.max() > 0:
            words = [at for at in range(phrase.first, phrase.last + 1) if is_content(caption.words[at])]
            positions += words
            masks += [covered / covered.max()] * len(words)
    return np.array(positions, dtype=np.int64), np.array(masks, dtype=np.float32).reshape(-1, *grid)


def box_loss(reading: Reading, boxes: PhraseBoxes) -> torch.Tensor:
    """How badly attention and region-word map of phrase words lie inside the phrases' boxes, a mean log-likelihood.

    Three shares inside are made likely: of alpha; of the positive part of C, the map that is shown; and of alpha times
    the likelihood ratio ``exp(v_r . E_w)`` beside a no-region that is worth 1: that one has a gradient also where no
    region speaks for the word yet, and asks for regions that do.
    """
    if not len(boxes.captions):
        return reading.bias.sum() * 0  # a loss like the others, with nothing to learn
    at = boxes.captions, boxes.positions
    alpha, added = reading.attention[at].float(), reading.region_logits[at].float().relu()  # (P, R)
    evidence = alpha.clamp_min(1e-9).log() + reading.relevance[at].float()
    likelihood = F.pad(evidence, (0, 1)).softmax(-1)[:, :-1]
    shares = [
        (alpha * boxes.inside).sum(-1),
        (added * boxes.inside).sum(-1) / (added.sum(-1) + _LEAST),
        (likelihood * boxes.inside).sum(-1),
    ]
    return -sum(share.clamp_min(_LEAST).log().mean() for share in shares) / len(shares)


def matching_loss(values: torch.Tensor, embedding: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """How badly captions find their photographs, and photographs their captions, by region-word scores alone.

    A photograph's score for a word is the softmax-weighted mean of ``v_r . E_w`` over its regions (values (B, R, D),
    embedding (V, D)); for a caption, the mean over its words (M, T). Contrastive over the batch, both ways
    (InfoNCE); the captions of one photograph are all right answers. The batch is that of all processes; the gradients
    that reach the values add up over them.
    """
    words = distributed.gathered(words)
    counted = (words != PAD) & (words != END) & (words != UNKNOWN)
    known, places = words.unique(return_inverse=True)
    relevance = values @ embedding[known].T  # (B, R, V')
    pooled = distributed.gathered((relevance.softmax(1) * relevance).sum(1))  # (B, V')
    bags = torch.zeros(len(words), len(known), device=words.device).scatter_add_(1, places, counted.float())
    scores = (bags / bags.sum(1, keepdim=True).clamp_min(1)) @ pooled.T  # (M, B)
    captions = len(words) // len(pooled)
    own = torch.arange(len(pooled), device=words.device).repeat_interleave(captions)
    of_captions = F.cross_entropy(scores, own)
    to_captions = scores.T.log_softmax(1)[own, torch.arange(len(words), device=words.device)].mean()
    return of_captions - to_captions - math.log(captions)
