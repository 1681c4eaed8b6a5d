"""Occlusion: regions of a photograph hidden behind a blur, and what that does to the words of its caption.

Notation: N masks or maps, T words of a caption, R regions (an H x W grid), S pixels a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchvision.transforms.functional import gaussian_blur

from captioner.decoder import Decoder
from captioner.likelihood import log_probabilities
from captioner.model import CaptionModel
from captioner.reading import read

_CHUNK = 16  # photographs the encoder sees at once
_HIDDEN_SHARE, _RANDOM_DRAWS = 0.2, 4


def blurred(pixels: torch.Tensor) -> torch.Tensor:
    """A photograph (3, S, S) so blurred that colours remain and things do not: a Gaussian of a tenth of its side."""
    sigma = pixels.shape[-1] / 10
    size = 2 * int(3 * sigma) + 1
    # Columns, then rows: the same as both at once, in a fraction of the time.
    return gaussian_blur(gaussian_blur(pixels, [1, size], [sigma, sigma]), [size, 1], [sigma, sigma])


def hide(pixels: torch.Tensor, instead: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The photograph (3, S, S) with the regions in ``masks`` (..., H, W) taken from ``instead``: (..., 3, S, S)."""
    height, width = pixels.shape[-2:]
    rows = torch.arange(height, device=masks.device) * masks.shape[-2] // height
    columns = torch.arange(width, device=masks.device) * masks.shape[-1] // width
    return torch.where(masks[..., rows[:, None], columns].unsqueeze(-3), instead, pixels)


def strongest_first(maps: np.ndarray, ties: np.ndarray) -> np.ndarray:
    """The regions of every map (N, R) by decreasing value: (N, R); equal ones as they stand in the order ``ties`` (R,).

    Maps have many zeros; broken by index, their ties would favour the top of the photograph.
    """
    return ties[np.argsort(-maps[:, ties], axis=1, kind="stable")]


@torch.inference_mode()
def caption_probabilities(decoder: Decoder, features: torch.Tensor, caption: Sequence[int]) -> torch.Tensor:
    """The probability, 0..1, of every word of one caption, said of each of several photographs (N, R, C): (N, T)."""
    words = torch.tensor([caption], device=features.device).expand(len(features), -1)
    logits = read(decoder, words, decoder.look(features)).logits
    return log_probabilities(logits).gather(2, words[..., None])[..., 0].exp()


@torch.inference_mode()
def hidden_probabilities(
    model: CaptionModel, pixels: torch.Tensor, caption: Sequence[int], masks: np.ndarray
) -> np.ndarray:
    """The probability, 0..1, of every word with the regions of each mask (N, R), bool, blurred: (N, T).

    Equal masks are encoded once.
    """
    pixels = pixels.to(next(model.parameters()).device)
    unique, places = torch.unique(torch.from_numpy(masks).to(pixels.device), dim=0, return_inverse=True)
    instead = blurred(pixels)
    found = [
        caption_probabilities(model.decoder, model.encode(hide(pixels, instead, chunk)), caption)
        for chunk in unique.unflatten(1, model.config.grid).split(_CHUNK)
    ]
    return torch.cat(found)[places].cpu().numpy()


@dataclass(frozen=True)
class Occlusion:
    """A word's probability, 0..1, when the fifth of the photograph its map names strongest is blurred."""

    whole: float  # with the photograph as it is
    hidden: float  # with the word's strongest regions blurred
    random: float  # with as many random regions blurred, the mean of several draws


def occlusion_effects(
    model: CaptionModel, pixels: torch.Tensor, caption: Sequence[int], region_maps: np.ndarray, *, seed: int = 0
) -> tuple[Occlusion, ...]:
    """What hiding its strongest regions does to every word of one caption, ids without start and end.

    ``pixels`` (3, S, S) are preprocessed, ``region_maps`` is (T, H, W). The random regions are the same for all words.
    """
    words = len(caption)
    maps = region_maps.reshape(words, -1)
    regions = maps.shape[1]
    random = np.random.default_rng(seed)
    draws = np.stack([random.permutation(regions) for _ in range(_RANDOM_DRAWS)])
    orders = np.concatenate([strongest_first(maps, draws[0]), draws])
    hidden = np.argsort(orders, axis=1) < max(1, round(regions * _HIDDEN_SHARE))
    masks = np.concatenate([np.zeros((1, regions), dtype=bool), hidden])
    whole, *others = hidden_probabilities(model, pixels, caption, masks)  # each (T,)
    own, drawn = np.diag(others[:words]), np.mean(others[words:], axis=0)
    return tuple(Occlusion(*map(float, values)) for values in zip(whole, own, drawn))
