"""What a region map says: where it points, how much of it is right, how narrow it is, how far two are alike.

Maps are (N, R), non-negative, each summing to 1; R regions are those of an H x W grid, row by row. Scores are percent.
"""

from __future__ import annotations

import numpy as np

_TIE = 1 - 1e-6  # maxima that rounding alone has parted are still ties


def pointing(maps: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Whether the strongest region has its centre inside a box: (N,), the mean over regions that tie.

    ``inside`` (N, R), bool: which centres are (the pointing game of Zhang et al. 2016, on a grid).
    """
    strongest = maps >= maps.max(-1, keepdims=True) * _TIE
    return 100 * (strongest & inside).sum(-1) / strongest.sum(-1)


def correctness(maps: np.ndarray, covered: np.ndarray) -> np.ndarray:
    """The mass inside the boxes: (N,). ``covered`` (N, R): the share of each region's area that they cover.

    Attention correctness of Liu et al. 2017.
    """
    return 100 * (maps * covered).sum(-1)


def entropy(maps: np.ndarray) -> np.ndarray:
    """How wide the maps are: (N,), their entropy in percent of a uniform map's, log R."""
    logarithms = np.log(np.where(maps > 0, maps, 1))
    return 100 * -(maps * logarithms).sum(-1) / np.log(maps.shape[-1])


def overlap(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The mass that two maps share, ``sum_r min(p_r, q_r)``: (N,), 100 where they are the same."""
    return 100 * np.minimum(one, other).sum(-1)


def uniform_map(grid: tuple[int, int]) -> np.ndarray:
    """All regions alike: (R,)."""
    return np.full(grid[0] * grid[1], 1 / (grid[0] * grid[1]))


def centre_map(grid: tuple[int, int]) -> np.ndarray:
    """All mass on the middle region, or shared by the two or four in the middle of an even grid: (R,)."""
    rows, columns = (np.abs(np.arange(side) - (side - 1) / 2) < 1 for side in grid)
    middle = np.outer(rows, columns).ravel()
    return middle / middle.sum()
