"""Provenance: what a result was made with, so that it can be made again."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
import subprocess
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from captioner import java_metrics
from captioner.hub import CONFIG_FILE, WEIGHTS_FILE

ROOT = Path(__file__).resolve().parents[1]


def provenance(
    argv: Sequence[str],
    settings: Mapping[str, Any],
    model_folder: Path | None = None,
    *,
    metrics: Collection[str] = (),
) -> dict[str, Any]:
    """What a file of results says of its run, under the key ``run``; plain values for JSON.

    ``argv``: all that Python was called with, a script or ``-m`` and a module first. ``command`` is made of it;
    ``commit``, of this program, ends in ``-dirty`` where files differ from it, and is left out where there is no git
    checkout; ``model`` are the SHA-256 hashes of the files in ``model_folder``, left out for a run without a model;
    ``config`` is the ``config_hash`` of the ``settings``, to which a model adds the hash of its own under ``model``;
    ``versions`` are those of Python and of what decides about numbers, with Java's where it is asked for among the
    ``metrics``.

    Raises ``OSError`` where the folder holds no model.
    """
    found: dict[str, Any] = {"command": shlex.join(["python", *argv])}
    if commit := _commit():
        found["commit"] = commit
    if model_folder is not None:
        found["model"] = model_hashes(model_folder)
        settings = {**settings, "model": found["model"][CONFIG_FILE]}
    versions = {"python": platform.python_version()}
    versions |= {name: version(name) for name in ("torch", "torchvision", "numpy")}
    if java_metrics.JAVA_METRICS.keys() & set(metrics):
        versions |= java_metrics.versions()
    return found | {"config": config_hash(settings), "versions": versions}


def model_hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 hashes of a model's files by their names. Raises ``OSError`` where the folder holds no model."""
    return {file: hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in (CONFIG_FILE, WEIGHTS_FILE)}


def config_hash(settings: Mapping[str, Any]) -> str:
    """The SHA-256 of settings as JSON in one form, keys sorted and no spaces: equal settings have equal hashes."""
    canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _commit() -> str | None:
    if not (ROOT / ".git").exists():  # what git would find further up is of another program
        return None
    describe = "git --no-optional-locks describe --always --abbrev=40 --dirty --exclude=*".split()
    try:
        return subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
