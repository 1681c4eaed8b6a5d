"""Distillation: a model learns what an ensemble of finished ones would say (Hinton et al. 2015, arXiv 1503.02531).

Notation: M captions, T words, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from captioner.finished import load_finished
from captioner.model import CaptionModel
from captioner.reading import read
from captioner.vocabulary import PAD, Vocabulary


class Teachers:
    """Finished models on the device of the model they teach, in evaluation mode; falsy where there are none.

    They read the same cached features as it, each with a last stage of its own. ``names``: the folders' names with the
    beginning of the SHA-256 of their weights.

    Raises as ``load_finished`` does.
    """

    def __init__(self, folders: Sequence[Path], model: CaptionModel, vocabulary: Vocabulary):
        self.names: list[str] = []
        self._models: list[CaptionModel] = []
        for folder in folders:
            teacher, name = load_finished(folder, model, vocabulary)
            self.names.append(name)
            self._models.append(teacher.model.to(model.decoder.position.device))

    def __len__(self) -> int:
        return len(self._models)

    @torch.no_grad()
    def probabilities(self, lower: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """The mean of the teachers' distributions at every position of captions.

        ``lower``: what ``encoder.lower`` made of the photographs, (B, C', H', W'); ``words`` (M, T), of which M / B
        belong to each; the result is (M, T, V).
        """
        taught = [read(model.decoder, words, model.decoder.look(model.finish(lower))) for model in self._models]
        return torch.stack([reading.logits.float().softmax(-1) for reading in taught]).mean(0)


def distillation_loss(logits: torch.Tensor, taught: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of logits (M, T, V) against distributions (M, T, V), padding of words (M, T) left out."""
    spoken = words != PAD
    return -((taught * logits.log_softmax(-1)).sum(-1) * spoken).sum() / spoken.sum()
