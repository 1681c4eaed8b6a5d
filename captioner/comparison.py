"""Comparison: the convolutional decoder beside an LSTM and a Transformer, and all between floors and a ceiling.

``python -m captioner.comparison --data FOLDER --encoder-weights FILE --runs runs/ablation --json FILE``.

The decoders are rows of the ablation: same encoder, features, vocabulary and recipe, and about as many parameters. Runs
that are there are not trained again, and their captions are kept beside them. All captions, whoever or whatever said
them, are scored by the same code: against all references of a photograph, and against all but one, since a person can
only be compared with the others. Models of other origin have rows of their own, with ``--models``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from captioner import ablation
from captioner.ablation import BASE, Row, Setting, about, add_flags, averaged, configs, kept_file, row_seconds, run
from captioner.data import CaptionedPhotograph, DataError, of_split, read_karpathy
from captioner.entities import read_entities
from captioner.evaluation import captioned, evaluate_predictions
from captioner.features import cached_features
from captioner.floors import NEIGHBOURS, consensus_captions, directions, most_common_caption, nearest, rounds
from captioner.generation import GenerationConfig
from captioner.grounding import Grounding
from captioner.hub import BUNDLED, load_model
from captioner.java_metrics import JAVA_METRICS, JavaError, require
from captioner.json_files import output_file, write_json
from captioner.measurement import Seen
from captioner.predictions import read_predictions, write_predictions
from captioner.predictor import Captioner
from captioner.provenance import model_hashes
from captioner.readability import readable
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
    "correctness": ("grounding", "correctness", "region_word"),
    "correctness of attention": ("grounding", "correctness", "attention"),
}
_SPEED = ("words_per_second", "words_per_second_ratio", "caption_ms", "caption_ms_ratio")


@dataclass(frozen=True)
class Judge:
    """Who scores all captions alike: by which photographs, which Java metrics, and against which training captions."""

    records: Sequence[CaptionedPhotograph]
    training: Sequence[str]  # a caption that says one of them is not novel
    java: Collection[str] = ()  # of ``JAVA_METRICS``

    def by_all(self, said: Sequence[str]) -> dict[str, float]:
        """Scores of captions, ``said[i]`` of photograph i, against all references."""
        return self._scores(said, self.records, self.training)

    def by_others(self, said: Sequence[str]) -> dict[str, float]:
        """Mean scores over the ``rounds`` in which one person's captions are no references."""
        return _means([self._scores(said, others) for _, others in rounds(self.records)])

    def person(self) -> dict[str, float]:
        """Mean scores over the ``rounds`` of the captions that are left out as references."""
        return _means([self._scores(own, others, self.training) for own, others in rounds(self.records)])

    def _scores(
        self, said: Sequence[str], records: Sequence[CaptionedPhotograph], training: Sequence[str] | None = None
    ) -> dict[str, float]:
        return evaluate_predictions(said, records, metrics=("captions", *self.java), training=training)["captions"]


def _means(scored: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: mean(scores[name] for scores in scored) for name in scored[0]}


def captions_of(folder: Path, records: Sequence[CaptionedPhotograph], setting: Setting) -> list[str]:
    """What the model in a folder says of the ``val`` photographs, beam 3; kept beside it in the COCO results format."""
    kept = kept_file(folder, "captions")
    if not kept.exists():
        captioner = Captioner(load_model(folder), name=folder.name)
        said = [_text(captioner, seen) for seen in _captioned(captioner, records, setting)]
        write_predictions(kept, records, said)
    return read_predictions(kept, records)


def _captioned(captioner: Captioner, records: Sequence[CaptionedPhotograph], setting: Setting) -> Iterator[Seen]:
    """The ``val`` photographs with their captions, beam 3, from cached features."""
    encoder, preprocessing = captioner.model.encoder, captioner.model.config.preprocessing
    paths = [record.path for record in records]
    features = cached_features(paths, encoder, preprocessing, setting.cache, label="val")
    return captioned(captioner, records, features, GenerationConfig())


def _text(captioner: Captioner, seen: Seen) -> str:
    return sentence(captioner.vocabulary.decode(seen.caption))


def decoder_line(row: Row, setting: Setting, judge: Judge) -> dict[str, Any]:
    """Train, caption and measure a row of the ablation: its line, with means and standard deviations over the seeds."""
    folders = [run(row, seed, setting) for seed in row.seeds]
    measured = [ablation.measure(folder, setting) for folder in folders]
    said = [captions_of(folder, judge.records, setting) for folder in folders]
    return {
        "name": NAMES[row.name],
        "seeds": len(row.seeds),
        "parameters": measured[0]["parameters"],
        "training_seconds": round(row_seconds(row, setting), 1),
        "captions": _averaged(list(map(judge.by_all, said))),
        "others": _averaged(list(map(judge.by_others, said))),
    } | averaged(measured, COLUMNS)


def _averaged(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    return averaged(scores, {name: (name,) for name in scores[0]})


def model_line(folder: Path, setting: Setting, judge: Judge) -> dict[str, Any]:
    """Caption and measure the model in a folder, beam 3: its line. Nothing is written into the folder."""
    name = "bundled model" if folder.resolve() == BUNDLED else folder.resolve().name
    captioner = Captioner(load_model(folder), name=name)
    grounding, said = Grounding(captioner.model, captioner.vocabulary, read_entities(setting.data)), []
    for seen in _captioned(captioner, judge.records, setting):
        grounding.add(seen)
        said.append(_text(captioner, seen))
    parameters = sum(p.numel() for p in captioner.model.decoder.parameters())
    line = captions_line(name, said, judge) | {"parameters": parameters, "model": model_hashes(folder)}
    return line | averaged([{"grounding": grounding.result()}], COLUMNS)


def captions_line(name: str, said: Sequence[str], judge: Judge) -> dict[str, Any]:
    """The line of captions from elsewhere, ``said[i]`` of the judge's photograph i."""
    return {"name": name, "captions": judge.by_all(said), "others": judge.by_others(said)}


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
    rows: Sequence[Row],
    setting: Setting,
    *,
    java: Collection[str] = (),
    models: Sequence[Path] = (),
    predictions: Sequence[Path] = (),
) -> dict[str, Any]:
    """The table on ``val``: a line for each row, each model folder, each file of ``predictions``, each floor, a person.

    A line has the scores against all references under ``captions``, and under ``others`` those against all but one;
    ``references`` says how many these are. Speed is that of the rows, and stands in ratios to the first of them too.

    Raises ``DataError`` for data or predictions that cannot be used, ``ModelError`` for a folder without a model,
    ``JavaError`` where a metric of ``java`` cannot run; all before anything is trained.
    """
    everything = read_karpathy(setting.data)
    training, records = (readable(of_split(everything, split), setting.cache) for split in ("train", "val"))
    judge = Judge(records, [caption for record in training for caption in record.raw], java)
    # What can fail comes first: training takes long.
    said_of = {file.stem: read_predictions(file, records) for file in predictions}
    require(java)
    extra = [model_line(folder, setting, judge) for folder in models]
    person = {"name": "a person", "captions": {}, "others": judge.person()}
    lines = [decoder_line(row, setting, judge) for row in rows]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for line, speed in zip(lines, throughput_of(rows, device), strict=True):
        line |= {key: speed[key] for key in _SPEED}
    said_of |= floor_captions(run(rows[0], rows[0].seeds[0], setting), training, records, setting)
    lines += extra + [captions_line(name, said, judge) for name, said in said_of.items()]
    references = mean(len(record.raw) for record in records)
    return {
        "photographs": len(records),
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
        "--models", nargs="+", type=Path, default=[], metavar="FOLDER", help="folders of other models; each has a row"
    )
    parser.add_argument(
        "--predictions",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="captions of other captioners in the COCO results format; a row has the name of its file",
    )
    parser.add_argument("--json", type=output_file, required=True, metavar="FILE", help="file to write the table to")
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
        report = compare(rows, setting, java=arguments.java, models=arguments.models, predictions=arguments.predictions)
    except (DataError, JavaError, OSError, ValueError) as error:
        print(f"captioner.comparison: {error}", file=sys.stderr)
        return 2
    others = {name: [str(path) for path in getattr(arguments, name)] for name in ("models", "predictions")}
    more = others | {"java": arguments.java, "rounds": ROUNDS}
    own = about(rows, setting, ["-m", "captioner.comparison", *argv], java=arguments.java, more=more)
    report = own | report
    report |= {"seconds": round(time.monotonic() - started, 1)}  # without the runs that were there already
    write_json(arguments.json, report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
