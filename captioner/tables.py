"""Tables of captions, as those of Conceptual Captions (Sharma et al. 2018): a line is ``caption<TAB>file``.

Files lie under ``images``; several lines may caption one of them. The split is a table's name: ``train.tsv`` holds
``train``. Conceptual Captions is published with addresses instead of files. Addresses are never fetched: download what
they name, and put the names of the files in their place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from captioner.data import CaptionedPhotograph, LeftOut, described, usable

TABLES = "*.tsv"
_ADDRESS = re.compile(r"[a-z]+://", re.IGNORECASE)


def read_tables(folder: Path | str) -> list[CaptionedPhotograph]:
    """Read the photographs of every table in ``folder``, in the order of their first lines.

    What cannot be used is left out. Raises ``DataError`` where that is everything.
    """
    folder = Path(folder)
    left_out = LeftOut(folder)
    expected = (
        "tables such as train.tsv with a caption, a tab and the name of a file in images/ (no web address) a line"
    )
    return usable(_described(folder, left_out), left_out, expected)


def _described(folder: Path, left_out: LeftOut) -> Iterator[CaptionedPhotograph]:
    for table in sorted(folder.glob(TABLES)):
        captions: dict[str, list[str]] = {}
        for caption, name in _rows(table, left_out):
            captions.setdefault(name, []).append(caption)
        for name, own in captions.items():
            yield described(folder / "images" / name, table.stem, own, left_out)


def _rows(table: Path, left_out: LeftOut) -> Iterator[tuple[str, str]]:
    with table.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                caption, name = line.decode("utf-8").rstrip("\r\n").split("\t")
            except ValueError:  # other columns, or no UTF-8
                left_out.add("broken lines", f"{table.name}:{number}")
                continue
            if not name:
                left_out.add("broken lines", f"{table.name}:{number}")
            elif _ADDRESS.match(name):
                left_out.add("web addresses, which are never fetched", f"{table.name}:{number}")
            else:
                yield caption, name
