"""Familiarity: whether a photograph is like those a model learnt from, by what its encoder sees.

The encoder's mean features of the training photographs lie near a few principal directions; how far a photograph's lie
outside of these says how unlike them it is (the residual of Wang et al. 2022, "ViM", on unit vectors). It told 64
photographs of COCO, noise and pages of text from validation photographs better than Mahalanobis distance, nearest
neighbours and the probability of the caption, and no sum of these was better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

UNFAMILIAR = 0.05  # below it a person is told
_DIRECTIONS = 64
_QUANTILES = 101


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Where the features of training photographs lie, and how far from there those of validation photographs do.

    C channels of the encoder, K principal directions; K and C follow from the photographs it is fitted on.
    """

    mean: torch.Tensor  # (C,), of the training photographs
    components: torch.Tensor  # (K, C), orthonormal; in float16 on disk
    quantiles: torch.Tensor  # (101,), distances of the validation photographs, ascending

    @staticmethod
    def shapes(channels: int, directions: int) -> dict[str, tuple[int, ...]]:
        """The shape of every tensor, by its name."""
        return {"mean": (channels,), "components": (directions, channels), "quantiles": (_QUANTILES,)}

    @classmethod
    def fit(cls, training: torch.Tensor, validation: torch.Tensor) -> Familiarity:
        """From the mean features of training (N, C) and of validation photographs (M, C), see ``mean_features``.

        Raises ``ValueError`` for fewer than three training photographs, or none of validation.
        """
        if len(training) < 3 or not len(validation):
            raise ValueError("Familiarity needs three training photographs and one of validation, at least.")
        mean = training.mean(0)
        _, _, directions = torch.linalg.svd(training - mean, full_matrices=False)
        # Half of the directions there are, at most: else nothing is left outside.
        kept = min(_DIRECTIONS, (min(training.shape) - 1) // 2)
        components = directions[:kept].half().float()  # as they are stored
        distances = _outside(validation, mean, components)
        return cls(mean, components, distances.quantile(torch.linspace(0, 1, _QUANTILES)))

    def of(self, features: torch.Tensor) -> float:
        """The share of the validation photographs, 0..1, that are at most as familiar as one of features (R, C)."""
        return float(self.shares(self.distances(mean_features(features)[None]))[0])

    def distances(self, means: torch.Tensor) -> torch.Tensor:
        """How far mean features (N, C) lie from the training photographs, (N,)."""
        return _outside(means, self.mean, self.components)

    def shares(self, distances: torch.Tensor) -> np.ndarray:
        """The shares of the validation photographs, 0..1, that lie at least as far as distances (N,)."""
        return np.interp(distances, self.quantiles, np.linspace(1, 0, _QUANTILES))


def _outside(means: torch.Tensor, mean: torch.Tensor, components: torch.Tensor) -> torch.Tensor:
    """The length of what of (N, C) lies outside of the components (K, C) through the mean (C,)."""
    centred = means - mean
    return (centred - centred @ components.T @ components).norm(dim=1)


def mean_features(features: torch.Tensor) -> torch.Tensor:
    """Of features (R, C) the direction (C,) of their mean over the regions, a unit vector, on the CPU.

    Its length says little but how much contrast a photograph has.
    """
    return F.normalize(features.mean(0), dim=0).cpu()


def auroc(near: torch.Tensor, far: torch.Tensor) -> float:
    """How well distances tell strange photographs (M,) from usual ones (N,), in percent.

    The share of pairs in which the strange one is further, ties counting half: 100 is always, 50 is by chance.
    """
    return 50 * ((far[:, None] - near).sign() + 1).mean().item()
