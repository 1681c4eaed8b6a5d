"""Data sets: captioned photographs in the Karpathy layout, checked when read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


class DataError(ValueError):
    """A data set that cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class CaptionedPhotograph:
    """One photograph with its reference captions."""

    path: Path
    split: str
    tokens: tuple[tuple[str, ...], ...]  # one tuple of lower-case words per caption
    raw: tuple[str, ...]  # the captions as people wrote them
    coco_id: int | None = None

    @property
    def image_id(self) -> int | str:
        """What stands for the photograph in files of predictions: COCO's id where it has one, else the file name."""
        return self.path.name if self.coco_id is None else self.coco_id


def read_karpathy(folder: Path | str) -> list[CaptionedPhotograph]:
    """Read ``folder/dataset_*.json`` and match it with ``folder/images``.

    Raises ``DataError`` where the JSON is missing or broken, or a photograph it names is absent.
    """
    folder = Path(folder)
    found = sorted(folder.glob("dataset*.json"))
    if len(found) != 1:
        raise DataError(f"{folder} must hold exactly one dataset*.json in the Karpathy layout; it holds {len(found)}.")
    try:
        images = json.loads(found[0].read_text(encoding="utf-8"))["images"]
        records = [
            CaptionedPhotograph(
                path=folder / "images" / image.get("filepath", "") / image["filename"],
                split=image["split"],
                tokens=tuple(tuple(sentence["tokens"]) for sentence in image["sentences"]),
                raw=tuple(sentence["raw"] for sentence in image["sentences"]),
                coco_id=image.get("cocoid"),
            )
            for image in images
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{found[0]} is not in the Karpathy layout: {error!r}.") from error
    absent = [record.path.name for record in records if not record.path.is_file()]
    if absent:
        raise DataError(f"{len(absent)} photographs of {found[0]} are not in {folder / 'images'}, first {absent[0]}.")
    return records


def of_split(records: list[CaptionedPhotograph], split: str) -> list[CaptionedPhotograph]:
    """The records of one split, in file order. Raises ``DataError`` naming the splits there are."""
    chosen = [record for record in records if record.split == split]
    if not chosen:
        known = ", ".join(sorted({record.split for record in records}))
        raise DataError(f"There is no split {split!r}; this data has {known}.")
    return chosen
