"""The captioner as a whole: a photograph in, an explained caption out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from captioner.attribution import grad_cam
from captioner.decoder import Regions
from captioner.explanation import AlternativeCaption, ExplainedCaption, ExplainedWord, image_reliance, positive_map
from captioner.generation import GenerationConfig, Hypothesis, beam_search
from captioner.hub import SavedModel, find_model, load_explainable
from captioner.likelihood import NEVER_SAID, log_probabilities
from captioner.occlusion import Occlusion, blurred, hide, occlusion_effects
from captioner.on_the_hub import OnTheHub
from captioner.photographs import PhotographSource, open_photograph
from captioner.reading import read
from captioner.vocabulary import END, UNKNOWN, sentence, tokenize

ALTERNATIVES = 5


class PrefixError(ValueError):
    """Words that the model cannot say; the message says which and why."""


@dataclass(frozen=True)
class _Sight:
    """A photograph as the model sees it."""

    photograph: Image.Image
    regions: Regions
    blank: Regions  # of the photograph's mean colour in its place: all that can be said without seeing it
    familiarity: float | None


class Captioner(OnTheHub):
    """A loaded model. Get one with ``captioner.load()``."""

    def __init__(self, saved: SavedModel, *, name: str, device: torch.device | str = "cpu", notice: str | None = None):
        self.model = saved.model.to(device).eval()
        self.vocabulary = saved.vocabulary
        self.about = saved.about
        self.familiarity = saved.familiarity
        self.name = name
        self.device = torch.device(device)
        self.notice = notice  # what a person should know about how the model was loaded

    @torch.inference_mode()
    def explain(
        self,
        image: PhotographSource,
        *,
        beam_size: int = 3,
        prefix: str | Sequence[str] | None = None,
        hidden: np.ndarray | None = None,
    ) -> ExplainedCaption:
        """Caption a photograph and explain every word.

        ``image`` is a path, the bytes of a file, a PIL image or an array; ``prefix`` are words the
        caption has to begin with; ``hidden`` (H, W), bool, are regions to blur first, on a grid of any
        size over the whole photograph. The photograph is encoded once; maps and probabilities are those
        of the caption that won the beam search.

        Raises ``PhotographError`` for an unusable photograph and ``PrefixError`` for unusable first words.
        """
        generation = GenerationConfig(beam_size=beam_size)
        photograph = open_photograph(image)
        first = self._known(prefix or (), generation.max_words - 1)
        sight = self._look(photograph, hidden)
        best, *others = beam_search(self.model.decoder, sight.regions, generation, prefix=first)[0]
        alternatives = tuple(AlternativeCaption(self._text(other), other.log_probability) for other in others)
        return self._explained(sight, best.words, best.log_probability, alternatives)

    @torch.inference_mode()
    def explain_caption(
        self, image: PhotographSource, caption: str | Sequence[str], *, hidden: np.ndarray | None = None
    ) -> ExplainedCaption:
        """Explain a caption that is given, whoever wrote it: what the model makes of every word, in its place.

        ``image`` and ``hidden`` are as for ``explain``.

        Raises ``PhotographError`` for an unusable photograph and ``PrefixError`` for words it does not know.
        """
        photograph = open_photograph(image)
        words = self._known(caption, GenerationConfig().max_words)
        sight = self._look(photograph, hidden)
        whole = torch.tensor([[*words, END]], device=self.device)
        logs = log_probabilities(read(self.model.decoder, whole, sight.regions).logits)
        log_probability = float(logs.gather(2, whole[:, :, None]).sum())
        return self._explained(sight, words, log_probability, ())

    def occlusions(self, explained: ExplainedCaption, *, hidden: np.ndarray | None = None) -> tuple[Occlusion, ...]:
        """Test every word of an explained caption: what hiding the regions its map names strongest does to it.

        ``hidden`` are the regions that were hidden already when it was explained.

        Raises ``ValueError`` where the explanation has no photograph.
        """
        if explained.photograph is None:
            raise ValueError("This explanation has no photograph to test it on.")
        if not explained.words:
            return ()
        caption = self.vocabulary.encode(word.text for word in explained.words)
        maps = np.stack([word.region_map for word in explained.words])
        return occlusion_effects(self.model, self._pixels(explained.photograph, hidden), caption, maps)

    def grad_cams(self, photograph: Image.Image, caption: Sequence[str], positions: Sequence[int]) -> np.ndarray:
        """Grad-CAM of the words of a caption at these positions: (N, H, W), non-negative.

        ``photograph`` is one that ``open_photograph`` returned.
        """
        if not positions:
            return np.zeros((0, *self.model.config.grid), dtype=np.float32)
        with torch.inference_mode():
            features = self.model.encode(self._pixels(photograph, None)[None].to(self.device))[0]
        words = torch.tensor([self.vocabulary.encode(caption)], device=self.device).expand(len(positions), -1)
        found = grad_cam(self.model.decoder, features, words, torch.tensor(positions, device=self.device))
        return found.unflatten(1, self.model.config.grid).cpu().numpy()

    def _pixels(self, photograph: Image.Image, hidden: np.ndarray | None) -> torch.Tensor:
        pixels = self.model.config.preprocessing(photograph)
        return pixels if hidden is None else hide(pixels, blurred(pixels), torch.from_numpy(hidden))

    def _look(self, photograph: Image.Image, hidden: np.ndarray | None) -> _Sight:
        pixels = self._pixels(photograph, hidden)
        blank = pixels.mean((1, 2), keepdim=True).expand_as(pixels)
        both = self.model.encode(torch.stack([pixels, blank]).to(self.device))
        look = self.model.decoder.look
        familiarity = self.familiarity and self.familiarity.of(both[0])
        return _Sight(photograph, look(both[:1]), look(both[1:]), familiarity)

    def _known(self, words: str | Sequence[str], most: int) -> list[int]:
        """Ids of words that the model knows, at most ``most`` of them."""
        words = tokenize(words) if isinstance(words, str) else [word.lower() for word in words]
        unknown = [word for word in words if self.vocabulary.encode([word]) == [UNKNOWN]]
        if unknown:
            named = ", ".join(f"“{word}”" for word in dict.fromkeys(unknown))
            raise PrefixError(f"The model does not know {named}; use other words.")
        if len(words) > most:
            raise PrefixError(f"Captions are short; give at most {most} words.")
        return self.vocabulary.encode(words)

    def _text(self, hypothesis: Hypothesis) -> str:
        return sentence(self.vocabulary.decode(hypothesis.words))

    def _explained(
        self,
        sight: _Sight,
        caption: Sequence[int],
        log_probability: float,
        alternatives: tuple[AlternativeCaption, ...],
    ) -> ExplainedCaption:
        return ExplainedCaption(
            words=self._explain_words(caption, sight),
            log_probability=log_probability,
            alternatives=alternatives,
            grid=self.model.config.grid,
            model=self.name,
            familiarity=sight.familiarity,
            photograph=sight.photograph,
        )

    def _explain_words(self, caption: Sequence[int], sight: _Sight) -> tuple[ExplainedWord, ...]:
        decoder, grid = self.model.decoder, self.model.config.grid
        if not caption:
            return ()
        words = torch.tensor([caption], device=self.device)  # (1, T)
        seen, unseen = read(decoder, words, sight.regions), read(decoder, words, sight.blank)
        probabilities, without = (log_probabilities(reading.logits).exp()[0] for reading in (seen, unseen))  # (T, V)
        region_logits = seen.region_logits[0].unflatten(1, grid).cpu().numpy()  # (T, H, W)
        region_maps = positive_map(region_logits)
        attention = seen.attention[0].unflatten(1, grid).cpu().numpy()
        layer_maps = seen.layer_maps[0].unflatten(2, grid).cpu().numpy()  # (T, L, H, W)
        return tuple(
            ExplainedWord(
                text=self.vocabulary.decode([word])[0],
                probability=float(probabilities[t, word]),
                logit=float(seen.logits[0, t, word]),
                bias=float(seen.bias[0, t]),
                language_logit=float(seen.language[0, t]),
                region_logits=region_logits[t],
                region_map=region_maps[t],
                attention=attention[t],
                layer_maps=layer_maps[t],
                alternatives=self._alternatives(probabilities[t], word),
                image_reliance=image_reliance(float(probabilities[t, word]), float(without[t, word])),
                end_probability=float(probabilities[t, END]),
            )
            for t, word in enumerate(caption)
        )

    def _alternatives(self, probabilities: torch.Tensor, word: int) -> tuple[tuple[str, float], ...]:
        others = probabilities.clone()
        others[[*NEVER_SAID, END, word]] = -1
        best = others.topk(ALTERNATIVES)
        return tuple((self.vocabulary.decode([i])[0], p) for p, i in zip(best.values.tolist(), best.indices.tolist()))


def load(model: str | os.PathLike | None = None, *, device: torch.device | str | None = None) -> Captioner:
    """Load a captioner: a Hub repo id (``"user/name"``, ``"user/name@revision"``), a local folder, or None.

    None is what the environment variable ``CAPTIONER_MODEL`` names, otherwise the bundled model.
    Where the Hub fails, or takes too long, the copy fetched earlier is used, else the bundled model, and
    ``Captioner.notice`` says so. Without a ``device`` a GPU is used where there is one.

    Raises ``ModelError`` for a model that does not exist, is broken, or is not for this person.
    """
    found = find_model(model)
    saved = load_explainable(found.folder, found.name)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Captioner(saved, name=found.name, device=device, notice=found.notice)
