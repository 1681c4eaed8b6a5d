"""What a person takes away: an explained caption as a file, and rows as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np

from captioner.explanation import ExplainedCaption
from captioner.rendering import animation, blur_regions, drawn_bytes, figure, fit
from captioner.report import report

MEDIA_TYPES = {
    "json": "application/json",
    "report": "text/html",
    "png": "image/png",
    "pdf": "application/pdf",
    "gif": "image/gif",
    "zip": "application/zip",  # all the others
}
_LONGEST_STEM = 60  # characters; in any script fewer bytes than file systems allow


@dataclass(frozen=True)
class Exported:
    """A file, ready to be saved."""

    name: str
    data: bytes
    media_type: str


def export(
    explained: ExplainedCaption,
    kind: str,
    *,
    colour_map: str = "viridis",
    findings: Mapping[str, Any] | None = None,
    hidden: np.ndarray | None = None,
) -> Exported:
    """An explained caption as a file named after it; ``kind`` is one of ``MEDIA_TYPES``.

    ``findings`` of testing it, see ``captioner.explorer.findings``, go into the report. ``hidden`` (H, W), bool, are
    the regions that were blurred before it was captioned; the photograph shows them so.

    Raises ``ValueError`` for an unknown kind or colour map, and without a photograph for all kinds but JSON.
    """
    if kind not in MEDIA_TYPES:
        raise ValueError(f"There is no export {kind!r}; choose one of {', '.join(MEDIA_TYPES)}.")
    if kind == "json":
        data = explained.to_json().encode()
    elif kind == "report":
        data = report(explained, findings=findings, hidden=hidden).encode()
    elif kind == "zip":
        each = {"colour_map": colour_map, "findings": findings, "hidden": hidden}
        data = _zipped([export(explained, other, **each) for other in MEDIA_TYPES if other != "zip"])
    else:
        data = _picture(_as_captioned(explained, hidden), kind, colour_map)
    suffix = "html" if kind == "report" else kind
    return Exported(f"{file_stem(explained.text) or 'caption'}.{suffix}", data, MEDIA_TYPES[kind])


def _zipped(files: Sequence[Exported]) -> bytes:
    packed = io.BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        for file in files:
            archive.writestr(file.name, file.data)
    return packed.getvalue()


def file_stem(text: str) -> str:
    """A text as the safe beginning of a file name: letters, digits, hyphens and underscores; empty without any."""
    stem = re.sub(r"[^\w-]+", "-", unicodedata.normalize("NFKC", text))
    return stem.strip("-_")[:_LONGEST_STEM].rstrip("-_")


def spreadsheet(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as CSV that spreadsheets read: UTF-8 with a mark that says so, and no text runs as a formula."""
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, columns)
    writer.writeheader()
    writer.writerows({column: _cell(row[column]) for column in columns} for row in rows)
    return file.getvalue().encode("utf-8-sig")


def _cell(value: Any) -> Any:
    """A value that a spreadsheet takes for no formula; one that begins like it gets an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.lstrip().startswith(tuple("=+-@＝＋－＠")) else value


def _as_captioned(explained: ExplainedCaption, hidden: np.ndarray | None) -> ExplainedCaption:
    if hidden is None or explained.photograph is None:
        return explained
    return replace(explained, photograph=blur_regions(fit(explained.photograph), hidden))


def _picture(explained: ExplainedCaption, kind: str, colour_map: str) -> bytes:
    if kind == "gif":
        return animation(explained, colour_map=colour_map)
    return drawn_bytes(lambda: figure(explained, colour_map=colour_map), kind)
