"""Evaluate a captioner: ``python evaluate.py --data FOLDER --split val --json FILE``.

With ``--predictions FILE``, someone else's captions are scored instead, and no model is loaded.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import captioner
from captioner.boxes import Box
from captioner.coco import INSTANCES, read_instances
from captioner.data import CaptionedPhotograph, DataError, of_split
from captioner.datasets import read_data
from captioner.entities import ENTITIES_FILE, GroundedCaption, read_entities
from captioner.evaluation import METRICS, TESTED, evaluate, evaluate_predictions
from captioner.generation import GenerationConfig
from captioner.hub import find_model
from captioner.java_metrics import JAVA_METRICS, JavaError, require, setup_spice
from captioner.json_files import output_file, write_json
from captioner.named_words import coco_grounded
from captioner.predictions import read_predictions
from captioner.provenance import provenance
from captioner.shards import on_disk

SEED = 0  # of all metrics that draw something


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Score a captioner on photographs with reference captions.")
    choices = ", ".join((*METRICS, *JAVA_METRICS))
    parser.add_argument("--data", type=Path, help="folder of photographs with captions, in any layout; required")
    parser.add_argument("--split", default="val", help="split to score (default: %(default)s)")
    parser.add_argument("--model", help="Hub id or folder (default: CAPTIONER_MODEL, else the bundled model)")
    parser.add_argument("--metrics", default="captions", help=f"comma-separated, of: {choices}")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="file to write the scores to")
    parser.add_argument("--limit", type=int, help="score only the first photographs, for a quick look")
    parser.add_argument(
        "--tested",
        type=int,
        default=TESTED,
        help="photographs for faithfulness and for maps by gradients, which take long (default: %(default)s)",
    )
    files = parser.add_argument_group("captions in files, in the COCO results format")
    predictions = files.add_mutually_exclusive_group()
    predictions.add_argument(
        "--save-predictions", type=output_file, metavar="FILE", help="file to write the captions to"
    )
    predictions.add_argument(
        "--predictions", type=Path, metavar="FILE", help="score the captions of this file; no model is loaded"
    )
    parser.add_argument(
        "--setup-spice",
        nargs="?",
        type=Path,
        default=False,
        metavar="FOLDER",
        help="only put the jars that SPICE needs where it finds them: from a folder, by default with Maven (386 MB)",
    )
    search = parser.add_argument_group("generation")
    search.add_argument("--beam", type=int, default=GenerationConfig.beam_size, help="beam size (default: %(default)s)")
    search.add_argument(
        "--length-penalty",
        type=float,
        default=GenerationConfig.length_penalty,
        help="0 favours short captions, 1 ranks by probability a word, more favours long ones (default: %(default)s)",
    )
    search.add_argument(
        "--no-repeat-trigrams", action="store_true", help="never say the same three words in a row twice"
    )
    return parser


def _phrases(
    data: Path, records: Sequence[CaptionedPhotograph], instances: dict[str, dict[str, tuple[Box, ...]]] | None
) -> dict[str, tuple[GroundedCaption, ...]] | None:
    """Captions with boxes: from phrases that people tied to them, else from COCO's objects, else None."""
    if (data / ENTITIES_FILE).exists():
        return read_entities(data)
    if instances is None:
        return None
    return {r.path.name: coco_grounded(r.tokens, instances.get(r.path.name, {})) for r in records}


def _training_captions(data: Sequence[CaptionedPhotograph]) -> list[str] | None:
    """What people wrote about the photographs to learn from, of which COCO in Karpathy's splits has two kinds."""
    return [caption for r in data if r.split.startswith(("train", "restval")) for caption in r.raw] or None


def _report(folder: Path, arguments: argparse.Namespace, command: list[str]) -> dict[str, Any]:
    """What the command line asks for, measured on the data in ``folder``."""
    generation = GenerationConfig(
        beam_size=arguments.beam,
        length_penalty=arguments.length_penalty,
        repeat_trigrams=not arguments.no_repeat_trigrams,
    )
    data = read_data(folder)
    records = of_split(data, arguments.split)[: arguments.limit]
    metrics = [name.strip() for name in arguments.metrics.split(",")]
    require(metrics)  # what is missing is told before anything is asked of it
    # Boxes are many: they are read only for what needs them.
    annotated = {"grounding", "hallucination"} & set(metrics) and any(folder.glob(INSTANCES))
    instances = read_instances(folder) if annotated else None
    settings = {"data": arguments.data.resolve().name, "split": arguments.split, "limit": arguments.limit}
    settings |= {"metrics": metrics, "seed": SEED}
    shared = {"metrics": metrics, "instances": instances, "training": _training_captions(data)}
    if arguments.predictions:
        said = read_predictions(arguments.predictions, records)
        about = settings | {"run": provenance(command, settings, metrics=metrics)}
        return {"model": arguments.predictions.name} | about | evaluate_predictions(said, records, **shared)
    loaded = captioner.load(arguments.model)
    if loaded.notice:
        # Scores under another model's name would be wrong, so there is no falling back here.
        raise captioner.ModelError(loaded.notice)
    settings |= {"beam": generation.beam_size, "generation": asdict(generation), "tested": arguments.tested}
    run = provenance(command, settings, find_model(arguments.model).folder, metrics=metrics)
    results = evaluate(
        loaded,
        records,
        generation=generation,
        phrases=_phrases(folder, records, instances) if "grounding" in metrics else None,
        tested=arguments.tested,
        save=arguments.save_predictions,
        **shared,
    )
    return {"model": loaded.name} | settings | {"run": run} | results


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.data is None and arguments.setup_spice is False:
        parser.error("--data is required.")
    if arguments.limit is not None and arguments.limit < 1:
        parser.error("--limit must be at least 1.")
    try:
        if arguments.setup_spice is not False:
            print(f"SPICE is set up in {setup_spice(arguments.setup_spice)}.")
            return 0
        with on_disk(arguments.data, arguments.split, limit=arguments.limit) as folder:
            report = _report(folder, arguments, ["evaluate.py", *argv])
    except (DataError, ValueError, JavaError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=1))
    if arguments.json:
        write_json(arguments.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
