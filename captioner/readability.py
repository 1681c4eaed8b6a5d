"""Readability: which photographs of a data set can be decoded, so that one that cannot does not end a long run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from captioner.data import CaptionedPhotograph, DataError, LeftOut
from captioner.hub import replace_file
from captioner.json_files import write_json
from captioner.photographs import PhotographError, open_photograph


def readable(records: Sequence[CaptionedPhotograph], notes: Path | None = None) -> list[CaptionedPhotograph]:
    """The records whose photographs can be decoded, in order; a warning counts the others and names the first.

    ``notes``: a folder in which the answer is kept, so that photographs are tried once. They are tried again where a
    name or a size has changed.

    Raises ``DataError`` where none can be decoded.
    """
    if notes is None:
        unreadable = _unreadable(records)
    else:
        file = notes / f"unreadable-{_digest(records)}.json"
        if not file.exists():
            notes.mkdir(parents=True, exist_ok=True)
            replace_file(file, lambda path: write_json(path, _unreadable(records)))
        unreadable = json.loads(file.read_text())
    left_out = LeftOut(records[0].path.parent)
    for number in unreadable:
        left_out.add("unreadable photographs", records[number].path.name)
    if len(unreadable) == len(records):
        raise DataError(f"No photograph can be read. {left_out}")
    left_out.tell()
    without = set(unreadable)
    return [record for number, record in enumerate(records) if number not in without]


def _unreadable(records: Sequence[CaptionedPhotograph]) -> list[int]:
    """The numbers of the records whose photographs cannot be decoded."""
    found = []
    for number, record in enumerate(tqdm(records, desc="checking", unit="photo")):
        try:
            open_photograph(record.path)
        except PhotographError:
            found.append(number)
    return found


def _digest(records: Sequence[CaptionedPhotograph]) -> str:
    files = [(record.path.name, record.path.stat().st_size) for record in records]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]
