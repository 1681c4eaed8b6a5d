"""Pushing a model to the Hub: ``python -m captioner push FOLDER user/model``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalTokenNotFoundError

from captioner.fetching import ANSWER_SECONDS, NO_HUB
from captioner.hub import BUNDLED, is_hub_id
from captioner.predictor import load
from captioner.waiting import within_bounds

# What the client raises where the Hub, or the way to it, fails: RuntimeError around what an upload met, and the last
# where something else answers.
FAILURES = (OSError, HTTPError, RuntimeError, json.JSONDecodeError)


class PublishingError(ValueError):
    """The Hub does not take something; the message says why."""


def require_login(repo: str) -> None:
    """See before long work that something can be pushed to ``repo`` after it.

    Raises ``PublishingError`` for a name that is no Hub id, without a token that the Hub knows, and where there is no
    answer in ``ANSWER_SECONDS``.
    """
    if not is_hub_id(repo):
        raise PublishingError(f"{repo} is no Hub id like user/name.")
    try:
        with within_bounds(ANSWER_SECONDS):
            HfApi().whoami()
    except FAILURES as error:
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
    model = load(folder, device="cpu")
    try:
        return model.push_to_hub(
            repo,
            private=private,
            commit_message="Model and card of an explainable captioner",
            model_card_kwargs={"results": results},
        )
    except FAILURES as error:
        raise PublishingError(
            f"{repo} could not be pushed: {said(error)} "
            f"The model is still in {folder}; `python -m captioner push {folder} {repo}` tries again."
        ) from error


def said(error: BaseException) -> str:
    """What an error of the Hub, or of the way to it, says: a sentence on one line."""
    if isinstance(error, RuntimeError) and error.__cause__:
        return said(error.__cause__)
    if isinstance(error, HfHubHTTPError):
        text = f"It answers with status {error.response.status_code}: {error.server_message or 'no reason given'}"
    elif isinstance(error, NO_HUB):
        text = "Something else answers in its place"
    else:
        text = str(error) or type(error).__name__
        text = "It gave no answer in time" if text == "timed out" else text
    return " ".join(text.split()).removesuffix(".") + "."


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
