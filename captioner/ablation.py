"""Ablations: small models that differ in one thing, trained and measured alike.

``python -m captioner.ablation --data FOLDER --encoder-weights FILE --runs runs/ablation --json FILE --figure FILE``.
Finished runs are kept and not trained again, so that the table can grow and a stopped one goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from matplotlib.figure import Figure

from captioner.data import DataError, of_split, read_karpathy
from captioner.decoder import DecoderConfig
from captioner.encoder import EncoderConfig
from captioner.entities import read_entities
from captioner.evaluation import CaptionScores, captioned
from captioner.faithfulness import Faithfulness
from captioner.features import cached_features
from captioner.generation import GenerationConfig
from captioner.grounding import Grounding
from captioner.hub import load_model
from captioner.json_files import write_json
from captioner.model import CaptionModel, ModelConfig
from captioner.photographs import Preprocessing
from captioner.predictor import Captioner
from captioner.progress import Progress
from captioner.provenance import provenance
from captioner.recipes import read_recipe
from captioner.throughput import median_seconds, random_batch
from captioner.training import imitation_loss, train
from captioner.training_config import TrainingConfig

# Small enough for an hour of two CPU cores a dozen times over; differences, not levels, are what it shows.
_SMALL = read_recipe("small")
ENCODER = EncoderConfig(**_SMALL.encoder)
DECODER = DecoderConfig(**_SMALL.decoder)
TRAINING = TrainingConfig(**_SMALL.training)


@dataclass(frozen=True)
class Row:
    """One line of the table: what differs from the whole model."""

    name: str
    decoder: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    encoder: dict[str, Any] = field(default_factory=dict)
    image_size: int = 224
    seeds: tuple[int, ...] = (0,)


_NO_TERMS = {"boxes": 0.0, "matching": 0.0}
ROWS = (
    Row("whole model", seeds=(0, 1, 2)),
    Row("without enhancement", {"feedback": False}, _NO_TERMS, seeds=(0, 1, 2)),
    Row("without boxes", training={"boxes": 0.0}),
    Row("without matching", training={"matching": 0.0}),
    Row("without feedback", {"feedback": False}),
    Row("gated attention", {"attention": "gated"}),
    Row("no hierarchy", {"attention": "none"}),
    Row("plain head", {"head": "plain", "feedback": False}, _NO_TERMS),
    # Of widths that give them as many parameters as the whole model, or up to a seventh more.
    Row("LSTM, soft attention", {"kind": "lstm", "width": 272}, _NO_TERMS, seeds=(0, 1, 2)),
    Row("Transformer", {"kind": "transformer", "width": 176}, _NO_TERMS, seeds=(0, 1, 2)),
    Row("4 x 4 regions", image_size=128),
    Row("14 x 14 regions", encoder={"levels": 2}),
    Row("14 x 14 regions, encoder tuned", training={"tuned_epochs": 2}, encoder={"levels": 2}),
    Row("14 x 14 regions of 448 pixels", image_size=448),
)


@dataclass(frozen=True)
class Setting:
    """What all rows share: data, weights and folders."""

    data: Path
    encoder_weights: str
    runs: Path  # a folder for every run
    cache: Path  # of features
    tested: int  # photographs for faithfulness


def configs(row: Row, seed: int) -> tuple[ModelConfig, TrainingConfig]:
    """The settings of one run of a row."""
    encoder, decoder = replace(ENCODER, **row.encoder), replace(DECODER, **row.decoder)
    model = ModelConfig(encoder, decoder, Preprocessing(row.image_size))
    return model, replace(TRAINING, **row.training, seed=seed)


def run(row: Row, seed: int, setting: Setting) -> Path:
    """Train one run of a row, or go on with it, unless it is done. Returns its folder, a model folder."""
    folder = setting.runs / f"{row.name.replace(' ', '-')}-{seed}"
    model_config, config = configs(row, seed)
    log = folder / "log.jsonl"
    if not log.exists() or len(log.read_text().splitlines()) < config.epochs:
        train(
            setting.data,
            folder,
            setting.encoder_weights,
            model_config=model_config,
            config=config,
            cache=setting.cache,
            about={"ablation": row.name},
            device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
            resume=(folder / Progress.FILE).exists(),
        )
    return folder


def measure(folder: Path, setting: Setting) -> dict[str, Any]:
    """Captions, grounding and faithfulness on ``val`` of the model in a folder; kept beside it."""
    kept = folder / "ablation.json"
    if kept.exists():
        return json.loads(kept.read_text())
    captioner = Captioner(load_model(folder), name=folder.name)
    model, vocabulary = captioner.model, captioner.vocabulary
    records = of_split(read_karpathy(setting.data), "val")
    features = cached_features(
        [record.path for record in records], model.encoder, model.config.preprocessing, setting.cache, label="val"
    )
    own_maps = "region_word" if model.config.decoder.additive else "attention"
    metrics = {
        "captions": CaptionScores(vocabulary),
        "grounding": Grounding(model, vocabulary, read_entities(setting.data)),
        "faithfulness": Faithfulness(
            model, vocabulary, words=2, photographs=setting.tested, orders=(own_maps, "random")
        ),
    }
    for seen in captioned(captioner, records, features, GenerationConfig()):
        for metric in metrics.values():
            metric.add(seen)
    results = {name: metric.result() for name, metric in metrics.items()}
    results["parameters"] = sum(p.numel() for p in model.decoder.parameters())
    write_json(kept, results)
    return results


def step_seconds(rows: Sequence[Row], vocabulary: int, *, rounds: int = 5) -> list[float]:
    """Median seconds of a training step of every row, the encoder's last stage with it, in turns."""
    torch.manual_seed(0)
    return median_seconds([_step(*configs(row, 0), vocabulary) for row in rows], rounds=rounds)


def _step(model_config: ModelConfig, config: TrainingConfig, vocabulary: int) -> Callable[[], None]:
    model = CaptionModel(model_config, vocabulary=vocabulary)
    progress = Progress(model, config)
    side = model_config.preprocessing.image_size // 16
    batch = random_batch((model.encoder.lower_channels, side, side), model_config.grid, config, vocabulary)

    def step() -> None:
        progress.update(
            imitation_loss(progress.model, batch, config, tunes=config.tuned_epochs > 0)[0], config.learning_rate, age=0
        )

    return step


# Where in a run's measurements the columns of the table are.
COLUMNS = {
    "CIDEr": ("captions", "CIDEr"),
    "BLEU-4": ("captions", "BLEU-4"),
    "pointing": ("grounding", "pointing", "region_word"),
    "pointing of attention": ("grounding", "pointing", "attention"),
    "correctness": ("grounding", "correctness", "region_word"),
    "overlap": ("grounding", "overlap", "region_word"),
    "deletion": ("faithfulness", "deletion"),
    "deletion_random": ("faithfulness", "deletion_random"),
    "insertion": ("faithfulness", "insertion"),
    "insertion_random": ("faithfulness", "insertion_random"),
}


def summarise(row: Row, measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One line of the table: means over the seeds, and standard deviations where there are several.

    ``layers``: where the attention of each layer points, and how wide it is, bottom to top.
    """
    line: dict[str, Any] = {"name": row.name, "changes": asdict(row), "parameters": measured[0]["parameters"]}
    for column, path in COLUMNS.items():
        values = [_at(run, path) for run in measured]
        if None not in values:  # logits that are no sum have no region-word maps
            line[column] = mean(values)
            if len(values) > 1:
                line[f"{column} ±"] = stdev(values)
    layers = [name for name in measured[0]["grounding"]["entropy"] if name.startswith("layer_")]
    line["layers"] = {
        layer: {
            score: mean(_at(run, ("grounding", score, layer)) for run in measured) for score in ("pointing", "entropy")
        }
        for layer in layers
    }
    return line


def _at(values: Any, path: Sequence[str]) -> float | None:
    for key in path:
        values = values.get(key) if values is not None else None
    return values


def figure(lines: Sequence[dict[str, Any]]) -> Figure:
    """Captions against grounding, a point a row, with bars where there are several seeds."""
    drawn = Figure(figsize=(8, 5), layout="constrained")
    axes = drawn.subplots()
    for line in lines:
        column = "pointing" if "pointing" in line else "pointing of attention"
        axes.errorbar(
            line[column], line["CIDEr"], xerr=line.get(f"{column} ±"), yerr=line.get("CIDEr ±"), fmt="o", capsize=3
        )
        axes.annotate(line["name"], (line[column], line["CIDEr"]), xytext=(6, 4), textcoords="offset points")
    axes.set_xlabel("pointing accuracy of the map, % (region-word; attention where logits are no sum)")
    axes.set_ylabel("CIDEr-D, % (val, beam 3)")
    axes.margins(x=0.3)
    return drawn


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m captioner.ablation",
        description="Train small models that differ in one thing; compare them on val.",
    )
    names = [row.name for row in ROWS]
    parser.add_argument("--data", type=Path, required=True, help="folder with dataset*.json, entities.json and images/")
    parser.add_argument("--encoder-weights", required=True, help="ImageNet weights, as for train.py")
    parser.add_argument("--runs", type=Path, default=Path("runs/ablation"), help="folder for the runs")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="folder for encoder features")
    parser.add_argument("--tested", type=int, default=12, help="photographs for faithfulness (default: %(default)s)")
    parser.add_argument(
        "--rows", nargs="+", choices=names, default=names, metavar="ROW", help=f"of: {', '.join(names)}"
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="at most N runs of a row")
    parser.add_argument("--json", type=Path, help="file to write the table to")
    parser.add_argument("--figure", type=Path, help="file to draw the table to, .png or .pdf")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv)
    started = time.monotonic()
    setting = Setting(arguments.data, arguments.encoder_weights, arguments.runs, arguments.cache, arguments.tested)
    rows = [row for row in ROWS if row.name in arguments.rows]
    lines = []
    try:
        for row in rows:
            folders = [run(row, seed, setting) for seed in row.seeds[: arguments.seeds]]
            lines.append(summarise(row, [measure(folder, setting) for folder in folders]))
            print(json.dumps(lines[-1]))
    except (DataError, OSError, ValueError) as error:
        print(f"captioner.ablation: {error}", file=sys.stderr)
        return 2
    vocabulary = len(load_model(folders[-1]).vocabulary)
    timed = {row.name: row for row in (ROWS[0], *rows)}
    seconds = dict(zip(timed, step_seconds(list(timed.values()), vocabulary)))
    for line in lines:
        line["step time"] = seconds[line["name"]] / seconds[ROWS[0].name]  # of the whole model's
    if arguments.json:
        report = {"split": "val", "beam": GenerationConfig.beam_size, "tested": arguments.tested, "rows": lines}
        report |= {"decoder": asdict(DECODER), "training": asdict(TRAINING)}
        report |= {"run": provenance(["-m", "captioner.ablation", *argv])}
        report |= {"seconds": round(time.monotonic() - started, 1)}  # without the runs that were there already
        write_json(arguments.json, report)
    if arguments.figure:
        figure(lines).savefig(arguments.figure, dpi=150)
    return 0


if __name__ == "__main__":
    sys.exit(main())
