"""The explorer, the page part that steps through a caption: its script, its style, and the data it is given.

It runs in the browser alone (``assets/explorer.js``), in the app and in a saved report: whatever a person may look at
is in the data, so that no step asks the server.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from captioner.explanation import ExplainedCaption, ExplainedWord
from captioner.familiarity import UNFAMILIAR
from captioner.occlusion import Occlusion
from captioner.rendering import COLOUR_MAPS, blur_regions, colour_table, fit, picture_url
from captioner.signatures import Signature
from captioner.word_classes import is_content

ASSETS = Path(__file__).resolve().parents[1] / "assets"
_DIGITS = 5  # of the numbers sent: more than any picture shows


def script() -> str:
    """The explorer's JavaScript: the class ``Explorer`` and its colour tables. Holds no closing script tag."""
    tables = {name: colour_table(name).ravel().tolist() for name in COLOUR_MAPS}
    return f"const COLOUR_TABLES = {json.dumps(tables)};\n{(ASSETS / 'explorer.js').read_text(encoding='utf-8')}"


def style() -> str:
    """The explorer's CSS."""
    return (ASSETS / "explorer.css").read_text(encoding="utf-8")


def explorer_data(explained: ExplainedCaption, *, hidden: np.ndarray | None = None) -> dict[str, Any]:
    """An explained caption as the explorer takes it, ready for JSON; regions are numbered row by row.

    ``hidden`` (H, W), bool: the regions that were blurred before it was captioned; the photograph shows them so.

    Raises ``ValueError`` where the explanation has no photograph.
    """
    if explained.photograph is None:
        raise ValueError("This explanation has no photograph; explain the photograph again.")
    shown = fit(explained.photograph)
    if hidden is not None:
        shown = blur_regions(shown, hidden)
    return {
        "photograph": {"src": picture_url(shown), "width": shown.width, "height": shown.height},
        "grid": list(explained.grid),
        "model": explained.model,
        "text": explained.text,
        "log_probability": explained.log_probability,
        "familiarity": explained.familiarity,
        "unfamiliar": explained.familiarity is not None and explained.familiarity < UNFAMILIAR,
        "words": [_word(word) for word in explained.words],
        "others": [{"text": other.text, "log_probability": other.log_probability} for other in explained.alternatives],
        "hidden": [] if hidden is None else np.flatnonzero(hidden).tolist(),
    }


def findings(occlusions: Sequence[Occlusion], signatures: Sequence[Signature]) -> dict[str, Any]:
    """What testing a caption found, as the explorer takes it."""
    return {"occlusions": [asdict(one) for one in occlusions], "signatures": [asdict(one) for one in signatures]}


def _word(word: ExplainedWord) -> dict[str, Any]:
    return {
        "text": word.text,
        "joined": word.text.startswith("'"),  # written without a space before it
        "probability": word.probability,
        "logit": word.logit,
        "bias": word.bias,
        "language": word.language_logit,
        "regions": _numbers(word.region_logits),
        "attention": _numbers(word.attention),
        "layers": [_numbers(layer) for layer in word.layer_maps],
        "alternatives": [list(alternative) for alternative in word.alternatives],
        "reliance": word.image_reliance,
        "ending": word.end_probability,
        "content": is_content(word.text),
    }


def _numbers(grid: np.ndarray) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in grid.ravel().tolist()]
