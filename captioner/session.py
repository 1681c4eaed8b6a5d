"""A session: one photograph, and the captions a person has asked of it so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from secrets import token_hex

import numpy as np
from PIL import Image

from captioner.explanation import ExplainedCaption
from captioner.occlusion import Occlusion
from captioner.photographs import PhotographSource, open_photograph
from captioner.predictor import Captioner
from captioner.rendering import fit
from captioner.signatures import Signature, signatures

MAX_VERSIONS = 20


class SessionError(ValueError):
    """Something that cannot be asked of this session; the message says why and what to do."""


@dataclass
class Version:
    """One caption of the photograph, and what testing it found once it was tested."""

    explained: ExplainedCaption
    label: str  # how it came about, for the person who asked for it
    hidden: np.ndarray | None = None  # (H, W), bool: regions that were blurred
    tested: tuple[tuple[Occlusion, ...], tuple[Signature, ...]] | None = None


@dataclass
class Session:
    """What is kept of one person's photograph, some 2 MB. Versions are only ever added."""

    model: Captioner
    seen: Image.Image  # as large as the model sees it, so that asking again gives the same numbers
    versions: list[Version]
    name: str = field(default_factory=lambda: token_hex(8))  # tells late answers which photograph they are of

    @classmethod
    def begin(
        cls, model: Captioner, source: PhotographSource, *, beam_size: int = 3, prefix: str | None = None
    ) -> Session:
        """Caption a photograph. Raises what ``Captioner.explain`` raises."""
        photograph = open_photograph(source)
        seen = model.model.config.preprocessing.squash(photograph)
        explained = model.explain(seen, beam_size=beam_size, prefix=prefix)
        return cls(model, seen, [Version(replace(explained, photograph=fit(photograph)), "first caption")])

    def choose(self, version: int, position: int, word: str) -> int:
        """Caption again with another word at a position of a version, and the words before it kept.

        Returns the new version's number. Raises ``SessionError`` and ``PrefixError``.
        """
        old = self._version(version)
        words = [word.text for word in old.explained.words]
        if not 0 <= position < len(words):
            raise SessionError("This caption has no such word.")
        return self._add(old, [*words[:position], word], old.hidden, f"“{word}” chosen")

    def erase(self, version: int, regions: Sequence[int]) -> tuple[int, list[float]]:
        """Caption again with regions, numbered row by row, blurred, besides those that are in this version.

        Returns the new version's number, and the probability that each word of the old caption then has.
        Raises ``SessionError``.
        """
        old = self._version(version)
        grid = old.explained.grid
        if not regions or not all(0 <= region < grid[0] * grid[1] for region in regions):
            raise SessionError("Brush over the part of the photograph to erase first.")
        hidden = np.zeros(grid, dtype=bool) if old.hidden is None else old.hidden.copy()
        hidden.flat[list(regions)] = True
        number = self._add(old, [], hidden, f"{hidden.sum()} of {hidden.size} regions erased")
        again = self.model.explain_caption(self.seen, [word.text for word in old.explained.words], hidden=hidden)
        return number, [word.probability for word in again.words]

    def test(self, version: int) -> Version:
        """Test a version's words by occlusion, once. Raises ``SessionError``."""
        tested = self._version(version)
        if tested.tested is None:
            seen = replace(tested.explained, photograph=self.seen)
            occlusions = self.model.occlusions(seen, hidden=tested.hidden)
            tested.tested = (occlusions, signatures(tested.explained, occlusions))
        return tested

    def _version(self, number: int) -> Version:
        if not 0 <= number < len(self.versions):
            raise SessionError("This caption is no longer here. Upload the photograph again.")
        return self.versions[number]

    def _add(self, old: Version, prefix: list[str], hidden: np.ndarray | None, label: str) -> int:
        if len(self.versions) >= MAX_VERSIONS:
            raise SessionError(f"There are {MAX_VERSIONS} captions already. Upload the photograph again to begin anew.")
        explained = self.model.explain(self.seen, prefix=prefix, hidden=hidden)
        self.versions.append(Version(replace(explained, photograph=old.explained.photograph), label, hidden))
        return len(self.versions) - 1
