"""Boxes on a region grid: which regions they cover. Boxes are (x0, y0, x1, y1), fractions of width and height."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Box = tuple[float, float, float, float]


def coverage(boxes: Sequence[Box], grid: tuple[int, int]) -> np.ndarray:
    """The share of every region's area that the union of the boxes covers: (H, W), 0..1, exact."""
    ys = _cuts([y for box in boxes for y in (box[1], box[3])], grid[0])
    xs = _cuts([x for box in boxes for x in (box[0], box[2])], grid[1])
    middle_y, middle_x = (ys[1:] + ys[:-1]) / 2, (xs[1:] + xs[:-1]) / 2
    inside = _inside(boxes, middle_y, middle_x)  # the cuts leave no piece half in a box
    area = inside * np.diff(ys)[:, None] * np.diff(xs)
    rows = np.minimum((middle_y * grid[0]).astype(int), grid[0] - 1)
    columns = np.minimum((middle_x * grid[1]).astype(int), grid[1] - 1)
    covered = np.zeros(grid)
    np.add.at(covered, (rows[:, None], columns), area)
    return np.minimum(covered * grid[0] * grid[1], 1.0)


def centres_inside(boxes: Sequence[Box], grid: tuple[int, int]) -> np.ndarray:
    """Which regions have their centre inside a box: (H, W), bool."""
    return _inside(boxes, (np.arange(grid[0]) + 0.5) / grid[0], (np.arange(grid[1]) + 0.5) / grid[1])


def _inside(boxes: Sequence[Box], ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    inside = np.zeros((len(ys), len(xs)), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        inside |= ((ys >= y0) & (ys <= y1))[:, None] & ((xs >= x0) & (xs <= x1))
    return inside


def _cuts(edges: list[float], regions: int) -> np.ndarray:
    """Borders of regions and boxes along one side, from 0 to 1."""
    return np.unique(np.concatenate([np.linspace(0, 1, regions + 1), np.clip(edges, 0, 1)]))
