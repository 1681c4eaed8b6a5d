"""Hallucination: objects a caption names that are not in the photograph (CHAIR, Rohrbach et al. 2018)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from captioner.measurement import Means, Seen
from captioner.object_words import mentions, objects_granted
from captioner.vocabulary import Vocabulary


class Hallucination:
    """CHAIR of generated captions, in percent; a ``Metric``.

    An object named is hallucinated when no reference caption speaks of it and, where there are ``instances`` (the
    annotated categories of every photograph by its file name), it is not annotated either. Without them the truth is
    the captions alone, and the figures are upper bounds: what no person mentioned need not be absent. So they are for
    a photograph that the instances do not list.
    """

    def __init__(self, vocabulary: Vocabulary, instances: Mapping[str, Collection[str]] | None = None):
        self._vocabulary, self._instances = vocabulary, instances
        self._means = Means()

    def add(self, seen: Seen) -> None:
        """Measure the caption of a photograph."""
        photograph = seen.record.path.name
        truth = set((self._instances or {}).get(photograph, ()))
        truth = truth.union(*map(objects_granted, seen.record.tokens))
        named = mentions(self._vocabulary.decode(seen.caption))
        hallucinated = [truth.isdisjoint(mention.names) for mention in named]
        self._means.add("CHAIR-s", photograph, 100 * any(hallucinated))
        for is_hallucinated in hallucinated:
            self._means.add("CHAIR-i", photograph, 100 * is_hallucinated)

    def result(self) -> dict[str, Any]:
        """``CHAIR-s``, the share of captions that hallucinate, and ``CHAIR-i``, the share of mentions that do.

        ``CHAIR-i`` is absent where no caption names an object.
        """
        counts = self._means.counts()
        return {
            **self._means.means(),
            "truth": "captions" if self._instances is None else "instances and captions",
            "captions": counts.get("CHAIR-s", 0),
            "objects": counts.get("CHAIR-i", 0),
            "intervals": self._means.intervals(),
        }
