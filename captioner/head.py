"""The region-word head: a word's logit is a sum of a bias, a language part and one part per region.

``logit_w = b_w + l_t . E_w + sum_r alpha_{t,r} (v_r . E_w)``, with nothing non-linear after it, so that
``C[t, r] = alpha_{t,r} (v_r . E_w)`` says exactly how much region r added to word w.
"""

from __future__ import annotations

import torch
from torch import nn

from captioner.attention import attend, attention_scores


class RegionWordHead(nn.Module):
    """Word states and regions to logits, and to their parts. E is the embedding of the input words (tied)."""

    def __init__(self, width: int, embedding: nn.Embedding, dropout: float):
        super().__init__()
        self.embedding = embedding
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings))
        self.language = nn.Linear(width, width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width))
        self.dropout = nn.Dropout(dropout)

    def memory(self, regions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Regions (B, R, D) to keys and values, each (B, R, D)."""
        return self.key(regions), self.value(regions)

    def forward(
        self, x: torch.Tensor, memory: tuple[torch.Tensor, torch.Tensor], prior: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Word states (M, T, D) to logits (M, T, V), language states (M, T, D) and alpha (M, T, R).

        ``prior``: scores (M, T, R) that the attention hierarchy hands over, or None.
        """
        keys, values = memory
        scores = attention_scores(self.query(x), keys)
        alpha = (scores if prior is None else scores + prior).softmax(-1)
        language = self.language(x)
        state = self.dropout(language + attend(alpha, values))
        logits = state @ self.embedding.weight.T + self.bias
        return logits, language, alpha

    def parts(
        self, words: torch.Tensor, language: torch.Tensor, alpha: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The parts of the logits of ``words`` (M, T): bias (M, T), language (M, T) and regions C (M, T, R)."""
        embedded = self.embedding(words)  # (M, T, D)
        grouped = embedded.reshape(len(values), -1, embedded.shape[-1])  # (B, N * T, D)
        relevance = (grouped @ values.transpose(1, 2)).view_as(alpha)  # v_r . E_w
        return self.bias[words], (language * embedded).sum(-1), alpha * relevance
