"""A model for programs without PyTorch: ``python -m captioner export MODEL FOLDER`` writes it as ONNX.

Three graphs and what has to be known beside them. The first dimension of every input and output is the batch: M
photographs, each with one caption. D width, R = H x W regions, L layers, k kernel, V vocabulary.

- ``encoder.onnx``: ``photographs`` (M, 3, S, S) to all that depends on them alone: ``keys`` and ``values`` (M, R, D)
  of the region-word head, and those of every layer that attends.
- ``step.onnx``: the last ``word`` (M,), the ``state`` (M, L, k - 1, D), zeros at first, and all outputs of the encoder
  to ``logits`` (M, V), ``next_state``, ``language`` (M, D) and ``attention`` (M, H, W).
- ``explain.onnx``: any ``word`` (M,), with ``language`` and ``attention`` of its step and ``values`` of the encoder, to
  ``bias`` (M,), ``language_logit`` (M,) and ``region_logits`` (M, H, W), whose sum is the word's logit.
- ``captioner.json``: the words by id, those never said, preprocessing, grid, the state's shape, and what the model is.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from captioner.decoder import CnnDecoder, Regions
from captioner.generation import GenerationConfig
from captioner.hub import ModelError
from captioner.json_files import write_json
from captioner.likelihood import NEVER_SAID
from captioner.model import CaptionModel
from captioner.predictor import Captioner, load
from captioner.reading import read
from captioner.vocabulary import END, START

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_TOLERANCE = 1e-3  # of the largest number of its kind: more than rounding makes, less than any mistake
_CHECKED_WORDS = 6


class ExportError(ValueError):
    """A model that cannot be exported; the message says why and what to do."""


class _Graph(nn.Module):
    """What a file holds: a ``forward`` over the model."""

    def __init__(self, model: CaptionModel):
        super().__init__()
        self.model = model.eval()


class _Encoder(_Graph):
    def forward(self, photographs: torch.Tensor) -> list[torch.Tensor]:
        regions = self.model.look(photographs)
        return [regions.keys, regions.values, *(part for layer in regions.layers if layer for part in layer)]


class _Step(_Graph):
    def forward(self, word: torch.Tensor, state: torch.Tensor, seen: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        decoder, (keys, values, *layers) = self.model.decoder, seen
        pairs = zip(layers[::2], layers[1::2])
        memory = [next(pairs) if attends else None for attends in _attends(decoder)]
        decoded, after = decoder(word[:, None], Regions(memory, keys, values), list(state.unbind(1)))
        attention = decoded.alpha[:, 0].unflatten(1, decoder.grid)
        return decoded.logits[:, 0], torch.stack(after, 1), decoded.language[:, 0], attention


class _Explain(_Graph):
    """The parts of a logit, as ``captioner.reading`` makes them."""

    def forward(
        self, word: torch.Tensor, language: torch.Tensor, attention: torch.Tensor, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        head = self.model.decoder.head
        relevance = head.relevance(word[:, None], values)[:, 0].unflatten(1, self.model.decoder.grid)
        parts = head.bias[word], (language * head.embedding(word)).sum(-1), attention * relevance
        return tuple(part / head.temperature for part in parts)


def _attends(decoder: CnnDecoder) -> list[bool]:
    return [decoder.hierarchy.layer_grid(layer) is not None for layer in range(decoder.config.layers)]


def _seen(decoder: CnnDecoder) -> list[str]:
    """Names of the encoder's outputs."""
    owners = ["", *(f"layer_{layer}_" for layer, attends in enumerate(_attends(decoder)) if attends)]
    return [owner + part for owner in owners for part in ("keys", "values")]


def export(captioner: Captioner, folder: Path | str) -> float:
    """Write a model as ONNX into a folder; returns the largest difference from PyTorch, see ``difference``.

    Nothing is written where the graphs do not give the model's numbers. The captioner has to be on the CPU.

    Raises ``ExportError`` for numbers that differ and for packages that are missing.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ExportError(f"Exporting needs more packages: pip install {' '.join(missing)}.")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as partial:
        _write(captioner, Path(partial))
        found = difference(Path(partial), captioner.model)
        if not found <= _TOLERANCE:
            raise ExportError(f"ONNX and PyTorch differ by {found:.1e} of the largest number; nothing was exported.")
        for file in Path(partial).iterdir():
            os.replace(file, folder / file.name)
    return found


@torch.no_grad()
def _write(captioner: Captioner, folder: Path) -> None:
    model, preprocessing = captioner.model, captioner.model.config.preprocessing
    decoder, side = model.decoder, preprocessing.image_size
    encoder, step, names = _Encoder(model), _Step(model), _seen(decoder)
    # Two of each: a batch of one would be taken for a constant.
    photographs, word, state = (
        torch.zeros(2, 3, side, side),
        torch.tensor([START] * 2),
        torch.stack(decoder.start(2), 1),
    )
    seen = encoder(photographs)
    _, _, language, attention = step(word, state, seen)
    _write_graph(folder, "encoder", encoder, (photographs,), ["photographs"], names)
    outputs = ["logits", "next_state", "language", "attention"]
    _write_graph(folder, "step", step, (word, state, seen), ["word", "state", *names], outputs)
    given = word, language, attention, seen[names.index("values")]
    outputs = ["bias", "language_logit", "region_logits"]
    _write_graph(folder, "explain", _Explain(model), given, ["word", "language", "attention", "values"], outputs)
    words = captioner.vocabulary.words
    about = {
        "vocabulary": [""] * (len(captioner.vocabulary) - len(words)) + list(words),
        "start": START,
        "end": END,
        "never_said": NEVER_SAID,
        "max_words": GenerationConfig().max_words,
        "preprocessing": asdict(preprocessing),
        "grid": list(decoder.grid),
        "state": list(state.shape[1:]),
        "about": captioner.about,
    }
    write_json(folder / "captioner.json", about)


def _write_graph(
    folder: Path, name: str, module: nn.Module, given: tuple, inputs: Sequence[str], outputs: Sequence[str]
) -> None:
    batch = {0: torch.export.Dim("batch")}
    shapes = tuple([batch] * len(value) if isinstance(value, list) else batch for value in given)
    # Strict, since otherwise ``len`` of a tensor would make the batch's size a constant.
    program = torch.export.export(module, given, dynamic_shapes=shapes, strict=True)
    options = {"dynamo": True, "external_data": False, "verbose": False}
    torch.onnx.export(program, f=folder / f"{name}.onnx", input_names=inputs, output_names=outputs, **options)


@torch.no_grad()
def difference(folder: Path, model: CaptionModel) -> float:
    """How far the graphs in a folder are from a model on the CPU, as a share of the largest number of each kind.

    Random words about random photographs, one alone and three together, word by word in onnxruntime and in one pass
    in PyTorch: logits, their parts and attention.
    """
    import onnxruntime

    encoder, step, explain = (
        onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        for name in ("encoder", "step", "explain")
    )
    decoder, side = model.decoder, model.config.preprocessing.image_size
    random, worst = np.random.default_rng(0), 0.0
    for count in (1, 3):
        photographs = random.standard_normal((count, 3, side, side), dtype=np.float32)
        caption = random.integers(START, decoder.embedding.num_embeddings, (count, _CHECKED_WORDS))
        seen = dict(zip(_seen(decoder), encoder.run(None, {"photographs": photographs})))
        state = torch.stack(decoder.start(count), 1).numpy()
        last, steps = np.full(count, START), []
        for word in caption.T:
            logits, state, language, attention = step.run(None, {"word": last, "state": state} | seen)
            heard = {"word": word, "language": language, "attention": attention, "values": seen["values"]}
            steps.append((logits, *explain.run(None, heard), attention))
            last = word
        expected = read(decoder, torch.from_numpy(caption), model.look(torch.from_numpy(photographs)))
        kinds = expected.logits, expected.bias, expected.language, expected.region_logits, expected.attention
        for got, truth in zip(zip(*steps), kinds):
            gap = np.abs(np.stack(got, 1).reshape(truth.shape) - truth.numpy()).max()
            worst = np.maximum(worst, gap / max(float(truth.abs().max()), 1e-6))
    return float(worst)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m captioner export",
        description="Write a model as ONNX, for programs without PyTorch, and check it against PyTorch.",
    )
    parser.add_argument("model", metavar="MODEL", help="a folder, or a Hub id like user/model")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the files go; made where it is missing")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        captioner = load(arguments.model, device="cpu")
        if captioner.notice:  # another model than the one that was asked for
            raise ModelError(captioner.notice)
        found = export(captioner, arguments.folder)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(f"{arguments.folder} differs from PyTorch by at most {found:.0e} of the largest number.")
    return 0
