"""Data sets: captioned photographs, whatever the layout they lie in, and those in the Karpathy layout."""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captioner.vocabulary import tokenize

_NAMED = 3


class DataError(ValueError):
    """A data set that cannot be used; the message names the file and what is wrong with it."""


@dataclass(frozen=True)
class CaptionedPhotograph:
    """One photograph with its reference captions."""

    path: Path
    split: str
    tokens: tuple[tuple[str, ...], ...]  # one tuple of lower-case words per caption
    raw: tuple[str, ...]  # the captions as people wrote them
    coco_id: int | str | None = None

    @property
    def image_id(self) -> int | str:
        """What stands for the photograph in files of predictions: COCO's id where it has one, else the file name."""
        return self.path.name if self.coco_id is None else self.coco_id


class LeftOut:
    """What of the data in ``where`` cannot be used: counted by reason, the first few named."""

    def __init__(self, where: Path):
        self.where = where
        self._counts: Counter[str] = Counter()
        self._named: defaultdict[str, list[str]] = defaultdict(list)

    def add(self, reason: str, name: str) -> None:
        self._counts[reason] += 1
        if len(self._named[reason]) < _NAMED:
            self._named[reason].append(name)

    def __str__(self) -> str:
        reasons = []
        for reason, count in self._counts.items():
            more = ", ..." if count > _NAMED else ""
            reasons.append(f"{count} x {reason} ({', '.join(self._named[reason])}{more})")
        return f"{self.where}: left out {'; '.join(reasons) or 'nothing'}."

    def tell(self) -> None:
        """Warn of it, if there is anything."""
        if self._counts:
            warnings.warn(str(self), stacklevel=3)


def described(
    path: Path, split: str, captions: Iterable[Any], left_out: LeftOut, coco_id: int | str | None = None
) -> CaptionedPhotograph:
    """A photograph with those of its captions that hold a word."""
    raw, tokens = [], []
    for caption in captions:
        # Data has millions of words, but few different ones: each is kept once.
        words = tuple(map(sys.intern, tokenize(caption))) if isinstance(caption, str) else ()
        if words:
            raw.append(caption.strip())
            tokens.append(words)
        else:
            left_out.add("captions without a word", path.name)
    return CaptionedPhotograph(path, split, tuple(tokens), tuple(raw), coco_id)


def usable(
    candidates: Iterable[CaptionedPhotograph],
    left_out: LeftOut,
    expected: str,
    *,
    present: Callable[[Path], bool] = Path.is_file,
) -> list[CaptionedPhotograph]:
    """The photographs that are present and have captions, each once; a warning tells of all that is left out.

    Raises ``DataError`` where there are none: it says what is ``expected``.
    """
    records, known = [], set()
    for record in candidates:
        identity = {record.path} | ({(record.split, record.coco_id)} if record.coco_id is not None else set())
        if not record.tokens:
            left_out.add("photographs without captions", record.path.name)
        elif known & identity:
            left_out.add("photographs given twice", record.path.name)
        elif not present(record.path):
            left_out.add("absent photographs", record.path.name)
        else:
            known |= identity
            records.append(record)
    if not records:
        raise DataError(f"No captioned photograph. Expected: {expected}. {left_out}")
    left_out.tell()
    return records


def read_karpathy(folder: Path | str) -> list[CaptionedPhotograph]:
    """Read ``folder/dataset_*.json`` and match it with ``folder/images``; what is broken or absent is left out.

    Raises ``DataError`` where the JSON is missing or broken, or nothing of it can be used.
    """
    folder = Path(folder)
    found = sorted(folder.glob("dataset*.json"))
    if len(found) != 1:
        raise DataError(f"{folder} must hold exactly one dataset*.json in the Karpathy layout; it holds {len(found)}.")
    try:
        images = list(json.loads(found[0].read_text(encoding="utf-8"))["images"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{found[0]} is not in the Karpathy layout: {error!r}.") from error
    left_out = LeftOut(found[0])
    expected = "the Karpathy layout, images[] {filename, split, sentences[] {raw, tokens}}, and the files under images/"
    return usable(_karpathy(images, folder / "images", left_out), left_out, expected)


def _karpathy(images: Iterable[Any], folder: Path, left_out: LeftOut) -> Iterator[CaptionedPhotograph]:
    for image in images:
        try:
            yield _photograph(image, folder, left_out)
        except (KeyError, TypeError, AttributeError):
            name = image.get("filename") if isinstance(image, dict) else image
            left_out.add("broken entries", repr(name)[:40])


def _photograph(image: Any, folder: Path, left_out: LeftOut) -> CaptionedPhotograph:
    """An entry of the Karpathy layout. Raises ``KeyError``, ``TypeError`` or ``AttributeError`` for anything else."""
    path, split, coco_id = folder / image.get("filepath", "") / image["filename"], image["split"], image.get("cocoid")
    if not isinstance(split, str) or not (coco_id is None or is_id(coco_id)):
        raise TypeError("a split is text, an id a number or text")
    tokens, raw = [], []
    for sentence in image["sentences"]:
        if not isinstance(sentence["raw"], str) or not isinstance(sentence["tokens"], list):
            raise TypeError("a caption is text, its tokens are a list")
        if sentence["tokens"]:
            tokens.append(tuple(map(sys.intern, sentence["tokens"])))
            raw.append(sentence["raw"])
        else:
            left_out.add("captions without a word", path.name)
    return CaptionedPhotograph(path, split, tuple(tokens), tuple(raw), coco_id)


def is_id(value: Any) -> bool:
    """Whether a value of JSON can stand for a photograph or an annotation."""
    return isinstance(value, int | str) and not isinstance(value, bool)


def of_split(records: Sequence[CaptionedPhotograph], *splits: str) -> list[CaptionedPhotograph]:
    """The records of one split or several, in file order. Raises ``DataError`` naming the splits there are."""
    known = {record.split for record in records}
    for split in splits:
        if split not in known:
            raise DataError(f"There is no split {split!r}; this data has {', '.join(sorted(known))}.")
    return [record for record in records if record.split in splits]
