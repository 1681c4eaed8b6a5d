"""The decoder: causal convolutions over the words, an attention hierarchy over the regions, the additive head.

Notation: B images, M captions (M = B x N, those of one image adjacent), T words, R regions (an
H x W grid), L layers, D width, V vocabulary, k kernel.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from captioner.attention import FORMS, Depth, Memory, attend
from captioner.head import HEADS, WordHead
from captioner.vocabulary import PAD


@dataclass(frozen=True)
class DecoderConfig:
    """The size and form of the decoder."""

    kind: Literal["cnn", "lstm", "transformer"] = field(
        default="cnn",
        metadata={"help": "what makes the words; the baselines 'lstm' and 'transformer' have no more than a size"},
    )
    width: int = field(default=384, metadata={"help": "size of word and region states"})
    layers: int = field(default=4, metadata={"help": "causal convolutions, each followed by a look at the regions"})
    kernel: int = field(default=3, metadata={"help": "words a layer sees: the one at hand and those before it"})
    attention: Literal["gated", "pyramid", "none"] = field(
        default="pyramid", metadata={"help": "how a layer's attention reaches the next"}
    )
    head: Literal["additive", "plain"] = field(
        default="additive", metadata={"help": "whether logits are a sum over regions; 'plain' is for ablations"}
    )
    feedback: bool = field(default=True, metadata={"help": "show every word the regions that spoke for it"})
    dropout: float = field(default=0.3, metadata={"help": "share of states dropped in training"})
    feature_dropout: float = field(
        default=0.3, metadata={"help": "share of the encoder's features dropped in training"}
    )

    layer_dropout: float = field(
        default=0.0, metadata={"help": "share of convolutional layers skipped for a caption in training"}
    )

    @property
    def additive(self) -> bool:
        """Whether logits are a sum over regions, so that a word can be explained by its parts."""
        return self.kind == "cnn" and self.head == "additive"


@dataclass(frozen=True)
class Regions:
    """A batch of photographs, ready to be asked: all that depends on the photographs alone."""

    layers: Memory
    keys: torch.Tensor  # (B, R, D), of the region-word head
    values: torch.Tensor  # (B, R, D)

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class Decoded:
    """The outcome of one pass over T positions of M captions."""

    logits: torch.Tensor  # (M, T, V)
    language: torch.Tensor | None  # (M, T, D), the language states; None where the head is no sum
    alpha: torch.Tensor  # (M, T, R), the head's attention
    layer_maps: list[torch.Tensor]  # of each layer that attends, (M, T, R') on its own grid


# What a decoder remembers of the words so far, the M captions first in every tensor.
State = list[torch.Tensor]


class Decoder(nn.Module, ABC):
    """Region features and the words so far to the next word, for all positions at once or one after the other.

    What all decoders share: regions that know their position, embedded words, and a head tied to the embedding.
    """

    head: WordHead

    def __init__(self, config: DecoderConfig, *, channels: int, grid: tuple[int, int], vocabulary: int):
        super().__init__()
        self.config, self.grid = config, grid
        width, regions = config.width, grid[0] * grid[1]
        self.project = nn.Sequential(
            nn.Dropout(config.feature_dropout), nn.Linear(channels, width), nn.LayerNorm(width)
        )
        self.position = nn.Parameter(torch.randn(regions, width) * 0.02)
        self.embedding = nn.Embedding(vocabulary, width, padding_idx=PAD)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)
        self.dropout = nn.Dropout(config.dropout)

    @property
    @abstractmethod
    def map_grids(self) -> list[tuple[int, int]]:
        """The grids of ``Decoded.layer_maps``, bottom to top."""

    @abstractmethod
    def look(self, features: torch.Tensor) -> Regions:
        """Encoder features (B, R, C) to regions; done once per photograph."""

    @abstractmethod
    def forward(self, words: torch.Tensor, regions: Regions, state: State | None = None) -> tuple[Decoded, State]:
        """Words (M, T), of which M / B belong to each photograph, to the outcome and the state after them.

        Without a state the words begin the caption. Position t depends on words 0..t alone, so
        that T words at once and T calls with one word each give the same logits.
        """

    def _regions(self, features: torch.Tensor) -> torch.Tensor:
        """Encoder features (B, R, C) to region states (B, R, D)."""
        return self.dropout(self.project(features) + self.position)

    def _words(self, words: torch.Tensor) -> torch.Tensor:
        """Words (M, T) to embeddings (M, T, D) of unit variance; those tied to the head are smaller."""
        return self.embedding(words) * math.sqrt(self.config.width)


class CausalConvolution(nn.Module):
    """A gated linear unit over the last k inputs (Dauphin et al. 2017); the first inputs have zeros before them."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.kernel = kernel
        self.norm = nn.LayerNorm(width)
        # A convolution written as a linear map of the window: one matrix product for a whole caption and for one word.
        self.window = nn.Linear(kernel * width, 2 * width)

    def forward(
        self, x: torch.Tensor, past: torch.Tensor, gate: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(M, T, D) with the ``past`` (M, k - 1, D) before it to (M, T, D) and the past of the next word.

        ``gate`` (M, T, D) is added to the convolution's own gate before the sigmoid.
        """
        words = x.shape[1]
        series = torch.cat([past, self.norm(x)], 1)  # (M, k - 1 + T, D)
        windows = torch.cat([series[:, offset : offset + words] for offset in range(self.kernel)], -1)
        value, own_gate = self.window(windows).chunk(2, -1)
        return value * torch.sigmoid(own_gate if gate is None else own_gate + gate), series[:, words:]


class CnnDecoder(Decoder):
    """Causal convolutions over the words, a look at the regions after each. It remembers their last k - 1 inputs.

    Raises ``ValueError`` for a form of attention or a head that does not exist.
    """

    def __init__(self, config: DecoderConfig, *, channels: int, grid: tuple[int, int], vocabulary: int):
        if config.attention not in FORMS:
            raise ValueError(f"No attention {config.attention!r}; choose one of {', '.join(FORMS)}.")
        if config.head not in HEADS:
            raise ValueError(f"No head {config.head!r}; choose one of {', '.join(HEADS)}.")
        super().__init__(config, channels=channels, grid=grid, vocabulary=vocabulary)
        width = config.width
        self.hierarchy = FORMS[config.attention](width, config.layers, grid)
        self.convolutions = nn.ModuleList(CausalConvolution(width, config.kernel) for _ in range(config.layers))
        self.contexts = nn.ModuleList(nn.Linear(width, width) for _ in range(config.layers))
        self.layer_dropout = nn.Dropout(config.layer_dropout)
        self.norm = nn.LayerNorm(width)
        self.head = HEADS[config.head](width, self.embedding, config.dropout)
        self.feedback = nn.Linear(width, width) if config.feedback else None

    @property
    def map_grids(self) -> list[tuple[int, int]]:
        grids = [self.hierarchy.layer_grid(layer) for layer in range(self.config.layers)]
        return [grid for grid in grids if grid is not None]

    def look(self, features: torch.Tensor) -> Regions:
        regions = self._regions(features)
        return Regions(self.hierarchy.memory(regions), *self.head.memory(regions))

    def start(self, captions: int) -> State:
        """The state before the first word of M captions."""
        weight = self.embedding.weight
        return [
            weight.new_zeros(captions, self.config.kernel - 1, self.config.width) for _ in range(self.config.layers)
        ]

    def _kept(self, x: torch.Tensor) -> torch.Tensor:
        """Stochastic depth (Huang et al. 2016): the weight (M, 1, 1) of what a layer adds to the captions x (M, T, D).

        In training it is 0 for the captions that skip the layer and larger than 1 for the others, 1 on average; in
        evaluation 1. A skipped layer still hands its attention to the next.
        """
        return self.layer_dropout(x.new_ones(len(x), 1, 1))

    def _embed(self, words: torch.Tensor, regions: Regions) -> torch.Tensor:
        """Input words (M, T) to states (M, T, D), with the feedback of their own region-word scores.

        A word enters together with the mean of the region values, weighted by the word's likelihood at each: what the
        caption said and where it was goes into what it says next (the attention feedback of arXiv 2407.09556).
        """
        x = self._words(words)
        if self.feedback is None:
            return x
        return x + self.feedback(attend(self.head.relevance(words, regions.values).softmax(-1), regions.values))

    def forward(self, words: torch.Tensor, regions: Regions, state: State | None = None) -> tuple[Decoded, State]:
        state = self.start(len(words)) if state is None else state
        x = self.dropout(self._embed(words, regions))
        depth, maps, after = Depth(), [], []
        for layer, convolution in enumerate(self.convolutions):
            gate, depth = self.hierarchy.gate(layer, x, depth)
            y, past = convolution(x, state[layer], gate)
            after.append(past)
            kept = self._kept(x)
            x = x + kept * self.dropout(y)
            weights, depth = self.hierarchy.look(layer, x, regions.layers, depth)
            if weights is not None:
                maps.append(weights)
                x = x + kept * self.dropout(self.contexts[layer](depth.context))
        logits, language, alpha = self.head(self.norm(x), (regions.keys, regions.values), depth.scores)
        return Decoded(logits, language, alpha, maps), after

    def of_text(self, words: torch.Tensor) -> torch.Tensor:
        """Words (M, T), start first, to logits (M, T, V) with the image side absent: bias and language alone."""
        x = self.dropout(self._words(words))
        for convolution, past in zip(self.convolutions, self.start(len(words))):
            x = x + self._kept(x) * self.dropout(convolution(x, past, None)[0])
        return self.head.of_language(self.norm(x))
