"""The README's figures, drawn from the JSON files of results.

A figure holds the hash of the file that it was drawn from, so that one that is out of date is known by it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from captioner import ablation, calibration

FIGURES: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "ablation.png": lambda report: ablation.figure(report["rows"]),
    "calibration.png": calibration.figure,
}
_SOURCE = "Source"  # a keyword that PNG defines for what an image was made from


def is_stale(name: str, results: Path) -> bool:
    """Whether a figure in the folder ``results`` is missing, or was drawn from another file than that beside it.

    Raises ``ValueError`` for a figure that nothing draws, ``OSError`` where the file of results is missing.
    """
    if name not in FIGURES:
        raise ValueError(f"There is no figure {name!r}; there are {', '.join(FIGURES)}.")
    source = _source(results / name)
    try:
        with Image.open(results / name) as image:
            return image.info.get(_SOURCE) != source
    except OSError:
        return True


def draw(name: str, results: Path) -> None:
    """Draw a figure from the file of its name in the folder ``results``, beside that file."""
    file = results / name
    report = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    FIGURES[name](report).savefig(file, dpi=150, metadata={_SOURCE: _source(file)})


def _source(figure: Path) -> str:
    file = figure.with_suffix(".json")
    return f"{file.name}, SHA-256 {hashlib.sha256(file.read_bytes()).hexdigest()}"
