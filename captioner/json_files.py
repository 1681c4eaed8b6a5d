"""JSON as this program writes it for people and for other programs to read, and files to write to."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def write_json(file: Path, values: Any) -> None:
    """Write plain values to a file, whose folder is made where it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values, indent=1) + "\n")


def output_file(name: str) -> Path:
    """The ``type`` of a flag that names a file to write: one that cannot be written is refused before the work.

    Its folder is made where it is missing. Raises ``argparse.ArgumentTypeError``, which argparse tells with status 2.
    """
    file = Path(name)
    existed = file.exists()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.open("a").close()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{file} cannot be written ({error.strerror}). Name another file.") from error
    if not existed:
        file.unlink()
    return file
