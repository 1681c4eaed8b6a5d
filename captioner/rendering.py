"""Explanations as pictures: region maps laid over the photograph."""

from __future__ import annotations

import math
from functools import cache

import cv2
import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from captioner.explanation import ExplainedCaption

# Perceptually even ones only: the eye reads steps into JET and HSV that the map does not have.
COLOUR_MAPS = {"viridis": "viridis", "cividis": "cividis", "magma": "magma", "grey": "gray"}
MAX_SIDE = 960  # pixels, longest side of what is shown
PANEL_INCHES = 2.6


def overlay(
    photograph: Image.Image, region_map: np.ndarray, *, colour_map: str = "viridis", strength: float = 0.65
) -> Image.Image:
    """The photograph with a region map over it, longest side at most ``MAX_SIDE`` pixels.

    ``region_map`` (H, W) covers the whole photograph; what is negative in it counts as zero, so that
    ``region_logits`` may be given too: then a word that no region speaks for has nothing marked. Colour
    and opacity both follow its value relative to its maximum, from untouched where it is zero to
    ``strength`` (0..1) opaque where it is greatest.

    Raises ``ValueError`` for a colour map not in ``COLOUR_MAPS``, a map that is not (H, W) or a
    strength outside 0..1.
    """
    if np.ndim(region_map) != 2 or 0 in np.shape(region_map):
        raise ValueError(f"A region map must be (H, W), not {np.shape(region_map)}.")
    if not 0 <= strength <= 1:
        raise ValueError(f"The strength must lie in 0..1, not {strength}.")
    colours = colour_table(colour_map).astype(np.float32)
    shown = fit(photograph)
    pixels = np.asarray(shown.convert("RGB"))
    smooth = cv2.resize(np.maximum(region_map, 0).astype(np.float32), shown.size, interpolation=cv2.INTER_CUBIC)
    smooth = np.maximum(smooth, 0)  # a cubic undershoots beside a peak
    importance = smooth / max(float(smooth.max()), 1e-12)
    opacity = cv2.merge([importance * strength] * 3)
    coloured = colours[np.rint(importance * 255).astype(np.uint8)]
    blended = cv2.add(cv2.multiply(coloured, opacity), cv2.multiply(pixels.astype(np.float32), 1 - opacity))
    return Image.fromarray(cv2.convertScaleAbs(blended))


def fit(photograph: Image.Image) -> Image.Image:
    """The photograph at the size it is shown in: its longest side at most ``MAX_SIDE`` pixels, never enlarged."""
    scale = MAX_SIDE / max(photograph.size)
    if scale >= 1:
        return photograph
    size = tuple(max(1, round(side * scale)) for side in photograph.size)
    return photograph.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def blur_regions(photograph: Image.Image, hidden: np.ndarray) -> Image.Image:
    """The photograph with the regions in ``hidden`` (H, W), bool, blurred as ``captioner.occlusion`` hides them."""
    width, height = photograph.size
    pixels = np.asarray(photograph.convert("RGB"))
    # The model sees the photograph squashed to a square: a tenth of each side.
    blurred = cv2.GaussianBlur(pixels, (0, 0), sigmaX=width / 10, sigmaY=height / 10, borderType=cv2.BORDER_REFLECT_101)
    rows = np.arange(height) * hidden.shape[0] // height
    columns = np.arange(width) * hidden.shape[1] // width
    return Image.fromarray(np.where(hidden[rows[:, None], columns][..., None], blurred, pixels))


@cache
def colour_table(name: str) -> np.ndarray:
    """The 256 colours of a map, (256, 3), RGB, uint8.

    Raises ``ValueError`` for a colour map not in ``COLOUR_MAPS``.
    """
    if name not in COLOUR_MAPS:
        raise ValueError(f"There is no colour map {name!r}; choose one of {', '.join(COLOUR_MAPS)}.")
    colours = matplotlib.colormaps[COLOUR_MAPS[name]](np.arange(256))[:, :3]
    return np.rint(colours * 255).astype(np.uint8)


def figure(explained: ExplainedCaption, *, colour_map: str = "viridis") -> Figure:
    """The photograph and one overlay for every word, as the papers print them; save it with ``savefig``.

    Raises ``ValueError`` where the explanation has no photograph or the colour map is unknown.
    """
    if explained.photograph is None:
        raise ValueError("This explanation has no photograph; explain the photograph again.")
    panels = [("", explained.photograph)]
    for word in explained.words:
        title = f"{word.text}  {word.probability:.0%}"
        panels.append((title, overlay(explained.photograph, word.region_logits, colour_map=colour_map)))
    columns = min(len(panels), 5)
    rows = math.ceil(len(panels) / columns)
    height = PANEL_INCHES * explained.photograph.height / explained.photograph.width
    drawn = Figure(figsize=(columns * PANEL_INCHES, rows * (height + 0.4)), layout="constrained")
    for number, (title, picture) in enumerate(panels, start=1):
        axes = drawn.add_subplot(rows, columns, number)
        axes.imshow(picture)
        axes.set_title(title, fontsize=11, parse_math=False)
        axes.set_axis_off()
    return drawn
