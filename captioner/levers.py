"""Levers: what each single change to one recipe gives, all trained and measured alike.

``python -m captioner.levers --data FOLDER --encoder-weights FILE --text FILE --json assets/results/levers.json``.
The table is written after every row, and a row that stands in it with the same settings is not made again, so that it
can be stopped at any time and needs the folders of finished runs no more.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from captioner.ablation import Row, Setting, add_flags, averaged, configs, measure, run, trained_seconds
from captioner.data import DataError
from captioner.generation import GenerationConfig
from captioner.hub import replace_file
from captioner.json_files import output_file, write_json
from captioner.provenance import provenance
from captioner.recipes import read_recipe

BASE = read_recipe("levers")
SHARPER = {"reinforced_temperature": 0.5, "reinforced_rate": 2e-4}
ROWS = (
    Row("base", seeds=(0, 1, 2)),
    Row("no mirror images", training={"flip": False}),
    Row("more dropout", {"dropout": 0.5, "feature_dropout": 0.4}),
    Row("less dropout", {"dropout": 0.15}),
    Row("stochastic depth", {"layer_dropout": 0.2}),
    Row("no weight averaging", training={"averaging": 0.0}),
    Row("no label smoothing", training={"label_smoothing": 0.0}),
    Row("little dropout, no label smoothing", {"dropout": 0.05}, {"label_smoothing": 0.0}),
    Row("text first", training={"language_epochs": 1}),
    Row("two cropped views", training={"crops": 2}),
    Row("14 x 14 regions", encoder={"levels": 2}),
    Row("encoder tuned", training={"tuned_epochs": 3}),
    Row("two self-critical epochs more", training={"reinforced_epochs": 2}),
    Row("two sharper self-critical epochs more", training={"epochs": 0, "reinforced_epochs": 2} | SHARPER),
    # In float32 a core would encode for an hour and a half.
    Row("14 x 14 regions of 448 pixels, bfloat16", training={"cpu_bfloat16": True}, image_size=448),
    Row("distilled from two bases", training={"distillation": 0.5}),
)
# The bases that teach, of seeds that no other row has.
TEACHERS = (1, 2)

# Where in a run's measurements the columns of the table are.
COLUMNS = {
    "CIDEr": ("captions", "CIDEr"),
    "BLEU-4": ("captions", "BLEU-4"),
    "pointing": ("grounding", "pointing", "region_word"),
    "correctness": ("grounding", "correctness", "region_word"),
    "different words": ("captions", "vocabulary"),
    "CHAIR-s": ("hallucination", "CHAIR-s"),
}


def settings(row: Row, setting: Setting) -> dict[str, Any]:
    """All that decides about a row's figures, in plain values."""
    model, training = configs(row, row.seeds[0], BASE)
    described = {"model": asdict(model), "training": asdict(training), "seeds": row.seeds}
    described["teachers"] = TEACHERS if training.distillation else ()
    described["generation"] = asdict(GenerationConfig())
    described["data"] = setting.data.resolve().name
    described["text"] = setting.text.name if training.language_epochs else None
    if _goes_on(row):
        described["start"] = ROWS[0].name
    return json.loads(json.dumps(described))


def _goes_on(row: Row) -> bool:
    """Whether a row has no epochs of its own before the self-critical ones: it goes on from the finished base."""
    return row.training.get("epochs") == 0


def line_of(row: Row, setting: Setting) -> dict[str, Any]:
    """Train and measure a row: its line of the table.

    ``minutes``: of training one of its models, validation with it, pauses and the encoding of photographs without; a
    model's teachers, and the model that it goes on from, are part of its cost.
    """
    teachers = [run(ROWS[0], seed, setting) for seed in TEACHERS] if row.training.get("distillation") else []
    starts = [run(ROWS[0], seed, setting) if _goes_on(row) else None for seed in row.seeds]
    folders = [run(row, seed, setting, start=start, teachers=teachers) for seed, start in zip(row.seeds, starts)]
    line = {"name": row.name, "recipe": BASE.name, "seeds": len(row.seeds)}
    line |= averaged([measure(folder, setting) for folder in folders], COLUMNS)
    own = sum(map(trained_seconds, [*folders, *filter(None, starts)])) / len(folders)
    line["minutes"] = (own + sum(map(trained_seconds, teachers))) / 60
    return line | {"settings": settings(row, setting)}


def _made_with(settings: dict[str, Any], line: dict[str, Any]) -> bool:
    """Whether a line has these settings. Training's that it does not know came later, and change nothing of it."""
    known = line.get("settings")
    return known is not None and known | {"training": settings["training"] | known["training"]} == settings


def _in_order(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Lines in the order of ``ROWS``, then those of other origin."""
    places = {(row.name, BASE.name): place for place, row in enumerate(ROWS)}
    return sorted(lines, key=lambda line: places.get((line["name"], line["recipe"]), len(places)))


def _report(lines: Sequence[dict[str, Any]], command: Sequence[str], seconds: float) -> dict[str, Any]:
    """The table with what it says of itself: the last call to it, which took ``seconds``; rows have their own."""
    settings = {f"{line['name']}, {line['recipe']}": line.get("settings") for line in lines}
    seeds = {seed for own in settings.values() if own for seed in own["seeds"]}
    return {
        "split": "val",
        "beam": GenerationConfig.beam_size,
        "seeds": sorted(seeds),
        "run": provenance(command, settings),
        "seconds": round(seconds, 1),
        "rows": list(lines),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m captioner.levers", description="Make single changes to one recipe; compare the models on val."
    )
    add_flags(parser, ROWS, runs=Path("runs/levers"))
    parser.add_argument("--text", type=Path, required=True, help="sentences for the row that learns them first")
    parser.add_argument(
        "--json", type=output_file, required=True, metavar="FILE", help="file of the table, continued where it is there"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv)
    started, command = time.monotonic(), ["-m", "captioner.levers", *argv]
    files = (arguments.data, arguments.encoder_weights, arguments.runs, arguments.cache, arguments.text)
    setting = Setting("levers", BASE, *files, metrics=("captions", "grounding", "hallucination"))
    rows = [replace(row, seeds=row.seeds[: arguments.seeds]) for row in ROWS if row.name in arguments.rows]
    try:
        lines = json.loads(arguments.json.read_text())["rows"] if arguments.json.exists() else []
        for row in rows:
            if any(_made_with(settings(row, setting), line) for line in lines):
                continue
            line = line_of(row, setting)
            line |= {"run": provenance(command, line["settings"])}
            print(json.dumps(line))
            others = [other for other in lines if (other["name"], other["recipe"]) != (row.name, BASE.name)]
            lines = _in_order([*others, line])
            report = _report(lines, command, time.monotonic() - started)
            replace_file(arguments.json, lambda path, report=report: write_json(path, report))
    except (DataError, OSError, ValueError) as error:
        print(f"captioner.levers: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
