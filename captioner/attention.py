"""Hierarchical attention: every decoder layer looks at the regions and hands its look to the next layer.

Three forms behind one interface. Notation: B images, M captions (M = B x N, those of one image
adjacent), T words, R regions, L layers, D width.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class Depth:
    """What one layer hands to the next. It lives for one pass over the layers, never over time."""

    hidden: torch.Tensor | None = None  # (M, T, D), the depth-wise GRU of ``gated``
    context: torch.Tensor | None = None  # (M, T, D), the attended regions so far
    scores: torch.Tensor | None = None  # (M, T, R'), attention scores before the softmax


# Per layer the keys and values of the regions, each (B, R', D); None for a layer that does not attend.
Memory = list[tuple[torch.Tensor, torch.Tensor] | None]


class Look(nn.Module):
    """Scaled dot-product attention of word states over regions, the keys and values made once per photograph."""

    def __init__(self, width: int):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def memory(self, regions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Regions (B, R', D) to keys and values, each (B, R', D)."""
        return self.key(regions), self.value(regions)

    def scores(self, x: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Word states (M, T, D) and keys (B, R', D) to scores (M, T, R')."""
        return attention_scores(self.query(x), keys)


def attention_scores(queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """Queries (M, T, D) against the keys (B, R, D) of their photographs: scores (M, T, R)."""
    return products(queries, keys) / math.sqrt(queries.shape[-1])


def products(words: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
    """Inner products of words (M, T, D) with the regions (B, R, D) of their photographs: (M, T, R)."""
    captions, length, width = words.shape
    grouped = words.reshape(len(regions), -1, width)  # (B, N * T, D)
    return (grouped @ regions.transpose(1, 2)).view(captions, length, -1)


def attend(weights: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Weights (M, T, R) over the values (B, R, D) of their photographs: contexts (M, T, D)."""
    captions, words, regions = weights.shape
    grouped = weights.reshape(len(values), -1, regions)  # (B, N * T, R)
    return (grouped @ values).view(captions, words, -1)


class HierarchicalAttention(nn.Module, ABC):
    """The interface: keys once per photograph, then, layer by layer, a gate and a look."""

    def __init__(self, width: int, layers: int, grid: tuple[int, int]):
        super().__init__()
        self.width, self.layers, self.grid = width, layers, grid

    @abstractmethod
    def memory(self, regions: torch.Tensor) -> Memory:
        """Regions (B, R, D) of the full grid to what each layer attends over."""

    def gate(self, layer: int, x: torch.Tensor, depth: Depth) -> tuple[torch.Tensor | None, Depth]:
        """What is added to the gate of the layer's convolution, (M, T, D), or None. ``x`` is the layer's input."""
        return None, depth

    @abstractmethod
    def look(self, layer: int, x: torch.Tensor, memory: Memory, depth: Depth) -> tuple[torch.Tensor | None, Depth]:
        """The layer's weights over its regions, (M, T, R'), or None; the context goes into the returned depth."""

    def layer_grid(self, layer: int) -> tuple[int, int] | None:
        """The grid a layer attends over, None where it does not attend."""
        return self.grid


class GatedAttention(HierarchicalAttention):
    """GHA (Wang & Chan 2018): a GRU over depth gates the convolution and how much of the last look is kept.

    ``h_i = GRU([x_{i-1}; a_{i-1}], h_{i-1})``, gate ``W_g h_i``,
    ``a_i = Att(V, x_i) + sigmoid(W_v h_i) * a_{i-1}``.
    """

    def __init__(self, width: int, layers: int, grid: tuple[int, int]):
        super().__init__(width, layers, grid)
        self.looks = nn.ModuleList(Look(width) for _ in range(layers))
        self.gru = nn.GRUCell(2 * width, width)
        self.convolution_gates = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))
        self.context_gates = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def memory(self, regions: torch.Tensor) -> Memory:
        return [look.memory(regions) for look in self.looks]

    def gate(self, layer: int, x: torch.Tensor, depth: Depth) -> tuple[torch.Tensor, Depth]:
        context = torch.zeros_like(x) if depth.context is None else depth.context
        hidden = None if depth.hidden is None else depth.hidden.flatten(0, 1)
        hidden = self.gru(torch.cat([x, context], -1).flatten(0, 1), hidden).view_as(x)
        return self.convolution_gates[layer](hidden), replace(depth, hidden=hidden)

    def look(self, layer: int, x: torch.Tensor, memory: Memory, depth: Depth) -> tuple[torch.Tensor, Depth]:
        keys, values = memory[layer]
        weights = self.looks[layer].scores(x, keys).softmax(-1)
        context = attend(weights, values)
        if depth.context is not None:
            context = context + torch.sigmoid(self.context_gates[layer](depth.hidden)) * depth.context
        return weights, replace(depth, context=context)


class PyramidAttention(HierarchicalAttention):
    """Coarse to fine: the lower half of the layers looks at a pooled grid, the upper half at the full one.

    Each layer's scores, brought to the next layer's grid, are added to that layer's scores.
    """

    def __init__(self, width: int, layers: int, grid: tuple[int, int]):
        super().__init__(width, layers, grid)
        self.coarse = ((grid[0] + 1) // 2, (grid[1] + 1) // 2)
        self.looks = nn.ModuleList(Look(width) for _ in range(layers))

    def layer_grid(self, layer: int) -> tuple[int, int]:
        return self.coarse if layer < self.layers // 2 else self.grid

    def memory(self, regions: torch.Tensor) -> Memory:
        full = regions.transpose(1, 2).unflatten(2, self.grid)  # (B, D, H, W)
        pooled = F.adaptive_avg_pool2d(full, self.coarse).flatten(2).transpose(1, 2)
        levels = {self.grid: regions, self.coarse: pooled}
        return [look.memory(levels[self.layer_grid(layer)]) for layer, look in enumerate(self.looks)]

    def look(self, layer: int, x: torch.Tensor, memory: Memory, depth: Depth) -> tuple[torch.Tensor, Depth]:
        keys, values = memory[layer]
        scores = self.looks[layer].scores(x, keys)
        if depth.scores is not None:
            scores = scores + resize_maps(depth.scores, self.layer_grid(layer - 1), self.layer_grid(layer))
        weights = scores.softmax(-1)
        return weights, replace(depth, context=attend(weights, values), scores=scores)


class TopAttention(HierarchicalAttention):
    """No hierarchy: only the top layer looks. The baseline of the ablation."""

    def __init__(self, width: int, layers: int, grid: tuple[int, int]):
        super().__init__(width, layers, grid)
        self.top = Look(width)

    def layer_grid(self, layer: int) -> tuple[int, int] | None:
        return self.grid if layer == self.layers - 1 else None

    def memory(self, regions: torch.Tensor) -> Memory:
        return [None] * (self.layers - 1) + [self.top.memory(regions)]

    def look(self, layer: int, x: torch.Tensor, memory: Memory, depth: Depth) -> tuple[torch.Tensor | None, Depth]:
        if memory[layer] is None:
            return None, depth
        keys, values = memory[layer]
        weights = self.top.scores(x, keys).softmax(-1)
        return weights, replace(depth, context=attend(weights, values))


def resize_maps(maps: torch.Tensor, old: tuple[int, int], new: tuple[int, int]) -> torch.Tensor:
    """Bring (M, T, R_old) to another grid by bilinear interpolation: (M, T, R_new)."""
    if old == new:
        return maps
    return F.interpolate(maps.unflatten(2, old), size=new, mode="bilinear", align_corners=False).flatten(2)


FORMS: dict[str, type[HierarchicalAttention]] = {
    "gated": GatedAttention,
    "pyramid": PyramidAttention,
    "none": TopAttention,
}
