"""JSON as this program writes it for people and for other programs to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_json(file: Path, values: Any) -> None:
    """Write plain values to a file, whose folder is made where it is missing."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values, indent=1) + "\n")
