"""Sanity checks of maps in the manner of Adebayo et al. 2018: a map that survives random weights explains nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import nn

from captioner.decoder import Decoder
from captioner.faithfulness import photograph_seed
from captioner.measurement import Means, Seen
from captioner.model import CaptionModel
from captioner.photographs import open_photograph
from captioner.reading import read


def rank_correlation(maps: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Spearman correlation of maps (..., R) with others, -1..1: (...). Equal values share a rank; flat maps have 0."""
    first, second = _ranks(maps), _ranks(others)
    return (first * second).sum(-1) / (first.norm(dim=-1) * second.norm(dim=-1)).clamp(min=1e-12)


def _ranks(maps: torch.Tensor) -> torch.Tensor:
    """Ranks (..., R) about their mean: for every value how many are smaller less how many are larger."""
    return (maps[..., :, None] - maps[..., None, :]).sign().double().sum(-1)


@torch.no_grad()
def randomise(parameters: Iterable[nn.Parameter], seed: int) -> None:
    """Overwrite parameters with normal draws that keep each one's mean and spread, so that scales stay as they were."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        drawn = torch.randn(parameter.shape, generator=generator).to(parameter)
        parameter.copy_(parameter.mean() + parameter.std(correction=0) * drawn)


class Sanity:
    """Rank correlations between the maps of the trained model and of one with random weights; a ``Metric``.

    Randomised are the ``head``, the ``decoder`` (the head too, the embeddings not), ``all`` of the decoder, and the
    ``encoder`` alone. Every photograph meets other random weights, so that the intervals cover the draw. To compare
    with, ``words`` are the correlations between the maps of two different words of one caption. Region-word maps are
    taken with their sign, so that no map is flat. Only the first ``photographs`` are measured.
    """

    def __init__(self, model: CaptionModel, *, photographs: int | None = None, seed: int = 0):
        self.model, self.photographs, self.seed = model, photographs, seed
        self._means = Means()
        self._photographs = 0
        self._decoder = deepcopy(model.decoder)
        # A model with an encoder of its own and the decoder it had.
        self._stranger = deepcopy(model, {id(model.decoder): model.decoder})

    @torch.inference_mode()
    def add(self, seen: Seen) -> None:
        """Measure a photograph; its pixels are read again from its file."""
        if self._photographs == self.photographs:
            return
        name = seen.record.path.name
        trained = _maps(self.model.decoder, seen.features, seen.caption)
        seed = photograph_seed(name, self.seed)
        for part, parameters in self._parts().items():
            self._decoder.load_state_dict(self.model.decoder.state_dict())
            randomise(parameters, seed)
            self._compare(part, name, trained, _maps(self._decoder, seen.features, seen.caption))
        self._stranger.encoder.load_state_dict(self.model.encoder.state_dict())
        randomise(self._stranger.encoder.parameters(), seed)
        pixels = self.model.config.preprocessing(open_photograph(seen.record.path)).to(seen.features.device)
        features = self._stranger.encode(pixels[None])[0]
        self._compare("encoder", name, trained, _maps(self.model.decoder, features, seen.caption))
        self._compare_words(name, trained, seen.caption)
        self._photographs += 1

    def result(self) -> dict[str, Any]:
        """``{part: {map: mean correlation}}`` in percent, 100 for the same order; ``intervals`` likewise."""
        return _by_part(self._means.means()) | {
            "intervals": _by_part(self._means.intervals()),
            "photographs": self._photographs,
        }

    def _parts(self) -> dict[str, list[nn.Parameter]]:
        decoder = self._decoder
        embedding = decoder.embedding.weight  # tied to the head
        return {
            "head": [p for p in decoder.head.parameters() if p is not embedding],
            "decoder": [p for p in decoder.parameters() if p is not embedding],
            "all": list(decoder.parameters()),
        }

    def _compare(
        self, part: str, photograph: str, maps: dict[str, torch.Tensor], others: dict[str, torch.Tensor]
    ) -> None:
        for kind in maps:
            for value in rank_correlation(maps[kind], others[kind]).flatten().tolist():
                self._means.add(f"{part} {kind}", photograph, 100 * value)

    def _compare_words(self, photograph: str, maps: dict[str, torch.Tensor], caption: Sequence[int]) -> None:
        words = range(len(caption))
        pairs = [(i, j) for i in words for j in words if i < j and caption[i] != caption[j]]
        if pairs:
            first, second = zip(*pairs)
            firsts = {kind: found[list(first)] for kind, found in maps.items()}
            self._compare("words", photograph, firsts, {kind: found[list(second)] for kind, found in maps.items()})


def _maps(decoder: Decoder, features: torch.Tensor, caption: Sequence[int]) -> dict[str, torch.Tensor]:
    """The maps (T, R) of every word of the caption by their names, from the photograph's features (R, C)."""
    words = torch.tensor([caption], device=features.device)
    reading = read(decoder, words, decoder.look(features[None]))
    maps = {"region_word": reading.region_logits, "attention": reading.attention}
    return {kind: found[0] for kind, found in maps.items() if found is not None}


def _by_part(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        part, kind = name.split()
        found.setdefault(part, {})[kind] = value
    return found
