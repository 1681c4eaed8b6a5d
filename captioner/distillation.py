"""Distillation: a model learns what an ensemble of finished ones would say (Hinton et al. 2015, arXiv 1503.02531).

Notation: M captions, T words, V vocabulary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from captioner.features import frozen_stages
from captioner.hub import WEIGHTS_FILE, load_model
from captioner.model import CaptionModel
from captioner.reading import read
from captioner.vocabulary import PAD, Vocabulary


class Teachers:
    """Finished models on the device of the model they teach, in evaluation mode; falsy where there are none.

    They read the same cached features as it, each with a last stage of its own. ``names``: the folders' names with the
    beginning of the SHA-256 of their weights.

    Raises ``ModelError`` for a folder that holds no model, ``ValueError`` for a model that knows other words or sees
    photographs otherwise.
    """

    def __init__(self, folders: Sequence[Path], model: CaptionModel, vocabulary: Vocabulary):
        self.names: list[str] = []
        self._models: list[CaptionModel] = []
        for folder in folders:
            saved = load_model(folder)
            if saved.vocabulary.words != vocabulary.words:
                raise ValueError(f"{folder} knows other words than this data; teachers must be trained on the same.")
            if not _sees_alike(saved.model, model):
                raise ValueError(
                    f"{folder} sees photographs otherwise; teachers must have the same image size and encoder weights."
                )
            digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
            self.names.append(f"{folder.resolve().name} {digest[:12]}")
            self._models.append(saved.model.to(model.decoder.position.device))

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


def _sees_alike(one: CaptionModel, two: CaptionModel) -> bool:
    """Whether the frozen stages of two encoders make the same of a photograph; saved matrices are in float16."""
    if (one.config.preprocessing, one.encoder.config.name, one.encoder.config.stride_in) != (
        two.config.preprocessing,
        two.encoder.config.name,
        two.encoder.config.stride_in,
    ):
        return False
    own = frozen_stages(one.encoder)
    return all(
        torch.equal(own[name].half(), tensor.cpu().half()) for name, tensor in frozen_stages(two.encoder).items()
    )


def distillation_loss(logits: torch.Tensor, taught: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of logits (M, T, V) against distributions (M, T, V), padding of words (M, T) left out."""
    spoken = words != PAD
    return -((taught * logits.log_softmax(-1)).sum(-1) * spoken).sum() / spoken.sum()
