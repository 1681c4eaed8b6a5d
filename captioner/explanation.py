"""Explanations as data: a caption whose every word says which regions it came from.

Arrays are numpy, float32, on the region grid (H, W), row 0 at the top of the photograph.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from captioner.vocabulary import sentence

SCHEMA_VERSION = 1
EXPLANATION_FILE, PHOTOGRAPH_FILE = "explanation.json", "photograph.png"


class ExplanationError(ValueError):
    """A saved explanation that cannot be read; the message says why."""


@dataclass(frozen=True, eq=False)
class ExplainedWord:
    """One word, and where it came from: ``bias + language_logit + region_logits.sum() == logit`` to rounding error.

    What the language state itself took from the photograph is not in ``region_logits``;
    ``image_reliance`` measures it together with the rest.
    """

    text: str
    probability: float  # of this word after the words before it, among all that can be said
    logit: float
    bias: float  # how common the word is
    language_logit: float  # what the decoder's state adds
    region_logits: np.ndarray  # (H, W), signed: what each region adds (C of the region-word matrix)
    region_map: np.ndarray  # (H, W), the positive part of region_logits, sums to 1
    attention: np.ndarray  # (H, W), the head's attention, chosen before the word is; sums to 1
    layer_maps: np.ndarray  # (L, H, W), attention of each layer that attends, on the full grid; each sums to 1
    alternatives: tuple[tuple[str, float], ...]  # other words with their probabilities, likeliest first
    # -1..1: (p - q) / max(p, q), q the word's probability with the photograph's mean colour in its place
    image_reliance: float
    end_probability: float = 0.0  # that the caption would have ended before this word


@dataclass(frozen=True)
class AlternativeCaption:
    """Another caption the beam search found."""

    text: str
    log_probability: float


@dataclass(frozen=True, eq=False)
class ExplainedCaption:
    """A caption with all its explained words; holds everything the app shows, so that no click runs the model."""

    words: tuple[ExplainedWord, ...]
    log_probability: float  # of all the words and of the end after them, natural logarithm
    alternatives: tuple[AlternativeCaption, ...]
    grid: tuple[int, int]
    model: str = ""  # the name it was loaded by
    # 0..1: the share of the photographs the model was tested on that are at most as familiar; None where not known
    familiarity: float | None = None
    photograph: Image.Image | None = field(default=None, repr=False)  # as decoded; not part of the JSON

    @property
    def text(self) -> str:
        """The caption as a person would write it."""
        return sentence([word.text for word in self.words])

    def to_json(self) -> str:
        """All values as JSON; ``from_json`` reads it back. Floats keep float32 precision."""
        return json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                "text": self.text,
                "log_probability": self.log_probability,
                "grid": list(self.grid),
                "model": self.model,
                "familiarity": self.familiarity,
                "words": [_plain(word) for word in self.words],
                "alternatives": [_plain(alternative) for alternative in self.alternatives],
            },
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> ExplainedCaption:
        """Read what ``to_json`` wrote. Raises ``ExplanationError`` for anything else."""
        try:
            values = json.loads(text)
            if values["schema_version"] != SCHEMA_VERSION:
                raise ExplanationError(
                    f"This explanation has schema version {values['schema_version']!r}; "
                    f"this program reads {SCHEMA_VERSION}."
                )
            return cls(
                words=tuple(_word(word) for word in values["words"]),
                log_probability=values["log_probability"],
                alternatives=tuple(AlternativeCaption(**alternative) for alternative in values["alternatives"]),
                grid=tuple(values["grid"]),
                model=values["model"],
                familiarity=values.get("familiarity"),
            )
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise ExplanationError(f"This is not a saved explanation: {error!r}.") from error

    def save(self, folder: Path | str) -> None:
        """Write ``explanation.json`` and, where the photograph is known, ``photograph.png`` into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / EXPLANATION_FILE).write_text(self.to_json() + "\n", encoding="utf-8")
        if self.photograph is not None:
            self.photograph.save(folder / PHOTOGRAPH_FILE)

    @classmethod
    def load(cls, folder: Path | str) -> ExplainedCaption:
        """Read what ``save`` wrote. Raises ``ExplanationError`` where it is not there or not readable."""
        folder = Path(folder)
        try:
            explained = cls.from_json((folder / EXPLANATION_FILE).read_text(encoding="utf-8"))
        except OSError as error:
            raise ExplanationError(f"{folder} holds no {EXPLANATION_FILE}.") from error
        if not (folder / PHOTOGRAPH_FILE).exists():
            return explained
        with Image.open(folder / PHOTOGRAPH_FILE) as photograph:
            return replace(explained, photograph=photograph.convert("RGB"))


_ARRAYS = ("region_logits", "region_map", "attention", "layer_maps")


def _plain(value: ExplainedWord | AlternativeCaption) -> dict[str, Any]:
    return {key: item.tolist() if isinstance(item, np.ndarray) else item for key, item in vars(value).items()}


def _word(values: dict[str, Any]) -> ExplainedWord:
    arrays = {name: np.array(values[name], dtype=np.float32) for name in _ARRAYS}
    alternatives = tuple((word, probability) for word, probability in values["alternatives"])
    return ExplainedWord(**(values | arrays | {"alternatives": alternatives}))


def positive_map(region_logits: np.ndarray) -> np.ndarray:
    """What is shown for a word: the positive part of (..., H, W), each map summing to 1.

    Where no region speaks for the word the map is uniform: no region stands out.
    """
    positive = np.maximum(region_logits, 0)
    total = positive.sum((-2, -1), keepdims=True)
    uniform = np.full_like(positive, 1 / (positive.shape[-2] * positive.shape[-1]))
    return np.where(total > 0, positive / np.where(total > 0, total, 1), uniform)


def image_reliance(seen: float, unseen: float) -> float:
    """How far a probability falls from ``seen`` to ``unseen``, from -1 (only there without) to 1 (only there with)."""
    return (seen - unseen) / max(seen, unseen, 1e-12)
