"""Ablations: small models that differ in one thing, trained and measured alike.

``python -m captioner.ablation --data FOLDER --encoder-weights FILE --runs runs/ablation --json FILE --figure FILE``.
Finished runs are kept and not trained again, so that the table can grow and a stopped one goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
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
from captioner.hallucination import Hallucination
from captioner.hub import load_model
from captioner.json_files import output_file, write_json
from captioner.measurement import Metric
from captioner.model import CaptionModel, ModelConfig
from captioner.photographs import Preprocessing
from captioner.predictor import Captioner
from captioner.progress import Progress
from captioner.provenance import config_hash, provenance
from captioner.readability import readable
from captioner.recipes import Recipe, read_recipe
from captioner.throughput import median_seconds, random_batch
from captioner.training import freeze_untuned, imitation_loss, train
from captioner.training_config import TrainingConfig

# Small enough for an hour of two CPU cores a dozen times over; differences, not levels, are what it shows.
BASE = read_recipe("small")


@dataclass(frozen=True)
class Row:
    """One line of a table: what differs from its first line."""

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
    """What all rows share: data, weights, folders, and the recipe that they change."""

    table: str  # the name under which runs and measurements are kept
    base: Recipe
    data: Path
    encoder_weights: str
    runs: Path  # a folder for every run
    cache: Path  # of features
    text: Path | None = None  # sentences for rows that learn them
    metrics: tuple[str, ...] = ("captions", "grounding", "faithfulness")
    tested: int = 0  # photographs for faithfulness


def configs(row: Row, seed: int, base: Recipe = BASE) -> tuple[ModelConfig, TrainingConfig]:
    """The settings of one run of a row."""
    encoder, decoder = EncoderConfig(**base.encoder | row.encoder), DecoderConfig(**base.decoder | row.decoder)
    model = ModelConfig(encoder, decoder, Preprocessing(row.image_size))
    return model, TrainingConfig(**base.training | row.training | {"seed": seed})


def folder_of(row: Row, seed: int, setting: Setting) -> Path:
    """The folder of one run of a row."""
    return setting.runs / f"{row.name.replace(' ', '-')}-{seed}"


def run(row: Row, seed: int, setting: Setting, *, start: Path | None = None, teachers: Sequence[Path] = ()) -> Path:
    """Train one run of a row, or go on with it, unless it is done. Returns its folder, a model folder.

    ``start`` and ``teachers``: the model it begins with, and those it learns from.

    Raises ``ValueError`` where the folder holds a run with other settings.
    """
    folder = folder_of(row, seed, setting)
    model_config, config = configs(row, seed, setting.base)
    log = folder / "log.jsonl"
    done = len(log.read_text().splitlines()) if log.exists() else 0
    if done == config.epochs + config.reinforced_epochs:
        _check(folder, model_config, config)
    else:
        train(
            setting.data,
            folder,
            setting.encoder_weights,
            model_config=model_config,
            config=config,
            cache=setting.cache,
            about={setting.table: row.name},
            device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
            text=setting.text,
            start=start,
            teachers=teachers,
            resume=(folder / Progress.FILE).exists(),
        )
    return folder


def _check(folder: Path, model_config: ModelConfig, config: TrainingConfig) -> None:
    """Raise ``ValueError`` where a finished run had other settings, those aside that there were none of then."""
    saved, now = load_model(folder), asdict(config)
    before = saved.about["training"]
    changed = [name for name in before if before[name] != now.get(name) and name not in Progress.MAY_CHANGE]
    if saved.model.config != model_config:
        changed.append("the model's form")
    if changed:
        raise ValueError(f"{folder} holds a run that differs in {', '.join(changed)}. Remove it, or name other --runs.")


def trained_seconds(folder: Path) -> float:
    """How long the run in a folder was trained, however often it was interrupted: what its log says."""
    return json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["seconds"]


def kept_file(folder: Path, name: str) -> Path:
    """Where what comes of a model's captions is kept beside it: another file where captions are searched otherwise."""
    return folder / f"{name}-{config_hash(asdict(GenerationConfig()))[:12]}.json"


def measure(folder: Path, setting: Setting) -> dict[str, Any]:
    """The setting's metrics on ``val`` of the model in a folder; kept beside it."""
    kept = kept_file(folder, setting.table)
    if kept.exists():
        return json.loads(kept.read_text())
    captioner = Captioner(load_model(folder), name=folder.name)
    model, vocabulary = captioner.model, captioner.vocabulary
    records = readable(of_split(read_karpathy(setting.data), "val"), setting.cache)
    features = cached_features(
        [record.path for record in records], model.encoder, model.config.preprocessing, setting.cache, label="val"
    )
    own_maps = "region_word" if model.config.decoder.additive else "attention"
    known: dict[str, Callable[[], Metric]] = {
        "captions": lambda: CaptionScores(vocabulary),
        "grounding": lambda: Grounding(model, vocabulary, read_entities(setting.data)),
        "faithfulness": lambda: Faithfulness(
            model, vocabulary, words=2, photographs=setting.tested, orders=(own_maps, "random")
        ),
        "hallucination": lambda: Hallucination(vocabulary),
    }
    metrics = {name: known[name]() for name in setting.metrics}
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
    return median_seconds([_step(*configs(row, 0, BASE), vocabulary) for row in rows], rounds=rounds)


def _step(model_config: ModelConfig, config: TrainingConfig, vocabulary: int) -> Callable[[], None]:
    model = CaptionModel(model_config, vocabulary=vocabulary)
    freeze_untuned(model, config)
    progress = Progress(model, config)
    side = model_config.preprocessing.image_size
    with torch.no_grad():
        features = model.encoder.lower(torch.zeros(1, 3, side, side)).shape[1:]
    batch = random_batch(features, model_config.grid, config, vocabulary)

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
    line |= averaged(measured, COLUMNS)
    layers = [name for name in measured[0]["grounding"]["entropy"] if name.startswith("layer_")]
    line["layers"] = {
        layer: {
            score: mean(_at(run, ("grounding", score, layer)) for run in measured) for score in ("pointing", "entropy")
        }
        for layer in layers
    }
    return line


def averaged(measured: Sequence[dict[str, Any]], columns: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Of each column the mean over the seeds, and under its name with ± the standard deviation if there are several.

    ``columns``: where in the measurements of a run they are. One that a run does not have is left out.
    """
    line = {}
    for column, path in columns.items():
        values = [_at(run, path) for run in measured]
        if None not in values:  # logits that are no sum have no region-word maps
            line[column] = mean(values)
            if len(values) > 1:
                line[f"{column} ±"] = stdev(values)
    return line


def _at(values: Any, path: Sequence[str]) -> float | None:
    for key in path:
        values = values.get(key) if values is not None else None
    return values


def about(
    rows: Sequence[Row],
    setting: Setting,
    command: Sequence[str],
    *,
    java: Collection[str] = (),
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What the report of a table says beside its figures, once the runs of all rows are there.

    ``settings`` decide about the figures, ``more`` among them; ``run`` is the ``provenance`` of ``command``. Training
    may have taken place in earlier calls: ``training_seconds`` are those of all runs, whenever that was.
    """
    model, training = configs(Row("base"), 0, setting.base)
    settings = {"data": setting.data.resolve().name, "model": asdict(model), "training": asdict(training)}
    settings |= {"rows": [asdict(row) for row in rows], "tested": setting.tested, **(more or {})}
    return {
        "split": "val",
        "beam": GenerationConfig.beam_size,
        "seeds": sorted({seed for row in rows for seed in row.seeds}),
        "settings": settings,
        "run": provenance(command, settings, metrics=java),
        "training_seconds": round(sum(row_seconds(row, setting) for row in rows), 1),
    }


def row_seconds(row: Row, setting: Setting) -> float:
    """How long all runs of a row were trained."""
    return sum(trained_seconds(folder_of(row, seed, setting)) for seed in row.seeds)


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
    add_flags(parser, ROWS, runs=Path("runs/ablation"))
    parser.add_argument("--tested", type=int, default=12, help="photographs for faithfulness (default: %(default)s)")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="file to write the table to")
    parser.add_argument("--figure", type=output_file, metavar="FILE", help="file to draw the table to, .png or .pdf")
    return parser


def add_flags(parser: argparse.ArgumentParser, rows: Sequence[Row], *, runs: Path) -> None:
    """What every command asks for that trains rows of a table; ``runs``: the folder for them where none is given."""
    names = [row.name for row in rows]
    parser.add_argument("--data", type=Path, required=True, help="folder with dataset*.json, entities.json and images/")
    parser.add_argument("--encoder-weights", required=True, help="ImageNet weights, as for train.py")
    parser.add_argument("--runs", type=Path, default=runs, help="folder for the runs (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"), help="folder for encoder features")
    parser.add_argument(
        "--rows", nargs="+", choices=names, default=names, metavar="ROW", help=f"of: {', '.join(names)}"
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="at most N runs of a row")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv)
    started = time.monotonic()
    files = (arguments.data, arguments.encoder_weights, arguments.runs, arguments.cache)
    setting = Setting("ablation", BASE, *files, tested=arguments.tested)
    rows = [replace(row, seeds=row.seeds[: arguments.seeds]) for row in ROWS if row.name in arguments.rows]
    lines = []
    try:
        for row in rows:
            folders = [run(row, seed, setting) for seed in row.seeds]
            line = summarise(row, [measure(folder, setting) for folder in folders])
            lines.append(line | {"training_seconds": round(row_seconds(row, setting), 1)})
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
        report = about(rows, setting, ["-m", "captioner.ablation", *argv])
        report |= {"seconds": round(time.monotonic() - started, 1)}  # without the runs that were there already
        write_json(arguments.json, report | {"tested": arguments.tested, "rows": lines})
    if arguments.figure:
        figure(lines).savefig(arguments.figure, dpi=150)
    return 0


if __name__ == "__main__":
    sys.exit(main())
