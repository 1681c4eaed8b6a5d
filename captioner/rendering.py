"""Explanations as pictures: region maps laid over the photograph."""

from __future__ import annotations

import base64
import io
import math
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from captioner.explanation import ExplainedCaption

# Perceptually even ones only: the eye reads steps into JET and HSV that the map does not have.
COLOUR_MAPS = {"viridis": "viridis", "cividis": "cividis", "magma": "magma", "grey": "gray"}
MAX_SIDE = 960  # pixels, longest side of what is shown
PANEL_INCHES = 2.6
_drawing = threading.Lock()  # matplotlib draws in one thread at a time
ANIMATION_SIDE = 480  # pixels, longest side
_NARROWEST = 240  # pixels, of an animation: a caption needs room
_WORD_TIME, _LAST_TIME = 1200, 2400  # milliseconds a word is shown
_PAPER, _INK, _MARKED = (255, 255, 255), (28, 25, 23), (255, 216, 77)


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

    Above each word's map are the word, its probability, and what its strongest region adds to its logit, to which the
    colours of the map are relative.

    Raises ``ValueError`` where the explanation has no photograph or the colour map is unknown.
    """
    if explained.photograph is None:
        raise ValueError("This explanation has no photograph; explain the photograph again.")
    panels = [("", explained.photograph)]
    for word in explained.words:
        title = f"{word.text}  {word.probability:.0%}\n{max(0.0, word.region_logits.max()):+.2f}"
        panels.append((title, overlay(explained.photograph, word.region_logits, colour_map=colour_map)))
    columns = min(len(panels), 5)
    rows = math.ceil(len(panels) / columns)
    height = PANEL_INCHES * explained.photograph.height / explained.photograph.width
    drawn = Figure(figsize=(columns * PANEL_INCHES, rows * (height + 0.6) + 1), layout="constrained")
    drawn.suptitle(explained.text, fontsize=13, parse_math=False)
    for number, (title, picture) in enumerate(panels, start=1):
        axes = drawn.add_subplot(rows, columns, number)
        axes.imshow(picture)
        axes.set_title(title, fontsize=11, parse_math=False)
        axes.set_axis_off()
    colours = ScalarMappable(Normalize(0, 1), COLOUR_MAPS[colour_map])
    bar = drawn.colorbar(colours, ax=drawn.axes, location="bottom", shrink=0.5, aspect=40, ticks=[0, 1])
    bar.set_ticklabels(["no region", "its strongest region"])
    bar.set_label("adds to the word's score; above each map: how much the strongest adds (logits)", fontsize=9)
    return drawn


def drawn_bytes(draw: Callable[[], Figure], kind: str) -> bytes:
    """The figure that ``draw`` makes as the bytes of a "png" or a "pdf"; nothing is left of it in memory.

    May be called from any thread.
    """
    file = io.BytesIO()
    with _drawing:
        drawn = draw()
        drawn.savefig(file, format=kind, dpi=150)
        drawn.clear()  # a figure and its parts name each other, and would wait for the garbage collector
    return file.getvalue()


def picture_url(picture: Image.Image, *, quality: int = 88) -> str:
    """A picture as a JPEG within its own address, for pages."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return data_url(file.getvalue(), "image/jpeg")


def data_url(content: bytes, media_type: str) -> str:
    """An address that holds what it leads to."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def animation(explained: ExplainedCaption, *, colour_map: str = "viridis") -> bytes:
    """A GIF that steps through the caption for ever: the overlay of a word, and under it the caption with it marked.

    Its longest side is at most ``ANIMATION_SIDE`` pixels; without words it is the photograph alone.

    Raises ``ValueError`` where the explanation has no photograph or the colour map is unknown.
    """
    if explained.photograph is None:
        raise ValueError("This explanation has no photograph; explain the photograph again.")
    words = [word.text for word in explained.words]
    aspect = explained.photograph.height / explained.photograph.width
    # As wide as leaves room for the caption: the narrower, the taller that is.
    for width in range(ANIMATION_SIDE, _NARROWEST - 1, -8):
        places, caption_height = _typeset(words, width)
        if round(width * aspect) + caption_height <= ANIMATION_SIDE:
            break
    scale = min(width, max(1, ANIMATION_SIDE - caption_height) / aspect) / explained.photograph.width
    size = tuple(max(1, round(side * scale)) for side in explained.photograph.size)
    photograph = explained.photograph.resize(size, Image.Resampling.LANCZOS)
    pictures = [overlay(photograph, word.region_logits, colour_map=colour_map) for word in explained.words]
    frames = [
        _frame(picture, words, places, marked, (width, min(ANIMATION_SIDE, picture.height + caption_height)))
        for marked, picture in enumerate(pictures or [photograph])
    ]
    # One palette for all, from all: with one each, the photograph would flicker.
    film = Image.fromarray(np.concatenate([np.asarray(frame) for frame in frames]))
    palette = film.quantize(253, Image.Quantize.MEDIANCUT)
    palette.putpalette([*palette.getpalette()[: 3 * 253], *_PAPER, *_INK, *_MARKED])
    first, *others = [frame.quantize(palette=palette) for frame in frames]
    file = io.BytesIO()
    durations = [*[_WORD_TIME] * len(others), _LAST_TIME]
    first.save(file, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
    return file.getvalue()


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), 18)


def _typeset(words: Sequence[str], width: int) -> tuple[list[tuple[float, float, float, float]], int]:
    """Where each word stands, (left, top, right, bottom) in pixels, in lines of a width, and how high these are."""
    font, margin = _font(), 10
    space, line = font.getlength(" "), 26
    x, y, places = float(margin), float(margin), []
    for word in words:
        length = font.getlength(word)
        if places:
            x += 0 if word.startswith("'") else space
            if x + length > width - margin:
                x, y = margin, y + line
        places.append((x, y, x + length, y + line))
        x += length
    return places, math.ceil(y + line + margin) if words else 0


def _frame(
    picture: Image.Image,
    words: Sequence[str],
    places: Sequence[tuple[float, float, float, float]],
    marked: int,
    size: tuple[int, int],
) -> Image.Image:
    """A picture above its caption, in which one word is marked."""
    frame = Image.new("RGB", size, _PAPER)
    frame.paste(picture, ((size[0] - picture.width) // 2, 0))
    draw = ImageDraw.Draw(frame)
    for number, (word, (left, top, right, bottom)) in enumerate(zip(words, places)):
        top, bottom = top + picture.height, bottom + picture.height
        if number == marked:
            draw.rounded_rectangle((left - 3, top, right + 3, bottom - 2), 4, fill=_MARKED)
        draw.text((left, (top + bottom) / 2), word, fill=_INK, font=_font(), anchor="lm")
    return frame
