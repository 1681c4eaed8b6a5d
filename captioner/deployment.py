"""The app as a Hugging Face Space: ``python -m captioner deploy user/space [--model user/model] [--dry-run]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, SpaceCard, SpaceCardData, metadata_load

from captioner.fetching import HubFailure, NotOnHub, look
from captioner.hub import CONFIG_FILE, MODEL_FILES, WEIGHTS_FILE, ModelError, is_hub_id, split_hub_id
from captioner.publishing import FAILURES, PublishingError, require_login, said
from captioner.waiting import within_bounds

ROOT = Path(__file__).resolve().parents[1]
README, MODEL_VARIABLE = "README.md", "CAPTIONER_MODEL"
# All that the app needs to run. The bundled model goes along with any other: it is used when the Hub fails.
NEEDED = (
    "app.py",
    "requirements.txt",
    "LICENSE.md",
    "captioner/**/*.py",
    "captioner/**/*.yaml",
    "assets/*.css",
    "assets/*.js",
    "assets/examples/*",
    f"assets/model/{CONFIG_FILE}",
    f"assets/model/{WEIGHTS_FILE}",
)
_OWN = ("captioner/", "assets/")  # folders of a Space that hold nothing else


def needed_files(root: Path = ROOT) -> dict[str, Path]:
    """What a Space needs besides its README: names in the repository, with the files, in order."""
    found = {path.relative_to(root).as_posix(): path for pattern in NEEDED for path in root.glob(pattern)}
    return {name: path for name, path in sorted(found.items()) if path.is_file() and "/." not in name}


def space_card(model: str | None = None, *, root: Path = ROOT) -> SpaceCard:
    """The README of a Space that shows ``model``: the front matter of this program's README, and where it is from.

    Raises ``PublishingError`` where there is no README.
    """
    try:
        metadata = metadata_load(root / README) or {}
    except FileNotFoundError as error:
        raise PublishingError(f"{root} holds no {README}: deploy from a whole copy of the program.") from error
    if model:
        repo, revision = split_hub_id(model)
        metadata["models"] = [repo]
        metadata["preload_from_hub"] = [" ".join(filter(None, [repo, f"{CONFIG_FILE},{WEIGHTS_FILE}", revision]))]
    shown = f"It shows the model `{model}`." if model else "It shows the model under `assets/model`."
    text = f"# {metadata.get('title', 'Explainable captions')}\n\n{metadata.get('short_description', '')}.\n\n{shown}\n"
    return SpaceCard(f"---\n{SpaceCardData(**metadata).to_yaml()}\n---\n\n{text}")


def deploy(space: str, *, model: str | None = None, private: bool | None = None, root: Path = ROOT) -> str:
    """Create or update a Gradio Space with the app; returns its address.

    ``model`` is a Hub id for the app to show, None for the bundled model. Files of an earlier deployment that are gone
    here are deleted there. ``private``: None leaves a Space as it is, and a new one to the Hub's default. What a Space
    needs for a private or gated model is said on stderr.

    Raises ``PublishingError``, before anything is made where there is no such model.
    """
    _check(space, model)
    card, files = space_card(model, root=root), needed_files(root)
    require_login(space)
    if model:
        _look_for(model)
    api, target = HfApi(), {"repo_id": space, "repo_type": "space"}
    try:
        with within_bounds():
            url = api.create_repo(**target, space_sdk="gradio", private=private, exist_ok=True)
            # Before the files, whose arrival starts the app.
            if model:
                api.add_space_variable(space, MODEL_VARIABLE, model, description="Hub id of the model that is shown")
            elif MODEL_VARIABLE in api.get_space_variables(space):
                api.delete_space_variable(space, MODEL_VARIABLE)
            gone = [name for name in api.list_repo_files(**target) if name.startswith(_OWN) and name not in files]
            api.create_commit(
                **target,
                operations=[
                    CommitOperationAdd(README, str(card).encode()),
                    *(CommitOperationAdd(name, path) for name, path in files.items()),
                    *(CommitOperationDelete(name) for name in gone),
                ],
                commit_message="The explainable captioner",
            )
    except FAILURES as error:
        raise PublishingError(f"{space} could not be deployed: {said(error)}") from error
    return str(url)


def _look_for(model: str) -> None:
    """See that a Space can load a model, and say what it needs for one that is not for everybody."""
    repo, revision = split_hub_id(model)
    try:
        found = look(repo, revision, MODEL_FILES)
    except NotOnHub as error:
        raise PublishingError(str(error)) from error
    except HubFailure as error:
        raise PublishingError(f"The Hub cannot be used ({error}).") from error
    if found.private or found.gated:
        kind = "private" if found.private else "gated"
        print(f"{repo} is {kind}: give the Space a secret HF_TOKEN, a token that may read it.", file=sys.stderr)


def listing(space: str, *, model: str | None = None, root: Path = ROOT) -> str:
    """What ``deploy`` would upload, a line a file with its size in bytes, and the sum.

    Raises ``PublishingError`` for a name that is no Hub id, and without a README.
    """
    _check(space, model)
    sizes = {README: len(str(space_card(model, root=root)).encode())}
    sizes |= {name: path.stat().st_size for name, path in needed_files(root).items()}
    lines = [f"{size:>12,}  {name}" for name, size in sizes.items()]
    shown = f"{MODEL_VARIABLE}={model}" if model else "the bundled model"
    return "\n".join([*lines, f"{len(sizes)} files, {sum(sizes.values()) / 1e6:.1f} MB, to {space} with {shown}"])


def _check(space: str, model: str | None) -> None:
    if not is_hub_id(space):
        raise PublishingError(f"{space} is no Hub id like user/name.")
    if model is not None:
        try:
            split_hub_id(model)
        except ModelError as error:
            raise PublishingError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m captioner deploy", description="Create or update a Hugging Face Space with the app."
    )
    parser.add_argument("space", metavar="user/space", help="what the Space is to be called; made where it is missing")
    parser.add_argument(
        "--model",
        metavar="user/model",
        help="model on the Hub, user/model@revision to pin it (default: bundled)",
    )
    parser.add_argument("--private", action="store_true", default=None, help="make a new Space private")
    parser.add_argument("--dry-run", action="store_true", help="upload nothing; list the files and their sizes")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        if arguments.dry_run:
            print(listing(arguments.space, model=arguments.model))
        else:
            print(deploy(arguments.space, model=arguments.model, private=arguments.private))
    except PublishingError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0
