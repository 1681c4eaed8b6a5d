"""Known failure signatures: patterns in the explanation of a caption that tell a person to distrust it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np

from captioner.explanation import ExplainedCaption, ExplainedWord
from captioner.measurement import Seen
from captioner.occlusion import Occlusion
from captioner.predictor import Captioner
from captioner.region_maps import overlap
from captioner.word_classes import is_attribute, is_content, things

MISALIGNED, DRIFT = "misaligned attention", "caption drift"
IDENTICAL, NO_REGION = "identical maps", "no region"
NAMES = (MISALIGNED, DRIFT, IDENTICAL, NO_REGION)


@dataclass(frozen=True)
class Signature:
    """One failure found in a caption."""

    name: str  # one of NAMES
    words: tuple[int, ...]  # positions in the caption
    value: float  # what was measured, see ``signatures``
    text: str  # a sentence for a reviewer


@dataclass(frozen=True)
class Thresholds:
    """Where a signature begins. Chosen on 80 val captions of the bundled model, to leave the usual alone."""

    # Percent: a map is concentrated when its strongest fifth, which occlusion hides, holds most of it.
    concentration: float = 50.0
    # Percent of the word's own probability: random regions are a mean of few draws, a smaller difference is none.
    least_effect: float = 1.0
    # Points of percent: half of all captions rise by less; it is a failure only where words repeat too.
    language_rise: float = 11.0
    # Percent: a jacket lies on its wearer, so that their maps share a good part; 98 of 100 pairs share less than 80.
    shared_mass: float = 80.0
    # Logits: this much makes a word 1 % likelier against the others. Drawn as a map, even less fills the whole scale.
    least_logit: float = 0.01


def signatures(
    explained: ExplainedCaption, occlusions: Sequence[Occlusion] | None = None, thresholds: Thresholds = Thresholds()
) -> tuple[Signature, ...]:
    """The failure signatures of a caption; ``occlusions``, one for each word, are needed for misaligned attention.

    - ``"no region"``: a content word that the regions add nothing to. Value: the sum of what they add, a logit.
    - ``"misaligned attention"``: a content word with a concentrated map, but hiding its strongest regions lowers its
      probability no more than hiding random ones. Value: by how many points of percent it does, zero or below but
      for a margin.
    - ``"identical maps"``: two nouns that name different things and share nearly all of their maps. Value: the mass
      they share, in percent. A colour and its noun or a rider and "riding" rightly share theirs, and are not compared.
    - ``"caption drift"``: in the second half of its content words a caption leans more on the language state, and
      repeats words that say more than a colour or a number; or it goes round in circles, whatever it leans on. Value:
      by how many points of percent the mean language share rises from the first half to the second.

    Raises ``ValueError`` where there are not as many occlusions as words.
    """
    if occlusions is not None and len(occlusions) != len(explained.words):
        raise ValueError(f"{len(occlusions)} occlusions were given for {len(explained.words)} words.")
    words = explained.words
    content = [position for position, word in enumerate(words) if is_content(word.text)]
    shown = [position for position in content if _evidence(words[position]) >= thresholds.least_logit]
    return (
        *(_no_region(words, position) for position in content if position not in shown),
        *(_misaligned(words, shown, occlusions, thresholds) if occlusions else ()),
        *_identical(words, shown, thresholds),
        *_drift(words, content, thresholds),
    )


def check(captioner: Captioner, explained: ExplainedCaption) -> tuple[Signature, ...]:
    """Test an explained caption on its photograph, and report the failure signatures found.

    Raises ``ValueError`` where the photograph is not known.
    """
    return signatures(explained, captioner.occlusions(explained))


class Signatures:
    """How many generated captions show each failure signature, tested by occlusion; a ``Metric``.

    Only the first ``photographs`` are measured.
    """

    def __init__(self, captioner: Captioner, *, photographs: int | None = None):
        self.captioner, self.photographs = captioner, photographs
        self._found: dict[str, tuple[Signature, ...]] = {}

    def add(self, seen: Seen) -> None:
        """Test the caption of a photograph, which is read again from its file."""
        if len(self._found) == self.photographs:
            return
        words = self.captioner.vocabulary.decode(seen.caption)
        explained = self.captioner.explain_caption(seen.record.path, words)
        self._found[seen.record.path.name] = check(self.captioner, explained)

    def result(self) -> dict[str, Any]:
        """The share of captions with each signature, in percent, and what was found in each by its file name."""
        captions = {name: [signature.text for signature in found] for name, found in self._found.items()}
        return summary(list(self._found.values())) | {"photographs": len(self._found), "captions": captions}


def summary(found: Sequence[Sequence[Signature]]) -> dict[str, float]:
    """The share of captions with each signature, in percent; empty without captions. ``found``: one entry a caption."""
    names = [{signature.name for signature in caption} for caption in found]
    return {name: 100 * sum(name in caption for caption in names) / len(names) for name in NAMES if names}


def language_share(word: ExplainedWord) -> float:
    """How much of all that made or lowered a word's logit is the language state's, 0..1."""
    parts = abs(word.bias) + abs(word.language_logit) + float(np.abs(word.region_logits).sum())
    return abs(word.language_logit) / parts if parts else 0.0


def _evidence(word: ExplainedWord) -> float:
    """The sum of what regions add to a word's logit, those that speak against it left out."""
    return float(np.maximum(word.region_logits, 0).sum())


def _no_region(words: Sequence[ExplainedWord], position: int) -> Signature:
    word = words[position]
    text = f"No region speaks for “{word.text}”: its map means nothing."
    return Signature(NO_REGION, (position,), _evidence(word), text)


def _misaligned(
    words: Sequence[ExplainedWord], shown: Sequence[int], occlusions: Sequence[Occlusion], thresholds: Thresholds
) -> list[Signature]:
    found = []
    for position in shown:
        word, occlusion = words[position], occlusions[position]
        effect = 100 * (occlusion.random - occlusion.hidden)
        if (
            _concentration(word.region_map) > thresholds.concentration
            and effect < thresholds.least_effect * occlusion.whole
        ):
            whole, hidden, random = (
                f"{100 * probability:.0f} %" for probability in (occlusion.whole, occlusion.hidden, occlusion.random)
            )
            text = (
                f"The map of “{word.text}” points at few regions, but blurring them takes its probability from "
                f"{whole} to {hidden}, blurring random ones to {random}."
            )
            found.append(Signature(MISALIGNED, (position,), effect, text))
    return found


def _concentration(region_map: np.ndarray) -> float:
    """The mass of the strongest fifth of the regions, in percent."""
    strongest = np.sort(region_map, axis=None)[::-1][: max(1, round(region_map.size / 5))]
    return 100 * float(strongest.sum())


def _identical(words: Sequence[ExplainedWord], shown: Sequence[int], thresholds: Thresholds) -> list[Signature]:
    found = []
    named = [position for position in things([word.text for word in words]) if position in shown]
    for pair in combinations(named, 2):
        one, other = (words[position] for position in pair)
        shared = float(overlap(one.region_map.ravel(), other.region_map.ravel()))
        if one.text != other.text and shared > thresholds.shared_mass:
            text = f"“{one.text}” and “{other.text}” point at the same regions: {shared:.0f} % of their maps."
            found.append(Signature(IDENTICAL, pair, shared, text))
    return found


def _drift(words: Sequence[ExplainedWord], content: Sequence[int], thresholds: Thresholds) -> list[Signature]:
    texts = [words[position].text for position in content]
    again = [position for index, position in enumerate(content) if texts[index] in texts[:index]]
    if not again:
        return []
    half = len(content) // 2
    shares = [100 * language_share(words[position]) for position in content]
    before, after = float(np.mean(shares[:half])), float(np.mean(shares[half:]))
    late = [position for position in again if position in content[half:] and not is_attribute(words[position].text)]
    if late and after - before > thresholds.language_rise:
        text = (
            f"The later words lean more on the sentence ({after:.0f} % of their scores, {before:.0f} % before) "
            f"and repeat {_listed(words, late)}."
        )
        return [Signature(DRIFT, tuple(late), after - before, text)]
    if _goes_in_circles(texts):
        text = f"The caption goes round in circles: it repeats {_listed(words, again)}."
        return [Signature(DRIFT, tuple(again), after - before, text)]
    return []


def _goes_in_circles(texts: Sequence[str]) -> bool:
    """Whether two content words follow each other twice, or one stands three times; so do 1 % of people's captions."""
    pairs = list(pairwise(texts))
    return len(set(pairs)) < len(pairs) or any(texts.count(text) > 2 for text in texts)


def _listed(words: Sequence[ExplainedWord], positions: Sequence[int]) -> str:
    *others, last = dict.fromkeys(f"“{words[position].text}”" for position in positions)
    return f"{', '.join(others)} and {last}" if others else last
