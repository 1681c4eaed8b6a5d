"""Captions in files, in the COCO results format: ``[{"image_id": ..., "caption": ...}, ...]``."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from captioner.data import CaptionedPhotograph, DataError, is_id
from captioner.json_files import write_json


def write_predictions(file: Path, records: Sequence[CaptionedPhotograph], captions: Sequence[str]) -> None:
    """Write the caption of every photograph, in order."""
    entries = [{"image_id": record.image_id, "caption": said} for record, said in zip(records, captions, strict=True)]
    write_json(file, entries)


def read_predictions(file: Path, records: Sequence[CaptionedPhotograph]) -> list[str]:
    """The captions a file holds of these photographs, in their order; a warning counts those of other photographs.

    Ids may be numbers or text: 139 and "139" are the same photograph.

    Raises ``DataError`` where the file is missing or broken, gives a photograph twice, or lacks one.
    """
    try:
        entries = json.loads(file.read_text(encoding="utf-8-sig"))  # some programs begin a file with a mark
        said = [(entry["image_id"], entry["caption"]) for entry in entries]
        if not all(is_id(image_id) and isinstance(caption, str) for image_id, caption in said):
            raise TypeError("an id is a number or text, and a caption is text")
    except FileNotFoundError as error:
        raise DataError(f"There is no file {file}. Check the path.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file} is not in the COCO results format: {error!r}.") from error
    counts = Counter(str(image_id) for image_id, _ in said)
    if twice := [image_id for image_id, _ in said if counts[str(image_id)] > 1]:
        several = len({str(image_id) for image_id in twice})
        raise DataError(f"{file} captions {several} photographs more than once, first {twice[0]!r}.")
    if absent := [record.image_id for record in records if str(record.image_id) not in counts]:
        raise DataError(f"{file} lacks captions of {len(absent)} photographs, first {absent[0]!r}.")
    known = {str(record.image_id) for record in records}
    if others := [image_id for image_id, _ in said if str(image_id) not in known]:
        warnings.warn(
            f"{file}: {len(others)} captions are of photographs that are not scored, first {others[0]!r}.", stacklevel=2
        )
    captions = {str(image_id): caption for image_id, caption in said}
    return [captions[str(record.image_id)] for record in records]
