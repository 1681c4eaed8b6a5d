"""Self-critical training on CIDEr-D: captions are sampled, and those better than their siblings made likelier.

Rennie et al. 2017 (SCST), with the mean of a photograph's other samples as the baseline (Luo 2020).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from captioner.likelihood import log_probabilities
from captioner.metrics import CiderD
from captioner.vocabulary import END, PAD, Vocabulary

# Ending is a word of its own in the reward: else captions learn to break off in "a man in a".
_END = "<end>"


class Reward:
    """CIDEr-D of sampled captions against the captions of the training photographs, in CIDEr units (percent / 100)."""

    def __init__(self, references: Sequence[Sequence[Sequence[str]]], vocabulary: Vocabulary):
        self.vocabulary = vocabulary
        self.cider = CiderD([[[*caption, _END] for caption in captions] for captions in references])

    def __call__(self, words: np.ndarray, photographs: Sequence[int]) -> np.ndarray:
        """Sampled ids (M, T), padded, of M captions of the ``photographs`` (M,), to rewards (M,)."""
        said = [self.vocabulary.decode(row) + ([_END] if END in row else []) for row in words]
        return self.cider.score(said, photographs) / 100


def self_critical_loss(
    logits: torch.Tensor, words: torch.Tensor, rewards: torch.Tensor, samples: int, temperature: float = 1.0
) -> torch.Tensor:
    """Policy-gradient loss of ``words`` (M, T) sampled by ``logits`` (M, T, V) at a temperature, padding left out.

    ``rewards`` (M,), the ``samples`` of one photograph adjacent; each is judged against the mean of the others.
    """
    grouped = rewards.view(-1, samples)
    others = (grouped.sum(1, keepdim=True) - grouped) / (samples - 1)
    advantage = (grouped - others).view(-1, 1)
    spoken = words != PAD
    chosen = log_probabilities(logits, temperature).gather(2, words[:, :, None]).squeeze(2).masked_fill(~spoken, 0)
    return -(advantage * chosen).sum() / spoken.sum()
