"""COCO in its official layout (Lin et al. 2014): JSON under ``annotations``, photographs under ``images``.

Photographs may also lie in a folder of their split, as in ``images/val2017``. The split is the end of a file's name:
``captions_val2017.json`` holds the split ``val2017``.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from captioner.boxes import Box
from captioner.data import CaptionedPhotograph, DataError, read_karpathy
from captioner.vocabulary import tokenize

_CAPTIONS, _INSTANCES = "captions_", "instances_"
INSTANCES = f"annotations/{_INSTANCES}*.json"


def read_data(folder: Path | str) -> list[CaptionedPhotograph]:
    """Read a data set in the layout it has, Karpathy's or COCO's. Raises ``DataError`` where it has neither."""
    folder = Path(folder)
    if any(folder.glob("dataset*.json")):
        return read_karpathy(folder)
    if _files(folder, _CAPTIONS):
        return read_coco(folder)
    raise DataError(
        f"{folder} holds no data: neither a dataset*.json (the Karpathy layout) "
        f"nor an annotations/{_CAPTIONS}*.json (the COCO layout)."
    )


def read_coco(folder: Path | str) -> list[CaptionedPhotograph]:
    """Read the photographs of every ``annotations/captions_*.json``, in file order.

    Photographs without a caption are left out. Raises ``DataError`` where a file is missing or broken, or a photograph
    is absent.
    """
    folder = Path(folder)
    records = []
    for file in _existing(folder, _CAPTIONS):
        split = file.stem.removeprefix(_CAPTIONS)
        images = folder / "images" / split
        images = images if images.is_dir() else images.parent
        with _checked(file):
            for image, annotations in _annotated(file, _read(file)):
                captions = (annotation["caption"].strip() for annotation in annotations)
                raw = tuple(caption for caption in captions if tokenize(caption))
                tokens = tuple(tuple(tokenize(caption)) for caption in raw)
                if raw:
                    records.append(CaptionedPhotograph(images / image["file_name"], split, tokens, raw, image["id"]))
    absent = [record.path for record in records if not record.path.is_file()]
    if absent:
        raise DataError(f"{len(absent)} photographs of {folder} are missing, first {absent[0]}.")
    return records


def read_instances(folder: Path | str) -> dict[str, dict[str, tuple[Box, ...]]]:
    """The annotated objects of every ``annotations/instances_*.json``: boxes by photograph's file name and category.

    Boxes are fractions of width and height; a crowd of objects is one box. A photograph without objects has an empty
    entry. Raises ``DataError`` where a file is missing or broken.
    """
    found: dict[str, dict[str, tuple[Box, ...]]] = {}
    for file in _existing(Path(folder), _INSTANCES):
        with _checked(file):
            content = _read(file)
            categories = _by_id(file, content["categories"])
            for image, annotations in _annotated(file, content):
                boxes = found.setdefault(image["file_name"], {})
                for annotation in annotations:
                    name = categories[annotation["category_id"]]["name"]
                    boxes[name] = (*boxes.get(name, ()), _box(annotation["bbox"], image))
    return found


def _files(folder: Path, kind: str) -> list[Path]:
    return sorted((folder / "annotations").glob(f"{kind}*.json"))


def _existing(folder: Path, kind: str) -> list[Path]:
    files = _files(folder, kind)
    if not files:
        raise DataError(f"{folder / 'annotations'} holds no {kind}*.json.")
    return files


@contextmanager
def _checked(file: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise DataError(f"{file} is not in the COCO layout: {error!r}.") from error


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def _by_id(file: Path, entries: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    found = {entry["id"]: entry for entry in entries}
    if len(found) < len(entries):
        raise DataError(f"{file} gives {len(entries) - len(found)} ids twice.")
    return found


def _annotated(file: Path, content: dict[str, Any]) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Every photograph with its annotations, both in file order."""
    images = _by_id(file, content["images"])
    annotations: dict[int, list[dict[str, Any]]] = {image: [] for image in images}
    unknown = 0
    for annotation in _by_id(file, content["annotations"]).values():
        if annotation["image_id"] in annotations:
            annotations[annotation["image_id"]].append(annotation)
        else:
            unknown += 1
    if unknown:
        warnings.warn(f"{unknown} annotations of {file} are of photographs it does not list; left out.", stacklevel=4)
    return [(image, annotations[number]) for number, image in images.items()]


def _box(bbox: list[float], image: dict[str, Any]) -> Box:
    """COCO's x, y, width and height in pixels to fractions; its rounding may leave the photograph by a hair."""
    x, y, width, height = bbox
    right, bottom = (x + width) / image["width"], (y + height) / image["height"]
    return x / image["width"], y / image["height"], min(right, 1.0), min(bottom, 1.0)
