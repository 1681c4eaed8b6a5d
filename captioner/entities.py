"""Phrase boxes: which words of a caption name which boxes of its photograph (Flickr30k Entities, Plummer et al. 2015).

The file is ``entities.json`` beside the data set: ``{filename: {"boxes": {chain: [[x0, y0, x1, y1], ...]}, "sentences":
[{"words", "phrases": [{"chain", "types", "first", "last"}]}]}}``, boxes in fractions, words counted from 0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.boxes import Box
from captioner.data import DataError
from captioner.vocabulary import tokenize

ENTITIES_FILE = "entities.json"


@dataclass(frozen=True)
class Phrase:
    """A noun phrase of a caption."""

    first: int  # position of its first word
    last: int  # and of its last word, its head
    types: tuple[str, ...]  # such as "people" or "clothing"
    boxes: tuple[Box, ...]  # where it is in the photograph; empty where it cannot be seen


@dataclass(frozen=True)
class GroundedCaption:
    """A caption with its phrases, positions counted in ``words``."""

    words: tuple[str, ...]
    phrases: tuple[Phrase, ...]

    def aligned(self, words: Sequence[str]) -> GroundedCaption | None:
        """The same caption cut into other words ("tri", "colored" for "tricolored"); None where it is another one."""
        letters, own_letters = "".join(words), "".join(self.words)
        if letters != own_letters:
            return None
        place = [index for index, word in enumerate(words) for _ in word]
        starts = [sum(map(len, self.words[:index])) for index in range(len(self.words) + 1)]
        phrases = tuple(
            Phrase(place[starts[p.first]], place[starts[p.last + 1] - 1], p.types, p.boxes) for p in self.phrases
        )
        return GroundedCaption(tuple(words), phrases)


def read_entities(folder: Path | str) -> dict[str, tuple[GroundedCaption, ...]]:
    """Grounded captions by file name, from ``entities.json`` in ``folder``.

    Raises ``DataError`` where the file is missing or not in this layout.
    """
    file = Path(folder) / ENTITIES_FILE
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        return {
            name: tuple(_caption(sentence, entry["boxes"]) for sentence in entry["sentences"])
            for name, entry in entries.items()
        }
    except FileNotFoundError as error:
        raise DataError(f"{file} is missing: phrases and their boxes are read from it.") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{file} is not in the layout of phrase boxes: {error!r}.") from error


def _caption(sentence: dict, boxes: dict) -> GroundedCaption:
    words: list[str] = []
    ends = []  # how many words there are up to and with each word of the file; punctuation adds none
    for word in sentence["words"]:
        words += tokenize(word)
        ends.append(len(words))
    phrases = []
    for phrase in sentence["phrases"]:
        first = ends[phrase["first"] - 1] if phrase["first"] else 0
        last = ends[phrase["last"]] - 1
        if first <= last:
            found = tuple(map(_box, boxes.get(phrase["chain"], ())))
            phrases.append(Phrase(first, last, tuple(phrase["types"]), found))
    return GroundedCaption(tuple(words), tuple(phrases))


def _box(edges: Sequence[float]) -> Box:
    x0, y0, x1, y1 = map(float, edges)
    if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
        raise ValueError(f"{edges} is no box in fractions of width and height")
    return x0, y0, x1, y1


def grounded(captions: Sequence[GroundedCaption], words: Sequence[str]) -> GroundedCaption | None:
    """Of a photograph's grounded captions the one that says ``words``, in their positions; None where there is none."""
    found = (caption.aligned(words) for caption in captions)
    return next((caption for caption in found if caption), None)
