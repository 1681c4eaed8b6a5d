"""Views of photographs to learn from: whole ones, crops with lightly changed colours, and the mirror images of both.

The grid is kept right: a crop is squashed to the square as a photograph is, and phrase boxes become those of what it
shows, in its own coordinates.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageEnhance

from captioner.boxes import Box
from captioner.entities import GroundedCaption
from captioner.training_config import TrainingConfig

_SIDES = 0.75, 1.0  # the share of each side that a crop shows
_FACTORS = 0.8, 1.2  # of each of the
_COLOURS = ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color


@dataclass(frozen=True)
class View:
    """One way to show every photograph; what is random in it depends on number and the file's name alone.

    Runs with other seeds see the same crops: their features are the costly part, and are shared.
    """

    number: int = 0  # of the crop; 0 shows the whole photograph in its own colours
    mirrored: bool = False

    @property
    def label(self) -> str:
        """What the names of files of this view have behind them."""
        return (f"-crop-{self.number}" if self.number else "") + ("-flipped" if self.mirrored else "")

    def drawn(self, name: str) -> tuple[Box, list[float]] | None:
        """The crop of a photograph, before it is mirrored, and a factor for each of its colours; None for all of it."""
        if not self.number:
            return None
        # The 0 was a run's seed once: without it, crops would be others than those of kept features and results.
        random = np.random.default_rng([0, self.number, zlib.crc32(name.encode())])
        sides = random.uniform(*_SIDES, 2)
        start = random.uniform(0, 1 - sides)
        x0, y0, x1, y1 = np.concatenate([start, np.minimum(start + sides, 1)]).tolist()
        return (x0, y0, x1, y1), random.uniform(*_FACTORS, len(_COLOURS)).tolist()

    def show(self, photograph: Image.Image, name: str) -> Image.Image:
        """An RGB photograph as this view shows it, but not mirrored, in its own size."""
        drawn = self.drawn(name)
        if drawn is None:
            return photograph
        (x0, y0, x1, y1), factors = drawn
        width, height = photograph.size
        edges = (x0 * width, y0 * height, x1 * width, y1 * height)
        shown = photograph.resize(photograph.size, Image.Resampling.BILINEAR, box=edges)
        for colour, factor in zip(_COLOURS, factors):
            shown = colour(shown).enhance(factor)
        return shown

    def ground(self, captions: Iterable[GroundedCaption], name: str) -> list[GroundedCaption]:
        """Grounded captions of a photograph with the boxes they have in this view, before it is mirrored."""
        drawn = self.drawn(name)
        if drawn is None:
            return list(captions)
        crop, _ = drawn
        return [
            replace(caption, phrases=tuple(replace(p, boxes=boxes_in(crop, p.boxes)) for p in caption.phrases))
            for caption in captions
        ]


def boxes_in(crop: Box, boxes: Sequence[Box]) -> tuple[Box, ...]:
    """Boxes of a photograph as fractions of a crop of it; none where less than half of their area lies in it."""
    left, top, right, bottom = crop
    clipped = [(max(x0, left), max(y0, top), min(x1, right), min(y1, bottom)) for x0, y0, x1, y1 in boxes]
    clipped = [(x0, y0, x1, y1) for x0, y0, x1, y1 in clipped if x0 < x1 and y0 < y1]
    if _area(clipped) < _area(boxes) / 2:
        return ()
    width, height = right - left, bottom - top
    return tuple(
        ((x0 - left) / width, (y0 - top) / height, (x1 - left) / width, (y1 - top) / height)
        for x0, y0, x1, y1 in clipped
    )


def _area(boxes: Sequence[Box]) -> float:
    return sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes)


def views(config: TrainingConfig) -> list[View]:
    """The views to learn from, the whole photograph first, each followed by its mirror image where that is wanted."""
    sides = (False, True) if config.flip else (False,)
    return [View(number, mirrored) for number in range(config.crops + 1) for mirrored in sides]
