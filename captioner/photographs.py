"""Photographs: anything a person may hand in, decoded within limits, as a model input.

A photograph is squashed to a square, never cropped, so that the region grid stretched over
the whole photograph is right everywhere.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
MAX_BYTES = 32 * 1024 * 1024
MAX_PIXELS = 64_000_000
MAX_SIDE = 1600

PhotographSource = str | os.PathLike | bytes | bytearray | Image.Image | np.ndarray


class PhotographError(ValueError):
    """A photograph that cannot be used; the message says why and what to do, in one sentence or two."""


@dataclass(frozen=True)
class Preprocessing:
    """How a photograph becomes numbers; saved with the model, since the weights depend on it."""

    image_size: int = 224  # pixels a side; a ResNet gives image_size / 16 regions a side, or half as many
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)  # RGB, ImageNet
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __call__(self, photograph: Image.Image) -> torch.Tensor:
        """Squash an RGB photograph to a normalised float tensor (3, image_size, image_size)."""
        pixels = torch.from_numpy(np.array(self.squash(photograph))).permute(2, 0, 1).float() / 255
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return (pixels - mean[:, None, None]) / std[:, None, None]

    def squash(self, photograph: Image.Image) -> Image.Image:
        """The photograph at the size the model sees it in, which is the same when squashed again."""
        side = self.image_size
        if photograph.size == (side, side):
            return photograph
        return photograph.resize((side, side), Image.Resampling.BILINEAR)


def open_photograph(source: PhotographSource) -> Image.Image:
    """Decode a photograph: upright, RGB, 8 bit, longest side at most ``MAX_SIDE`` pixels.

    ``source`` is a path, the bytes of a file, a PIL image, or an array (H, W), (H, W, 3) or
    (H, W, 4), of 8 or 16 bit integers or of floats in 0..1. Of an animation the first frame
    counts; transparency becomes white.

    Raises ``PhotographError`` for whatever is no photograph, is damaged or is too large.
    """
    if isinstance(source, Image.Image):
        image = source
    elif isinstance(source, np.ndarray):
        image = _from_array(source)
    else:
        image = _open_file(source)
    _check_size(image)
    if image is not source:
        # A JPEG decodes straight to a smaller size: memory and time follow what is kept, not what was sent.
        image.draft(None, (MAX_SIDE, MAX_SIDE))
    try:
        image.load()
        image = _upright(image)
        image = _to_rgb(image)
    except Exception as error:  # decoders raise anything at all
        raise _damaged() from error
    image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.LANCZOS)
    return image


def photographs_in(folder: Path) -> list[Path]:
    """The files of a folder that are named like photographs, by name.

    Raises ``PhotographError`` where there are none.
    """
    Image.init()
    suffixes = {suffix for suffix, name in Image.EXTENSION.items() if name in FORMATS}
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in suffixes)
    if not found:
        raise PhotographError(f"There are no photographs in {folder}. Give another folder.")
    return found


def _open_file(source: str | os.PathLike | bytes | bytearray) -> Image.Image:
    data = bytes(source) if isinstance(source, bytes | bytearray) else _read(Path(source))
    if not data:
        raise PhotographError("This file is empty. Choose another photograph.")
    if len(data) > MAX_BYTES:
        raise PhotographError(f"This file is larger than {MAX_BYTES // 2**20} MB. Save a smaller copy and upload that.")
    if data[4:8] == b"ftyp" and any(brand in data[8:40] for brand in (b"heic", b"heix", b"heim", b"hevc")):
        raise PhotographError("HEIC photographs cannot be read here. Save it as JPEG or PNG and upload that.")
    Image.init()
    try:
        # Not every Pillow can read AVIF, and one that cannot stumbles over its name.
        return Image.open(io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN])
    except UnidentifiedImageError as error:
        raise PhotographError("This file is not a photograph. Upload a JPEG, PNG, WebP, GIF, BMP or TIFF.") from error
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except Exception as error:  # decoders raise anything at all
        raise _damaged() from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise PhotographError(f"There is no file {path}. Check the path.") from error
    except OSError as error:
        raise PhotographError(f"{path} cannot be read ({error.strerror}). Choose another photograph.") from error


def _too_large() -> PhotographError:
    limit = MAX_PIXELS // 1_000_000
    return PhotographError(f"This photograph has more than {limit} megapixels. Save a smaller copy and upload that.")


def _damaged() -> PhotographError:
    return PhotographError("This photograph is damaged or cut off. Save or send it again, then upload the new copy.")


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large()
    if image.width == 0 or image.height == 0:
        raise PhotographError("This photograph has no pixels. Choose another one.")


def _from_array(array: np.ndarray) -> Image.Image:
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise PhotographError(f"An array must be (H, W), (H, W, 3) or (H, W, 4), not {array.shape}.")
    if 0 in array.shape:
        raise PhotographError("This photograph has no pixels. Choose another one.")
    if array.dtype == np.uint16:
        array = (array >> 8).astype(np.uint8)
    elif np.issubdtype(array.dtype, np.floating):
        if not (np.isfinite(array).all() and array.min() >= 0 and array.max() <= 1):
            raise PhotographError("An array of floats must lie in 0..1; divide it by its largest value.")
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise PhotographError(f"An array must be uint8, uint16 or float, not {array.dtype}.")
    return Image.fromarray(np.ascontiguousarray(array))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged metadata raises anything at all, and is no reason to refuse the pixels
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        values = np.array(image, dtype=np.float64)
        low, high = values.min(), values.max()
        if not np.isfinite([low, high]).all():
            raise ValueError("not all pixels are numbers")
        # Wide modes carry no range of their own: 0..1 in floats, 0..255 and 0..65535 are kept as such,
        # the rest is stretched.
        if image.mode == "F" and low >= 0 and high <= 1:
            values = values * 255
        elif low < 0 or high > 65535:
            values = (values - low) / max(high - low, 1e-12) * 255
        elif high > 255:
            values = values / 257
        image = Image.fromarray(values.astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")
