"""Finished models as what a run of training begins with: one to go on from, or several to learn from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch

from captioner.features import frozen_stages
from captioner.hub import WEIGHTS_FILE, SavedModel, load_model
from captioner.model import CaptionModel
from captioner.vocabulary import Vocabulary


def load_finished(folder: Path, model: CaptionModel, vocabulary: Vocabulary) -> tuple[SavedModel, str]:
    """A finished model that reads the same cached features as ``model``, with a last stage of its own, and its name.

    Raises ``ModelError`` for a folder that holds no model, ``ValueError`` for a model that knows other words or sees
    photographs otherwise.
    """
    saved = load_model(folder)
    if saved.vocabulary.words != vocabulary.words:
        raise ValueError(f"{folder} knows other words than this data; it must have been trained on the same.")
    if not _sees_alike(saved.model, model):
        raise ValueError(f"{folder} sees photographs otherwise; it must have the same image size and encoder weights.")
    return saved, name_of(folder)


def name_of(folder: Path) -> str:
    """A finished model's name for what is made of it: its folder's, and the beginning of its weights' SHA-256."""
    digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    return f"{folder.resolve().name} {digest[:12]}"


@torch.no_grad()
def go_on_from(folder: Path, model: CaptionModel, vocabulary: Vocabulary) -> dict[str, Any]:
    """Give a model all that a finished one learnt, calibration aside; returns that one's name and how it was trained.

    Raises as ``load_finished`` does, and ``ValueError`` for a decoder of another form or size.
    """
    finished, name = load_finished(folder, model, vocabulary)
    known, own = dict(finished.model.named_parameters()), dict(model.named_parameters())
    if {key: part.shape for key, part in known.items()} != {key: part.shape for key, part in own.items()}:
        raise ValueError(f"{folder} has a decoder of another form or size; give the settings it was trained with.")
    for key, part in own.items():
        part.copy_(known[key])
    trained = {key: finished.about[key] for key in ("recipe", "training", "mean of", "start") if key in finished.about}
    return {"name": name} | trained


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
