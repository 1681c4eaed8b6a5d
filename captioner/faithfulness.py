"""Faithfulness: whether the regions a map names are those the word hangs on, tested on the photograph's own pixels.

Deletion and insertion (Petsiuk et al. 2018): regions are blurred out of the photograph, or brought back into the
blurred one, in some order, and the word's probability is followed, the words before it given. Notation: N masks or
maps, T words of a caption, R regions (an H x W grid), S pixels a side.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from captioner.attribution import grad_cam
from captioner.decoder import Decoder
from captioner.explanation import image_reliance
from captioner.measurement import Means, Seen
from captioner.model import CaptionModel
from captioner.occlusion import caption_probabilities, hidden_probabilities, strongest_first
from captioner.photographs import open_photograph
from captioner.reading import read
from captioner.vocabulary import Vocabulary
from captioner.word_classes import ARTICLES, is_content

ORDERS = ("region_word", "attention", "grad_cam", "random", "centre")


def photograph_seed(name: str, seed: int) -> int:
    """A seed for the photograph of this file name, so that results do not depend on the order of photographs."""
    return zlib.crc32(f"{seed} {name}".encode())


def centre_order(grid: tuple[int, int]) -> np.ndarray:
    """Regions (R,) from the centre of the grid outwards, those equally far in the order of rows."""
    rows, columns = np.indices(grid)
    # Twice the distances: whole numbers, so that rounding breaks no tie.
    return np.argsort(((2 * rows - grid[0] + 1) ** 2 + (2 * columns - grid[1] + 1) ** 2).ravel(), kind="stable")


def growing_masks(orders: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Orders (..., R) to the sets of their first regions, from none to all, (..., steps + 1, R), bool.

    They grow by ``steps`` groups as equal as may be. Also the shares (steps + 1,) of all regions, from 0 to 1.
    """
    regions = orders.shape[-1]
    sizes = np.round(np.linspace(0, regions, steps + 1)).astype(int)
    ranks = np.argsort(orders, axis=-1)
    return ranks[..., None, :] < sizes[:, None], sizes / regions


def area(curves: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Area under curves (..., K) over shares (K,), by the trapezoid rule: (...)."""
    return ((curves[..., 1:] + curves[..., :-1]) / 2 * np.diff(shares)).sum(-1)


class Faithfulness:
    """Deletion and insertion of the content words of generated captions; a ``Metric``.

    For every photograph at most ``words`` content words, each once, and for each of them the area under the curve of
    its probability while the regions are hidden (deletion: lower is better) or shown (insertion: higher is better) in
    ``steps`` groups, by decreasing value of its map or by one of the orders that know no word. The first of ``orders``
    is the one measured against the others; ``"region_word"`` is left out where the model's head has no such maps. Only
    the first ``photographs`` are measured.

    Raises ``ValueError`` for an order that does not exist.
    """

    def __init__(
        self,
        model: CaptionModel,
        vocabulary: Vocabulary,
        *,
        steps: int = 7,
        words: int = 3,
        photographs: int | None = None,
        orders: Sequence[str] = ORDERS,
        seed: int = 0,
    ):
        unknown = sorted(set(orders) - set(ORDERS))
        if unknown:
            raise ValueError(f"No order {', '.join(unknown)}; choose from {', '.join(ORDERS)}.")
        self.model, self.vocabulary = model, vocabulary
        self.steps, self.words, self.photographs = steps, words, photographs
        self.orders, self.seed = orders, seed
        self._means = Means()
        self._measured = {"photographs": 0, "words": 0}

    def add(self, seen: Seen) -> None:
        """Measure a photograph; its pixels are read again from its file."""
        if self._measured["photographs"] == self.photographs:
            return
        random = np.random.default_rng(photograph_seed(seen.record.path.name, self.seed))
        positions = self._choose(seen.caption, random)
        if not len(positions):
            return
        orders = self._regions(seen, positions, random)
        deleted, shares = growing_masks(np.stack(list(orders.values())), self.steps)  # (orders, N, K, R)
        hidden = np.stack([deleted, ~deleted])  # deletion hides what insertion shows
        pixels = self.model.config.preprocessing(open_photograph(seen.record.path))
        found = hidden_probabilities(self.model, pixels, seen.caption, hidden.reshape(-1, hidden.shape[-1]))
        found = found.reshape(*hidden.shape[:-1], -1)  # (2, orders, N, K, T)
        curves = np.stack([found[:, :, n, :, position] for n, position in enumerate(positions)], 2)
        for areas in 100 * area(curves, shares).transpose(2, 0, 1):  # a word: (2, orders)
            self._count(seen.record.path.name, list(orders), *areas)
        self._measured["photographs"] += 1
        self._measured["words"] += len(positions)

    def result(self) -> dict[str, Any]:
        """Mean areas in percent: ``deletion`` and ``insertion`` of the first order, ``deletion_random`` ... of others.

        ``intervals`` are of these and of the paired differences such as ``"deletion - deletion_random"``.
        """
        means = {name: mean for name, mean in self._means.means().items() if " - " not in name}
        return means | {"intervals": self._means.intervals()} | self._measured | {"steps": self.steps}

    def _choose(self, caption: Sequence[int], random: np.random.Generator) -> np.ndarray:
        """Positions of the words to measure, (N,), in the order of the caption."""
        first: dict[str, int] = {}
        for position, word in enumerate(self.vocabulary.decode(caption)):
            if is_content(word):
                first.setdefault(word, position)
        return np.sort(random.permutation(list(first.values()))[: self.words]).astype(int)

    def _regions(self, seen: Seen, positions: np.ndarray, random: np.random.Generator) -> dict[str, np.ndarray]:
        """The regions in each of the orders, for every word: (N, R)."""
        decoder, grid = self.model.decoder, self.model.config.grid
        drawn = random.permutation(grid[0] * grid[1])
        found = {}
        for order in self.orders:
            if order == "random":
                found[order] = np.tile(drawn, (len(positions), 1))
            elif order == "centre":
                found[order] = np.tile(centre_order(grid), (len(positions), 1))
            else:
                maps = _maps(order, decoder, seen, torch.from_numpy(positions).to(seen.features.device))
                if maps is not None:
                    found[order] = strongest_first(maps.cpu().numpy(), drawn)
        return found

    def _count(self, photograph: str, orders: list[str], deletion: np.ndarray, insertion: np.ndarray) -> None:
        for kind, areas in (("deletion", deletion), ("insertion", insertion)):
            self._means.add(kind, photograph, areas[0])
            for order, value in zip(orders[1:], areas[1:]):
                self._means.add(f"{kind}_{order}", photograph, value)
                self._means.add(f"{kind} - {kind}_{order}", photograph, areas[0] - value)


def _maps(order: str, decoder: Decoder, seen: Seen, positions: torch.Tensor) -> torch.Tensor | None:
    """The maps of the words at ``positions`` (N,) as a person is shown them, (N, R); None where there are none."""
    words = torch.tensor([seen.caption], device=seen.features.device)
    if order == "grad_cam":
        return grad_cam(decoder, seen.features, words.expand(len(positions), -1), positions)
    with torch.inference_mode():
        reading = read(decoder, words, decoder.look(seen.features[None]))
    if order == "attention":
        return reading.attention[0, positions]
    return None if reading.region_logits is None else reading.region_logits[0, positions].relu()


class Reliance:
    """Image reliance of the words of generated captions, by word class; a ``Metric``.

    ``(p - q) / max(p, q)``, p being the word's probability and q that with the photograph's mean colour in its place.
    Only the first ``photographs`` are measured.
    """

    def __init__(self, model: CaptionModel, vocabulary: Vocabulary, *, photographs: int | None = None):
        self.model, self.vocabulary, self.photographs = model, vocabulary, photographs
        self._means = Means()
        self._photographs = 0

    @torch.inference_mode()
    def add(self, seen: Seen) -> None:
        """Measure a photograph; its pixels are read again from its file."""
        if self._photographs == self.photographs:
            return
        pixels = self.model.config.preprocessing(open_photograph(seen.record.path)).to(seen.features.device)
        blank = pixels.mean((1, 2), keepdim=True).expand_as(pixels)
        both = torch.stack([seen.features, self.model.encode(blank[None])[0]])
        probabilities = caption_probabilities(self.model.decoder, both, seen.caption).T.tolist()
        for word, (p, q) in zip(self.vocabulary.decode(seen.caption), probabilities):
            self._means.add(_word_class(word), seen.record.path.name, 100 * image_reliance(p, q))
        self._photographs += 1

    def result(self) -> dict[str, Any]:
        """Mean reliance in percent of ``article``, ``content`` and ``function`` words (those that are no articles)."""
        return self._means.means() | {
            "intervals": self._means.intervals(),
            "counts": self._means.counts(),
            "photographs": self._photographs,
        }


def _word_class(word: str) -> str:
    if word in ARTICLES:
        return "article"
    return "content" if is_content(word) else "function"
