"""What all measurements of explanations share: the photograph as the model saw it, and how sure a mean is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from captioner.data import CaptionedPhotograph


@dataclass(frozen=True)
class Seen:
    """A photograph that went through the encoder, and what the model says of it."""

    record: CaptionedPhotograph
    features: torch.Tensor  # (R, C), float32, on the model's device
    caption: tuple[int, ...]  # ids of the generated words, without start and end


class Metric(Protocol):
    """A measurement that takes photographs one after the other, so that memory does not grow with their pixels."""

    def add(self, seen: Seen) -> None: ...

    def result(self) -> dict[str, Any]: ...


class Means:
    """Named means over items that belong to photographs, with bootstrap intervals that resample photographs."""

    def __init__(self):
        self._sums: dict[str, dict[str, list[float]]] = {}

    def add(self, name: str, photograph: str, value: float) -> None:
        """Count one value for ``name``, from the photograph of this file name."""
        total = self._sums.setdefault(name, {}).setdefault(photograph, [0.0, 0])
        total[0] += float(value)
        total[1] += 1

    def means(self) -> dict[str, float]:
        """The mean of all values of every name."""
        totals = {name: np.sum(list(sums.values()), 0) for name, sums in self._sums.items()}
        return {name: float(total / count) for name, (total, count) in totals.items()}

    def intervals(self, *, resamples: int = 1000, seed: int = 0) -> dict[str, list[float]]:
        """95 % percentile intervals [low, high] of the means, by bootstrap over photographs."""
        random = np.random.default_rng(seed)
        found = {}
        for name, sums in self._sums.items():
            pairs = np.array(list(sums.values()))  # (N, 2)
            chosen = random.integers(len(pairs), size=(resamples, len(pairs)))
            totals = pairs[chosen].sum(1)  # (resamples, 2)
            found[name] = np.percentile(totals[:, 0] / totals[:, 1], [2.5, 97.5]).tolist()
        return found

    def counts(self) -> dict[str, int]:
        """How many values each name has."""
        return {name: int(sum(count for _, count in sums.values())) for name, sums in self._sums.items()}
