"""Many photographs: captioned one after the other, their reports in one ZIP."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

from captioner.explanation import ExplainedCaption
from captioner.exports import file_stem, spreadsheet
from captioner.familiarity import UNFAMILIAR
from captioner.photographs import PhotographError
from captioner.predictor import Captioner
from captioner.rendering import fit
from captioner.report import report

COLUMNS = ("photograph", "caption", "confidence", "familiarity", "unfamiliar", "error", "model", "report")


@dataclass(frozen=True, eq=False)
class Captioned:
    """One photograph of many: its explained caption, or the sentence that says why it has none."""

    name: str  # of the file
    explained: ExplainedCaption | None = None
    error: str | None = None

    @property
    def caption(self) -> str | None:
        return self.explained and self.explained.text

    @property
    def confidence(self) -> float | None:
        """The geometric mean, 0..1, of the probabilities of the caption's words and of its end."""
        return self.explained and math.exp(self.explained.log_probability / (len(self.explained.words) + 1))

    @property
    def familiarity(self) -> float | None:
        """The share of the photographs the model was tested on that are at most as familiar, 0..1, where known."""
        return self.explained and self.explained.familiarity

    @property
    def unfamiliar(self) -> bool:
        """Whether the photograph is unlike those that the model learnt from."""
        return self.familiarity is not None and self.familiarity < UNFAMILIAR


def caption_all(captioner: Captioner, paths: Iterable[Path | str], *, beam_size: int = 3) -> Iterator[Captioned]:
    """Caption photographs one after the other, each when it is asked for; one that fails does not stop the rest.

    Photographs are kept at the size they are shown in.
    """
    for path in map(Path, paths):
        yield _caption(captioner, path, beam_size)


def _caption(captioner: Captioner, path: Path, beam_size: int) -> Captioned:
    try:
        explained = captioner.explain(path, beam_size=beam_size)
    except PhotographError as error:
        return Captioned(path.name, error=str(error))
    except Exception:
        logging.getLogger(__name__).exception("captioning %s failed", path.name)
        return Captioned(path.name, error="Something went wrong with this photograph. Try it again on its own.")
    return Captioned(path.name, replace(explained, photograph=fit(explained.photograph)))


class Archive:
    """A ZIP of reports, and of ``captions.csv`` and ``captions.json`` about all of them; use it in ``with``.

    Reports are written as they come; none is kept in memory.
    """

    def __init__(self, file: Path):
        self._zip = ZipFile(file, "w", ZIP_DEFLATED)
        self._rows: list[dict[str, Any]] = []
        self._names: set[str] = set()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if failure is None:
            self._zip.writestr("captions.csv", spreadsheet(COLUMNS, self._rows))
            self._zip.writestr("captions.json", json.dumps(self._rows, indent=1, ensure_ascii=False) + "\n")
        self._zip.close()

    def add(self, captioned: Captioned) -> None:
        """Write the report of a photograph; one that has no caption is in the lists alone."""
        name = None
        if captioned.explained is not None:
            name = f"reports/{self._unused(file_stem(Path(captioned.name).stem) or 'photograph')}.html"
            self._zip.writestr(name, report(captioned.explained))
        self._rows.append(
            {
                "photograph": captioned.name,
                "caption": captioned.caption,
                "confidence": captioned.confidence,
                "familiarity": captioned.familiarity,
                "unfamiliar": captioned.explained and captioned.unfamiliar,
                "error": captioned.error,
                "model": captioned.explained and captioned.explained.model,
                "report": name,
            }
        )

    def _unused(self, stem: str) -> str:
        """A stem that no report has yet; file systems may take upper and lower case for the same."""
        name, number = stem, 1
        while name.casefold() in self._names:
            number += 1
            name = f"{stem}-{number}"
        self._names.add(name.casefold())
        return name
