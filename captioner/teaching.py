"""Captions as what a decoder is taught: padded ids, and the loss on them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from captioner.vocabulary import END, PAD


def padded(captions: Sequence[Sequence[int]], longest: int) -> torch.Tensor:
    """Captions to ids (M, T), end last, padded; a longer caption is cut and has no end."""
    length = min(longest, max(map(len, captions))) + 1
    ids = torch.full((len(captions), length), PAD)
    for row, words in enumerate(captions):
        ids[row, : len(words) + 1] = torch.tensor([*words, END])[:length]
    return ids


def caption_loss(logits: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Mean cross-entropy of logits (M, T, V) against target words (M, T), padding left out."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=PAD, label_smoothing=smoothing)
