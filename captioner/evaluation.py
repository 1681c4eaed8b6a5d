"""Evaluation: a model's captions and explanations of a split, measured, as the JSON that tables are made from."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from captioner.attribution import grad_cam, input_gradient
from captioner.boxes import Box
from captioner.data import CaptionedPhotograph, DataError
from captioner.entities import GroundedCaption
from captioner.faithfulness import Faithfulness, Reliance
from captioner.features import batch_of
from captioner.generation import GenerationConfig, beam_search
from captioner.grounding import Attribution, Grounding
from captioner.hallucination import Hallucination
from captioner.measurement import Metric, Seen
from captioner.metrics import score_captions
from captioner.photographs import open_photograph
from captioner.predictor import Captioner
from captioner.sanity import Sanity
from captioner.signatures import Signatures
from captioner.vocabulary import Vocabulary, sentence

METRICS = ("captions", "grounding", "faithfulness", "hallucination")
# Maps by gradients and tests on the photograph's pixels need the network dozens of times a photograph.
TESTED = 50
_BATCH = 16


class CaptionScores:
    """BLEU, ROUGE-L and CIDEr-D of the generated captions; a ``Metric``."""

    def __init__(self, vocabulary: Vocabulary):
        self.vocabulary = vocabulary
        self._said: list[str] = []
        self._references: list[tuple[str, ...]] = []

    def add(self, seen: Seen) -> None:
        self._said.append(sentence(self.vocabulary.decode(seen.caption)))
        self._references.append(seen.record.raw)

    def result(self) -> dict[str, float]:
        return score_captions(self._said, self._references)


def evaluate(
    captioner: Captioner,
    records: Sequence[CaptionedPhotograph],
    *,
    metrics: Sequence[str] = ("captions",),
    generation: GenerationConfig | None = None,
    phrases: Mapping[str, tuple[GroundedCaption, ...]] | None = None,
    instances: Mapping[str, Mapping[str, Sequence[Box]]] | None = None,
    tested: int = TESTED,
) -> dict[str, Any]:
    """Measurements of the photographs in ``records``, one key for each metric asked for, and the seconds it took.

    ``phrases``: grounded captions by file name, which grounding needs; ``instances``: the boxes of COCO's objects by
    file name and category, by which hallucination judges beside the references. Faithfulness, and the maps by
    gradients that are compared in grounding, are measured on the first ``tested`` photographs.

    Raises ``ValueError`` for a metric that does not exist, ``DataError`` for grounding without phrases.
    """
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown:
        raise ValueError(f"No metric {', '.join(unknown)}; choose from {', '.join(METRICS)}.")
    if "grounding" in metrics and phrases is None:
        raise DataError(
            "Grounding needs boxes: entities.json or COCO instances beside the data. Leave it out, or add them."
        )
    started = time.monotonic()
    measured = {name: _metrics(name, captioner, phrases, instances, tested) for name in METRICS if name in metrics}
    for seen in captioned(captioner, records, None, generation or GenerationConfig()):
        for parts in measured.values():
            for metric in parts.values():
                metric.add(seen)
    results = {name: _joined(parts) for name, parts in measured.items()}
    return results | {"seconds": round(time.monotonic() - started, 1)}


def _metrics(
    name: str,
    captioner: Captioner,
    phrases: Mapping[str, tuple[GroundedCaption, ...]] | None,
    instances: Mapping[str, Mapping[str, Sequence[Box]]] | None,
    tested: int,
) -> dict[str, Metric]:
    """What is measured under a name, by the key in its results; that without a key gives the results themselves."""
    model, vocabulary = captioner.model, captioner.vocabulary
    if name == "captions":
        return {"": CaptionScores(vocabulary)}
    if name == "grounding":
        return {"": Grounding(model, vocabulary, phrases, attributions=_attributions(captioner, tested))}
    if name == "hallucination":
        return {"": Hallucination(vocabulary, instances)}
    return {
        "": Faithfulness(model, vocabulary, photographs=tested),
        "reliance": Reliance(model, vocabulary, photographs=tested),
        "sanity": Sanity(model, photographs=tested),
        "signatures": Signatures(captioner, photographs=tested),
    }


def _joined(parts: dict[str, Metric]) -> dict[str, Any]:
    results = {name: metric.result() for name, metric in parts.items()}
    return results.pop("") | results


def _attributions(captioner: Captioner, tested: int) -> dict[str, Attribution]:
    """Maps by gradients of the first photographs."""
    model = captioner.model
    photographs: dict[str, None] = {}

    def is_tested(seen: Seen) -> bool:
        if len(photographs) < tested:
            photographs[seen.record.path.name] = None
        return seen.record.path.name in photographs

    def by_features(seen: Seen, words: torch.Tensor, positions: torch.Tensor) -> torch.Tensor | None:
        return grad_cam(model.decoder, seen.features, words, positions) if is_tested(seen) else None

    def by_pixels(seen: Seen, words: torch.Tensor, positions: torch.Tensor) -> torch.Tensor | None:
        if not is_tested(seen):
            return None
        pixels = model.config.preprocessing(open_photograph(seen.record.path)).to(seen.features.device)
        return input_gradient(model, pixels, words, positions)

    return {"grad_cam": by_features, "input_gradient": by_pixels}


@torch.inference_mode()
def captioned(
    captioner: Captioner,
    records: Sequence[CaptionedPhotograph],
    features: Sequence[np.ndarray] | None,
    generation: GenerationConfig,
) -> Iterator[Seen]:
    """Every photograph with its features and its caption, in order.

    ``features`` are those that ``cached_features`` keeps of the photographs; None to encode them now.
    """
    model, device = captioner.model, captioner.device
    with tqdm(total=len(records), unit="photo", desc="evaluating") as bar:
        for start in range(0, len(records), _BATCH):
            chunk = records[start : start + _BATCH]
            if features is None:
                pixels = [model.config.preprocessing(open_photograph(record.path)) for record in chunk]
                batch = model.encode(torch.stack(pixels).to(device))
            else:
                batch = model.finish(batch_of(features[start : start + _BATCH], device))
            found = beam_search(model.decoder, model.decoder.look(batch), generation)
            for record, own, best in zip(chunk, batch, found):
                yield Seen(record, own, best[0].words)
                bar.update()


def caption_all(
    captioner: Captioner, records: Sequence[CaptionedPhotograph], generation: GenerationConfig
) -> list[str]:
    """The caption of every photograph, in order."""
    return [
        sentence(captioner.vocabulary.decode(seen.caption)) for seen in captioned(captioner, records, None, generation)
    ]
