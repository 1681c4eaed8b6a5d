"""Data sets in any layout, behind one record."""

from __future__ import annotations

from pathlib import Path

from captioner.coco import has_captions, read_coco
from captioner.data import CaptionedPhotograph, DataError, read_karpathy
from captioner.shards import SHARDS
from captioner.tables import TABLES, read_tables


def read_data(folder: Path | str) -> list[CaptionedPhotograph]:
    """Read a data set in the layout it has: Karpathy's, COCO's, or tables.

    Raises ``DataError`` where it has none of them, or nothing in it can be used.
    """
    folder = Path(folder)
    if any(folder.glob("dataset*.json")):
        return read_karpathy(folder)
    if has_captions(folder):
        return read_coco(folder)
    if any(folder.glob(TABLES)):
        return read_tables(folder)
    if any(folder.glob(f"*/{SHARDS}")):
        raise DataError(f"{folder} holds shards, which are read as a stream by train.py and evaluate.py alone.")
    raise DataError(
        f"{folder} holds no data: no dataset*.json (the Karpathy layout), annotations/captions_*.json (COCO), "
        "*.tsv (tables) or train/*.tar (shards)."
    )
