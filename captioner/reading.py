"""Reading a finished caption: one parallel pass gives every word's probability, parts and maps.

The pass gives the same numbers as the word-by-word search that made the caption. Notation: B images, M captions
(M = B x N, those of one image adjacent), T words, R regions, L layers that attend.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from captioner.attention import resize_maps
from captioner.decoder import Decoder, Regions
from captioner.vocabulary import START


@dataclass(frozen=True)
class Reading:
    """What the model says of given words: ``bias + language + region_logits.sum(-1)`` is their logit.

    Logits that are no sum (those of ``plain`` heads and baselines) have no ``language`` and no parts of regions.
    """

    logits: torch.Tensor  # (M, T, V)
    bias: torch.Tensor  # (M, T)
    language: torch.Tensor | None  # (M, T)
    relevance: torch.Tensor | None  # (M, T, R), v_r . E_w, at temperature 1
    # (M, T, R), signed: C of the region-word matrix, alpha times relevance over the temperature
    region_logits: torch.Tensor | None
    attention: torch.Tensor  # (M, T, R), alpha; each sums to 1
    layer_maps: torch.Tensor  # (M, T, L, R), of the layers that attend, on the full grid; each sums to 1


def read(decoder: Decoder, words: torch.Tensor, regions: Regions) -> Reading:
    """Read the captions ``words`` (M, T), ids without start, of the photographs in ``regions``.

    Whatever stands at padded positions means nothing, and changes nothing before it.
    """
    inputs = torch.cat([torch.full_like(words[:, :1], START), words[:, :-1]], 1)
    decoded, _ = decoder(inputs, regions)
    head = decoder.head
    additive = decoded.language is not None
    relevance = head.relevance(words, regions.values) if additive else None
    return Reading(
        logits=decoded.logits,
        bias=head.bias[words] / head.temperature,
        language=(decoded.language * head.embedding(words)).sum(-1) / head.temperature if additive else None,
        relevance=relevance,
        region_logits=decoded.alpha * relevance / head.temperature if additive else None,
        attention=decoded.alpha,
        layer_maps=_on_full_grid(decoder, decoded.layer_maps),
    )


def _on_full_grid(decoder: Decoder, layer_maps: list[torch.Tensor]) -> torch.Tensor:
    grids = decoder.map_grids
    full = torch.stack([resize_maps(maps, grid, decoder.grid) for maps, grid in zip(layer_maps, grids)], 2)
    return full / full.sum(-1, keepdim=True)
