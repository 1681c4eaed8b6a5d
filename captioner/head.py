"""The region-word head: a word's logit is a sum of a bias, a language part and one part per region.

``logit_w = (b_w + l_t . E_w + sum_r alpha_{t,r} (v_r . E_w)) / temperature``, with nothing non-linear after it, so that
``C[t, r] = alpha_{t,r} (v_r . E_w) / temperature`` says exactly how much region r added to word w.
"""

from __future__ import annotations

import torch
from torch import nn

from captioner.attention import attend, attention_scores, products


class WordHead(nn.Module):
    """States to logits by the embedding E of the input words (tied): ``logit_w = (b_w + s_t . E_w) / temperature``.

    The temperature is 1 while the head learns; ``captioner.calibration`` sets it afterwards.
    """

    def __init__(self, embedding: nn.Embedding, dropout: float):
        super().__init__()
        self.embedding = embedding
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings))
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("temperature", torch.tensor(1.0))

    def logits(self, state: torch.Tensor) -> torch.Tensor:
        """What E is multiplied with, (M, T, D), to logits (M, T, V)."""
        return (self.dropout(state) @ self.embedding.weight.T + self.bias) / self.temperature


class RegionWordHead(WordHead):
    """Word states and regions to logits, and to their parts."""

    def __init__(self, width: int, embedding: nn.Embedding, dropout: float):
        super().__init__(embedding, dropout)
        self.language = nn.Linear(width, width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def memory(self, regions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Regions (B, R, D) to keys and values, each (B, R, D)."""
        return self.key(regions), self.value(regions)

    def forward(
        self, x: torch.Tensor, memory: tuple[torch.Tensor, torch.Tensor], prior: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """Word states (M, T, D) to logits (M, T, V), language states (M, T, D) and alpha (M, T, R).

        ``prior``: scores (M, T, R) that the attention hierarchy hands over, or None.
        """
        keys, values = memory
        scores = attention_scores(self.query(x), keys)
        alpha = (scores if prior is None else scores + prior).softmax(-1)
        state, language = self.combine(x, attend(alpha, values))
        return self.logits(state), language, alpha

    def combine(self, x: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Word states and attended values, (M, T, D) each, to what E is multiplied with, and its language part."""
        language = self.language(x)
        return language + seen, language

    def of_language(self, x: torch.Tensor) -> torch.Tensor:
        """Word states (M, T, D) to logits (M, T, V) of bias and language alone, for a text without a photograph."""
        return self.logits(self.language(x))

    def relevance(self, words: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """``v_r . E_w`` of words (M, T) at the regions of their photographs, (B, R, D): (M, T, R), at temperature 1."""
        return products(self.embedding(words), values)


class PlainHead(RegionWordHead):
    """What the additive head is compared with: a multilayer perceptron on state and attended values.

    Its logits do not fall apart into regions, so it explains by attention alone. For ablations.
    """

    def __init__(self, width: int, embedding: nn.Embedding, dropout: float):
        super().__init__(width, embedding, dropout)
        self.language = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width))

    def combine(self, x: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, None]:
        return self.language(torch.cat([x, seen], -1)), None


HEADS: dict[str, type[RegionWordHead]] = {"additive": RegionWordHead, "plain": PlainHead}
