"""Baselines: an LSTM with soft attention and a Transformer, in the place of the convolutional decoder.

They are trained, searched and measured as it is, but their logits are no sum over regions: they explain a word by
attention alone. Notation: B images, M captions (M = B x N, those of one image adjacent), T words, P words before
them, R regions, L layers, D width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from captioner.attention import attend
from captioner.decoder import Decoded, Decoder, DecoderConfig, Regions, State
from captioner.head import WordHead

_HEADS = 8


class LstmDecoder(Decoder):
    """Show, Attend and Tell with soft attention (Xu et al. 2015, arXiv 1502.03044). It remembers h and c.

    The last hidden state looks at the regions by additive attention (Bahdanau et al. 2015), and a word is said from
    the last word, the hidden state and what was seen: their deep output, here with tied embeddings. All decoders
    learn by the same loss, so their penalty on attention is left out. Of the configuration it reads ``width`` and the
    dropouts.
    """

    def __init__(self, config: DecoderConfig, *, channels: int, grid: tuple[int, int], vocabulary: int):
        super().__init__(config, channels=channels, grid=grid, vocabulary=vocabulary)
        width = config.width
        self.first = nn.Linear(width, 2 * width)
        self.key = nn.Linear(width, width)
        self.query = nn.Linear(width, width, bias=False)
        self.score = nn.Linear(width, 1, bias=False)
        self.gate = nn.Linear(width, 1)
        self.cell = nn.LSTMCell(2 * width, width)
        self.output = nn.Linear(3 * width, width)
        self.head = WordHead(self.embedding, config.dropout)

    @property
    def map_grids(self) -> list[tuple[int, int]]:
        return [self.grid]

    def look(self, features: torch.Tensor) -> Regions:
        regions = self._regions(features)
        return Regions([], self.key(regions), regions)

    def start(self, captions: int, regions: Regions) -> State:
        """The hidden state and the cell, (M, D) each, before the first word: made of the mean region."""
        first = torch.tanh(self.first(regions.values.mean(1)))  # (B, 2 D)
        return list(first.repeat_interleave(captions // len(regions), 0).chunk(2, -1))

    def forward(self, words: torch.Tensor, regions: Regions, state: State | None = None) -> tuple[Decoded, State]:
        x = self.dropout(self._words(words))
        hidden, cell = self.start(len(words), regions) if state is None else state
        weights, contexts, states = [], [], []
        for word in x.unbind(1):
            alpha, context = self._attend(hidden, regions)
            hidden, cell = self.cell(torch.cat([word, context], -1), (hidden, cell))
            for series, step in ((weights, alpha), (contexts, context), (states, hidden)):
                series.append(step)
        alpha, context, spoken = (torch.stack(series, 1) for series in (weights, contexts, states))
        logits = self.head.logits(torch.tanh(self.output(torch.cat([x, spoken, context], -1))))
        return Decoded(logits, None, alpha, [alpha]), [hidden, cell]

    def _attend(self, hidden: torch.Tensor, regions: Regions) -> tuple[torch.Tensor, torch.Tensor]:
        """The hidden state (M, D) to weights (M, R) and what is seen with them, (M, D), gated as a whole (beta)."""
        queries = self.query(hidden).unflatten(0, (len(regions), -1))  # (B, N, D)
        scores = self.score(torch.tanh(regions.keys[:, None] + queries[:, :, None]))  # (B, N, R, 1)
        alpha = scores.flatten(0, 1).flatten(1).softmax(-1)
        seen = attend(alpha[:, None], regions.values)[:, 0]
        return alpha, torch.sigmoid(self.gate(hidden)) * seen


class TransformerLayer(nn.Module):
    """Attention over the words so far, attention over the regions, two linear maps; each on normalised states."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.words = nn.Linear(width, 3 * width)
        self.of_words = nn.Linear(width, width)
        self.query = nn.Linear(width, width)
        self.memory = nn.Linear(width, 2 * width)
        self.of_regions = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def look(self, regions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Regions (B, R, D) to keys and values, each (B, R, D)."""
        keys, values = self.memory(regions).chunk(2, -1)
        return keys, values

    def forward(
        self, x: torch.Tensor, past: torch.Tensor, memory: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """States (M, T, D) to states (M, T, D), the mean of its heads' weights (M, T, R), and the past of the next.

        ``past``: keys and values of the words before, side by side, (M, P, 2 D).
        """
        said, past = self._of_words(self.norms[0](x), past)
        x = x + self.dropout(said)
        seen, maps = self._of_regions(self.norms[1](x), *memory)
        x = x + self.dropout(seen)
        return x + self.dropout(self.feed_forward(self.norms[2](x))), maps, past

    def _of_words(self, x: torch.Tensor, past: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        words, width = x.shape[1:]
        queries, new = self.words(x).split([width, 2 * width], -1)
        past = torch.cat([past, new], 1)  # (M, P + T, 2 D)
        sees = torch.ones(words, past.shape[1], dtype=torch.bool, device=x.device).tril(past.shape[1] - words)
        heads = F.scaled_dot_product_attention(*map(_split, (queries, *past.chunk(2, -1))), attn_mask=sees)
        return self.of_words(_join(heads)), past

    def _of_regions(
        self, x: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # Captions of one photograph stand in a row, so that its keys are not copied for each of them.
        queries = _split(self.query(x).reshape(len(keys), -1, x.shape[-1]))  # (B, heads, N * T, D / heads)
        scores = queries @ _split(keys).transpose(2, 3) / math.sqrt(queries.shape[-1])
        weights = scores.softmax(-1)  # (B, heads, N * T, R)
        seen = _join(weights @ _split(values)).view_as(x)
        return self.of_regions(seen), weights.mean(1).view(*x.shape[:2], -1)


class TransformerDecoder(Decoder):
    """The decoder of Vaswani et al. 2017 (arXiv 1706.03762), with the norms before its parts.

    It remembers keys and values of all words so far. Of the configuration it reads ``width``, ``layers`` and the
    dropouts. Raises ``ValueError`` for a width that its 8 heads cannot share.
    """

    def __init__(self, config: DecoderConfig, *, channels: int, grid: tuple[int, int], vocabulary: int):
        if config.width % _HEADS:
            raise ValueError(f"The width of a Transformer is a multiple of its {_HEADS} heads, not {config.width}.")
        super().__init__(config, channels=channels, grid=grid, vocabulary=vocabulary)
        self.layers = nn.ModuleList(TransformerLayer(config.width, config.dropout) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = WordHead(self.embedding, config.dropout)

    @property
    def map_grids(self) -> list[tuple[int, int]]:
        return [self.grid] * self.config.layers

    def look(self, features: torch.Tensor) -> Regions:
        regions = self._regions(features)
        memory = [layer.look(regions) for layer in self.layers]
        return Regions(memory, *memory[-1])

    def start(self, captions: int) -> State:
        """The state before the first word of M captions: nothing said, (M, 0, 2 D) a layer."""
        return [self.position.new_zeros(captions, 0, 2 * self.config.width) for _ in self.layers]

    def forward(self, words: torch.Tensor, regions: Regions, state: State | None = None) -> tuple[Decoded, State]:
        state = self.start(len(words)) if state is None else state
        places = torch.arange(words.shape[1], device=words.device) + state[0].shape[1]
        x = self.dropout(self._words(words) + _sinusoids(places, self.config.width))
        maps, after = [], []
        for layer, past, memory in zip(self.layers, state, regions.layers):
            x, seen, past = layer(x, past, memory)
            maps.append(seen)
            after.append(past)
        return Decoded(self.head.logits(self.norm(x)), None, maps[-1], maps), after


def _split(x: torch.Tensor) -> torch.Tensor:
    """(B, T, D) to what each head works on, (B, heads, T, D / heads)."""
    return x.unflatten(2, (_HEADS, -1)).transpose(1, 2)


def _join(heads: torch.Tensor) -> torch.Tensor:
    """(B, heads, T, D / heads) to (B, T, D)."""
    return heads.transpose(1, 2).flatten(2)


def _sinusoids(places: torch.Tensor, width: int) -> torch.Tensor:
    """Places (T,) in the caption to sines and cosines of falling frequency, (T, D); there is no last place."""
    frequencies = 10000 ** -torch.arange(0, 1, 2 / width, device=places.device)
    angles = places[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
