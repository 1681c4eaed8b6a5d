"""Comparison: the convolutional decoder beside an LSTM and a Transformer, and all between floors and a ceiling.

``python -m captioner.comparison --data FOLDER --encoder-weights FILE --runs runs/ablation --json FILE``.

The decoders are rows of the ablation: same encoder, features, vocabulary and recipe, and about as many parameters. Runs
that are there are not trained again, and their captions are kept beside them. All captions, whoever or whatever said
them, are scored by the same code: against all references of a photograph, and against all but one, since a person can
only be compared with the others.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from captioner import ablation
from captioner.ablation import BASE, Row, Setting, add_flags, averaged, configs, run
from captioner.data import CaptionedPhotograph, DataError, of_split, read_karpathy
from captioner.evaluation import captioned, evaluate_predictions
from captioner.features import cached_features
from captioner.floors import NEIGHBOURS, consensus_captions, directions, most_common_caption, nearest, rounds
from captioner.generation import GenerationConfig
from captioner.hub import load_model
from captioner.java_metrics import JAVA_METRICS, JavaError
from captioner.json_files import write_json
from captioner.predictions import read_predictions, write_predictions
from captioner.predictor import Captioner
from captioner.provenance import provenance
from captioner.throughput import Contender
from captioner.throughput import measure as measure_throughput
from captioner.vocabulary import sentence

# Rows of the ablation by their names here; speed is compared with the first.
NAMES = {
    "whole model": "CNN (ours)",
    "without enhancement": "CNN without enhancement",
    "LSTM, soft attention": "LSTM, soft attention",
    "Transformer": "Transformer",
}
ROWS = tuple(row for name in NAMES for row in ablation.ROWS if row.name == name)
TESTED = 12  # photographs for faithfulness, which the ablation measures at the same time
ROUNDS = 15  # turns of each decoder when speed is measured

# Where in a run's measurements by the ablation the columns of the table are.
COLUMNS = {
    "pointing": ("grounding", "pointing", "region_word"),
    "pointing of attention": ("grounding", "pointing", "attention"),
}


def captions_of(folder: Path, records: Sequence[CaptionedPhotograph], setting: Setting) -> list[str]:
    """What the model in a folder says of the ``val`` photographs, beam 3; kept beside it in the COCO results format."""
    kept = folder / "captions.json"
    if not kept.exists():
        captioner = Captioner(load_model(folder), name=folder.name)
        encoder, preprocessing = captioner.model.encoder, captioner.model.config.preprocessing
        paths = [record.path for record in records]
        features = cached_features(paths, encoder, preprocessing, setting.cache, label="val")
        seen = captioned(captioner, records, features, GenerationConfig())
        said = [sentence(captioner.vocabulary.decode(one.caption)) for one in seen]
        write_predictions(kept, records, said)
    return read_predictions(kept, records)


def scores_of_all(
    said: Sequence[str], records: Sequence[CaptionedPhotograph], java: Collection[str] = ()
) -> dict[str, float]:
    """Scores of captions, ``said[i]`` of ``records[i]``, against all references; ``java``: of ``JAVA_METRICS``."""
    return evaluate_predictions(said, records, metrics=("captions", *java))["captions"]


def scores_of_others(
    said: Sequence[str] | None, records: Sequence[CaptionedPhotograph], java: Collection[str] = ()
) -> dict[str, float]:
    """Means over the ``rounds`` in which one person's captions are no references; None: those captions' own scores."""
    scored = [scores_of_all(left_out if said is None else said, others, java) for left_out, others in rounds(records)]
    return {name: mean(scores[name] for scores in scored) for name in scored[0]}


def decoder_line(
    row: Row, records: Sequence[CaptionedPhotograph], setting: Setting, java: Collection[str]
) -> dict[str, Any]:
    """Train, caption and measure a row of the ablation: its line, with means and standard deviations over the seeds."""
    folders = [run(row, seed, setting) for seed in row.seeds]
    measured = [ablation.measure(folder, setting) for folder in folders]
    said = [captions_of(folder, records, setting) for folder in folders]
    return {
        "name": NAMES[row.name],
        "seeds": len(row.seeds),
        "parameters": measured[0]["parameters"],
        "captions": _averaged([scores_of_all(captions, records, java) for captions in said]),
        "others": _averaged([scores_of_others(captions, records, java) for captions in said]),
    } | averaged(measured, COLUMNS)


def _averaged(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    return averaged(scores, {name: (name,) for name in scores[0]})


def captions_line(
    name: str, said: Sequence[str], records: Sequence[CaptionedPhotograph], java: Collection[str]
) -> dict[str, Any]:
    """The line of captions from elsewhere, in the order of ``records``."""
    return {
        "name": name,
        "captions": scores_of_all(said, records, java),
        "others": scores_of_others(said, records, java),
    }


def floor_captions(
    folder: Path, training: Sequence[CaptionedPhotograph], records: Sequence[CaptionedPhotograph], setting: Setting
) -> dict[str, list[str]]:
    """What each floor says of the photographs, by its name; photographs look alike to the encoder of a model folder."""
    model = load_model(folder).model
    known, asked = (
        directions(photographs, model, setting.cache, label=label)
        for photographs, label in ((training, "train"), (records, "val"))
    )
    neighbours = nearest(asked, known, NEIGHBOURS)
    captions = [record.raw for record in training]
    return {
        f"consensus of the {NEIGHBOURS} nearest photographs": consensus_captions(neighbours, captions),
        "nearest photograph's caption": consensus_captions(neighbours[:, :1], captions),
        "commonest caption": [most_common_caption(caption for own in captions for caption in own)] * len(records),
    }


def throughput_of(rows: Sequence[Row], device: torch.device) -> list[dict[str, Any]]:
    """Speed of the rows' decoders, in turns, by ``captioner.throughput``, in the ablation's setting."""
    model, training = configs(Row("base"), 0, BASE)
    contenders = [Contender(row.name, row.decoder, row.training) for row in rows]
    return measure_throughput(model, training, rounds=ROUNDS, device=device, contenders=contenders)


def compare(
    rows: Sequence[Row], setting: Setting, *, java: Collection[str] = (), predictions: Sequence[Path] = ()
) -> dict[str, Any]:
    """The table on ``val``: a line for each row, each file of ``predictions``, each floor, and for a person.

    A line has the scores against all references under ``captions``, and under ``others`` those against all but one;
    ``references`` says how many these are. Speed stands in ratios to the first row.

    Raises ``DataError`` for data or predictions that cannot be used, ``JavaError`` where a metric of ``java`` cannot
    run; both before anything is trained.
    """
    everything = read_karpathy(setting.data)
    training, records = of_split(everything, "train"), of_split(everything, "val")
    # What can fail comes first: training takes long.
    said_of = {file.stem: read_predictions(file, records) for file in predictions}
    person = {"name": "a person", "captions": {}, "others": scores_of_others(None, records, java)}
    lines = [decoder_line(row, records, setting, java) for row in rows]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for line, speed in zip(lines, throughput_of(rows, device), strict=True):
        line |= {key: speed[key] for key in ("words_per_second_ratio", "caption_ms_ratio")}
    said_of |= floor_captions(run(rows[0], rows[0].seeds[0], setting), training, records, setting)
    lines += [captions_line(name, said, records, java) for name, said in said_of.items()]
    references = mean(len(record.raw) for record in records)
    return {
        "split": "val",
        "photographs": len(records),
        "beam": GenerationConfig.beam_size,
        "references": {"captions": references, "others": references - 1},
        "scores": ["BLEU-4", *(JAVA_METRICS[name][0] for name in JAVA_METRICS if name in java), "ROUGE-L", "CIDEr"],
        "throughput": {"device": str(device), "threads": torch.get_num_threads(), "rounds": ROUNDS},
        "rows": [*lines, person],
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m captioner.comparison",
        description="Compare the convolutional decoder with an LSTM, a Transformer, floors and a person, on val.",
    )
    add_flags(parser, ROWS, runs=Path("runs/ablation"))
    parser.add_argument(
        "--java", nargs="+", choices=JAVA_METRICS, default=[], help="metrics that need Java too; they take long"
    )
    parser.add_argument(
        "--predictions",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="captions of other captioners in the COCO results format; a row has the name of its file",
    )
    parser.add_argument("--json", type=Path, required=True, help="file to write the table to")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(argv)
    started = time.monotonic()
    files = (arguments.data, arguments.encoder_weights, arguments.runs, arguments.cache)
    setting = Setting("ablation", BASE, *files, tested=TESTED)
    rows = [replace(row, seeds=row.seeds[: arguments.seeds]) for row in ROWS if row.name in arguments.rows]
    try:
        report = compare(rows, setting, java=arguments.java, predictions=arguments.predictions)
    except (DataError, JavaError, OSError, ValueError) as error:
        print(f"captioner.comparison: {error}", file=sys.stderr)
        return 2
    model, training = configs(Row("base"), 0, BASE)
    report |= {"decoder": asdict(model.decoder), "training": asdict(training)}
    report |= {"run": provenance(["-m", "captioner.comparison", *argv])}
    report |= {"seconds": round(time.monotonic() - started, 1)}  # without the runs that were there already
    write_json(arguments.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
