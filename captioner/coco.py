"""COCO in its official layout (Lin et al. 2014): JSON under ``annotations``, photographs under ``images``.

Photographs may also lie in a folder of their split, as in ``images/val2017``. The split is the end of a file's name:
``captions_val2017.json`` holds the split ``val2017``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from captioner.boxes import Box
from captioner.data import CaptionedPhotograph, DataError, LeftOut, described, is_id, usable

_CAPTIONS, _INSTANCES = "captions_", "instances_"
INSTANCES = f"annotations/{_INSTANCES}*.json"


def has_captions(folder: Path) -> bool:
    """Whether there is a file of captions in COCO's layout."""
    return bool(_files(folder, _CAPTIONS))


def read_coco(folder: Path | str) -> list[CaptionedPhotograph]:
    """Read the photographs of every ``annotations/captions_*.json``, in file order; what cannot be used is left out.

    Raises ``DataError`` where there is no file, or nothing in them can be used.
    """
    folder = Path(folder)
    left_out = LeftOut(folder)
    expected = f"the COCO layout, {_CAPTIONS}*.json in annotations/ and the files they name in images/"
    return usable(_captioned(folder, left_out), left_out, expected)


def _captioned(folder: Path, left_out: LeftOut) -> Iterator[CaptionedPhotograph]:
    for file in _existing(folder, _CAPTIONS):
        split = file.stem.removeprefix(_CAPTIONS)
        images = folder / "images" / split
        images = images if images.is_dir() else images.parent
        try:
            with _checked(file):
                annotated = _annotated(_read(file), left_out)
        except DataError as error:
            left_out.add("broken files", str(error))
            continue
        for image, own in annotated:
            if isinstance(name := image.get("file_name"), str):
                captions = (annotation.get("caption") for annotation in own)
                yield described(images / name, split, captions, left_out, image["id"])
            else:
                left_out.add("broken entries", repr(image)[:40])


def read_instances(folder: Path | str) -> dict[str, dict[str, tuple[Box, ...]]]:
    """The annotated objects of every ``annotations/instances_*.json``: boxes by photograph's file name and category.

    Boxes are fractions of width and height; a crowd of objects is one box. A photograph without objects has an empty
    entry. What has an id twice or none is left out, with a warning.

    Raises ``DataError`` where a file is missing or broken: with boxes amiss, measurements would be wrong.
    """
    left_out = LeftOut(Path(folder))
    found: dict[str, dict[str, tuple[Box, ...]]] = {}
    for file in _existing(Path(folder), _INSTANCES):
        with _checked(file):
            content = _read(file)
            categories = _by_id(content["categories"], left_out)
            for image, annotations in _annotated(content, left_out):
                boxes = found.setdefault(image["file_name"], {})
                for annotation in annotations:
                    name = categories[annotation["category_id"]]["name"]
                    boxes[name] = (*boxes.get(name, ()), _box(annotation["bbox"], image))
    left_out.tell()
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


def _by_id(entries: list[dict[str, Any]], left_out: LeftOut) -> dict[int | str, dict[str, Any]]:
    found: dict[int | str, dict[str, Any]] = {}
    for entry in entries:
        if not isinstance(entry, dict) or "id" not in entry:
            left_out.add("entries without an id", repr(entry)[:40])
        elif not is_id(entry["id"]):
            left_out.add("broken entries", repr(entry)[:40])
        elif entry["id"] in found:
            left_out.add("ids given twice", str(entry["id"]))
        else:
            found[entry["id"]] = entry
    return found


def _annotated(content: dict[str, Any], left_out: LeftOut) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Every photograph with its annotations, both in file order."""
    images = _by_id(content["images"], left_out)
    annotations: dict[int | str, list[dict[str, Any]]] = {image: [] for image in images}
    for number, annotation in _by_id(content["annotations"], left_out).items():
        photograph = annotation.get("image_id")
        if not is_id(photograph):
            left_out.add("broken entries", repr(annotation)[:40])
        elif photograph in annotations:
            annotations[photograph].append(annotation)
        else:
            left_out.add("annotations of unlisted photographs", str(number))
    return [(image, annotations[number]) for number, image in images.items()]


def _box(bbox: list[float], image: dict[str, Any]) -> Box:
    """COCO's x, y, width and height in pixels to fractions; its rounding may leave the photograph by a hair."""
    x, y, width, height = bbox
    right, bottom = (x + width) / image["width"], (y + height) / image["height"]
    return x / image["width"], y / image["height"], min(right, 1.0), min(bottom, 1.0)
