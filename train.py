"""Train a captioner: ``python train.py --data FOLDER --encoder-weights FILE --output runs/name``."""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch

from captioner import distributed
from captioner.data import DataError
from captioner.decoder import DecoderConfig
from captioner.encoder import EncoderConfig
from captioner.model import ModelConfig
from captioner.photographs import Preprocessing
from captioner.progress import Progress
from captioner.publishing import push, require_login
from captioner.recipes import read_recipe, recipe_names
from captioner.shards import on_disk, shards_of
from captioner.training import train
from captioner.training_config import TrainingConfig


def _add_flags(parser: argparse.ArgumentParser, title: str, config: type, prefix: str = "") -> None:
    """A flag for every field of a config dataclass, with its help and type; one that is not given leaves no trace."""
    group, hints = parser.add_argument_group(title), get_type_hints(config)
    for field in fields(config):
        if "help" not in field.metadata:
            continue
        kind, flag = hints[field.name], f"--{prefix}{field.name}".replace("_", "-")
        options: dict[str, Any] = {"default": argparse.SUPPRESS, "dest": f"{config.__name__}.{field.name}"}
        if kind is bool:
            options["action"] = argparse.BooleanOptionalAction
        elif get_origin(kind) is Literal:
            options |= {"choices": get_args(kind), "type": type(field.default)}
        else:
            options |= {"type": kind, "metavar": kind.__name__.upper()}
        group.add_argument(flag, help=f"{field.metadata['help']} (default: {field.default})", **options)


def _settings(arguments: argparse.Namespace, recipe: dict[str, Any], config: type) -> Any:
    """A config dataclass from a recipe and the flags that were given, which win."""
    start = f"{config.__name__}."
    given = {key.removeprefix(start): value for key, value in vars(arguments).items() if key.startswith(start)}
    return config(**recipe | given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Train a captioner on photographs with captions.")
    run = parser.add_argument_group("run")
    run.add_argument(
        "--data", type=Path, required=True, help="folder of photographs with captions: the README names the layouts"
    )
    run.add_argument(
        "--train-splits", nargs="+", default=["train"], metavar="SPLIT", help="learnt from, as train restval of COCO"
    )
    run.add_argument("--val-split", default="val", metavar="SPLIT", help="chosen by; never a test split")
    run.add_argument(
        "--encoder-weights", required=True, help="ImageNet weights: a safetensors file, or 'torchvision' to download"
    )
    run.add_argument(
        "--recipe",
        default="bundled",
        help=f"settings where no flag is given: {', '.join(recipe_names())}, or a YAML file (default: %(default)s)",
    )
    run.add_argument("--text", type=Path, help="sentences, one a line, that the decoder learns first")
    run.add_argument(
        "--start-from", type=Path, metavar="FOLDER", help="a trained model to go on from, of the same data and sizes"
    )
    run.add_argument(
        "--teachers", type=Path, nargs="+", default=[], metavar="FOLDER", help="trained models to learn words from"
    )
    run.add_argument("--output", type=Path, required=True, help="folder for the model, the log and the checkpoint")
    run.add_argument("--resume", action="store_true", help="continue the run in --output")
    run.add_argument("--cache", type=Path, default=Path("runs/cache"), help="folder for encoder features")
    run.add_argument("--device", default=None, help="cpu or cuda (default: cuda where there is one)")
    run.add_argument(
        "--data-note", help="named on the model's card as its data (default: the names of the folder and the splits)"
    )
    run.add_argument("--licence-note", help="kept with the model and on its card (default: none is recorded)")
    run.add_argument(
        "--push-to-hub", metavar="user/model", help="push the trained model with its card to the Hugging Face Hub"
    )
    _add_flags(parser, "training", TrainingConfig)
    _add_flags(parser, "decoder", DecoderConfig)
    _add_flags(parser, "encoder", EncoderConfig, prefix="encoder-")
    parser.add_argument(
        "--image-size",
        type=int,
        default=argparse.SUPPRESS,
        help=f"pixels a side (default: {Preprocessing.image_size})",
    )
    return parser


def _about(arguments: argparse.Namespace, recipe: str) -> dict[str, str]:
    splits = f"split{'s' if len(arguments.train_splits) > 1 else ''} {', '.join(arguments.train_splits)}"
    about = {"data": arguments.data_note or f"{arguments.data.resolve().name}, {splits}"}
    if arguments.licence_note:
        about["licence"] = arguments.licence_note
    return about | {"recipe": recipe}


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = _parser().parse_args(argv)
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    try:
        recipe = read_recipe(arguments.recipe)
        if arguments.push_to_hub:
            require_login(arguments.push_to_hub)
        with distributed.processes(device), on_disk(arguments.data, arguments.val_split) as data:
            train(
                data,
                arguments.output,
                arguments.encoder_weights,
                model_config=ModelConfig(
                    _settings(arguments, recipe.encoder, EncoderConfig),
                    _settings(arguments, recipe.decoder, DecoderConfig),
                    Preprocessing(getattr(arguments, "image_size", recipe.image_size)),
                ),
                config=_settings(arguments, recipe.training, TrainingConfig),
                cache=arguments.cache,
                about=_about(arguments, recipe.name),
                device=device,
                train_splits=arguments.train_splits,
                val_split=arguments.val_split,
                shards=shards_of(arguments.data, *arguments.train_splits),
                text=arguments.text,
                start=arguments.start_from,
                teachers=arguments.teachers,
                resume=arguments.resume,
            )
            if arguments.push_to_hub and distributed.rank() == 0:
                print(push(arguments.output, arguments.push_to_hub))
    except (DataError, OSError, ValueError) as error:
        print(f"train.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        goes_on = "with --resume continues" if (arguments.output / Progress.FILE).exists() else "starts anew"
        print(f"\ntrain.py: stopped; the same command {goes_on}.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
