"""Pictures that are no photographs, noise and pages of text: nothing that a captioner has learnt from."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SIDE = 256  # pixels
_CELLS = (4, 16, 64, 256)  # a side: from large blobs of colour to grain


def noise(count: int, *, seed: int = 0) -> list[Image.Image]:
    """Random colours, smooth between the cells of grids that become finer and coarse again from picture to picture."""
    random = np.random.default_rng(seed)
    sides = [_CELLS[number % len(_CELLS)] for number in range(count)]
    cells = [random.integers(0, 256, (side, side, 3), dtype=np.uint8) for side in sides]
    return [Image.fromarray(colours).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC) for colours in cells]


def text_pages(sentences: Sequence[str], count: int, *, seed: int = 0) -> list[Image.Image]:
    """Pages of the sentences in random order, black on white, in letters of 12 to 23 pixels."""
    random = np.random.default_rng(seed)
    return [_page(sentences, int(random.integers(12, 24)), random) for _ in range(count)]


def _page(sentences: Sequence[str], size: int, random: np.random.Generator) -> Image.Image:
    page = Image.new("RGB", (2 * _SIDE, 2 * _SIDE), "white")
    text = " ".join(sentences[index] for index in random.integers(len(sentences), size=40))
    wrapped = fill(text, width=4 * _SIDE // size)  # a letter is about half as wide as it is high
    ImageDraw.Draw(page).multiline_text((size, size), wrapped, fill="black", font=ImageFont.load_default(size))
    return page
