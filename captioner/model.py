"""The whole network: encoder and decoder, built from one configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from captioner.baselines import LstmDecoder, TransformerDecoder
from captioner.decoder import CnnDecoder, Decoder, DecoderConfig, Regions
from captioner.encoder import Encoder, EncoderConfig
from captioner.photographs import Preprocessing

DECODERS: dict[str, type[Decoder]] = {"cnn": CnnDecoder, "lstm": LstmDecoder, "transformer": TransformerDecoder}


@dataclass(frozen=True)
class ModelConfig:
    """All that is needed to build the network, the vocabulary aside."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    @property
    def grid(self) -> tuple[int, int]:
        """Regions (H, W): a ResNet halves the side five times, four times before its last stage."""
        side = -(-self.preprocessing.image_size // (32 if self.encoder.levels == 1 else 16))
        return side, side


class CaptionModel(nn.Module):
    """CNN encoder, attention hierarchy, causal-convolution decoder and additive head (arXiv 2407.09556).

    Raises ``ValueError`` for a decoder that does not exist, or settings it cannot have.
    """

    def __init__(self, config: ModelConfig, *, vocabulary: int):
        super().__init__()
        kind = config.decoder.kind
        if kind not in DECODERS:
            raise ValueError(f"No decoder {kind!r}; choose one of {', '.join(DECODERS)}.")
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.decoder = DECODERS[kind](
            config.decoder, channels=self.encoder.channels, grid=config.grid, vocabulary=vocabulary
        )

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Preprocessed images (B, 3, S, S) to region features (B, R, C), row by row."""
        return _by_region(self.encoder(images))

    def finish(self, lower: torch.Tensor) -> torch.Tensor:
        """The outcome of ``encoder.lower`` (B, C', H', W') to region features (B, R, C), row by row."""
        return _by_region(self.encoder.upper(lower))

    def look(self, images: torch.Tensor) -> Regions:
        """Preprocessed images (B, 3, S, S) to regions that captions can be asked of."""
        return self.decoder.look(self.encode(images))


def _by_region(features: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) to (B, R, C)."""
    return features.flatten(2).transpose(1, 2)
