"""Evaluation: a model's captions and explanations of a split, measured, as the JSON that tables are made from."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
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
from captioner.java_metrics import JAVA_METRICS, require
from captioner.measurement import Metric, Seen
from captioner.metrics import describe_captions, score_captions
from captioner.photographs import open_photograph
from captioner.predictions import write_predictions
from captioner.predictor import Captioner
from captioner.readability import readable
from captioner.sanity import Sanity
from captioner.signatures import Signatures
from captioner.vocabulary import Vocabulary, sentence, tokenize

METRICS = ("captions", "grounding", "faithfulness", "hallucination")
# What needs no model: whoever wrote the captions, they can be judged.
CAPTION_METRICS = ("captions", *JAVA_METRICS, "hallucination")
# Maps by gradients and tests on the photograph's pixels need the network dozens of times a photograph.
TESTED = 50
_BATCH = 16


class CaptionScores:
    """BLEU, ROUGE-L and CIDEr-D of the generated captions, how varied they are, and further metrics; a ``Metric``.

    ``java``: those of ``JAVA_METRICS`` that are asked for; ``training``: captions among which one said is not novel.
    """

    def __init__(self, vocabulary: Vocabulary, *, java: Collection[str] = (), training: Iterable[str] | None = None):
        self.vocabulary, self._java, self._training = vocabulary, java, training
        self._said: list[str] = []
        self._references: list[tuple[str, ...]] = []

    def add(self, seen: Seen) -> None:
        self._said.append(sentence(self.vocabulary.decode(seen.caption)))
        self._references.append(seen.record.raw)

    def result(self) -> dict[str, float]:
        return _scores(self._said, self._references, self._java, self._training)


def _scores(
    said: Sequence[str], references: Sequence[Sequence[str]], java: Collection[str], training: Iterable[str] | None
) -> dict[str, float]:
    scores = score_captions(said, references)
    scores |= {name: score(said, references) for key, (name, score) in JAVA_METRICS.items() if key in java}
    return scores | describe_captions(said, training)


def evaluate(
    captioner: Captioner,
    records: Sequence[CaptionedPhotograph],
    *,
    metrics: Sequence[str] = ("captions",),
    generation: GenerationConfig | None = None,
    phrases: Mapping[str, tuple[GroundedCaption, ...]] | None = None,
    instances: Mapping[str, Mapping[str, Sequence[Box]]] | None = None,
    training: Iterable[str] | None = None,
    tested: int = TESTED,
    save: Path | None = None,
) -> dict[str, Any]:
    """Measurements of the photographs in ``records``, one key for each metric asked for.

    Beside them stand the number of ``photographs`` and the ``seconds`` it took. Photographs that cannot be decoded are
    left out, with a warning.

    METEOR and SPICE, asked for by ``meteor`` and ``spice``, stand with the captions' other scores. ``phrases``:
    grounded captions by file name, which grounding needs; ``instances``: the boxes of COCO's objects by
    file name and category, by which hallucination judges beside the references; ``training``: the captions among which
    one generated is not novel. Faithfulness, and the maps by gradients that are compared in grounding, are measured on
    the first ``tested`` photographs. ``save``: a file for the captions, in the COCO results format.

    Raises ``ValueError`` for a metric that does not exist, ``DataError`` for grounding without phrases and where no
    photograph can be decoded, ``JavaError`` for METEOR or SPICE where they cannot run; all before a photograph is
    captioned.
    """
    asked = _asked(metrics, (*METRICS, *JAVA_METRICS))
    if "grounding" in asked and phrases is None:
        raise DataError(
            "Grounding needs boxes: entities.json or COCO instances beside the data. Leave it out, or add them."
        )
    started = time.monotonic()
    records = readable(records)
    captions = CaptionScores(captioner.vocabulary, java=asked, training=training)
    measured = {
        name: {"": captions} if name == "captions" else _metrics(name, captioner, phrases, instances, tested)
        for name in METRICS
        if name in asked
    }
    said = []
    for seen in captioned(captioner, records, None, generation or GenerationConfig()):
        said.append(sentence(captioner.vocabulary.decode(seen.caption)))
        for parts in measured.values():
            for metric in parts.values():
                metric.add(seen)
    if save:
        write_predictions(save, records, said)
    results = {"photographs": len(records)} | {name: _joined(parts) for name, parts in measured.items()}
    return results | {"seconds": round(time.monotonic() - started, 1)}


def evaluate_predictions(
    captions: Sequence[str],
    records: Sequence[CaptionedPhotograph],
    *,
    metrics: Sequence[str] = ("captions",),
    instances: Mapping[str, Mapping[str, Sequence[Box]]] | None = None,
    training: Iterable[str] | None = None,
) -> dict[str, Any]:
    """What can be measured of captions alone, whoever wrote them; ``captions[i]`` is of ``records[i]``.

    Arguments, results and errors are those of ``evaluate``, with metrics of ``CAPTION_METRICS`` only.
    """
    if of_models := sorted(set(metrics) & set(METRICS) - set(CAPTION_METRICS)):
        raise ValueError(
            f"No {' or '.join(of_models)} without a model: of predictions there are {', '.join(CAPTION_METRICS)}."
        )
    asked = _asked(metrics, CAPTION_METRICS)
    started = time.monotonic()
    results: dict[str, Any] = {"photographs": len(records)}
    if "captions" in asked:
        results["captions"] = _scores(captions, [record.raw for record in records], asked, training)
    if "hallucination" in asked:
        vocabulary = Vocabulary.of(map(tokenize, captions), least_count=1)
        metric = Hallucination(vocabulary, instances)
        for record, caption in zip(records, captions, strict=True):
            metric.add(Seen(record, torch.empty(0), tuple(vocabulary.encode(tokenize(caption)))))
        results["hallucination"] = metric.result()
    return results | {"seconds": round(time.monotonic() - started, 1)}


def _asked(metrics: Sequence[str], known: Sequence[str]) -> set[str]:
    """The metrics asked for, each of which can be computed here; METEOR and SPICE bring the captions' other scores."""
    unknown = sorted(set(metrics) - set(known))
    if unknown:
        raise ValueError(f"No metric {', '.join(unknown)}; choose from {', '.join(known)}.")
    require(metrics)
    return {*metrics, "captions"} if JAVA_METRICS.keys() & set(metrics) else set(metrics)


def _metrics(
    name: str,
    captioner: Captioner,
    phrases: Mapping[str, tuple[GroundedCaption, ...]] | None,
    instances: Mapping[str, Mapping[str, Sequence[Box]]] | None,
    tested: int,
) -> dict[str, Metric]:
    """What is measured under a name, by the key in its results; that without a key gives the results themselves."""
    model, vocabulary = captioner.model, captioner.vocabulary
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
