"""Captions in files, in the COCO results format: ``[{"image_id": ..., "caption": ...}, ...]``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from captioner.data import CaptionedPhotograph, DataError
from captioner.json_files import write_json


def write_predictions(file: Path, records: Sequence[CaptionedPhotograph], captions: Sequence[str]) -> None:
    """Write the caption of every photograph, in order."""
    entries = [{"image_id": record.image_id, "caption": said} for record, said in zip(records, captions, strict=True)]
    write_json(file, entries)


def read_predictions(file: Path, records: Sequence[CaptionedPhotograph]) -> list[str]:
    """The captions a file holds of these photographs, in their order; those of other photographs are passed over.

    Raises ``DataError`` where the file is missing or broken, gives a photograph twice, or lacks one.
    """
    try:
        said = [(entry["image_id"], entry["caption"]) for entry in json.loads(file.read_text(encoding="utf-8"))]
        counts = Counter(image_id for image_id, _ in said)
        if not all(isinstance(caption, str) for _, caption in said):
            raise TypeError("a caption is no text")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not in the COCO results format: {error!r}.") from error
    if twice := [image_id for image_id, count in counts.items() if count > 1]:
        raise DataError(f"{file} captions {len(twice)} photographs more than once, first {twice[0]!r}.")
    if absent := [record.image_id for record in records if record.image_id not in counts]:
        raise DataError(f"{file} lacks captions of {len(absent)} photographs, first {absent[0]!r}.")
    captions = dict(said)
    return [captions[record.image_id] for record in records]
