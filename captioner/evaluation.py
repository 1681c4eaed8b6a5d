"""Evaluation: a model's captions of a split, scored, as the JSON that tables are made from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from tqdm import tqdm

from captioner.data import CaptionedPhotograph
from captioner.generation import GenerationConfig, beam_search
from captioner.metrics import score_captions
from captioner.photographs import open_photograph
from captioner.predictor import Captioner
from captioner.vocabulary import sentence

METRICS = ("captions",)
_BATCH = 16


def evaluate(
    captioner: Captioner,
    records: Sequence[CaptionedPhotograph],
    *,
    metrics: Sequence[str] = METRICS,
    generation: GenerationConfig | None = None,
) -> dict[str, Any]:
    """Scores of the photographs in ``records``, one key for each metric asked for, and the seconds it took.

    Raises ``ValueError`` for a metric that does not exist.
    """
    unknown = sorted(set(metrics) - set(METRICS))
    if unknown:
        raise ValueError(f"No metric {', '.join(unknown)}; choose from {', '.join(METRICS)}.")
    started = time.monotonic()
    results: dict[str, Any] = {}
    if "captions" in metrics:
        said = caption_all(captioner, records, generation or GenerationConfig())
        results["captions"] = score_captions(said, [record.raw for record in records])
    return results | {"seconds": round(time.monotonic() - started, 1)}


@torch.inference_mode()
def caption_all(
    captioner: Captioner, records: Sequence[CaptionedPhotograph], generation: GenerationConfig
) -> list[str]:
    """The caption of every photograph, in order."""
    said = []
    model = captioner.model
    with tqdm(total=len(records), unit="photo", desc="captioning") as bar:
        for start in range(0, len(records), _BATCH):
            chunk = records[start : start + _BATCH]
            pixels = [model.config.preprocessing(open_photograph(record.path)) for record in chunk]
            found = beam_search(model.decoder, model.look(torch.stack(pixels).to(captioner.device)), generation)
            said += [sentence(captioner.vocabulary.decode(best[0].words)) for best in found]
            bar.update(len(chunk))
    return said
