"""Pushing a model to the Hub: ``python -m captioner push FOLDER user/model``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError

from captioner.hub import BUNDLED, is_hub_id
from captioner.predictor import load


class PublishingError(ValueError):
    """The Hub does not take something; the message says why."""


def require_login(repo: str) -> None:
    """See before long work that something can be pushed to ``repo`` after it.

    Raises ``PublishingError`` for a name that is no Hub id, and without a token that the Hub knows.
    """
    if not is_hub_id(repo):
        raise PublishingError(f"{repo} is no Hub id like user/name.")
    try:
        HfApi().whoami()
    except (OSError, HTTPError) as error:
        refused = isinstance(error, HfHubHTTPError) and error.response.status_code == 401
        if refused or isinstance(error, LocalTokenNotFoundError):
            raise PublishingError("The Hub has to know you: log in with `hf auth login`, or set HF_TOKEN.") from error
        raise PublishingError(f"The Hub cannot be used: {said(error)}") from error


def push(folder: Path, repo: str, *, results: Path | None = None, private: bool | None = None) -> str:
    """Push the model in a folder with its card to the Hub; returns the commit's address.

    ``results``: as for the card; None for those in the folder ``results`` beside the model, or of the bundled model,
    if there are any. ``private``: None leaves a repository as it is, and a new one to the Hub's default.

    Raises ``ModelError``, ``CardError``, ``ReadmeError`` and ``PublishingError``.
    """
    if not folder.is_dir():
        raise PublishingError(f"There is no folder {folder}.")
    usual = folder.parent / "results" if folder.resolve() == BUNDLED else folder / "results"
    results = results or (usual if usual.is_dir() else None)
    require_login(repo)
    try:
        return load(folder, device="cpu").push_to_hub(
            repo,
            private=private,
            commit_message="Model and card of an explainable captioner",
            model_card_kwargs={"results": results},
        )
    except (OSError, HTTPError) as error:
        raise PublishingError(
            f"{repo} could not be pushed: {said(error)} "
            f"The model is still in {folder}; `python -m captioner push {folder} {repo}` tries again."
        ) from error


def said(error: Exception) -> str:
    """What an error of the Hub says, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m captioner push", description="Push a trained model with its card to the Hugging Face Hub."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the model: what train.py wrote to --output")
    parser.add_argument("repo", metavar="user/model", help="what it is to be called; made where it is missing")
    parser.add_argument(
        "--results",
        type=Path,
        metavar="FOLDER",
        help="val.json and val-faithfulness.json of evaluate.py, for the card (default: results in the model's folder)",
    )
    parser.add_argument("--private", action="store_true", default=None, help="make a new repository private")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        print(push(arguments.folder, arguments.repo, results=arguments.results, private=arguments.private))
    except ValueError as error:  # of the model, of its results or of the Hub
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0
