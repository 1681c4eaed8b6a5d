"""Provenance: what a result was made with, so that it can be made again."""

from __future__ import annotations

import hashlib
import platform
import shlex
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from captioner.hub import CONFIG_FILE, WEIGHTS_FILE

ROOT = Path(__file__).resolve().parents[1]


def provenance(argv: Sequence[str], model_folder: Path | None = None) -> dict[str, Any]:
    """What a file of results says of its run, under the key ``run``; plain values for JSON.

    ``argv``: all that Python was called with, a script or ``-m`` and a module first. ``command`` is made of it;
    ``commit``, of this program, ends in ``-dirty`` where files differ from it, and is left out where there is no git
    checkout; ``model`` are the SHA-256 hashes of the files in ``model_folder``, left out for a run without a model;
    ``versions`` are those of Python and of what decides about numbers.

    Raises ``OSError`` where the folder holds no model.
    """
    found: dict[str, Any] = {"command": shlex.join(["python", *argv])}
    if commit := _commit():
        found["commit"] = commit
    if model_folder is not None:
        files = (CONFIG_FILE, WEIGHTS_FILE)
        found["model"] = {file: hashlib.sha256((model_folder / file).read_bytes()).hexdigest() for file in files}
    packages = {name: version(name) for name in ("torch", "torchvision", "numpy")}
    return found | {"versions": {"python": platform.python_version(), **packages}}


def _commit() -> str | None:
    if not (ROOT / ".git").exists():  # what git would find further up is of another program
        return None
    describe = "git --no-optional-locks describe --always --abbrev=40 --dirty --exclude=*".split()
    try:
        return subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
