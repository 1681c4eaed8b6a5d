"""Recipes: files of settings, each of which makes one model again. They lie in ``captioner/recipes``."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from captioner.decoder import DecoderConfig
from captioner.encoder import EncoderConfig
from captioner.photographs import Preprocessing
from captioner.training_config import TrainingConfig

FOLDER = Path(__file__).with_suffix("")
SECTIONS = {"training": TrainingConfig, "decoder": DecoderConfig, "encoder": EncoderConfig}


@dataclass(frozen=True)
class Recipe:
    """Settings of a run; of each section those fields of its config dataclass that differ from the defaults."""

    name: str
    description: str
    training: dict[str, Any] = field(default_factory=dict)
    decoder: dict[str, Any] = field(default_factory=dict)
    encoder: dict[str, Any] = field(default_factory=dict)
    image_size: int = Preprocessing.image_size


def recipe_names() -> list[str]:
    """The recipes that come with the program."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def read_recipe(recipe: str) -> Recipe:
    """Read a recipe by its name, or a YAML file by its path.

    Raises ``ValueError`` for an unknown name, section or setting, and for a value of the wrong kind.
    """
    file = FOLDER / f"{recipe}.yaml" if recipe in recipe_names() else Path(recipe)
    if not file.is_file():
        raise ValueError(f"No recipe {recipe!r}; choose one of {', '.join(recipe_names())}, or give a YAML file.")
    try:
        described = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not readable YAML: {error}") from error
    settings = _checked(described, {"description": str, "image_size": int} | dict.fromkeys(SECTIONS, dict), f"{file}")
    for section in SECTIONS.keys() & settings.keys():
        config = SECTIONS[section]
        kinds = get_type_hints(config)
        settable = {known.name: kinds[known.name] for known in fields(config)}
        settings[section] = _checked(settings[section], settable, f"{file}: {section}")
    return Recipe(file.stem, **{"description": ""} | settings)


def _checked(values: Any, kinds: dict[str, Any], where: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ValueError(f"{where} must map settings to values.")
    unknown = [str(name) for name in values if name not in kinds]
    if unknown:
        raise ValueError(f"{where} has unknown settings {', '.join(unknown)}; there are {', '.join(kinds)}.")
    return {name: _fitting(value, kinds[name], f"{where}: {name}") for name, value in values.items()}


def _fitting(value: Any, kind: Any, where: str) -> Any:
    """A value as a setting of some kind."""
    if kind is float and type(value) in (int, str):  # YAML takes 8e-4 for text
        try:
            return float(value)
        except ValueError as error:
            raise ValueError(f"{where} must be a number, not {value!r}.") from error
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{where} is one of {', '.join(map(str, get_args(kind)))}, not {value!r}.")
    elif type(value) is not kind:
        raise ValueError(f"{where} must be of type {kind.__name__}, not {value!r}.")
    return value
