"""Models on disk and on the Hub: ``config.json`` beside ``model.safetensors``, never pickle."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from captioner.decoder import DecoderConfig
from captioner.encoder import EncoderConfig
from captioner.familiarity import Familiarity
from captioner.fetching import HubFailure, HubNotAsked, NotOnHub, fetch, fetched_earlier
from captioner.model import CaptionModel, ModelConfig
from captioner.photographs import Preprocessing
from captioner.vocabulary import Vocabulary

FORMAT_VERSION = 3
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
MODEL_FILES = (WEIGHTS_FILE, CONFIG_FILE)  # the settings come last: a copy of the Hub's that has them has everything
LIBRARY = "captioner"  # what the Hub knows this program by
BUNDLED = Path(__file__).resolve().parents[1] / "assets" / "model"


class ModelError(ValueError):
    """A model that cannot be loaded; the message says what is wrong with which file."""


@dataclass(frozen=True)
class SavedModel:
    """A network with all that belongs to it."""

    model: CaptionModel
    vocabulary: Vocabulary
    about: dict[str, Any] = field(default_factory=dict)  # training data, licence, recipe, scores
    familiarity: Familiarity | None = None  # None: nobody has looked what is usual for it


def save_model(folder: Path | str, saved: SavedModel) -> None:
    """Write ``config.json`` and ``model.safetensors`` (matrices in float16), each file whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    config = saved.model.config
    described = {
        "format_version": FORMAT_VERSION,
        "encoder": asdict(config.encoder),
        "decoder": asdict(config.decoder),
        "preprocessing": asdict(config.preprocessing),
        "grid": list(config.grid),
        "about": saved.about,
        "vocabulary": list(saved.vocabulary.words),
    }
    tensors = saved.model.state_dict()
    if saved.familiarity:
        tensors |= {_FAMILIARITY + name: tensor for name, tensor in vars(saved.familiarity).items()}
    weights = {
        name: (tensor.half() if tensor.is_floating_point() and tensor.ndim > 1 else tensor).contiguous()
        for name, tensor in tensors.items()
        if name != _TIED
    }
    replace_file(folder / WEIGHTS_FILE, lambda path: save_file(weights, path, metadata={"format": "pt"}))
    replace_file(folder / CONFIG_FILE, lambda path: path.write_text(json.dumps(described, indent=1) + "\n"))


# The head's embedding is the decoder's: one tensor, stored once.
_TIED = "decoder.head.embedding.weight"
_FAMILIARITY = "familiarity."  # what the names of its tensors begin with


def load_model(folder: Path | str) -> SavedModel:
    """Read what ``save_model`` wrote, in float32 on the CPU, ready to be asked (``eval``).

    Raises ``ModelError`` for a missing or broken file, another format version, unknown settings
    or tensors that do not fit the settings.
    """
    folder = Path(folder)
    try:
        described = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{folder} holds no {CONFIG_FILE}; it is no model folder.") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / CONFIG_FILE} is not readable JSON: {error}.") from error
    config, vocabulary = _read_config(described, folder / CONFIG_FILE)
    try:
        model = CaptionModel(config, vocabulary=len(vocabulary))
    except (TypeError, ValueError, RuntimeError) as error:  # settings of the right name and a wrong value
        raise ModelError(f"{folder / CONFIG_FILE}: {error}") from error
    try:
        weights = load_file(folder / WEIGHTS_FILE)
    except FileNotFoundError as error:
        raise ModelError(f"{folder} holds no {WEIGHTS_FILE}.") from error
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder / WEIGHTS_FILE} is damaged: {error}. Fetch or save it again.") from error
    expected = {name: tensor.shape for name, tensor in model.state_dict().items() if name != _TIED}
    familiarity = {name for name in weights if name.startswith(_FAMILIARITY)}
    if familiarity:
        channels = model.encoder.channels
        numbers = weights[f"{_FAMILIARITY}components"].numel() if f"{_FAMILIARITY}components" in weights else 0
        shapes = Familiarity.shapes(channels, numbers // channels)
        expected |= {_FAMILIARITY + name: shape for name, shape in shapes.items()}
    wrong = sorted(expected.keys() ^ weights.keys())
    wrong += sorted(name for name in weights.keys() & expected.keys() if weights[name].shape != expected[name])
    if wrong:
        raise ModelError(
            f"{folder / WEIGHTS_FILE} does not fit its {CONFIG_FILE}: "
            f"{len(wrong)} tensors are missing, unknown or of another shape, first {wrong[0]}."
        )
    parts = {name.removeprefix(_FAMILIARITY): weights.pop(name).float() for name in familiarity}
    model.load_state_dict(weights, strict=False)
    return SavedModel(model.eval(), vocabulary, described.get("about", {}), Familiarity(**parts) if parts else None)


def load_explainable(folder: Path | str, name: str) -> SavedModel:
    """``load_model``, refused with a ``ModelError`` where nothing in the model called ``name`` explains its words."""
    saved = load_model(folder)
    if not saved.model.config.decoder.additive:
        raise ModelError(
            f"{name} was made for comparisons: its logits are no sum over regions, so nothing explains it."
        )
    return saved


def _read_config(described: Any, file: Path) -> tuple[ModelConfig, Vocabulary]:
    if not isinstance(described, dict):
        raise ModelError(f"{file} must be a JSON object.")
    version = described.get("format_version")
    if version != FORMAT_VERSION:
        raise ModelError(f"{file} has format version {version!r}; this program reads {FORMAT_VERSION}.")
    try:
        preprocessing = {key: tuple(v) if isinstance(v, list) else v for key, v in described["preprocessing"].items()}
        config = ModelConfig(
            encoder=_strict(EncoderConfig, described["encoder"]),
            decoder=_strict(DecoderConfig, described["decoder"]),
            preprocessing=_strict(Preprocessing, preprocessing),
        )
        return config, Vocabulary(described["vocabulary"])
    except KeyError as error:
        raise ModelError(f"{file} lacks {error.args[0]!r}.") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"{file}: {error}") from error


def _strict(kind: type, values: dict[str, Any]) -> Any:
    """A config dataclass from a dict; unknown keys are refused, since they would change what the weights mean."""
    unknown = sorted(values.keys() - {known.name for known in fields(kind)})
    if unknown:
        raise ValueError(f"unknown settings {', '.join(unknown)} for {kind.__name__}")
    return kind(**values)


@dataclass(frozen=True)
class FoundModel:
    """Where a model lies on this machine."""

    folder: Path
    name: str
    notice: str | None = None


def find_model(model: str | os.PathLike | None = None) -> FoundModel:
    """Turn a Hub id, a folder or None (``CAPTIONER_MODEL``, else the bundled model) into a folder.

    A Hub id is ``user/model``, or ``user/model@revision`` with a branch, a tag or a commit. Where the Hub fails, or
    sends too little (``captioner.fetching``), the copy fetched earlier is taken, else the bundled model, with a notice
    either way; none where what is here is the very commit that was asked for. Raises ``ModelError`` where there is no
    such model, or it is not for this person.
    """
    model = model or os.environ.get("CAPTIONER_MODEL") or BUNDLED
    if Path(model).is_dir():
        name = "bundled model" if Path(model) == BUNDLED else str(model)
        return FoundModel(Path(model), name)
    repo, revision = split_hub_id(str(model))
    return _from_hub(str(model), repo, revision)


def split_hub_id(name: str) -> tuple[str, str | None]:
    """``user/name`` or ``user/name@revision`` in its parts. Raises ``ModelError`` for anything else."""
    repo, at, revision = name.partition("@")
    if not is_hub_id(repo):
        raise ModelError(f"There is no folder {name}, and it is no Hub id like user/name.")
    if at and not revision:
        raise ModelError(f"{name} names no revision: leave the @ out, or write user/name@revision.")
    return repo, revision or None


def is_hub_id(name: str) -> bool:
    """Whether something is called as the Hub calls what belongs to a person or an organisation: ``user/name``."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return "/" in name


def folder_from_hub(repo: str, revision: str | None = None, **options: Any) -> tuple[Path, HubFailure | None]:
    """The folder of a model of the Hub, and why it is the copy fetched earlier, None for one that is up to date.

    ``options`` are those of ``captioner.fetching.fetch``. Raises ``ModelError`` where there is no such model, or it is
    not for this person, and ``HubFailure`` where the Hub fails and there is no copy.
    """
    try:
        return fetch(repo, revision, MODEL_FILES, **options), None
    except NotOnHub as error:
        raise ModelError(str(error)) from error
    except HubFailure as failure:
        folder = fetched_earlier(repo, revision, MODEL_FILES, cache_dir=options.get("cache_dir"))
        if folder is None:
            raise
        return folder, None if folder.name == revision else failure  # a commit never changes


def _from_hub(name: str, repo: str, revision: str | None) -> FoundModel:
    try:
        folder, failure = folder_from_hub(repo, revision)
    except HubFailure as error:
        return FoundModel(
            BUNDLED, "bundled model", f"{name} could not be fetched from the Hub ({error}). The bundled model is used."
        )
    if isinstance(failure, HubNotAsked):
        notice = f"{name} is the copy fetched earlier; a newer one is not looked for ({failure})."
    else:
        notice = failure and f"The Hub cannot be used ({failure}); {name} is the copy fetched earlier."
    return FoundModel(folder, name, notice)


def replace_file(path: Path, write) -> None:
    """Let ``write`` fill a file beside ``path``, then put it in its place in one step."""
    partial = path.with_name(path.name + ".partial")
    write(partial)
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(partial, 0o666 & ~umask)  # safetensors writes for the owner alone; a server may run as someone else
    os.replace(partial, path)
