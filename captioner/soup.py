"""Model soups: one model whose weights are the mean of several (Wortsman et al. 2022, arXiv 2203.05482).

``python -m captioner.soup MODEL MODEL ... --data FOLDER --output FOLDER``. The mean of networks is a network of any use
only where they went on from the same one, as runs of ``train.py --start-from`` with different seeds do; that one itself
may be among them. It costs no more than one of them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from captioner.data import DataError, of_split
from captioner.datasets import read_data
from captioner.features import cached_features
from captioner.finished import name_of
from captioner.generation import GenerationConfig
from captioner.hub import ModelError, SavedModel, load_model, save_model
from captioner.readability import readable
from captioner.training import Validation

# What a model says of itself that is not true of the mean of several.
_OWN = ("scores", "chosen", "recipe", "training")


@torch.no_grad()
def soup(folders: Sequence[Path]) -> SavedModel:
    """The mean of the models in ``folders``, not calibrated; its ``about`` names them and how they were trained.

    One of them may be such a mean itself; it then counts as one model. What the others went on from may be among them.

    Raises ``ModelError`` for a folder without a model, ``ValueError`` for fewer than two, or for models that differ in
    their words, their form or what they started from.
    """
    if len(folders) < 2:
        raise ValueError("A soup is made of two models or more.")
    first, *others = ingredients = [load_model(folder) for folder in folders]
    for folder, other in zip(folders[1:], others):
        if other.vocabulary.words != first.vocabulary.words or other.model.config != first.model.config:
            raise ValueError(f"{folder} has other words or another form than {folders[0]}.")
    names = [name_of(folder) for folder in folders]
    start = _start(names, ingredients)
    parameters = [dict(ingredient.model.named_parameters()) for ingredient in ingredients]
    for name, mean in parameters[0].items():
        # In float64, so that what is the same in all stays the same, and with it the cached features of the encoder.
        mean.copy_(torch.stack([own[name].double() for own in parameters]).mean(0))
    first.model.decoder.head.temperature.fill_(1)
    about = {key: value for key, value in first.about.items() if key not in _OWN}
    made = ("recipe", "training", "mean of")
    of = [
        {"name": name} | {key: one.about[key] for key in made if key in one.about and name != start["name"]}
        for name, one in zip(names, ingredients)
    ]
    return SavedModel(first.model, first.vocabulary, about | {"start": start, "mean of": of})


def _start(names: Sequence[str], ingredients: Sequence[SavedModel]) -> dict[str, Any]:
    """The model that all of them say they went on from, or are."""
    starts = [ingredient.about.get("start") for ingredient in ingredients]
    for start in filter(None, starts):
        if all(own == start or name == start["name"] for name, own in zip(names, starts)):
            return start
    raise ValueError(f"{' and '.join(names)} did not go on from the same model: give runs of --start-from.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m captioner.soup", description="Average models that went on from the same one, into one model."
    )
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="their folders")
    parser.add_argument("--data", type=Path, required=True, help="the data, on whose val split the mean is scored")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder for the mean of them")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="folder for encoder features")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        mixed = soup(arguments.models)
        model = mixed.model.to("cuda" if torch.cuda.is_available() else "cpu")
        records = readable(of_split(read_data(arguments.data), "val"), arguments.cache)
        paths, preprocessing = [record.path for record in records], model.config.preprocessing
        features = cached_features(paths, model.encoder, preprocessing, arguments.cache, label="val")
        generation = GenerationConfig()
        scores = Validation(records, mixed.vocabulary, features).scores(model, generation)
        rounded = {name: round(score, 2) for name, score in scores.items()}
        mixed.about["scores"] = {"split": "val", "beam": generation.beam_size} | rounded
        save_model(arguments.output, mixed)
    except (DataError, ModelError, OSError, ValueError) as error:
        print(f"captioner.soup: {error}", file=sys.stderr)
        return 2
    print(json.dumps(mixed.about["scores"]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
