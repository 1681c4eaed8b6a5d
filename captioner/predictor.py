"""The captioner as a whole: a photograph in, an explained caption out."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch

from captioner.attention import resize_maps
from captioner.decoder import Decoded, Regions
from captioner.explanation import AlternativeCaption, ExplainedCaption, ExplainedWord, positive_map
from captioner.generation import GenerationConfig, Hypothesis, beam_search
from captioner.hub import SavedModel, find_model, load_model
from captioner.photographs import PhotographSource, open_photograph
from captioner.vocabulary import END, PAD, START, UNKNOWN, sentence, tokenize

ALTERNATIVES = 5


class PrefixError(ValueError):
    """First words that the model cannot continue; the message says which and why."""


class Captioner:
    """A loaded model. Get one with ``captioner.load()``."""

    def __init__(self, saved: SavedModel, *, name: str, device: torch.device | str = "cpu", notice: str | None = None):
        self.model = saved.model.to(device).eval()
        self.vocabulary = saved.vocabulary
        self.about = saved.about
        self.name = name
        self.device = torch.device(device)
        self.notice = notice  # what a person should know about how the model was loaded

    @torch.inference_mode()
    def explain(
        self, image: PhotographSource, *, beam_size: int = 3, prefix: str | Sequence[str] | None = None
    ) -> ExplainedCaption:
        """Caption a photograph and explain every word.

        ``image`` is a path, the bytes of a file, a PIL image or an array; ``prefix`` are words the
        caption has to begin with. The photograph is encoded once; maps and probabilities are those
        of the caption that won the beam search.

        Raises ``PhotographError`` for an unusable photograph and ``PrefixError`` for unusable first words.
        """
        generation = GenerationConfig(beam_size=beam_size)
        photograph = open_photograph(image)
        first = self._prefix(prefix, generation.max_words)
        pixels = self.model.config.preprocessing(photograph)
        # The photograph's mean colour in its place: all that can be said without seeing it.
        blank = pixels.mean((1, 2), keepdim=True).expand_as(pixels)
        both = self.model.encode(torch.stack([pixels, blank]).to(self.device))
        regions = self.model.decoder.look(both[:1])
        found = beam_search(self.model.decoder, regions, generation, prefix=first)[0]
        return ExplainedCaption(
            words=self._explain_words(found[0], regions, self.model.decoder.look(both[1:])),
            log_probability=found[0].log_probability,
            alternatives=tuple(AlternativeCaption(self._text(other), other.log_probability) for other in found[1:]),
            grid=self.model.config.grid,
            model=self.name,
            photograph=photograph,
        )

    def _prefix(self, prefix: str | Sequence[str] | None, max_words: int) -> list[int]:
        words = tokenize(prefix) if isinstance(prefix, str) else [word.lower() for word in prefix or ()]
        unknown = [word for word in words if self.vocabulary.encode([word]) == [UNKNOWN]]
        if unknown:
            raise PrefixError(f"The model does not know {', '.join(map(repr, unknown))}; begin with other words.")
        if len(words) >= max_words:
            raise PrefixError(f"A caption has at most {max_words} words; begin with fewer.")
        return self.vocabulary.encode(words)

    def _text(self, hypothesis: Hypothesis) -> str:
        return sentence(self.vocabulary.decode(hypothesis.words))

    def _explain_words(self, chosen: Hypothesis, regions: Regions, blank: Regions) -> tuple[ExplainedWord, ...]:
        """Read one parallel pass over the finished caption: it gives the same logits as the search that made it."""
        decoder, grid = self.model.decoder, self.model.config.grid
        words = torch.tensor([chosen.words], device=self.device)  # (1, T)
        inputs = torch.cat([words.new_tensor([[START]]), words[:, :-1]], 1)
        decoded, _ = decoder(inputs, regions)
        unseen, _ = decoder(inputs, blank)
        probabilities = decoded.logits.softmax(-1)[0]  # (T, V)
        without = unseen.logits.softmax(-1)[0]
        bias, language, matrix = decoder.head.parts(words, decoded.language, decoded.alpha, regions.values)
        region_logits = matrix[0].unflatten(1, grid).cpu().numpy()  # (T, H, W)
        region_maps = positive_map(region_logits)
        attention = decoded.alpha[0].unflatten(1, grid).cpu().numpy()
        layer_maps = self._layer_maps(decoded)
        return tuple(
            ExplainedWord(
                text=self.vocabulary.decode([word])[0],
                probability=float(probabilities[t, word]),
                logit=float(decoded.logits[0, t, word]),
                bias=float(bias[0, t]),
                language_logit=float(language[0, t]),
                region_logits=region_logits[t],
                region_map=region_maps[t],
                attention=attention[t],
                layer_maps=layer_maps[t],
                alternatives=self._alternatives(probabilities[t], word),
                image_reliance=_fall(float(probabilities[t, word]), float(without[t, word])),
            )
            for t, word in enumerate(chosen.words)
        )

    def _layer_maps(self, decoded: Decoded) -> np.ndarray:
        """Maps of all attending layers of one caption on the full grid, (T, L, H, W), each summing to 1."""
        hierarchy, grid = self.model.decoder.hierarchy, self.model.config.grid
        grids = [hierarchy.layer_grid(layer) for layer in range(hierarchy.layers)]
        grids = [layer_grid for layer_grid in grids if layer_grid is not None]
        full = [resize_maps(maps, old, grid)[0] for maps, old in zip(decoded.layer_maps, grids)]
        stacked = torch.stack(full, 1)  # (T, L, R)
        return (stacked / stacked.sum(-1, keepdim=True)).unflatten(2, grid).cpu().numpy()

    def _alternatives(self, probabilities: torch.Tensor, word: int) -> tuple[tuple[str, float], ...]:
        others = probabilities.clone()
        others[[PAD, START, END, UNKNOWN, word]] = -1
        best = others.topk(ALTERNATIVES)
        return tuple((self.vocabulary.decode([i])[0], p) for p, i in zip(best.values.tolist(), best.indices.tolist()))


def load(model: str | os.PathLike | None = None, *, device: torch.device | str | None = None) -> Captioner:
    """Load a captioner: a Hub repo id (``"user/name"``), a local folder, or None for the default.

    The default is what the environment variable ``CAPTIONER_MODEL`` names, otherwise the bundled model.
    Where the Hub cannot be reached the bundled model is used and ``Captioner.notice`` says so.
    Without a ``device`` a GPU is used where there is one.

    Raises ``ModelError`` for a model that does not exist or is broken.
    """
    found = find_model(model)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Captioner(load_model(found.folder), name=found.name, device=device, notice=found.notice)


def _fall(seen: float, unseen: float) -> float:
    """How far a probability falls from ``seen`` to ``unseen``, from -1 (only there without) to 1 (only there with)."""
    return (seen - unseen) / max(seen, unseen, 1e-12)
