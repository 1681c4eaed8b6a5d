"""A model small enough to build in a moment, with random weights, for tests that need no trained one."""

from __future__ import annotations

from pathlib import Path

import torch

from captioner.decoder import DecoderConfig
from captioner.encoder import EncoderConfig
from captioner.hub import SavedModel, save_model
from captioner.model import CaptionModel, ModelConfig
from captioner.photographs import Preprocessing
from captioner.vocabulary import Vocabulary

WORDS = (
    "a the in on of and with is man woman dog child two red blue green black white shirt ball grass "
    "water snow running jumping playing standing sitting wearing holding street beach mountain bike left right 's"
).split()


def tiny_model(
    attention: str = "pyramid",
    *,
    seed: int = 0,
    image_size: int = 64,
    layers: int = 3,
    head: str = "additive",
    levels: int = 1,
    kind: str = "cnn",
) -> SavedModel:
    """ResNet-18 on 64 px (2 x 2 regions; 96 px give 3 x 3), decoder of width 16. Deterministic in ``seed``.

    Two levels of the encoder give twice as many regions a side.
    """
    torch.manual_seed(seed)
    config = ModelConfig(
        encoder=EncoderConfig("resnet18", levels=levels),
        decoder=DecoderConfig(kind, width=16, layers=layers, attention=attention, head=head),
        preprocessing=Preprocessing(image_size=image_size),
    )
    vocabulary = Vocabulary(WORDS)
    model = CaptionModel(config, vocabulary=len(vocabulary)).eval()
    # Random embeddings this small would make all words equally likely; larger ones give captions that differ.
    with torch.no_grad():
        model.decoder.embedding.weight.mul_(4)
    return SavedModel(model, vocabulary, {"data": "none, random weights"})


def save_tiny_model(folder: Path, **options) -> Path:
    """A model folder with ``tiny_model(**options)`` in it."""
    save_model(folder, tiny_model(**options))
    return folder
